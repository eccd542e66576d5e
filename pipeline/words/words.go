// Package words says the texts of a report in another language than English: notes, reasons, refusals and the lines around
// the values. Coded concepts are none of its business: their meanings are those of the standard, and DICOM attributes keep
// their English names beside their tags.
//
// The rest of radnode speaks English, in formats of package fmt. A language is a table from these formats to its own
// (italian.go). [Language.Sprintf] fills the format of the language in; [Language.Text] does the same with a text that is
// finished already: it finds the format that the text was made by, takes the parts out and fills them in anew. A text that
// no format makes stays English.
//
// # To add a text
//
// Write it in English where it belongs, as one format. TestEveryTextIsSaid then names it; add it to the table of each
// language. A verb of the table says what its part is, and so what may stand there and what becomes of it:
//
//	%d  an integer
//	%n  a number, or numbers in brackets: with the decimal sign of the language
//	%m  the same, with a unit or not
//	%w  one word, as it is: a UID, a unit, a code
//	%q  a quoted value, as it is
//	%a  a tag, as it is: (0028,0030)
//	%l  names of attributes with their tags: the and between them is said
//	%s  anything, as it is: names, values, lists of them
//	%t  a text of radnode, said in the language; or anything else, as it is
//
// Use the narrowest, since it keeps formats from taking each other's texts. The parts are in the order of the English
// format; %[2]d is the second. A format with hardly a word of its own ("%s, by %s") holds only for texts whose %t are known; one
// without %t ("sex %s") only within another text.
//
// # To add a language
//
// Write its table beside italian.go and name it in the constants, in [Parse] and in dictionaries. Numbers get a comma for
// the decimal point and a point for the comma of thousands, as in most of Europe; a language with another sign needs a
// decimal of its own. Let the tests go through both tables.
//
// Package golang.org/x/text/message does not serve here. It cannot find the format of a finished text; it puts separators
// into every integer, so that "ROI %d" of ROI 12345 reads 12.345; and it writes 1.2e-06 as 1,2×10⁻⁰⁶, where reports have the
// form that the other outputs of radnode have.
package words

import (
	"fmt"
	"strings"

	"github.com/radnode/radnode/pipeline/refusal"
)

// A Language is what reports are written in: a code of RFC 5646, as in PS3.16 CID 5000. "" is English.
type Language string

// The languages.
const (
	English Language = "en"
	Italian Language = "it"
)

// Parse reads a language; "" is English.
func Parse(s string) (Language, error) {
	switch l := Language(s); l {
	case "":
		return English, nil
	case English, Italian:
		return l, nil
	}
	return "", fmt.Errorf("%q is no language of reports, want en or it", s)
}

// Text says a text that a part of radnode made in English. What is not known stays as it is.
func (l Language) Text(english string) string {
	d := l.dictionary()
	if d == nil {
		return english
	}
	said, _ := d.reader(english).text(english, 0)
	return said
}

// Sprintf is [fmt.Sprintf] in l, by the English format.
func (l Language) Sprintf(format string, args ...any) string {
	d := l.dictionary()
	if d == nil {
		return fmt.Sprintf(format, args...)
	}
	p := d.formats[format]
	if p == nil || len(args) != len(p.verbs) {
		return l.Text(fmt.Sprintf(format, args...))
	}
	parts := make([]string, len(args))
	for i, a := range args {
		parts[i] = fmt.Sprintf(p.verbs[i], a)
	}
	said, _ := p.fill(parts, d.whole["and"], func(part string) (string, bool) { return d.reader(part).part(part, 0) })
	return said
}

// Refusal says a refusal in full: the sentence of its reason, what is wrong here, what to do about it, and the code.
func (l Language) Refusal(r *refusal.Refusal) string {
	s := strings.TrimSuffix(l.Detail(r), ".") + "."
	if reason, ok := refusal.Lookup(r.Code); ok {
		s = l.Text(reason.Sentence) + " " + s
	}
	return s
}

// Detail says a refusal as its Error does, without the sentence of its reason.
func (l Language) Detail(r *refusal.Refusal) string {
	said := *r
	said.Text, said.Remedy = l.Text(r.Text), l.Text(r.Advice())
	s := said.Text
	if r.SOPInstance != "" {
		s = l.Sprintf("image %s: %s", r.SOPInstance, s)
	}
	if said.Remedy != "" {
		s += "; " + said.Remedy
	}
	return fmt.Sprintf("%s [%s]", s, r.Code)
}

// Number is a number as l writes it; format is one of [fmt] for a single number.
func (l Language) Number(format string, v float64) string {
	s := fmt.Sprintf(format, v)
	if l == Italian {
		return decimal(s)
	}
	return s
}
