package main

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

// explicit is an element in Explicit VR Little Endian, PS3.5 7.1.2; length < 0 announces what value has.
func explicit(tag dicom.Tag, vr string, value []byte, length int64) []byte {
	if length < 0 {
		length = int64(len(value))
	}
	b := []byte{byte(tag >> 16), byte(tag >> 24), byte(tag), byte(tag >> 8), vr[0], vr[1]}
	if slices.Contains([]string{"OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UC", "UN", "UR", "UT"}, vr) {
		b = binary.LittleEndian.AppendUint32(append(b, 0, 0), uint32(length))
	} else {
		b = binary.LittleEndian.AppendUint16(b, uint16(length))
	}
	return append(b, value...)
}

// place finds an element of the top level of a data set in explicit VR whose sequences have defined lengths: where it begins, and
// where the next one does; the same where it is not there.
func place(t testing.TB, data []byte, tag dicom.Tag) (from, to int) {
	t.Helper()
	for from < len(data) {
		b := data[from:]
		at := dicom.Tag(binary.LittleEndian.Uint16(b))<<16 | dicom.Tag(binary.LittleEndian.Uint16(b[2:]))
		n := 8 + int(binary.LittleEndian.Uint16(b[6:]))
		if slices.Contains([]string{"OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UC", "UN", "UR", "UT"}, string(b[4:6])) {
			n = 12 + int(binary.LittleEndian.Uint32(b[8:]))
		}
		switch {
		case at == tag:
			return from, from + n
		case at > tag:
			return from, from
		}
		from += n
	}
	return from, from
}

// spliced is a data set with one element replaced by a value of any bytes.
func spliced(t testing.TB, data []byte, tag dicom.Tag, vr dicom.VR, value []byte) []byte {
	t.Helper()
	from, to := place(t, data, tag)
	return slices.Concat(data[:from], explicit(tag, vr.String(), value, -1), data[to:])
}

// cut is a data set without the elements from tag on.
func cut(t testing.TB, data []byte, tag dicom.Tag) []byte {
	t.Helper()
	from, _ := place(t, data, tag)
	return bytes.Clone(data[:from])
}

// A study of objects: the structure set comes first, then the images.
type hostileStudy struct {
	uid     string
	objects []demoObject
}

// hostileStudyOf is the bundled study under UIDs of its own. k must differ from test to test on one node.
func hostileStudyOf(t *testing.T, k int) hostileStudy {
	t.Helper()
	objects := variant(t, demoObjects(t), k)
	return hostileStudy{objects[0].dataSet(t).String(dicom.StudyInstanceUID), objects}
}

// outcome pushes a study, whose objects may be refused, and waits for what becomes of it. It returns the statuses of the objects
// that were not taken.
func (x *target) outcome(s hostileStudy, limit time.Duration) (states []store.State, refused []*dimse.Status) {
	x.t.Helper()
	refused = x.push(s.objects)
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		study, err := x.node.store.Study(s.uid)
		if err == nil {
			settled := len(study.States) > 0
			for _, state := range study.States {
				settled = settled && (state.Name == pipeline.StateRefused || state.Name == pipeline.StateComputed || state.Name == pipeline.StateFailed)
			}
			if settled {
				return study.States, refused
			}
		}
		if time.Now().After(deadline) {
			x.t.Errorf("no outcome after %v: %+v, %v", limit, study.States, err)
			return study.States, refused
		}
	}
}

