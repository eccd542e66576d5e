package imaging

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
