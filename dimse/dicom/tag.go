package dicom

import (
	"fmt"
	"slices"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// A Tag names a data element: group<<16 | element.
type Tag uint32

const (
	itemTag         Tag = 0xFFFEE000
	itemDelimTag    Tag = 0xFFFEE00D
	sequenceEndTag  Tag = 0xFFFEE0DD
	undefinedLength     = 0xFFFFFFFF
)

// String returns the tag as the standard prints it: "(0008,0018)".
func (t Tag) String() string { return fmt.Sprintf("(%04X,%04X)", uint32(t)>>16, uint32(t)&0xFFFF) }

// Group returns the group number.
func (t Tag) Group() uint16 { return uint16(t >> 16) }

// Private reports whether the group is odd: PS3.5 7.8.
func (t Tag) Private() bool { return t>>16&1 == 1 }

// Keyword returns the name of PS3.6, "PatientID", or "" where the standard has none.
func (t Tag) Keyword() string {
	info, ok := lookup(t)
	if !ok {
		return ""
	}
	return info.Keyword
}

// name is the tag with its keyword, for errors.
func (t Tag) name() string {
	if k := t.Keyword(); k != "" {
		return t.String() + " " + k
	}
	return t.String()
}

// VR returns the representation that PS3.6 gives to the attribute, the first one where it allows several;
// LO for a private creator, UL for a group length and UN for what the dictionary does not know.
func (t Tag) VR() VR {
	switch e := t & 0xFFFF; {
	case e == 0:
		return UL // PS3.5 7.2
	case t.Private() && e >= 0x10 && e <= 0xFF:
		return LO // PS3.5 7.8.1
	}
	if info, ok := lookup(t); ok {
		return parseVR(info.VRs[0])
	}
	return UN
}

// allows reports whether PS3.6 lets the attribute have this representation.
func (t Tag) allows(v VR) bool {
	info, ok := lookup(t)
	return ok && slices.Contains(info.VRs, v.String())
}

// newer are attributes of PS3.6 that the dictionary of suyashkumar/dicom lacks.
var newer = map[Tag]tag.Info{
	0x00102161: {VRs: []string{"SQ"}, Keyword: "EthnicGroupCodeSequence"},
	0x300A0054: {VRs: []string{"UI"}, Keyword: "TableTopPositionAlignmentUID"},
	0x300A079F: {VRs: []string{"SQ"}, Keyword: "PatientTreatmentPreparationSequence"},
	0x300A07A0: {VRs: []string{"SQ"}, Keyword: "PatientToEquipmentRelationshipSequence"},
	0x300A07A1: {VRs: []string{"SQ"}, Keyword: "ImagingEquipmentToTreatmentDeliveryDeviceRelationshipSequence"},
}

// lookup finds the attribute in PS3.6; curves (50xx) and overlays (60xx) by their first group: PS3.5 7.6.
func lookup(t Tag) (tag.Info, bool) {
	if t.Private() || t&0xFFFF == 0 {
		return tag.Info{}, false
	}
	if g := t >> 24; g == 0x50 || g == 0x60 {
		t &^= 0x00FF0000
	}
	if info, ok := newer[t]; ok {
		return info, true
	}
	info, err := tag.Find(tag.Tag{Group: uint16(t >> 16), Element: uint16(t)})
	return info, err == nil && len(info.VRs) > 0
}
