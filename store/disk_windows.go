package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// indexMap stays 0: Windows would make the file as large as its map.
const indexMap = 0

// syncDir does nothing: NTFS keeps names in its own journal and offers no call for it.
func syncDir(string) error { return nil }

// lockFile takes f for this process alone; Windows lets go of it when the process ends.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
}

// diskComment says in words for an operator why a file operation failed, within 64 characters (LO, PS3.5 6.2).
func diskComment(err error) string {
	switch {
	case errors.Is(err, windows.ERROR_DISK_FULL), errors.Is(err, windows.ERROR_HANDLE_DISK_FULL):
		return "disk full: no space left in data folder"
	case errors.Is(err, windows.ERROR_WRITE_PROTECT):
		return "data folder is read-only"
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return "no permission to write in data folder"
	case errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES):
		return "too many open files"
	}
	return "cannot write in data folder, see the log"
}