// push sends objects over one association and returns the failures.
func (x *target) push(objects []demoObject) (refused []*dimse.Status) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var proposals []dimse.Proposal
	for _, o := range objects {
		p := dimse.Proposal{SOPClass: o.meta.MediaStorageSOPClassUID, TransferSyntaxes: []string{o.meta.TransferSyntaxUID}}
		if !slices.ContainsFunc(proposals, func(q dimse.Proposal) bool {
			return q.SOPClass == p.SOPClass && q.TransferSyntaxes[0] == p.TransferSyntaxes[0]
		}) {
			proposals = append(proposals, p)
		}
	}
	client, err := dimse.Dial(ctx, x.peer(), dimse.DialOptions{CallingAET: "SCANNER", Proposals: proposals})
	if err != nil {
		x.t.Fatal(err)
	}
	defer client.Abort()
	for _, o := range objects {
		status, err := client.Store(ctx, o.meta, bytes.NewReader(o.data))
		switch {
		case err != nil:
			x.t.Fatal(err)
		case status.Success():
			x.good++
		default:
			refused = append(refused, &status)
		}
	}
	if err := client.Release(ctx); err != nil {
		x.t.Error(err)
	}
	return refused
}

// A hostileObject changes one image of a study, or its structure set.
type hostileObject struct {
	name     string
	contours bool
	change   func(t testing.TB, data []byte) []byte
	syntax   string // of the changed object; "" = Explicit VR Little Endian
	want     string // state of the study
	says     string // part of its reason
	refused  bool   // by C-STORE already
}

// survive pushes one study for each object, and holds memory and time of what becomes of it.
func survive(t *testing.T, memory uint64, limit time.Duration, cases []hostileObject) {
	cfg := testConfig(t)
	cfg.Quiet, cfg.Memory = 300*time.Millisecond, 256<<20
	x := startTarget(t, cfg, nil)
	for k, c := range cases {
		study := hostileStudyOf(t, k)
		i := 5
		if c.contours {
			i = 0
		}
		o := &study.objects[i]
		o.data = c.change(t, o.data)
		if c.syntax != "" {
			o.meta.TransferSyntaxUID = c.syntax
		}
		var states []store.State
		var refused []*dimse.Status
		t.Log(c.name)
		x.attack(memory, func() { states, refused = x.outcome(study, limit) })
		if c.refused != (len(refused) > 0) {
			t.Errorf("%s: statuses %v, refused by C-STORE should be %v", c.name, refused, c.refused)
		}
		if c.refused && c.contours {
			continue // then the study has no contours
		}
		for _, state := range states {
			t.Logf("    %s: %s", state.Name, state.Reason)
			if state.Name != c.want || !strings.Contains(state.Reason, c.says) {
				t.Errorf("%s: %s: %s, want %s: %s", c.name, state.Name, state.Reason, c.want, c.says)
			}
		}
	}
	if strings.Contains(x.log.String(), "panic") {
		t.Error("a panic is in the log")
	}
}

const hostileTag dicom.Tag = 0x7FDF1010

// before places bytes in front of Pixel Data (7FE0,0010), or at the end.
func before(more ...[]byte) func(testing.TB, []byte) []byte {
	return func(t testing.TB, data []byte) []byte {
		from, _ := place(t, data, dicom.PixelData)
		return slices.Concat(data[:from], bytes.Join(more, nil), data[from:])
	}
}

