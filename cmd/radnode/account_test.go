package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

// asked runs a command line, wants an exit code, and returns what it wrote to both outputs.
func asked(t testing.TB, code int, args ...string) (out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	if got := execute(t.Context(), args, &o, &e); got != code {
		t.Fatalf("radnode %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, o.String(), e.String())
	}
	return o.String(), e.String()
}

// says fails where text lacks any of the parts.
func says(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("lacks %q:\n%s", p, text)
		}
	}
}

// statusOf asks as a program does.
func statusOf(t testing.TB, data, study string) (r studyReport) {
	t.Helper()
	out, _ := asked(t, exitDone, "status", "--data", data, "--format", "json", study)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return r
}

// impersonal fails where a text holds patient data of the objects.
func impersonal(t testing.TB, text string, objects []demoObject) {
	t.Helper()
	for _, o := range objects[:2] {
		d := o.dataSet(t)
		for _, secret := range []string{d.String(dicom.PatientID), d.String(dicom.PatientName)} {
			if secret != "" && strings.Contains(text, secret) {
				t.Errorf("tells %q:\n%s", secret, text)
			}
		}
	}
}

// "Why was this not computed?" has an answer in one command, while the node runs and while it does not.
func TestStatusOfStudy(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	n, stop := startNode(t, cfg)

	_, errs := asked(t, exitFailed, "status", "--data", cfg.Data, study)
	says(t, errs, study, "unknown here")

	last := objects[len(objects)-1]
	pushOver(t, n.peer(), 1, objects[:len(objects)-5])
	waitState(t, n.store, study, pipeline.StateWaiting, func(s store.State) bool { return len(s.Missing) == 5 })
	for _, running := range []bool{true, false} {
		if !running {
			stop()
		}
		text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
		says(t, text, "waiting for images", "5 of ", "named images are missing", "missing: 2 more; --all names them")
		if strings.Contains(text, last.meta.MediaStorageSOPInstanceUID) && strings.Count(text, "missing: 1.") > firstMissing {
			t.Errorf("more than the first images are named:\n%s", text)
		}
		all, _ := asked(t, exitDone, "status", "--data", cfg.Data, "--all", study)
		says(t, all, "missing: "+last.meta.MediaStorageSOPInstanceUID)
		r := statusOf(t, cfg.Data, study)
		if got, want := r.Instances[pipeline.StateWaiting], len(objects)-5; got != want || len(r.Instances) != 1 {
			t.Errorf("running %v: %v, want %d waiting", running, r.Instances, want)
		}
		if len(r.Contours) != 1 || r.Contours[0].MissingImages != 5 || len(r.Contours[0].Missing) != 5 {
			t.Errorf("running %v: %+v", running, r.Contours)
		}
		impersonal(t, text+all, objects)
	}

	n, _ = startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects[len(objects)-5:])
	pacs.waitReports(t, 1)
	waitIdle(t, n)
	r := statusOf(t, cfg.Data, study)
	if got, want := r.Instances[pipeline.StateComputed], len(objects); got != want || len(r.Instances) != 1 {
		t.Errorf("%v, want %d computed", r.Instances, want)
	}
	if c := r.Contours; len(c) != 1 || c[0].State != pipeline.StateComputed || c[0].Rule != pipeline.RuleNamed || c[0].Revision != 1 ||
		len(c[0].Reports) != 1 || !slices.Equal(c[0].To, []string{pacs.destination()}) {
		t.Errorf("%+v", c)
	}
	if d := r.Deliveries; len(d) != 1 || d[0].To != pacs.destination() || d[0].State != pipeline.StateDelivered || d[0].Report != r.Contours[0].Reports[0] {
		t.Errorf("deliveries %+v", d)
	}
	text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "computed at", "started by: "+pipeline.RuleNamed, "revision 1", "to "+pacs.destination()+": delivered at")
	over, _ := asked(t, exitDone, "status", "--data", cfg.Data)
	says(t, over, "running since", "instances", "computed", "destination "+pacs.destination(), "up; 0 waiting")
	impersonal(t, text+over, objects)
}

