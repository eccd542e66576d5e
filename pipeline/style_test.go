package pipeline

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/pages"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
	"github.com/radnode/radnode/testdata"
)

// What a style may say, and the error that names what it may not.
func TestStyleCheck(t *testing.T) {
	for want, s := range map[string]Style{
		"":                              {},
		"documents: \"csv\"":            {Documents: []Document{"csv"}},
		"documents: \"pdf\" is there":   {Documents: []Document{PDF, PDF}},
		"language: \"de\"":              {Language: "de"},
		"title: \"breast\"":             {Title: "breast"},
		"sop_class: \"basic\"":          {SOPClass: "basic"},
		"series_number: -1":             {SeriesNumber: -1},
		"series_number: 2147483647":     {SeriesNumber: math.MaxInt32},
		"series_number: 9800 gives key": {Documents: []Document{Full, Key}, SeriesNumber: 9800},
		"description: \"{patient}\"":    {Description: "{patient}"},
		"segmentation: \"no\"":          {Segmentation: "no"},
		"description: \" \"":            {Description: " "},
	} {
		err := s.Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
	if err := DefaultStyle.Check(); err != nil {
		t.Error(err)
	}
}

// made measures the bundled study and writes it in a style.
func made(t *testing.T, o Options, rev Revision, styles ...Style) Made {
	t.Helper()
	contours, images := readStudy(t, testdata.SyntheticCT)
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select, Documents: documents})
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.Make(m, rev, styles...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func decoded(t *testing.T, in store.NewInstance) *dicom.DataSet {
	t.Helper()
	f, err := dicom.ReadDataSet(bytes.NewReader(in.Data), int64(len(in.Data)), in.Meta.TransferSyntaxUID)
	if err != nil {
		t.Fatal(err)
	}
	return f.DataSet
}

// What a destination gets that asks for nothing, and what each setting changes.
func TestDocumentsOfAStyle(t *testing.T) {
	all := made(t, testOptions(), Revision{Input: "x", Number: 3},
		Style{Documents: documents},
		Style{Documents: documents, Language: "it", Title: "pet", SOPClass: "enhanced", SeriesNumber: 100, Description: "{regions}: {document} ({profile}, {modality})"})
	type row struct {
		document                             Document
		class, modality, number, description string
		objects                              int
	}
	want := [][]row{{
		{Full, dicom.Comprehensive3DSRStorage, "SR", "9801", "Radiomics - GTV-1, Oedema - CT 1 - ct-default", 1},
		{Key, dicom.Comprehensive3DSRStorage, "SR", "9803", "Radiomics, key values - GTV-1, Oedema - CT 1 - ct-default", 1},
		{PDF, dicom.EncapsulatedPDFStorage, "DOC", "9804", "Radiomics, PDF - GTV-1, Oedema - CT 1 - ct-default", 1},
		{Capture, dicom.SecondaryCaptureImageStorage, "OT", "9805", "Radiomics, pictures - GTV-1, Oedema - CT 1 - ct-default", 0},
	}, {
		{Full, dicom.EnhancedSRStorage, "SR", "100", "GTV-1, Oedema: Radiomica (ct-default, CT)", 1},
		{Key, dicom.EnhancedSRStorage, "SR", "102", "GTV-1, Oedema: Radiomica, valori chiave (ct-default, CT)", 1},
		{PDF, dicom.EncapsulatedPDFStorage, "DOC", "103", "GTV-1, Oedema: Radiomica, PDF (ct-default, CT)", 1},
		{Capture, dicom.SecondaryCaptureImageStorage, "OT", "104", "GTV-1, Oedema: Radiomica, immagini (ct-default, CT)", 0},
	}}
	titles := []string{"126001", "126003"}
	languages := []string{"en-US", "it-IT"}
	series := map[string]string{}
	seen := map[string]bool{}
	for i, set := range all.Sets {
		for k, item := range set.Items {
			w := want[i][k]
			for n, in := range item.Instances {
				d := decoded(t, in)
				got := row{item.Document, d.String(dicom.SOPClassUID), d.String(dicom.Modality), d.String(dicom.SeriesNumber), d.String(dicom.SeriesDescription), w.objects}
				if got != w {
					t.Errorf("style %d: %+v, want %+v", i, got, w)
				}
				if w.objects != 0 && len(item.Instances) != w.objects {
					t.Errorf("%s: %d objects, want %d", item.Document, len(item.Instances), w.objects)
				}
				if uid := d.String(dicom.SOPInstanceUID); seen[uid] {
					t.Errorf("%s is there twice", uid)
				} else {
					seen[uid] = true
				}
				uid, kind := d.String(dicom.SeriesInstanceUID), fmt.Sprint(i, item.Document)
				if other, known := series[uid]; known && other != kind {
					t.Errorf("%s and %s share a series", other, kind)
				}
				series[uid] = kind
				number := 3
				if item.Document == Capture {
					number = n + 1 // pages; each revision has a series of its own
				}
				if v, _ := d.Int(dicom.InstanceNumber); v != number {
					t.Errorf("%s %d: Instance Number %d, want %d", item.Document, n, v, number)
				}
				if item.Document.report() {
					if c := d.Seq(dicom.ConceptNameCodeSequence)[0].String(dicom.CodeValue); c != titles[i] {
						t.Errorf("%s: title %s, want %s", item.Document, c, titles[i])
					}
					l := d.Seq(dicom.ContentSequence)[0].Seq(dicom.ConceptCodeSequence)[0].String(dicom.CodeValue)
					if l != languages[i] {
						t.Errorf("%s: language %s, want %s", item.Document, l, languages[i])
					}
				}
			}
		}
	}
}

// The same input gives the same bytes of every document.
func TestDocumentsAreDeterministic(t *testing.T) {
	style := Style{Documents: documents, Language: "it"}
	a, b := made(t, testOptions(), Revision{Input: "x", Number: 1}, style), made(t, testOptions(), Revision{Input: "x", Number: 1}, DefaultStyle, style)
	for k, item := range a.Sets[0].Items {
		for n, in := range item.Instances {
			if !bytes.Equal(in.Data, b.Sets[1].Items[k].Instances[n].Data) {
				t.Errorf("%s %d has other bytes when it is made again", item.Document, n)
			}
		}
	}
}

// The key report has at most a dozen values a region, those that lead the groups of the full report, and full precision.
func TestKeyReport(t *testing.T) {
	items := made(t, testOptions(), Revision{Input: "x", Number: 1}, Style{Documents: []Document{Full, Key}}).Sets[0].Items
	full, err := sr.Measurements(decoded(t, items[0].Instances[0]))
	if err != nil {
		t.Fatal(err)
	}
	key, err := sr.Measurements(decoded(t, items[1].Instances[0]))
	if err != nil {
		t.Fatal(err)
	}
	if len(key) != 2 || len(full) != 4 {
		t.Fatalf("%d groups in the key report and %d in the full one, want 2 and 4", len(key), len(full))
	}
	for i, g := range key {
		if n := len(g.Measurements); n < 6 || n > 12 {
			t.Errorf("%s: %d values", g.TrackingIdentifier, n)
		}
		if full[i].TrackingUID != g.TrackingUID {
			t.Fatalf("group %d of the full report is of another region", i)
		}
		for k, m := range g.Measurements {
			f := full[i].Measurements[k]
			if volume := m.Concept.Value == "RNU0"; volume != (m.Unit.Value == "cm3") {
				t.Errorf("%s: %s in %s", g.TrackingIdentifier, m.Concept, m.Unit.Value)
			} else if volume {
				f.Value, f.Unit = f.Value/1000, sr.Unit("cm3")
			}
			if m.Concept != f.Concept || m.Value != f.Value || m.Unit != f.Unit {
				t.Errorf("%s, value %d: %v %v %s in the key report, %v %v %s in the full one", g.TrackingIdentifier, k, m.Concept, m.Value, m.Unit, f.Concept, f.Value, f.Unit)
			}
		}
	}
	for number := range strings.SplitSeq(encodedText(t, decoded(t, items[1].Instances[0])), "DS") { // Numeric Value is DS, and the only one
		if n := regexp.MustCompile(`^..-?([0-9.]+)`).FindStringSubmatch(number); n != nil && len(strings.Trim(strings.Replace(n[1], ".", "", 1), "0")) > 5 {
			t.Errorf("%s has more than five digits", n[1])
		}
	}
	for _, g := range full {
		names := map[string]bool{}
		for _, m := range g.Measurements {
			if names[m.Concept.Meaning] {
				t.Errorf("%s: %q is there twice", g.TrackingIdentifier, m.Concept.Meaning)
			}
			names[m.Concept.Meaning] = true
		}
	}
}

// Pages that are too many keep no report back.
func TestReportsWithoutPages(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	o := testOptions()
	few(&o)
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select, Documents: documents})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		r := m.Regions[0]
		r.Region.Number, r.Region.TrackingUID = 1000+i, dicom.UIDFrom("test", fmt.Sprint(i))
		m.Regions = append(m.Regions, r)
	}
	made, err := o.Make(m, Revision{Input: "x", Number: 1}, Style{Documents: documents}, DefaultStyle)
	if err != nil {
		t.Fatal(err)
	}
	if s := made.Sets[0]; len(s.Items) != 2 || s.Lacking == nil || !strings.Contains(s.Lacking.Error(), "lesions") {
		t.Errorf("%d documents, %v", len(s.Items), s.Lacking)
	}
	if s := made.Sets[1]; len(s.Items) != 1 || s.Lacking != nil {
		t.Errorf("%d documents where no page is wanted, %v", len(s.Items), s.Lacking)
	}
}

