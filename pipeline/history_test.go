package pipeline

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
)

// renamed gives the instances, series, studies and frames of reference of a data set other UIDs, the same for the same salt.
func renamed(d *dicom.DataSet, salt string) {
	for e := range d.Elements() {
		for _, item := range e.Items() {
			renamed(item, salt)
		}
	}
	for _, t := range []dicom.Tag{
		dicom.SOPInstanceUID, dicom.StudyInstanceUID, dicom.SeriesInstanceUID, dicom.FrameOfReferenceUID,
		dicom.ReferencedSOPInstanceUID, dicom.ReferencedFrameOfReferenceUID,
	} {
		if uid := d.String(t); uid != "" {
			d.SetString(t, dicom.UIDFrom(salt, uid))
		}
	}
}

// An exam is the bundled study as another one.
type exam struct {
	contours *dicom.DataSet
	images   []*dicom.DataSet
}

// newExam is the bundled study on another day (YYYYMMDD), with brighter images.
func newExam(t *testing.T, day string, brighter float64) *exam {
	t.Helper()
	x := &exam{}
	x.contours, x.images = bundled(t)
	x.each(func(d *dicom.DataSet) {
		renamed(d, day)
		for _, tag := range []dicom.Tag{dicom.StudyDate, dicom.SeriesDate, dicom.ContentDate, dicom.AcquisitionDate, dicom.StructureSetDate} {
			if d.Has(tag) {
				d.SetString(tag, day)
			}
		}
	})
	for _, d := range x.images {
		b, _ := d.Float(dicom.RescaleIntercept)
		d.SetFloat(dicom.RescaleIntercept, b+brighter)
	}
	return x
}

func (x *exam) each(change func(*dicom.DataSet)) *exam {
	for _, d := range append(x.images, x.contours) {
		change(d)
	}
	return x
}

func (x *exam) set(t dicom.Tag, value string) *exam {
	return x.each(func(d *dicom.DataSet) { d.SetString(t, value) })
}

// name renames the first region.
func (x *exam) name(name string) *exam {
	x.contours.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.ROIName, name)
	return x
}

func (x *exam) study() string { return x.images[0].String(dicom.StudyInstanceUID) }

// compute lets a pipeline measure an exam, and returns what its state says.
func (s *stepper) exam(x *exam) detail {
	s.t.Helper()
	s.receive(append(x.images, x.contours)...)
	s.compute()
	state := s.state(x.study())
	if state.Name != StateComputed {
		s.t.Fatalf("%s: %s", state.Name, state.Reason)
	}
	return detailOf(state)
}

