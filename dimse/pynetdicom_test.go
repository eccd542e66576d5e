package dimse

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// python finds an interpreter that has pynetdicom: the one RADNODE_PYTHON names, or python3.
func python(t *testing.T) string {
	t.Helper()
	name := or(os.Getenv("RADNODE_PYTHON"), "python3")
	if out, err := exec.Command(name, "-c", "import pynetdicom").CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("%s cannot import pynetdicom (set RADNODE_PYTHON): %v %s", name, err, bytes.TrimSpace(out)))
	}
	return name
}

// pynetdicom sends every storage class of the standard, one the standard does not have and a private one.
func TestPynetdicomSends(t *testing.T) {
	py := python(t)
	store := &memory{}
	server := &Server{Storage: store}
	addr, _, stop := serve(t, server)
	host, port := hostPort(t, addr)
	classes := append(dicom.StorageSOPClasses(), "1.2.840.10008.5.1.4.1.1.999.1", "1.3.12.2.1107.5.9.1")
	for len(classes) > 0 {
		n := min(100, len(classes))
		out := run(t, py, "testdata/pynetdicom_scu.py", host, port, strings.Join(classes[:n], ","), dicom.ImplicitVRLittleEndian)
		if strings.TrimSpace(out) != fmt.Sprint(n) {
			t.Errorf("pynetdicom sent %s objects, want %d", strings.TrimSpace(out), n)
		}
		classes = classes[n:]
	}
	syntaxes := []string{dicom.ExplicitVRLittleEndian, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
	run(t, py, "testdata/pynetdicom_scu.py", host, port, dicom.CTImageStorage, strings.Join(syntaxes, ","))
	stop()
	for i, syntax := range syntaxes {
		if o, ok := store.get(fmt.Sprintf("1.2.3.%d", i+1)); !ok || o.meta.TransferSyntaxUID != syntax || len(o.data) == 0 {
			t.Errorf("%s: %+v", syntax, o.meta)
		}
	}
	if st, want := server.Stats(), int64(len(dicom.StorageSOPClasses())+2+len(syntaxes)); st.ObjectsStored != want || st.ObjectsRefused != 0 || st.AssociationsAborted != 0 {
		t.Errorf("stats %+v, want %d objects", st, want)
	}
}

func TestPynetdicomReceives(t *testing.T) {
	py := python(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, py, "testdata/pynetdicom_scp.py")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(stdout)
	line := func() string {
		if !lines.Scan() {
			t.Fatalf("pynetdicom ended: %v", lines.Err())
		}
		return lines.Text()
	}
	c, err := Dial(ctx, Peer{"PYNETDICOM", "127.0.0.1:" + line()}, ctProposal)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Echo(ctx); err != nil {
		t.Error(err)
	}
	for i, want := range []Status{{StatusOutOfResources, "no room"}, {}} {
		uid := fmt.Sprintf("1.2.3.%d", i)
		_, data := sample(t, t.TempDir(), dicom.CTImageStorage, uid, dicom.ExplicitVRLittleEndian)
		data = append(data, explicitOW(100_000)...)
		status, err := c.Store(ctx, ctMeta(uid), bytes.NewReader(data))
		if err != nil || status != want {
			t.Fatalf("%v, %v, want %v", status, err, want)
		}
		if got, want := line(), fmt.Sprintf("%s %s %x", uid, dicom.ExplicitVRLittleEndian, sha256.Sum256(data)); got != want {
			t.Errorf("pynetdicom has %s, want %s", got, want)
		}
	}
	if err := c.Release(ctx); err != nil {
		t.Error(err)
	}
}