// A report names the one before it of the same document: in the same style, and where the style is new in the one before.
func TestPredecessorChain(t *testing.T) {
	was := func(uid string) sr.Document {
		return sr.Document{SeriesInstanceUID: "2.25.8", Instance: sr.Instance{SOPClassUID: dicom.Comprehensive3DSRStorage, SOPInstanceUID: uid}}
	}
	italian := DefaultStyle
	italian.Language = "it"
	rev := Revision{Input: "x", Number: 2, Predecessors: map[string]sr.Document{
		DefaultStyle.key(Full): was("2.25.10"), DefaultStyle.key(Key): was("2.25.11"), italian.key(Full): was("2.25.12"),
	}}
	both := []Document{Full, Key}
	all := made(t, testOptions(), rev, Style{Documents: both}, Style{Documents: both, Language: "it"}, Style{Documents: both, Title: "imaging"})
	for i, want := range [][]string{{"2.25.10", "2.25.11"}, {"2.25.12", "2.25.11"}, {"", "2.25.11"}} {
		for k, item := range all.Sets[i].Items {
			got := predecessors(decoded(t, item.Instances[0]))
			if len(got) != 1 || want[k] != "" && got[0] != want[k] {
				t.Errorf("style %d, %s: names %v, want %s", i, item.Document, got, want[k])
			}
		}
	}
}

