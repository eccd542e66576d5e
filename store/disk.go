package store

import (
	"os"
	"path/filepath"
)

// A disk is every operation of the log on the file system. Tests replace single functions to make them fail
// the way a real disk does.
type disk struct {
	open     func(name string, flag int, perm os.FileMode) (*os.File, error)
	writeAt  func(f *os.File, b []byte, off int64) (int, error)
	readAt   func(f *os.File, b []byte, off int64) (int, error) // of the log at start
	sync     func(f *os.File) error                             // the data and the size of f survive a power cut
	begin    func(f *os.File, off, n int64)                     // the disk may begin with these bytes, so that the sync finds little left; only a hint
	truncate func(f *os.File, size int64) error
	forget   func(f *os.File)             // what is read of f next comes from the disk, unless it is still to be written
	reserve  func(f *os.File, size int64) // asks for the blocks of f up to size; only a hint
	rename   func(from, to string) error
	remove   func(name string) error
	syncDir  func(dir string) error // the names in dir survive a power cut

	space     func(dir string) (total, free int64, err error) // of the file system
	allocated func(f *os.File) int64                          // bytes that f has of it, written or reserved

	looseIndex bool // the index may be lost in a power cut; for tests that have none
}

// realDisk is the operating system's.
func realDisk() disk {
	return disk{
		open:     os.OpenFile,
		writeAt:  func(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) },
		readAt:   func(f *os.File, b []byte, off int64) (int, error) { return f.ReadAt(b, off) },
		sync:     syncData,
		begin:    beginData,
		truncate: func(f *os.File, size int64) error { return f.Truncate(size) },
		forget:   forget,
		reserve:  reserve,
		rename:   os.Rename,
		remove:   os.Remove,
		syncDir:  syncDir,

		space:     diskSpace,
		allocated: allocated,
	}
}

// beginEvery: a disk that is handed much at once by a sync can be several times slower than one that has begun with it meanwhile.
const beginEvery = 512 << 10

// A beginner tells the disk to begin with what is appended to a file, a piece at a time.
type beginner struct{ off int64 }

func (b *beginner) wrote(d *disk, f *os.File, end int64) {
	if end-b.off >= beginEvery {
		d.begin(f, b.off, end-b.off)
		b.off = end
	}
}

// makeDir creates dir and makes its name durable in the folder above.
func (d *disk) makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(dir))
}

// A diskReader reads a file through the disk.
type diskReader struct {
	disk *disk
	f    *os.File
}

func (r diskReader) ReadAt(b []byte, off int64) (int, error) { return r.disk.readAt(r.f, b, off) }
