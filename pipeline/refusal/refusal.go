// Package refusal lists every reason for which radnode does not measure what it received.
//
// [Reasons] is the list: a code that programs sort by and that never changes its meaning, a sentence, and a remedy. A
// [Refusal] is one case of a reason, with the data element that shows it. The codes are stored with the study, printed by
// radnode extract, and written into the report "not computed".
package refusal

import "fmt"

// A Code names a reason: an area and a word, as "geometry.gap".
type Code string

// A Reason is a line of the list.
type Reason struct {
	Code     Code
	Sentence string // what it means
	Remedy   string // what a person can do about it
}

// A Refusal says why something is not measured. It is found with errors.As.
type Refusal struct {
	Code        Code
	Text        string // what is wrong here, with the data element
	Remedy      string // where there is a better one than the list has; see [Refusal.Advice]
	SOPInstance string // the object that shows it, "" where it is the series or the region as a whole
}

// New makes a refusal with the remedy of the list.
func New(code Code, instance, format string, args ...any) *Refusal {
	return &Refusal{Code: code, SOPInstance: instance, Text: fmt.Sprintf(format, args...)}
}

// Error returns the text with the object, the remedy and the code.
func (r *Refusal) Error() string {
	s := r.Text
	if r.SOPInstance != "" {
		s = fmt.Sprintf("image %s: %s", r.SOPInstance, s)
	}
	if advice := r.Advice(); advice != "" {
		s += "; " + advice
	}
	return fmt.Sprintf("%s [%s]", s, r.Code)
}

// Advice is what to do about it.
func (r *Refusal) Advice() string {
	if r.Remedy != "" {
		return r.Remedy
	}
	reason, _ := Lookup(r.Code)
	return reason.Remedy
}

// Lookup finds a reason by its code.
func Lookup(c Code) (Reason, bool) {
	for _, r := range Reasons {
		if r.Code == c {
			return r, true
		}
	}
	return Reason{}, false
}