// Each destination gets what it asks for, once, and the segmentation with the reports; what is for people alone comes by
// itself. Two that ask for the same get the same instances.
func TestDestinations(t *testing.T) {
	contours, images := bundled(t)
	peer := func(aet string, s Style) Destination {
		return Destination{Peer: dimse.Peer{AETitle: aet, Address: "127.0.0.1:104"}, Style: s}
	}
	b := newBenchWith(t, func(o *Options) {
		o.Quiet = time.Hour
		o.Style = Style{Documents: []Document{Key}}
		o.Deliver = []Destination{peer("A", Style{}), peer("B", Style{Documents: []Document{Full, PDF}}), peer("C", Style{Language: "it"}), peer("D", Style{Documents: []Document{Capture}}),
			peer("E", Style{Segmentation: "keep"})}
	})
	b.put(append(images, contours)...)
	d := detailOf(b.wait(contours.String(dicom.StudyInstanceUID), is(StateComputed)))
	classes := func(aet string) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		var list []string
		for _, uid := range b.to[aet] {
			in, err := b.store.Instance(uid)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, in.Modality)
		}
		slices.Sort(list)
		return strings.Join(slices.Compact(list), " ")
	}
	for aet, want := range map[string]string{"A": "SEG SR", "B": "DOC SEG SR", "C": "SEG SR", "D": "OT SEG", "E": "SR"} {
		for deadline := time.Now().Add(patience); classes(aet) != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s got %s, want %s", aet, classes(aet), want)
			}
		}
	}
	if len(d.Documents) != 3 { // key and full in English, key in Italian
		t.Errorf("reports that stand: %v", d.Documents)
	}
	style := b.p.opt.Style.Over(DefaultStyle)
	italian := style
	italian.Language = "it"
	for aet, uid := range map[string]string{"A": d.Documents[style.key(Key)], "B": d.Documents[style.key(Full)], "C": d.Documents[italian.key(Key)]} {
		b.mu.Lock()
		if n := len(b.to[aet]); !slices.Contains(b.to[aet], uid) || b.to[aet][0] != d.Segmentation && aet != "B" || aet != "B" && n != 2 {
			t.Errorf("%s got %v, want the segmentation and the report %s", aet, b.to[aet], uid)
		}
		b.mu.Unlock()
	}
}