// measured measures an exam that is stored.
func (s *stepper) measured(x *exam) *Measured {
	s.t.Helper()
	task := task{Subject: x.contours.String(dicom.SOPInstanceUID)}
	for _, d := range x.images {
		task.Images = append(task.Images, d.String(dicom.SOPInstanceUID))
	}
	contours, images, _, done, err := s.p.load(task)
	if err != nil {
		s.t.Fatal(err)
	}
	defer done()
	m, err := Measure(s.t.Context(), Request{Contours: contours, Images: images, Choose: s.p.opt.Select})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func emptyStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// few measures by a small profile, so that a test may have many exams.
func few(o *Options) {
	p := features.DefaultProfile("CT")
	p.Families, p.Discretise = []features.Family{"morph", "stat"}, features.Discretise{}
	o.Profiles, o.Rules = map[string]features.Profile{"few": p}, []Rule{{Profile: "few"}}
}

func days(past []Past) (list []string) {
	for _, p := range past {
		list = append(list, p.Time.Format("20060102"))
	}
	return list
}

var meanIntensity = sr.Code{Value: "Q4LE", Scheme: sr.IBSI}

// The values of earlier studies are those of their reports, in order of time, each of the region it belongs to.
func TestHistory(t *testing.T) {
	s := newStepper(t, emptyStore(t), few)
	exams := []*exam{newExam(t, "20260301", 20), newExam(t, "20260101", 0), newExam(t, "20260401", 30), newExam(t, "20260201", 10), newExam(t, "20260501", 40)}
	reports := map[string]string{}
	for _, x := range exams {
		reports[x.study()] = s.exam(x).report()
	}
	m := s.measured(exams[2])
	past, err := s.p.history(m)
	if err != nil || len(past) != 2 || len(m.Regions) != 2 {
		t.Fatalf("%d histories of %d regions, %v", len(past), len(m.Regions), err)
	}
	for i, region := range m.Regions {
		if got, want := days(past[i]), []string{"20260101", "20260201", "20260301"}; !slices.Equal(got, want) {
			t.Fatalf("region %d: %v, want %v", i, got, want)
		}
		now := map[string]float64{}
		for _, v := range region.Result.Values {
			now[v.Tag] = v.Value
		}
		for k, p := range past[i] {
			// The images of each month are 10 HU brighter than those before, and the contours are the same.
			if got, want := p.Values[meanIntensity].Value, now["stat_mean"]-float64(30-10*k); math.Abs(got-want) > 1e-9*math.Abs(want) {
				t.Errorf("region %d, %s: mean %v, want %v", i, p.Time, got, want)
			}
			if got, want := p.Values[sr.Code{Value: "RNU0", Scheme: sr.IBSI}], now["morph_volume"]; got.Value != want || got.Unit.Value != "mm3" {
				t.Errorf("region %d, %s: volume %v %s, want %v mm3", i, p.Time, got.Value, got.Unit.Value, want)
			}
			if p.Report != reports[p.Study] || len(p.Values) < 20 {
				t.Errorf("region %d, %s: %d values of report %s, want those of %s", i, p.Time, len(p.Values), p.Report, reports[p.Study])
			}
		}
	}
	again, err := s.p.history(m)
	if d := cmp.Diff(past, again); d != "" || err != nil {
		t.Errorf("asked again it differs (%v)\n%s", err, d)
	}
}

// What is in doubt is left out.
func TestHistoryLeavesOut(t *testing.T) {
	const before = "20260101"
	lesion := func(uid string) func(x *exam) {
		return func(x *exam) {
			x.contours.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.TrackingUID, uid)
			x.contours.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.TrackingID, "lesion "+uid)
		}
	}
	for name, c := range map[string]struct {
		earlier, now func(x *exam)
		by           func(*Options) // that measured the earlier one
		both         func(*Options) // that measured both
		want         int
	}{
		"the same patient":      {want: 1},
		"another patient":       {earlier: func(x *exam) { x.set(dicom.PatientID, "RADNODE-OTHER") }},
		"no Patient ID":         {earlier: func(x *exam) { x.set(dicom.PatientID, "") }, now: func(x *exam) { x.set(dicom.PatientID, "") }},
		"another issuer":        {earlier: func(x *exam) { x.set(dicom.IssuerOfPatientID, "A") }, now: func(x *exam) { x.set(dicom.IssuerOfPatientID, "B") }},
		"one without issuer":    {now: func(x *exam) { x.set(dicom.IssuerOfPatientID, "A") }},
		"the same issuer":       {earlier: func(x *exam) { x.set(dicom.IssuerOfPatientID, "A") }, now: func(x *exam) { x.set(dicom.IssuerOfPatientID, "A") }, want: 1},
		"another birth date":    {earlier: func(x *exam) { x.set(dicom.PatientBirthDate, "19700102") }},
		"another sex":           {earlier: func(x *exam) { x.set(dicom.PatientSex, "M") }},
		"married":               {earlier: func(x *exam) { x.set(dicom.PatientName, "MAIDEN^DEMO") }, want: 1},
		"no birth date":         {earlier: func(x *exam) { x.set(dicom.PatientBirthDate, "").set(dicom.PatientName, "radnode^demo^") }, want: 1},
		"nor name":              {earlier: func(x *exam) { x.set(dicom.PatientBirthDate, "").set(dicom.PatientName, "Other^One") }},
		"the same day, later":   {earlier: func(x *exam) { x.set(dicom.StudyDate, "20260401").set(dicom.StudyTime, "235900") }},
		"the same day":          {earlier: func(x *exam) { x.set(dicom.StudyDate, "20260401").set(dicom.StudyTime, "0700") }, want: 1},
		"the same day, no time": {earlier: func(x *exam) { x.set(dicom.StudyDate, "20260401").set(dicom.StudyTime, "") }},
		"no study date":         {earlier: func(x *exam) { x.set(dicom.StudyDate, "").set(dicom.StudyTime, "") }, want: 1}, // the contours have one
		"another modality": {earlier: func(x *exam) {
			for _, d := range x.images {
				d.SetString(dicom.Modality, "MR")
				d.SetString(dicom.SOPClassUID, dicom.MRImageStorage)
			}
		}},
		"another profile":  {by: coarse("CT")},
		"another version":  {by: func(o *Options) { few(o); o.Equipment.SoftwareVersion = "0" }, want: 1},
		"another product":  {by: func(o *Options) { few(o); o.Equipment.Model = "other" }},
		"another name":     {earlier: func(x *exam) { x.name("GTV-2") }},
		"another case":     {earlier: func(x *exam) { x.name(" gtv - 1") }, want: 1},
		"a name of no one": {earlier: func(x *exam) { x.name("ROI 1") }, now: func(x *exam) { x.name("ROI 1") }},
		"names that are shared": {now: func(x *exam) {
			x.contours.Seq(dicom.StructureSetROISequence)[1].SetString(dicom.ROIName, "gtv-1")
		}},
		"names that were shared": {earlier: func(x *exam) {
			x.contours.Seq(dicom.StructureSetROISequence)[1].SetString(dicom.ROIName, "gtv-1")
		}},
		"names that are shared with a region that is not measured": {
			earlier: func(x *exam) { x.name("Oedema") }, now: func(x *exam) { x.name("Oedema") },
			both: func(o *Options) {
				few(o)
				o.Rules = append([]Rule{{When: When{Number: 2}, Profile: Skip}}, o.Rules...)
			},
		},
		"Tracking IDs that are shared": {earlier: lesion("1.2.3"), now: func(x *exam) {
			for _, r := range x.contours.Seq(dicom.StructureSetROISequence) {
				r.SetString(dicom.TrackingID, "lesion 1.2.3")
			}
		}},
		"a Tracking ID": {earlier: lesion("1.2.3"), now: func(x *exam) {
			x.contours.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.TrackingID, "Lesion 1.2.3")
		}, want: 1},
		"a Tracking UID": {earlier: lesion("1.2.3"), now: func(x *exam) { lesion("1.2.3")(x); x.name("renamed") }, want: 1},
		"of another region now": {earlier: func(x *exam) { lesion("1.2.3")(x) }, now: func(x *exam) {
			x.contours.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.TrackingID, "lesion 1.2.3")
			x.contours.Seq(dicom.StructureSetROISequence)[1].SetString(dicom.TrackingUID, "1.2.3")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := emptyStore(t)
			earlier, now := newExam(t, before, 0), newExam(t, "20260401", 30)
			for x, change := range map[*exam]func(*exam){earlier: c.earlier, now: c.now} {
				if change != nil {
					change(x)
				}
			}
			by := few
			if c.by != nil {
				by = c.by
			} else if c.both != nil {
				by = c.both
			}
			newStepper(t, st, by).exam(earlier)
			s := newStepper(t, st, by)
			if c.both == nil {
				s = newStepper(t, st, few)
			}
			s.put(append(now.images, now.contours)...)
			past, err := s.p.history(s.measured(now))
			if err != nil || len(past[0]) != c.want {
				t.Errorf("%d earlier values, %v, want %d", len(past[0]), err, c.want)
			}
		})
	}
}

