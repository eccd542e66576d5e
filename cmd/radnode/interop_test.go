package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/testdata"
)

// These tests put real peers on both sides of radnode: DCMTK, Orthanc and pynetdicom, each as sender and as receiver.

// bundledStudy writes the bundled synthetic study into a folder.
func bundledStudy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sub, err := fs.Sub(testdata.FS, testdata.SyntheticCT)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "study"), sub); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "study")
}

// freePort asks the system for a port that a peer can listen on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// start runs a peer until the test ends or stop is called, and waits until its port answers.
func start(t testing.TB, port string, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), said.String())
		}
	})
	t.Cleanup(stop)
	deadline := time.Now().Add(patience)
	for {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return stop
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen on port %s", cmd.Path, port)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func dicomPort(n *node) string {
	_, port, _ := net.SplitHostPort(n.dicom.Addr().String())
	return port
}

func radnode(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("radnode %s: exit %d\n%s%s", strings.Join(args, " "), code, out.String(), errs.String())
	}
	return out.String()
}

// An orthanc is a PACS with its REST interface.
type orthanc struct {
	dicom, http string
	stop        func()
}

// startOrthanc starts Orthanc on loopback with one known modality, RADNODE, and what is to be configured besides.
func startOrthanc(t testing.TB, radnodePort string, besides ...map[string]any) orthanc {
	t.Helper()
	need(t, "Orthanc")
	o := orthanc{dicom: freePort(t), http: freePort(t)}
	dir := t.TempDir()
	config := map[string]any{
		"Name": "PACS", "DicomAet": "PACS", "StorageDirectory": filepath.Join(dir, "db"), "IndexDirectory": filepath.Join(dir, "db"),
		"RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomCheckCalledAet": false, "DicomAlwaysAllowStore": true, "DicomAlwaysAllowFind": true,
		"UnknownSopClassAccepted": true, "Plugins": []string{},
	}
	config["DicomPort"], _ = strconv.Atoi(o.dicom)
	config["HttpPort"], _ = strconv.Atoi(o.http)
	if radnodePort != "" {
		port, _ := strconv.Atoi(radnodePort)
		config["DicomModalities"] = map[string]any{"radnode": []any{"RADNODE", "127.0.0.1", port}}
	}
	for _, m := range besides {
		maps.Copy(config, m)
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "orthanc.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	o.stop = start(t, o.http, exec.Command("Orthanc", file))
	return o
}

func (o orthanc) post(t *testing.T, path string, body []byte) []byte {
	t.Helper()
	r, err := http.Post("http://127.0.0.1:"+o.http+path, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("Orthanc %s: %s %v\n%s", path, r.Status, err, b)
	}
	return b
}

// find returns the Orthanc identifiers of the instances of one modality in a study.
func (o orthanc) find(t *testing.T, study, modality string) (ids []string) {
	t.Helper()
	query := fmt.Sprintf(`{"Level":"Instance","Query":{"StudyInstanceUID":%q,"Modality":%q}}`, study, modality)
	if err := json.Unmarshal(o.post(t, "/tools/find", []byte(query)), &ids); err != nil {
		t.Fatal(err)
	}
	return ids
}

func (o orthanc) wait(t *testing.T, study, modality string) string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if ids := o.find(t, study, modality); len(ids) > 0 {
			return ids[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in the PACS after %v", modality, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func studyUID(t *testing.T) string {
	return demoObjects(t)[0].dataSet(t).String(dicom.StudyInstanceUID)
}

// DCMTK's storescu pushes, Orthanc gets report and segmentation into the study that it was about.
func TestStorescuToRadnodeToOrthanc(t *testing.T) {
	need(t, "storescu", "echoscu")
	pacs := startOrthanc(t, "")
	cfg := testConfig(t)
	cfg.Deliver = []string{"PACS@127.0.0.1:" + pacs.dicom}
	n, _ := startNode(t, cfg)
	command(t, "echoscu", "-aec", "RADNODE", "127.0.0.1", dicomPort(n))
	command(t, "storescu", "-R", "-aec", "RADNODE", "127.0.0.1", dicomPort(n), "+sd", "+r", "+sp", "*.dcm", bundledStudy(t))
	study := studyUID(t)
	pacs.wait(t, study, "SR")
	pacs.wait(t, study, "SEG")
	waitIdle(t, n)
	if sr, seg := pacs.find(t, study, "SR"), pacs.find(t, study, "SEG"); len(sr) != 1 || len(seg) != 1 {
		t.Errorf("%d reports and %d segmentations in the PACS, want 1 and 1", len(sr), len(seg))
	}
	radnode(t, "echo", "PACS@127.0.0.1:"+pacs.dicom)
}

// Orthanc forwards a study by C-STORE and gets the report back.
func TestOrthancForwards(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	pacs := startOrthanc(t, port)
	cfg := testConfig(t)
	cfg.DICOM.Listen = addr
	cfg.Peers = map[string]PeerConfig{"PACS": {AET: "PACS", Address: "127.0.0.1:" + pacs.dicom}} // the reply goes to the sender
	startNode(t, cfg)

	radnode(t, "send", "PACS@127.0.0.1:"+pacs.dicom, bundledStudy(t))
	study := studyUID(t)
	var parents []string
	query := fmt.Sprintf(`{"Level":"Study","Query":{"StudyInstanceUID":%q}}`, study)
	if err := json.Unmarshal(pacs.post(t, "/tools/find", []byte(query)), &parents); err != nil || len(parents) != 1 {
		t.Fatalf("%d studies in Orthanc, %v", len(parents), err)
	}
	pacs.post(t, "/modalities/radnode/store", []byte(parents[0]))
	pacs.wait(t, study, "SR")
	pacs.wait(t, study, "SEG")
}

// radnode send to DCMTK's storescp: every file arrives, bit for bit.
func TestSendToStorescp(t *testing.T) {
	need(t, "storescp")
	port, dir := freePort(t), t.TempDir()
	start(t, port, exec.Command("storescp", "--bit-preserving", "-od", dir, port))
	study := bundledStudy(t)
	out := radnode(t, "send", "ANY-SCP@127.0.0.1:"+port, study, "-j", "3")
	sent, _, bad := findObjects([]string{study})
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	got, _, bad := findObjects([]string{dir})
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	if len(got) != len(sent) || !strings.HasPrefix(out, fmt.Sprintf("%d sent", len(sent))) {
		t.Fatalf("%d arrived of %d; radnode says %s", len(got), len(sent), out)
	}
	content := func(o outgoing) string {
		b, err := os.ReadFile(o.path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[o.offset:])
	}
	arrived := map[string]string{}
	for _, o := range got {
		arrived[o.meta.MediaStorageSOPInstanceUID] = content(o)
	}
	for _, o := range sent {
		if arrived[o.meta.MediaStorageSOPInstanceUID] != content(o) {
			t.Errorf("%s arrived with other bytes", o.path)
		}
	}
}

// A PACS that does not take Comprehensive 3D SR gets the same report as Comprehensive or Enhanced SR. DCMTK's storescp can
// be told which classes it takes.
func TestFallsBackToOtherSOPClasses(t *testing.T) {
	need(t, "storescp")
	for i, class := range reportClasses {
		t.Run(dicom.UIDName(class), func(t *testing.T) {
			// The last one takes nothing but the default transfer syntax.
			syntax := []string{"LittleEndianExplicit", "LittleEndianExplicit", "LittleEndianImplicit"}[i]
			profile := "[[TransferSyntaxes]]\n[All]\nTransferSyntax1 = " + syntax + "\n[[PresentationContexts]]\n[PACS]\n" +
				"PresentationContext1 = " + dicom.SegmentationStorage + "\\All\n"
			for k, uid := range reportClasses[i:] {
				profile += fmt.Sprintf("PresentationContext%d = %s\\All\n", k+2, uid)
			}
			profile += "[[Profiles]]\n[Default]\nPresentationContexts = PACS\n"
			port, dir := freePort(t), t.TempDir()
			file := filepath.Join(t.TempDir(), "storescp.cfg")
			if err := os.WriteFile(file, []byte(profile), 0o644); err != nil {
				t.Fatal(err)
			}
			start(t, port, exec.Command("storescp", "-xf", file, "Default", "--bit-preserving", "-od", dir, port))
			cfg := testConfig(t)
			cfg.Deliver = []string{"STORESCP@127.0.0.1:" + port}
			n, _ := startNode(t, cfg)
			pushOver(t, n.peer(), 1, demoObjects(t))
			deadline := time.Now().Add(patience)
			for n.pipeline.Stats().Delivered == 0 {
				if time.Now().After(deadline) {
					t.Fatal("not delivered")
				}
				time.Sleep(10 * time.Millisecond)
			}
			files, _, _ := findObjects([]string{dir})
			found := false
			for _, o := range files {
				if ts, _ := dicom.LookupTransferSyntax(o.meta.TransferSyntaxUID); ts.ExplicitVR != (syntax == "LittleEndianExplicit") {
					t.Errorf("%s arrived in %s, the peer takes %s", o.path, ts.Name, syntax)
				}
				if o.meta.MediaStorageSOPClassUID == dicom.SegmentationStorage {
					command(t, "dcmdump", "-q", o.path)
					continue
				}
				found = true
				f, err := os.Open(o.path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				d, err := dicom.ReadFile(f, o.offset+o.size)
				if err != nil {
					t.Fatal(err)
				}
				if got := d.DataSet.String(dicom.SOPClassUID); got != class {
					t.Errorf("SOP Class %s, want %s", dicom.UIDName(got), dicom.UIDName(class))
				}
				if d.DataSet.String(dicom.SOPInstanceUID) != o.meta.MediaStorageSOPInstanceUID {
					t.Error("SOP Instance UID of command and data set differ")
				}
				if v := values(t, d.DataSet); len(v["GTV-1"]) != 174 {
					t.Errorf("%d values, want 174", len(v["GTV-1"]))
				}
			}
			if !found || len(files) != 2 {
				t.Errorf("%d objects arrived, want a report and a segmentation", len(files))
			}
		})
	}
}

// pynetdicom sends the study and receives the report.
func TestPynetdicom(t *testing.T) {
	py := python(t, "pynetdicom")
	port, dir := freePort(t), t.TempDir()
	receiver := `
import sys
from pynetdicom import AE, evt, AllStoragePresentationContexts
from pynetdicom.sop_class import Verification
def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(sys.argv[2] + "/" + ds.SOPInstanceUID + ".dcm", enforce_file_format=True)
    return 0
ae = AE(ae_title="PYNET")
ae.supported_contexts = AllStoragePresentationContexts
ae.add_supported_context(Verification)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
`
	sender := `
import sys, glob
from pydicom import dcmread
from pynetdicom import AE
files = [dcmread(f) for f in sorted(glob.glob(sys.argv[2] + "/*.dcm"))]
ae = AE(ae_title="PYNET")
for c in {(f.SOPClassUID, f.file_meta.TransferSyntaxUID) for f in files}:
    ae.add_requested_context(*c)
a = ae.associate("127.0.0.1", int(sys.argv[1]), ae_title="RADNODE")
assert a.is_established
for f in files:
    s = a.send_c_store(f)
    assert s.Status == 0, s
a.release()
print(len(files))
`
	start(t, port, exec.Command(py, "-c", receiver, port, dir))
	radnode(t, "echo", "PYNET@127.0.0.1:"+port)
	cfg := testConfig(t)
	cfg.Deliver = []string{"PYNET@127.0.0.1:" + port}
	n, _ := startNode(t, cfg)
	command(t, py, "-c", sender, dicomPort(n), bundledStudy(t))
	deadline := time.Now().Add(patience)
	for {
		if files, _ := filepath.Glob(filepath.Join(dir, "*.dcm")); len(files) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("report and segmentation did not arrive")
		}
		time.Sleep(20 * time.Millisecond)
	}
	waitIdle(t, n)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// The report that says why nothing was computed arrives, and validators find no Error in it.
func TestRefusalReportIsValid(t *testing.T) {
	folder := bundledStudy(t)
	objects, _ := send(t, folder, 1, func(cfg *Config) {
		cfg.Refusals = true
		p := features.DefaultProfile("MR")
		p.Normalise = features.Normalise{Method: "mean", Region: "^muscle$"} // which nobody drew
		cfg.Profiles, cfg.Rules = map[string]features.Profile{"p": p}, []pipeline.Rule{{Profile: "p"}}
	})
	back := answer{folder: folder, objects: objects}
	file := back.write(t, t.TempDir())[0]
	if text := radnode(t, "sr", file); !strings.Contains(text, "Not computed: ") || !strings.Contains(text, "[image.normalise]") {
		t.Errorf("the report does not say why:\n%s", text)
	}
	judge(t, back)
}
