package dicom

import "unicode/utf8"

type charset struct{}

func parseCharset(terms []string) (*charset, string) { return nil, "" }

func (c *charset) decode(vr VR, b []byte) ([]byte, string) {
	if !utf8.Valid(b) {
		out := make([]byte, 0, len(b)*2)
		for _, x := range b {
			out = utf8.AppendRune(out, rune(x))
		}
		return out, "read as Latin-1"
	}
	return b, ""
}
