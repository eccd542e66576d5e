package words

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/radnode/radnode/pipeline/refusal"
)

// Bounds of what is read: a report has a few hundred texts, the longest a list of some hundred names of features.
const (
	longest   = 1 << 16 // bytes of a text; what is longer stays English
	effort    = 1 << 21 // bytes that may be looked at for one text
	deepest   = 6       // texts within texts
	mostParts = 64      // of a list
	together  = 6       // parts of a list that one text may hold, by the separators in it
)

// A format of fewer letters is hardly one: it takes only texts whose parts are known. Within another text, which is known
// itself, some fewer do.
const (
	hardly       = 10
	hardlyWithin = 8
	tagged       = 8 // letters that a tag counts for
)

// A table has the formats of English and what a language says for them.
type table [][2]string

// A dictionary is the table of a language, ready for use.
type dictionary struct {
	formats map[string]*phrase
	whole   map[string]string // texts without parts
	phrases []*phrase         // with parts, the longest literal first
}

// A phrase is a line of the table.
type phrase struct {
	english  string
	literals []string // of the English format: before, between and after the verbs
	verbs    []string // of the English format
	said     []piece
	letters  int
	loose    bool // has parts that may be anything, and none that must be known
	pattern  func() *regexp.Regexp
}

// A piece of a format of a language: a literal, or a part of the English one.
type piece struct {
	literal string
	part    int // from 0
	kind    byte
}

var dictionaries = map[Language]func() *dictionary{
	Italian: sync.OnceValue(func() *dictionary { return italian.dictionary() }),
}

func (l Language) dictionary() *dictionary {
	if d, ok := dictionaries[l]; ok {
		return d()
	}
	return nil
}

func (t table) dictionary() *dictionary {
	d := &dictionary{formats: map[string]*phrase{}, whole: map[string]string{}}
	for _, line := range t {
		english, said := line[0], line[1]
		p, err := newPhrase(english, said)
		if err == nil && d.formats[english] != nil {
			err = fmt.Errorf("%q is there twice", english)
		}
		if err != nil {
			panic(err) // the table is part of the program, and TestTable reads it
		}
		d.formats[english] = p
		if len(p.verbs) == 0 {
			d.whole[p.literals[0]], _ = p.fill(nil, "", nil)
			continue
		}
		d.phrases = append(d.phrases, p)
	}
	slices.SortFunc(d.phrases, func(a, b *phrase) int {
		return cmp.Or(cmp.Compare(b.letters, a.letters), cmp.Compare(len(b.english), len(a.english)), cmp.Compare(a.english, b.english))
	})
	return d
}

var (
	verb   = regexp.MustCompile(`%(?:\[([0-9]+)\])?[-+#0-9.]*([a-zA-Z%])`)
	tags   = regexp.MustCompile(tag)
	number = regexp.MustCompile(`^(?:` + numbers + `)(?: \S+)?$`)
)

// numbers are what fmt and strconv write for a number, a time of day, or several numbers in brackets.
const (
	one     = `(?:[-+]?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|Inf)|NaN)`
	numbers = one + `|[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?|[\[(]+` + one + `(?:[\])]*,? [\[(]*` + one + `)*[\])]+`
)

const tag = `\([0-9A-Fa-fx]{4},[0-9A-Fa-fx]{4}\)`

// attributes are names with their tags; several tags are what one name has in different objects.
const (
	attribute  = `[A-Za-z][^()]*? ` + tag + `(?:, ` + tag + `)*(?: of (?:SIEMENS MR HEADER|GEMS_PARM_01|Philips Imaging DD 001))?`
	attributes = attribute + `(?: and ` + attribute + `)*`
)

// kinds are the patterns of the verbs of a table.
var kinds = map[byte]string{
	'd': `[-+]?[0-9]+`, 'n': numbers, 's': `.*?`, 't': `.*?`, 'w': `\S*?`, 'q': `"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)+'`,
	'a': tag, 'l': attributes, 'm': `(?:` + numbers + `)(?: \S+)?`,
}