// Of the revisions of a report the last one counts, also where the one before was in more documents.
func TestHistoryOfSeveralReports(t *testing.T) {
	st := emptyStore(t)
	first, now := newExam(t, "20260101", 0), newExam(t, "20260401", 30)
	s := newStepper(t, st, few)
	one := s.exam(first)
	copied := func(report string, change func(*dicom.DataSet)) {
		t.Helper()
		d := s.stored(report)
		d.SetString(dicom.SOPInstanceUID, dicom.UIDFrom("copy", fmt.Sprint(time.Now())))
		change(d)
		s.put(d)
	}
	s.put(append(now.images, now.contours)...)
	m := s.measured(now)
	standing := func(when, want string) {
		t.Helper()
		past, err := s.p.history(m)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(past[0]) == 1 {
			got = past[0][0].Report
		}
		if got != want || len(past[0]) > 1 {
			t.Errorf("%s: %d values of report %q, want %q", when, len(past[0]), got, want)
		}
	}
	standing("one report", one.report())
	copied(one.report(), func(d *dicom.DataSet) { // the same, shorter
		for _, it := range d.Seq(dicom.ContentSequence) {
			if codeIn(it, dicom.ConceptNameCodeSequence).Value == "126010" {
				group := it.Seq(dicom.ContentSequence)
				items := group[len(group)-2].Seq(dicom.ContentSequence)
				group[len(group)-2].SetSeq(dicom.ContentSequence, slices.DeleteFunc(slices.Clone(items), func(d *dicom.DataSet) bool {
					return codeIn(d, dicom.ConceptNameCodeSequence).Value == "Q4LE"
				})...)
			}
		}
	})
	standing("and a short one", one.report())

	s = newStepper(t, st, func(o *Options) { few(o); o.Equipment.SoftwareVersion = "next" })
	s.receive(first.contours)
	s.compute()
	two := detailOf(s.state(first.study()))
	if two.Revision != 2 {
		t.Fatalf("revision %d", two.Revision)
	}
	standing("made anew", two.report())

	copied(two.report(), func(d *dicom.DataSet) { d.SetString(dicom.PatientID, "RADNODE-OTHER") })
	standing("with a foreign patient", two.report())

	var log bytes.Buffer
	s.p.log = slog.New(slog.NewTextHandler(&log, nil))
	copied(two.report(), func(d *dicom.DataSet) { d.Remove(dicom.ContentSequence, dicom.ConceptNameCodeSequence) })
	standing("with an unreadable one", two.report())
	if !strings.Contains(log.String(), "cannot be read") || strings.Contains(log.String(), "DEMO") {
		t.Errorf("the log says %q", log.String())
	}

	s = newStepper(t, st, func(o *Options) { few(o); coarse("CT")(o) })
	s.receive(first.contours)
	s.compute()
	standing("made anew by another profile", "")

	s = newStepper(t, st, few)
	s.receive(first.contours)
	s.compute()
	four := detailOf(s.state(first.study()))
	standing("and by the first one", four.report())

	copied(four.report(), func(d *dicom.DataSet) { // as one that says why there are no values
		d.SetInt(dicom.InstanceNumber, 5)
		d.SetSeq(dicom.ContentSequence)
		named := dicom.New()
		named.SetString(dicom.ReferencedSOPInstanceUID, four.report())
		d.SetSeq(dicom.PredecessorDocumentsSequence, sequence(dicom.ReferencedSeriesSequence, sequence(dicom.ReferencedSOPSequence, named)))
	})
	standing("refused", "")
}

