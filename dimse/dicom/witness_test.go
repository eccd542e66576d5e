package dicom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	grail "github.com/grailbio/go-dicom"
	"github.com/grailbio/go-dicom/dicomtag"
	suyash "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// flatten is a data set as lines "path VR value", text without its padding and everything else by its digest.
func flatten(d *DataSet, prefix string, emit func(path, vr, value string)) {
	for e := range d.Elements() {
		path := prefix + e.Tag.String()
		switch {
		case e.VR == SQ:
			emit(path, "SQ", fmt.Sprint(len(e.items)))
			for i, item := range e.items {
				flatten(item, fmt.Sprintf("%s[%d].", path, i+1), emit)
			}
		case vrs[e.VR].text:
			emit(path, e.VR.String(), digest([]byte(strings.Join(e.Strings(), `\`))))
		default:
			emit(path, e.VR.String(), digest(e.value))
		}
	}
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:8])
}

// pydicomLines prints what flatten gives. Private dictionaries are emptied, as radnode has none.
const pydicomLines = `
import sys, hashlib, pydicom, pydicom.datadict, pydicom.config, warnings
from pydicom.dataelem import RawDataElement
warnings.simplefilter("ignore")
pydicom.datadict.private_dictionaries.clear()
WORD = dict(AT=2, US=2, SS=2, OW=2, UL=4, SL=4, FL=4, OF=4, OL=4, FD=8, OD=8, OV=8, SV=8, UV=8)
TEXT = set("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
def digest(b): return hashlib.sha256(b).hexdigest()[:16]
def walk(name, ds, prefix):
    raws = {t: ds.get_item(t) for t in ds.keys()}
    big = ds.original_encoding[1] is False
    for t in sorted(raws):
        if int(t) in (0x7FE00008, 0x7FE00009, 0x7FE00010) and not prefix or t.element == 0 or int(t) == 0xFFFCFFFC: continue
        raw = raws[t]
        value = raw.value if isinstance(raw, RawDataElement) else None
        e = ds[t]
        path = prefix + "(%04X,%04X)" % (t.group, t.element)
        vr = str(e.VR)
        if vr == "SQ":
            print(name, path, vr, len(e.value), sep="\t")
            for i, item in enumerate(e.value): walk(name, item, "%s[%d]." % (path, i + 1))
        elif vr in TEXT:
            v = e.value
            if v is None: v = ""
            many = not isinstance(v, (str, int, float)) and hasattr(v, "__iter__") and vr != "PN" or type(v).__name__ == "MultiValue"
            values = [str(getattr(x, "original_string", x) if vr != "PN" else x) for x in (v if many else [v])]
            one = vr in ("LT", "ST", "UT", "UR")
            values = [x.rstrip(" \0") if one else x.rstrip(" \0").lstrip(" ") for x in values]
            if values == [""]: values = []
            print(name, path, vr, digest("\\".join(values).encode()), sep="\t")
        else:
            if big and value and vr in WORD:
                n = WORD[vr]
                value = b"".join(value[i:i + n][::-1] for i in range(0, len(value), n))
            print(name, path, vr, digest(value or b"") if isinstance(value, (bytes, type(None))) and isinstance(raw, RawDataElement) else "?", sep="\t")
for line in sys.stdin:
    name = line.rstrip("\n")
    ds = pydicom.dcmread(name)
    print(name, "charset", "", str(ds.get("SpecificCharacterSet", "")), sep="\t")
    walk(name, ds, "")
`

// pydicomHere skips a test where pydicom is absent.
func pydicomHere(t *testing.T) {
	t.Helper()
	if out, err := exec.Command(python(), "-c", "import pydicom").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("pydicom is needed: %v %s", err, out)
		}
		t.Skip("python3 with pydicom is not here: set RADNODE_PYTHON")
	}
}

// pydicomRead lets pydicom read files: by file and path, the VR and the value as flatten prints it.
func pydicomRead(t *testing.T, paths []string) map[string]map[string][2]string {
	t.Helper()
	cmd := exec.Command(python(), "-c", pydicomLines)
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	found := make(map[string]map[string][2]string)
	for line := range strings.Lines(string(out)) {
		p := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(p) != 4 {
			t.Fatalf("unexpected line %q", line)
		}
		if found[p[0]] == nil {
			found[p[0]] = make(map[string][2]string)
		}
		if p[1] != "charset" {
			found[p[0]][p[1]] = [2]string{p[2], p[3]}
		}
	}
	return found
}

// comparePydicom holds every element of d against what pydicom found, and returns how many values were compared.
func comparePydicom(t *testing.T, path string, d *DataSet, found map[string][2]string) (values int) {
	t.Helper()
	flatten(d, "", func(p, vr, value string) {
		x, ok := found[p]
		delete(found, p)
		switch {
		case !ok:
			t.Errorf("%s %s %s: pydicom does not have it", path, p, vr)
		case x[0] != vr && !strings.Contains(x[0], "or"): // "US or SS" is left open by pydicom
			t.Errorf("%s %s: VR %s, pydicom has %s", path, p, vr, x[0])
		case x[1] == "?": // pydicom has parsed it already
		case x[1] != value:
			t.Errorf("%s %s %s: value differs from pydicom's", path, p, vr)
		default:
			values++
		}
	})
	for p := range found {
		t.Errorf("%s %s: only pydicom has it", path, p)
	}
	return values
}

// TestPydicom holds every element of the reference data against pydicom.
func TestPydicom(t *testing.T) {
	paths := firstOfFolders(sharedFiles(t), 5) // pydicom takes 20 ms a file
	pydicomHere(t)
	witness := pydicomRead(t, paths)
	compared, values := 0, 0
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readBytes(file)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		compared += len(witness[path])
		values += comparePydicom(t, path, f.DataSet, witness[path])
	}
	t.Logf("%d files, %d elements, %d values", len(paths), compared, values)
	if values < compared*9/10 {
		t.Errorf("only %d of %d values compared", values, compared)
	}
}

// TestDictionary holds keywords and representations of all attributes of PS3.6 against pydicom's dictionary.
func TestDictionary(t *testing.T) {
	pydicomHere(t)
	out := run(t, python(), "-c", `
from pydicom._dicom_dict import DicomDictionary
for tag, (vr, vm, name, retired, keyword) in DicomDictionary.items(): print("%08X" % tag, keyword, vr, sep="\t")
`)
	n := 0
	for line := range strings.Lines(string(out)) {
		p := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		v, err := strconv.ParseUint(p[0], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		tg := Tag(v)
		// Commands and File Meta Information are no part of a data set; some retired attributes have no keyword; and
		// (0028,04xx) is retired in two ways.
		if tg.Group() < 8 || tg.Group() == 0xFFFE || p[1] == "" || tg>>8 == 0x002804 {
			continue
		}
		n++
		if vr, _, _ := strings.Cut(p[2], " or "); tg.Keyword() != p[1] || tg.VR().String() != vr && !tg.allows(parseVR(vr)) {
			t.Errorf("%s is %q %s, pydicom has %s %s", tg, tg.Keyword(), tg.VR(), p[1], p[2])
		}
	}
	if n < 4900 {
		t.Errorf("only %d attributes", n)
	}
}

// firstOfFolders leaves n files of each folder: the slices of a series are alike.
func firstOfFolders(paths []string, n int) []string {
	count := make(map[string]int)
	var out []string
	for _, p := range paths {
		if dir := filepath.Dir(p); count[dir] < n {
			count[dir]++
			out = append(out, p)
		}
	}
	return out
}

// TestGrailbio holds every element of the reference data against grailbio/go-dicom.
func TestGrailbio(t *testing.T) {
	paths := sharedFiles(t)
	if testing.Short() {
		paths = firstOfFolders(paths, 5)
	}
	compared := 0
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
		other, err := grailRead(b)
		if err != nil {
			t.Logf("%s: grailbio cannot read it: %v", path, err)
			continue
		}
		var top []*grail.Element
		for _, e := range other.Elements {
			if e.Tag.Group != 2 {
				top = append(top, e)
			}
		}
		compared += compareGrail(t, path, f.DataSet, top, "")
	}
	t.Logf("%d files, %d elements", len(paths), compared)
	if compared < len(paths)*50 {
		t.Errorf("only %d elements compared", compared)
	}
}

func grailRead(b []byte) (d *grail.DataSet, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return grail.ReadDataSet(bytes.NewReader(b), grail.ReadOptions{DropPixelData: true})
}

func compareGrail(t *testing.T, path string, d *DataSet, other []*grail.Element, prefix string) int {
	t.Helper()
	byTag := make(map[Tag]*grail.Element)
	for _, e := range other {
		if e.Tag.Element != 0 { // group lengths
			byTag[Tag(e.Tag.Group)<<16|Tag(e.Tag.Element)] = e
		}
	}
	n := 0
	for e := range d.Elements() {
		where := path + " " + prefix + e.Tag.String()
		o := byTag[e.Tag]
		if o == nil {
			if e.Tag < PixelData { // grailbio stops at pixel data
				t.Errorf("%s: grailbio does not have it", where)
			}
			continue
		}
		delete(byTag, e.Tag)
		n++
		if o.VR != e.VR.String() && (o.VR == "UN" || o.VR == "US" && e.VR == SS) {
			continue // newer than its dictionary, or "US or SS", of which it always takes the first
		}
		if e.VR == SQ {
			if len(o.Value) != len(e.items) {
				t.Errorf("%s: %d items, grailbio has %d", where, len(e.items), len(o.Value))
				continue
			}
			for i, item := range e.items {
				var sub []*grail.Element
				for _, v := range o.Value[i].(*grail.Element).Value {
					sub = append(sub, v.(*grail.Element))
				}
				n += compareGrail(t, path, item, sub, fmt.Sprintf("%s%s[%d].", prefix, e.Tag, i+1))
			}
			continue
		}
		if got, want := ours(e), theirs(o); got != want {
			t.Errorf("%s %s (%s): %.60q, grailbio has %.60q", where, e.VR, o.VR, got, want)
		}
	}
	for tag := range byTag {
		if tag != PixelData {
			t.Errorf("%s %s%s: only grailbio has it", path, prefix, tag)
		}
	}
	return n
}

// ours and theirs print a value the same way.
func ours(e *Element) string {
	switch e.VR {
	case FL, OF:
		v, _ := e.floats(math.MaxInt)
		f := make([]float32, len(v))
		for i := range v {
			f[i] = float32(v[i])
		}
		return fmt.Sprint(f)
	case FD, OD:
		v, _ := e.floats(math.MaxInt)
		return fmt.Sprint(v)
	case US, SS, UL, SL:
		v, _ := e.ints(math.MaxInt)
		return fmt.Sprint(v)
	}
	if vrs[e.VR].text || e.VR == AT {
		return strings.Join(e.Strings(), `\`)
	}
	if e.VR == UN { // grailbio takes it for text
		return strings.Trim(string(e.value), " \x00")
	}
	return hex.EncodeToString(e.value)
}

func theirs(e *grail.Element) string {
	var text []string
	for _, v := range e.Value {
		switch v := v.(type) {
		case string:
			text = append(text, strings.TrimRight(v, " \x00"))
			if e.VR != "LT" && e.VR != "ST" && e.VR != "UT" {
				text[len(text)-1] = strings.TrimLeft(text[len(text)-1], " ")
			}
		case dicomtag.Tag:
			text = append(text, (Tag(v.Group)<<16 | Tag(v.Element)).String())
		case []byte:
			return hex.EncodeToString(v)
		}
	}
	switch e.VR {
	case "FL", "FD", "OF", "OD", "US", "SS", "UL", "SL":
		return strings.ReplaceAll(fmt.Sprint(e.Value), "<nil>", "")
	}
	return strings.Trim(strings.Join(text, `\`), " \x00")
}

// TestSuyashkumar lets the other Go parser read what radnode writes: the same tags, representations, items and texts.
func TestSuyashkumar(t *testing.T) {
	paths := firstOfFolders(sharedFiles(t), 20)
	compared := 0
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
		f.Meta.TransferSyntaxUID = ""
		var file bytes.Buffer
		if err := WriteFile(&file, f.Meta, f.DataSet); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		parsed, err := suyash.Parse(bytes.NewReader(file.Bytes()), int64(file.Len()), nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var elems []*suyash.Element
		for _, e := range parsed.Elements {
			if e.Tag.Group != tag.MetadataGroup && e.Tag != tag.SpecificCharacterSet {
				elems = append(elems, e)
			}
		}
		compared += compareSuyash(t, path, f.DataSet, elems)
	}
	t.Logf("%d files, %d elements", len(paths), compared)
}

func compareSuyash(t *testing.T, path string, d *DataSet, other []*suyash.Element) int {
	t.Helper()
	d.Remove(SpecificCharacterSet) // of an item: it is UTF-8 now
	if d.Len() != len(other) {
		t.Errorf("%s: %d elements, suyashkumar has %d", path, d.Len(), len(other))
		return 0
	}
	n, i := 0, 0
	for e := range d.Elements() {
		o := other[i]
		i++
		n++
		where := path + " " + e.Tag.String()
		if Tag(o.Tag.Uint32()) != e.Tag || o.RawValueRepresentation != e.VR.String() {
			t.Errorf("%s %s: suyashkumar has %s %s", where, e.VR, o.Tag, o.RawValueRepresentation)
			continue
		}
		switch v := o.Value.GetValue().(type) {
		case []*suyash.SequenceItemValue:
			if len(v) != len(e.items) {
				t.Errorf("%s: %d items, suyashkumar has %d", where, len(e.items), len(v))
				continue
			}
			for k := range v {
				n += compareSuyash(t, path, e.items[k], v[k].GetValue().([]*suyash.Element))
			}
		case []string:
			got := strings.ReplaceAll(strings.Join(e.Strings(), `\`), " ", "")
			want := strings.ReplaceAll(strings.ReplaceAll(strings.Join(v, `\`), " ", ""), "\x00", "")
			if vrs[e.VR].text && got != want {
				t.Errorf("%s %s: suyashkumar has another text", where, e.VR)
			}
		case []int:
			got, _ := e.ints(math.MaxInt)
			if e.VR != AT && !(len(got) == 0 && len(v) == 0) && !reflect.DeepEqual(got, v) {
				t.Errorf("%s %s: %v, suyashkumar has %v", where, e.VR, got, v)
			}
		case []byte:
			if !bytes.Equal(v, append(bytes.Clone(e.value), make([]byte, len(e.value)&1)...)) {
				t.Errorf("%s %s: suyashkumar has other bytes", where, e.VR)
			}
		case []float64: // FL goes through text there; FD is exact
			if e.VR == FD {
				b := make([]byte, 0, len(e.value))
				for _, x := range v {
					b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
				}
				if !bytes.Equal(b, e.value) {
					t.Errorf("%s: suyashkumar has other numbers", where)
				}
			}
		}
	}
	return n
}

// python is the interpreter that has the packages: the one RADNODE_PYTHON names, or python3.
func python() string { return cmp.Or(os.Getenv("RADNODE_PYTHON"), "python3") }