// On FDG-PET the group has what its readers know, by the plain formulas: metabolic volume is voxels times their volume, total
// lesion glycolysis is that times the mean.
func TestUptake(t *testing.T) {
	contours, images := sharedStudy(t, "sts_raw/STS_001/FDG_PET")
	o := testOptions()
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select})
	if err != nil {
		t.Fatal(err)
	}
	made, err := o.Make(m, Revision{Input: "x", Number: 1}, Style{Documents: []Document{Key}, Language: "it"})
	if err != nil {
		t.Fatal(err)
	}
	d := decoded(t, made.report())
	groups, err := sr.Measurements(d)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range groups {
		r := m.Regions[i].Result
		spacing := r.Geometry.Spacing
		ml := float64(r.VoxelsInterpolated) * spacing[0] * spacing[1] * spacing[2] / 1000
		by := map[string]sr.Measurement{}
		for _, v := range g.Measurements {
			by[v.Concept.Value] = v
		}
		mean := by["Q4LE"].Value
		for code, want := range map[string]struct {
			value float64
			unit  string
		}{"126032": {ml, "cm3"}, "126033": {ml * mean, "g"}, "386136009": {by["386136009"].Value, "g/ml{SUVbw}"}, "0F91": {by["0F91"].Value, "g/ml{SUVbw}"}, "84IY": {by["84IY"].Value, "g/ml{SUVbw}"}} {
			if v, ok := by[code]; !ok || math.Abs(v.Value-want.value) > 1e-9*math.Abs(want.value) || v.Unit.Value != want.unit {
				t.Errorf("%s: %s is %v %s, want %v %s", g.TrackingIdentifier, code, v.Value, v.Unit.Value, want.value, want.unit)
			}
		}
		if peak, top := by["0F91"].Value, by["84IY"].Value; !(mean < peak && peak < top) {
			t.Errorf("%s: SUV mean %v, peak %v, maximum %v", g.TrackingIdentifier, mean, peak, top)
		}
		if g.Method.Value != "126410" {
			t.Errorf("%s: method %s, want SUV body weight", g.TrackingIdentifier, g.Method)
		}
	}
	data, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"volume metabolico", "SUV massimo", "glicolisi"} {
		if !bytes.Contains(bytes.ToLower(data), bytes.ToLower([]byte(words))) {
			t.Errorf("the summary does not say %q", words)
		}
	}
}

