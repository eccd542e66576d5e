package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The bill of materials of a binary names every module whose packages are in it, with the checksum of go.sum, and no other. The go
// command says which those are.
func TestSBOM(t *testing.T) {
	need(t, "go") // it tells what the binary is made of
	bin := filepath.Join(t.TempDir(), "radnode")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	list, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}} {{.Sum}}{{end}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	want := strings.Split(strings.TrimSpace(string(list)), "\n")
	slices.Sort(want)
	want = slices.DeleteFunc(slices.Compact(want), func(s string) bool { return s == "" })

	first, err := exec.Command(bin, "version", "--sbom").Output()
	if err != nil {
		t.Fatal(err)
	}
	var doc sbom
	if err := json.Unmarshal(first, &doc); err != nil {
		t.Fatal(err)
	}
	var got, refs []string
	for _, c := range doc.Components {
		refs = append(refs, c.Ref)
		if c.Name == "std" {
			continue
		}
		if c.PURL != "pkg:golang/"+c.Name+"@"+strings.ReplaceAll(c.Version, "+", "%2B") || len(c.Properties) != 1 {
			t.Errorf("component %+v", c)
			continue
		}
		got = append(got, c.Name+"@"+c.Version+" "+c.Properties[0].Value)
	}
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("modules (-go list, +radnode):\n%s", d)
	}
	if len(doc.Dependencies) != 1 || !slices.Equal(doc.Dependencies[0].DependsOn, refs) {
		t.Errorf("dependencies %+v do not name the components", doc.Dependencies)
	}
	again, err := exec.Command(bin, "version", "--sbom").Output()
	if err != nil || string(again) != string(first) {
		t.Errorf("the same binary gave another document: %v", err)
	}
}
