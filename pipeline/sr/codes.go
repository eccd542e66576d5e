package sr

import "strings"

func dcm(value, meaning string) Code { return Code{value, "DCM", meaning} }

// Private is the scheme of what no other scheme has a code for.
const Private = "99RADNODE"

func private(value, meaning string) Code { return Code{value, Private, meaning} }
func sct(value, meaning string) Code     { return Code{value, "SCT", meaning} }

// Document titles, PS3.16 CID 7021. Viewers differ in what they do with them:
// OHIF takes an Imaging Measurement Report for one whose groups are drawn from
// coordinates, and shows any other title as text.
var (
	ImagingMeasurementReport  = dcm("126000", "Imaging Measurement Report")
	OncologyMeasurementReport = dcm("126001", "Oncology Measurement Report")
	DynamicMRReport           = dcm("126002", "Dynamic Contrast MR Measurement Report")
	PETMeasurementReport      = dcm("126003", "PET Measurement Report")
)

var titles = []Code{ImagingMeasurementReport, OncologyMeasurementReport, DynamicMRReport, PETMeasurementReport}

// The concepts of the templates, with the meanings of PS3.16 Annex D to the
// letter: some readers look for the meaning instead of the code.
var (
	algorithmName       = dcm("111001", "Algorithm Name")
	algorithmParameters = dcm("111002", "Algorithm Parameters")
	algorithmVersion    = dcm("111003", "Algorithm Version")
	comment             = dcm("121106", "Comment")
	device              = dcm("121007", "Device")
	deviceManufacturer  = dcm("121014", "Device Observer Manufacturer")
	deviceModelName     = dcm("121015", "Device Observer Model Name")
	deviceObserverName  = dcm("121013", "Device Observer Name")
	deviceObserverUID   = dcm("121012", "Device Observer UID")
	deviceSerialNumber  = dcm("121016", "Device Observer Serial Number")
	equivalentMeaning   = dcm("121050", "Equivalent Meaning of Concept Name")
	finding             = dcm("121071", "Finding")
	findingCategory     = sct("276214006", "Finding category")
	findingSite         = sct("363698007", "Finding Site")
	imageLibrary        = dcm("111028", "Image Library")
	imageLibraryGroup   = dcm("126200", "Image Library Group")
	imagingMeasurements = dcm("126010", "Imaging Measurements")
	languageOfContent   = dcm("121049", "Language of Content Item and Descendants")
	laterality          = sct("272741003", "Laterality")
	measurementGroup    = dcm("125007", "Measurement Group")
	measurementMethod   = sct("370129005", "Measurement Method")
	measurementFailure  = dcm("114006", "Measurement failure")
	observerType        = dcm("121005", "Observer Type")
	procedureReported   = dcm("121058", "Procedure reported")
	outcome             = private("outcome", "Outcome of measurement")
	processingEquipment = dcm("109102", "Processing Equipment")
	qualitativeEvals    = Code{"C0034375", "UMLS", "Qualitative Evaluations"}
	referencedSegment   = dcm("121191", "Referenced Segment")
	sourceOfMeasurement = dcm("121112", "Source of Measurement")
	sourceSeries        = dcm("121232", "Source series for segmentation")
	summary             = dcm("121111", "Summary")
	trackingIdentifier  = dcm("112039", "Tracking Identifier")
	trackingUID         = dcm("112040", "Tracking Unique Identifier")
)

// languages are those of the text, PS3.16 CID 5000.
var languages = map[string]Code{
	"en": {"en-US", "RFC5646", "English (United States)"},
	"it": {"it-IT", "RFC5646", "Italian (Italy)"},
}

// Quantities of PS3.16 that are no features of the IBSI: CID 7464 and CID 7466.
var (
	StandardDeviation     = sct("386136009", "Standard Deviation")
	MetabolicVolume       = dcm("126032", "Metabolic Volume")
	TotalLesionGlycolysis = dcm("126033", "Total Lesion Glycolysis")
)

// suvMethods are how PS3.16 calls the ways to a standardised uptake value, by the unit of CID 85 that they lead to.
var suvMethods = map[string]Code{
	"g/ml{SUVbw}":            dcm("126410", "SUV body weight calculation method"),
	"g/ml{SUVlbm}":           dcm("126411", "SUV lean body mass calculation method"),
	"cm2/ml{SUVbsa}":         dcm("126412", "SUV body surface area calculation method"),
	"g/ml{SUVibw}":           dcm("126413", "SUV ideal body weight calculation method"),
	"g/ml{SUVlbm(Janma)}":    dcm("126414", "SUV lean body mass calculation Janmahasatian method"),
	"g/ml{SUVlbm(James128)}": dcm("126415", "SUV lean body mass calculation method using 128 multiplier"),
}

// SUVMethod is the Measurement Method of values in a unit of standardised uptake; false for other units.
func SUVMethod(ucum string) (Code, bool) {
	c, ok := suvMethods[Unit(ucum).Value]
	return c, ok
}

// ImageModality tells whether a Modality (0008,0060) is one of images.
func ImageModality(m string) bool { return modalities[m] != "" }

// modalities is what an Image Library may say of an image, PS3.16 CID 29.
var modalities = map[string]string{
	"CR": "Computed Radiography",
	"CT": "Computed Tomography",
	"DX": "Digital Radiography",
	"MG": "Mammography",
	"MR": "Magnetic Resonance",
	"NM": "Nuclear Medicine",
	"PT": "Positron emission tomography",
	"US": "Ultrasound",
	"XA": "X-Ray Angiography",
}

