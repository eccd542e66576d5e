package dimse

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// peer finds a program that the interoperability tests talk to.
func peer(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" (DCMTK) is not installed")
	}
	return path
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sample writes a small object in the given transfer syntax and returns its file and its data set's bytes.
func sample(t testing.TB, dir, class, uid, syntax string) (file string, data []byte) {
	t.Helper()
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, class)
	d.SetString(dicom.SOPInstanceUID, uid)
	d.SetString(dicom.StudyInstanceUID, "1.2.3")
	d.SetString(dicom.SeriesInstanceUID, "1.2.3.4")
	d.SetString(dicom.PatientID, "interop")
	d.SetString(dicom.Modality, "OT")
	data, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	if ts, ok := dicom.LookupTransferSyntax(syntax); ok && ts.Encapsulated { // a sender would send it uncompressed otherwise
		data = append(data, encapsulated...)
	}
	var b bytes.Buffer
	meta := dicom.FileMeta{MediaStorageSOPClassUID: class, MediaStorageSOPInstanceUID: uid, TransferSyntaxUID: syntax}
	if err := dicom.WriteMeta(&b, meta); err != nil {
		t.Fatal(err)
	}
	b.Write(data)
	file = filepath.Join(dir, uid+".dcm")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, data
}

// encapsulated is Pixel Data of one fragment behind an empty offset table, PS3.5 A.4.
var encapsulated = []byte{
	0xe0, 0x7f, 0x10, 0x00, 'O', 'B', 0, 0, 0xff, 0xff, 0xff, 0xff,
	0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0,
	0xfe, 0xff, 0x00, 0xe0, 4, 0, 0, 0, 1, 2, 3, 4,
	0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0,
}

func hostPort(t testing.TB, addr string) (string, string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func TestEchoSCU(t *testing.T) {
	echoscu := peer(t, "echoscu")
	addr, log, stop := serve(t, &Server{Storage: &memory{}})
	host, port := hostPort(t, addr)
	run(t, echoscu, "-aet", "CONSOLE", "-aec", "RADNODE", host, port)
	run(t, echoscu, "--propose-pc", "128", "--repeat", "20", "-aec", "RADNODE", host, port)
	stop()
	if !strings.Contains(log.String(), "calling=CONSOLE called=RADNODE") || strings.Count(log.String(), "association released") != 2 {
		t.Errorf("log:\n%s", log)
	}
}

// Every transfer syntax that storescu can propose arrives as it is; the bytes are those of the file.
func TestStoreSCUTransferSyntaxes(t *testing.T) {
	storescu := peer(t, "storescu")
	dir := t.TempDir()
	store := &memory{}
	server := &Server{Storage: store}
	addr, _, stop := serve(t, server)
	host, port := hostPort(t, addr)

	sent := map[string][]byte{}
	syntax := map[string]string{}
	for i, c := range []struct{ option, uid string }{
		{"-xe", dicom.ExplicitVRLittleEndian}, {"-xs", "1.2.840.10008.1.2.4.70"}, {"-xy", "1.2.840.10008.1.2.4.50"},
		{"-xx", "1.2.840.10008.1.2.4.51"}, {"-xv", "1.2.840.10008.1.2.4.90"}, {"-xw", "1.2.840.10008.1.2.4.91"},
		{"-xt", "1.2.840.10008.1.2.4.80"}, {"-xu", "1.2.840.10008.1.2.4.81"}, {"-xm", "1.2.840.10008.1.2.4.100"},
		{"-xh", "1.2.840.10008.1.2.4.101"}, {"-xn", "1.2.840.10008.1.2.4.102"}, {"-xl", "1.2.840.10008.1.2.4.103"},
		{"-xr", "1.2.840.10008.1.2.5"},
	} {
		instance := fmt.Sprintf("1.2.3.4.%d", i)
		var file string
		file, sent[instance] = sample(t, dir, dicom.CTImageStorage, instance, c.uid)
		syntax[instance] = c.uid
		run(t, storescu, "-R", c.option, "-aec", "RADNODE", host, port, file)
	}
	stop()
	for instance, data := range sent {
		got, ok := store.get(instance)
		if !ok || !bytes.Equal(got.data, data) || got.meta.TransferSyntaxUID != syntax[instance] || got.meta.SourceApplicationEntityTitle != "STORESCU" {
			t.Errorf("%s in %s: stored %v, %+v, %d bytes of %d", instance, syntax[instance], ok, got.meta, len(got.data), len(data))
		}
	}
	if st := server.Stats(); st.ObjectsStored != int64(len(sent)) || st.AssociationsOpen != 0 || st.AssociationsAborted != 0 {
		t.Errorf("stats %+v", st)
	}
}

// Our client sends to DCMTK's storescp; the file it writes holds the data set sent.
func TestStoreSCP(t *testing.T) {
	storescp := peer(t, "storescp")
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port := hostPort(t, l.Addr().String())
	_ = l.Close()
	for _, maxPDU := range []string{"4096", "131072"} {
		t.Run("max PDU "+maxPDU, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, storescp, "-od", dir, "-uf", "--max-pdu", maxPDU, "+B", port)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			p := Peer{"STORESCP", "127.0.0.1:" + port}
			c, err := dialUntil(ctx, p, DialOptions{Proposals: []Proposal{
				{dicom.VerificationSOPClass, []string{dicom.ImplicitVRLittleEndian}},
				{dicom.CTImageStorage, []string{dicom.ExplicitVRLittleEndian, "1.2.840.10008.1.2.4.90"}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if !c.Accepted(dicom.CTImageStorage, dicom.ExplicitVRLittleEndian) {
				t.Error("Explicit VR Little Endian not accepted")
			}
			if err := c.Echo(ctx); err != nil {
				t.Error(err)
			}
			for i, size := range []int{0, 4000, 1 << 20} {
				uid := fmt.Sprintf("1.2.3.%s.%d", maxPDU, i)
				_, data := sample(t, t.TempDir(), dicom.CTImageStorage, uid, dicom.ExplicitVRLittleEndian)
				data = append(data, explicitOW(size)...)
				meta := dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: uid, TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
				status, err := c.Store(ctx, meta, bytes.NewReader(data))
				if err != nil || status.Code != StatusSuccess {
					t.Fatalf("%d bytes: %v, %v", len(data), status, err)
				}
				got, err := os.ReadFile(filepath.Join(dir, "CT."+uid))
				if err != nil || !bytes.HasSuffix(got, data) {
					t.Errorf("%d bytes: not what storescp wrote (%v)", len(data), err)
				}
			}
			if err := c.Release(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// explicitOW is a Pixel Data element of n bytes.
func explicitOW(n int) []byte {
	b := []byte{0xe0, 0x7f, 0x10, 0x00, 'O', 'W', 0, 0, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
	for i := range n {
		b = append(b, byte(i*i>>4))
	}
	return b
}

// dialUntil dials until the peer, which has just been started, listens.
func dialUntil(ctx context.Context, p Peer, o DialOptions) (*Client, error) {
	for {
		c, err := Dial(ctx, p, o)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
