package pipeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
	"github.com/radnode/radnode/testdata"
)

// stored reads an object back from the store.
func (b *bench) stored(uid string) *dicom.DataSet {
	b.t.Helper()
	f, done, err := b.p.open(uid)
	if err != nil {
		b.t.Fatal(err)
	}
	defer done()
	return f.DataSet
}

// delivered waits until an object was sent.
func (b *bench) delivered(uid string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		b.mu.Lock()
		sent := slices.Contains(b.sent, uid)
		b.mu.Unlock()
		if sent {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s was not sent", uid)
		}
	}
}

// What cannot be measured is said by its code in the state, in the counters and, where that is asked for, in a report of its
// own that is delivered like any other.
func TestRefusalsAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		change func(contours *dicom.DataSet, images []*dicom.DataSet)
		code   refusal.Code
		images bool // the report names them
	}{
		"images": {func(_ *dicom.DataSet, images []*dicom.DataSet) {
			images[3].SetFloat(dicom.PixelSpacing, 9, 9)
		}, refusal.GeometryPixelSpacing, true},
		"every region": {func(contours *dicom.DataSet, _ []*dicom.DataSet) {
			for _, r := range contours.Seq(dicom.ROIContourSequence) {
				r.Remove(dicom.ContourSequence)
			}
		}, refusal.ContoursAbsent, true},
		"contours": {func(contours *dicom.DataSet, _ []*dicom.DataSet) {
			dropSeriesList(contours)
			contours.Remove(dicom.ROIContourSequence)
		}, refusal.ContoursReferences, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBenchWith(t, func(o *Options) { o.ReportRefusals = true })
			contours, images := bundled(t)
			c.change(contours, images)
			b.put(append(images, contours)...)
			study := contours.String(dicom.StudyInstanceUID)
			state := b.wait(study, is(StateRefused))
			d := detailOf(state)
			if !slices.Equal(d.Codes, []refusal.Code{c.code}) || !strings.Contains(state.Reason, "["+string(c.code)+"]") || d.report() == "" {
				t.Fatalf("the state is %+v, want code %s and a report", state, c.code)
			}
			b.delivered(d.report())
			for deadline := time.Now().Add(patience); b.p.Stats().Reasons[c.code] != 1; time.Sleep(2 * time.Millisecond) {
				if time.Now().After(deadline) { // it is counted once it is stored
					t.Fatalf("counted %d times", b.p.Stats().Reasons[c.code])
				}
			}
			report := b.stored(d.report())
			var text bytes.Buffer
			if err := sr.Text(&text, report); err != nil {
				t.Fatal(err)
			}
			reason, ok := refusal.Lookup(c.code)
			if !ok || !strings.Contains(text.String(), "Not computed: "+reason.Sentence) || !strings.Contains(text.String(), string(c.code)) {
				t.Errorf("the report does not say %q:\n%s", reason.Sentence, &text)
			}
			for _, tag := range []dicom.Tag{dicom.StudyInstanceUID, dicom.PatientID, dicom.PatientName, dicom.AccessionNumber} {
				if report.String(tag) != contours.String(tag) {
					t.Errorf("%s of the report is not that of the contours", tag)
				}
			}
			encoded, err := report.EncodedBytes()
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Contains(encoded, []byte(images[0].String(dicom.SOPInstanceUID))); got != c.images {
				t.Errorf("the report names the images: %v", got)
			}
			for _, secret := range []string{contours.String(dicom.PatientName), contours.String(dicom.PatientID)} {
				if strings.Contains(state.Reason, secret) {
					t.Errorf("the reason names the patient: %s", state.Reason)
				}
			}
		})
	}
}

// Rules that leave out every region are no refusal that anybody is told of.
func TestNothingWanted(t *testing.T) {
	b := newBenchWith(t, func(o *Options) { o.ReportRefusals, o.Rules = true, []Rule{{Profile: Skip}} })
	contours, images := bundled(t)
	b.put(append(images, contours)...)
	state := b.wait(contours.String(dicom.StudyInstanceUID), is(StateRefused))
	if d := detailOf(state); d.report() != "" || !slices.Equal(d.Codes, []refusal.Code{refusal.RulesNone}) {
		t.Errorf("%+v", state)
	}
}

