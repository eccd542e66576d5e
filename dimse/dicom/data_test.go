package dicom

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// sharedFiles calls f with every DICOM file of the reference data; the test is skipped where it is absent.
func sharedFiles(t *testing.T, f func(t *testing.T, path string)) {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	root = filepath.Join(root, "data")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("reference data is not here (%v): set RADNODE_SHARED", err)
	}
	count := 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		head := make([]byte, 132)
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		if n, _ := file.ReadAt(head, 0); n < 132 || string(head[128:]) != "DICM" {
			return nil
		}
		count++
		f(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count == 0 {
		t.Fatalf("no DICOM file in %s", root)
	}
	t.Logf("%d files", count)
}

// readPath reads a file of the disk.
func readPath(t *testing.T, path string) *File {
	t.Helper()
	b, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	info, err := b.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := ReadFile(b, info.Size())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

func TestX(t *testing.T) {
	sharedFiles(t, func(t *testing.T, path string) {
		f := readPath(t, path)
		b, _ := os.Open(path)
		defer b.Close()
		_, off, _ := ReadMeta(b, 1<<40)
		b.Seek(off, 0)
		id, err := ReadIdentity(b, f.Meta.TransferSyntaxUID)
		if err != nil || id.SOPInstanceUID != f.DataSet.String(SOPInstanceUID) || len(f.Notes) > 0 {
			t.Log(path, err, id, f.Notes, f.Pixels)
		}
	})
}