// A destination that is down is told, and what waits for one that is gone can be dropped.
func TestDiscardDestination(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	cfg := testConfig(t)
	cfg.Deliver = []string{"GONE@127.0.0.1:1"}
	n, stop := startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects)
	waitState(t, n.store, study, pipeline.StateComputed, func(store.State) bool { return true })
	deadline := time.Now().Add(patience)
	for down := false; !down; time.Sleep(10 * time.Millisecond) {
		for _, d := range n.pipeline.Destinations() {
			down = down || !d.Down.IsZero()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", n.pipeline.Destinations())
		}
	}
	over, _ := asked(t, exitDone, "status", "--data", cfg.Data)
	says(t, over, "! GONE@127.0.0.1:1 is down since", "destination GONE@127.0.0.1:1", "1 waiting")
	if d := statusOf(t, cfg.Data, study).Deliveries; len(d) != 1 || d[0].State != pipeline.StateWaiting {
		t.Errorf("%+v", d)
	}
	_, errs := asked(t, exitFailed, "discard", "--data", cfg.Data, study)
	says(t, errs, "not finished", "1 delivery to make", "--force")

	text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "waiting: the destination is down since ")
	out, _ := asked(t, exitDone, "discard", "--data", cfg.Data, "--destination", "GONE@127.0.0.1:1")
	says(t, out, "dropped: 1 delivery of 1 study")
	d := statusOf(t, cfg.Data, study).Deliveries
	if len(d) != 1 || d[0].State != pipeline.StateUndelivered || d[0].LastError != "dropped by hand" {
		t.Errorf("%+v", d)
	}
	// Nobody has the report now.
	_, errs = asked(t, exitFailed, "discard", "--data", cfg.Data, study)
	says(t, errs, "1 report that was delivered to nobody")
	out, _ = asked(t, exitDone, "discard", "--data", cfg.Data, "--destination", "GONE@127.0.0.1:1")
	says(t, out, "nothing waits for GONE@127.0.0.1:1")

	// Of a node that does not run nobody knows whether its destinations are up.
	stop()
	over, _ = asked(t, exitDone, "status", "--data", cfg.Data)
	if says(t, over, "radnode "+version+" does not run"); strings.Contains(over, "up;") || strings.Contains(over, "down") {
		t.Error(over)
	}
}

