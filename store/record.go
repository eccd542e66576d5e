package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// Sizes of the two fixed headers; README.md has the layout, byte by byte.
const (
	segmentHeaderSize = 64
	recordHeaderSize  = 48
)

const (
	formatVersion    = 1
	compactedVersion = 2       // of a segment that was rewritten: a program that does not know of that must not open the folder
	maxRecordText    = 1 << 30 // a longer text section is a misread length
)

var (
	segmentMagic = [7]byte{'R', 'A', 'D', 'N', 'O', 'D', 'E'}
	recordMagic  = [4]byte{'R', 'e', 'c', '\n'}
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
)

// A kind is the type of a record.
type kind uint8

const (
	kindInstance kind = 1 // one received instance: text is an entry, data its data set
	kindConflict kind = 2 // the same for other bytes under a UID that was taken already
	kindStep     kind = 3 // text is a step, data the data sets of its instances one after the other
	kindClose    kind = 4 // text is a tally, empty when the store was closed in order
	kindLeave    kind = 5 // text is a leave
)

// errNewer refuses to read on: a record that is not understood could be a job or an instance that would be lost.
var errNewer = errors.New("written by a newer radnode: start that version")

// A segmentHeader opens each segment file.
type segmentHeader struct {
	Marker  uint64 // random, the same in all segments of a store
	Number  uint64
	Prev    uint64 // number of the segment before, 0 for the first
	PrevEnd uint64 // where the valid records of that segment end, whatever its file holds after it

	// Of a segment that was rewritten; both are 0 otherwise.
	Generation uint16
	Stamp      uint64 // random, so that the index knows this file from another that was once the same generation
	End        uint64 // where its own records end, whatever the next header says of the segment as it was before
}

func (h segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic[:])
	if b[7] = formatVersion; h.Generation > 0 {
		b[7] = compactedVersion
		binary.LittleEndian.PutUint64(b[40:], h.End)
		binary.LittleEndian.PutUint16(b[48:], h.Generation)
		binary.LittleEndian.PutUint64(b[50:], h.Stamp)
	}
	binary.LittleEndian.PutUint64(b[8:], h.Marker)
	binary.LittleEndian.PutUint64(b[16:], h.Number)
	binary.LittleEndian.PutUint64(b[24:], h.Prev)
	binary.LittleEndian.PutUint64(b[32:], h.PrevEnd)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

var errHeader = errors.New("damaged header")

func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	if len(b) < segmentHeaderSize || !bytes.Equal(b[:7], segmentMagic[:]) ||
		crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return segmentHeader{}, errHeader
	}
	h := segmentHeader{
		Marker:  binary.LittleEndian.Uint64(b[8:]),
		Number:  binary.LittleEndian.Uint64(b[16:]),
		Prev:    binary.LittleEndian.Uint64(b[24:]),
		PrevEnd: binary.LittleEndian.Uint64(b[32:]),
	}
	switch b[7] {
	case formatVersion:
	case compactedVersion:
		h.End, h.Generation = binary.LittleEndian.Uint64(b[40:]), binary.LittleEndian.Uint16(b[48:])
		h.Stamp = binary.LittleEndian.Uint64(b[50:])
		if h.Generation == 0 || h.End < segmentHeaderSize || h.End > 1<<62 {
			return segmentHeader{}, errHeader
		}
	default:
		return segmentHeader{}, fmt.Errorf("log format %d was %w", b[7], errNewer)
	}
	return h, nil
}

// A recordHeader precedes the text and the data of a record.
type recordHeader struct {
	Kind    kind
	Text    uint32 // length of the JSON text
	Data    uint64 // length of the data after it
	Synced  uint64 // the segment was durable up to here when this record was written
	Payload uint32 // CRC-32C of text and data
}

func (h recordHeader) size() int64 { return recordHeaderSize + int64(h.Text) + int64(h.Data) }

// syncBytes is what every record of a store begins with. It holds the random marker, so that a search for the next record
// behind a damaged one cannot be led astray by bytes that a peer has sent.
func syncBytes(marker uint64) []byte {
	return binary.LittleEndian.AppendUint64(recordMagic[:len(recordMagic):len(recordMagic)], marker)
}

