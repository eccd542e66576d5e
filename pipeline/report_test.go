package pipeline

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
	"github.com/radnode/radnode/testdata"
)

func testOptions() Options {
	return Options{Equipment: Equipment{Manufacturer: "radnode", Model: "radnode", SoftwareVersion: "test", StationName: "TEST", DeviceUID: "2.25.7"}}
}

// report is the one that a default style makes.
func (m Made) report() store.NewInstance { return m.Sets[0].Items[0].Instances[0] }

// report is the SOP Instance UID of the one report that stands, "" where there is none.
func (d detail) report() string {
	for _, uid := range d.Documents {
		return uid
	}
	return ""
}

// readStudy reads the files of a bundled study.
func readStudy(t *testing.T, folder string) (contours *dicom.File, images []*dicom.File) {
	t.Helper()
	entries, err := testdata.FS.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := testdata.FS.ReadFile(folder + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if f.Pixels == nil {
			contours = f
		} else {
			images = append(images, f)
		}
	}
	return contours, images
}

// Every feature of the table can be named and has the same unit in the table of codes as in the table of features.
func TestEveryFeatureHasACode(t *testing.T) {
	hu := map[features.UnitRule]string{
		features.UnitNone: "1", features.UnitIntensity: "[hnsf'U]", features.UnitIntensity2: "[hnsf'U]2", features.UnitIntensityMM: "[hnsf'U].mm3",
		features.UnitMM: "mm", features.UnitMM2: "mm2", features.UnitMM3: "mm3", features.UnitPerMM: "/mm",
	}
	for _, f := range features.Table {
		if _, ok := sr.Concept(f.Code); !ok {
			t.Errorf("%s: no concept for IBSI code %s", f.Tag, f.Code)
		}
		u, ok := sr.UnitFor(f.Code, "HU")
		if !ok || u.Value != hu[f.Unit] {
			t.Errorf("%s: unit %s, the table of features says %s", f.Tag, u.Value, f.Unit)
		}
	}
}

// The result does not depend on the order of the images, and the same input gives the same bytes.
func TestMakeIsDeterministic(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	o := testOptions()
	make := func(images []*dicom.File, rev Revision) Made {
		t.Helper()
		m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select})
		if err != nil {
			t.Fatal(err)
		}
		made, err := o.Make(m, rev, DefaultStyle)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	rev := Revision{Input: "input", Number: 1}
	first := make(images, rev)
	reversed := slices.Clone(images)
	slices.Reverse(reversed)
	again := make(reversed, rev)
	if !bytes.Equal(first.report().Data, again.report().Data) || !bytes.Equal(first.Segmentation.Data, again.Segmentation.Data) {
		t.Error("another order of images gives other bytes")
	}

	// Whatever shapes the content shapes the UID: two different contents never share one.
	uids := map[string]string{first.report().Identity.SOPInstanceUID: "first"}
	for name, other := range map[string]func() Made{
		"another input": func() Made { return make(images, Revision{Input: "other", Number: 1}) },
		"another predecessor": func() Made {
			return make(images, Revision{Input: "input", Number: 2, Predecessors: map[string]sr.Document{DefaultStyle.key(Full): {SeriesInstanceUID: "2.25.8", Instance: sr.Instance{SOPClassUID: dicom.Comprehensive3DSRStorage, SOPInstanceUID: "2.25.9"}}}})
		},
		"a predecessor that is lost": func() Made { return make(images, Revision{Input: "input", Number: 2}) },
		"another version": func() Made {
			o.Equipment.SoftwareVersion = "next"
			defer func() { o = testOptions() }()
			return make(images, rev)
		},
		"another installation": func() Made {
			o.Equipment.DeviceUID = "2.25.70"
			defer func() { o = testOptions() }()
			return make(images, rev)
		},
		"another profile": func() Made {
			p := features.DefaultProfile("CT")
			p.Resample.Spacing = []float64{2, 2, 2}
			o.Profiles, o.Rules = map[string]features.Profile{"ct-default": p}, []Rule{{Profile: "ct-default"}}
			defer func() { o = testOptions() }()
			return make(images, rev)
		},
		"another configuration": func() Made {
			o.Profiles, o.Rules = map[string]features.Profile{"coarse": features.DefaultProfile("CT")}, []Rule{{Profile: "coarse"}}
			defer func() { o = testOptions() }()
			return make(images, rev)
		},
	} {
		made := other()
		uid := made.report().Identity.SOPInstanceUID
		if twin, taken := uids[uid]; taken {
			t.Errorf("%s has the UID of %s", name, twin)
		}
		uids[uid] = name
		if same := made.report().Identity.SeriesInstanceUID == first.report().Identity.SeriesInstanceUID; same != (name != "another configuration") {
			t.Errorf("%s: in the series of the first: %v; a revision is, and what another configuration gives is not", name, same)
		}
	}
}

