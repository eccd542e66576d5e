package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const testMarker = 0x1122334455667788

// fastDisk leaves out the syncs, for tests of what is written and not of when it is durable.
func fastDisk() *disk {
	d := realDisk()
	d.sync = func(*os.File) error { return nil }
	d.syncDir = func(string) error { return nil }
	d.looseIndex = true
	return &d
}

// openLog opens a bare log in dir and returns the UIDs of the instances it finds.
func openLog(t testing.TB, dir string, book *logBook) (*segmentLog, []string, []Damage) {
	t.Helper()
	l := &segmentLog{disk: *fastDisk(), dir: dir, marker: testMarker, maxSize: 1 << 20,
		logger: slog.New(slog.DiscardHandler), apply: func([]*write, location) {}}
	if book != nil {
		l.logger = book.logger()
	}
	var found []string
	damage, err := l.recover(location{}, func(r record) error {
		if r.entry != nil {
			found = append(found, r.entry.SOPInstance)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l.cur != nil {
			_ = l.cur.Close()
		}
	})
	return l, found, damage
}

// appendInstances writes one group per UID, as one Put after the other does.
func appendInstances(t testing.TB, l *segmentLog, uids ...string) {
	t.Helper()
	for _, uid := range uids {
		if err := l.write([]*write{instanceWrite(uid)}); err != nil {
			t.Fatal(err)
		}
	}
}

func instanceWrite(uid string) *write {
	data := bytes.Repeat([]byte(uid), 40)
	e := entry{SOPClass: "1.2", SOPInstance: uid, Study: "1.2", Series: "1.2", Size: int64(len(data)), Digest: make([]byte, 32)}
	text, _ := json.Marshal(&e)
	return newWrite(record{kind: kindInstance, entry: &e, text: text}, [][]byte{data})
}

// makeLog returns the bytes of a segment with three instances and where each of its records begins; the last offset is
// the end.
func makeLog(t testing.TB) (segment []byte, starts []int64) {
	t.Helper()
	dir := t.TempDir()
	l, _, _ := openLog(t, dir, nil)
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []string{"1.1", "1.2", "1.3"} {
		starts = append(starts, l.end)
		appendInstances(t, l, uid)
	}
	b, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	return b, append(starts, l.end)
}

func writeSegment(t testing.TB, b []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A power cut may leave any part of the last record; what was before it stays, and the log goes on.
func TestTornTail(t *testing.T) {
	whole, starts := makeLog(t)
	for cut := starts[2]; cut < starts[3]; cut++ {
		for name, b := range map[string][]byte{
			"cut off": whole[:cut],
			"zeros":   append(bytes.Clone(whole[:cut]), make([]byte, len(whole)-int(cut))...),
		} {
			if name == "zeros" && bytes.Equal(b, whole) {
				continue // the record ended in zeros
			}
			dir := writeSegment(t, b)
			l, found, damage := openLog(t, dir, nil)
			if strings.Join(found, " ") != "1.1 1.2" || len(damage) > 0 || l.end != starts[2] {
				t.Fatalf("%s at %d: found %v, end %d, damage %v", name, cut, found, l.end, damage)
			}
			appendInstances(t, l, "1.4")
			if _, found, _ := openLog(t, dir, nil); strings.Join(found, " ") != "1.1 1.2 1.4" {
				t.Fatalf("%s at %d: after one more: %v", name, cut, found)
			}
		}
	}
}

// One flipped bit anywhere loses the record it is in and nothing else, and is reported with file and offset unless it
// cannot be told from a torn tail.
func TestFlippedBit(t *testing.T) {
	whole, starts := makeLog(t)
	for at := int64(segmentHeaderSize); at < int64(len(whole)); at++ {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		hit := 0
		for starts[hit+1] <= at {
			hit++
		}
		var want []string
		for i, uid := range []string{"1.1", "1.2", "1.3"} {
			if i != hit {
				want = append(want, uid)
			}
		}
		var book logBook
		_, found, damage := openLog(t, writeSegment(t, b), &book)
		if strings.Join(found, " ") != strings.Join(want, " ") {
			t.Fatalf("bit at %d: found %v, want %v", at, found, want)
		}
		if hit == 2 {
			if !strings.Contains(book.String(), "torn tail") || len(damage) > 0 {
				t.Fatalf("bit at %d: damage %v, log %s", at, damage, book.String())
			}
			continue
		}
		if len(damage) != 1 || damage[0].Offset != starts[hit] || damage[0].Length != starts[hit+1]-starts[hit] ||
			damage[0].File != filepath.Join(logDir, segmentName(1)) {
			t.Fatalf("bit at %d: damage %v, want %d to %d", at, damage, starts[hit], starts[hit+1])
		}
	}
}

// A hole in a group that was never synced is no damage: nobody was answered.
func TestHoleInUnfinishedGroup(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := openLog(t, dir, nil)
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	appendInstances(t, l, "1.1")
	hole := l.end
	if err := l.write([]*write{instanceWrite("1.2"), instanceWrite("1.3")}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.cur.WriteAt(make([]byte, 100), hole); err != nil {
		t.Fatal(err)
	}
	var book logBook
	_, found, damage := openLog(t, dir, &book)
	if strings.Join(found, " ") != "1.1 1.3" || len(damage) > 0 || !strings.Contains(book.String(), "never answered") {
		t.Errorf("found %v, damage %v, log %s", found, damage, book.String())
	}
}

// Bytes that look like a record do not become one: they lack the random marker of the log.
func TestForgedRecord(t *testing.T) {
	forged := instanceWrite("6.6.6")
	h := forged.header(0)
	payload := h.append(nil, 0xdead)
	payload = append(append(payload, forged.rec.text...), forged.data[0]...)

	whole, starts := makeLog(t)
	carrier := newWrite(record{kind: kindInstance, text: forged.rec.text}, [][]byte{payload})
	b := bytes.Clone(whole[:starts[1]])
	b = carrier.header(starts[1]).append(b, testMarker)
	b[len(b)-1] ^= 1 // its header is damaged, so its payload is searched
	b = append(append(b, carrier.rec.text...), payload...)
	_, found, _ := openLog(t, writeSegment(t, b), nil)
	if strings.Join(found, " ") != "1.1" {
		t.Errorf("found %v", found)
	}
}

func TestNewerRecordIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	mustPut(t, s, newObject(testStudy, "1.2.3", 500, 1))
	if err := s.log.submit(newWrite(record{kind: 99, text: []byte("{}")}, nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, errNewer) || !strings.Contains(err.Error(), "offset") {
		t.Errorf("got %v, want a refusal that names the place", err)
	}
}

func TestMissingSegmentIsReported(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{segmentSize: 3000})
	for i := range 6 {
		mustPut(t, s, newObject(testStudy, fmt.Sprintf("1.2.%d", i), 2000, 1))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, logDir, segmentName(2))), os.Remove(filepath.Join(dir, indexFile))); err != nil {
		t.Fatal(err)
	}
	var book logBook
	s = openStore(t, dir, Options{Logger: book.logger()})
	if d := s.Damage(); len(d) != 1 || !strings.Contains(d[0].File, segmentName(2)) || !strings.Contains(book.String(), segmentName(2)) {
		t.Errorf("damage %v, log %s", d, book.String())
	}
	st, err := s.Study(testStudy)
	if err != nil || len(st.Instances) == 0 || len(st.Instances) == 6 {
		t.Errorf("study %+v, %v", st, err)
	}
}

