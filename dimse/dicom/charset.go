package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// A charset is the value of Specific Character Set (0008,0005): PS3.3 C.12.1.1.2. Nil is an absent one, the default repertoire.
type charset struct {
	name    string
	initial repertoire // in force at the start of a value and after a delimiter
	whole   encoding.Encoding
	utf8    bool
	escapes bool // code extensions of ISO 2022 may follow: PS3.5 6.1.2.5
}

// repertoire is a coded character set of ISO 2022 as a decoder sees it: ASCII where all fields are empty.
type repertoire struct {
	single *charmap.Charmap
	kana   bool              // the right half of JIS X 0201
	double encoding.Encoding // two bytes a character: the encoding that has them with the high bits set
	prefix byte              // before them there: 8F for JIS X 0212 in EUC-JP
}

var (
	latin1   = repertoire{single: charmap.ISO8859_1}
	katakana = repertoire{kana: true}
	kanji    = repertoire{double: japanese.EUCJP}
	kanji2   = repertoire{double: japanese.EUCJP, prefix: 0x8F}
	hangul   = repertoire{double: korean.EUCKR}
	hanzi    = repertoire{double: simplifiedchinese.GBK} // GB 2312 is the part of GBK from A1A1 on
)

// registered are the coded character sets of PS3.3 Tables C.12-2 to C.12-4 by the number of their registration, with the escape
// sequences that designate them.
var registered = map[string]struct {
	repertoire
	escapes []string
}{
	"6":   {repertoire{}, []string{"\x1b(B"}},
	"100": {latin1, []string{"\x1b-A"}},
	"101": {repertoire{single: charmap.ISO8859_2}, []string{"\x1b-B"}},
	"109": {repertoire{single: charmap.ISO8859_3}, []string{"\x1b-C"}},
	"110": {repertoire{single: charmap.ISO8859_4}, []string{"\x1b-D"}},
	"144": {repertoire{single: charmap.ISO8859_5}, []string{"\x1b-L"}},
	"127": {repertoire{single: charmap.ISO8859_6}, []string{"\x1b-G"}},
	"126": {repertoire{single: charmap.ISO8859_7}, []string{"\x1b-F"}},
	"138": {repertoire{single: charmap.ISO8859_8}, []string{"\x1b-H"}},
	"148": {repertoire{single: charmap.ISO8859_9}, []string{"\x1b-M"}},
	"203": {repertoire{single: charmap.ISO8859_15}, []string{"\x1b-b"}},
	"166": {repertoire{single: charmap.Windows874}, []string{"\x1b-T"}}, // TIS 620 and a few signs more
	"13":  {katakana, []string{"\x1b)I", "\x1b(J"}},
	"87":  {kanji, []string{"\x1b$B", "\x1b$@"}}, // the second is JIS C 6226, its forerunner
	"159": {kanji2, []string{"\x1b$(D"}},
	"149": {hangul, []string{"\x1b$)C"}},
	"58":  {hanzi, []string{"\x1b$)A"}},
}

var designated = func() map[string]repertoire {
	m := make(map[string]repertoire)
	for _, r := range registered {
		for _, e := range r.escapes {
			m[e] = r.repertoire
		}
	}
	m["\x1b(J"] = repertoire{} // JIS X 0201 Romaji; its yen sign and overline have the places of backslash and tilde
	return m
}()

// spellings are terms that are not in the standard and found in files, reduced to letters and digits.
var spellings = map[string]string{
	"ISO88591": "100", "LATIN1": "100", "WINDOWS1252": "100", "CP1252": "100",
	"ISO88592": "101", "ISO88593": "109", "ISO88594": "110", "ISO88595": "144", "ISO88596": "127", "ISO88597": "126",
	"ISO88598": "138", "ISO88599": "148", "ISO885915": "203", "TIS620": "166", "ISO885911": "166",
	"ASCII": "6", "USASCII": "6", "ISO646": "6",
	"UTF8": "192", "UNICODE": "192", "GB2312": "GBK", "GB231280": "GBK", "CP936": "GBK",
}