// (21) What is stored byte for byte is refused where it is to be computed on, in time and memory that its size allows.
func hostileElements(t *testing.T) {
	open := func(tag dicom.Tag) []byte { return explicit(tag, "SQ", nil, 0xFFFFFFFF) }
	item := []byte{0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF}
	endItem, endSequence := []byte{0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0}, []byte{0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0}
	deep := func(n int) []byte {
		return slices.Concat(bytes.Repeat(slices.Concat(open(hostileTag), item), n), bytes.Repeat(slices.Concat(endItem, endSequence), n))
	}
	items := func(n int, content []byte) []byte {
		one := binary.LittleEndian.AppendUint32([]byte{0xFE, 0xFF, 0x00, 0xE0}, uint32(len(content)))
		return slices.Concat(open(hostileTag), bytes.Repeat(append(one, content...), n), endSequence)
	}
	million := 1_000_000
	if testing.Short() {
		million = 100_000
	}
	malformed, unsupported := string("[object.malformed]"), "[object.malformed]"
	survive(t, 512<<20, 20*time.Second, []hostileObject{
		{"VL FFFFFFFE", false, before(explicit(hostileTag, "OB", []byte("xx"), 0xFFFFFFFE)), "", pipeline.StateRefused, malformed, false},
		{"VL beyond the end", false, before(explicit(hostileTag, "UT", nil, 1<<20)), "", pipeline.StateRefused, malformed, false},
		{"VL FFFF of a short VR", false, before(explicit(hostileTag, "LO", nil, 0xFFFF)), "", pipeline.StateRefused, malformed, false},
		{"odd VL", false, before(explicit(hostileTag, "LO", []byte("odd"), 3)), "", pipeline.StateComputed, "", false},
		{"undefined length of UT", false, before(explicit(hostileTag, "UT", nil, 0xFFFFFFFF), item, endItem, endSequence), "", pipeline.StateRefused, malformed, false},
		{"sequence without an end", false, before(open(hostileTag), item), "", pipeline.StateRefused, malformed, false},
		{"sequences 10,000 deep", false, before(deep(10_000)), "", pipeline.StateRefused, unsupported, false},
		{"the same in the contours", true, before(deep(10_000)), "", pipeline.StateRefused, unsupported, false},
		{"10⁶ items", false, before(items(million, nil)), "", pipeline.StateComputed, "", false},
		{"10⁶ items of an element in the contours", true, before(items(million, explicit(dicom.ReferencedROINumber, "IS", []byte("1 "), -1))), "", pipeline.StateComputed, "", false},
		{"a VR that there is not", false, before(explicit(hostileTag, "ZZ", []byte("xx"), 2)), "", pipeline.StateRefused, malformed, false},
		{"cut in the middle of an element", true, func(t testing.TB, b []byte) []byte { return b[:len(b)-3] }, "", pipeline.StateRefused, malformed, false},
		{"nothing behind the identity", false, func(t testing.TB, b []byte) []byte { return cut(t, b, dicom.Rows) }, "", pipeline.StateRefused, "", false},
	})
	hostileTogether(t, items(150_000, nil))
}

// Every image for itself is small enough, all together are not: a computation has all headers in memory.
func hostileTogether(t *testing.T, items []byte) {
	cfg := testConfig(t)
	cfg.Memory = 128 << 20
	x := startTarget(t, cfg, nil)
	study := hostileStudyOf(t, 1)
	for i := range study.objects[1:] {
		study.objects[i+1].data = before(items)(t, study.objects[i+1].data)
	}
	x.attack(512<<20, func() {
		states, _ := x.outcome(study, 40*time.Second)
		for _, state := range states {
			t.Logf("    %s: %s", state.Name, state.Reason)
			if state.Name != pipeline.StateRefused || !strings.Contains(state.Reason, "[memory.limit]") {
				t.Errorf("24 images of many items: %s: %s", state.Name, state.Reason)
			}
		}
	})
}

func us(n int) []byte { return binary.LittleEndian.AppendUint16(nil, uint16(n)) }

func set(pairs ...any) func(testing.TB, []byte) []byte {
	return func(t testing.TB, data []byte) []byte {
		for i := 0; i < len(pairs); i += 2 {
			tag := pairs[i].(dicom.Tag)
			switch v := pairs[i+1].(type) {
			case int:
				data = spliced(t, data, tag, dicom.US, us(v))
			case string:
				data = spliced(t, data, tag, dicom.IS, []byte(v))
			}
		}
		return data
	}
}