func newPhrase(english, said string) (*phrase, error) {
	p := &phrase{english: english}
	literal := ""
	at := 0
	for _, v := range verb.FindAllStringSubmatchIndex(english, -1) {
		literal += english[at:v[0]]
		if at = v[1]; english[v[4]] == '%' {
			literal += "%"
			continue
		}
		if v[2] >= 0 {
			return nil, fmt.Errorf("%q: the English format counts its parts", english)
		}
		p.literals, literal = append(p.literals, literal), ""
		p.verbs = append(p.verbs, english[v[0]:v[1]])
	}
	p.literals = append(p.literals, literal+english[at:])
	for _, s := range p.literals {
		p.letters += tagged * len(tags.FindAllString(s, -1))
		for _, r := range s {
			if unicode.IsLetter(r) {
				p.letters++
			}
		}
	}

	kind := make([]byte, len(p.verbs))
	at = 0
	next := 0
	for _, v := range verb.FindAllStringSubmatchIndex(said, -1) {
		p.said = append(p.said, piece{literal: said[at:v[0]], part: -1})
		k := said[v[4]]
		if at = v[1]; k == '%' {
			p.said = append(p.said, piece{literal: "%", part: -1})
			continue
		}
		i := next
		if v[2] >= 0 {
			i, _ = strconv.Atoi(said[v[2]:v[3]])
			i--
		}
		if next = i + 1; i < 0 || i >= len(kind) || kind[i] != 0 || kinds[k] == "" {
			return nil, fmt.Errorf("%q: %s of %q is no part of it, or twice there", english, said[v[0]:v[1]], said)
		}
		if kind[i] = k; k == 'a' {
			p.letters += tagged
		}
		p.said = append(p.said, piece{part: i, kind: k})
	}
	p.said = append(p.said, piece{literal: said[at:], part: -1})
	anything := func(k byte) bool { return k == 's' || k == 'w' }
	p.loose = slices.ContainsFunc(kind, anything) && !slices.Contains(kind, 't')
	if i := slices.Index(kind, 0); i >= 0 {
		return nil, fmt.Errorf("%q: part %d is not in %q", english, i+1, said)
	}
	p.pattern = sync.OnceValue(func() *regexp.Regexp {
		var b strings.Builder
		b.WriteString(`(?s)^`)
		for i, k := range kind {
			b.WriteString(regexp.QuoteMeta(p.literals[i]) + "(" + kinds[k] + ")")
		}
		b.WriteString(regexp.QuoteMeta(p.literals[len(kind)]) + `$`)
		return regexp.MustCompile(b.String())
	})
	return p, nil
}

// may tells whether the literals are in a text in their order, which is much less work than the pattern.
func (p *phrase) may(text string) bool {
	last := len(p.literals) - 1
	if !strings.HasPrefix(text, p.literals[0]) {
		return false
	}
	rest := text[len(p.literals[0]):]
	for _, s := range p.literals[1:last] {
		i := strings.Index(rest, s)
		if i < 0 {
			return false
		}
		rest = rest[i+len(s):]
	}
	return strings.HasSuffix(rest, p.literals[last])
}

// fill puts the parts in; known says that all texts among them are.
func (p *phrase) fill(parts []string, and string, say func(string) (string, bool)) (said string, known bool) {
	var b strings.Builder
	known = true
	for _, x := range p.said {
		switch {
		case x.part < 0:
			b.WriteString(x.literal)
		case x.kind == 'n', x.kind == 'm':
			b.WriteString(decimal(parts[x.part]))
		case x.kind == 'l':
			b.WriteString(strings.ReplaceAll(parts[x.part], " and ", " "+and+" "))
		case x.kind == 't':
			s, ok := say(parts[x.part])
			known = known && ok
			b.WriteString(s)
		default:
			b.WriteString(parts[x.part])
		}
	}
	return b.String(), known
}

// decimal writes a number, which may have a unit, with the comma: 1,234.5 as 1.234,5, and (1.5, 2) as (1,5; 2).
func decimal(s string) string {
	if !number.MatchString(s) {
		return s
	}
	if i := strings.LastIndexByte(s, ' '); i >= 0 && !strings.HasSuffix(s, "]") && !strings.HasSuffix(s, ")") {
		return decimal(s[:i]) + s[i:]
	}
	out := []byte(s)
	digit := func(i int) bool { return i >= 0 && i < len(s) && '0' <= s[i] && s[i] <= '9' }
	for i := range out {
		switch {
		case s[i] == '.':
			out[i] = ','
		case s[i] == ',' && digit(i+1):
			out[i] = '.'
		case s[i] == ',':
			out[i] = ';'
		}
	}
	return string(out)
}

// A reader reads one text.
type reader struct {
	*dictionary
	left int // of the effort
}

func (d *dictionary) reader(text string) *reader {
	if len(text) > longest {
		return &reader{d, 0}
	}
	return &reader{d, effort}
}

