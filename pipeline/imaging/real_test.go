package imaging_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/imaging"
)

// realSeries are all series of images in the reference data, with what a second reader says of them.
var realSeries = []struct {
	path     string
	modality string
	unit     string
	size     [3]int
	lossy    bool
}{
	{"lung1/LUNG1-001/image", "CT", "HU", [3]int{512, 512, 134}, false},
	{"ibsi1/ct_phantom/dicom/image", "CT", "HU", [3]int{204, 201, 60}, false},
	{"sts/STS_001/CT/image", "CT", "HU", [3]int{198, 202, 59}, false},
	{"sts/STS_001/MR_T1/image", "MR", "[arb'U]", [3]int{174, 158, 59}, false},
	{"sts/STS_001/PET/image", "PT", "g/ml{SUVbw}", [3]int{41, 43, 59}, false},
	{"sts/STS_002/CT/image", "CT", "HU", [3]int{161, 143, 48}, false},
	{"sts/STS_002/MR_T1/image", "MR", "[arb'U]", [3]int{115, 90, 35}, false},
	{"sts/STS_002/PET/image", "PT", "g/ml{SUVbw}", [3]int{30, 27, 48}, false},
	{"sts/STS_003/CT/image", "CT", "HU", [3]int{154, 158, 51}, false},
	{"sts/STS_003/MR_T1/image", "MR", "[arb'U]", [3]int{121, 138, 47}, false},
	{"sts/STS_003/PET/image", "PT", "g/ml{SUVbw}", [3]int{29, 30, 51}, false},
	{"sts_raw/STS_001/FDG_PET/image", "PT", "Bq/ml", [3]int{128, 128, 267}, false},
	{"sts_raw/STS_001/MR_T1/image", "MR", "[arb'U]", [3]int{512, 512, 40}, false},
	{"sts_raw/STS_001/MR_T2/image", "MR", "[arb'U]", [3]int{384, 384, 40}, false},
	{"dcmqi/ct-3slice", "CT", "HU", [3]int{512, 512, 3}, false},
	{"dcmqi/23x38x3/image", "CT", "HU", [3]int{23, 38, 3}, false},
	{"dcmqi/23x38x3/multiframe", "CT", "HU", [3]int{23, 38, 3}, false},
	{"highdicom/ct_image.dcm", "CT", "HU", [3]int{128, 128, 1}, false},
}

// slicesBySecondReader prints of the first, the middle and the last image of each folder its UID, Image Position and the digest of its
// values as float32.
const slicesBySecondReader = `
import glob, hashlib, os, sys, numpy, pydicom
for path in sys.argv[1:]:
    files = sorted(glob.glob(path + "/*.dcm")) or [path]
    for f in sorted({files[0], files[len(files) // 2], files[-1]}):
        d = pydicom.dcmread(f)
        pixels = d.pixel_array.astype(numpy.float64)
        for k, plane in enumerate(pixels if pixels.ndim == 3 else [pixels]):
            a, p = d, d
            if "SharedFunctionalGroupsSequence" in d:
                a = d.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
                p = d.PerFrameFunctionalGroupsSequence[k].PlanePositionSequence[0]
            v = (plane * float(a.get("RescaleSlope", 1)) + float(a.get("RescaleIntercept", 0))).astype("<f4")
            print(d.SOPInstanceUID, k + 1, *p.ImagePositionPatient, hashlib.sha256(v.tobytes()).hexdigest())
`

// legacyByHighdicom converts three series by highdicom, and prints of which images.
const legacyByHighdicom = `
import glob, sys, warnings, logging, pydicom
from highdicom import legacy
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
data, out = sys.argv[1:]
for name, path, first, n, convert in [
    ("ct", "ibsi1/ct_phantom/dicom/image", 0, 20, legacy.LegacyConvertedEnhancedCTImage),
    ("pet", "sts_raw/STS_001/FDG_PET/image", 100, 20, legacy.LegacyConvertedEnhancedPETImage),
    ("mr", "sts_raw/STS_001/MR_T1/image", 10, 6, legacy.LegacyConvertedEnhancedMRImage),
]:
    images = [(f, pydicom.dcmread(f)) for f in glob.glob(data + "/" + path + "/*.dcm")]
    images.sort(key=lambda i: i[1].ImagePositionPatient[2])
    images = images[first:first + n]
    convert([d for _, d in images], series_instance_uid="1.2.3.4", series_number=1, sop_instance_uid="1.2.3.4.5", instance_number=1).save_as(out + "/" + name + ".dcm")
    print(name, *[f for f, _ in images], sep="\t")
`