// (22) Numbers that promise more pixels than there are bytes, or none.
func hostileGeometry(t *testing.T) {
	refused := func(name string, pairs ...any) hostileObject {
		return hostileObject{name, false, set(pairs...), "", pipeline.StateRefused, "", false}
	}
	survive(t, 128<<20, 20*time.Second, []hostileObject{
		refused("65535 × 65535", dicom.Rows, 65535, dicom.Columns, 65535),
		refused("65535 × 65535 × 2³¹-1 frames of 64 bits", dicom.Rows, 65535, dicom.Columns, 65535, dicom.NumberOfFrames, "2147483647", dicom.BitsAllocated, 64),
		refused("rows 0", dicom.Rows, 0),
		refused("columns 0", dicom.Columns, 0),
		refused("10⁹ frames", dicom.NumberOfFrames, "1000000000"),
		refused("-1 frames", dicom.NumberOfFrames, "-1"),
		refused("99999999999999999999 frames", dicom.NumberOfFrames, "99999999999999999999"),
		refused("bits allocated 0", dicom.BitsAllocated, 0),
		refused("bits allocated 1", dicom.BitsAllocated, 1, dicom.BitsStored, 1, dicom.HighBit, 0),
		refused("bits allocated 64", dicom.BitsAllocated, 64, dicom.BitsStored, 64, dicom.HighBit, 63),
		refused("bits stored 17 of 16", dicom.BitsStored, 17, dicom.HighBit, 16),
		refused("samples per pixel 65535", dicom.SamplesPerPixel, 65535),
	})
}

// fragments is encapsulated Pixel Data, PS3.5 A.4: an empty offset table, then the fragments.
func fragments(parts ...[]byte) []byte {
	b := explicit(dicom.PixelData, "OB", nil, 0xFFFFFFFF)
	for _, p := range append([][]byte{nil}, parts...) {
		if len(p)%2 != 0 {
			p = append(bytes.Clone(p), 0)
		}
		b = append(binary.LittleEndian.AppendUint32(append(b, 0xFE, 0xFF, 0x00, 0xE0), uint32(len(p))), p...)
	}
	return append(b, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0)
}

// (23) Streams that unpack to more than they may, point outside of themselves, or end too early.
func hostilePixels(t *testing.T) {
	with := func(stream ...[]byte) func(testing.TB, []byte) []byte {
		return func(t testing.TB, data []byte) []byte {
			return append(cut(t, data, dicom.PixelData), fragments(stream...)...)
		}
	}
	large := func(change func(testing.TB, []byte) []byte) func(testing.TB, []byte) []byte {
		return func(t testing.TB, data []byte) []byte {
			return change(t, set(dicom.Rows, 65535, dicom.Columns, 65535)(t, data))
		}
	}
	packed := func(change func(testing.TB, []byte) []byte) func(testing.TB, []byte) []byte {
		return func(t testing.TB, data []byte) []byte {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, flate.BestCompression)
			if _, err := w.Write(change(t, data)); err != nil {
				t.Fatal(err)
			}
			w.Close()
			return b.Bytes()
		}
	}
	rle := func(offsets ...uint32) []byte {
		h := make([]byte, 64)
		binary.LittleEndian.PutUint32(h, uint32(len(offsets)))
		for i, o := range offsets {
			binary.LittleEndian.PutUint32(h[4+4*i:], o)
		}
		return append(h, bytes.Repeat([]byte{0x81, 7}, 64)...)
	}
	const rleLossless, jpeg, jpegLossless, jpegLS, jpeg2000, ht, jpip = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70",
		"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.94"
	// Heads of 65,535 × 65,535 samples of 16 bits, with nothing behind them.
	sof := func(marker byte) []byte {
		return []byte{0xFF, 0xD8, 0xFF, marker, 0, 11, 16, 0xff, 0xff, 0xff, 0xff, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, 0}
	}
	siz := []byte{0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 15, 1, 1}
	all := []hostileObject{
		{"deflate bomb of pixels", false, func(t testing.TB, b []byte) []byte {
			return packed(before(explicit(hostileTag, "OB", make([]byte, 80<<20), -1)))(t, b)
		}, dicom.DeflatedExplicitVRLittleEndian, pipeline.StateRefused, "", false},
		{"deflate bomb of elements", false, packed(before(bytes.Repeat(explicit(hostileTag, "LO", nil, 0), 1<<20))), dicom.DeflatedExplicitVRLittleEndian, pipeline.StateRefused, "", false},
		{"deflate cut", false, func(t testing.TB, b []byte) []byte { b = packed(before())(t, b); return b[:len(b)/2] }, dicom.DeflatedExplicitVRLittleEndian, pipeline.StateRefused, "", false},
		{"RLE offsets outside", false, with(rle(64, 0xFFFFFFF0)), rleLossless, pipeline.StateRefused, "", false},
		{"RLE of 15 segments in one place", false, with(rle(slices.Repeat([]uint32{64}, 15)...)), rleLossless, pipeline.StateRefused, "", false},
		{"RLE backwards", false, with(rle(100, 64)), rleLossless, pipeline.StateRefused, "", false},
		{"RLE of 65,535 × 65,535", false, large(with(rle(64, 100))), rleLossless, pipeline.StateRefused, "", false},
		{"no fragments", false, with(), jpegLossless, pipeline.StateRefused, "", false},
		{"10⁶ empty fragments", false, with(make([][]byte, 1_000_000)...), jpegLossless, pipeline.StateRefused, "", false},
		{"not decoded at all", false, with([]byte("jpip")), jpip, pipeline.StateRefused, "", false},
	}
	for syntax, head := range map[string][]byte{jpeg: sof(0xC1), jpegLossless: sof(0xC3), jpegLS: sof(0xF7), jpeg2000: siz, ht: siz} {
		for _, n := range []int{0, 1, 3, len(head) / 2, len(head)} {
			all = append(all, hostileObject{fmt.Sprintf("%s: %d bytes", syntax, n), false, with(head[:n]), syntax, pipeline.StateRefused, "", false})
		}
		all = append(all, hostileObject{syntax + ": 65,535 × 65,535 in few bytes", false, large(with(head)), syntax, pipeline.StateRefused, "", false})
	}
	survive(t, 192<<20, 20*time.Second, all)
}