// A metabolic volume is that of a lesion drawn on the PET, and glycolysis is what FDG in grams per millilitre shows.
func TestUptakeOfLesionsAlone(t *testing.T) {
	for _, c := range []struct {
		name, unit, tracer string
		region             roi.Region
		want               []string
	}{
		{"FDG by its code", "g/ml{SUVbw}", "35321007", roi.Region{}, []string{metabolic, glycolysis}},
		{"FDG by its retired code", "g/ml{SUVlbm}", "C-B1031", roi.Region{InterpretedType: "GTV"}, []string{metabolic, glycolysis}},
		{"FDG by its name", "g/ml{SUVbw}", "Fluorodeoxyglucose", roi.Region{}, []string{metabolic, glycolysis}},
		{"another tracer", "g/ml{SUVbw}", "PSMA", roi.Region{}, []string{metabolic}},
		{"no tracer", "g/ml{SUVbw}", "", roi.Region{}, []string{metabolic}},
		{"by body surface", "cm2/ml{SUVbsa}", "35321007", roi.Region{}, []string{metabolic}},
		{"activity", "Bq/ml", "35321007", roi.Region{}, []string{metabolic}},
		{"an organ", "g/ml{SUVbw}", "35321007", roi.Region{InterpretedType: "ORGAN"}, nil},
		{"an anatomical structure", "g/ml{SUVbw}", "35321007", roi.Region{Category: roi.Code{Value: "123037004", Scheme: "SCT"}}, nil},
		{"drawn on the CT", "g/ml{SUVbw}", "35321007", roi.Region{InterpretedType: "GTV", OtherSeries: true}, nil},
	} {
		tracer := dicom.New()
		tracer.SetString(dicom.Radiopharmaceutical, c.tracer)
		code := dicom.New()
		code.SetString(dicom.CodeValue, c.tracer)
		tracer.SetSeq(dicom.RadiopharmaceuticalCodeSequence, code)
		header := dicom.New()
		header.SetSeq(dicom.RadiopharmaceuticalInformationSequence, tracer)
		w := &writing{m: &Measured{Volume: &imaging.Volume{Modality: "PT", Header: header}}}
		x := MeasuredRegion{Region: c.region, Image: &Intensities{Unit: c.unit}}
		x.Result.Values = []features.Value{{Tag: "morph_vol_approx", Value: 2000}, {Tag: "stat_mean", Value: 3}}
		known, err := w.known(x)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range known {
			if m.tag == metabolic || m.tag == glycolysis {
				got = append(got, m.tag)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A Series Description that would be cut counts the regions.
func TestLongDescriptions(t *testing.T) {
	m := &Measured{Volume: &imaging.Volume{Modality: "CT"}}
	for i := range 12 {
		m.Regions = append(m.Regions, MeasuredRegion{
			Region: roi.Region{TrackingID: fmt.Sprint("Metastasis ", i)}, Profile: features.Profile{Name: "ct-default"},
		})
	}
	if got, want := DefaultStyle.description(Full, m), "Radiomics - 12 regions - CT - ct-default"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A report begins with two lines for each region, its size and its intensities, then says how many values there are, once where regions have as many.
func TestSummary(t *testing.T) {
	item := made(t, testOptions(), Revision{Input: "x", Number: 1}, Style{Documents: []Document{Full}}).Sets[0].Items[0]
	var b bytes.Buffer
	if err := sr.Text(&b, decoded(t, item.Instances[0])); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(b.String(), "Summary\n")
	text, _, _ = strings.Cut(text, "\n\n")
	// The rest is in other tests: sizes and means are those of the values, rounded.
	pattern := `^  GTV-1 \(GTV\): volume [\d.]+ cm3, largest diameter [\d.]+ mm
  GTV-1: mean [-\d.]+ HU \(SD [\d.]+\)
  Oedema \(Edema\): volume [\d.]+ cm3, largest diameter [\d.]+ mm
  Oedema: mean [-\d.]+ HU \(SD [\d.]+\)
  GTV-1, Oedema: \d+ values by profile ct-default$`
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("summary:\n%s", text)
	}
}

func TestPlainUnit(t *testing.T) {
	for unit, want := range map[string]string{"1": "", "[hnsf'U]": "HU", "[arb'U]": "a.u.", "mm3": "mm3", "g/ml{SUVbw}": "SUVbw", "cm2/ml{SUVbsa}": "SUVbsa",
		"g2/ml2{SUVbw}": "(SUVbw)2", "cm4/ml2{SUVbsa}": "(SUVbsa)2", "g/ml{SUVlbm(Janma)}": "SUVlbm(Janma)", "g/ml{SUVbw}.mm3": "SUVbw.mm3"} {
		if got := plainUnit(unit); got != want {
			t.Errorf("%s: %q, want %q", unit, got, want)
		}
	}
}

// The pages of the bundled study name every value, and show the regions.
func TestSheet(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	o := testOptions()
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select, Documents: documents})
	if err != nil {
		t.Fatal(err)
	}
	w := &writing{Options: o, m: m}
	s := w.sheet("en")
	w.rev.Number = 2
	if foot := w.sheet("it").Notes[0]; !strings.Contains(foot, "Revisione 2") || strings.Contains(s.Notes[0], "Revision") {
		t.Errorf("the second revision has the foot %q, the first %q", foot, s.Notes[0])
	}
	unit := plainUnit(m.Regions[0].Image.Unit)
	for i, l := range s.Lesions {
		n := 0
		for _, f := range l.Families {
			n += len(f.Values)
			names := map[string]bool{}
			for _, v := range f.Values {
				if names[v.Name] || v.Name == "" || v.Value == "" {
					t.Errorf("%s, %s: %+v has no name, a name that is there, or no value", l.Name, f.Name, v)
				}
				names[v.Name] = true
			}
			if f.Name == "" {
				t.Errorf("%s: a family has no name", l.Name)
			}
		}
		if n != len(m.Regions[i].Result.Values) {
			t.Errorf("%s: %d values on the pages, %d measured", l.Name, n, len(m.Regions[i].Result.Values))
		}
		it := w.sheet("it").Lesions[i]
		for k, v := range l.Key {
			if said := it.Key[k].Name; said == v.Name && v.Name != "Volume" {
				t.Errorf("%s: %q is not said in Italian", l.Name, said)
			}
		}
		if l.Views[0].Unit != unit || l.Histogram.Unit != unit {
			t.Errorf("%s: unit %q of the grey scale, %q of the histogram, want %q", l.Name, l.Views[0].Unit, l.Histogram.Unit, unit)
		}
		if strings.Contains(strings.Join(l.Summary, "\n"), l.Name) {
			t.Errorf("%s: summary %q names it again", l.Name, l.Summary)
		}
		if len(l.Views) != 3 || l.Histogram == nil || len(l.Key) > 12 || len(l.Summary) < 2 {
			t.Errorf("%s: %d views, %d key values, summary %q", l.Name, len(l.Views), len(l.Key), l.Summary)
		}
	}
	if _, err := pages.Draw(s); err != nil {
		t.Error(err)
	}
}

// Two languages of one measurement differ in their texts alone, and none of the Italian ones is English.
func TestLanguagesDifferInTextAlone(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	o := testOptions()
	p := features.DefaultProfile("CT")
	p.Aggregate = []features.Aggregation{features.Agg3DComb, features.Agg25DAvg}
	p.Filters, p.IVH = nil, features.Discretise{Method: "fbn", Bins: 100}
	p.Normalise = features.Normalise{Method: "mean", Region: "GTV"}
	o.Profiles, o.Rules = map[string]features.Profile{"p": p}, []Rule{{Profile: "p"}}
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select, Documents: documents})
	if err != nil {
		t.Fatal(err)
	}
	m.Regions[1].Result.Values[0].Reason = "the ROI touches the border of the image"
	m.Skipped = append(m.Skipped, SkippedRegion{m.Regions[1].Region, TooLarge("the region, with the images and the regions before it,", 2<<30, 1<<30, "")})
	rev := Revision{Input: "x", Number: 1}
	styles := []Style{{Documents: []Document{Full, Key}}, {Documents: []Document{Full, Key}, Language: "it"}}
	made, err := o.Make(m, rev, styles...)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := o.NotComputed(Refused{Contours: contours.DataSet, Image: m.Volume.Header, Reasons: []*refusal.Refusal{m.Skipped[0].Reason}}, rev, styles...)
	if err != nil {
		t.Fatal(err)
	}
	english := regexp.MustCompile(`\b(?i:the|is|are|of|and|has|have|with|not|which|that|from|by|its|their|for|region|values?|profile|image)\b`)
	said := func(where, s string) {
		if w := english.FindString(s); w != "" {
			t.Errorf("%s: %q has the English %q", where, s, w)
		}
	}
	texts := 0
	var compare func(where string, a, b *dicom.DataSet)
	compare = func(where string, a, b *dicom.DataSet) {
		language := codeIn(b, dicom.ConceptNameCodeSequence) == sr.Code{Value: "121049", Scheme: "DCM"}
		for _, tag := range []dicom.Tag{dicom.ValueType, dicom.RelationshipType, dicom.UID} {
			if a.String(tag) != b.String(tag) {
				t.Errorf("%s: %s is %q and %q", where, tag, a.String(tag), b.String(tag))
			}
		}
		for _, tag := range []dicom.Tag{dicom.ConceptNameCodeSequence, dicom.ConceptCodeSequence, dicom.MeasuredValueSequence} {
			x, y := a.Seq(tag), b.Seq(tag)
			if same := slices.EqualFunc(x, y, func(x, y *dicom.DataSet) bool { return encodedText(t, x) == encodedText(t, y) }); !same && !(language && tag == dicom.ConceptCodeSequence) {
				t.Errorf("%s: %s differs", where, tag)
			}
		}
		if b.String(dicom.ValueType) == "TEXT" && b.String(dicom.TextValue) != a.String(dicom.TextValue) {
			texts++
		}
		name := b.Seq(dicom.ConceptNameCodeSequence)[0].String(dicom.CodeMeaning)
		if s := b.String(dicom.TextValue); strings.HasPrefix(s, "Non calcolabili") { // names by the meanings of their codes follow
			before, _, _ := strings.Cut(s, "): ")
			said(where, before)
		} else if !slices.Contains([]string{"Tracking Identifier", "Algorithm Name"}, name) {
			said(where, s)
		}
		x, y := a.Seq(dicom.ContentSequence), b.Seq(dicom.ContentSequence)
		if len(x) != len(y) {
			t.Fatalf("%s: %d and %d items", where, len(x), len(y))
		}
		for i := range x {
			compare(fmt.Sprintf("%s.%d", where, i+1), x[i], y[i])
		}
	}
	for _, sets := range [][]Set{made.Sets, refused} {
		for i, item := range sets[0].Items {
			a, b := decoded(t, item.Instances[0]), decoded(t, sets[1].Items[i].Instances[0])
			compare(string(item.Document), a, b)
			said("Series Description", strings.Replace(b.String(dicom.SeriesDescription), "GTV", "", 1))
		}
	}
	if texts < 20 {
		t.Errorf("only %d texts in another language", texts)
	}
	w := &writing{Options: o, m: m, rev: rev}
	s := w.sheet("it")
	all := append([]string{s.Title}, s.Notes...)
	for _, l := range s.Lesions {
		all = append(append(all, l.Summary...), l.Comments...)
		for _, f := range l.Families {
			all = append(all, f.Name)
		}
	}
	for _, line := range all {
		if before, _, names := strings.Cut(line, "): "); names && strings.HasPrefix(line, "Non calcolabili") {
			line = before
		}
		said("pages", line)
	}
}

