package dicom

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pydicomCharsets writes a file for every defined term of PS3.3 C.12.1.1.2 into a folder, with every character of its sets,
// and prints for each what pydicom reads in it: the name of the file, the terms, and the text of each element in hexadecimal
// digits.
const pydicomCharsets = `
import sys, warnings
warnings.simplefilter("ignore")
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.dataelem import DataElement
from pydicom import uid
ESC = b"\x1b"
def table(codec, codes):
    out = []
    for code in codes:
        try: ch = code.decode(codec)
        except UnicodeDecodeError: continue
        if len(ch) == 1 and (ch >= "\xa0" and not 0xE000 <= ord(ch) <= 0xF8FF): out.append(code)
    return out
high = [bytes([c]) for c in range(0xA0, 0x100)]
pairs = [bytes([a, b]) for a in range(0xA1, 0xFF) for b in range(0xA1, 0xFF)]
low = lambda code: bytes(c & 0x7F for c in code)
def lines(codes, n, before=b"", after=b""):
    return b"\r\n".join(before + b"".join(codes[i:i + n]) + after for i in range(0, len(codes), n))
def said(codec, codes, n=40, prefix=b""): # what Python's own codec says to lines()
    return "\r\n".join("".join((prefix + c).decode(codec) for c in codes[i:i + n]) for i in range(0, len(codes), n))
# terms, a person name, a text with all characters, and that text
files = []
for number, codec in [("100", "iso8859-1"), ("101", "iso8859-2"), ("109", "iso8859-3"), ("110", "iso8859-4"), ("144", "iso8859-5"),
                      ("127", "iso8859-6"), ("126", "iso8859-7"), ("138", "iso8859-8"), ("148", "iso8859-9"), ("203", "iso8859-15"), ("166", "tis_620")]:
    codes = table(codec, high)
    name = b"".join(codes[5:20]) + b"^" + b"".join(codes[20:35])
    text = said(codec, codes)
    files.append((["ISO_IR " + number], name, lines(codes, 40), text))
    escape = {"100": b"-A", "101": b"-B", "109": b"-C", "110": b"-D", "144": b"-L", "127": b"-G", "126": b"-F", "138": b"-H", "148": b"-M", "203": b"-b", "166": b"-T"}[number]
    files.append((["ISO 2022 IR 6", "ISO 2022 IR " + number], b"Smith^J=" + ESC + escape + name.replace(b"^", b"^" + ESC + escape), lines(codes, 40, ESC + escape), text))
    files.append((["ISO 2022 IR " + number, "ISO 2022 IR 87"], name + b"=" + ESC + b"$B;3ED" + ESC + b"(B^" + ESC + b"$BB@O:" + ESC + b"(B", lines(codes, 40), text))
files.append((["ISO_IR 13"], b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", lines([bytes([c]) for c in range(0xA1, 0xE0)], 40), said("shift_jis", [bytes([c]) for c in range(0xA1, 0xE0)])))
jis = table("euc_jp", pairs)
files.append((["", "ISO 2022 IR 87"], b"Yamada^Tarou=" + ESC + b"$B;3ED" + ESC + b"(B^" + ESC + b"$BB@O:" + ESC + b"(B=" + ESC + b"$B$d$^$@" + ESC + b"(B^" + ESC + b"$B$?$m$&" + ESC + b"(B",
              lines([low(c) for c in jis], 40, ESC + b"$B", ESC + b"(B"), said("euc_jp", jis)))
files.append((["ISO 2022 IR 13", "ISO 2022 IR 87"], b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=" + ESC + b"$B;3ED" + ESC + b"(J^" + ESC + b"$BB@O:" + ESC + b"(J=" + ESC + b"$B$d$^$@" + ESC + b"(J^" + ESC + b"$B$?$m$&" + ESC + b"(J",
              lines([low(c) for c in jis], 40, ESC + b"$B", ESC + b"(J"), said("euc_jp", jis)))
jis2 = [c for c in pairs if table("euc_jp", [b"\x8f" + c])]
files.append((["ISO 2022 IR 6", "ISO 2022 IR 159"], b"Smith=" + ESC + b"$(D" + b"0!0\"" + ESC + b"(B", lines([low(c) for c in jis2], 40, ESC + b"$(D", ESC + b"(B"), said("euc_jp", jis2, prefix=b"\x8f")))
ks = table("euc_kr", pairs)
hong = b"Hong^Gildong=" + ESC + b"$)C\xfb\xf3^" + ESC + b"$)C\xd1\xce\xd4\xd7=" + ESC + b"$)C\xc8\xab^" + ESC + b"$)C\xb1\xe6\xb5\xbf"
files.append((["", "ISO 2022 IR 149"], hong, lines(ks, 40, ESC + b"$)C"), said("euc_kr", ks)))
gb = table("gb2312", pairs)
files.append((["", "ISO 2022 IR 58"], b"Zhang^XiaoDong=" + ESC + b"$)A\xd5\xc5^" + ESC + b"$)A\xd0\xa1\xb6\xab=", lines(gb, 40, ESC + b"$)A"), said("gbk", gb)))
files.append((["ISO 2022 IR 100", "ISO 2022 IR 58", "ISO 2022 IR 149", "ISO 2022 IR 87"],
              b"J\xe9^X=" + ESC + b"$)A\xd5\xc5^" + ESC + b"$)C\xb1\xe6=" + ESC + b"$B;3ED" + ESC + b"(B", b"\xe9\xe8\r\n" + ESC + b"$)A\xd5\xc5 x\r\n\xe9", "éè\r\n张 x\r\né"))
text = "\r\n".join("".join(chr(a + b) for b in range(64)) for a in range(0xC0, 0xD800, 64)) + "😀𠀀"
files.append((["ISO_IR 192"], "Wang^XiaoDong=王^小東=".encode(), text.encode(), text))
every = [bytes([a, b]) for a in range(0x81, 0xFF) for b in range(0x40, 0xFF)]
# U+9FB4 to U+9FBB have had two codes since 2005
four = [chr(c).encode("gb18030") for c in list(range(0x80, 0xD800, 7)) + list(range(0x10000, 0x30000, 997)) if not 0x9FB4 <= c <= 0x9FBB]
files.append((["GB18030"], b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", lines(table("gb18030", every) + four, 40), said("gb18030", table("gb18030", every) + four)))
files.append((["GBK"], b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", lines(table("gbk", every), 40), said("gbk", table("gbk", every))))
for i, (terms, name, text, want) in enumerate(files):
    path = "%s/%02d.dcm" % (sys.argv[1], i)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = "1.2.840.10008.5.1.4.1.1.66", "1.2.3", uid.ExplicitVRLittleEndian
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    if len(name) % 2: name += b" "
    if len(text) % 2: text += b" "
    ds.SpecificCharacterSet = "ISO_IR 6"
    ds.add_new(0x00100010, "SH", "")
    ds.add_new(0x0040A160, "OB", text)
    ds.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    b = open(path, "rb").read()
    # pydicom cannot write bytes as text, so they are put in where it wrote nothing and OB
    value = "\\".join(terms).encode()
    value += b" " * (len(value) % 2)
    b = b.replace(b"\x08\x00\x05\x00CS\x08\x00ISO_IR 6", b"\x08\x00\x05\x00CS" + len(value).to_bytes(2, "little") + value)
    b = b.replace(b"\x10\x00\x10\x00SH\x00\x00", b"\x10\x00\x10\x00PN" + len(name).to_bytes(2, "little") + name)
    b = b.replace(b"\x40\x00\x60\xa1OB", b"\x40\x00\x60\xa1UT")
    open(path, "wb").write(b)
    ds = pydicom.dcmread(path)
    print(path, "\\".join(terms), str(ds.PatientName).rstrip().encode().hex(), ds[0x0040A160].value.rstrip().encode().hex(), want.encode().hex(), sep="\t")
`

