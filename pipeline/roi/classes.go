package roi

import "github.com/radnode/radnode/dimse/dicom"

// HoldsRegions tells whether objects of a SOP class hold regions to measure.
func HoldsRegions(class string) bool {
	switch class {
	case dicom.RTStructureSetStorage, dicom.SegmentationStorage, dicom.LabelMapSegmentationStorage:
		return true
	}
	return false
}
