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
	"golang.org/x/text/transform"
)

// A charset is the value of Specific Character Set (0008,0005): PS3.3 C.12.1.1.2. Nil is an absent one, the default repertoire.
//
// No object is lost for a letter, so every byte becomes text, in this order:
//   - What fits the declared sets is read as declared, also where it would be UTF-8 as well: archives go by the declaration, and a
//     report must name the patient as they do. For Latin-1 that is noted.
//   - Escape sequences speak for themselves, declared or not.
//   - A letter that is cut off at the end of a value, or that a two-byte set does not have behind its escape sequence, is U+FFFD.
//   - What does not fit, or is not declared, and is valid UTF-8, is UTF-8. The codes 80 to 9F, which no single-byte set of DICOM has
//     (PS3.5 6.1.3), do not fit.
//   - Behind ISO_IR 13 what remains is Shift JIS if it is valid; everything else is Windows-1252, which is Latin-1 with letters at
//     80 to 9F. GBK without a declaration is among that: nothing tells it from Latin-1, and the stored bytes stay what they are.
//
// All but the first are noted.
type charset struct {
	name    string
	initial repertoire // in force at the start of a value and after a delimiter
	whole   encoding.Encoding
	utf8    bool
	escapes bool // code extensions of ISO 2022 may follow: PS3.5 6.1.2.5

	decoder *encoding.Decoder // of whole, or of Shift JIS behind ISO_IR 13
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

// jisLetters are characters of JIS X 0208 that golang.org/x/text reads as Microsoft does, and the standard and other readers
// otherwise.
var jisLetters = map[string]string{
	"\uFF5E": "\u301C", "\u2225": "\u2016", "\uFF0D": "\u2212", "\uFFE0": "\u00A2", "\uFFE1": "\u00A3", "\uFFE2": "\u00AC",
}

// spellings are terms that are not in the standard and found in files, reduced to letters and digits.
var spellings = map[string]string{
	"ISO88591": "100", "LATIN1": "100", "WINDOWS1252": "100", "CP1252": "100",
	"ISO88592": "101", "ISO88593": "109", "ISO88594": "110", "ISO88595": "144", "ISO88596": "127", "ISO88597": "126",
	"ISO88598": "138", "ISO88599": "148", "ISO885915": "203", "TIS620": "166", "ISO885911": "166",
	"ASCII": "6", "USASCII": "6", "ISO646": "6",
	"UTF8": "192", "UNICODE": "192", "GB2312": "GBK", "GB231280": "GBK", "CP936": "GBK", "ISO2022GBK": "GBK", "ISO2022GB18030": "GB18030",
	"SHIFTJIS": "13", "SJIS": "13", "EUCKR": "149", "KSX1001": "149", "KSC5601": "149",
}

// parseCharset reads Specific Character Set. note says what is wrong with it. Without a value it is absent.
func parseCharset(value []byte) (c *charset, note string) {
	all := trimText(string(value), false)
	if all == "" {
		return nil, ""
	}
	c = &charset{name: clip(all)}
	wrong := func(format string, args ...any) {
		if note == "" {
			note = fmt.Sprintf(format, args...)
		}
	}
	i := -1
	for term := range strings.SplitSeq(all, `\`) {
		i++
		term = trimText(term, false)
		if len(term) > 32 { // no spelling is that long
			term = term[:32]
		}
		number, proper := registration(term)
		r, known := registered[number]
		if number != "" && !proper && (known || alone(number)) {
			wrong("character set %q is misspelt", clip(term))
		}
		if i > 0 { // code extensions: the escape sequences in the text name them
			switch {
			case alone(number):
				wrong("character set %q stands alone and may not follow another", clip(term))
			case !known && term != "":
				wrong("%q is no character set that may follow another", clip(term))
			case known && proper && !strings.HasPrefix(term, "ISO 2022 "):
				wrong("character set %q may not follow another, %q may", clip(term), "ISO 2022 IR "+number)
			}
			c.escapes = true
			continue
		}
		switch {
		case term == "": // the default repertoire
		case number == "192":
			c.utf8 = true
		case number == "GB18030":
			c.whole = simplifiedchinese.GB18030
		case number == "GBK":
			c.whole = simplifiedchinese.GBK
		case known:
			c.escapes = strings.HasPrefix(term, "ISO 2022") || !proper
			if r.double != nil && strings.HasPrefix(term, "ISO_IR") {
				wrong("character set %q is not in the standard, %q is", clip(term), "ISO 2022 IR "+number)
				c.escapes = true
			}
			if number != "87" && number != "159" { // these need an escape sequence even where they stand first
				c.initial = r.repertoire
			}
		default:
			return nil, fmt.Sprintf("character set %q is unknown; text is read as UTF-8 or Windows-1252", clip(term))
		}
	}
	if c.utf8 || c.whole != nil {
		if i > 0 {
			wrong("character set %q stands alone, the others are not followed", c.name)
		}
		c.escapes = false // PS3.3 C.12.1.1.2
	}
	return c, note
}

// clip keeps a wrong term short enough for a log line.
func clip(term string) string { return term[:min(len(term), 20)] }

// registration finds what a term means: the number of a registration, "192", "GB18030" or "GBK". proper says that it is
// spelt as the standard does, in Tables C.12-2 to C.12-5.
func registration(term string) (number string, proper bool) {
	key := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return -1
	}, term)
	if alias, ok := spellings[key]; ok {
		return alias, false
	}
	for _, prefix := range []string{"ISO2022IR", "ISOIR", "ISO2022", "IR", "ISO"} {
		if n, ok := strings.CutPrefix(key, prefix); ok {
			number = n
			break
		}
	}
	if number == "" {
		number = key
	}
	switch term {
	case "ISO_IR 192", "GB18030", "GBK":
		return number, true
	case "ISO_IR " + number, "ISO 2022 IR " + number:
		return number, !alone(number)
	}
	return number, false
}

// alone reports whether a term of this number stands alone.
func alone(number string) bool { return number == "192" || number == "GB18030" || number == "GBK" }

// A remark is what is wrong with a text and how it was read all the same. It is put into words only when somebody listens: a
// hostile data set has a million of them.
type remark struct{ fault, reading uint8 }

// The faults; the first is none.
const (
	fits = iota
	uncovered
	notOfVR
	notUTF8
	notOfSet
	doubtful
	cutOff
	unknownLetters
	unannounced
	notRepeated
	senseless
)

var faultWords = [...]string{
	uncovered:      "has letters that no character set covers",
	notOfVR:        "has letters that VR %[1]s cannot have",
	notUTF8:        "is not the UTF-8 that it should be",
	notOfSet:       "does not fit character set %[2]q",
	doubtful:       "is read in character set %[2]q, as declared, and would be valid UTF-8",
	cutOff:         "ends within a letter; U+FFFD stands for it",
	unknownLetters: "has letters that its character set does not have, or that are cut off; U+FFFD stands for them",
	unannounced:    "has escape sequences of ISO 2022, which Specific Character Set does not announce; they are followed",
	notRepeated:    "lacks an escape sequence after a delimiter; the set before it is taken",
	senseless:      "has escape characters, which are left out",
}

const (
	asUTF8 = iota + 1
	asWindows
	asShiftJIS
)

var readingWords = [...]string{"", asUTF8: "; read as UTF-8", asWindows: "; read as Windows-1252", asShiftJIS: "; read as Shift JIS"}

// words are those of the remark on a text of VR vr that came in c; none where it fits.
func (r remark) words(vr VR, c *charset) string {
	if r.fault == fits {
		return ""
	}
	name := "none"
	if c != nil {
		name = c.name
	}
	text := faultWords[r.fault]
	if strings.Contains(text, "%") {
		text = fmt.Sprintf(text+"%.0[1]s%.0[2]s", vr, name)
	}
	return text + readingWords[r.reading]
}

// decode turns the bytes of a text value into UTF-8, as charset says. It may return b itself.
func (c *charset) decode(vr VR, b []byte) (text []byte, r remark) {
	if plain(b) {
		return b, remark{}
	}
	if !vrs[vr].charset {
		return fallback(b, notOfVR)
	}
	escaped := bytes.IndexByte(b, 0x1B) >= 0
	switch {
	case c == nil && !escaped:
		return fallback(b, uncovered)
	case c != nil && c.utf8 && !escaped:
		if utf8.Valid(b) {
			return b, remark{}
		}
		if n := len(trimNumber(b)); n > 0 {
			if end := lastRune(b[:n]); end > 0 && !plain(b[:end]) && utf8.Valid(b[:end]) {
				return append(append(make([]byte, 0, end+3), b[:end]...), "\uFFFD"...), remark{fault: cutOff}
			}
		}
		return fallback(b, notUTF8)
	case c != nil && c.whole != nil && !escaped:
		switch out, cut := c.decodeWhole(b); {
		case out == nil, cut && utf8.Valid(b):
			return fallback(b, notOfSet)
		case cut:
			return out, remark{fault: cutOff}
		default:
			return out, remark{}
		}
	}
	sets := c
	if c == nil || c.utf8 || c.whole != nil {
		sets = &onlyEscapes
	}
	switch out, marks := sets.decode2022(vr, b); {
	case marks&(followed|missing) == followed|missing:
		return out, remark{fault: unknownLetters}
	case marks&carried != 0:
		return out, remark{fault: notRepeated}
	case marks&followed != 0 && (sets != c || !c.escapes):
		return out, remark{fault: unannounced}
	case c == nil:
		return fallback(b, uncovered)
	case sets != c: // no sense is in the escape characters
		text, r = c.decode(vr, bytes.ReplaceAll(b, []byte{0x1B}, nil))
		if r.fault == fits {
			r.fault = senseless
		}
		return text, r
	case marks&missing != 0 && c.initial.kana && !utf8.Valid(b):
		if c.decoder == nil {
			c.decoder = japanese.ShiftJIS.NewDecoder()
		}
		c.decoder.Reset()
		sjis, n, err := transform.Append(c.decoder.Transformer, make([]byte, 0, 2*len(b)), b)
		if err == nil && n == len(b) && !bytes.ContainsRune(sjis, utf8.RuneError) {
			return sjis, remark{notOfSet, asShiftJIS}
		}
		return fallback(b, notOfSet)
	case marks&missing != 0:
		return fallback(b, notOfSet)
	case c.initial.single == charmap.ISO8859_1 && marks == 0 && utf8.Valid(b):
		return out, remark{fault: doubtful}
	default:
		return out, remark{}
	}
}

// onlyEscapes is text that says itself what it is in.
var onlyEscapes charset

// lastRune is where the last character of b starts, if b is UTF-8.
func lastRune(b []byte) int {
	i := len(b) - 1
	for i > 0 && len(b)-i < utf8.UTFMax && !utf8.RuneStart(b[i]) {
		i--
	}
	return i
}

// decodeWhole reads GB18030 or GBK; nil where b is neither. cut says that a letter was cut off at the end.
func (c *charset) decodeWhole(b []byte) (out []byte, cut bool) {
	if c.decoder == nil {
		c.decoder = c.whole.NewDecoder()
	}
	c.decoder.Reset()
	out, n, _ := transform.Append(c.decoder.Transformer, make([]byte, 0, len(b)+len(b)/2+4), b)
	if i := bytes.IndexRune(out, utf8.RuneError); n < len(b) || i >= 0 {
		cut := i >= 0 && len(bytes.TrimRight(out[i:], " \x00")) == len("\uFFFD") && !plain(out[:i])
		if !cut {
			return nil, false
		}
		return out, true
	}
	return out, false
}

// plain reports whether b reads the same in every character set: ASCII without escapes. It sees every contour point, eight
// bytes at a time.
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

// fallback keeps valid UTF-8 and takes all other bytes for Windows-1252.
func fallback(b []byte, fault uint8) ([]byte, remark) {
	if bytes.IndexByte(b, 0x1B) >= 0 {
		b = bytes.ReplaceAll(b, []byte{0x1B}, nil)
	}
	if utf8.Valid(b) {
		return b, remark{fault, asUTF8}
	}
	high := 0
	for _, ch := range b {
		if ch >= 0x80 {
			high++
		}
	}
	out := make([]byte, 0, len(b)+2*high)
	for _, ch := range b {
		out = utf8.AppendRune(out, charmap.Windows1252.DecodeByte(ch)) // every byte has a character
	}
	return out, remark{fault, asWindows}
}

// What decode2022 found in a text.
const (
	followed = 1 << iota // escape sequences of the standard
	missing              // letters that are not in the set in force: U+FFFD stands for them
	carried              // an escape sequence that was forgotten after a delimiter
)

// decode2022 follows the escape sequences of PS3.5 6.1.2.5. The sets of the first value come back at every delimiter and line
// end (6.1.2.5.3). A two-byte character in the left half may have the code of a backslash in it, so that one counts as a
// delimiter in single-byte text only.
func (c *charset) decode2022(vr VR, b []byte) (out []byte, marks int) {
	out = make([]byte, 0, len(b)+len(b)/2+8)
	left, right, before := repertoire{}, c.initial, repertoire{}
	var decoder *encoding.Decoder
	var of encoding.Encoding
	bad := func(n int) {
		marks |= missing
		out = utf8.AppendRune(out, utf8.RuneError)
		b = b[min(n, len(b)):]
	}
	for len(b) > 0 {
		ch := b[0]
		r := left
		switch {
		case ch == 0x1B:
			r, n := escape(b)
			if n == 0 {
				bad(1)
				continue
			}
			if marks |= followed; b[1] == '(' || b[1] == '$' && b[2] != ')' {
				left = r
			} else {
				right, before = r, r
			}
			b = b[n:]
			continue
		case ch >= 0x80:
			if right == (repertoire{}) && before.double != nil {
				right = before
				marks |= carried
			}
			r = right
		case ch <= ' ' || ch == 0x7F || left.double == nil: // control characters and space are in every set
			if ch < ' ' || delimiter(ch, vr) {
				left, right = repertoire{}, c.initial
			}
			out = append(out, ch)
			b = b[1:]
			continue
		}
		switch {
		case r.double != nil:
			if len(b) < 2 || ch&0x7F <= ' ' || (b[1]^ch)&0x80 != 0 { // both bytes are in the same half
				bad(1)
				continue
			}
			if decoder == nil || of != r.double {
				decoder, of = r.double.NewDecoder(), r.double
			}
			code := [3]byte{r.prefix, ch | 0x80, b[1] | 0x80}
			in := code[:]
			if r.prefix == 0 {
				in = in[1:]
			}
			var text [8]byte
			decoder.Reset()
			n, _, err := decoder.Transform(text[:], in, true)
			if v, size := utf8.DecodeRune(text[:n]); err != nil || size != n || v == utf8.RuneError {
				bad(2)
				continue
			}
			if v, ok := jisLetters[string(text[:n])]; ok && r == kanji {
				n = copy(text[:], v)
			}
			out = append(out, text[:n]...)
			b = b[2:]
			continue
		case r.single != nil && ch >= 0xA0 && r.single.DecodeByte(ch) != utf8.RuneError:
			out = utf8.AppendRune(out, r.single.DecodeByte(ch))
		case r.kana && 0xA1 <= ch && ch <= 0xDF:
			out = utf8.AppendRune(out, '\uFF61'+rune(ch-0xA1))
		default:
			bad(1)
			continue
		}
		b = b[1:]
	}
	return out, marks
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
