package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// bbolt trusts its pages: a damaged one can send it round in circles or make it ask for any amount of memory. So the
// file is walked here first, page by page, with every bound checked. The layout is that of bbolt's internal/common
// (page.go, meta.go), format version 2, unchanged since its first release.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16 // id 8, flags 2, count 2, overflow 4
	pageElement = 16

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10
	bucketLeaf   = 0x01

	noFreelist = ^uint64(0)
)

// A boltFile is an index file that is being checked.
type boltFile struct {
	r        io.ReaderAt
	pageSize int64
	pages    uint64 // in use, free or not; the file may be longer
	free     uint64
	seen     []atomic.Bool
	fn       func(bucket string, key, value []byte) error // called by several at once
	walkers  errgroup.Group
}

// An indexFound is what was found in an index whose pages and values are all right.
type indexFound struct {
	counts      map[string]uint64 // pairs by bucket
	meta        []byte
	segments    map[uint64]segmentSum // those of which something is known
	pages, free uint64
}

// checkIndex reads all of an index.
func checkIndex(r io.ReaderAt, size int64) (*indexFound, error) {
	counts := make(map[string]*atomic.Uint64, len(buckets))
	for _, b := range buckets {
		counts[string(b)] = new(atomic.Uint64)
	}
	found := &indexFound{counts: make(map[string]uint64), segments: make(map[uint64]segmentSum)}
	var mu sync.Mutex // guards found
	f, err := checkPages(r, size, func(bucket string, k, v []byte) error {
		if n := counts[bucket]; n != nil {
			n.Add(1)
		}
		v, err := unseal(k, v)
		if err != nil {
			return err
		}
		switch {
		case bucket == string(bucketMeta) && bytes.Equal(k, metaKey):
			mu.Lock()
			defer mu.Unlock()
			found.meta = bytes.Clone(v)
		case bucket == string(bucketSegments):
			n, err := numberOf(k)
			if err != nil {
				return err
			}
			var sum segmentSum
			if err := json.Unmarshal(v, &sum); err != nil {
				return fmt.Errorf("%w: %w", errIndexDamaged, err)
			}
			mu.Lock()
			defer mu.Unlock()
			found.segments[n] = sum
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for b, n := range counts {
		found.counts[b] = n.Load()
	}
	found.pages, found.free = f.pages, f.free
	return found, nil
}

// checkPages walks the whole bbolt file of that size, with all processors, and calls fn for each pair of each bucket.
func checkPages(r io.ReaderAt, size int64, fn func(bucket string, key, value []byte) error) (*boltFile, error) {
	f := &boltFile{r: r, fn: fn}
	root, freelist, err := f.meta(size)
	if err != nil {
		return nil, err
	}
	if freelist != noFreelist {
		if err := f.freelist(freelist); err != nil {
			return nil, err
		}
	}
	f.walkers.SetLimit(max(1, runtime.GOMAXPROCS(0)-1)) // and this one
	err = f.walk(root, nil, nil, "")
	if more := f.walkers.Wait(); err == nil {
		err = more
	}
	return f, err
}

func damagedPage(id uint64, what string) error {
	return fmt.Errorf("%w: page %d %s", errIndexDamaged, id, what)
}

// meta reads the newer of the two meta pages that is whole, as bbolt does.
func (f *boltFile) meta(size int64) (root, freelist uint64, err error) {
	var newest uint64
	found := false
	for _, try := range []int64{4096, 16384, 65536, 8192, 32768} {
		for id := range int64(2) {
			b := make([]byte, pageHeader+64)
			if readFull(f.r, b, id*try) != nil {
				continue
			}
			m := b[pageHeader:]
			sum := fnv.New64a()
			_, _ = sum.Write(m[:56])
			txid := binary.LittleEndian.Uint64(m[48:])
			if binary.LittleEndian.Uint32(m) != boltMagic || binary.LittleEndian.Uint32(m[4:]) != boltVersion ||
				int64(binary.LittleEndian.Uint32(m[8:])) != try || binary.LittleEndian.Uint64(m[56:]) != sum.Sum64() ||
				binary.LittleEndian.Uint16(b[8:])&metaPage == 0 || found && txid < newest {
				continue
			}
			found, newest = true, txid
			f.pageSize, f.pages = try, binary.LittleEndian.Uint64(m[40:])
			root, freelist = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[32:])
		}
		if found {
			break
		}
	}
	if !found {
		return 0, 0, damagedPage(0, "and 1 are no meta pages")
	}
	if f.pages < 2 || f.pages > uint64(size/f.pageSize) {
		return 0, 0, fmt.Errorf("%w: it has %d bytes and should have %d pages", errIndexDamaged, size, f.pages)
	}
	f.seen = make([]atomic.Bool, f.pages)
	f.seen[0].Store(true)
	f.seen[1].Store(true)
	return root, freelist, nil
}

// page reads a page with its overflow and marks it as used; each may be used once.
func (f *boltFile) page(id uint64) (b []byte, flags, count uint16, err error) {
	if id >= f.pages {
		return nil, 0, 0, damagedPage(id, "does not exist")
	}
	var head [pageHeader]byte
	if err := readFull(f.r, head[:], int64(id)*f.pageSize); err != nil {
		return nil, 0, 0, err
	}
	more := uint64(binary.LittleEndian.Uint32(head[12:]))
	if binary.LittleEndian.Uint64(head[:]) != id || more >= f.pages-id {
		return nil, 0, 0, damagedPage(id, "has a wrong header")
	}
	for i := id; i <= id+more; i++ {
		if f.seen[i].Swap(true) {
			return nil, 0, 0, damagedPage(i, "is used twice")
		}
	}
	b = make([]byte, int64(1+more)*f.pageSize)
	if err := readFull(f.r, b, int64(id)*f.pageSize); err != nil {
		return nil, 0, 0, err
	}
	return b, binary.LittleEndian.Uint16(b[8:]), binary.LittleEndian.Uint16(b[10:]), nil
}

func (f *boltFile) freelist(id uint64) error {
	b, flags, small, err := f.page(id)
	if err != nil {
		return err
	}
	ids, count := b[pageHeader:], uint64(small)
	if small == 0xFFFF { // the count did not fit and stands in front of the list
		count = binary.LittleEndian.Uint64(ids)
		ids = ids[8:]
	}
	if flags != freelistPage || count > uint64(len(ids)/8) {
		return damagedPage(id, "is no list of free pages")
	}
	for i := range count {
		free := binary.LittleEndian.Uint64(ids[8*i:])
		if free >= f.pages || f.seen[free].Swap(true) {
			return damagedPage(free, "is free and used at once")
		}
	}
	f.free = count
	return nil
}

// walk follows the tree below a page. Its keys lie in [from, to), where nil is no bound.
func (f *boltFile) walk(id uint64, from, to []byte, bucket string) error {
	b, flags, count, err := f.page(id)
	if err != nil {
		return err
	}
	return f.elements(id, b, flags, int(count), from, to, bucket)
}

func (f *boltFile) elements(id uint64, b []byte, flags uint16, count int, from, to []byte, bucket string) error {
	if flags != branchPage && flags != leafPage || pageHeader+count*pageElement > len(b) {
		return damagedPage(id, "is neither branch nor leaf")
	}
	// part cuts the bytes that an element points to, counted from the element itself.
	part := func(i int, pos, n uint32) ([]byte, error) {
		start := int64(pageHeader+i*pageElement) + int64(pos)
		if start+int64(n) > int64(len(b)) {
			return nil, damagedPage(id, "points out of itself")
		}
		return b[start : start+int64(n)], nil
	}
	var last []byte
	for i := range count {
		e := b[pageHeader+i*pageElement:]
		u := func(at int) uint32 { return binary.LittleEndian.Uint32(e[at:]) }
		pos, keySize := u(0), u(4)
		if flags == leafPage {
			pos, keySize = u(4), u(8)
		}
		key, err := part(i, pos, keySize)
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(key, last) <= 0 || bytes.Compare(key, from) < 0 || to != nil && bytes.Compare(key, to) >= 0 {
			return damagedPage(id, "has keys out of order")
		}
		last = key
		if flags == branchPage {
			next := to
			if i+1 < count {
				n := b[pageHeader+(i+1)*pageElement:]
				if next, err = part(i+1, binary.LittleEndian.Uint32(n), binary.LittleEndian.Uint32(n[4:])); err != nil {
					return err
				}
			}
			child := binary.LittleEndian.Uint64(e[8:])
			if bucket != "" && f.walkers.TryGo(func() (err error) {
				defer catchDamage(&err)
				return f.walk(child, key, next, bucket)
			}) {
				continue
			}
			if err := f.walk(child, key, next, bucket); err != nil {
				return err
			}
			continue
		}
		value, err := part(i, pos+keySize, u(12))
		if err != nil || pos+keySize < pos {
			return damagedPage(id, "points out of itself")
		}
		if u(0)&bucketLeaf == 0 {
			if bucket == "" {
				return damagedPage(id, "has a value where buckets are")
			}
			if err := f.fn(bucket, key, value); err != nil {
				return err
			}
			continue
		}
		if bucket != "" || len(value) < 16 {
			return damagedPage(id, "has a bucket where values are")
		}
		if root := binary.LittleEndian.Uint64(value); root != 0 {
			err = f.walk(root, nil, nil, string(key))
		} else if inline := value[16:]; len(inline) < pageHeader { // a small bucket lies in its value
			err = damagedPage(id, "has a broken small bucket")
		} else {
			err = f.elements(id, inline, binary.LittleEndian.Uint16(inline[8:]), int(binary.LittleEndian.Uint16(inline[10:])), nil, nil, string(key))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