// A segmentation that this product made and that comes back from a PACS is no contour: else each report would bring forth
// another one.
func TestOwnSegmentationComesBack(t *testing.T) {
	first := newBench(t, 0)
	contours, images := bundled(t)
	first.put(append(images, contours)...)
	study := contours.String(dicom.StudyInstanceUID)
	seg := first.stored(detailOf(first.wait(study, is(StateComputed))).Segmentation)
	if !roi.HoldsRegions(seg.String(dicom.SOPClassUID)) {
		t.Fatal("a segmentation holds no regions")
	}
	b := newBench(t, 20*time.Millisecond) // another radnode at the same PACS
	b.put(append(images, seg)...)
	b.put(contours)
	b.wait(study, is(StateComputed))
	s, err := b.store.Study(study)
	if states := ofContours(s.States); err != nil || len(states) != 1 {
		t.Errorf("%d states: %+v", len(states), states)
	}
}

// Contours drawn on the CT are measured on the PET of the study too, where the configuration says so.
func TestAlso(t *testing.T) {
	contours, images := bundled(t)
	var other []*dicom.DataSet
	_, again := bundled(t)
	for i, d := range again {
		d.SetString(dicom.SeriesInstanceUID, "1.2.3.4")
		d.SetString(dicom.SOPInstanceUID, dicom.UIDFrom("other", images[i].String(dicom.SOPInstanceUID)))
		other = append(other, d)
	}
	b := newBenchWith(t, func(o *Options) { o.Also, o.Quiet = []string{"CT"}, 50*time.Millisecond })
	study := contours.String(dicom.StudyInstanceUID)
	b.put(append(images, contours)...)
	b.wait(study, is(StateComputed))
	b.put(other...)
	key := contours.String(dicom.SOPInstanceUID) + "/1.2.3.4"
	state := b.wait(study, func(s store.State) bool { return s.Subject == key && s.Name == StateComputed })
	if state.Rule != RuleQuiet {
		t.Errorf("rule %q", state.Rule)
	}
	s, _ := b.store.Study(study)
	var values [][]sr.Measurement
	for _, state := range ofContours(s.States) {
		groups, err := sr.Measurements(b.stored(detailOf(state).report()))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, groups[0].Measurements)
	}
	if len(values) != 2 || len(values[0]) == 0 || !slices.EqualFunc(values[0], values[1], func(a, b sr.Measurement) bool { return a.Value == b.Value && a.Concept == b.Concept }) {
		t.Errorf("%d reports, with other values on the same voxels", len(values))
	}
}

// Regions that belong elsewhere, or cannot be computed, are skipped by themselves; the others are measured.
func TestRegionsSkipped(t *testing.T) {
	for name, c := range map[string]struct {
		change func(contours *dicom.DataSet)
		code   refusal.Code
	}{
		"another frame of reference": {func(d *dicom.DataSet) {
			d.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.ReferencedFrameOfReferenceUID, "1.2.3")
		}, refusal.ContoursFrame},
		"another series by name": {func(d *dicom.DataSet) {
			source := dicom.New()
			source.SetString(dicom.SeriesInstanceUID, "1.2.3")
			d.Seq(dicom.ROIContourSequence)[0].SetSeq(dicom.SourceSeriesSequence, source)
		}, refusal.ContoursSeries},
		"images of another series": {func(d *dicom.DataSet) {
			for _, c := range d.Seq(dicom.ROIContourSequence)[0].Seq(dicom.ContourSequence) {
				c.Seq(dicom.ContourImageSequence)[0].SetString(dicom.ReferencedSOPInstanceUID, "1.2.3.4")
			}
		}, refusal.ContoursSeries},
		"a profile that is none": {nil, refusal.MeasureFailed},
	} {
		t.Run(name, func(t *testing.T) {
			contours, images := readStudy(t, testdata.SyntheticCT)
			if c.change != nil {
				c.change(contours.DataSet)
			}
			choose := func(image *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
				p, ok, err := simple(image, r)
				if c.change == nil && r.Number == 1 {
					p.Aggregate = append(p.Aggregate, "sideways")
				}
				return p, ok, err
			}
			m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: choose})
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Regions) != 1 || len(m.Skipped) != 1 || m.Skipped[0].Region.Number != 1 || m.Skipped[0].Reason.Code != c.code {
				t.Errorf("%d regions measured, skipped %+v, want ROI 1 with %s", len(m.Regions), m.Skipped, c.code)
			}
		})
	}
}

