package sr

import (
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
)

// What viewers and libraries that do not run here ask of a report, from their source and from opening reports in them
// (README.md says which versions). A report that is valid and fails one of these is stored and not seen.

// forViewers are reports of every title and class, and one with nothing but a summary.
func forViewers(t *testing.T) map[string]*dicom.DataSet {
	t.Helper()
	all := map[string]*dicom.DataSet{}
	for _, title := range titles {
		for _, class := range sopClasses {
			r := sample(t)
			r.Title, r.SOPClassUID = title, class
			all[title.Meaning+", "+dicom.UIDName(class)] = make1(t, r)
		}
	}
	r := sample(t)
	r.Groups = nil
	all["summary alone"] = make1(t, r)
	return all
}

// groupsOf gives the measurement groups of a report.
func groupsOf(root *item) (groups []*item) {
	root.walk(func(it *item) {
		if it.vt == container && it.name.is(measurementGroup) {
			groups = append(groups, it)
		}
	})
	return groups
}

// OHIF (3.12.10, 3.13.2) takes the concept name of every item apart when it shows a report as text, those of the images in
// an Image Library included: without one the whole page goes black. PS3.3 Table C.17-5 allows a reference to have one, as its
// purpose; PS3.16 TID 1601 asks for none.
func TestEveryItemHasAConceptName(t *testing.T) {
	for name, d := range forViewers(t) {
		var nameless []string
		tree(t, d).walk(func(it *item) {
			if it.name.Value == "" || it.name.Meaning == "" {
				nameless = append(nameless, string(it.vt))
			}
		})
		if len(nameless) > 0 {
			t.Errorf("%s: %d items have no concept name: %v", name, len(nameless), nameless)
		}
	}
}

// OHIF takes the first UIDREF of a group for its Tracking Unique Identifier and merges groups in which it is equal;
// 3D Slicer and highdicom look a lesion up by it. OHIF and dcmjs fail on a group without Tracking Identifier.
func TestTrackingUIDIsTheFirstUID(t *testing.T) {
	for name, d := range forViewers(t) {
		for i, g := range groupsOf(tree(t, d)) {
			first := slices.IndexFunc(g.children, func(c *item) bool { return c.vt == uidRef })
			if first < 0 || !g.children[first].name.is(trackingUID) || !dicom.ValidUID(g.children[first].text) {
				t.Errorf("%s: the first UIDREF of group %d is not the Tracking Unique Identifier", name, i)
			}
			if c := g.find(trackingIdentifier); c == nil || c.vt != text || c.text == "" {
				t.Errorf("%s: group %d has no Tracking Identifier", name, i)
			}
		}
	}
}

// 3D Slicer's QuantitativeReporting and the adapters of cornerstone look at Template Identifier of the root before anything
// else; dcmqi and highdicom take a group with 1411 for a volumetric one.
func TestTemplatesAreNamed(t *testing.T) {
	for name, d := range forViewers(t) {
		root := d.Seq(dicom.ContentTemplateSequence)
		if len(root) != 1 || root[0].String(dicom.TemplateIdentifier) != "1500" || root[0].String(dicom.MappingResource) != "DCMR" {
			t.Errorf("%s: Content Template Sequence of the root is %v", name, root)
		}
		for i, g := range groupsOf(tree(t, d)) {
			if g.template != "1411" {
				t.Errorf("%s: Template Identifier of group %d is %q", name, i, g.template)
			}
		}
	}
}

// 3D Slicer takes the Segmentation from Current Requested Procedure Evidence, by its SOP class, and warns where there are
// several series of it.
func TestEvidenceNamesOneSegmentation(t *testing.T) {
	r := sample(t)
	r.Groups[1].Segment = r.Groups[0].Segment
	r.Groups[1].Segment.Number = 2
	var series []string
	d := make1(t, r)
	for _, st := range d.Seq(dicom.CurrentRequestedProcedureEvidenceSequence) {
		for _, se := range st.Seq(dicom.ReferencedSeriesSequence) {
			for _, in := range se.Seq(dicom.ReferencedSOPSequence) {
				if in.String(dicom.ReferencedSOPClassUID) == dicom.SegmentationStorage {
					series = append(series, se.String(dicom.SeriesInstanceUID))
				}
			}
		}
	}
	if want := r.Groups[0].Segment.SeriesInstanceUID; !slices.Equal(series, []string{want}) {
		t.Errorf("Segmentations of the series %v are in the evidence, want one of %s", series, want)
	}
	if d.Has(dicom.PertinentOtherEvidenceSequence) {
		t.Error("Pertinent Other Evidence Sequence, where everything is of one study")
	}
}

