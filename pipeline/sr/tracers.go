package sr

import "strings"

// present gives the code that a report may have for what a header says of a tracer: one of SNOMED CT for the retired codes of
// older scanners (SRT, once SNM3 and 99SDM: PS3.16 section 8). Retired codes that the group does not have, and private ones,
// are not for others to read.
func (c Code) present(group map[string]Code) (Code, bool) {
	switch scheme := strings.ToUpper(c.Scheme); {
	case scheme == "SRT" || scheme == "SNM3" || scheme == "99SDM":
		now, ok := group[c.Value]
		return now, ok
	case strings.HasPrefix(scheme, "99"):
		return Code{}, false
	}
	for _, known := range group {
		if known.is(c) {
			return known, true
		}
	}
	c.shortenMeaning()
	return c, c.check() == nil
}

// radionuclides is PS3.16 CID 4020, PET Radionuclide, by the retired codes.
var radionuclides = map[string]Code{
	"C-1018C": sct("424875009", "^14^Oxygen"),
	"C-105A1": sct("40565003", "^11^Carbon"),
	"C-107A1": sct("21576001", "^13^Nitrogen"),
	"C-111A1": sct("77004003", "^18^Fluorine"),
	"C-113A1": sct("17910003", "^75^Bromine"),
	"C-113A2": sct("79523006", "^76^Bromine"),
	"C-113A3": sct("86521004", "^77^Bromine"),
	"C-114A5": sct("40937006", "^124^Iodine"),
	"C-115A2": sct("2705002", "^72^Arsenic"),
	"C-116A2": sct("87437000", "^73^Selenium"),
	"C-127A1": sct("71425003", "^61^Copper"),
	"C-127A2": sct("3932008", "^64^Copper"),
	"C-127A4": sct("425364008", "^60^Copper"),
	"C-127A5": sct("422934004", "^62^Copper"),
	"C-128A2": sct("53315004", "^68^Germanium"),
	"C-130A1": sct("69089000", "^52^Iron"),
	"C-131A1": sct("79477007", "^66^Gallium"),
	"C-131A3": sct("35337001", "^68^Gallium"),
	"C-135A4": sct("423764008", "^38^Potassium"),
	"C-141A1": sct("65054007", "^62^Zinc"),
	"C-149A1": sct("37225000", "^52^Manganese"),
	"C-155A1": sct("71633006", "^22^Sodium"),
	"C-159A2": sct("79197006", "^82^Rubidium"),
	"C-162A3": sct("10738001", "^86^Yttrium"),
	"C-162A7": sct("14691008", "^90^Yttrium"),
	"C-163AA": sct("424079002", "^94m^Technetium"),
	"C-166A2": sct("75696008", "^45^Titanium"),
	"C-168A4": sct("63360001", "^89^Zirconium"),
	"C-B1038": sct("129504001", "^15^Oxygen"),
}

// radiopharmaceuticals is PS3.16 CID 4021, PET Radiopharmaceutical, by the retired codes.
var radiopharmaceuticals = map[string]Code{
	"C-B07DB": sct("422855001", "ATSM Cu^64^"),
	"C-B07DC": sct("422540000", "Butanol O^15^"),
	"C-B07DD": sct("423498000", "EDTA Ga^68^"),
	"C-B07DE": sct("423543007", "Flumazenil C^11^"),
	"C-B07DF": sct("422975006", "Flumazenil F^18^"),
	"C-B07E0": sct("424708001", "Fluorethyltyrosin F^18^"),
	"C-B07E1": sct("422598008", "Fluoromisonidazole F^18^"),
	"C-B07E2": sct("422763008", "Fluoromethane F^18^"),
	"C-B07E3": sct("425236000", "Fluorouracil F^18^"),
	"C-B07E4": sct("423546004", "Fluorobenzothiazole F^18^"),
	"C-B07E5": sct("424789007", "Mespiperone C^11^"),
	"C-B07E7": sct("422789008", "PTSM Cu^62^"),
	"C-B07E8": sct("422980002", "Sodium iodide I^124^"),
	"C-B1031": sct("35321007", "Fluorodeoxyglucose F^18^"),
	"C-B1032": sct("129501009", "Sodium fluoride F^18^"),
	"C-B1033": sct("129499001", "Spiperone F^18^"),
	"C-B1036": sct("129502002", "Thymidine F^18^"),
	"C-B1037": sct("129503007", "Rubidium chloride Rb^82^"),
	"C-B1038": sct("129504001", "Oxygen O^15^"),
	"C-B1039": sct("129505000", "Oxygen-water O^15^"),
	"C-B103A": sct("129506004", "Carbon monoxide O^15^"),
	"C-B103B": sct("129507008", "Carbon dioxide O^15^"),
	"C-B103C": sct("129508003", "Ammonia N^13^"),
	"C-B103D": sct("129509006", "Glutamate N^13^"),
	"C-B103E": sct("129510001", "Methionine C^11^"),
	"C-B103F": sct("129511002", "Carfentanil C^11^"),
	"C-B1042": sct("129512009", "Raclopride C^11^"),
	"C-B1043": sct("129513004", "Acetate C^11^"),
	"C-B1044": sct("129514005", "Palmitate C^11^"),
	"C-B1045": sct("129515006", "Carbon monoxide C^11^"),
	"C-E0265": sct("456999006", "Fluciclatide F^18^"),
	"C-E0267": sct("456997008", "Flutemetamol F^18^"),
	"C-E0269": sct("456995000", "Florbetapir F^18^"),
	"C-E026A": sct("457000009", "Fluciclovine F^18^"),
	"C-E0273": sct("456992002", "Fluorocholine F^18^"),
	"Y-X1743": sct("35321007", "Fluorodeoxyglucose F^18^"), // of the edition of 1998
}