// Contours whose bytes break off are refused by name, and the next study is measured.
func TestMalformedContours(t *testing.T) {
	b := newBenchWith(t, func(o *Options) { o.ReportRefusals = true })
	contours, images := bundled(t)
	data, err := contours.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	meta := dicom.FileMeta{
		MediaStorageSOPClassUID: contours.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: contours.String(dicom.SOPInstanceUID),
		TransferSyntaxUID: dicom.ExplicitVRLittleEndian, SourceApplicationEntityTitle: "SCANNER",
	}
	if err := b.store.Put(t.Context(), meta, bytes.NewReader(data[:len(data)-3])); err != nil {
		t.Fatal(err)
	}
	b.put(images...)
	state := b.wait(contours.String(dicom.StudyInstanceUID), is(StateRefused))
	if d := detailOf(state); !slices.Equal(d.Codes, []refusal.Code{refusal.ObjectMalformed}) || d.report() != "" {
		t.Errorf("%+v", state)
	}
}

// A segmentation that names no image is of the only series in its frame of reference: it is measured there once, also where
// `also` has the modality, and a series that comes later does not take that back. With two series from the start it is refused.
func TestSegmentationWithoutReferences(t *testing.T) {
	first := newBench(t, 0)
	contours, images := bundled(t)
	first.put(append(images, contours)...)
	study := contours.String(dicom.StudyInstanceUID)
	seg := first.stored(detailOf(first.wait(study, is(StateComputed))).Segmentation)
	f, done, err := first.p.open(seg.String(dicom.SOPInstanceUID))
	if err != nil {
		t.Fatal(err)
	}
	seg = f.DataSet
	seg.SetBytes(dicom.PixelData, dicom.OB, pixelBytes(t, f))
	done()
	seg.SetString(dicom.ManufacturerModelName, "another")
	seg.SetString(dicom.SOPInstanceUID, "1.2.3.4.5")
	seg.SetString(dicom.SeriesInstanceUID, "1.2.3.4")
	for _, tag := range []dicom.Tag{dicom.ReferencedSeriesSequence, dicom.SourceImageSequence} {
		seg.Remove(tag)
	}
	for _, group := range append(seg.Seq(dicom.PerFrameFunctionalGroupsSequence), seg.Seq(dicom.SharedFunctionalGroupsSequence)...) {
		group.Remove(dicom.DerivationImageSequence)
	}
	if refs, err := roi.References(seg); err != nil || len(refs) != 1 || len(refs[0].Instances) != 0 {
		t.Fatalf("%+v, %v", refs, err)
	}
	var other []*dicom.DataSet
	_, again := bundled(t)
	for _, d := range again {
		d.SetString(dicom.SOPInstanceUID, dicom.UIDFrom("other", d.String(dicom.SOPInstanceUID)))
		d.SetString(dicom.SeriesInstanceUID, "1.2.3.4.6")
		other = append(other, d)
	}

	change := func(o *Options) { o.Also, o.Quiet, o.ReportRefusals = []string{"CT"}, 50*time.Millisecond, true }
	b := newBenchWith(t, change)
	b.put(append(images, seg)...)
	computed := func(series string) func(store.State) bool {
		return func(s store.State) bool { return s.Name == StateComputed && s.Subject == "1.2.3.4.5/"+series }
	}
	b.wait(study, computed(""))
	b.put(other...)
	b.wait(study, computed("1.2.3.4.6"))
	s, err := b.store.Study(study)
	if err != nil {
		t.Fatal(err)
	}
	states := ofContours(s.States)
	for _, state := range states {
		if state.Name != StateComputed || len(states) != 2 {
			t.Errorf("%d states, one of them: %s %s %s", len(states), state.Subject, state.Name, state.Reason)
		}
	}

	b = newBenchWith(t, change)
	b.put(append(images, other...)...)
	b.put(seg)
	d := detailOf(b.wait(study, is(StateRefused)))
	if !slices.Equal(d.Codes, []refusal.Code{refusal.ContoursReferences}) {
		t.Errorf("refused by %v", d.Codes)
	}
}