// A log that was cut short behind the back of the index is damage too, and a log that is gone is refused.
func TestLogIsShorterThanIndex(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	first := newObject(testStudy, "1.2.1", 2000, 1)
	mustPut(t, s, first)
	end := s.log.end
	mustPut(t, s, newObject(testStudy, "1.2.2", 2000, 2))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, logDir, segmentName(1)), end); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{})
	if d := s.Damage(); len(d) != 1 || d[0].Offset != end {
		t.Errorf("damage %v, want one at offset %d", d, end)
	}
	wantObject(t, s, first)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, logDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "restore") {
		t.Errorf("Open without the log: %v", err)
	}
}

// After an orderly Close nothing can be a torn tail: damage to the very last instance is damage.
func TestDamageAfterClose(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	mustPut(t, s, newObject(testStudy, "1.2.1", 2000, 1), newObject(testStudy, "1.2.2", 2000, 2))
	mid := s.log.end - 500
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flipBit(t, filepath.Join(dir, logDir, segmentName(1)), mid)
	s = openStore(t, dir, Options{})
	if err := s.WriteFile(new(bytes.Buffer), "1.2.2"); !errors.Is(err, ErrDamaged) {
		t.Errorf("WriteFile of a damaged instance: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again at the next start
		s = openStore(t, dir, Options{})
		if d := s.Damage(); len(d) != 1 || d[0].Offset > mid || d[0].Offset+d[0].Length <= mid {
			t.Errorf("damage %v, want one around offset %d", d, mid)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func flipBit(t testing.TB, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// spent is deferred around what reads hostile bytes: it may have allocated that many bytes, and taken the time of a machine under load.
func spent(t *testing.T, limit int) func() {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	return func() {
		t.Helper()
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(limit) {
			t.Errorf("%d bytes of memory, want at most %d", got, limit)
		}
	}
}

// A countedReader counts what is read.
type countedReader struct {
	r io.ReaderAt
	n int
}

func (r *countedReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.r.ReadAt(b, off)
	r.n += n
	return n, err
}

// FuzzRecord puts a record between any bytes: it is found as it was written, and nothing else is.
func FuzzRecord(f *testing.F) {
	w := instanceWrite("1.2.3")
	f.Add(uint8(kindInstance), w.rec.text, w.data[0], []byte{}, []byte{})
	f.Add(uint8(kindStep), []byte(`{"jobs":[{"key":"k","queue":"q"}],"done":["x"]}`), []byte{}, []byte("torn"), syncBytes(testMarker))
	f.Add(uint8(kindClose), []byte(`{}`), []byte{}, w.header(0).append(nil, testMarker), make([]byte, 100))
	f.Add(uint8(200), []byte(`[`), []byte{1}, []byte{}, w.header(0).append(nil, testMarker))
	f.Fuzz(func(t *testing.T, k uint8, text, data, before, after []byte) {
		h := recordHeader{Kind: kind(k), Text: uint32(len(text)), Data: uint64(len(data))}
		h.Payload = newWrite(record{text: text}, [][]byte{data}).crc
		b := h.append(bytes.Clone(before), testMarker)
		b = append(append(append(b, text...), data...), after...)
		found := false
		// What looks like a record, which nobody can write who does not know the marker, may be read to its end in vain.
		candidates := 2 + bytes.Count(b, syncBytes(testMarker))
		defer spent(t, candidates*(600<<10+300*len(b)))()
		r := &countedReader{r: bytes.NewReader(b)}
		defer func() {
			if limit := candidates * (1<<10 + 4*len(b)); r.n > limit {
				t.Errorf("%d bytes were read of %d, want at most %d", r.n, len(b), limit)
			}
		}()
		end, gaps, err := scan(r, 0, int64(len(b)), testMarker, func(off int64, g recordHeader, got []byte) error {
			if off == int64(len(before)) {
				found = true
				if g != h || !bytes.Equal(got, text) {
					t.Errorf("read %+v %q, wrote %+v %q", g, got, h, text)
				}
			}
			// The circle: what was decoded encodes to the bytes it came from.
			if again := g.append(nil, testMarker); !bytes.Equal(again, b[off:off+recordHeaderSize]) {
				t.Errorf("header %x encodes to %x", b[off:off+recordHeaderSize], again)
			}
			_, _ = decodeText(g.Kind, got)
			return nil
		})
		if err != nil || end > int64(len(b)) {
			t.Fatalf("end %d of %d, %v", end, len(b), err)
		}
		covered := func() bool {
			for _, g := range gaps {
				if g.from <= int64(len(before)) && g.to > int64(len(before)) {
					return true
				}
			}
			return false
		}
		if !found && covered() {
			t.Errorf("the record at %d lies in a gap: %v", len(before), gaps)
		}
		if !found && len(before) == 0 {
			t.Error("the record is not found")
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Add(segmentHeader{Marker: testMarker, Number: 3, Prev: 2, PrevEnd: 99}.encode())
	f.Add(segmentHeader{Marker: testMarker, Number: 3, Prev: 2, PrevEnd: 99, Generation: 7, Stamp: 5, End: 1 << 20}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		defer spent(t, 8<<10)()
		h, err := decodeSegmentHeader(b)
		if err != nil {
			return
		}
		again, err := decodeSegmentHeader(h.encode())
		if err != nil || again != h {
			t.Errorf("%+v became %+v, %v", h, again, err)
		}
	})
}

// A power cut may lose one record of a group and leave the next. That is no damage at that start, and none later either, when
// groups that were answered lie behind it and the index is gone.
func TestHoleInAGroup(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := openLog(t, dir, nil)
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	appendInstances(t, l, "1.1")
	from := l.end
	if err := l.write([]*write{instanceWrite("1.2"), instanceWrite("1.3"), instanceWrite("1.4")}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, segmentName(1))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[from : from+100])
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{"1.5", "1.6"} {
		l, found, damage := openLog(t, dir, nil)
		if !strings.HasPrefix(strings.Join(found, " "), "1.1 1.3 1.4") || len(damage) > 0 {
			t.Fatalf("before %s: found %v, damage %v", next, found, damage)
		}
		appendInstances(t, l, next)
	}
	if _, found, damage := openLog(t, dir, nil); strings.Join(found, " ") != "1.1 1.3 1.4 1.5 1.6" || len(damage) > 0 {
		t.Errorf("found %v, damage %v", found, damage)
	}
}
