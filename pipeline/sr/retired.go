package sr

import "strings"

// same says whether two codes are one concept, a retired code standing for the
// one that took its place.
func (c Code) same(o Code) bool { return c.is(o) || c.canonical().is(o.canonical()) }

// canonical gives the present code of a retired one, and any other as it is. SNM3
// and 99SDM are older names of the scheme SRT, PS3.16 section 8.
func (c Code) canonical() Code {
	scheme := c.Scheme
	switch strings.ToUpper(scheme) {
	case "SNM3", "99SDM":
		scheme = "SRT"
	case "NCIT":
		scheme = "NCIt"
	}
	switch now := retired[scheme][c.Value]; {
	case now == "":
		return Code{c.Value, scheme, c.Meaning}
	case scheme == "SRT":
		return Code{now, "SCT", c.Meaning}
	default:
		return Code{now, IBSI, c.Meaning}
	}
}

// retired is, by scheme, what reports written before 2020 have for the concepts
// of the templates and for the quantities that are measured most.
var retired = map[string]map[string]string{
	// SNOMED's former codes, PS3.16 Annex O.
	"SRT": {
		"G-C0E3":  "363698007", // Finding Site
		"G-C171":  "272741003", // Laterality
		"G-A1F8":  "106233006", // Topographical modifier
		"G-C036":  "370129005", // Measurement Method
		"R-427CE": "276214006", // Finding category

		// Derivations, CID 7464.
		"R-00317": "373098007", // Mean
		"R-00319": "373099004", // Median
		"R-404FB": "255605001", // Minimum
		"G-A437":  "56851009",  // Maximum
		"R-0032E": "373100007", // Mode
		"R-10047": "386136009", // Standard Deviation
		"R-40507": "255619001", // Total

		// Quantities.
		"G-D705":  "118565006", // Volume
		"G-A166":  "42798000",  // Area
		"G-A16A":  "131184002", // Area of defined region
		"G-D7FE":  "410668003", // Length
		"M-02550": "81827009",  // Diameter
		"G-A185":  "103339001", // Long Axis
		"G-A186":  "103340004", // Short Axis
		"G-D785":  "131197000", // Depth
		"G-A193":  "131187009", // Major Axis
		"G-A196":  "131190003", // Radius

		// Lateralities, CID 244.
		"G-A100": "24028007", // Right
		"G-A101": "7771000",  // Left
		"G-A102": "51440002", // Right and left
		"G-A103": "66459002", // Unilateral
	},
	// Texture before the codes of the IBSI, CP-1764.
	"DCM": {
		"128781": "GYBY", "128782": "60VM", "128783": "UR99", "126060": "TU9B", "128784": "TF7R", "128785": "D3YU",
		"128786": "NTRS", "128787": "ZGXS", "128788": "OEEB", "128789": "P6QZ", "126065": "8ZQL", "126063": "ACUI",
		"126064": "8S9J", "128790": "IB1Z", "128791": "NDRX", "126062": "WF0Z", "128792": "1QCO", "128793": "E8JP",
		"126066": "NI2N", "128794": "QWB0", "128795": "DG8W", "128796": "7NFM", "128797": "AE86", "128798": "R8DG",
		"128799": "JN9H", "128801": "22OV", "128802": "W4KF", "128803": "V3SW", "128804": "G3QZ", "128805": "HTZT",
		"128806": "GD3A", "128807": "IVPO", "128808": "3KUM", "128809": "R5YN", "128810": "OVBL", "128811": "W92Y",
		"128812": "IC23", "128813": "9ZK5", "128814": "8CE5", "128815": "SXLW", "128816": "HJ9O", "128821": "5QRC",
		"128822": "48P8", "128823": "XMSY", "128824": "5GN9", "128825": "5RAI", "128826": "HW1V", "128827": "YH51",
		"128828": "J17V", "128829": "JNSA", "128830": "Y1RO", "128831": "4JP3", "128832": "VB3A", "128833": "P30P",
		"128834": "BYLV", "128835": "3NSA", "128836": "GU8N",
	},
}

// annotationLast writes a UCUM unit in the way of CID 7181 where others put the
// annotation first, as {SUVbw}g/ml.
func (c Code) annotationLast() Code {
	if c.Scheme != "UCUM" || !strings.HasPrefix(c.Value, "{") {
		return c
	}
	if annotation, unit, ok := strings.Cut(c.Value, "}"); ok && unit != "" && unit[0] != '/' && unit[0] != '.' {
		c.Value = unit + annotation + "}"
	}
	return c
}

// canonicalUnit is equal for two spellings of one UCUM unit: a cubic centimetre is a millilitre.
func (c Code) canonicalUnit() Code {
	c = c.annotationLast()
	if c.Scheme == "UCUM" && (c.Value == "cm3" || c.Value == "mL") {
		c.Value = "ml"
	}
	return c
}

func (c Code) sameUnit(o Code) bool { return c.canonicalUnit().same(o.canonicalUnit()) }
