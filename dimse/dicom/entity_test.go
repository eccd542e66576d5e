package dicom

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestCopyEntities(t *testing.T) {
	source := New()
	for _, tag := range EntityAttributes() {
		switch vr := tag.VR(); {
		case vr == SQ:
			item := New()
			item.SetString(PatientComments, tag.Keyword())
			source.SetSeq(tag, item)
		case tag == TimezoneOffsetFromUTC:
			source.SetString(tag, "+0200")
		case vr == US || vr == FD:
			source.SetBytes(tag, vr, bytes.Repeat([]byte{1}, map[VR]int{US: 2, FD: 8}[vr]))
		default: // whatever it is, also where the representation does not allow it
			source.SetBytes(tag, vr, []byte(strings.Repeat(tag.Keyword()+" ", 2)))
		}
	}
	source.SetString(StudyID, "123456789012345678")
	source.SetString(SeriesDescription, "not of the study")
	source.SetString(PatientIdentityRemoved, "YES")
	d := New()
	d.SetString(PatientName, "somebody else")
	d.CopyEntities(source)
	for _, tag := range EntityAttributes() {
		switch {
		case tag == StudyID:
			if !d.Has(tag) || d.String(tag) != "" {
				t.Errorf("a Study ID of 18 characters became %q", d.String(tag))
			}
		case !bytes.Equal(d.Bytes(tag), source.Bytes(tag)) || len(d.Seq(tag)) != len(source.Seq(tag)):
			t.Errorf("%s %s is not as in the source", tag, tag.Keyword())
		}
		if tag.Keyword() == "" {
			t.Errorf("%s is no attribute of PS3.6", tag)
		}
	}
	if d.Len() != len(EntityAttributes()) {
		t.Errorf("%d attributes, want %d", d.Len(), len(EntityAttributes()))
	}
	source.SetString(StudyID, "1234567890123456")
	source.SetString(DeidentificationMethod, "by hand")
	if d.CopyEntities(source); d.String(StudyID) != "1234567890123456" || d.String(PatientIdentityRemoved) != "YES" {
		t.Error("a Study ID that fits, or the words about de-identification, are lost")
	}
	// The list has no attribute twice, and nothing of the images but patient and study.
	sorted := slices.Sorted(slices.Values(EntityAttributes()))
	if len(slices.Compact(sorted)) != len(EntityAttributes()) {
		t.Error("an attribute is listed twice")
	}
	empty := New()
	empty.CopyEntities(New())
	if empty.Len() != len(requiredOfEntities) {
		t.Errorf("%d attributes of an empty source, want those of type 2", empty.Len())
	}
}
