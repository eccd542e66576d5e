package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
)

// chunkSize: an object is held in as many chunks as it needs until it is durable.
const chunkSize = 256 << 10

var chunkPool = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// An incoming is an object on its way in: in chunks, or in a file of its own once it has proved large.
type incoming struct {
	full     []*[chunkSize]byte
	last     int // bytes in the last chunk
	size     int64
	hash     digest
	file     *ownFile
	identity dicom.Identity
}

// receive reads body to its end. The caller releases what it returns, also after an error.
func (s *Store) receive(ctx context.Context, meta dicom.FileMeta, body io.Reader) (*incoming, error) {
	in := &incoming{hash: digest{h: sha256.New()}}
	for {
		if err := ctx.Err(); err != nil {
			return in, err
		}
		c := chunkPool.Get().(*[chunkSize]byte)
		in.full, in.last = append(in.full, c), 0
		n, err := fill(body, c[:])
		in.last = n
		in.size += int64(n)
		in.hash.add(c[:n], err == nil)
		if err == io.EOF {
			break
		}
		if err != nil {
			return in, fmt.Errorf("store: the object broke off after %d bytes: %w", in.size, err)
		}
		if in.size >= s.large {
			return in, s.receiveLarge(ctx, in, meta, body)
		}
	}
	var err error
	in.identity, err = dicom.ReadIdentity(in.reader(), meta.TransferSyntaxUID)
	if err != nil {
		return in, cannotUnderstand(err)
	}
	return in, matches(meta, in.identity)
}

// receiveLarge moves what was read into a file and lets the rest follow through one chunk.
func (s *Store) receiveLarge(ctx context.Context, in *incoming, meta dicom.FileMeta, body io.Reader) error {
	// The identity stands at the beginning: what cannot be kept is refused before the disk is filled with it.
	id, early := dicom.ReadIdentity(in.reader(), meta.TransferSyntaxUID)
	if early == nil {
		if err := matches(meta, id); err != nil {
			return err
		}
	}
	f, err := s.own.create(meta)
	if err != nil {
		return s.largeError("create a file for a large object", err)
	}
	in.file = f
	for _, b := range in.chunks() {
		if err := f.write(b); err != nil {
			return s.largeError("write a large object", err)
		}
	}
	in.hash.wait()
	for _, c := range in.full[1:] {
		chunkPool.Put(c)
	}
	in.full, in.last = in.full[:1], 0
	c := in.full[0]
	s.gauge.spent.Add(in.size)
	for asked := in.size; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing:
			return ErrClosed
		default:
		}
		if in.size-asked >= askEvery {
			asked = in.size
			if err := s.gauge.admit(); err != nil {
				return err
			}
		}
		n, err := fill(body, c[:])
		in.size += int64(n)
		in.hash.add(c[:n], false)
		s.gauge.spent.Add(int64(n))
		if err := f.write(c[:n]); err != nil {
			return s.largeError("write a large object", err)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("store: the object broke off after %d bytes: %w", in.size, err)
		}
	}
	if early != nil { // the first few MiB were not enough
		if id, err = dicom.ReadIdentity(io.NewSectionReader(f.f, f.start, in.size), meta.TransferSyntaxUID); err != nil {
			return cannotUnderstand(err)
		}
	}
	in.identity = id
	return matches(meta, id)
}

// chunks is the object as it goes into a record: nothing when it is in a file of its own.
func (in *incoming) chunks() [][]byte {
	var list [][]byte
	for i, c := range in.full {
		if i < len(in.full)-1 {
			list = append(list, c[:])
		} else if in.last > 0 {
			list = append(list, c[:in.last])
		}
	}
	return list
}

func (in *incoming) reader() io.Reader {
	var list []io.Reader
	for _, b := range in.chunks() {
		list = append(list, bytes.NewReader(b))
	}
	return io.MultiReader(list...)
}