// putReplaced stores objects in whose bytes a text stands for another of the same length.
func (b *bench) putReplaced(old, by string, objects ...*dicom.DataSet) {
	b.t.Helper()
	for _, d := range objects {
		data, err := d.EncodedBytes()
		if err != nil {
			b.t.Fatal(err)
		}
		if !bytes.Contains(data, []byte(old)) {
			b.t.Fatalf("%s is not in the object", old)
		}
		meta := dicom.FileMeta{
			MediaStorageSOPClassUID: d.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID),
			TransferSyntaxUID: dicom.ExplicitVRLittleEndian, SourceApplicationEntityTitle: "SCANNER",
		}
		if err := b.store.Put(b.t.Context(), meta, bytes.NewReader(bytes.ReplaceAll(data, []byte(old), []byte(by)))); err != nil {
			b.t.Fatal(err)
		}
	}
}

// Some devices write UIDs with leading zeros (PS3.5 9.1): their images are measured, and the report names them as they are.
func TestLeadingZeros(t *testing.T) {
	contours, images := bundled(t)
	series := images[0].String(dicom.SeriesInstanceUID)
	zeros := "1.2.03." + strings.Repeat("4", len(series)-len("1.2.03."))
	b := newBench(t, 50*time.Millisecond)
	b.putReplaced(series, zeros, append(images, contours)...)
	state := b.wait(contours.String(dicom.StudyInstanceUID), func(s store.State) bool { return s.Name != StateWaiting && s.Name != StateQueued })
	if state.Name != StateComputed {
		t.Fatalf("%s: %s", state.Name, state.Reason)
	}
	data, err := b.stored(detailOf(state).report()).EncodedBytes()
	if err != nil || !bytes.Contains(data, []byte(zeros)) {
		t.Errorf("the report does not name the series (%v)", err)
	}
}

// Where no object can be written of what was measured, it is refused by that and not tried again.
func TestNotWritable(t *testing.T) {
	contours, images := bundled(t)
	frame := images[0].String(dicom.FrameOfReferenceUID)
	b := newBenchWith(t, func(o *Options) { o.Quiet, o.ReportRefusals = 50*time.Millisecond, true })
	b.putReplaced(frame, "x"+frame[1:], append(images, contours)...)
	state := b.wait(contours.String(dicom.StudyInstanceUID), is(StateRefused))
	if d := detailOf(state); !slices.Equal(d.Codes, []refusal.Code{refusal.MeasureFailed}) || d.report() != "" {
		t.Errorf("%+v", state)
	}
}

