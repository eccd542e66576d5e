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

// beginData waits for nothing. Whether the bytes could be written is told by the next sync: without SYNC_FILE_RANGE_WAIT_BEFORE and
// SYNC_FILE_RANGE_WAIT_AFTER the kernel does not take an error of the file for told.
func beginData(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
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