// runPython runs a program with the second reader, or skips the test.
func runPython(t testing.TB, program string, args ...string) string {
	t.Helper()
	exe := os.Getenv("RADNODE_PYTHON")
	if exe == "" {
		exe = "python3"
	}
	if out, err := exec.Command(exe, "-c", "import pydicom, numpy, highdicom").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the second reader is absent: %v\n%s", err, out)
		}
		t.Skip("pydicom, numpy or highdicom is absent: RADNODE_PYTHON names the interpreter that has them")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(exe, append([]string{"-c", program}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the second reader failed: %v\n%s", err, stderr.String())
	}
	return string(out)
}

func openFile(t testing.TB, path string) *dicom.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := dicom.ReadFile(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readReal(t testing.TB, path string) []*dicom.File {
	t.Helper()
	p := shared(t, strings.Split(path, "/")...)
	if strings.HasSuffix(p, ".dcm") {
		return []*dicom.File{openFile(t, p)}
	}
	return readFolder(t, p)
}

// TestRealSeries assembles every series of the reference data, and compares values and places with pydicom.
func TestRealSeries(t *testing.T) {
	var paths []string
	for _, c := range realSeries {
		paths = append(paths, shared(t, strings.Split(c.path, "/")...))
	}
	type slice struct{ position, digest string }
	want := map[string]slice{} // by instance and frame
	for line := range strings.Lines(runPython(t, slicesBySecondReader, paths...)) {
		f := strings.Fields(line)
		if len(f) != 6 {
			t.Fatalf("line %q", line)
		}
		want[f[0]+" "+f[1]] = slice{strings.Join(f[2:5], " "), f[5]}
	}
	compared := 0
	for _, c := range realSeries {
		t.Run(c.path, func(t *testing.T) {
			fs := readReal(t, c.path)
			o := imaging.Options{SUV: imaging.SUVNone}
			v, err := imaging.Assemble(context.Background(), fs, o)
			if err != nil {
				t.Fatal(err)
			}
			if v.Modality != c.modality || v.Unit != c.unit || v.Grid.Size != c.size || v.Lossy != "" {
				t.Errorf("%s in %q, %v, lossy %q; want %+v", v.Modality, v.Unit, v.Grid.Size, v.Lossy, c)
			}
			slices.Reverse(fs)
			again, err := imaging.Assemble(context.Background(), fs, o)
			if err != nil {
				t.Fatal(err)
			}
			sameVolume(t, again, v)
			plane := c.size[0] * c.size[1]
			raw := make([]byte, 4*plane)
			for k, uid := range v.SOPInstances {
				frame := 1
				if v.FrameNumbers != nil {
					frame = v.FrameNumbers[k]
				}
				w, ok := want[fmt.Sprint(uid, " ", frame)]
				if !ok {
					continue
				}
				compared++
				for i, x := range v.Grid.Data[k*plane : (k+1)*plane] {
					binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(x))
				}
				if got := fmt.Sprintf("%x", sha256.Sum256(raw)); got != w.digest {
					t.Errorf("slice %d: values differ from the second reader's", k)
				}
				var p [3]float64
				if _, err := fmt.Sscan(w.position, &p[0], &p[1], &p[2]); err != nil {
					t.Fatal(err)
				}
				at := v.Grid.Point(0, 0, float64(k))
				for a := range 3 {
					if math.Abs(at[a]-p[a]) > 0.1 { // what the package comment allows
						t.Errorf("slice %d lies at %v, second reader says %v", k, at, p)
						break
					}
				}
			}
		})
	}
	if compared < 3*16 {
		t.Errorf("%d slices compared", compared)
	}
}

// TestConvertedSeries compares single-frame series with what highdicom made of them: legacy converted enhanced images.
func TestConvertedSeries(t *testing.T) {
	data, out := filepath.Dir(shared(t, "ibsi1")), t.TempDir()
	shared(t, "sts_raw")
	n := 0
	for line := range strings.Lines(runPython(t, legacyByHighdicom, data, out)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		t.Run(f[0], func(t *testing.T) {
			var single []*dicom.File
			for _, p := range f[1:] {
				single = append(single, openFile(t, p))
			}
			for _, kind := range []imaging.SUVKind{imaging.SUVNone, imaging.SUVBodyWeight} {
				o := imaging.Options{SUV: kind}
				want, err := imaging.Assemble(context.Background(), single, o)
				if err != nil {
					t.Fatal(err)
				}
				got, err := imaging.Assemble(context.Background(), []*dicom.File{openFile(t, filepath.Join(out, f[0]+".dcm"))}, o)
				if err != nil {
					t.Fatal(err)
				}
				sameVolume(t, got, want)
			}
		})
		n++
	}
	if n != 3 {
		t.Errorf("%d series were converted", n)
	}
}

