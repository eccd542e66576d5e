//go:build linux || darwin || freebsd || dragonfly

package store

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskSpace returns the size of the file system that holds dir and how much of it this process may still use.
func diskSpace(dir string) (total, free int64, err error) {
	var st unix.Statfs_t
	for {
		if err = unix.Statfs(dir, &st); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := int64(st.Bsize)
	return int64(st.Blocks) * size, max(0, int64(st.Bavail)) * size, nil
}

// allocated returns how many bytes of the disk f has, written or reserved.
func allocated(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return int64(sys.Blocks) * 512 // POSIX leaves the unit open; it is 512 on all of these
	}
	return 0
}
