package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/radnode/radnode/testdata"
	"github.com/radnode/radnode/testdata/phantom"
)

// The DICOM files that travel in the binary are what the generator makes, no more and no less.
func TestTestdataIsGenerated(t *testing.T) {
	generated, err := phantom.Files()
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string][]byte, len(generated))
	for _, f := range generated {
		want[f.Name] = f.Data
	}
	total := 0
	err = fs.WalkDir(testdata.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		got, err := fs.ReadFile(testdata.FS, name)
		if err != nil {
			return err
		}
		total += len(got)
		if !strings.HasSuffix(name, ".dcm") {
			return nil
		}
		switch data, ok := want[name]; {
		case !ok:
			t.Errorf("testdata/%s: the generator does not make it", name)
		case !bytes.Equal(got, data):
			t.Errorf("testdata/%s differs from what the generator makes: go run ./testdata/generate", name)
		}
		delete(want, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		t.Errorf("testdata/%s is missing: go run ./testdata/generate", name)
	}
	if total > 2<<20 {
		t.Errorf("testdata holds %d bytes, more than 2 MB", total)
	}
}

// dicom3tools finds no error in the bundled files.
func TestTestdataIsValid(t *testing.T) {
	need(t, "dciodvfy") // Debian: dicom3tools
	folder := t.TempDir()
	if err := os.CopyFS(folder, testdata.FS); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, study := range []string{testdata.DigitalPhantom, testdata.SyntheticCT} {
		files, err := filepath.Glob(filepath.Join(folder, study, "*.dcm"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			// The exit code says little: dciodvfy names the IOD it found, then a line a finding.
			out, _ := exec.Command("dciodvfy", "-new", file).CombinedOutput()
			if iod := string(out); !strings.Contains(iod, "CTImage\n") && !strings.Contains(iod, "RTStructureSet\n") {
				t.Errorf("%s/%s: dciodvfy does not know what it is:\n%s", study, filepath.Base(file), out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "Error") {
					t.Errorf("%s/%s: %s", study, filepath.Base(file), line)
				}
			}
			checked++
		}
	}
	if checked != 30 {
		t.Errorf("%d files checked, 30 expected", checked)
	}
}
