package dicom

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// sharedFiles are the DICOM files of the reference data; the test is skipped where it is absent.
func sharedFiles(t testing.TB) []string {
	t.Helper()
	root := sharedData()
	if _, err := os.Stat(root); err != nil {
		t.Skipf("reference data is not here (%v): set RADNODE_SHARED", err)
	}
	var paths []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		head := make([]byte, 132)
		if n, _ := f.ReadAt(head, 0); n == 132 && string(head[128:]) == "DICM" {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no DICOM file in %s", root)
	}
	return paths
}

func sharedData() string {
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	return filepath.Join(root, "data")
}

func readBytes(b []byte) (*File, error) { return ReadFile(bytes.NewReader(b), int64(len(b))) }

// raw builds bytes that no writer would write.
type raw struct {
	b     []byte
	order binary.AppendByteOrder
}

func le() *raw { return &raw{order: binary.LittleEndian} }
func be() *raw { return &raw{order: binary.BigEndian} }

func (r *raw) tag(t Tag) *raw {
	r.b = r.order.AppendUint16(r.b, uint16(t>>16))
	r.b = r.order.AppendUint16(r.b, uint16(t))
	return r
}

func (r *raw) u32(v uint32) *raw  { r.b = r.order.AppendUint32(r.b, v); return r }
func (r *raw) u16(v uint16) *raw  { r.b = r.order.AppendUint16(r.b, v); return r }
func (r *raw) text(s string) *raw { r.b = append(r.b, s...); return r }

// implicit appends an element as PS3.5 7.1.3 has it.
func (r *raw) implicit(t Tag, value string) *raw { return r.tag(t).u32(uint32(len(value))).text(value) }

// short and long append elements as PS3.5 7.1.2 has them.
func (r *raw) short(t Tag, vr, value string) *raw {
	return r.tag(t).text(vr).u16(uint16(len(value))).text(value)
}
func (r *raw) long(t Tag, vr, value string) *raw {
	return r.tag(t).text(vr).u16(0).u32(uint32(len(value))).text(value)
}

// open appends the header of an element of undefined length.
func (r *raw) open(t Tag, vr string) *raw {
	return r.tag(t).text(vr).u16(0).u32(undefinedLength)
}

func (r *raw) read(ts string) (*File, error) {
	return ReadDataSet(bytes.NewReader(r.b), int64(len(r.b)), ts)
}