// (24) C-STORE carries no preamble. What radnode reads and sends from a file leaves it behind, and says so; what it writes has an
// empty one.
func hostilePreamble(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	dir := t.TempDir()
	for i, magic := range []string{"MZ\x90\x00", "\x7fELF\x02\x01", "#!/bin/sh\n"} {
		o := goodObject(t, 600+i)
		var b bytes.Buffer
		if err := dicom.WriteMeta(&b, o.meta); err != nil {
			t.Fatal(err)
		}
		b.Write(o.data)
		copy(b.Bytes(), magic)
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)+".dcm"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	x.attack(16<<20, func() {
		var out bytes.Buffer
		if code := execute(t.Context(), []string{"send", x.peer().String(), dir}, &out, &said); code != 0 {
			t.Errorf("send: %s%s", &out, &said)
		}
		x.good += 3
	})
	if n := strings.Count(said.String(), "the preamble is that of a program"); n != 3 {
		t.Errorf("send warns of %d preambles, want 3:\n%s", n, &said)
	}
	for i := range 3 {
		o := goodObject(t, 600+i)
		var b bytes.Buffer
		if err := x.node.store.WriteFile(&b, o.meta.MediaStorageSOPInstanceUID); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes()[:128], make([]byte, 128)) || !bytes.HasSuffix(b.Bytes(), o.data) {
			t.Errorf("object %d is written with the preamble %q", i, b.Bytes()[:16])
		}
	}
}

// texts gives every object of a study these values, byte for byte.
func texts(t testing.TB, s hostileStudy, charset, name []byte) {
	t.Helper()
	for i, o := range s.objects {
		from, to := place(t, o.data, dicom.SpecificCharacterSet)
		data := slices.Concat(o.data[:from], o.data[to:])
		if charset != nil {
			data = spliced(t, data, dicom.SpecificCharacterSet, dicom.CS, charset)
		}
		s.objects[i].data = spliced(t, data, dicom.PatientName, dicom.PN, name)
	}
}