// A series that is complete by its own count and lacks a slice is refused, once; the slice that comes late repairs it, and the
// report that follows supersedes the one that says why there were no values. So does the next one where a computation was
// given up in between.
func TestRefusalIsSuperseded(t *testing.T) {
	contours, images := bundled(t)
	drawn := contoured(contours)
	dropSeriesList(contours)
	for _, r := range contours.Seq(dicom.ROIContourSequence) { // the missing slice is not named
		for _, c := range r.Seq(dicom.ContourSequence) {
			c.Remove(dicom.ContourImageSequence)
		}
		source := dicom.New()
		source.SetString(dicom.SeriesInstanceUID, images[0].String(dicom.SeriesInstanceUID))
		r.SetSeq(dicom.SourceSeriesSequence, source)
	}
	slices.SortFunc(images, func(a, b *dicom.DataSet) int {
		za, _ := a.Floats(dicom.ImagePositionPatient)
		zb, _ := b.Floats(dicom.ImagePositionPatient)
		return cmp.Compare(za[2], zb[2])
	})
	late := slices.IndexFunc(images, func(d *dicom.DataSet) bool { return drawn[d.String(dicom.SOPInstanceUID)] })
	if late < 2 {
		t.Fatalf("slice %d is no slice inside the stack", late)
	}
	for _, d := range images {
		d.SetInt(dicom.NumberOfSeriesRelatedInstances, len(images)-1)
	}
	b := newBenchWith(t, func(o *Options) { o.ReportRefusals, o.Quiet = true, 50*time.Millisecond })
	b.put(slices.Delete(slices.Clone(images), late, late+1)...)
	b.put(contours, contours) // twice
	study := contours.String(dicom.StudyInstanceUID)
	first := detailOf(b.wait(study, is(StateRefused)))
	if !slices.Equal(first.Codes, []refusal.Code{refusal.GeometryGap}) || first.report() == "" {
		t.Fatalf("%+v", first)
	}
	b.delivered(first.report())
	b.put(contours)
	b.put(images[late])
	second := detailOf(b.wait(study, is(StateComputed)))
	b.delivered(second.report())
	if got := predecessors(b.stored(second.report())); second.Revision != 2 || len(got) != 1 || got[0] != first.report() {
		t.Errorf("revision %d names %v, want the report %s", second.Revision, got, first.report())
	}
	b.mu.Lock()
	if want := []string{first.report(), second.Segmentation, second.report()}; !slices.Equal(b.sent, want) {
		t.Errorf("sent %v, want %v", b.sent, want)
	}
	b.mu.Unlock()

	job := store.Job{Queue: computeQueue, Study: study, Key: "compute/x", Tries: failTries, RunAt: time.Now().Add(time.Hour)}
	var err error
	if job.Payload, err = json.Marshal(task{Subject: contours.String(dicom.SOPInstanceUID), Series: second.Series, Input: "later"}); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Commit(t.Context(), store.Change{Jobs: []store.Job{job}}); err != nil {
		t.Fatal(err)
	}
	if err := b.p.failed(t.Context(), &job, errors.New("the disk")); err != nil {
		t.Fatal(err)
	}
	if d := detailOf(b.wait(study, is(StateFailed))); d.report() != second.report() || d.Revision != 2 {
		t.Errorf("the report that stands is forgotten: %+v", d)
	}
}

// Where the UIDs of all named images were changed on the way, a region belongs to the series whose list names its images.
func TestRegionsOfChangedSeries(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	d := contours.DataSet
	series := seriesItem(t, d)
	other := dicom.New() // of the second region, which is drawn on a series of its own
	other.SetString(dicom.SeriesInstanceUID, "1.2.3")
	var list []*dicom.DataSet
	for _, c := range d.Seq(dicom.ROIContourSequence)[1].Seq(dicom.ContourSequence) {
		image := c.Seq(dicom.ContourImageSequence)[0]
		image.SetString(dicom.ReferencedSOPInstanceUID, dicom.UIDFrom("other", image.String(dicom.ReferencedSOPInstanceUID)))
		list = append(list, image)
	}
	other.SetSeq(dicom.ContourImageSequence, list...)
	for _, frame := range d.Seq(dicom.ReferencedFrameOfReferenceSequence) {
		for _, study := range frame.Seq(dicom.RTReferencedStudySequence) {
			study.SetSeq(dicom.RTReferencedSeriesSequence, series, other)
		}
	}
	for _, f := range images {
		f.DataSet.SetString(dicom.SOPInstanceUID, dicom.UIDFrom("changed", f.DataSet.String(dicom.SOPInstanceUID)))
	}
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: simple})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Regions) != 1 || m.Regions[0].Region.Number != 1 || len(m.Skipped) != 1 || m.Skipped[0].Reason.Code != refusal.ContoursSeries {
		t.Errorf("%d regions measured, skipped %+v", len(m.Regions), m.Skipped)
	}
}