func (h recordHeader) append(b []byte, marker uint64) []byte {
	start := len(b)
	b = append(b, syncBytes(marker)...)
	b = append(b, byte(h.Kind), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, h.Text)
	b = binary.LittleEndian.AppendUint64(b, h.Data)
	b = binary.LittleEndian.AppendUint64(b, h.Synced)
	b = binary.LittleEndian.AppendUint32(b, h.Payload)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func decodeRecordHeader(b []byte, marker uint64) (recordHeader, error) {
	if len(b) < recordHeaderSize || !bytes.Equal(b[:12], syncBytes(marker)) ||
		crc32.Checksum(b[:44], castagnoli) != binary.LittleEndian.Uint32(b[44:]) {
		return recordHeader{}, errHeader
	}
	h := recordHeader{
		Kind:    kind(b[12]),
		Text:    binary.LittleEndian.Uint32(b[16:]),
		Data:    binary.LittleEndian.Uint64(b[20:]),
		Synced:  binary.LittleEndian.Uint64(b[28:]),
		Payload: binary.LittleEndian.Uint32(b[36:]),
	}
	if h.Text > maxRecordText || h.Data > 1<<62 {
		return recordHeader{}, errHeader
	}
	return h, nil
}

// An entry is what the log says of one instance beside its bytes.
type entry struct {
	SOPClass    string    `json:"class"`
	SOPInstance string    `json:"uid"`
	Study       string    `json:"study"`
	Series      string    `json:"series"`
	Patient     string    `json:"patient,omitempty"`
	Modality    string    `json:"modality,omitempty"`
	Syntax      string    `json:"syntax"`
	ImplClass   string    `json:"implClass,omitempty"`
	ImplVersion string    `json:"implVersion,omitempty"`
	Source      string    `json:"source,omitempty"`
	Size        int64     `json:"size"`
	Digest      []byte    `json:"sha256"`
	Received    time.Time `json:"at"`
	Computed    bool      `json:"computed,omitempty"`
	File        uint64    `json:"file,omitempty"`     // number of the file of its own, 0 when the data are in the record
	Start       int64     `json:"start,omitempty"`    // where the data set begins: in that file, or in the data of a step
	Conflict    bool      `json:"conflict,omitempty"` // other bytes under a UID that was taken when they came
	Replaces    bool      `json:"replaces,omitempty"` // and yet the instance from then on, see KeepLast
	Quarantine  string    `json:"quarantine,omitempty"`
}

func newEntry(m dicom.FileMeta, id dicom.Identity) entry {
	return entry{
		SOPClass: id.SOPClassUID, SOPInstance: id.SOPInstanceUID, Study: id.StudyInstanceUID, Series: id.SeriesInstanceUID,
		Patient: id.PatientID, Modality: id.Modality,
		Syntax: m.TransferSyntaxUID, ImplClass: m.ImplementationClassUID, ImplVersion: m.ImplementationVersionName,
		Source: m.SourceApplicationEntityTitle,
	}
}

func (e *entry) meta() dicom.FileMeta {
	return dicom.FileMeta{
		MediaStorageSOPClassUID: e.SOPClass, MediaStorageSOPInstanceUID: e.SOPInstance, TransferSyntaxUID: e.Syntax,
		ImplementationClassUID: e.ImplClass, ImplementationVersionName: e.ImplVersion, SourceApplicationEntityTitle: e.Source,
	}
}

func (e *entry) instance() Instance {
	in := Instance{
		SOPInstanceUID: e.SOPInstance, SOPClassUID: e.SOPClass, StudyInstanceUID: e.Study, SeriesInstanceUID: e.Series,
		TransferSyntaxUID: e.Syntax, PatientID: e.Patient, Modality: e.Modality, SourceAET: e.Source,
		Size: e.Size, Received: e.Received, Quarantine: e.Quarantine,
	}
	copy(in.Digest[:], e.Digest)
	if e.Computed {
		in.Origin = Computed
	}
	return in
}

// A step is the text of a kindStep record: everything in it happens, or nothing.
type step struct {
	Instances []entry  `json:"instances,omitempty"`
	Jobs      []Job    `json:"jobs,omitempty"`
	States    []State  `json:"states,omitempty"`
	Done      []string `json:"done,omitempty"`
	Retry     *retry   `json:"retry,omitempty"`
	Park      *park    `json:"park,omitempty"`
	Begin     string   `json:"begin,omitempty"`    // key of a job of which a try begins
	GiveBack  string   `json:"giveBack,omitempty"` // key of a job whose last try does not count
	Release   []string `json:"release,omitempty"`  // SOP Instance UIDs that are in quarantine no more

	// Decided: it was known to be allowed, and its jobs to be new, before it was written. Older steps were judged afterwards.
	Decided bool `json:"decided,omitempty"`
}

// A leave is the text of a kindLeave record. What it names is removed, and nothing of it when that is not there.
type leave struct {
	Study     string     `json:"study,omitempty"`     // all of it
	Instances []string   `json:"instances,omitempty"` // with the evidence beside them
	Evidence  []evidence `json:"evidence,omitempty"`
	Reason    string     `json:"reason"`
	At        time.Time  `json:"at"`

	force bool   // also while a job of the study is not done
	as    *Study // only while nothing more was received of it
}

// An evidence is other bytes under the UID of an instance.
type evidence struct {
	SOPInstance string `json:"uid"`
	Digest      []byte `json:"sha256"`
}

// A tally is the text of a kindClose record: numbers that no other record of the log holds, or holds any more.
type tally struct {
	Days []Day `json:"days,omitempty"`
}

type retry struct {
	Key    string    `json:"key"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
	Afresh bool      `json:"afresh,omitempty"` // the tries before do not count any more
}

type park struct {
	Key    string `json:"key"`
	Reason string `json:"reason,omitempty"`
}

// A record is one that was read back or is about to be applied.
type record struct {
	kind  kind
	entry *entry // kindInstance, kindConflict
	step  *step  // kindStep
	leave *leave // kindLeave
	tally *tally // kindClose
	text  []byte
	at    location // where its data begin
	end   location // where the next record begins; only of one that was read back
}

// decodeText reads the text of a record whose checksums were right.
func decodeText(k kind, text []byte) (record, error) {
	r := record{kind: k, text: text}
	switch k {
	case kindInstance, kindConflict:
		r.entry = new(entry)
		if err := json.Unmarshal(text, r.entry); err != nil {
			return r, err
		}
		r.entry.Conflict = k == kindConflict
		return r, r.entry.check()
	case kindStep:
		r.step = new(step)
		if err := json.Unmarshal(text, r.step); err != nil {
			return r, err
		}
		for i := range r.step.Instances {
			if err := r.step.Instances[i].check(); err != nil {
				return r, err
			}
		}
		return r, nil
	case kindClose:
		r.tally = new(tally)
		if len(text) == 0 { // of a record that only covers bytes which are none
			return r, nil
		}
		if err := json.Unmarshal(text, r.tally); err != nil {
			return r, err
		}
		return r, r.tally.check()
	case kindLeave:
		r.leave = new(leave)
		if err := json.Unmarshal(text, r.leave); err != nil {
			return r, err
		}
		return r, r.leave.check()
	}
	return r, fmt.Errorf("record of type %d was %w", k, errNewer)
}

func (e *entry) check() error {
	if err := checkUIDs(e.SOPInstance, e.SOPClass, e.Study, e.Series); err != nil {
		return err
	}
	if len(e.Digest) != 32 || e.Size < 0 || e.Start < 0 {
		return errors.New("instance without digest or size")
	}
	return nil
}

func (lv *leave) check() error {
	for _, ev := range lv.Evidence {
		if len(ev.Digest) != 32 {
			return errors.New("evidence without digest")
		}
	}
	if lv.Study == "" {
		return nil
	}
	return checkUIDs(lv.Study)
}

func (t *tally) check() error {
	for _, d := range t.Days {
		if _, err := time.Parse(dateLayout, d.Date); err != nil {
			return err
		}
	}
	return nil
}

// A gap is a range of a segment that holds no valid record though a valid one follows.
type gap struct {
	from, to int64
	lost     bool // it had been durable once; otherwise it is the rest of a group that was never answered
}

// scan reads the records of a segment from offset from up to limit and calls fn for each that is whole. It returns
// where the last whole record ends, and the gaps between them; behind end there is none.
func scan(f io.ReaderAt, from, limit int64, marker uint64, fn func(off int64, h recordHeader, text []byte) error) (end int64, gaps []gap, err error) {
	var (
		buf    = make([]byte, 256<<10)
		synced int64
		off    = from
	)
	end = from
	for off < limit {
		h, text, err := readRecord(f, off, limit, marker, buf)
		if err != nil {
			if !errors.Is(err, errHeader) && !errors.Is(err, errPayload) {
				return end, gaps, err
			}
			next, err := findRecord(f, off, limit, marker, buf)
			if err != nil {
				return end, gaps, err
			}
			if next < 0 {
				break
			}
			gaps = append(gaps, gap{from: off, to: next})
			off = next
			continue
		}
		if err := fn(off, h, text); err != nil {
			return end, gaps, err
		}
		synced = max(synced, int64(h.Synced))
		off += h.size()
		end = off
	}
	for i := range gaps {
		gaps[i].lost = gaps[i].from < synced
	}
	return end, gaps, nil
}

// skim reads the headers of the records and lets fn read the texts that it wants; the data are passed over, and so the
// checksums of text and data are not verified. A gap is an error where strict is set.
func skim(f io.ReaderAt, from, limit int64, marker uint64, strict bool, fn func(off int64, h recordHeader, text func() ([]byte, error)) error) error {
	head := make([]byte, recordHeaderSize)
	for off := from; limit-off >= recordHeaderSize; {
		if err := readFull(f, head, off); err != nil {
			return err
		}
		h, err := decodeRecordHeader(head, marker)
		if err != nil || int64(h.Data) > limit || h.size() > limit-off {
			if strict {
				return fmt.Errorf("offset %d: %w", off, errHeader)
			}
			next, err := findRecord(f, off, limit, marker, make([]byte, 256<<10))
			if next < 0 || err != nil {
				return err
			}
			off = next
			continue
		}
		text := func() ([]byte, error) {
			b := make([]byte, h.Text)
			return b, readFull(f, b, off+recordHeaderSize)
		}
		if err := fn(off, h, text); err != nil {
			return err
		}
		off += h.size()
	}
	return nil
}

var errPayload = errors.New("checksum of the record is wrong")

// readRecord reads the record at off and verifies all of it. buf is scratch space.
func readRecord(f io.ReaderAt, off, limit int64, marker uint64, buf []byte) (recordHeader, []byte, error) {
	if limit-off < recordHeaderSize {
		return recordHeader{}, nil, errHeader
	}
	if err := readFull(f, buf[:recordHeaderSize], off); err != nil {
		return recordHeader{}, nil, err
	}
	h, err := decodeRecordHeader(buf[:recordHeaderSize], marker)
	if err != nil {
		return h, nil, err
	}
	if int64(h.Data) > limit || h.size() > limit-off {
		return h, nil, errPayload
	}
	text := make([]byte, h.Text)
	if err := readFull(f, text, off+recordHeaderSize); err != nil {
		return h, nil, err
	}
	crc := crc32.Update(0, castagnoli, text)
	for at, left := off+recordHeaderSize+int64(h.Text), int64(h.Data); left > 0; {
		n := min(left, int64(len(buf)))
		if err := readFull(f, buf[:n], at); err != nil {
			return h, nil, err
		}
		crc = crc32.Update(crc, castagnoli, buf[:n])
		at, left = at+n, left-n
	}
	if crc != h.Payload {
		return h, nil, errPayload
	}
	return h, text, nil
}

// findRecord returns the offset of the first whole record behind off, or -1.
func findRecord(f io.ReaderAt, off, limit int64, marker uint64, buf []byte) (int64, error) {
	want := syncBytes(marker)
	window := make([]byte, 256<<10)
	for at := off + 1; limit-at >= recordHeaderSize; {
		n := min(limit-at, int64(len(window)))
		if err := readFull(f, window[:n], at); err != nil {
			return -1, err
		}
		i := bytes.Index(window[:n], want)
		if i < 0 {
			at += n - int64(len(want)) + 1
			if n < int64(len(window)) {
				break
			}
			continue
		}
		at += int64(i)
		_, _, err := readRecord(f, at, limit, marker, buf)
		if err == nil {
			return at, nil
		}
		if !errors.Is(err, errHeader) && !errors.Is(err, errPayload) {
			return -1, err
		}
		at++
	}
	return -1, nil
}

// lastByte returns where the last byte between from and to that is not 0 ends; from when there is none.
func lastByte(f io.ReaderAt, from, to int64) (int64, error) {
	window := make([]byte, len(blank))
	used := from
	for at := from; at < to; {
		b := window[:min(to-at, int64(len(window)))]
		if err := readFull(f, b, at); err != nil {
			return used, err
		}
		if !bytes.Equal(b, blank[:len(b)]) {
			used = at + int64(len(bytes.TrimRight(b, "\x00")))
		}
		at += int64(len(b))
	}
	return used, nil
}

func readFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
