package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

// balanceOf reads the balance as a program does, sums its days up, and fails where one does not come out.
func balanceOf(t testing.TB, data string) map[string]int {
	t.Helper()
	out, _ := asked(t, exitDone, "balance", "--data", data)
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	const head = "day,received,bytes,again,unmatched,waiting,queued,computed,refused,failed,quarantined,conflict,not_measured," +
		"left_retention_age,left_retention_quota,left_discarded,difference"
	if got := strings.Join(rows[0], ","); got != head {
		t.Fatalf("heading %s, want %s", got, head)
	}
	sum := map[string]int{}
	for _, row := range rows[1:] {
		total := 0
		for i, name := range rows[0][1:] {
			n, err := strconv.Atoi(row[i+1])
			if err != nil {
				t.Fatal(err)
			}
			sum[name] += n
			switch name {
			case "received":
				total += n
			case "bytes", "again", "difference":
			default:
				total -= n
			}
		}
		if total != 0 || sum["difference"] != 0 {
			t.Errorf("%s does not come out:\n%s", row[0], out)
		}
	}
	maps.DeleteFunc(sum, func(name string, n int) bool { return n == 0 || name == "bytes" })
	return sum
}

// changed is an object with one attribute written anew.
func (o demoObject) changed(t testing.TB, change func(*dicom.DataSet)) demoObject {
	t.Helper()
	f, err := dicom.ReadDataSet(bytes.NewReader(o.data), int64(len(o.data)), o.meta.TransferSyntaxUID)
	if err != nil {
		t.Fatal(err)
	}
	d := f.DataSet
	if f.Pixels != nil {
		pixels, err := io.ReadAll(f.Pixels.Reader())
		if err != nil {
			t.Fatal(err)
		}
		d.SetBytes(f.Pixels.Tag, f.Pixels.VR, pixels)
	}
	change(d)
	o.meta.MediaStorageSOPInstanceUID = d.String(dicom.SOPInstanceUID)
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	o.data, o.meta.TransferSyntaxUID = b, dicom.ExplicitVRLittleEndian
	return o
}

func contoursOf(t testing.TB, objects []demoObject) demoObject {
	t.Helper()
	i := slices.IndexFunc(objects, func(o demoObject) bool { return o.meta.MediaStorageSOPClassUID == dicom.RTStructureSetStorage })
	if i < 0 {
		t.Fatal("no contours")
	}
	return objects[i]
}

