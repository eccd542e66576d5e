package dicom

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

// A File is a data set that was read, with what stood before it and where its pixels are.
type File struct {
	Meta    FileMeta
	DataSet *DataSet      // without the elements that hold pixels
	Pixels  *PixelElement // nil when there are none
	Notes   []string      // small faults that were forgiven, each with its place

	// Memory is about how many bytes the data set holds in memory. What is small on the wire may be large here: an empty element
	// of 8 bytes takes 56.
	Memory int64
}

// A PixelElement is Pixel Data (7FE0,0010), Float Pixel Data (7FE0,0008) or Double Float Pixel Data (7FE0,0009) in the stored
// bytes. It is never loaded: read it by [PixelElement.Reader].
type PixelElement struct {
	Tag       Tag
	VR        VR
	Offset    int64 // of the value; in the inflated bytes where the data set is deflated
	Length    int64 // of the value; -1 when it is encapsulated
	BigEndian bool
	r         io.ReaderAt
	extent    int64
}

// Reader reads the value: samples, or for encapsulated pixel data the items from the basic offset table up to the sequence
// delimiter, which is left out.
func (p *PixelElement) Reader() *io.SectionReader {
	return io.NewSectionReader(p.r, p.Offset, p.extent)
}

// ReadFile reads a Part 10 file of size bytes. All of it is checked before anything is returned, but for the pixels
// themselves. r stays in use by File.Pixels.
func ReadFile(r io.ReaderAt, size int64) (*File, error) {
	meta, offset, err := ReadMeta(r, size)
	if err != nil {
		return nil, err
	}
	if meta.TransferSyntaxUID == "" {
		return nil, &Error{Path: metaTransferSyntax.String(), Offset: offset, Err: malformed("is missing, so the data set cannot be read")}
	}
	f, err := readBody(r, offset, size, meta, math.MaxInt64, nil)
	if err != nil {
		return nil, err
	}
	if note := PreambleNote(r); note != "" {
		f.Notes = append(f.Notes, note)
	}
	return f, nil
}

// PreambleNote warns of a Part 10 file that is also a program: its preamble may hold anything, PS3.10 7.5. It is "" otherwise.
func PreambleNote(r io.ReaderAt) string {
	preamble := make([]byte, 4)
	if readAt(r, preamble, 0) != nil {
		return ""
	}
	for _, magic := range []string{"MZ", "\x7FELF", "#!", "\xCF\xFA\xED\xFE", "\xCA\xFE\xBA\xBE"} {
		if bytes.HasPrefix(preamble, []byte(magic)) {
			return "the preamble is that of a program (PS3.10 7.5): do not run the file; radnode writes an empty one"
		}
	}
	return ""
}

// ReadDataSet reads a bare data set of size bytes as C-STORE carries it.
func ReadDataSet(r io.ReaderAt, size int64, transferSyntax string) (*File, error) {
	return readBody(r, 0, size, FileMeta{TransferSyntaxUID: transferSyntax}, math.MaxInt64, nil)
}

// ReadDataSetWithin is [ReadDataSet] for a caller who has room for so many bytes, as [File.Memory] counts them: the error is
// [ErrTooLarge] before more are taken. Elements of the tags that it is to go without are there, and empty.
func ReadDataSetWithin(r io.ReaderAt, size int64, transferSyntax string, room int64, without ...Tag) (*File, error) {
	return readBody(r, 0, size, FileMeta{TransferSyntaxUID: transferSyntax}, room, without)
}

