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

// diskSpace returns the size of the volume that holds dir and how much of it this account may still use.
func diskSpace(dir string) (total, free int64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var available, size, left uint64
	if err := windows.GetDiskFreeSpaceEx(name, &available, &size, &left); err != nil {
		return 0, 0, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return int64(size), int64(available), nil
}

// allocated: nothing is reserved ahead.
func allocated(*os.File) int64 { return 0 }

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