// (25) Stored as received, whatever the characters; the report is UTF-8.
func hostileCharsets(t *testing.T) {
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	x := startTarget(t, cfg, nil)
	x.more = 1
	for k, c := range []struct {
		name             string
		charset, patient []byte
		want             string // Patient's Name of the report; "" = any
	}{
		{"misspelt", []byte("ISO-IR_100"), []byte("J\xe9r\xf4me^X"), ""},
		{"absent, GBK", nil, []byte("\xcd\xf5^\xd0\xa1\xb6\xab "), ""},
		{"ISO 2022 cut in two", []byte(`\ISO 2022 IR 87 `), []byte("Yamada^Tarou=\x1b$B;3"), ""},
		{"not UTF-8 in UTF-8", []byte("ISO_IR 192"), []byte("a\xff\xfe^b\xc3\xa9"), ""},
		{"unknown", []byte("KLINGON "), []byte("\x80\x81\x82^ "), ""},
		{"Latin 1", []byte("ISO_IR 100"), []byte("J\xe9r\xf4me^X"), "Jérôme^X"},
		{"GB18030", []byte("GB18030 "), []byte("\xcd\xf5^\xd0\xa1\xb6\xab "), "王^小东"},
	} {
		study := hostileStudyOf(t, k)
		texts(t, study, c.charset, c.patient)
		x.attack(64<<20, func() {
			if refused := x.push(study.objects); refused != nil {
				t.Errorf("%s: %v", c.name, refused)
			}
			pacs.waitReports(t, k+1)
			waitIdle(t, x.node)
		})
		for i, o := range study.objects {
			sameBytes(t, x.node.store, o, fmt.Sprint(c.name, ", object ", i))
		}
		report := pacs.received(reportClasses...)[k].dataSet(t)
		got := report.String(dicom.PatientName)
		if !utf8.ValidString(got) || report.String(dicom.SpecificCharacterSet) != "ISO_IR 192" && strings.ContainsFunc(got, func(r rune) bool { return r > 126 }) {
			t.Errorf("%s: Patient's Name %q in %q", c.name, got, report.String(dicom.SpecificCharacterSet))
		}
		if c.want != "" && got != c.want {
			t.Errorf("%s: Patient's Name %q, want %q", c.name, got, c.want)
		}
		if !utf8.Valid(pacs.received(reportClasses...)[k].data[:200]) {
			t.Errorf("%s: the report is no UTF-8", c.name)
		}
	}
}