// TestConvertedByPixelMed compares a series with the multi-frame image that PixelMed made of it.
func TestConvertedByPixelMed(t *testing.T) {
	var v [2]*imaging.Volume
	for i, path := range []string{"dcmqi/23x38x3/image", "dcmqi/23x38x3/multiframe"} {
		var err error
		if v[i], err = imaging.Assemble(context.Background(), readReal(t, path), imaging.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	sameVolume(t, v[1], v[0])
}

// compressedByPydicom writes a series in several transfer syntaxes.
const compressedByPydicom = `
import glob, sys, pydicom
from pydicom.uid import RLELossless, JPEGLSLossless, JPEGLSNearLossless
data, out = sys.argv[1:]
for i, f in enumerate(sorted(glob.glob(data + "/*.dcm"))):
    for name, uid, more in [("rle", RLELossless, {}), ("jls", JPEGLSLossless, {}), ("near", JPEGLSNearLossless, {"jls_error": 3})]:
        d = pydicom.dcmread(f)
        d.compress(uid, generate_instance_uid=False, **more)
        d.save_as("%s/%s-%d.dcm" % (out, name, i))
`

// TestCompressedSeries compares a series with itself in transfer syntaxes that pydicom wrote. What a codestream has lost is said,
// where the header does not say it.
func TestCompressedSeries(t *testing.T) {
	out := t.TempDir()
	runPython(t, compressedByPydicom, shared(t, "dcmqi", "ct-3slice"), out)
	want, err := imaging.Assemble(context.Background(), readReal(t, "dcmqi/ct-3slice"), imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, most := range map[string]float32{"rle": 0, "jls": 0, "near": 3} {
		paths, err := filepath.Glob(filepath.Join(out, name+"-*.dcm"))
		if err != nil || len(paths) != 3 {
			t.Fatalf("%d files, %v", len(paths), err)
		}
		var fs []*dicom.File
		for _, p := range paths {
			fs = append(fs, openFile(t, p))
			fs[len(fs)-1].DataSet.Remove(dicom.LossyImageCompression)
		}
		got, err := imaging.Assemble(context.Background(), fs, imaging.Options{})
		if err != nil {
			t.Fatal(err)
		}
		differ := float32(0)
		for i, x := range want.Grid.Data {
			differ = max(differ, x-got.Grid.Data[i], got.Grid.Data[i]-x)
		}
		if differ > most || most > 0 && differ == 0 {
			t.Errorf("%s: values differ by up to %v, want %v", name, differ, most)
		}
		note := strings.Join(got.Notes, "\n")
		if lossy := most > 0; lossy != strings.Contains(got.Lossy, "1.2.840.10008.1.2.4.81") || lossy != strings.Contains(note, "the images are lossy") {
			t.Errorf("%s: lossy %q, notes %q", name, got.Lossy, got.Notes)
		}
	}
}

// TestUptake compares SUV with activity: one factor after the rescale of each slice, for a copy of a slice too.
func TestUptake(t *testing.T) {
	fs := readReal(t, "sts_raw/STS_001/FDG_PET/image")
	activity, err := imaging.Assemble(context.Background(), fs, imaging.Options{SUV: imaging.SUVNone})
	if err != nil {
		t.Fatal(err)
	}
	again := readReal(t, "sts_raw/STS_001/FDG_PET/image")[100]
	again.DataSet.SetString(dicom.SOPInstanceUID, again.DataSet.String(dicom.SOPInstanceUID)+".1")
	v, err := imaging.Assemble(context.Background(), append(fs, again), imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v.Unit != "g/ml{SUVbw}" || v.SUV == nil || v.SUV.Kind != imaging.SUVBodyWeight || !strings.Contains(strings.Join(v.Notes, "\n"), "1 image with") {
		t.Fatalf("unit %q, SUV %+v, notes %q", v.Unit, v.SUV, v.Notes)
	}
	plane, low, high := 128*128, math.Inf(1), 0.0
	for k := range v.Grid.Size[2] {
		for i, x := range activity.Grid.Data[k*plane : (k+1)*plane] {
			if x > 1000 {
				ratio := float64(v.Grid.Data[k*plane+i]) / float64(x)
				low, high = min(low, ratio), max(high, ratio)
			}
		}
	}
	// 71 kg, and the dose that is left when the scan begins: the ratio is the same in all slices but for rounding.
	if !(high-low < 1e-6*high) || low < 71e3/1e9 || high > 71e3/1e8 {
		t.Errorf("SUV is activity times %v to %v", low, high)
	}
}