// parseCharset reads the values of Specific Character Set. note says what is wrong with them.
func parseCharset(terms []string) (c *charset, note string) {
	c = &charset{name: strings.Join(terms, `\`)}
	for i, term := range terms {
		key := strings.Map(func(r rune) rune {
			switch {
			case 'a' <= r && r <= 'z':
				return r - 'a' + 'A'
			case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
				return r
			}
			return -1
		}, term)
		number, proper := strings.CutPrefix(key, "ISO2022IR")
		if !proper {
			number, proper = strings.CutPrefix(key, "ISOIR")
		}
		if alias, ok := spellings[key]; ok {
			number, proper = alias, false
		}
		switch key {
		case "GB18030", "GBK":
			number = key
		}
		r, known := registered[number]
		switch {
		case i > 0: // code extensions: the escape sequences in the text name them
			c.escapes = true
			if !known && number != "" {
				note = fmt.Sprintf("%q is no character set that may follow another", term)
			}
		case key == "": // the default repertoire
		case number == "192":
			c.utf8 = true
		case number == "GB18030":
			c.whole = simplifiedchinese.GB18030
		case number == "GBK":
			c.whole = simplifiedchinese.GBK
		case known:
			c.escapes = strings.HasPrefix(key, "ISO2022")
			if number != "87" && number != "159" { // these need an escape sequence even where they stand first
				c.initial = r.repertoire
			}
		default:
			return nil, fmt.Sprintf("character set %q is unknown; text is read as UTF-8 or Latin-1", term)
		}
		if i == 0 && note == "" && key != "" && (!proper && number != key || !properTerm(term)) {
			note = fmt.Sprintf("character set %q is misspelt", term)
		}
	}
	if c.utf8 || c.whole != nil {
		c.escapes = false // PS3.3 C.12.1.1.2: these stand alone
	}
	return c, note
}

func properTerm(s string) bool {
	return strings.HasPrefix(s, "ISO_IR ") || strings.HasPrefix(s, "ISO 2022 IR ") || s == "GB18030" || s == "GBK"
}

// decode turns the bytes of a text value into UTF-8. What cannot be read so is read as UTF-8 or Latin-1, and the note says so:
// no object is lost for a letter.
func (c *charset) decode(vr VR, b []byte) (text []byte, note string) {
	if plain(b) {
		return b, ""
	}
	if c == nil || !vrs[vr].charset {
		if c = (*charset)(nil); bytes.IndexByte(b, 0x1B) < 0 || !vrs[vr].charset {
			return fallback(b, "has letters that no character set covers")
		}
		c = &charset{escapes: true, name: "none"}
	}
	switch {
	case c.utf8:
		if utf8.Valid(b) {
			return b, ""
		}
		return fallback(b, "is not the UTF-8 that it should be")
	case c.whole != nil:
		out, err := c.whole.NewDecoder().Bytes(b)
		if err != nil || bytes.ContainsRune(out, utf8.RuneError) {
			return fallback(b, "does not fit character set "+c.name)
		}
		return out, ""
	}
	out, ok := c.decode2022(vr, b)
	if !ok {
		return fallback(b, "does not fit character set "+c.name)
	}
	return out, ""
}

// plain reports whether b reads the same in every character set: ASCII without escapes. It sees every contour point, eight bytes
// at a time.
func plain(b []byte) bool {
	if bytes.IndexByte(b, 0x1B) >= 0 {
		return false
	}
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, v := range b {
		if v >= 0x80 {
			return false
		}
	}
	return true
}

// fallback keeps valid UTF-8 and takes all other bytes for Latin-1.
func fallback(b []byte, why string) ([]byte, string) {
	if bytes.IndexByte(b, 0x1B) >= 0 {
		b = bytes.ReplaceAll(b, []byte{0x1B}, nil)
	}
	if utf8.Valid(b) {
		return b, why + "; read as UTF-8"
	}
	out, _ := charmap.ISO8859_1.NewDecoder().Bytes(b) // every byte has a character
	return out, why + "; read as Latin-1"
}

// decode2022 follows the escape sequences of PS3.5 6.1.2.5. The sets of the first value come back at every delimiter and line
// end (6.1.2.5.3). A two-byte character in the left half may have the code of a backslash in it, so that one counts as a
// delimiter in single-byte text only.
func (c *charset) decode2022(vr VR, b []byte) ([]byte, bool) {
	out := make([]byte, 0, 2*len(b))
	left, right := repertoire{}, c.initial
	for len(b) > 0 {
		ch := b[0]
		r := left
		switch {
		case ch == 0x1B:
			r, n := escape(b)
			if n == 0 || !c.escapes {
				return nil, false
			}
			if b[1] == '(' || b[1] == '$' && b[2] != ')' {
				left = r
			} else {
				right = r
			}
			b = b[n:]
			continue
		case ch >= 0x80:
			r = right
		case ch <= ' ' || ch == 0x7F || left.double == nil: // control characters and space are in every set
			if ch == '\r' || ch == '\n' || ch == '\f' || ch == '\t' || delimiter(ch, vr) {
				left, right = repertoire{}, c.initial
			}
			out = append(out, ch)
			b = b[1:]
			continue
		}
		switch {
		case r.double != nil && len(b) >= 2:
			code := []byte{r.prefix, ch | 0x80, b[1] | 0x80}
			if r.prefix == 0 {
				code = code[1:]
			}
			text, err := r.double.NewDecoder().Bytes(code)
			if err != nil || utf8.RuneCount(text) != 1 || string(text) == "\uFFFD" {
				return nil, false
			}
			out = append(out, text...)
			b = b[2:]
			continue
		case r.single != nil && r.single.DecodeByte(ch) != utf8.RuneError:
			out = utf8.AppendRune(out, r.single.DecodeByte(ch))
		case r.kana && 0xA1 <= ch && ch <= 0xDF:
			out = utf8.AppendRune(out, '\uFF61'+rune(ch-0xA1))
		default:
			return nil, false
		}
		b = b[1:]
	}
	return out, true
}

// escape reads the escape sequence at the start of b; n is 0 where it is none of the standard's.
func escape(b []byte) (r repertoire, n int) {
	for n := 3; n <= 4 && n <= len(b); n++ {
		if r, ok := designated[string(b[:n])]; ok {
			return r, n
		}
	}
	return repertoire{}, 0
}

// delimiter reports whether ch separates values, or components of a person name.
func delimiter(ch byte, vr VR) bool {
	return ch == '\\' && !vrs[vr].single || vr == PN && (ch == '^' || ch == '=')
}

// NameGroups is a PN value in its component groups, each "family^given^middle^prefix^suffix": PS3.5 6.2.1.
type NameGroups struct {
	Alphabetic, Ideographic, Phonetic string
}

// ParseName takes a PN value apart.
func ParseName(s string) NameGroups {
	var p NameGroups
	groups := strings.SplitN(s, "=", 3)
	for i, to := range []*string{&p.Alphabetic, &p.Ideographic, &p.Phonetic} {
		if i < len(groups) {
			*to = strings.TrimRight(groups[i], "^ ")
		}
	}
	return p
}

// String joins the groups again.
func (p NameGroups) String() string {
	return strings.TrimRight(p.Alphabetic+"="+p.Ideographic+"="+p.Phonetic, "=")
}
