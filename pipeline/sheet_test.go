package pipeline

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/testdata"
)

func TestTryAll(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	o := testOptions()
	m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: o.Select, Looks: true})
	if err != nil {
		t.Fatal(err)
	}
	made, err := o.Make(m, Revision{Input: "input", Number: 1}, Style{Documents: documents}, Style{Documents: documents, Language: "it"})
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("TRY")
	for _, s := range made.Sets {
		for _, it := range s.Items {
			for i, in := range it.Instances {
				t.Log(s.Style.Language, it.Document, i, len(in.Data))
				if dir != "" {
					o := demoLike(in.Data, in.Meta)
					os.WriteFile(filepath.Join(dir, string(s.Style.Language)+"-"+string(it.Document)+string(rune('0'+i))+".dcm"), o, 0o644)
				}
			}
		}
	}
}

func demoLike(data []byte, meta dicom.FileMeta) []byte {
	var b bytes.Buffer
	_ = dicom.WriteMeta(&b, meta)
	b.Write(data)
	return b.Bytes()
}