func readBody(r io.ReaderAt, offset, size int64, meta FileMeta, room int64, without []Tag) (*File, error) {
	ts := layout(meta.TransferSyntaxUID)
	if offset >= size {
		return nil, &Error{Offset: offset, Err: malformed("there is no data set; it is truncated, send it again")}
	}
	if err := readAt(r, make([]byte, 1), size-1); err != nil { // so that no length can ask for memory that no byte backs
		return nil, &Error{Offset: size - 1, Err: err}
	}
	g := guard{
		cursor: cursor{r: r, size: size, pos: offset},
		limit:  maxElements,
		gePix:  ts.UID == gePrivateDLX,

		room: room, without: without,
	}
	if ts.Deflated {
		b, note, err := inflate(r, offset, size, room)
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return nil, &Error{Offset: offset, Err: malformed("there is no data set")}
		}
		if note != "" {
			g.note(0, "%s", note)
		}
		g.cursor = inMemory(b)
		g.room -= g.size
		g.limit = int(min(maxElements, freeElements+elementRatio*(size-offset)))
	}
	d, err := g.dataSet(context{coding: coding{explicit: ts.ExplicitVR, bigEndian: ts.BigEndian}}, g.size, false)
	if err != nil {
		return nil, err
	}
	if g.more > 0 {
		g.notes = append(g.notes, fmt.Sprintf("and %d more", g.more))
	}
	if meta.MediaStorageSOPClassUID == "" {
		meta.MediaStorageSOPClassUID = d.String(SOPClassUID)
	}
	if meta.MediaStorageSOPInstanceUID == "" {
		meta.MediaStorageSOPInstanceUID = d.String(SOPInstanceUID)
	}
	memory := g.memory()
	if ts.Deflated {
		memory += g.size
	}
	return &File{Meta: meta, DataSet: d, Pixels: g.pixels, Notes: g.notes, Memory: memory}, nil
}

// maxMetaValue is far more than any attribute of File Meta Information that says something of the data set needs.
const maxMetaValue = 1024

// ReadMeta reads preamble and File Meta Information, PS3.10 7.1, and returns where the data set begins.
func ReadMeta(r io.ReaderAt, size int64) (FileMeta, int64, error) {
	var meta FileMeta
	prefix := make([]byte, 132)
	if size < int64(len(prefix)) || readAt(r, prefix, 0) != nil || !bytes.Equal(prefix[128:], []byte("DICM")) {
		return meta, 0, &Error{Offset: 128, Err: malformed(`no "DICM": this is no DICOM file`)}
	}
	fields := map[Tag]*string{
		metaSOPClass:       &meta.MediaStorageSOPClassUID,
		metaSOPInstance:    &meta.MediaStorageSOPInstanceUID,
		metaTransferSyntax: &meta.TransferSyntaxUID,
		metaImplementation: &meta.ImplementationClassUID,
		metaVersionName:    &meta.ImplementationVersionName,
		metaSourceAE:       &meta.SourceApplicationEntityTitle,
	}
	g := guard{cursor: cursor{r: r, size: size, pos: 132}}
	c := coding{explicit: true} // whatever the data set is in: PS3.10 7.1
	for size-g.pos >= 8 {
		b, err := g.peekSmall(int(min(12, size-g.pos)))
		if err != nil {
			return meta, 0, g.fail(0, err)
		}
		if b[0] != 2 || b[1] != 0 { // group 0002 is over
			break
		}
		h, short, err := parseHeader(b, c)
		if short {
			err = malformed("ends in the middle of File Meta Information; it is truncated, send it again")
		}
		if err != nil {
			return meta, 0, g.fail(h.tag, err)
		}
		g.pos += h.size
		if int64(h.length) > size-g.pos {
			return meta, 0, g.beyond(h.tag, int64(h.length), size)
		}
		field := fields[h.tag]
		if field == nil {
			g.pos += int64(h.length)
			continue
		}
		if h.length > maxMetaValue {
			return meta, 0, g.fail(h.tag, malformed("has %d bytes", h.length))
		}
		value, err := g.take(int64(h.length))
		if err != nil {
			return meta, 0, g.fail(h.tag, err)
		}
		value, _ = (*charset)(nil).decode(h.vr, value)
		*field = (&Element{VR: LO, value: value}).first()
	}
	if g.pos == 132 {
		return meta, 0, g.fail(metaGroupLength, malformed("File Meta Information is missing"))
	}
	return meta, g.pos, nil
}
