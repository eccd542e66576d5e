package dicom

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// FileMeta is File Meta Information, PS3.10 Table 7.1-1, as far as it says something of the data set behind it.
type FileMeta struct {
	MediaStorageSOPClassUID      string
	MediaStorageSOPInstanceUID   string
	TransferSyntaxUID            string
	ImplementationClassUID       string
	ImplementationVersionName    string
	SourceApplicationEntityTitle string
}

// File Meta Information, PS3.10 Table 7.1-1. The names belong to the fields of FileMeta.
const (
	metaGroupLength    Tag = 0x00020000
	metaVersion        Tag = 0x00020001
	metaSOPClass       Tag = 0x00020002
	metaSOPInstance    Tag = 0x00020003
	metaTransferSyntax Tag = 0x00020010
	metaImplementation Tag = 0x00020012
	metaVersionName    Tag = 0x00020013
	metaSourceAE       Tag = 0x00020016
)

// WriteMeta writes what stands before the data set in a file: an empty preamble, "DICM" and File Meta Information (PS3.10 7.1).
// Without an implementation class UID the file says that radnode wrote it.
func WriteMeta(w io.Writer, meta FileMeta) error {
	if meta.ImplementationClassUID == "" {
		meta.ImplementationClassUID, meta.ImplementationVersionName = ImplementationClassUID, ImplementationVersionName
	}
	d := New()
	d.SetBytes(metaVersion, OB, []byte{0, 1})
	for _, a := range []struct {
		tag      Tag
		value    string
		required bool
	}{
		{metaSOPClass, meta.MediaStorageSOPClassUID, true},
		{metaSOPInstance, meta.MediaStorageSOPInstanceUID, true},
		{metaTransferSyntax, meta.TransferSyntaxUID, true},
		{metaImplementation, meta.ImplementationClassUID, true},
		{metaVersionName, meta.ImplementationVersionName, false},
		{metaSourceAE, meta.SourceApplicationEntityTitle, false},
	} {
		if a.value == "" && a.required {
			return elementError(a.tag, malformed("is needed in a file and empty"))
		}
		if a.value != "" {
			d.SetString(a.tag, a.value)
		}
	}
	group, err := d.appendElements(nil, explicitLE, d.elems, "")
	if err != nil {
		return err
	}
	head := make([]byte, 128, 128+4+12+len(group))
	head = append(head, "DICM"...)
	head = explicitLE.appendElement(head, metaGroupLength, UL, binary.LittleEndian.AppendUint32(nil, uint32(len(group))))
	_, err = w.Write(append(head, group...))
	return err
}

