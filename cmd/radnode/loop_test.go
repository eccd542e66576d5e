package main

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// A study comes back as one report, the same bytes whatever the order and the number of associations.
func TestSameReportInAnyOrder(t *testing.T) {
	objects := demoObjects(t)
	reversed := slices.Clone(objects)
	slices.Reverse(reversed)
	var first []demoObject
	for _, c := range []struct {
		name         string
		associations int
		objects      []demoObject
	}{
		{"contours first", 1, objects},
		{"contours last", 1, reversed},
		{"shuffled", 1, shuffled(1, objects)},
		{"twice", 1, slices.Concat(objects, shuffled(2, objects))},
		{"four associations", 4, shuffled(3, objects)},
		{"four associations, all twice", 4, shuffled(4, slices.Concat(objects, objects))},
	} {
		t.Run(c.name, func(t *testing.T) {
			pacs := startPACS(t, "127.0.0.1:0")
			cfg := testConfig(t)
			cfg.Deliver = []string{pacs.destination()}
			n, _ := startNode(t, cfg)
			pushOver(t, n.peer(), c.associations, c.objects)
			report := pacs.waitReports(t, 1)[0]
			waitIdle(t, n)
			if got := len(pacs.received(reportClasses...)); got != 1 {
				t.Errorf("%d reports, want 1", got)
			}
			segs := pacs.received(dicom.SegmentationStorage)
			if len(segs) != 1 {
				t.Fatalf("%d segmentations, want 1", len(segs))
			}
			if first == nil {
				first = pacs.objects
			} else if err := sameObjects(first, pacs.objects); err != nil {
				t.Errorf("not the same as in another order: %v", err)
			}
			in := objects[0].dataSet(t)
			out := report.dataSet(t)
			if got, want := out.String(dicom.StudyInstanceUID), in.String(dicom.StudyInstanceUID); got != want {
				t.Errorf("report in study %s, want that of the images, %s", got, want)
			}
			if v := values(t, out); len(v) != 2 || len(v["GTV-1"]) != 174 {
				t.Errorf("report has %d regions and %d values of GTV-1, want 2 and 174", len(v), len(v["GTV-1"]))
			}
		})
	}
}

// What is not complete waits, says what is missing, and goes on when it comes.
func TestWaitsForTheLastImage(t *testing.T) {
	objects := demoObjects(t)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	n, _ := startNode(t, cfg)
	last := objects[len(objects)-1]
	pushOver(t, n.peer(), 1, objects[:len(objects)-1])

	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	state := waitState(t, n.store, study, "waiting", func(s store.State) bool { return len(s.Missing) == 1 })
	if got, want := state.Missing[0], last.meta.MediaStorageSOPInstanceUID; got != want {
		t.Errorf("missing %s, want %s", got, want)
	}
	if state.Reason == "" {
		t.Error("the state does not say why it waits")
	}
	pushOver(t, n.peer(), 1, []demoObject{last})
	pacs.waitReports(t, 1)
	waitState(t, n.store, study, "computed", func(s store.State) bool { return s.Rule != "" })
}

// waitState waits until a study has a state of this name that suits.
func waitState(t testing.TB, st *store.Store, study, name string, suits func(store.State) bool) store.State {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s, err := st.Study(study)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		for _, state := range s.States {
			if state.Name == name && suits(state) {
				return state
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no state %q after %v: %+v", name, patience, s.States)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// A node that stops in between goes on where it was.
func TestGoesOnAfterRestart(t *testing.T) {
	objects := demoObjects(t)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	n, stop := startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects[:10])
	stop()
	n, stop = startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects[10:])
	pacs.waitReports(t, 1)
	waitIdle(t, n)
	stop()
	n, _ = startNode(t, cfg)
	waitIdle(t, n)
	if got := len(pacs.received(reportClasses...)); got != 1 {
		t.Errorf("%d reports after a restart, want 1: delivered work is not repeated", got)
	}
}

// A destination that is down delays nothing else, and gets its report when it is back.
func TestOutbox(t *testing.T) {
	objects := demoObjects(t)
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := down.Addr().String()
	down.Close()

	up := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{"PACS@" + addr, up.destination()}
	n, stop := startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects)
	want := up.waitReports(t, 1)[0]
	stop() // the outbox survives this
	startNode(t, cfg)

	back := startPACS(t, addr)
	if got := back.waitReports(t, 1)[0]; !bytes.Equal(got.data, want.data) {
		t.Error("the two destinations got different reports")
	}
	if got := len(up.received(reportClasses...)); got != 1 {
		t.Errorf("the destination that was up has %d reports, want 1", got)
	}
}

// With nowhere to deliver to, the report goes back to the AE that sent the contours, where its address is known.
func TestRepliesToTheSender(t *testing.T) {
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Peers = map[string]PeerConfig{"scanner": {AET: "SCANNER", Address: pacs.addr}}
	n, _ := startNode(t, cfg)
	pushOver(t, n.peer(), 1, demoObjects(t))
	pacs.waitReports(t, 1)
}

// Objects that peers may send and radnode does not measure are kept and can be got out again as they were.
func TestKeepsForeignObjects(t *testing.T) {
	n, _ := startNode(t, testConfig(t))
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, "1.2.840.113619.4.30") // private
	d.SetString(dicom.SOPInstanceUID, "2.25.1")
	d.SetString(dicom.StudyInstanceUID, "2.25.2")
	d.SetString(dicom.SeriesInstanceUID, "2.25.3")
	data, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	o := demoObject{data: data, meta: dicom.FileMeta{MediaStorageSOPClassUID: "1.2.840.113619.4.30", MediaStorageSOPInstanceUID: "2.25.1", TransferSyntaxUID: dicom.ExplicitVRLittleEndian}}
	pushOver(t, n.peer(), 1, []demoObject{o})
	var file bytes.Buffer
	if err := n.store.WriteFile(&file, "2.25.1"); err != nil {
		t.Fatal(err)
	}
	_, offset, err := dicom.ReadMeta(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file.Bytes()[offset:], data) {
		t.Errorf("the data set came out as %d other bytes than the %d that went in", int64(file.Len())-offset, len(data))
	}
}