func sequence(t dicom.Tag, items ...*dicom.DataSet) *dicom.DataSet {
	d := dicom.New()
	d.SetSeq(t, items...)
	return d
}

// Of contours that were drawn again those count that were drawn last. Two that were drawn at the same time are those of two people.
func TestHistoryOfContoursDrawnAgain(t *testing.T) {
	for _, tracked := range []bool{false, true} {
		st := emptyStore(t)
		s := newStepper(t, st, few)
		x, now := newExam(t, "20260101", 0), newExam(t, "20260401", 30)
		if tracked {
			for _, c := range []*dicom.DataSet{x.contours, now.contours} {
				c.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.TrackingUID, "1.2.3")
			}
		}
		s.exam(x)
		s.put(append(now.images, now.contours)...)
		for _, c := range []struct{ uid, at, want string }{{"1.2.3.1", "235900", "1.2.3.1"}, {"1.2.3.2", "120000", "1.2.3.1"}, {"1.2.3.3", "235900", ""}} {
			x.contours.SetString(dicom.SOPInstanceUID, c.uid)
			x.contours.SetString(dicom.StructureSetTime, c.at)
			s.receive(x.contours)
			s.compute()
			past, err := s.p.history(s.measured(now))
			if err != nil || len(past[0]) > 1 || len(past[0]) == 1 != (c.want != "") {
				t.Fatalf("%d values, %v", len(past[0]), err)
			}
			study, err := st.Study(x.study())
			if err != nil {
				t.Fatal(err)
			}
			for _, state := range study.States {
				if c.want != "" && strings.HasPrefix(state.Subject, c.want+"/") != (detailOf(state).report() == past[0][0].Report) {
					t.Errorf("tracked %v, %s at %s: the report is not of %s", tracked, c.uid, c.at, c.want)
				}
			}
		}
	}
}