// Everything that was received is accounted for, whatever became of it: waiting, computed, come again, in conflict, quarantined,
// released, of no use, discarded.
func TestBalanceComesOut(t *testing.T) {
	objects := demoObjects(t)
	first := objects[0].dataSet(t)
	study := first.String(dicom.StudyInstanceUID)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	n, stop := startNode(t, cfg)
	all := len(objects)

	want := func(doing string, want map[string]int) {
		t.Helper()
		if got := balanceOf(t, cfg.Data); !maps.Equal(got, want) {
			t.Fatalf("%s: %v, want %v", doing, got, want)
		}
	}
	want("nothing yet", map[string]int{})
	images := slices.DeleteFunc(slices.Clone(objects), func(o demoObject) bool { return o.meta.MediaStorageSOPClassUID == dicom.RTStructureSetStorage })
	pushOver(t, n.peer(), 2, images[1:])
	want("images alone", map[string]int{"received": all - 2, "unmatched": all - 2})
	contours := contoursOf(t, objects)
	pushOver(t, n.peer(), 1, []demoObject{contours})
	waitState(t, n.store, study, pipeline.StateWaiting, func(store.State) bool { return true })
	want("contours", map[string]int{"received": all - 1, "waiting": all - 1})
	pushOver(t, n.peer(), 1, images[:1])
	pacs.waitReports(t, 1)
	waitIdle(t, n)
	want("complete", map[string]int{"received": all, "computed": all})

	pushOver(t, n.peer(), 3, objects)
	want("all again", map[string]int{"received": all, "computed": all, "again": all})

	// Other bytes under the UID of contours: the first stay.
	other := contours.changed(t, func(d *dicom.DataSet) { d.SetString(dicom.StructureSetLabel, "OTHER") })
	pushOver(t, n.peer(), 1, []demoObject{other})
	want("other bytes", map[string]int{"received": all + 1, "computed": all, "again": all, "conflict": 1})
	text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "1 instance conflict: kept as evidence", "conflict: "+contours.meta.MediaStorageSOPInstanceUID, "radnode discard --instance")

	// Of another patient, in the same study.
	foreign := images[0].changed(t, func(d *dicom.DataSet) {
		d.SetString(dicom.PatientID, "FOREIGN-4711")
		d.SetString(dicom.SOPInstanceUID, "1.2.3.4711")
	})
	pushOver(t, n.peer(), 1, []demoObject{foreign})
	want("another patient", map[string]int{"received": all + 2, "computed": all, "again": all, "conflict": 1, "quarantined": 1})
	text, _ = asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "1 instance in quarantine: Patient ID differs", "1.2.3.4711", "radnode requeue "+study+" --release all", "radnode discard --instance")
	over, _ := asked(t, exitDone, "status", "--data", cfg.Data)
	says(t, over, "! 1 instance in quarantine", "! 1 instance came with other bytes")
	_, errs := asked(t, exitFailed, "discard", "--data", cfg.Data, study)
	says(t, errs, "1 quarantined, 1 conflict", "nothing was removed")
	for _, text := range []string{text, over, errs} {
		if strings.Contains(text, "FOREIGN") {
			t.Errorf("tells a Patient ID:\n%s", text)
		}
	}
	impersonal(t, text+over+errs, objects)

	// A report from elsewhere is kept and of no use.
	report := pacs.received(reportClasses...)[0].changed(t, func(d *dicom.DataSet) { d.SetString(dicom.SOPInstanceUID, "1.2.3.4712") })
	pushOver(t, n.peer(), 1, []demoObject{report})
	want("a report", map[string]int{"received": all + 3, "computed": all, "again": all, "conflict": 1, "quarantined": 1, "not_measured": 1})

	out, _ := asked(t, exitDone, "discard", "--data", cfg.Data, "--instance", contours.meta.MediaStorageSOPInstanceUID)
	says(t, out, "removed: 1 instance, ")
	want("evidence discarded", map[string]int{"received": all + 3, "computed": all, "again": all, "left_discarded": 1, "quarantined": 1, "not_measured": 1})
	_, errs = asked(t, exitFailed, "requeue", "--data", cfg.Data, study, "--release", "1.2.3.4")
	says(t, errs, "no such instance is quarantined")
	_, errs = asked(t, exitFailed, "discard", "--data", cfg.Data, "--instance", images[0].meta.MediaStorageSOPInstanceUID)
	says(t, errs, "neither quarantined nor")
	// What came with other bytes under the UID of one in quarantine may be of the right patient.
	pushOver(t, n.peer(), 1, []demoObject{foreign.changed(t, func(d *dicom.DataSet) { d.SetString(dicom.PatientID, first.String(dicom.PatientID)) })})
	_, errs = asked(t, exitFailed, "discard", "--data", cfg.Data, "--instance", "1.2.3.4711")
	says(t, errs, "would go with it: 1", "nothing was removed", "--force")
	want("kept both", map[string]int{"received": all + 4, "computed": all, "again": all, "left_discarded": 1, "quarantined": 1, "conflict": 1, "not_measured": 1})
	out, _ = asked(t, exitDone, "discard", "--data", cfg.Data, "--force", "--instance", "1.2.3.4711")
	says(t, out, "removed: 2 instances, ")
	want("quarantined discarded", map[string]int{"received": all + 4, "computed": all, "again": all, "left_discarded": 3, "not_measured": 1})

	// The same from the files alone, and after the study has left.
	stop()
	want("stopped", map[string]int{"received": all + 4, "computed": all, "again": all, "left_discarded": 3, "not_measured": 1})
	out, _ = asked(t, exitDone, "discard", "--data", cfg.Data, study)
	says(t, out, "removed: ")
	_, errs = asked(t, exitFailed, "status", "--data", cfg.Data, study)
	says(t, errs, "unknown here")
	want("study discarded", map[string]int{"received": all + 4, "again": all, "left_discarded": all + 4})

	// It may come again, and its report is made again.
	n, _ = startNode(t, cfg)
	before := len(pacs.received(reportClasses...))
	pushOver(t, n.peer(), 2, objects)
	pacs.waitReports(t, before+1)
	waitIdle(t, n)
	want("come again", map[string]int{"received": 2*all + 4, "computed": all, "again": all, "left_discarded": all + 4})

	out, _ = asked(t, exitDone, "balance", "--data", cfg.Data, "--to", "2001-01-01")
	if strings.Count(out, "\n") != 1 {
		t.Errorf("days before the first: %s", out)
	}
	out, _ = asked(t, exitDone, "balance", "--data", cfg.Data, "--days", "2")
	if strings.Count(out, "\n") < 2 {
		t.Errorf("not today: %s", out)
	}
	_, errs = asked(t, exitUsage, "balance", "--data", cfg.Data, "--from", "yesterday")
	says(t, errs, "2026-11-25")
}

