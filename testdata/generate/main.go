// Command generate writes the DICOM files of package phantom into testdata, or into the folder named as its argument:
//
//	go run ./testdata/generate
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/radnode/radnode/testdata/phantom"
)

func main() {
	root := "testdata"
	if _, err := os.Stat("testdata.go"); err == nil {
		root = "." // started by go generate, which runs in testdata itself
	}
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	if err := write(root); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func write(root string) error {
	files, err := phantom.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(root, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