// Only what a region has once, in the unit that it has now, makes a trend: a PET that could not become SUV stays in Bq/ml.
func TestPastValues(t *testing.T) {
	ibsi := func(code string) sr.Code { return sr.Code{Value: code, Scheme: sr.IBSI} }
	value := func(code string, v float64, unit string) sr.Measurement {
		c := ibsi(code)
		c.Meaning = "in any language"
		return sr.Measurement{Concept: c, Value: v, Unit: sr.Unit(unit)}
	}
	r := earlierRegion{uid: "1.2.3", hash: "abc", values: map[sr.Code]sr.Measurement{}}
	r.add([]sr.Measurement{value("Q4LE", 4, "g/ml"), value("1GSF", 5, "Bq/ml"), value("RNU0", 6, "mm3"), value("JLAZ", 7, "mm"), value("BB2N", math.NaN(), "g/ml"),
		{Concept: sr.Code{Value: "81827009", Scheme: "SCT", Meaning: "Diameter"}, Value: 8, Unit: sr.Unit("mm")}})
	r.add([]sr.Measurement{value("Q4LE", 4, "g/ml"), value("RNU0", 6.5, "mm3"), value("RNU0", 6, "mm3")})
	w := wanted{uid: "1.2.3", hash: "abc", units: map[sr.Code]sr.Code{
		ibsi("Q4LE"): sr.Unit("g/ml"), ibsi("1GSF"): sr.Unit("g/ml"), ibsi("RNU0"): sr.Unit("mm3"), ibsi("BB2N"): sr.Unit("g/ml"),
	}}
	past, ok := pastOf([]*earlier{{regions: []earlierRegion{r}}}, w)
	got := map[sr.Code]float64{}
	for k, v := range past.Values {
		got[k] = v.Value
	}
	want := map[sr.Code]float64{ibsi("Q4LE"): 4, {Value: "81827009", Scheme: "SCT"}: 8}
	if d := cmp.Diff(want, got); d != "" || !ok {
		t.Errorf("%v (-want +got)\n%s", ok, d)
	}
}

// A Patient ID of everybody is that of nobody, and no more than 50 values are shown.
func TestHistoryIsBounded(t *testing.T) {
	st := emptyStore(t)
	now := newExam(t, "20260401", 30)
	s := newStepper(t, st, few)
	report := s.stored(s.exam(newExam(t, "20260101", 0)).report())
	s.put(append(now.images, now.contours)...)
	m := s.measured(now)
	fill := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			report.SetString(dicom.SOPInstanceUID, fmt.Sprintf("1.2.3.%d", i))
			report.SetString(dicom.StudyInstanceUID, fmt.Sprintf("1.2.4.%d", i))
			report.SetString(dicom.StudyDate, time.Date(2024, 1, 1+i, 0, 0, 0, 0, time.UTC).Format("20060102"))
			s.put(report)
		}
	}
	want := func(n int) {
		t.Helper()
		past, err := s.p.history(m)
		if err != nil || len(past) != 2 || len(past[0]) != n {
			t.Fatalf("%v, %d values, want %d", err, len(past[0]), n)
		}
		if n > 0 && (past[0][n-1].Time.Format("20060102") != "20260101" || !slices.IsSortedFunc(past[0], func(a, b Past) int { return a.Time.Compare(b.Time) })) {
			t.Errorf("%v", days(past[0]))
		}
	}
	fill(0, 20)
	want(21)
	fill(20, 60)
	want(maxPast)
	fill(60, maxStudiesOfPatient+1)
	want(0)
}

// codeIn is a code of a content item, without its meaning.
func codeIn(it *dicom.DataSet, t dicom.Tag) (c sr.Code) {
	for _, code := range it.Seq(t) {
		c = sr.Code{Value: code.String(dicom.CodeValue), Scheme: code.String(dicom.CodingSchemeDesignator)}
	}
	return c
}
