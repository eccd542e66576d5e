package dicom

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// CleanText makes a value of UT, ST or LT of a string that comes from outside: a control character, which no text may hold
// (PS3.5 6.1.3), becomes a blank, and blanks at the ends go.
func CleanText(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
}

// CleanLine makes one value of SH or LO of a string that comes from outside: as CleanText does, a backslash, which separates
// values, becomes a slash, and what is longer than most ends in three points. The standard counts characters (PS3.5 6.2), but
// archives and validators count bytes, so bytes are what is counted here.
func CleanLine(s string, most int) string {
	s = strings.ReplaceAll(CleanText(s), `\`, "/")
	if len(s) <= most {
		return s
	}
	cut := most - len("...")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimSpace(s[:cut]) + "..."
}