// Images in quarantine are as if they were not here, and the state says so; released they complete the study.
func TestReleaseCompletes(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	n, _ := startNode(t, cfg)
	var send []demoObject
	foreign := 0
	for i, o := range objects {
		if o.meta.MediaStorageSOPClassUID == dicom.CTImageStorage && i > len(objects)-4 {
			o = o.changed(t, func(d *dicom.DataSet) { d.SetString(dicom.PatientID, "FOREIGN") })
			foreign++
		}
		send = append(send, o)
	}
	pushOver(t, n.peer(), 1, send)
	state := waitState(t, n.store, study, pipeline.StateWaiting, func(s store.State) bool { return len(s.Missing) == foreign })
	if want := fmt.Sprintf("of these %d are here in quarantine", foreign); foreign == 0 || !strings.Contains(state.Reason, want) {
		t.Errorf("%q, want %q", state.Reason, want)
	}
	if got, want := balanceOf(t, cfg.Data), (map[string]int{"received": len(objects), "waiting": len(objects) - foreign, "quarantined": foreign}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	out, _ := asked(t, exitDone, "requeue", "--data", cfg.Data, study, "--release", "all")
	says(t, out, fmt.Sprint(foreign, " instances released"))
	waitState(t, n.store, study, pipeline.StateComputed, func(store.State) bool { return true })
	waitIdle(t, n)
	if got, want := balanceOf(t, cfg.Data), (map[string]int{"received": len(objects), "computed": len(objects)}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A node that holds more than its quota lets finished studies go, the oldest first, and keeps what is not finished or was
// delivered to nobody.
func TestRetention(t *testing.T) {
	objects := demoObjects(t)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	cfg.Retention.Quota = quota{bytes: 1}
	n, _ := startNode(t, cfg)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	pushOver(t, n.peer(), 2, objects)
	pacs.waitReports(t, 1)
	waitIdle(t, n)
	lone := contoursOf(t, objects).changed(t, func(d *dicom.DataSet) { // waits for ever
		d.SetString(dicom.SOPInstanceUID, "1.2.3.1")
		d.SetString(dicom.StudyInstanceUID, "1.2.3.2")
		d.Remove(dicom.ROIContourSequence) // which names images too
		for _, f := range d.Seq(dicom.ReferencedFrameOfReferenceSequence) {
			for _, s := range f.Seq(dicom.RTReferencedStudySequence) {
				for _, s := range s.Seq(dicom.RTReferencedSeriesSequence) {
					s.SetString(dicom.SeriesInstanceUID, "1.2.3.3")
					for i, c := range s.Seq(dicom.ContourImageSequence) {
						c.SetString(dicom.ReferencedSOPInstanceUID, fmt.Sprint("1.2.3.4.", i))
					}
				}
			}
		}
	})
	image := objects[1]
	for _, o := range objects {
		if o.meta.MediaStorageSOPClassUID == dicom.CTImageStorage {
			image = o
		}
	}
	unmatched := image.changed(t, func(d *dicom.DataSet) {
		d.SetString(dicom.SOPInstanceUID, "1.2.3.5")
		d.SetString(dicom.StudyInstanceUID, "1.2.3.6")
		d.SetString(dicom.SeriesInstanceUID, "1.2.3.7")
	})
	pushOver(t, n.peer(), 1, []demoObject{lone, unmatched})
	waitState(t, n.store, "1.2.3.2", pipeline.StateWaiting, func(store.State) bool { return true })

	retain := func(after time.Duration) pipeline.Retained {
		t.Helper()
		totals, err := n.pipeline.Totals(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done, err := n.pipeline.Retain(t.Context(), time.Now().Add(after), pipeline.Space{Bytes: totals.Bytes, Free: -1})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if done := retain(0); done.Studies != 0 || done.Over == 0 {
		t.Errorf("just finished: %+v", done)
	}
	done := retain(2 * time.Hour)
	if done.Studies != 1 || done.Unfinished != 1 || done.Instances <= len(objects) || done.Over == 0 {
		t.Errorf("after two hours: %+v", done)
	}
	if _, err := n.store.Study(study); err == nil {
		t.Error("the finished study is still here")
	}
	if done := retain(29 * 24 * time.Hour); done.Studies != 0 {
		t.Errorf("after 29 days: %+v", done)
	}
	if done := retain(31 * 24 * time.Hour); done.Studies != 1 {
		t.Errorf("after 31 days: %+v", done)
	}
	if done := retain(1000 * 24 * time.Hour); done.Studies != 0 || done.Unfinished != 1 {
		t.Errorf("what is not finished: %+v", done)
	}
	if got, want := balanceOf(t, cfg.Data), (map[string]int{"received": len(objects) + 2, "waiting": 1, "left_retention_quota": len(objects) + 1}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Finished studies leave before the reserve is reached, where new objects are refused.
func TestRoomForTheReserve(t *testing.T) {
	cfg := testConfig(t)
	cfg.Reserve = 4 << 30
	n, _ := startNode(t, cfg)
	disk := n.store.Space()
	if disk.Reserve < 1<<30 {
		t.Skip("the disk is too small for a reserve that stands out")
	}
	space, err := n.pipeline.Space()
	if err != nil || space.Free > max(0, disk.Free-disk.Reserve/2) {
		t.Errorf("%+v, %v of %+v: the quota counts on what new objects do not get", space, err, disk)
	}
}

// Without a destination nobody has the reports, so nothing leaves by itself.
func TestRetentionKeepsWhatNobodyHas(t *testing.T) {
	objects := demoObjects(t)
	cfg := testConfig(t)
	cfg.Retention = RetentionConfig{Age: span(time.Hour), Quota: quota{bytes: 1}, Unmatched: span(time.Hour)}
	n, _ := startNode(t, cfg)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	pushOver(t, n.peer(), 2, objects)
	waitState(t, n.store, study, pipeline.StateComputed, func(store.State) bool { return true })
	waitIdle(t, n)
	done, err := n.pipeline.Retain(t.Context(), time.Now().AddDate(10, 0, 0), pipeline.Space{Bytes: 1 << 40, Free: -1})
	if err != nil || done.Studies != 0 || done.Unfinished != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "delivered nowhere")
}

func TestRetentionKey(t *testing.T) {
	for text, want := range map[string]RetentionConfig{
		"workers: 2":                              defaultRetention,
		"retention: {quota: none}":                {Unmatched: defaultRetention.Unmatched},
		"retention: {quota: 500GiB}":              {Quota: quota{bytes: 500 << 30}, Unmatched: defaultRetention.Unmatched},
		"retention: {quota: 1073741824}":          {Quota: quota{bytes: 1 << 30}, Unmatched: defaultRetention.Unmatched},
		"retention: {quota: 62.5%}":               {Quota: quota{share: 0.625}, Unmatched: defaultRetention.Unmatched},
		"retention: {age: 90d}":                   {Quota: defaultRetention.Quota, Age: span(90 * 24 * time.Hour), Unmatched: defaultRetention.Unmatched},
		"retention: {age: 1d12h, unmatched: 36h}": {Quota: defaultRetention.Quota, Age: span(36 * time.Hour), Unmatched: span(36 * time.Hour)},
	} {
		if c, err := parseConfig([]byte(text)); err != nil || c.Retention != want {
			t.Errorf("%q: %+v, %v, want %+v", text, c.Retention, err, want)
		}
	}
	for text, want := range map[string]string{
		"retention: {quota: 500GB}":    "retention.quota",
		"retention: {quota: 80}":       "retention.quota",
		"retention: {quota: 100%}":     "retention.quota: write a size of at least 16MiB, as 500GiB, or 1% to 95%",
		"retention: {quota: -5%}":      "retention.quota: write a size of at least 16MiB, as 500GiB, or 1% to 95%",
		"retention: {age: 90}":         "retention.age",
		"retention: {age: -90d}":       "retention.age",
		"retention: {age: 5m}":         "retention.age",
		"retention: {age: 1000000d}":   "retention.age",
		"retention: {unmatched: none}": "retention.unmatched",
		"retention: {days: 3}":         "days",
	} {
		if c, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, c.Retention, err, want)
		}
	}
}

// A correction under the same UID is measured where the configuration says so: a report that supersedes the first one, once nothing
// more comes. What was corrected is kept as evidence.
func TestKeepLastSupersedes(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	cfg.Conflicts = conflictPolicy(store.KeepLast)
	cfg.Quiet = 100 * time.Millisecond
	n, _ := startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects)
	first := pacs.waitReports(t, 1)[0]
	contours := contoursOf(t, objects)
	corrected := contours.changed(t, func(d *dicom.DataSet) { d.SetString(dicom.StructureSetLabel, "CORRECTED") })
	pushOver(t, n.peer(), 1, []demoObject{corrected})
	second := pacs.waitReports(t, 2)[1].dataSet(t)
	named := false
	for _, s := range second.Seq(dicom.PredecessorDocumentsSequence) {
		for _, s := range s.Seq(dicom.ReferencedSeriesSequence) {
			for _, r := range s.Seq(dicom.ReferencedSOPSequence) {
				named = named || r.String(dicom.ReferencedSOPInstanceUID) == first.meta.MediaStorageSOPInstanceUID
			}
		}
	}
	if !named {
		t.Error("the second report does not name the first as its predecessor")
	}
	waitIdle(t, n)
	r := statusOf(t, cfg.Data, study)
	if c := r.Contours; len(c) != 1 || c[0].Revision != 2 || c[0].State != pipeline.StateComputed {
		t.Errorf("%+v", c)
	}
	if got, want := balanceOf(t, cfg.Data), (map[string]int{"received": len(objects) + 1, "computed": len(objects), "conflict": 1}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}

	// An image too.
	i := slices.IndexFunc(objects, func(o demoObject) bool { return o.meta.MediaStorageSOPClassUID == dicom.CTImageStorage })
	pushOver(t, n.peer(), 1, []demoObject{objects[i].changed(t, func(d *dicom.DataSet) { d.SetString(dicom.SeriesDescription, "CORRECTED") })})
	pacs.waitReports(t, 3)
	waitIdle(t, n)
	if c := statusOf(t, cfg.Data, study).Contours; len(c) != 1 || c[0].Revision != 3 {
		t.Errorf("%+v", c)
	}
}

// Contours that wait for an image which does not exist are corrected: the correction is read anew.
func TestKeepLastOfWaiting(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	cfg := testConfig(t)
	cfg.Conflicts = conflictPolicy(store.KeepLast)
	n, _ := startNode(t, cfg)
	contours := contoursOf(t, objects)
	wrong := contours.changed(t, func(d *dicom.DataSet) {
		for _, f := range d.Seq(dicom.ReferencedFrameOfReferenceSequence) {
			for _, s := range f.Seq(dicom.RTReferencedStudySequence) {
				for _, s := range s.Seq(dicom.RTReferencedSeriesSequence) {
					s.Seq(dicom.ContourImageSequence)[0].SetString(dicom.ReferencedSOPInstanceUID, "1.2.3.4")
				}
			}
		}
	})
	images := slices.DeleteFunc(slices.Clone(objects), func(o demoObject) bool { return o.meta.MediaStorageSOPClassUID == dicom.RTStructureSetStorage })
	pushOver(t, n.peer(), 1, append(images, wrong))
	waitState(t, n.store, study, pipeline.StateWaiting, func(s store.State) bool { return slices.Equal(s.Missing, []string{"1.2.3.4"}) })
	pushOver(t, n.peer(), 1, []demoObject{contours})
	waitState(t, n.store, study, pipeline.StateComputed, func(store.State) bool { return true })
}

// Contours that lie in another study hold the images that they refer to: what became of these is told by those, and they do not leave
// before them.
func TestContoursOfAnotherStudy(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	cfg.Retention = RetentionConfig{Age: span(time.Hour), Unmatched: span(time.Hour)}
	n, _ := startNode(t, cfg)
	contours := contoursOf(t, objects).changed(t, func(d *dicom.DataSet) { d.SetString(dicom.StudyInstanceUID, "1.2.3.9") })
	images := slices.DeleteFunc(slices.Clone(objects), func(o demoObject) bool { return o.meta.MediaStorageSOPClassUID == dicom.RTStructureSetStorage })
	pushOver(t, n.peer(), 1, []demoObject{contours})
	pushOver(t, n.peer(), 1, images[1:])
	waitState(t, n.store, "1.2.3.9", pipeline.StateWaiting, func(s store.State) bool { return len(s.Missing) == 1 })
	r := statusOf(t, cfg.Data, study)
	if got, want := r.Instances, (map[string]int{"waiting": len(images) - 1}); !maps.Equal(got, want) || !slices.Equal(r.Abroad, []string{"1.2.3.9"}) {
		t.Errorf("%v, %v, want %v", got, r.Abroad, want)
	}
	text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "contours in study 1.2.3.9 refer to images of this one")
	retain := func() pipeline.Retained {
		t.Helper()
		done, err := n.pipeline.Retain(t.Context(), time.Now().AddDate(1, 0, 0), pipeline.Space{})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if done := retain(); done.Studies != 0 || done.Unfinished != 2 {
		t.Errorf("while the contours wait: %+v", done)
	}
	_, errs := asked(t, exitFailed, "discard", "--data", cfg.Data, study)
	says(t, errs, "not finished")
	pushOver(t, n.peer(), 1, images[:1])
	pacs.waitReports(t, 1)
	waitIdle(t, n)
	over, err := n.pipeline.Totals(t.Context())
	if err != nil || !maps.Equal(over.Instances, map[string]int{"computed": len(objects)}) {
		t.Errorf("%v, %v", over.Instances, err)
	}
	if got, want := balanceOf(t, cfg.Data), (map[string]int{"received": len(objects), "computed": len(objects)}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if done := retain(); done.Studies != 2 {
		t.Errorf("when all is done: %+v", done)
	}
	if got, want := balanceOf(t, cfg.Data), (map[string]int{"received": len(objects), "left_retention_age": len(objects)}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