// TestCharsetWitness reads every character of every defined term of PS3.3 C.12.1.1.2, in files, and holds it against pydicom
// and, where DCMTK knows the term, against what that makes of it in UTF-8.
func TestCharsetWitness(t *testing.T) {
	peers(t, "dcmconv")
	pydicomHere(t)
	dir := t.TempDir()
	read, converted := 0, 0
	for line := range strings.Lines(string(run(t, python(), "-c", pydicomCharsets, dir))) {
		p := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		path, terms := p[0], p[1]
		t.Run(strings.ReplaceAll(terms, " ", "_"), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := readBytes(b)
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Notes) > 0 {
				t.Errorf("%q", f.Notes)
			}
			name, text := strings.TrimRight(f.DataSet.String(PatientName), "="), f.DataSet.String(TextValue)
			sameLetters(t, "Python's codec", text, unhex(t, p[4]))
			if !strings.Contains(terms, "203") && !strings.Contains(terms, "58") { // pydicom leaves the escape sequence of 58, and does not know 203
				sameLetters(t, "pydicom", name, unhex(t, p[2]))
				sameLetters(t, "pydicom", text, unhex(t, p[3]))
			}

			read++
			utf8 := filepath.Join(dir, "utf8.dcm")
			if out, err := exec.Command("dcmconv", "-q", "+U8", path, utf8).CombinedOutput(); err != nil {
				t.Logf("DCMTK does not convert it: %v %s", err, out)
				return
			}
			if b, err = os.ReadFile(utf8); err != nil {
				t.Fatal(err)
			}
			u, err := readBytes(b)
			if err != nil || u.DataSet.String(SpecificCharacterSet) != "ISO_IR 192" || len(u.Notes) > 0 {
				t.Fatalf("%v %q %q", err, u.DataSet.String(SpecificCharacterSet), u.Notes)
			}
			theirs := u.DataSet.String(TextValue)
			if strings.Contains(terms, "58") { // A1A4 and A1AA of GB 2312 as they were before GBK and GB18030
				theirs = strings.NewReplacer("\u30FB", "\u00B7", "\u2015", "\u2014").Replace(theirs)
			}
			sameLetters(t, "DCMTK", name, strings.TrimRight(u.DataSet.String(PatientName), "="))
			sameLetters(t, "DCMTK", text, theirs)
			converted++
		})
	}
	t.Logf("%d files, %d of them also by DCMTK", read, converted)
	if read < 40 || converted < 20 {
		t.Errorf("only %d files were compared, %d with DCMTK", read, converted)
	}
}

func unhex(t *testing.T, s string) string {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sameLetters compares texts letter by letter, and shows those that differ.
func sameLetters(t *testing.T, who, got, want string) {
	t.Helper()
	a, b := []rune(got), []rune(want)
	if len(a) != len(b) {
		t.Errorf("%d letters, %s has %d: %.80q, %.80q", len(a), who, len(b), got, want)
		return
	}
	var differ []string
	for i := range a {
		if a[i] != b[i] {
			differ = append(differ, fmt.Sprintf("%U %U", a[i], b[i]))
		}
	}
	if len(differ) > 0 {
		t.Errorf("%d of %d letters differ from %s: %.400s", len(differ), len(a), who, strings.Join(differ, ", "))
	}
}