func (in *incoming) sum() []byte {
	in.hash.wait()
	return in.hash.h.Sum(nil)
}

func (in *incoming) release() {
	in.hash.wait() // it reads the chunks
	for _, c := range in.full {
		chunkPool.Put(c)
	}
	in.full, in.last = nil, 0
	if in.file != nil {
		in.file.close()
	}
}

// A digest is the SHA-256 of an object. It takes a third of the time of receiving one, so it runs beside it, a chunk behind.
type digest struct {
	h     hash.Hash
	parts chan []byte
	done  chan struct{}
}

// add takes the next bytes. Where more will follow, they may be read until wait; otherwise they are taken at once.
func (d *digest) add(b []byte, more bool) {
	if more && d.parts == nil {
		d.parts, d.done = make(chan []byte, 16), make(chan struct{})
		go func() {
			defer close(d.done)
			for b := range d.parts {
				d.h.Write(b)
			}
		}()
	}
	if d.parts != nil {
		d.parts <- b
		return
	}
	d.h.Write(b)
}

// wait returns when all bytes are taken.
func (d *digest) wait() {
	if d.parts != nil {
		close(d.parts)
		<-d.done
		d.parts = nil
	}
}

// fill reads until b is full or r ends. Unlike io.ReadFull it leaves the error of r as it is, so that an object that
// broke off is not taken for one that ended.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// cannotUnderstand answers a data set whose identity cannot be read: PS3.4 B.2.3, Cxxx.
func cannotUnderstand(err error) error {
	comment := "cannot read the data set"
	if de := (*dicom.Error)(nil); errors.As(err, &de) && de.Path != "" {
		comment = "cannot understand " + de.Path
	}
	return fmt.Errorf("store: %w: %w", &dimse.Status{Code: dimse.StatusCannotUnderstand, Comment: comment}, err)
}

// matches compares the identity in the data set with what the message and the meta information say of it, and refuses
// UIDs that are none.
func matches(meta dicom.FileMeta, id dicom.Identity) error {
	for _, u := range []struct {
		tag dicom.Tag
		uid string
	}{
		{dicom.SOPClassUID, id.SOPClassUID}, {dicom.SOPInstanceUID, id.SOPInstanceUID},
		{dicom.StudyInstanceUID, id.StudyInstanceUID}, {dicom.SeriesInstanceUID, id.SeriesInstanceUID},
	} {
		if err := checkUIDs(u.uid); err != nil {
			return cannotUnderstand(&dicom.Error{Path: u.tag.String(), Offset: -1, Err: err})
		}
	}
	// PS3.4 B.2.3, A9xx: the data set does not match the SOP Class, or here the instance that was announced.
	differs := func(what string) error {
		return fmt.Errorf("store: %w", &dimse.Status{Code: dimse.StatusMismatch, Comment: what + " differs from the data set's"})
	}
	if meta.MediaStorageSOPClassUID != id.SOPClassUID {
		return differs("Affected SOP Class UID")
	}
	if meta.MediaStorageSOPInstanceUID != id.SOPInstanceUID {
		return differs("Affected SOP Instance UID")
	}
	if err := dicom.WriteMeta(io.Discard, meta); err != nil {
		return cannotUnderstand(err) // what cannot be given back as a file is not taken
	}
	return nil
}

// ownFiles are the files of large objects: Part 10 files that any DICOM program reads, named by a counter.
type ownFiles struct {
	disk *disk
	dir  string
	last atomic.Uint64

	mu     sync.RWMutex // held for reading while a name is made, changed or removed
	closed bool         // the folder may be another process's by now, which gives out the same numbers
}

func (o *ownFiles) whileOpen(fn func() error) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return ErrClosed
	}
	return fn()
}

// close has whoever is still receiving leave the folder alone; the next start tidies up.
func (o *ownFiles) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

func ownName(n uint64) string { return fmt.Sprintf("%012d.dcm", n) }