// dcmjs and the adapters of cornerstone compare code meanings, not codes. The words are theirs.
func TestMeaningsThatReadersCompare(t *testing.T) {
	sequence := func(d *dicom.DataSet, meaning string) (found []*dicom.DataSet) {
		for _, c := range d.Seq(dicom.ContentSequence) {
			if n := c.Seq(dicom.ConceptNameCodeSequence); len(n) == 1 && n[0].String(dicom.CodeMeaning) == meaning {
				found = append(found, c)
			}
		}
		return found
	}
	for name, d := range forViewers(t) {
		measurements := sequence(d, "Imaging Measurements")
		if name == "summary alone" {
			continue
		}
		if len(measurements) != 1 {
			t.Fatalf("%s: %d items are Imaging Measurements", name, len(measurements))
		}
		groups := sequence(measurements[0], "Measurement Group")
		if len(groups) != 2 {
			t.Fatalf("%s: %d items are a Measurement Group", name, len(groups))
		}
		for _, g := range groups {
			for _, what := range []string{
				"Tracking Identifier", "Tracking Unique Identifier", "Referenced Segment", "Source series for segmentation",
			} {
				if n := len(sequence(g, what)); n != 1 {
					t.Errorf("%s: %d items are %s", name, n, what)
				}
			}
		}
	}
}

// OHIF before 3.9 and dwv, which read title 126000 alone, want a group in the Image Library; highdicom wants an image or a
// descriptor in each.
func TestImageLibraryHasGroups(t *testing.T) {
	for name, d := range forViewers(t) {
		lib := tree(t, d).find(imageLibrary)
		if lib == nil {
			continue // TID 1500 row 5 is a user option, and no reader asks for one in a report that it shows as text
		}
		if len(lib.children) == 0 {
			t.Errorf("%s: the Image Library is empty", name)
		}
		for _, g := range lib.children {
			if g.vt != container || !g.name.is(imageLibraryGroup) || len(g.children) == 0 {
				t.Errorf("%s: %s %s in the Image Library has %d items", name, g.vt, g.name, len(g.children))
			}
		}
	}
}

// Weasis reads Numeric Value into 32 bits: what does not fit is shown as Infinity, what is too small as 0. The largest
// value of any feature is the energy of all voxels of a 16-bit image, the smallest a volume density or a probability.
func TestNumbersFitIn32Bits(t *testing.T) {
	extremes := []float64{
		0, 65535 * 65535 * float64(1<<40), -65535 * float64(1<<40), 5.0 / 3e9, 1.0 / (1 << 50),
		0.1 + 0.2, math.Nextafter(1, 2), 12345.678901234567,
	}
	for _, v := range extremes {
		r := sample(t)
		r.Groups[0].Measurements = []Measurement{measure(t, "N8CA", v)}
		d := make1(t, r)
		var shown string
		var bits float64
		var walk func(*dicom.DataSet)
		walk = func(d *dicom.DataSet) {
			if m := d.Seq(dicom.MeasuredValueSequence); len(m) == 1 && parseCode(d, dicom.ConceptNameCodeSequence).Value == "N8CA" {
				shown = m[0].String(dicom.NumericValue)
				bits, _ = m[0].Float(dicom.FloatingPointValue)
			}
			for _, c := range d.Seq(dicom.ContentSequence) {
				walk(c)
			}
		}
		walk(d)
		f, err := strconv.ParseFloat(shown, 32)
		if err != nil || len(shown) > 16 {
			t.Errorf("%v is written %q: %v", v, shown, err)
		}
		if off := math.Abs(f - v); off > math.Abs(v)*1e-6 || (f == 0) != (v == 0) {
			t.Errorf("%v is %v in 32 bits of %q", v, f, shown)
		}
		if math.Float64bits(bits) != math.Float64bits(v) {
			t.Errorf("Floating Point Value of %v is %v", v, bits)
		}
	}
}

// OHIF and Slim print Code Value of the unit and know no Long Code Value: the units of CT, of SUV by body weight, of
// becquerels and of arbitrary intensities fit into the 16 characters of a Code Value, with every power that a feature has.
func TestUnitsHaveACodeValue(t *testing.T) {
	for _, intensity := range []string{"HU", "g/ml{SUVbw}", "Bq/ml", "[arb'U]", "1"} {
		for ibsi := range concepts {
			u, ok := UnitFor(ibsi, intensity)
			if !ok || u.encode().String(dicom.CodeValue) == "" {
				t.Errorf("%s of an image in %s has the unit %s", ibsi, intensity, u)
			}
		}
	}
}
