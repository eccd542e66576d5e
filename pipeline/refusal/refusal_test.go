package refusal

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The list is complete and readable: each code once, an area and a word, a sentence, and a remedy that continues one.
func TestReasons(t *testing.T) {
	seen := make(map[Code]bool)
	for _, r := range Reasons {
		if seen[r.Code] {
			t.Errorf("%s is there twice", r.Code)
		}
		seen[r.Code] = true
		if !regexp.MustCompile(`^[a-z]+\.[a-z][a-z-]*$`).MatchString(string(r.Code)) {
			t.Errorf("%s is no area and word", r.Code)
		}
		if !regexp.MustCompile(`^[A-Z].*\.$`).MatchString(r.Sentence) {
			t.Errorf("%s: %q is no sentence", r.Code, r.Sentence)
		}
		if !regexp.MustCompile(`^[a-z].*[^.]$`).MatchString(r.Remedy) {
			t.Errorf("%s: %q does not continue a sentence", r.Code, r.Remedy)
		}
	}
	for _, name := range constants(t) {
		if !seen[name.code] {
			t.Errorf("%s (%s) is not in the list", name.name, name.code)
		}
		delete(seen, name.code)
	}
	for code := range seen {
		t.Errorf("%s has no constant", code)
	}
}

type constant struct {
	name string
	code Code
}

// constants reads the codes of reasons.go.
func constants(t *testing.T) (all []constant) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				all = append(all, constant{v.Names[0].Name, Code(strings.Trim(lit.Value, `"`))})
			}
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("only %d codes found", len(all))
	}
	return all
}

// Every reason is given somewhere, and a test somewhere makes an input for which it is.
func TestEveryReasonIsTested(t *testing.T) {
	var code, tests strings.Builder
	for _, root := range []string{"..", filepath.Join("..", "..", "cmd")} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || filepath.Base(filepath.Dir(path)) == "refusal" {
				return err
			}
			b, err := os.ReadFile(path)
			if strings.HasSuffix(path, "_test.go") {
				tests.Write(b)
			} else {
				code.Write(b)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range constants(t) {
		used := regexp.MustCompile(`refusal\.` + c.name + `\b`)
		if !used.MatchString(code.String()) {
			t.Errorf("%s is never given", c.name)
		}
		if !used.MatchString(tests.String()) {
			t.Errorf("%s: no test makes an input that is refused so", c.name)
		}
	}
}

func TestRefusal(t *testing.T) {
	err := fmt.Errorf("series 1.2: %w", New(GeometryGap, "1.2.3", "%d slices are missing", 2))
	if want := "series 1.2: image 1.2.3: 2 slices are missing; send the missing images [geometry.gap]"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	var r *Refusal
	if !errors.As(err, &r) || r.Code != GeometryGap {
		t.Errorf("%v is not found by its type", err)
	}
	r.Remedy = "do that"
	if got := r.Error(); !strings.HasSuffix(got, "; do that [geometry.gap]") {
		t.Errorf("%q has not the remedy of the case", got)
	}
	if _, ok := Lookup("geometry.nothing"); ok {
		t.Error("a code that is not in the list is found")
	}
}