func encodedText(t *testing.T, d *dicom.DataSet) string {
	t.Helper()
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each kind of pages has a delivery of its own: a destination that refuses PDF gets its captures.
func TestPagesAreDeliveredApart(t *testing.T) {
	style := Style{Documents: []Document{Full, PDF, Capture}}
	m := made(t, testOptions(), Revision{Input: "x", Number: 1}, style)
	p := &Pipeline{opt: testOptions()}
	var change store.Change
	p.outgoing(&change, []Destination{{Peer: dimse.Peer{AETitle: "A", Address: "127.0.0.1:104"}, Style: style}}, "1.2", "1.3/1.4", []store.NewInstance{m.Segmentation}, m.Sets)
	if len(change.Jobs) != 3 {
		t.Errorf("%d deliveries, want one of segmentation and report, one of the PDF, one of the captures", len(change.Jobs))
	}
}

// A refusal that stands for a key report is not the one that stands for a full report: it has another Series Number.
func TestRefusalsOfTwoDocuments(t *testing.T) {
	contours, images := bundled(t)
	var reports []*dicom.DataSet
	for _, d := range []Document{Full, Key} {
		sets, err := testOptions().NotComputed(Refused{Contours: contours, Image: images[0], Reasons: []*refusal.Refusal{{Code: refusal.RulesNone, Text: "x"}}},
			Revision{Input: "x", Number: 1}, Style{Documents: []Document{d}})
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, decoded(t, sets[0].Items[0].Instances[0]))
	}
	for _, tag := range []dicom.Tag{dicom.SOPInstanceUID, dicom.SeriesInstanceUID} {
		if reports[0].String(tag) == reports[1].String(tag) {
			t.Errorf("both have the same %v", tag)
		}
	}
}

// A volume of three decimals keeps its comma: 0,927 is not taken for English thousands and turned into 0.927.
func TestItalianSummaryNumbers(t *testing.T) {
	known := []measurement{{tag: "morph_volume", Measurement: sr.Measurement{Value: 927.4}}, {tag: "stat_mean", Measurement: sr.Measurement{Value: 0.125}},
		{tag: deviation, Measurement: sr.Measurement{Value: 0.0421}}}
	lines, _ := summary("it", MeasuredRegion{Region: roi.Region{TrackingID: "A"}, Image: &Intensities{Unit: "[hnsf'U]"}}, known)
	got := strings.Join(lines, "\n")
	for _, want := range []string{"volume 0,927 cm3", "media 0,125 HU (dev. std. 0,0421)"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}
