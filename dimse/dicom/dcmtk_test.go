package dicom

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// peers finds programs that a test needs. Without them it is skipped, and fails in CI.
func peers(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("%s is not here: install Debian's dcmtk", name)
		}
	}
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %.200q: %v: %s", name, args, err, &stderr)
	}
	return out
}

// dcmtkElement is what dcm2xml says of an element.
type dcmtkElement struct {
	vr, value string
	items     int
	absent    bool // the value is longer than what was asked for
}

// dcmtkRead lets DCMTK read a file: its elements by path, as flatten names them. Values of more than 64 KB are left out.
func dcmtkRead(t *testing.T, path string) map[string]dcmtkElement {
	t.Helper()
	out := run(t, "dcm2xml", "-q", "+R", "64", "+Wb", "+U8", path)
	found := make(map[string]dcmtkElement)
	type level struct {
		path string
		item int
	}
	levels := []level{}
	prefix := func() string {
		var b strings.Builder
		for _, l := range levels {
			fmt.Fprintf(&b, "%s[%d].", l.path, l.item)
		}
		return b.String()
	}
	inBody := false
	d := xml.NewDecoder(bytes.NewReader(out))
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			attr := make(map[string]string)
			for _, a := range token.Attr {
				attr[a.Name.Local] = a.Value
			}
			tag := "(" + strings.ToUpper(attr["tag"]) + ")"
			switch token.Name.Local {
			case "data-set":
				inBody = true
			case "sequence":
				card, _ := strconv.Atoi(attr["card"])
				found[prefix()+tag] = dcmtkElement{vr: "SQ", items: card}
				levels = append(levels, level{tag, 0})
			case "item":
				levels[len(levels)-1].item++
			case "pixel-sequence", "pixel-item":
				if err := d.Skip(); err != nil {
					t.Fatal(err)
				}
			case "element":
				var value string
				if err := d.DecodeElement(&value, &token); err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				if inBody && !strings.HasSuffix(tag, ",0000)") {
					found[prefix()+tag] = dcmtkElement{vr: attr["vr"], value: value, absent: attr["loaded"] == "no"}
				}
			}
		case xml.EndElement:
			if token.Name.Local == "sequence" {
				levels = levels[:len(levels)-1]
			}
		}
	}
	return found
}

