//go:build !linux

package store

import "os"

// syncData is F_FULLFSYNC on macOS and FlushFileBuffers on Windows.
func syncData(f *os.File) error { return f.Sync() }

func reserve(*os.File, int64) {}

func forget(*os.File) {}
