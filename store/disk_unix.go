//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// indexMap is the address space set aside for the index: growing it later would wait for all readers.
const indexMap = 256 << 20

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lockFile takes f for this process alone; the kernel lets go of it when the process ends, however it ends.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// diskComment says in words for an operator why a file operation failed, within 64 characters (LO, PS3.5 6.2).
func diskComment(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "disk full: no space left in data folder"
	case errors.Is(err, syscall.EDQUOT):
		return "disk full: quota of the data folder is used up"
	case errors.Is(err, syscall.EROFS):
		return "data folder is mounted read-only"
	case errors.Is(err, syscall.EIO):
		return "disk error in data folder, see the log"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many open files, raise the limit"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "no permission to write in data folder"
	}
	return "cannot write in data folder, see the log"
}