// An ownFile is one that is being written; its name ends in .tmp until all of it is durable.
type ownFile struct {
	o      *ownFiles
	f      *os.File
	num    uint64
	start  int64 // of the data set, behind preamble and meta information
	off    int64
	synced int64
	begun  beginner
	kept   bool
}

// syncEvery bounds what the final sync of a large object has to carry, and what it does meanwhile to the syncs of the
// log: they share a journal.
const syncEvery = 32 << 20

// askEvery: a large object is refused midway where its rest would come out of the reserve.
const askEvery = 4 << 20

func (o *ownFiles) create(meta dicom.FileMeta) (*ownFile, error) {
	var head bytes.Buffer
	if err := dicom.WriteMeta(&head, meta); err != nil {
		return nil, err
	}
	n := o.last.Add(1)
	var f *os.File
	err := o.whileOpen(func() (err error) {
		f, err = o.disk.open(filepath.Join(o.dir, ownName(n)+".tmp"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
		return err
	})
	if err != nil {
		return nil, err
	}
	of := &ownFile{o: o, f: f, num: n, start: int64(head.Len())}
	if err := of.write(head.Bytes()); err != nil {
		of.close()
		return nil, err
	}
	return of, nil
}

func (f *ownFile) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := f.o.disk.writeAt(f.f, b, f.off)
	f.off += int64(n)
	f.begun.wrote(f.o.disk, f.f, f.off)
	if err == nil && f.off-f.synced >= syncEvery {
		f.synced, err = f.off, f.o.disk.sync(f.f)
	}
	return err
}

// keep makes the file and its name durable. The log has still to name it.
func (f *ownFile) keep() (num uint64, start int64, err error) {
	if err := f.o.disk.sync(f.f); err != nil {
		return 0, 0, err // never tried again: the next sync could succeed without the bytes
	}
	name := filepath.Join(f.o.dir, ownName(f.num))
	if err := f.f.Close(); err != nil {
		return 0, 0, err
	}
	err = f.o.whileOpen(func() error { return f.o.disk.rename(name+".tmp", name) })
	if err != nil {
		return 0, 0, err
	}
	f.kept = true
	if err := f.o.disk.syncDir(f.o.dir); err != nil {
		f.discard()
		return 0, 0, err
	}
	return f.num, f.start, nil
}

// discard removes a kept file that the log could not name.
func (f *ownFile) discard() {
	_ = f.o.whileOpen(func() error { return f.o.disk.remove(filepath.Join(f.o.dir, ownName(f.num))) })
}

// close leaves nothing of a file that was not kept.
func (f *ownFile) close() {
	_ = f.f.Close()
	if !f.kept {
		_ = f.o.whileOpen(func() error { return f.o.disk.remove(filepath.Join(f.o.dir, ownName(f.num)+".tmp")) })
	}
}

// tidy removes what an interrupted start or a killed process has left. When a part of the log is damaged, a file that
// nothing names may be the only copy of an instance, and stays.
func (o *ownFiles) tidy(named func(uint64) (fileState, error), damaged bool, logger *slog.Logger) error {
	list, err := os.ReadDir(o.dir)
	if err != nil {
		return err
	}
	for _, de := range list {
		name := filepath.Join(o.dir, de.Name())
		if strings.HasSuffix(name, ".dcm.tmp") {
			if err := o.disk.remove(name); err != nil {
				return err
			}
			continue
		}
		base, ok := strings.CutSuffix(de.Name(), ".dcm")
		num, err := strconv.ParseUint(base, 10, 64)
		if !ok || err != nil {
			continue
		}
		o.last.Store(max(o.last.Load(), num))
		known, err := named(num)
		switch {
		case err != nil:
			return err
		case known == fileNamed:
		case damaged && known == fileUnknown:
			logger.Warn("store: a large object that the log does not name is left where it is, because the log is damaged", "file", name)
		default:
			if err := o.disk.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}
