package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData is fdatasync: it leaves out the times of the file and so spares the journal a write.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}

// reserve keeps the size of the file: what is read of a segment ends where its last write ended.
func reserve(f *os.File, size int64) {
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
}

// prepared is how much space behind the end of the log is filled with zeros when the store is idle. Blocks that were
// written before spare the next fdatasync the journal: ext4 and XFS have only to overwrite them.
const prepared = 128 << 20

// forget drops the cached pages of f, so that what is read next comes from the disk: after a failed fsync the cache
// may hold pages that are marked clean and never reached it.
func forget(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
