package dicom

import (
	"bufio"
	"compress/flate"
	"errors"
	"io"
)

// Identity is what the index of a store needs to know of an object.
type Identity struct {
	SOPClassUID, SOPInstanceUID, StudyInstanceUID, SeriesInstanceUID, PatientID, Modality string
}

// maxIdentityValue is far more than UI and LO may have.
const maxIdentityValue = 4096

// ReadIdentity reads the beginning of a bare data set, as far as Series Instance UID (0020,000E), and never holds more than
// one value of it: an object of any size costs what its header costs. UIDs that are missing or no UIDs are errors.
func ReadIdentity(r io.Reader, transferSyntax string) (Identity, error) {
	ts := layout(transferSyntax)
	if ts.Deflated {
		in := bufio.NewReaderSize(r, 4096)
		if head, _ := in.Peek(5); zlibHeader(head) {
			_, _ = in.Discard(2) // they are buffered
		}
		z := flate.NewReader(in)
		defer z.Close()
		r = io.LimitReader(z, maxInflated)
	}
	s := scanner{r: bufio.NewReaderSize(r, 4096)}
	return s.identity(coding{explicit: ts.ExplicitVR, bigEndian: ts.BigEndian})
}

// scanner goes forward through a stream that cannot be read twice and whose end nobody knows.
type scanner struct {
	r   *bufio.Reader
	pos int64
}

func (s *scanner) fail(t Tag, err error) error {
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = malformed("the data set ends here; it is truncated, send it again: %w", io.ErrUnexpectedEOF)
	}
	path := ""
	if t != 0 {
		path = t.String()
	}
	return &Error{Path: path, Offset: s.pos, Err: err}
}

func (s *scanner) identity(c coding) (Identity, error) {
	var id Identity
	var text *charset
	fields := map[Tag]*string{
		SOPClassUID:       &id.SOPClassUID,
		SOPInstanceUID:    &id.SOPInstanceUID,
		Modality:          &id.Modality,
		PatientID:         &id.PatientID,
		StudyInstanceUID:  &id.StudyInstanceUID,
		SeriesInstanceUID: &id.SeriesInstanceUID,
	}
	for first := true; ; first = false {
		b, err := s.r.Peek(8)
		if len(b) == 0 && errors.Is(err, io.EOF) && !first {
			break // what is missing is found below
		}
		if err != nil {
			return id, s.fail(0, err)
		}
		if first {
			c = sniff(b, c, 1<<31)
		}
		h, err := s.header(c)
		if err != nil {
			return id, err
		}
		if h.tag > SeriesInstanceUID {
			break
		}
		field, wanted := fields[h.tag]
		if !wanted && h.tag != SpecificCharacterSet {
			if err := s.skip(h, c, 0); err != nil {
				return id, err
			}
			continue
		}
		if h.length > maxIdentityValue {
			return id, s.fail(h.tag, malformed("claims %d bytes", h.length))
		}
		value := make([]byte, h.length)
		if _, err := io.ReadFull(s.r, value); err != nil {
			return id, s.fail(h.tag, err)
		}
		s.pos += int64(h.length)
		if h.tag == SpecificCharacterSet {
			text, _ = parseCharset(value)
			continue
		}
		if *field == "" { // the first one counts, as in ReadDataSet
			vr := h.tag.VR()
			value, _ = text.decode(vr, value)
			*field = (&Element{VR: vr, value: value}).first()
		}
	}
	for _, a := range []struct {
		tag   Tag
		value string
	}{
		{SOPClassUID, id.SOPClassUID},
		{SOPInstanceUID, id.SOPInstanceUID},
		{StudyInstanceUID, id.StudyInstanceUID},
		{SeriesInstanceUID, id.SeriesInstanceUID},
	} {
		switch {
		case a.value == "":
			return id, &Error{Path: a.tag.String(), Offset: s.pos, Err: malformed("is missing or empty")}
		case !AcceptableUID(a.value):
			return id, &Error{Path: a.tag.String(), Offset: s.pos, Err: malformed("is no UID")}
		}
	}
	return id, nil
}

// header reads the next header.
func (s *scanner) header(c coding) (header, error) {
	b, err := s.r.Peek(12)
	if err != nil && (len(b) < 8 || !errors.Is(err, io.EOF)) {
		return header{}, s.fail(0, err)
	}
	h, short, err := parseHeader(b, c)
	if short {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return h, s.fail(h.tag, err)
	}
	return h, s.discard(h.tag, h.size)
}

func (s *scanner) discard(t Tag, n int64) error {
	for n > 0 {
		step := int(min(n, 1<<20))
		done, err := s.r.Discard(step)
		s.pos += int64(done)
		if err != nil {
			return s.fail(t, err)
		}
		n -= int64(done)
	}
	return nil
}

// skip steps over the value behind h, however deep its end is hidden.
func (s *scanner) skip(h header, c coding, depth int) error {
	if h.length != undefinedLength {
		return s.discard(h.tag, int64(h.length))
	}
	if depth >= maxDepth {
		return s.fail(h.tag, unsupported("sequences are nested more than %d deep", maxDepth))
	}
	if h.vr == UN {
		c = implicitLE // PS3.5 6.2.2 Note 4
	}
	for { // items
		item, err := s.header(c)
		switch {
		case err != nil:
			return err
		case item.tag == sequenceEndTag:
			return nil
		case item.tag != itemTag:
			return s.fail(h.tag, malformed("%s where an item belongs", item.tag))
		case item.length != undefinedLength:
			if err := s.discard(h.tag, int64(item.length)); err != nil {
				return err
			}
			continue
		}
		inner := c
		for first := true; ; first = false { // elements of an item without a length
			if b, err := s.r.Peek(8); first && err == nil {
				inner = sniff(b, c, 1<<31)
			}
			e, err := s.header(inner)
			if err != nil {
				return err
			}
			if e.tag == itemDelimTag {
				break
			}
			if e.tag>>16 == 0xFFFE {
				return s.fail(h.tag, malformed("%s where an element belongs", e.tag))
			}
			if err := s.skip(e, inner, depth+1); err != nil {
				return err
			}
		}
	}
}
