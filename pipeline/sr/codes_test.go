package sr

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
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
		for _, intensity := range []string{"HU", "1", "g/ml{SUVbw}", "[arb'U]", "Bq/ml"} {
			u, ok := UnitFor(ibsi, intensity)
			if err := u.check(); !ok || err != nil || utf8.RuneCountInString(u.Value) > 16 {
				t.Errorf("unit of %s in %s: %s %v", ibsi, intensity, u, err)
			}
			if _, known := units[u.Value]; !known {
				t.Errorf("unit of %s in %s: %s has no meaning", ibsi, intensity, u)
			}
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
		{"ECT3", "g/ml{SUVbw}", "(g/ml{SUVbw})2", "square Standardized Uptake Value body weight"},
		{"ECT3", "10*-3", "(10*-3)2", "(10*-3)2"},
		{"ECT3", "mm2", "(mm2)2", "(mm2)2"},
		{"ECT3", "ms", "ms2", "ms2"},
		{"99N0", "10*-6.mm2/s", "10*-6.mm2/s.mm3", "10*-6.mm2/s.mm3"},
	} {
		if got, ok := UnitFor(c.ibsi, c.intensity); !ok || got != (Code{c.code, "UCUM", c.meaning}) {
			t.Errorf("unit of %s for %q is %s, want (%s,UCUM,%q)", c.ibsi, c.intensity, got, c.code, c.meaning)
		}
	}
	if got := Unit("furlong"); got != (Code{"furlong", "UCUM", "furlong"}) {
		t.Errorf("unknown unit: %s", got)
	}
}
