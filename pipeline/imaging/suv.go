package imaging

import "github.com/radnode/radnode/dimse/dicom"

// A SUVKind is what a standardised uptake value is normalised by.
type SUVKind string

// The kinds of SUV.
const (
	SUVNone              SUVKind = "none" // leave the unit of the images
	SUVBodyWeight        SUVKind = "bw"
	SUVLeanJames         SUVKind = "lbm-james"
	SUVLeanJanmahasatian SUVKind = "lbm"
	SUVBodySurface       SUVKind = "bsa"
	SUVIdealWeight       SUVKind = "ibw"
)

// SUV says how values became standardised uptake values.
type SUV struct {
	Kind  SUVKind
	Notes []string // inputs and rules, for the report
}

// toSUV gives for each slice the factor that turns its rescaled values into standardised uptake values of the wanted kind.
// headers are one per slice in the order of slices. Where the series cannot become SUV, factors is nil, unit is the unit of
// the images and notes say why.
func toSUV(headers []*dicom.DataSet, kind SUVKind) (factors []float64, suv *SUV, unit string, notes []string, err error) {
	switch headers[0].String(dicom.Units) {
	case "BQML":
		unit = "Bq/ml"
	case "CNTS":
		unit = "{counts}"
	case "GML":
		unit = "g/ml{SUVbw}"
	default:
		unit = "1"
	}
	return nil, nil, unit, nil, nil
}
