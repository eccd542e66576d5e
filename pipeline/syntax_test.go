package pipeline

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/pixel"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/roi"
)

// TestEveryTransferSyntax has the slices of LUNG1 around the tumour re-encoded by DCMTK, GDCM and OpenJPH: the tumour has the values of the uncompressed images,
// every one to the bit. After a lossy codec it has values that are near, and the images say that they were lossy.
func TestEveryTransferSyntax(t *testing.T) {
	if testing.Short() {
		t.Skip("re-encodes a whole series many times")
	}
	programs := []string{"dcmconv", "dcmcrle", "dcmcjpeg", "dcmcjpls", "gdcmconv", "ojph_compress"}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed: %v", p, err)
			}
			t.Skipf("%s is not here; the peers are %s", p, strings.Join(programs, ", "))
		}
	}
	root := sharedLung1(t)
	contours := readAll(t, filepath.Join(root, "mask_rtstruct"))[0]
	around, originals := slicesAround(t, contours, "GTV-1", filepath.Join(root, "image"))
	if len(originals) < 10 {
		t.Fatalf("%d images", len(originals))
	}
	measure := func(t *testing.T, images []*dicom.File) *Measured {
		t.Helper()
		m, err := Measure(t.Context(), Request{Contours: contours, Images: images,
			Choose: func(_ *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
				return features.DefaultProfile("CT"), r.Name == "GTV-1", nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		m.Release()
		return m
	}
	want := measure(t, around)

	dcmtk := func(program string, args ...string) func(string, string) error {
		return func(from, to string) error { return runProgram(program, append(args, from, to)...) }
	}
	for _, c := range []struct {
		name   string
		uid    string
		lossy  bool
		encode func(from, to string) error
	}{
		{"implicit VR", dicom.ImplicitVRLittleEndian, false, dcmtk("dcmconv", "+ti")},
		{"big endian", dicom.ExplicitVRBigEndian, false, dcmtk("dcmconv", "+tb")},
		{"deflated", dicom.DeflatedExplicitVRLittleEndian, false, dcmtk("dcmconv", "+td")},
		{"encapsulated uncompressed", "1.2.840.10008.1.2.1.98", false, frames("1.2.840.10008.1.2.1.98", func(p plane) ([]byte, error) { return p.raw, nil })},
		{"deflated frames", "1.2.840.10008.1.2.8.1", false, frames("1.2.840.10008.1.2.8.1", deflated)},
		{"RLE by DCMTK", "1.2.840.10008.1.2.5", false, dcmtk("dcmcrle")},
		{"RLE by GDCM", "1.2.840.10008.1.2.5", false, dcmtk("gdcmconv", "--rle")},
		{"JPEG lossless, predictor 1, by DCMTK", "1.2.840.10008.1.2.4.70", false, dcmtk("dcmcjpeg", "+e1")},
		{"JPEG lossless, predictor 1, by GDCM", "1.2.840.10008.1.2.4.70", false, dcmtk("gdcmconv", "--jpeg")},
		{"JPEG lossless, predictor 2", "1.2.840.10008.1.2.4.57", false, dcmtk("dcmcjpeg", "+el", "+sv", "2")},
		{"JPEG lossless, predictor 3", "1.2.840.10008.1.2.4.57", false, dcmtk("dcmcjpeg", "+el", "+sv", "3")},
		{"JPEG lossless, predictor 4", "1.2.840.10008.1.2.4.57", false, dcmtk("dcmcjpeg", "+el", "+sv", "4")},
		{"JPEG lossless, predictor 5", "1.2.840.10008.1.2.4.57", false, dcmtk("dcmcjpeg", "+el", "+sv", "5")},
		{"JPEG lossless, predictor 6", "1.2.840.10008.1.2.4.57", false, dcmtk("dcmcjpeg", "+el", "+sv", "6")},
		{"JPEG lossless, predictor 7", "1.2.840.10008.1.2.4.57", false, dcmtk("dcmcjpeg", "+el", "+sv", "7")},
		{"JPEG-LS by DCMTK, 8 KB fragments", "1.2.840.10008.1.2.4.80", false, dcmtk("dcmcjpls", "+fs", "8")},
		{"JPEG-LS by GDCM", "1.2.840.10008.1.2.4.80", false, dcmtk("gdcmconv", "--jpegls")},
		{"JPEG 2000 by GDCM", "1.2.840.10008.1.2.4.90", false, dcmtk("gdcmconv", "--j2k")},
		{"HTJ2K by OpenJPH", "1.2.840.10008.1.2.4.201", false, frames("1.2.840.10008.1.2.4.201", openJPH("-reversible", "true"))},
		{"HTJ2K, RPCL, by OpenJPH", "1.2.840.10008.1.2.4.202", false, frames("1.2.840.10008.1.2.4.202", openJPH("-reversible", "true", "-prog_order", "RPCL"))},
		{"JPEG extended, 12 bit", "1.2.840.10008.1.2.4.51", true, dcmtk("dcmcjpeg", "+ee", "+q", "95")},
		{"JPEG-LS, near-lossless", "1.2.840.10008.1.2.4.81", true, dcmtk("dcmcjpls", "+en", "+md", "2")},
		{"JPEG 2000, lossy", "1.2.840.10008.1.2.4.91", true, dcmtk("gdcmconv", "--lossy", "--j2k", "-r", "8")},
		{"HTJ2K, lossy", "1.2.840.10008.1.2.4.203", true, frames("1.2.840.10008.1.2.4.203", openJPH("-reversible", "false", "-qstep", "0.0001"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var g errgroup.Group
			g.SetLimit(runtime.GOMAXPROCS(0))
			for _, from := range originals {
				g.Go(func() error { return c.encode(from, filepath.Join(dir, filepath.Base(from))) })
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			images := readAll(t, dir)
			for _, f := range images {
				if f.Meta.TransferSyntaxUID != c.uid {
					t.Fatalf("the peer wrote transfer syntax %s, want %s", f.Meta.TransferSyntaxUID, c.uid)
				}
			}
			got := measure(t, images)
			if (got.Volume.Lossy != "") != c.lossy {
				t.Errorf("the volume's compression is %q", got.Volume.Lossy)
			}
			if !c.lossy {
				if d := cmp.Diff(want.Regions[0].Result, got.Regions[0].Result); d != "" {
					t.Errorf("values differ:\n%s", d)
				}
				return
			}
			for i, v := range want.Regions[0].Result.Values {
				if v.Tag == "stat_mean" {
					if mean := got.Regions[0].Result.Values[i].Value; math.Abs(mean-v.Value) > 1 || mean == v.Value {
						t.Errorf("the mean is %v, and %v without loss", mean, v.Value)
					}
				}
			}
			if notes := strings.Join(got.Regions[0].Image.Notes, "\n"); !strings.Contains(strings.ToLower(notes), "lossy") {
				t.Errorf("no note says that the images were lossy: %s", notes)
			}
		})
	}
}

// slicesAround are the images of a folder between the lowest and the highest contour of a region and two beyond them.
func slicesAround(t *testing.T, contours *dicom.File, region, dir string) (images []*dicom.File, paths []string) {
	t.Helper()
	regions, err := roi.Regions(contours)
	if err != nil {
		t.Fatal(err)
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, r := range regions {
		for _, c := range r.Contours {
			if r.Name == region {
				low, high = min(low, c[0][2]), max(high, c[0][2])
			}
		}
	}
	all, err := filepath.Glob(filepath.Join(dir, "*.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range readAll(t, dir) {
		thick, ok := f.DataSet.Float(dicom.SliceThickness)
		position, err := f.DataSet.Floats(dicom.ImagePositionPatient)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if z := position[2]; z > low-2.5*thick && z < high+2.5*thick {
			images, paths = append(images, f), append(paths, all[i])
		}
	}
	return images, paths
}

func sharedLung1(t testing.TB) string {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "shared")
	}
	root = filepath.Join(root, "data", "lung1", "LUNG1-001")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no reference data: %v; set RADNODE_SHARED to the folder that holds them", err)
	}
	return root
}

func readAll(t testing.TB, dir string) (files []*dicom.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.dcm"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("nothing in %s: %v", dir, err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		files = append(files, f)
	}
	return files
}

func runProgram(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// A plane is the pixels of one image: little endian, unsigned, 16 bits.
type plane struct {
	rows, columns int
	raw           []byte
	beside        string // a file name that may be used for what belongs to it
}

func deflated(p plane) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(p.raw); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

func openJPH(args ...string) func(plane) ([]byte, error) {
	return func(p plane) ([]byte, error) {
		pgm := fmt.Appendf(nil, "P5\n%d %d\n%d\n", p.columns, p.rows, 65535)
		for i := 0; i < len(p.raw); i += 2 {
			pgm = append(pgm, p.raw[i+1], p.raw[i])
		}
		if err := os.WriteFile(p.beside+".pgm", pgm, 0o600); err != nil {
			return nil, err
		}
		defer os.Remove(p.beside + ".pgm")
		defer os.Remove(p.beside + ".j2c")
		if err := runProgram("ojph_compress", append(args, "-i", p.beside+".pgm", "-o", p.beside+".j2c")...); err != nil {
			return nil, err
		}
		return os.ReadFile(p.beside + ".j2c")
	}
}

// frames encapsulates what a codec makes of the pixels, as one fragment with an empty Basic Offset Table: PS3.5 A.4.
func frames(uid string, codec func(plane) ([]byte, error)) func(from, to string) error {
	return func(from, to string) error {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		p := plane{beside: to}
		for frame, err := range pixel.Frames(f) {
			if err != nil {
				return err
			}
			p.rows, p.columns = frame.Rows, frame.Columns
			for _, s := range frame.Samples {
				p.raw = binary.LittleEndian.AppendUint16(p.raw, uint16(s))
			}
		}
		stream, err := codec(p)
		if err != nil {
			return err
		}
		if len(stream)%2 == 1 {
			stream = append(stream, 0)
		}
		meta := f.Meta
		meta.TransferSyntaxUID = dicom.ExplicitVRLittleEndian
		var out bytes.Buffer
		if err := dicom.WriteFile(&out, meta, f.DataSet); err != nil {
			return err
		}
		// The UID has its place in the meta information, whose length follows.
		head, err := withTransferSyntax(out.Bytes(), uid)
		if err != nil {
			return err
		}
		item := func(element uint16, length int) {
			head = binary.LittleEndian.AppendUint16(head, 0xFFFE)
			head = binary.LittleEndian.AppendUint16(head, element)
			head = binary.LittleEndian.AppendUint32(head, uint32(length))
		}
		head = append(head, 0xE0, 0x7F, 0x10, 0x00, 'O', 'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF)
		item(0xE000, 0)
		item(0xE000, len(stream))
		head = append(head, stream...)
		item(0xE0DD, 0)
		return os.WriteFile(to, head, 0o600)
	}
}

// withTransferSyntax changes Transfer Syntax UID (0002,0010) in the bytes of a file.
func withTransferSyntax(file []byte, uid string) ([]byte, error) {
	if len(uid)%2 == 1 {
		uid += "\x00"
	}
	at := bytes.Index(file, []byte{0x02, 0x00, 0x10, 0x00, 'U', 'I'})
	if at < 0 {
		return nil, fmt.Errorf("no Transfer Syntax UID")
	}
	old := int(binary.LittleEndian.Uint16(file[at+6:]))
	out := bytes.Clone(file[:at+6])
	out = binary.LittleEndian.AppendUint16(out, uint16(len(uid)))
	out = append(append(out, uid...), file[at+8+old:]...)
	const group = 128 + 4 + 8 // the value of File Meta Information Group Length
	binary.LittleEndian.PutUint32(out[group:], binary.LittleEndian.Uint32(out[group:])+uint32(len(uid)-old))
	return out, nil
}