// The commands reach a node over a socket that only its user may open, whatever the length of the path; one that is left from a
// node that was killed is replaced. Monitoring shows nothing of a study and takes no orders.
func TestControlSocket(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	cfg := testConfig(t)
	if runtime.GOOS == "linux" {
		cfg.Data = filepath.Join(cfg.Data, strings.Repeat("long", 30), "data")
		if err := os.MkdirAll(cfg.Data, 0o750); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Mkdir(cfg.Data, 0o750); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(cfg.Data, controlName)

	_, errs := asked(t, exitFailed, "status", "--data", cfg.Data)
	says(t, errs, "no data folder of radnode", "--data")

	stale, err := listenControl(cfg.Data) // as of a process that was killed
	if err != nil {
		t.Fatal(err)
	}
	if err := stale.(*controlListener).Listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("no stale socket: %v", err)
	}
	n, stop := startNode(t, cfg)
	info, err := os.Lstat(socket)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		t.Fatalf("%v, %v", info, err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("others may ask: %v", info.Mode())
	}
	pushOver(t, n.peer(), 1, objects[:3])
	over, _ := asked(t, exitDone, "status", "--data", cfg.Data)
	says(t, over, "running since")

	page := httptest.NewServer(n.monitoring())
	defer page.Close()
	for _, path := range []string{"/status", "/studies/" + study, "/balance", "/requeue?study=" + study, "/discard?study=" + study + "&force=yes"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			rq, err := http.NewRequestWithContext(t.Context(), method, page.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(rq)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode < 400 {
				t.Errorf("%s %s is answered with %s on the monitoring address", method, path, answer.Status)
			}
		}
	}
	deadline := time.Now().Add(patience)
	for {
		answer, err := http.Get(page.URL + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_, err = b.ReadFrom(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var sums struct {
			Version      string
			Instances    map[string]int
			Space        fullness
			Destinations []pipeline.DestinationStats
			Queues       map[string]store.QueueStats
		}
		if err := json.Unmarshal(b.Bytes(), &sums); err != nil {
			t.Fatalf("%v: %s", err, b.String())
		}
		if strings.Contains(b.String(), study) {
			t.Fatalf("monitoring tells of a study: %s", b.String())
		}
		got := 0
		for _, k := range sums.Instances {
			got += k
		}
		if got == 3 && sums.Version == version && sums.Space.Held > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s", b.String())
		}
		time.Sleep(10 * time.Millisecond)
	}

	stop()
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is still there")
	}
	over, _ = asked(t, exitDone, "status", "--data", cfg.Data)
	says(t, over, "does not run")

	// Another process has the folder and no socket.
	st, err := store.Open(cfg.Data, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_, errs = asked(t, exitFailed, "status", "--data", cfg.Data)
	says(t, errs, "does not answer on its socket", controlName)
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs = asked(t, exitFailed, "status", "--data", cfg.Data)
	says(t, errs, "does not answer on its socket")
}

// What was refused or given up is tried again when a person says so, in a node that runs and in one that is started later.
func TestRequeue(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	cfg := testConfig(t)
	cfg.Deliver = []string{"PACS@127.0.0.1:1"}
	cfg.Rules = []pipeline.Rule{{Profile: "none"}}
	n, stop := startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects)
	first := waitState(t, n.store, study, pipeline.StateRefused, func(store.State) bool { return true })
	text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "refused: cannot be measured", "the rules leave every region out", "radnode requeue")

	out, _ := asked(t, exitDone, "requeue", "--data", cfg.Data, study)
	says(t, out, "1 that were refused")
	second := waitState(t, n.store, study, pipeline.StateRefused, func(s store.State) bool { return s.At.After(first.At) })
	stop()

	out, _ = asked(t, exitDone, "requeue", "--data", cfg.Data, study)
	says(t, out, "1 that were refused")
	n, _ = startNode(t, cfg)
	waitState(t, n.store, study, pipeline.StateRefused, func(s store.State) bool { return s.At.After(second.At) })

	_, errs := asked(t, exitFailed, "requeue", "--data", cfg.Data, "1.2.3")
	says(t, errs, "study 1.2.3 is unknown here")
	_, errs = asked(t, exitFailed, "requeue", "--data", cfg.Data, "compute/1.2.3")
	says(t, errs, "no job compute/1.2.3")
	_, errs = asked(t, exitUsage, "requeue", "--data", cfg.Data, "nonsense")
	says(t, errs, "nonsense")
}

// A delivery that was given up is made after all.
func TestRequeueDelivery(t *testing.T) {
	objects := demoObjects(t)
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cfg := testConfig(t)
	cfg.Deliver = []string{"PACS@" + addr}
	n, stop := startNode(t, cfg)
	pushOver(t, n.peer(), 1, objects)
	waitState(t, n.store, study, pipeline.StateComputed, func(store.State) bool { return true })
	stop()
	st, err := store.Open(cfg.Data, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	jobs := st.Jobs("deliver:PACS@" + addr)
	if len(jobs) != 1 {
		t.Fatalf("%d jobs", len(jobs))
	}
	if err := st.Park(t.Context(), jobs[0].Key, "it would not", store.Change{}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	pacs := startPACS(t, addr)
	n, _ = startNode(t, cfg)
	over, _ := asked(t, exitDone, "status", "--data", cfg.Data)
	says(t, over, "! 1 job given up", "given up", jobs[0].Key, "it would not")
	text, _ := asked(t, exitDone, "status", "--data", cfg.Data, study)
	says(t, text, "given up after ", "it would not")
	out, _ := asked(t, exitDone, "requeue", "--data", cfg.Data, jobs[0].Key)
	says(t, out, "1 delivery")
	pacs.waitReports(t, 1)
	waitIdle(t, n)
}