// A region that cannot be measured is named in the report with its reason; the others have their values.
func TestSkippedRegionIsNamed(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	for _, c := range contours.DataSet.Seq(dicom.ROIContourSequence)[1].Seq(dicom.ContourSequence) {
		c.SetString(dicom.ContourGeometricType, "POINT")
	}
	o := testOptions()
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select})
	if err != nil {
		t.Fatal(err)
	}
	made, err := o.Make(m, Revision{Input: "input", Number: 1}, DefaultStyle)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Regions) != 1 || len(m.Skipped) != 1 {
		t.Fatalf("%d regions measured and %d skipped, want 1 and 1", len(m.Regions), len(m.Skipped))
	}
	if !bytes.Contains(made.report().Data, []byte("not measured")) || !bytes.Contains(made.report().Data, []byte("POINT")) {
		t.Error("the report does not say which region was not measured, and why")
	}
}

// Content Date and Time are those of the contours, in their own time zone.
func TestContentTime(t *testing.T) {
	set := func(pairs ...any) *dicom.DataSet {
		d := dicom.New()
		for i := 0; i < len(pairs); i += 2 {
			d.SetString(pairs[i].(dicom.Tag), pairs[i+1].(string))
		}
		return d
	}
	for _, c := range []struct {
		name            string
		contours, image *dicom.DataSet
		want            string
	}{
		{"structure set", set(dicom.StructureSetDate, "20250102", dicom.StructureSetTime, "030405.678"), set(), "2025-01-02T03:04:05Z"},
		{"with a zone", set(dicom.StructureSetDate, "20250102", dicom.StructureSetTime, "0304", dicom.TimezoneOffsetFromUTC, "+0130"), set(), "2025-01-02T03:04:00+01:30"},
		{"zone of the images", set(dicom.StructureSetDate, "20250102"), set(dicom.TimezoneOffsetFromUTC, "-0500"), "2025-01-02T00:00:00-05:00"},
		{"nonsense time", set(dicom.StructureSetDate, "20250102", dicom.StructureSetTime, "noon"), set(), "2025-01-02T00:00:00Z"},
		{"study of the images", set(), set(dicom.StudyDate, "20250102", dicom.StudyTime, "23"), "2025-01-02T23:00:00Z"},
		{"nothing", set(), set(), "1970-01-01T00:00:00Z"},
	} {
		if got := contentTime(c.contours, c.image).Format(time.RFC3339); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Pauses between tries grow to the longest, each with a random part.
func TestBackoff(t *testing.T) {
	b := Backoff{}.withDefaults()
	for tries, step := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second} {
		for range 100 {
			if d := b.after(tries); d < step/2 || d > step {
				t.Fatalf("after %d failures %v, want between %v and %v", tries+1, d, step/2, step)
			}
		}
	}
	if d := b.after(1000); d < b.Max/2 || d > b.Max {
		t.Errorf("after 1000 failures %v, want at most %v", d, b.Max)
	}
}

// Every value is in one group, and no two values of a group have the same name.
func TestSharesHaveNoTwins(t *testing.T) {
	all := features.DefaultProfile("CT")
	all.Aggregate = []features.Aggregation{features.Agg2DAvg, features.Agg2DComb, features.Agg25DAvg, features.Agg25DComb, features.Agg3DAvg, features.Agg3DComb}
	some := features.DefaultProfile("CT")
	some.Families, some.Aggregate = []features.Family{features.GLSZM, features.VolumeHistogram}, all.Aggregate[3:]
	plain := features.DefaultProfile("CT")
	plain.Families = plain.Families[:3]
	for name, c := range map[string]struct {
		profile features.Profile
		groups  int
	}{"default": {features.DefaultProfile("CT"), 2}, "all": {all, 7}, "zones and curve": {some, 3}, "no texture": {plain, 1}} {
		var values []features.Value
		for _, tag := range features.Tags(c.profile) {
			values = append(values, features.Value{Tag: tag, Value: 1})
		}
		groups := shares(values)
		if len(groups) != c.groups {
			t.Errorf("%s: %d groups, want %d", name, len(groups), c.groups)
		}
		seen := map[string]bool{}
		for _, g := range groups {
			names := map[string]bool{}
			got, err := measurements("en", nil, g.values, "HU")
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range got {
				if names[m.Concept.Value] {
					t.Errorf("%s: %s twice in the group of %q", name, m.Concept, g.how)
				}
				names[m.Concept.Value] = true
			}
			for _, v := range g.values {
				if seen[v.Tag] {
					t.Errorf("%s: %s is in two groups", name, v.Tag)
				}
				seen[v.Tag] = true
				f, a, _ := features.Lookup(v.Tag)
				if _, words := a.Describe(); a != "" && !slices.ContainsFunc(g.how, func(s string) bool { return strings.Contains(s, words) }) {
					t.Errorf("%s: the group of %s does not say %q, but %q", name, f.Tag, words, g.how)
				}
			}
		}
		if len(seen) != len(values) {
			t.Errorf("%s: %d of %d values are in a group", name, len(seen), len(values))
		}
	}
}