// WriteFile writes a Part 10 file in Explicit VR Little Endian. The SOP class and instance of meta may be left empty: the data
// set has them, and must not say otherwise.
func WriteFile(w io.Writer, meta FileMeta, d *DataSet) error {
	for _, a := range []struct {
		tag   Tag
		field *string
	}{
		{SOPClassUID, &meta.MediaStorageSOPClassUID},
		{SOPInstanceUID, &meta.MediaStorageSOPInstanceUID},
	} {
		switch v := d.String(a.tag); {
		case *a.field == "":
			*a.field = v
		case v != "" && v != *a.field:
			return elementError(a.tag, malformed("is %s, File Meta Information says %s", v, *a.field))
		}
	}
	if ts := meta.TransferSyntaxUID; ts != "" && ts != ExplicitVRLittleEndian {
		return elementError(metaTransferSyntax, unsupported("files are written in %s only, not in %s", ExplicitVRLittleEndian, ts))
	}
	meta.TransferSyntaxUID = ExplicitVRLittleEndian
	body, err := d.EncodedBytes()
	if err != nil {
		return err
	}
	if err := WriteMeta(w, meta); err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// Encode writes the data set alone, in Explicit VR Little Endian with defined lengths and Specific Character Set ISO_IR 192.
// The same data set always makes the same bytes.
func (d *DataSet) Encode(w io.Writer) error {
	b, err := d.EncodedBytes()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// EncodedBytes is what [DataSet.Encode] writes.
func (d *DataSet) EncodedBytes() ([]byte, error) {
	return d.encoded(explicitLE)
}

// EncodedImplicit is the data set in Implicit VR Little Endian, which every peer understands (PS3.5 10.1).
func (d *DataSet) EncodedImplicit() ([]byte, error) {
	return d.encoded(implicitLE)
}

// explicitLE writes elements with their VR (PS3.5 7.1.2); implicitLE without (7.1.3).
var explicitLE = coding{explicit: true}

func (d *DataSet) encoded(as coding) ([]byte, error) {
	i, _ := d.search(SpecificCharacterSet)
	b, err := d.appendElements(make([]byte, 0, 32+d.room()), as, d.elems[:i], "")
	if err != nil {
		return nil, err
	}
	b = as.appendElement(b, SpecificCharacterSet, CS, []byte("ISO_IR 192"))
	return d.appendElements(b, as, d.elems[i:], "")
}

// room is at least what the elements take when encoded.
func (d *DataSet) room() int {
	n := 0
	for i := range d.elems {
		n += 12 + len(d.elems[i].value) + 1
		for _, item := range d.elems[i].items {
			n += 8 + item.room()
		}
	}
	return n
}

// appendElements encodes elems, which are of d. A Specific Character Set in them tells how they once came, and is left out:
// everything is UTF-8 now, and items inherit that from the data set (PS3.5 7.5.1 and C.12.1.1.2).
func (d *DataSet) appendElements(b []byte, as coding, elems []Element, path string) ([]byte, error) {
	for i := range elems {
		e := &elems[i]
		if e.Tag == SpecificCharacterSet {
			continue
		}
		if err := d.bad[e.Tag]; err != nil {
			return nil, &Error{Path: path + e.Tag.String(), Offset: -1, Err: err}
		}
		if e.VR != SQ {
			if len(e.value) > 0xFFFFFFFE {
				return nil, &Error{Path: path + e.Tag.String(), Offset: -1, Err: unsupported("%d bytes are too many for a value", len(e.value))}
			}
			b = as.appendElement(b, e.Tag, e.VR, e.value)
			continue
		}
		b = as.appendHeader(b, e.Tag, SQ, 0)
		start := len(b)
		for n, item := range e.items {
			b = appendTag(b, itemTag)
			b = append(b, 0, 0, 0, 0)
			itemStart := len(b)
			var err error
			if b, err = item.appendElements(b, as, item.elems, fmt.Sprintf("%s%s[%d].", path, e.Tag, n+1)); err != nil {
				return nil, err
			}
			if err := putLength(b, itemStart, path, e.Tag); err != nil {
				return nil, err
			}
		}
		if err := putLength(b, start, path, e.Tag); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// putLength fills in the 4-byte length before start.
func putLength(b []byte, start int, path string, t Tag) error {
	n := len(b) - start
	if n > 0xFFFFFFFE {
		return &Error{Path: path + t.String(), Offset: -1, Err: unsupported("%d bytes are too many for a sequence", n)}
	}
	binary.LittleEndian.PutUint32(b[start-4:], uint32(n))
	return nil
}

func appendTag(b []byte, t Tag) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(t>>16))
	return binary.LittleEndian.AppendUint16(b, uint16(t))
}

// appendHeader writes tag, VR and length as PS3.5 7.1.2 lays them out, or tag and length as 7.1.3 does.
func (as coding) appendHeader(b []byte, t Tag, vr VR, length int) []byte {
	b = appendTag(b, t)
	if !as.explicit {
		return binary.LittleEndian.AppendUint32(b, uint32(length))
	}
	b = append(b, byte(vr>>8), byte(vr))
	if vrs[vr].long {
		b = append(b, 0, 0)
		return binary.LittleEndian.AppendUint32(b, uint32(length))
	}
	return binary.LittleEndian.AppendUint16(b, uint16(length))
}

// appendElement writes an element, padded to an even length: PS3.5 7.1.1. What is too long for the short header, as Contour Data
// may be, goes as UN: PS3.5 6.2.2.
func (as coding) appendElement(b []byte, t Tag, vr VR, value []byte) []byte {
	odd, written := len(value)&1, vr
	if len(value) > 0xFFFE && !vrs[vr].long {
		written = UN
	}
	b = as.appendHeader(b, t, written, len(value)+odd)
	b = append(b, value...)
	if odd == 1 {
		b = append(b, vrs[vr].pad)
	}
	return b
}

// checkText says what PS3.5 Table 6.2-1 has against a value. Empty is always allowed.
func checkText(vr VR, v string) error {
	info := vrs[vr]
	if !utf8.ValidString(v) {
		return malformed("text is not UTF-8")
	}
	for _, r := range v {
		switch {
		case r == '\\' && !info.single:
			return malformed("a backslash separates values and cannot be part of one: take it out")
		case r == '\n' || r == '\r' || r == '\t' || r == '\f':
			if !info.charset || !info.single {
				return malformed("%s allows no line breaks and tabs: take them out", vr)
			}
		case r < ' ' || r >= 0x7F && r < 0xA0: // PS3.5 6.1.3
			return malformed("control character U+%04X", r)
		case r > '~' && !info.charset:
			return malformed("%s allows ASCII only", vr)
		}
	}
	if info.max > 0 {
		for group := range strings.SplitSeq(v, "=") {
			if vr != PN {
				group = v
			}
			if n := utf8.RuneCountInString(group); n > info.max {
				return malformed("%d characters, and %s allows %d: shorten it", n, vr, info.max)
			}
		}
	}
	allowed := func(set string) error {
		if i := strings.IndexFunc(v, func(r rune) bool { return !strings.ContainsRune(set, r) }); i >= 0 {
			return malformed("%s does not allow %q", vr, v[i])
		}
		return nil
	}
	const digits = "0123456789"
	switch vr {
	case CS:
		return allowed("ABCDEFGHIJKLMNOPQRSTUVWXYZ _" + digits)
	case DA:
		return allowed(digits)
	case TM:
		return allowed(digits + ".")
	case DT:
		return allowed(digits + ".+-")
	case AS:
		return allowed(digits + "DWMY")
	case IS:
		return allowed(digits + "+-")
	case DS:
		return allowed(digits + "+-.eE")
	case UI:
		if v != "" && !AcceptableUID(v) {
			return malformed("%q is no UID", v) // PS3.5 9.1, leading zeros forgiven: a report must name the image as it is
		}
	}
	return nil
}