// (26) Text of the objects is text everywhere: in the log not at all, in CSV no formula, in reports, PDF and on terminals no markup
// and no control sequence.
func hostileTexts(t *testing.T) {
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	cfg.Report.Documents = []pipeline.Document{pipeline.Full, pipeline.PDF}
	x := startTarget(t, cfg, nil)
	x.more = 1
	dir := t.TempDir()
	hostile := []string{`=HYPERLINK("http://x","y")`, "+1+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "<script>alert(1)</script>", "$(reboot) `id`", "%s%n", "\t=1+1"}
	x.attack(256<<20, func() {
		for k, text := range hostile {
			study := hostileStudyOf(t, k)
			even := []byte(text + strings.Repeat(" ", len(text)%2))
			texts(t, study, nil, even)
			for i := range study.objects {
				study.objects[i].data = spliced(t, study.objects[i].data, dicom.PatientID, dicom.LO, even)
			}
			contours := study.objects[0].dataSet(t)
			for _, roi := range contours.Seq(dicom.StructureSetROISequence) {
				roi.SetString(dicom.ROIName, strings.TrimSpace(text))
			}
			study.objects[0] = object(t, contours, dicom.ExplicitVRLittleEndian)
			if refused := x.push(study.objects); refused != nil {
				t.Errorf("%q: %v", text, refused)
			}
			if k == 0 {
				for i, o := range study.objects {
					var b bytes.Buffer
					if err := dicom.WriteMeta(&b, o.meta); err != nil {
						t.Fatal(err)
					}
					b.Write(o.data)
					if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), b.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		pacs.waitReports(t, len(hostile))
		waitIdle(t, x.node)
	})
	for _, text := range hostile {
		if strings.Contains(x.log.String(), text) {
			t.Errorf("%q is in the log", text)
		}
	}
	for line := range strings.Lines(x.log.String()) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a text broke the log: %q", line)
		}
	}
	for _, o := range pacs.received(dicom.EncapsulatedPDFStorage) {
		for _, active := range []string{"/JavaScript", "/JS", "/Launch", "/URI", "<script>"} {
			if bytes.Contains(o.data[bytes.Index(o.data, []byte("%PDF")):], []byte(active)) {
				t.Errorf("a PDF has %s", active)
			}
		}
	}
	var out, said bytes.Buffer
	if code := execute(t.Context(), []string{"extract", dir}, &out, &said); code != 0 {
		t.Fatalf("extract: %s", &said)
	}
	records, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(records) < 100 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for _, r := range records[1:] {
		for i, field := range r {
			if _, err := strconv.ParseFloat(field, 64); err != nil && field != "" && strings.ContainsAny(field[:1], "=+-@\t\r\n") {
				t.Fatalf("%s is a formula: %q", records[0][i], field)
			}
		}
		if r[0] != "'"+hostile[0] || r[6] != "'"+hostile[0] {
			t.Fatalf("Patient ID %q, name of the region %q", r[0], r[6])
		}
	}
}

// (27) Contours of ten million points, that touch themselves, or have no numbers; segments of images that are not there.
func hostileContours(t *testing.T) {
	points := 10_000_000
	if testing.Short() {
		points = 500_000
	}
	// contour replaces the points of the first contour by n copies of what is given, or what make says.
	contour := func(points func(first []float64) []byte) func(testing.TB, []byte) []byte {
		return func(t testing.TB, data []byte) []byte {
			f, err := dicom.ReadDataSet(bytes.NewReader(data), int64(len(data)), dicom.ExplicitVRLittleEndian)
			if err != nil {
				t.Fatal(err)
			}
			c := f.DataSet.Seq(dicom.ROIContourSequence)[0].Seq(dicom.ContourSequence)[0]
			xyz, err := c.Floats(dicom.ContourData)
			if err != nil {
				t.Fatal(err)
			}
			c.Remove(dicom.ContourData, dicom.NumberOfContourPoints)
			c.SetBytes(dicom.ContourData, dicom.DS, points(xyz))
			return object(t, f.DataSet, dicom.ImplicitVRLittleEndian).data
		}
	}
	text := func(v ...float64) []byte {
		var b []byte
		for i, f := range v {
			if i > 0 {
				b = append(b, '\\')
			}
			b = strconv.AppendFloat(b, f, 'f', 2, 64)
		}
		return b
	}
	many := func(points int) func(testing.TB, []byte) []byte {
		return contour(func(v []float64) []byte {
			round := append(text(v...), '\\')
			b := bytes.Repeat(round, points*3/len(v))
			return append(b[:len(b)-1], bytes.Repeat([]byte{' '}, (len(b)-1)%2)...)
		})
	}
	eight := contour(func(v []float64) []byte { // a figure of eight, there and back, with points twice
		x, y, z := v[0], v[1], v[2]
		return append(text(x, y, z, x+9, y+9, z, x+9, y, z, x, y+9, z, x, y, z, x, y, z, x+9, y+9, z, x, y, z), ' ')
	})
	numbers := func(s string) func(testing.TB, []byte) []byte {
		return contour(func([]float64) []byte { return []byte(s + strings.Repeat(" ", len(s)%2)) })
	}
	im := dicom.ImplicitVRLittleEndian
	// What takes more than memory allows is refused before a point is read.
	outcome, says := pipeline.StateRefused, "[memory.limit]"
	if testing.Short() {
		outcome, says = pipeline.StateComputed, ""
	}
	survive(t, 320<<20, 40*time.Second, []hostileObject{
		{"10⁷ points", true, many(points), im, outcome, says, false},
		{"a quarter of them", true, many(points / 4), im, pipeline.StateComputed, "", false},
		{"touches itself", true, eight, im, pipeline.StateComputed, "", false},
		{"NaN", true, numbers(`NaN\1\2\3\4\5\6\7\8`), im, pipeline.StateComputed, "[contours.data]", false},
		{"infinite", true, numbers(`1e999\1\2\-1e999\4\5\Inf\7\8`), im, pipeline.StateComputed, "[contours.data]", false},
		{"far away", true, numbers(`1e30\1\2\3\4\5\6\7\8`), im, pipeline.StateComputed, "[contours.", false},
		{"no numbers", true, numbers(`a\b\c`), im, pipeline.StateComputed, "[contours.data]", false},
		{"two numbers", true, numbers(`1\2`), im, pipeline.StateComputed, "[contours.data]", false},
	})

	// Segments that name nothing are refused, those that name images which are not there wait for them.
	x := startTarget(t, testConfig(t), nil)
	for i, want := range []string{pipeline.StateRefused, pipeline.StateWaiting} {
		d := dicom.New()
		study := fmt.Sprintf("1.2.3.27.%d", i)
		d.SetString(dicom.SOPClassUID, dicom.SegmentationStorage)
		d.SetString(dicom.SOPInstanceUID, study+".1")
		d.SetString(dicom.StudyInstanceUID, study)
		d.SetString(dicom.SeriesInstanceUID, study+".2")
		d.SetString(dicom.Modality, "SEG")
		d.SetInt(dicom.Rows, 4)
		d.SetInt(dicom.Columns, 4)
		d.SetBytes(dicom.PixelData, dicom.OB, make([]byte, 2))
		if want == pipeline.StateWaiting {
			image, series := dicom.New(), dicom.New()
			image.SetString(dicom.ReferencedSOPClassUID, dicom.CTImageStorage)
			image.SetString(dicom.ReferencedSOPInstanceUID, study+".9")
			series.SetString(dicom.SeriesInstanceUID, study+".8")
			series.SetSeq(dicom.ReferencedInstanceSequence, image)
			d.SetSeq(dicom.ReferencedSeriesSequence, series)
		}
		x.attack(16<<20, func() {
			x.push([]demoObject{object(t, d, dicom.ExplicitVRLittleEndian)})
			state := waitState(t, x.node.store, study, want, func(store.State) bool { return true })
			t.Logf("    %s: %s", state.Name, state.Reason)
		})
	}
}

// (28) An object of a known study with another Patient ID is kept, and takes no part in its study.
func hostilePatient(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	study := hostileStudyOf(t, 1)
	foreign := study.objects[3]
	foreign.data = spliced(t, foreign.data, dicom.PatientID, dicom.LO, []byte("SOMEBODYELSE"))
	foreign.data = spliced(t, foreign.data, dicom.SOPInstanceUID, dicom.UI, []byte("1.2.3.28"))
	foreign.meta.MediaStorageSOPInstanceUID = "1.2.3.28"
	x.attack(128<<20, func() {
		x.push(study.objects[:10])
		if refused := x.push([]demoObject{foreign}); refused != nil {
			t.Errorf("the foreign object is answered with %v", refused)
		}
		in, err := x.node.store.Instance("1.2.3.28")
		if err != nil || in.Quarantine == "" {
			t.Errorf("%+v, %v, want it in quarantine", in, err)
		}
		if strings.Contains(in.Quarantine, "SOMEBODYELSE") {
			t.Errorf("the reason names the patient: %s", in.Quarantine)
		}
		states, _ := x.outcome(hostileStudy{study.uid, study.objects[10:]}, 20*time.Second)
		for _, s := range states {
			if s.Name != pipeline.StateComputed {
				t.Errorf("the study is %s: %s", s.Name, s.Reason)
			}
		}
	})
	sameBytes(t, x.node.store, foreign, "in quarantine")
	if strings.Contains(x.log.String(), "SOMEBODYELSE") {
		t.Error("a Patient ID is in the log")
	}
}