// units are the units of images, of what is measured in them, and of what describes them, in UCUM. The meanings are those of
// PS3.16 CID 82, 84, 85, 301 and 7181 where these have the unit. square is the unit's square, where images come in the unit:
// a power of a term in parentheses is no UCUM since its revision 1.9.
var units = map[string]struct{ meaning, square string }{
	"1":   {"no units", ""},
	"%":   {"Percent", "%2"},
	"mm":  {"mm", ""},
	"mm2": {"square millimeter", ""},
	"mm3": {"cubic millimeter", ""},
	"/mm": {"per millimeter", ""},
	"cm":  {"cm", ""},
	"cm2": {"Centimeter**2", "cm4"},
	"cm3": {"cubic centimeter", ""},
	"ml":  {"milliliter", ""},
	"g":   {"gram", ""},
	"kg":  {"kilogram", ""},
	"s":   {"second", ""},
	"Bq":  {"becquerel", ""},

	"{pixels}": {"pixels", ""},

	// CT and what is made of it.
	"[hnsf'U]": {"Hounsfield unit", "[hnsf'U]2"},
	"mg/ml":    {"mg/ml", "mg2/ml2"},
	"10*23/ml": {"Electron Density", "10*46/ml2"},
	"10*-3":    {"thousandth", "10*-6"},
	"[arb'U]":  {"arbitrary unit", "[arb'U]2"},

	// PET and NM.
	"g/ml{SUVbw}":            {"Standardized Uptake Value body weight", "g2/ml2{SUVbw}"},
	"g/ml{SUVlbm}":           {"Standardized Uptake Value lean body mass (James)", "g2/ml2{SUVlbm}"},
	"g/ml{SUVlbm(James128)}": {"Standardized Uptake Value lean body mass (James 128 multiplier)", "g2/ml2{SUVlbm(James128)}"},
	"g/ml{SUVlbm(Janma)}":    {"Standardized Uptake Value lean body mass (Janma)", "g2/ml2{SUVlbm(Janma)}"},
	"cm2/ml{SUVbsa}":         {"Standardized Uptake Value body surface area", "cm4/ml2{SUVbsa}"},
	"g/ml{SUVibw}":           {"Standardized Uptake Value ideal body weight", "g2/ml2{SUVibw}"},
	"Bq/ml":                  {"Becquerels/milliliter", "Bq2/ml2"},
	"{counts}":               {"Counts", "{counts}.{counts}"},
	"{counts}/s":             {"Counts per second", "{counts}.{counts}/s2"},
	"{propcounts}":           {"Proportional to counts", "{propcounts}.{propcounts}"},
	"{propcounts}/s":         {"Proportional to counts per second", "{propcounts}.{propcounts}/s2"},
	"{stddev}":               {"Standard deviations", "{stddev}.{stddev}"},
	"/cm":                    {"/Centimeter", "/cm2"},
	"g/ml":                   {"Gram/milliliter", "g2/ml2"},
	"cm2/ml":                 {"Centimeter**2/milliliter", "cm4/ml2"},
	"ml/g":                   {"Milliliter/gram", "ml2/g2"},
	"ml/ml":                  {"Milliliter/milliliter", "ml2/ml2"},
	"ml/min/g":               {"Milliliter/minute/gram", "ml2/min2/g2"},
	"ml/min/ml":              {"Milliliter/minute/milliliter", "ml2/min2/ml2"},
	"mg/min/ml":              {"Milligrams/minute/milliliter", "mg2/min2/ml2"},
	"umol/ml":                {"Micromole/milliliter", "umol2/ml2"},
	"umol/min/ml":            {"Micromole/minute/milliliter", "umol2/min2/ml2"},
}

// spelled are other ways to write a unit of the table: HU, and PS3.16 CID 85 before 2016.
var spelled = map[string]string{
	"": "1", "HU": "[hnsf'U]",
	"{SUVbw}g/ml": "g/ml{SUVbw}", "{SUVlbm}g/ml": "g/ml{SUVlbm}", "{SUVibw}g/ml": "g/ml{SUVibw}", "{SUVbsa}cm2/ml": "cm2/ml{SUVbsa}",
}

// Unit gives the coded unit of a UCUM symbol. The empty symbol is the unit 1 and HU stands for [hnsf'U]; a symbol that is not
// in the table is its own meaning.
func Unit(ucum string) Code {
	if s, ok := spelled[ucum]; ok {
		ucum = s
	}
	u := units[ucum]
	if u.meaning == "" {
		u.meaning = ucum
	}
	return Code{ucum, "UCUM", u.meaning}
}

// UnitFor gives the unit of an IBSI feature of an image whose intensities are in the given unit (UCUM, or HU).
func UnitFor(ibsi, intensity string) (Code, bool) {
	f, ok := concepts[ibsi]
	if !ok {
		return Code{}, false
	}
	u := Unit(intensity)
	// SUV is short enough for a Code Meaning of 64 characters, with what is said of it here.
	short := strings.Replace(u.Meaning, "Standardized Uptake Value", "SUV", 1)
	switch f.unit {
	case "U":
		return u, true
	case "U2":
		if u.Value == "1" {
			return u, true
		}
		square := units[u.Value].square
		if square == "" {
			square = product(u.Value, u.Value)
		}
		return Code{square, "UCUM", "square " + short}, true
	case "U.mm3":
		if u.Value == "1" {
			return Unit("mm3"), true
		}
		return Code{product(u.Value, "mm3"), "UCUM", short + " times cubic millimeter"}, true
	}
	return Unit(f.unit), true
}

// product is a unit times another. UCUM reads from left to right: a/b.c is (a/b)·c.
func product(a, b string) string {
	if strings.HasPrefix(b, "/") {
		return a + b
	}
	return a + "." + b
}
