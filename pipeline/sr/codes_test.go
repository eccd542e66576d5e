package sr

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// shared finds data and notes that are not part of the project, or skips the test.
func shared(t testing.TB, path ...string) string {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared") // beside the module
	}
	name := filepath.Join(append([]string{root}, path...)...)
	if _, err := os.Stat(name); err != nil {
		t.Skipf("no shared data: set RADNODE_SHARED (%v)", err)
	}
	return name
}

// The table against an independent transcription of CID 218 and the IBSI manual.
func TestConceptsAgreeWithTheTranscription(t *testing.T) {
	notes, err := os.ReadFile(shared(t, "design", "sr.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([^|]+) \| ([0-9A-Z]{4}) \| ([^|]+) \| ([^|]+) \| [^|]* \|[^|]*\| ([^|]+) \|`)
	rows := row.FindAllStringSubmatch(string(notes), -1)
	if len(rows) != 172 || len(concepts) != 172 {
		t.Fatalf("%d rows in the transcription, %d in the table, want 172", len(rows), len(concepts))
	}
	for _, r := range rows {
		meaning, standard := strings.CutPrefix(r[4], "IBSI / ")
		if !standard {
			meaning = r[3]
		}
		if got := concepts[r[2]]; got.meaning != meaning || got.unit != r[5] {
			t.Errorf("%s is %q in %q, want %q in %q", r[2], got.meaning, got.unit, meaning, r[5])
		}
	}
}

func TestConceptsFitTheirElements(t *testing.T) {
	seen := map[string]string{}
	for ibsi := range concepts {
		c, ok := Concept(ibsi)
		if err := c.check(); !ok || err != nil || c.Value != ibsi || c.Scheme != "IBSI" {
			t.Errorf("%s: %s %v", ibsi, c, err)
		}
		if other, twice := seen[c.Meaning]; twice {
			t.Errorf("%s and %s both mean %q", ibsi, other, c.Meaning)
		}
		seen[c.Meaning] = ibsi
	}
	for c := range maps.Keys(processing) {
		p := Processing(c)
		if err := p.check(); err != nil || seen[p.Meaning] != "" {
			t.Errorf("%s: %v %q", p, err, seen[p.Meaning])
		}
		if seen[p.Meaning] = c; concepts[c].meaning != "" {
			t.Errorf("%s is a feature too", c)
		}
	}
	if c, ok := Concept("XXXX"); ok {
		t.Errorf("XXXX is %s", c)
	}
	if u, ok := UnitFor("XXXX", "HU"); ok {
		t.Errorf("the unit of XXXX is %s", u)
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct{ ibsi, intensity, code, meaning string }{
		{"RNU0", "HU", "mm3", "cubic millimeter"},
		{"C0JK", "HU", "mm2", "square millimeter"},
		{"L0JK", "HU", "mm", "mm"},
		{"2PR5", "HU", "/mm", "per millimeter"},
		{"QCFX", "HU", "1", "no units"},
		{"Q4LE", "HU", "[hnsf'U]", "Hounsfield unit"},
		{"Q4LE", "[hnsf'U]", "[hnsf'U]", "Hounsfield unit"},
		{"ECT3", "HU", "[hnsf'U]2", "square Hounsfield unit"},
		{"99N0", "HU", "[hnsf'U].mm3", "Hounsfield unit times cubic millimeter"},
		{"99N0", "", "mm3", "cubic millimeter"},
		{"ECT3", "1", "1", "no units"},
		{"Q4LE", "{SUVbw}g/ml", "g/ml{SUVbw}", "Standardized Uptake Value body weight"}, // PS3.16 before 2016
		{"ECT3", "g/ml{SUVbw}", "g2/ml2{SUVbw}", "square SUV body weight"},
		{"99N0", "g/ml{SUVbw}", "g/ml{SUVbw}.mm3", "SUV body weight times cubic millimeter"},
		{"ECT3", "{counts}", "{counts}.{counts}", "square Counts"},
		{"ECT3", "ms", "ms.ms", "square ms"},
		{"ECT3", "/s", "/s/s", "square /s"},
		{"99N0", "/s", "/s.mm3", "/s times cubic millimeter"},
		{"99N0", "10*-6.mm2/s", "10*-6.mm2/s.mm3", "10*-6.mm2/s times cubic millimeter"},
	} {
		if got, ok := UnitFor(c.ibsi, c.intensity); !ok || got != (Code{c.code, "UCUM", c.meaning}) {
			t.Errorf("unit of %s for %q is %s, want (%s,UCUM,%q)", c.ibsi, c.intensity, got, c.code, c.meaning)
		}
	}
	if got := Unit("furlong"); got != (Code{"furlong", "UCUM", "furlong"}) {
		t.Errorf("unknown unit: %s", got)
	}
}

// imageUnits are the units that pipeline/imaging gives: what its tables hold.
func imageUnits(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{"1": true, "HU": true, "Bq/ml": true, "[arb'U]": true}
	files, err := filepath.Glob("../imaging/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources of pipeline/imaging: %v", err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 || !slices.Contains([]string{"typeUnits", "petUnits", "nmUnits", "suvTypes"}, v.Names[0].Name) {
				return true
			}
			for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
				var unit ast.Expr
				switch e := e.(type) {
				case *ast.KeyValueExpr:
					unit = e.Value
				case *ast.CompositeLit:
					unit = e.Elts[2] // of suvTypes
				}
				s, err := strconv.Unquote(unit.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				all[s] = true
			}
			return true
		})
	}
	if len(all) < 30 {
		t.Fatalf("only %d units found in pipeline/imaging: %v", len(all), all)
	}
	return all
}

// Whatever unit the images have, every feature has a unit with a meaning of its own that its elements can hold.
func TestUnitsOfImages(t *testing.T) {
	codes, meanings := map[string]string{}, map[string]string{}
	for intensity := range imageUnits(t) {
		for _, ibsi := range []string{"Q4LE", "ECT3", "99N0", "RNU0"} { // U, U2, U.mm3 and one without U
			u, ok := UnitFor(ibsi, intensity)
			if err := u.check(); !ok || err != nil {
				t.Errorf("unit of %s in %s: %s %v", ibsi, intensity, u, err)
			}
			if err := checkUCUM(u.Value); err != nil {
				t.Errorf("unit of %s in %s: %v", ibsi, intensity, err)
			}
			if old, ok := codes[u.Meaning]; ok && old != u.Value {
				t.Errorf("%q is what %s and %s mean", u.Meaning, old, u.Value)
			}
			if old, ok := meanings[u.Value]; ok && old != u.Meaning {
				t.Errorf("%s means %q and %q", u.Value, old, u.Meaning)
			}
			if u.Meaning == u.Value && !slices.Contains([]string{"mm", "cm", "mg/ml"}, u.Value) { // PS3.16 has these so
				t.Errorf("%s has no meaning of its own", u)
			}
			codes[u.Meaning], meanings[u.Value] = u.Value, u.Meaning
		}
	}
	for intensity := range imageUnits(t) {
		u := Unit(intensity).Value
		square, _ := UnitFor("ECT3", intensity)
		volume, _ := UnitFor("99N0", intensity)
		twice, more := powers(u), powers(u)
		for atom := range twice {
			twice[atom] *= 2
		}
		more["mm"] += 3
		if got := powers(square.Value); !maps.Equal(got, twice) {
			t.Errorf("%s is no square of %s: %v, want %v", square, u, got, twice)
		}
		if got := powers(volume.Value); !maps.Equal(got, more) {
			t.Errorf("%s is not %s times mm3: %v, want %v", volume, u, got, more)
		}
	}
	for u, row := range units {
		for _, s := range []string{u, row.square} {
			if err := checkUCUM(s); s != "" && err != nil {
				t.Error(err)
			}
		}
	}
}

// powers takes a unit apart: the power of each atom, annotations without one.
func powers(s string) map[string]int {
	p := map[string]int{}
	for _, f := range regexp.MustCompile(`([./]|^)(10\*|\[[^\]]*\]|[a-zA-Z%]+)([+-]?[0-9]+)?`).FindAllStringSubmatch(regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(s, ""), -1) {
		n := 1
		if f[3] != "" {
			n, _ = strconv.Atoi(f[3])
		}
		if f[1] == "/" {
			n = -n
		}
		p[f[2]] += n
	}
	return p
}

// checkUCUM is the grammar of UCUM (revision 2.1, section 2), with the atoms that are used here. The same list passed the
// validator of the National Library of Medicine, npm @lhncbc/ucum-lhc 7.
func checkUCUM(s string) error {
	atom := regexp.MustCompile(`^([umkcM]?(g|m|s|l|Bq|mol)|min|%|10\*|\[hnsf'U\]|\[arb'U\])([+-]?[0-9]+)?(\{[^{}]*\})?$`)
	annotation := regexp.MustCompile(`^\{[^{}]+\}$`)
	depth, start := 0, 0
	var parts []string
	for i, r := range s {
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth--
		case depth == 0 && (r == '.' || r == '/'):
			if i > 0 { // a solidus may lead
				parts = append(parts, s[start:i])
			} else if r == '.' {
				return fmt.Errorf("%q begins with a point", s)
			}
			start = i + 1
		case r > '~' || r <= ' ':
			return fmt.Errorf("%q has the character %q", s, r)
		}
	}
	for _, p := range append(parts, s[start:]) {
		if p != "1" && !atom.MatchString(p) && !annotation.MatchString(p) {
			return fmt.Errorf("%q is not UCUM: %q", s, p)
		}
	}
	return nil
}

func TestUCUMGrammar(t *testing.T) {
	for _, s := range []string{"(g/ml)2", "{counts}2", "g//ml", ".mm", "furlong", "mm 3", "HU"} { // refused by ucum-lhc too
		if checkUCUM(s) == nil {
			t.Errorf("%q passes", s)
		}
	}
}

func TestSUVMethods(t *testing.T) {
	n := 0
	for u := range units {
		if m, ok := SUVMethod(u); ok {
			n++
			if !strings.HasPrefix(units[u].meaning, "Standardized Uptake Value") || m.check() != nil {
				t.Errorf("%s by %s", u, m)
			}
		}
	}
	if n != 6 { // PS3.16 CID 85
		t.Errorf("%d units of SUV have a method, want 6", n)
	}
	if m, ok := SUVMethod("{SUVbw}g/ml"); !ok || m.Value != "126410" {
		t.Errorf("old spelling: %s", m)
	}
	if m, ok := SUVMethod("HU"); ok {
		t.Errorf("HU by %s", m)
	}
}