// dcmtkValue prints a value as dcm2xml does: numbers in decimal, OB in bytes and OW in words of hexadecimal digits.
func dcmtkValue(e *Element) string {
	words := func(width int) string {
		var out []string
		for b := e.value; len(b) >= width; b = b[width:] {
			w := bytes.Clone(b[:width])
			swapWords(w, width)
			out = append(out, hex.EncodeToString(w))
		}
		return strings.Join(out, `\`)
	}
	switch e.VR {
	case OB, UN:
		return words(1)
	case OW:
		return words(2)
	case OL, OV:
		return strings.Join((&Element{VR: map[VR]VR{OL: UL, OV: UV}[e.VR], value: e.value}).printed(math.MaxInt), `\`)
	case AT:
		return strings.ToLower(strings.Join(e.printed(math.MaxInt), `\`))
	}
	return strings.Join(e.Strings(), `\`)
}

// sameValue compares what dcm2xml prints with a value, numbers by what they are.
func sameValue(e *Element, theirs string) bool {
	switch {
	case vrs[e.VR].text:
		values := strings.Split(theirs, `\`)
		if vrs[e.VR].single {
			values = []string{theirs}
		}
		for i := range values {
			values[i] = trimText(values[i], vrs[e.VR].single)
		}
		return strings.Join(e.Strings(), `\`) == strings.Join(values, `\`)
	case e.VR == FL || e.VR == FD || e.VR == OF || e.VR == OD:
		ours, _ := e.floats(math.MaxInt)
		values := strings.Split(theirs, `\`)
		if theirs == "" {
			values = nil
		}
		if len(ours) != len(values) {
			return false
		}
		for i := range ours {
			v, err := strconv.ParseFloat(values[i], 64)
			if e.VR == FL || e.VR == OF {
				v = float64(float32(v))
			}
			// DCMTK rounds the 17 digits of an FD itself, and is wrong in the last ones at times; pydicom has the bits.
			if err != nil || math.Abs(ours[i]-v) > 1e-15*math.Abs(v) {
				return false
			}
		}
		return true
	}
	return dcmtkValue(e) == theirs
}

// compareDCMTK holds every element of d against what DCMTK found, and takes it out of there.
func compareDCMTK(t *testing.T, where string, d *DataSet, found map[string]dcmtkElement, prefix string) (compared int) {
	t.Helper()
	for e := range d.Elements() {
		path := prefix + e.Tag.String()
		o, ok := found[path]
		delete(found, path)
		if e.Tag == SpecificCharacterSet { // dcm2xml says what it makes of it
			continue
		}
		switch {
		case !ok:
			t.Errorf("%s %s: DCMTK does not have it", where, path)
		case o.vr != e.VR.String() && e.Tag.Private() && e.VR == UN: // DCMTK has a dictionary of private elements
		case o.vr == "UN" && vrs[e.VR].text: // the dictionary knows it, and DCMTK leaves it
			if words := dcmtkValue(&Element{VR: UN, value: e.value}); words != o.value {
				t.Errorf("%s %s %s: %s, DCMTK has %s", where, path, e.VR, words, o.value)
			}
			compared++
		case o.vr != e.VR.String():
			t.Errorf("%s %s: VR %s, DCMTK has %s", where, path, e.VR, o.vr)
		case e.VR == SQ:
			if o.items != len(e.items) {
				t.Errorf("%s %s: %d items, DCMTK has %d", where, path, len(e.items), o.items)
			}
			compared++
			for i, item := range e.items {
				compared += compareDCMTK(t, where, item, found, fmt.Sprintf("%s[%d].", path, i+1))
			}
		case o.absent:
		case !sameValue(e, o.value):
			t.Errorf("%s %s %s: %.60q, DCMTK has %.60q", where, path, e.VR, dcmtkValue(e), o.value)
		default:
			compared++
		}
	}
	return compared
}

// TestDCMTK writes the reference data by DCMTK in every layout of PS3.5, and holds every element, those inside of sequences
// too, and the pixels against what DCMTK reads in the same file.
func TestDCMTK(t *testing.T) {
	peers(t, "dcmconv", "dcm2xml")
	var paths []string
	for _, p := range firstOfFolders(sharedFiles(t), 1) {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < 600<<10 && !strings.Contains(p, filepath.Join("data", "sts")+string(filepath.Separator)) { // made of sts_raw
			paths = append(paths, p)
		}
	}
	dir := t.TempDir()
	files, compared, pixels := 0, 0, 0
	for n, path := range paths {
		layouts := []string{"", "+ti -e", "+tb +e", "+td -e +g"}
		if info, err := os.Stat(path); err == nil && info.Size() < 100<<10 {
			layouts = append(layouts, "+ti +e", "+te +e", "+te -e", "+tb -e", "+td +e")
		}
		for _, options := range layouts {
			in := path
			if options != "" {
				in = filepath.Join(dir, fmt.Sprintf("%d%s.dcm", n, strings.ReplaceAll(options, " ", "")))
				run(t, "dcmconv", append(strings.Fields(options), "-q", path, in)...)
			}
			b, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			where := path + " " + options
			f, err := readBytes(b)
			if err != nil {
				t.Errorf("%s: %v", where, err)
				continue
			}
			if len(f.Notes) > 0 {
				t.Errorf("%s: %q", where, f.Notes)
			}
			found := dcmtkRead(t, in)
			if p := f.Pixels; p != nil && p.Length >= 0 {
				value, err := io.ReadAll(p.Reader())
				if err != nil {
					t.Fatal(err)
				}
				e := &Element{Tag: p.Tag, VR: p.VR, value: value}
				if p.BigEndian {
					swapWords(value, vrs[p.VR].word)
				}
				o, ok := found[p.Tag.String()]
				switch {
				case !ok || o.vr != p.VR.String():
					t.Errorf("%s: pixels of VR %s, DCMTK has %q", where, p.VR, o.vr)
				case o.absent:
				case dcmtkValue(e) != o.value:
					t.Errorf("%s: other pixels than DCMTK", where)
				default:
					pixels++
				}
				delete(found, p.Tag.String())
			}
			compared += compareDCMTK(t, where, f.DataSet, found, "")
			delete(found, SpecificCharacterSet.String())
			delete(found, DataSetTrailingPadding.String())
			for p := range found {
				t.Errorf("%s %s: only DCMTK has it", where, p)
			}
			files++
		}
	}
	t.Logf("%d files, %d elements, %d of pixels", files, compared, pixels)
	if compared < 100*files || pixels < files/10 {
		t.Errorf("only %d elements of %d files compared, and %d of pixels", compared, files, pixels)
	}
}

// pydicomFiles writes files that no other writer at hand makes into a folder, and prints their names.
const pydicomFiles = `
import sys, struct, warnings, pydicom.config
warnings.simplefilter("ignore")
pydicom.config.replace_un_with_known_vr = False
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.dataelem import DataElement
from pydicom.tag import Tag
from pydicom import uid
def write(name, ts, fill):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ts
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = meta.MediaStorageSOPClassUID, "1.2.3", "42"
    fill(ds)
    ds.save_as(name, enforce_file_format=True, implicit_vr=ts == uid.ImplicitVRLittleEndian, little_endian=ts != uid.ExplicitVRBigEndian)
    print(name)
def numbers(ds):
    ds.add_new(0x00720082, "SV", [-2**63, -1, 0, 1, 2**63 - 1])
    ds.add_new(0x00720083, "UV", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
    ds.add_new(0x00720081, "OV", struct.pack(order + "3Q", 1, 2**63, 2**64 - 1))
    ds.add_new(0x00720075, "OL", struct.pack(order + "3L", 1, 2**31, 2**32 - 1))
    ds.add_new(0x00720073, "OD", struct.pack(order + "3d", 0.1, -1e300, 5e-324))
    ds.add_new(0x00720067, "OF", struct.pack(order + "3f", 0.1, -1e30, 1e-45))
    ds.add_new(0x00720069, "OW", struct.pack(order + "3H", 1, 0x0203, 0xFFFE))
    ds.add_new(0x00720065, "OB", b"\1\2\3\4")
    ds.add_new(0x00720074, "FD", [0.1, -1e300, 5e-324])
    ds.add_new(0x00720076, "FL", [0.5, -1e30])
    ds.add_new(0x00720078, "UL", [0, 2**32 - 1])
    ds.add_new(0x0072007C, "SL", [-2**31, 2**31 - 1])
    ds.add_new(0x0072007A, "US", [0, 65535])
    ds.add_new(0x0072007E, "SS", [-32768, 32767])
    ds.add_new(0x00720060, "AT", [0x00280010, 0x7FE00010])
    ds.add_new(0x0072006F, "UC", ["a" * 70000, "b"]) if order == "<" else None
    ds.add_new(0x00720068, "LT", "one\\two\r\nthree ")
    ds.add_new(0x00080120, "UR", "https://example.org/a?b=c ")
# items of CP-246: Implicit VR Little Endian whatever is around them
def element(tag, value): return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
def item(content): return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
def openitem(content): return struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
def opensequence(tag, content):
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, 0xFFFFFFFF) + content + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
code = element(0x00080100, b"121181") + element(0x00080102, b"DCM ") + element(0x00080104, b"DICOM Object Catalog")
def unknown(ds):
    for tag, value in [
        (0x0040A043, item(code)),                                                     # known, items of defined length
        (0x0040A168, openitem(code) + openitem(code)),                                # known, items of undefined length
        (0x0040A730, openitem(code + opensequence(0x0040A730, openitem(code + opensequence(0x0040A043, item(code)))))),
        (0x00291020, openitem(element(0x00291030, b"private "))),                     # private
        (0x00291021, b""),                                                            # empty
    ]:
        e = DataElement(Tag(tag), "UN", value)
        e.is_undefined_length = True
        ds.add(e)
    ds.add_new(0x00290010, "LO", "RADNODE TEST")
    ds.add_new(0x00291040, "UN", b"no sequence ")
    ds.add_new(0x00400254, "UN", b"known text")
    ds.add_new(0x0040A30A, "UN", b"1.5\\2.5 ")
    ds.add_new(0x00880140, "UI", "1.2.3.4")
for ts, label in [(uid.ExplicitVRLittleEndian, "explicit"), (uid.ImplicitVRLittleEndian, "implicit"),
                  (uid.ExplicitVRBigEndian, "big"), (uid.DeflatedExplicitVRLittleEndian, "deflated")]:
    order = ">" if label == "big" else "<"
    write(sys.argv[1] + "/numbers-%s.dcm" % label, ts, numbers)
    if label in ("explicit", "deflated"): write(sys.argv[1] + "/unknown-%s.dcm" % label, ts, unknown)
`

// TestUnusual holds what other writers do not use against pydicom, which writes it, and DCMTK: the 64-bit representations,
// OL, OD and OF in every byte order, and sequences as UN (CP-246).
func TestUnusual(t *testing.T) {
	peers(t, "dcm2xml")
	pydicomHere(t)
	dir := t.TempDir()
	paths := strings.Fields(string(run(t, python(), "-c", pydicomFiles, dir)))
	witness := pydicomRead(t, paths)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readBytes(b)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if len(f.Notes) > 0 {
			t.Errorf("%s: %q", path, f.Notes)
		}
		n := comparePydicom(t, path, f.DataSet, witness[path])
		m := compareDCMTK(t, path, f.DataSet, dcmtkRead(t, path), "")
		t.Logf("%s: %d elements with pydicom, %d with DCMTK", filepath.Base(path), n, m)
		if n < 10 || m < 10 {
			t.Errorf("%s: only %d and %d elements compared", path, n, m)
		}
	}
	// In a big endian data set the items of CP-246 are little endian all the same, which DCMTK knows and pydicom does not.
	path := filepath.Join(dir, "unknown-big.dcm")
	item := le().tag(itemTag).u32(undefinedLength).implicit(CodeValue, "121181").implicit(CodeMeaning, "Title ").tag(itemDelimTag).u32(0)
	body := be().short(SOPClassUID, "UI", "1.2\x00").open(ConceptNameCodeSequence, "UN").text(string(item.b)).text(string(le().tag(sequenceEndTag).u32(0).b)).
		short(0x00880140, "UI", "1.2.3\x00")
	var file bytes.Buffer
	if err := WriteMeta(&file, FileMeta{MediaStorageSOPClassUID: "1.2", MediaStorageSOPInstanceUID: "1.2", TransferSyntaxUID: ExplicitVRBigEndian}); err != nil {
		t.Fatal(err)
	}
	file.Write(body.b)
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := readBytes(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if n := compareDCMTK(t, path, f.DataSet, dcmtkRead(t, path), ""); n != 5 {
		t.Errorf("%d elements compared", n)
	}
}