// text says a text: one of the table, else one with a refusal's remedy and code, several with "; " between them, or one
// behind the name of what it speaks of.
func (r *reader) text(s string, depth int) (said string, known bool) {
	if said, ok := r.whole[s]; ok {
		return said, true
	}
	if depth > deepest || r.left <= 0 {
		return s, false
	}
	body, code := splitCode(s)
	if code != "" {
		if said, ok := r.phrase(s, depth, func(p *phrase) bool { return strings.HasSuffix(p.english, "]") }); ok {
			return said, true
		}
		if i := strings.LastIndex(body, "; "); i >= 0 {
			if remedy, ok := r.remedy(body); ok {
				rest := body[:len(body)-len(remedy)-2]
				text, _ := r.text(rest, depth+1)
				return text + "; " + r.whole[remedy] + code, true
			}
		}
		if text, ok := r.text(body, depth+1); ok {
			return text + code, true
		}
		return s, false
	}
	if said, ok := r.phrase(s, depth, nil); ok {
		return said, true
	}
	if said, ok := r.list(s, "; ", depth); ok {
		return said, true
	}
	if i := strings.Index(s, ". "); i >= 0 {
		if first, ok := r.whole[s[:i+1]]; ok { // the sentence of a reason
			rest, dot := strings.CutSuffix(s[i+2:], ".")
			if rest, _ = r.text(rest, depth+1); dot {
				rest += "."
			}
			return first + " " + rest, true
		}
	}
	at := 0
	for range 4 {
		i := strings.Index(s[at:], ": ")
		if i < 0 {
			break
		}
		at += i + 2
		if tail := s[at:]; strings.Contains(tail, " ") {
			if said, ok := r.text(tail, depth+1); ok {
				return s[:at] + said, true
			}
		}
	}
	return s, false
}

// splitCode cuts the code of a refusal off the end of its text, with the space before it.
func splitCode(s string) (body, code string) {
	if i := strings.LastIndex(s, " ["); i >= 0 && strings.HasSuffix(s, "]") {
		if _, ok := refusal.Lookup(refusal.Code(s[i+2 : len(s)-1])); ok {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// remedy is the longest known text at the end of a list.
func (r *reader) remedy(s string) (remedy string, ok bool) {
	end := len(s)
	for range together {
		i := strings.LastIndex(s[:end], "; ")
		if i < 0 {
			break
		}
		if _, known := r.whole[s[i+2:]]; known {
			remedy, ok = s[i+2:], true
		}
		end = i
	}
	return remedy, ok
}

// phrase says a text by the format that made it. Of several, one whose parts are known comes before the others, then the
// one with most letters.
func (r *reader) phrase(s string, depth int, only func(*phrase) bool) (said string, ok bool) {
	if r.left -= len(s) + 64; r.left <= 0 {
		return s, false
	}
	enough := hardly
	if depth > 0 {
		enough = hardlyWithin
	}
	for _, p := range r.phrases {
		if only != nil && !only(p) || p.letters < hardly && p.loose && depth == 0 || !p.may(s) {
			continue
		}
		if r.left -= len(s); r.left <= 0 {
			return s, false
		}
		parts := p.pattern().FindStringSubmatch(s)
		if parts == nil {
			continue
		}
		text, known := p.fill(parts[1:], r.whole["and"], func(part string) (string, bool) { return r.part(part, depth+1) })
		if known {
			return text, true
		}
		if !ok && p.letters >= enough {
			said, ok = text, true
		}
	}
	return said, ok
}

// part says a text within another, which may also be a list of texts and values with commas.
func (r *reader) part(s string, depth int) (said string, known bool) {
	if s == "" {
		return s, true
	}
	if said, ok := r.text(s, depth); ok {
		return said, true
	}
	if number.MatchString(s) {
		return decimal(s), true
	}
	return r.list(s, ", ", depth)
}

// list says the texts between separators. A text may hold the separator itself, so that the longest is looked for.
func (r *reader) list(s, separator string, depth int) (said string, known bool) {
	parts := strings.Split(s, separator)
	if depth > deepest || len(parts) < 2 || len(parts) > mostParts {
		return s, false
	}
	out := make([]string, 0, len(parts))
	for len(parts) > 0 {
		n := min(together, len(parts))
		for ; n > 0; n-- {
			one := strings.Join(parts[:n], separator)
			if one == s { // it was looked for already
				continue
			}
			text, ok := r.whole[one]
			if !ok {
				text, ok = r.phrase(one, depth+1, nil)
			}
			if !ok && n == 1 && separator == "; " {
				text, ok = r.text(one, depth+1)
			}
			if ok {
				out, known = append(out, text), known || strings.Contains(one, " ")
				break
			}
		}
		if n == 0 {
			out, n = append(out, decimal(parts[0])), 1
		}
		parts = parts[n:]
	}
	if !known {
		return s, false
	}
	return strings.Join(out, separator), true
}
