package sr

import "strings"

func dcm(value, meaning string) Code { return Code{value, "DCM", meaning} }
func sct(value, meaning string) Code { return Code{value, "SCT", meaning} }

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
	english             = Code{"en-US", "RFC5646", "English (United States)"}
	equivalentMeaning   = dcm("121050", "Equivalent Meaning of Concept Name")
	finding             = dcm("121071", "Finding")
	findingCategory     = sct("276214006", "Finding category")
	findingSite         = sct("363698007", "Finding Site")
	frameOfReferenceUID = dcm("112227", "Frame of Reference UID")
	imageLibrary        = dcm("111028", "Image Library")
	imageLibraryGroup   = dcm("126200", "Image Library Group")
	imagingMeasurements = dcm("126010", "Imaging Measurements")
	languageOfContent   = dcm("121049", "Language of Content Item and Descendants")
	laterality          = sct("272741003", "Laterality")
	measurementGroup    = dcm("125007", "Measurement Group")
	measurementMethod   = sct("370129005", "Measurement Method")
	modality            = dcm("121139", "Modality")
	observerType        = dcm("121005", "Observer Type")
	procedureReported   = dcm("121058", "Procedure reported")
	processingEquipment = dcm("109102", "Processing Equipment")
	qualitativeEvals    = Code{"C0034375", "UMLS", "Qualitative Evaluations"}
	referencedSegment   = dcm("121191", "Referenced Segment")
	sourceSeries        = dcm("121232", "Source series for segmentation")
	summary             = dcm("121111", "Summary")
	trackingIdentifier  = dcm("112039", "Tracking Identifier")
	trackingUID         = dcm("112040", "Tracking Unique Identifier")
)

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

// units are the UCUM codes that have a meaning of their own in PS3.16 CID 82 and
// CID 7181, and the units that IBSI features make of them.
var units = map[string]string{
	"1":                      "no units",
	"%":                      "Percent",
	"mm":                     "mm",
	"mm2":                    "square millimeter",
	"mm3":                    "cubic millimeter",
	"/mm":                    "per millimeter",
	"cm3":                    "cubic centimeter",
	"s":                      "second",
	"[hnsf'U]":               "Hounsfield unit",
	"[hnsf'U]2":              "square Hounsfield unit",
	"[hnsf'U].mm3":           "Hounsfield unit times cubic millimeter",
	"[arb'U]":                "arbitrary unit",
	"Bq/ml":                  "Becquerels/milliliter",
	"g/ml{SUVbw}":            "Standardized Uptake Value body weight",
	"g/ml{SUVlbm(Janma)}":    "Standardized Uptake Value lean body mass (Janma)",
	"g/ml{SUVlbm(James128)}": "Standardized Uptake Value lean body mass (James 128 multiplier)",
	"cm2/ml{SUVbsa}":         "Standardized Uptake Value body surface area",
	"g/ml{SUVibw}":           "Standardized Uptake Value ideal body weight",
	"[arb'U]2":               "square arbitrary unit",
	"[arb'U].mm3":            "arbitrary unit times cubic millimeter",
	"(Bq/ml)2":               "square Becquerels/milliliter",
	"Bq/ml.mm3":              "Becquerels/milliliter times cubic millimeter",
	"(g/ml{SUVbw})2":         "square Standardized Uptake Value body weight",
	"g/ml{SUVbw}.mm3":        "Standardized Uptake Value body weight times cubic millimeter",
}

// Unit gives the coded unit of a UCUM symbol. The empty symbol is the unit 1 and
// HU stands for [hnsf'U]; a symbol that is not in the table is its own meaning.
func Unit(ucum string) Code {
	switch ucum {
	case "":
		ucum = "1"
	case "HU":
		ucum = "[hnsf'U]"
	}
	meaning, ok := units[ucum]
	if !ok {
		meaning = ucum
	}
	return Code{ucum, "UCUM", meaning}
}

// UnitFor gives the unit of an IBSI feature of an image whose intensities are in
// the given unit (UCUM, or HU).
func UnitFor(ibsi, intensity string) (Code, bool) {
	f, ok := concepts[ibsi]
	if !ok {
		return Code{}, false
	}
	u := Unit(intensity)
	one := u.Value == "1"
	switch f.unit {
	case "U":
		return u, true
	case "U2":
		if one {
			return u, true
		}
		// UCUM: an exponent belongs to the last unit, and a digit is one already.
		if strings.ContainsAny(u.Value, "/.{*^") || strings.ContainsAny(u.Value[len(u.Value)-1:], "0123456789") {
			return Unit("(" + u.Value + ")2"), true
		}
		return Unit(u.Value + "2"), true
	case "U.mm3":
		if one {
			return Unit("mm3"), true
		}
		return Unit(u.Value + ".mm3"), true
	}
	return Unit(f.unit), true
}
