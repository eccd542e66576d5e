package words

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A spoken text stands in the source of a package that notes, reasons and refusals come from.
type spoken struct {
	format string // with %s for what is put between the pieces of a concatenation
	at     string // file and line
}

// spokenIn reads the texts of more than one word out of the Go files of a folder: string literals, concatenations of them
// as one text, and what is appended to a text by += as a text with what it is appended to. all takes single words too, and
// what no report shows.
func spokenIn(t *testing.T, dir string, all bool) (found []spoken) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	set := token.NewFileSet()
	constants := map[string]string{}
	var parsed []*ast.File
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		ast.Inspect(f, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, s := range d.Specs {
					v := s.(*ast.ValueSpec)
					for i, x := range v.Values {
						if lit, ok := x.(*ast.BasicLit); ok && lit.Kind == token.STRING {
							constants[v.Names[i].Name], _ = strconv.Unquote(lit.Value)
						}
					}
				}
			}
			return true
		})
	}
	for _, f := range parsed {
		name := set.Position(f.Pos()).Filename
		folder, err := filepath.Abs(filepath.Dir(name))
		if err != nil {
			t.Fatal(err)
		}
		c := collector{constants: constants, all: all, file: filepath.Base(folder) + "/" + filepath.Base(name)}
		c.add = func(format string, at token.Pos) {
			found = append(found, spoken{format, fmt.Sprintf("%s:%d", c.file, set.Position(at).Line)})
		}
		c.walk(f, "")
	}
	return found
}

type collector struct {
	constants map[string]string
	file      string
	all       bool
	add       func(format string, at token.Pos)
}

var (
	verbs  = regexp.MustCompile(`%[-+#0-9. ]*[a-zA-Z]`)
	strays = regexp.MustCompile(`%([^-+#0-9.a-zA-Z%]|$)`)
	word   = regexp.MustCompile(`[A-Za-z]{2}`)
)

// text is an expression as a format, and whether any of it is written there.
func (c *collector) text(e ast.Expr) (format string, literal bool) {
	switch x := e.(type) {
	case *ast.ParenExpr:
		return c.text(x.X)
	case *ast.BasicLit:
		if x.Kind == token.STRING {
			s, _ := strconv.Unquote(x.Value)
			return strays.ReplaceAllString(s, "%%$1"), true
		}
	case *ast.Ident:
		if s, ok := c.constants[x.Name]; ok {
			return strings.ReplaceAll(s, "%", "%%"), false
		}
	case *ast.BinaryExpr:
		if x.Op == token.ADD {
			a, isA := c.text(x.X)
			b, isB := c.text(x.Y)
			return a + b, isA || isB
		}
	case *ast.CallExpr:
		if called(x) == "Sprintf" {
			return c.text(x.Args[0])
		}
	}
	return "%s", false
}

func called(x *ast.CallExpr) string {
	switch f := x.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// walk looks at n, an argument of call.
func (c *collector) walk(n ast.Node, call string) {
	ast.Inspect(n, func(m ast.Node) bool {
		if m == nil || m == n {
			return true
		}
		return c.look(m, call)
	})
}

// look takes the text that m is, and says whether to look inside.
func (c *collector) look(m ast.Node, call string) bool {
	switch x := m.(type) {
	case *ast.Field: // its tag is no text
		return false
	case *ast.CallExpr:
		name := called(x)
		c.walk(x.Fun, call)
		for _, a := range x.Args {
			if c.look(a, name) {
				c.walk(a, name)
			}
		}
		return false
	case *ast.KeyValueExpr:
		key := call
		if id, ok := x.Key.(*ast.Ident); ok {
			key = id.Name
		} else if c.look(x.Key, call) {
			c.walk(x.Key, call)
		}
		if c.look(x.Value, key) {
			c.walk(x.Value, key)
		}
		return false
	case *ast.AssignStmt:
		if x.Tok == token.ADD_ASSIGN {
			if s, ok := c.text(x.Rhs[0]); ok {
				c.take("%s"+s, x.Pos(), call)
				c.operands(x.Rhs[0], call)
				return false
			}
		}
	case *ast.BinaryExpr, *ast.BasicLit:
		if s, ok := c.text(x.(ast.Expr)); ok {
			c.take(s, x.Pos(), call)
			c.operands(x.(ast.Expr), call)
			return false
		}
	}
	return true
}

// operands looks at what a concatenation puts between its literals.
func (c *collector) operands(e ast.Expr, call string) {
	switch x := e.(type) {
	case *ast.BasicLit:
	case *ast.ParenExpr:
		c.operands(x.X, call)
	case *ast.BinaryExpr:
		c.operands(x.X, call)
		c.operands(x.Y, call)
	case *ast.CallExpr:
		for _, a := range x.Args[min(len(x.Args), 1):] {
			if c.look(a, called(x)) {
				c.walk(a, called(x))
			}
		}
	default:
		c.walk(e, call)
	}
}

func (c *collector) take(format string, at token.Pos, call string) {
	several := strings.Contains(strings.TrimSpace(format), " ") && word.MatchString(verbs.ReplaceAllString(format, ""))
	if !c.all && (quiet[call] != "" || elsewhere[c.file] != "" || !several) {
		return
	}
	if strings.HasSuffix(format, ": ") {
		format += "%s"
	}
	c.add(strings.ReplaceAll(format, "%w", "%s"), at)
}

// speaking are the folders whose texts reach reports.
var speaking = []string{"../../features", "../imaging", "../roi", "../refusal", ".."}

// quiet are calls and fields whose texts no report shows, or shows in English.
var quiet = map[string]string{
	"Debug": "the log", "Info": "the log", "Warn": "the log", "Error": "the log", "Park": "the log and whoever manages the queue", "park": "the same",
	"panic": "a fault of the program", "UIDFrom": "digested", "uid": "digested", "Fprintf": "digested",
	"Contains": "asks for a value of DICOM", "HasPrefix": "asks for a value of DICOM", "Trim": "asks for bytes",
	"private": "a coded concept", "Meaning": "a coded concept",
	"Name": "a coded concept, an attribute or a step of radnode extract", "name": "an attribute of DICOM", "creator": "a private creator",
}

// elsewhere are files whose texts no report shows.
var elsewhere = map[string]string{
	"features/profile.go":     "answers whoever writes the configuration; the notation is that of IBSI",
	"features/diagnostics.go": "names of diagnostics, for radnode extract",
	"pipeline/rules.go":       "answers whoever writes the configuration",
	"pipeline/pipeline.go":    "starting, and faults of the program",
	"pipeline/work.go":        "the state of a study that was given up, not in a report",
	"pipeline/deliver.go":     "the log and the state of a delivery",
	"pipeline/account.go":     "the answers of radnode status and its kin",
	"pipeline/hand.go":        "the answers of radnode status and its kin",
	"pipeline/retention.go":   "the answers of radnode status and its kin",
}

// unsaid are texts that stay English, by the reason.
var unsaid = map[string][]string{
	"answers whoever writes the configuration": {
		"{document} - {regions} - {modality} {series} - {profile}", "documents: %q is none; write any of full, key, pdf, capture",
		"documents: %q is there twice", "segmentation: %q; write send or keep", "language: %s", "title: %q is none; write oncology, imaging, dynamic-mr or pet (PS3.16 CID 7021)",
		"sop_class: %q is none; write comprehensive-3d, comprehensive or enhanced", "series_number: %d, want 1 to %d",
		"description: %q; write text in one line with any of %s, without backslash",
		"series_number: %d gives %s reports the number of the segmentation, %d",
	},
	"enters a UID": {"%s series", "report %s"},
	"the log":      {"it is about several series of images"},
	"a pattern":    {"(?m)^\\pL+ .* sha256:([0-9a-f]+)$"},
	"the segmentation, which is the same in every language": {"Measured voxels", "Processing Equipment"},
	"a fault of the program": {
		"features: image: %s", "features: a grid holds another number of voxels than its size says",
		"features: the mask (%v voxels, origin %.3f mm) is not on the image's grid (%v voxels, origin %.3f mm)",
		"features: the mask holds a value other than 0 and 1",
		"features: %s gave %d of %d values, and %q out of the table's order", "%s is not in the table of features",
		"%s: IBSI code %s has no coded concept", "segmentation: %s", "report: %s", "%d factors for %d slices",
	},
	"inside of package roi": {
		"too many crossings",
	},
	"the end of a context": {
		"features: %s",
	},
	"a faulty profile, which does not start": {
		"features: normalise: %s",
	},
	"a faulty profile": {
		"method: %q, want none, zscore, range or mean",
		"method: is empty, and the rest says how to normalise; write zscore, range or mean", "region: %q: %v",
		"region: is empty, and the mean is that of a reference region, muscle for example",
		"low: %v, high: %v, want percentiles from 0 to 100, the lower one first",
		"scale: %v, want a number above 0 and at most 1000000",
		"%q is no kind of SUV, want none, bw, lbm, lbm-james, bsa or ibw",
	},
	"the state of a study, not in a report": {
		"given up after %d tries: %v", "the outcome cannot be stored: %s", "the objects have changed since they were complete", "all named images are here",
		"all named images are here, and the series is complete by its own count",
		"nothing new for the quiet period, and the series has no gaps", "%s; no PDF or captures: %s",
		"%d images of the series are here, but none of the %d that the contours name", "%d of %d named images are missing",
		"%d of %d named images are missing; of these %d are here in quarantine",
		"%d of the %d images that the series announces in Number of Series Related Instances (0020,1209) are here",
		"no image of the series is here",
		"the contours name only the %d slices they are drawn on, and the series does not say how many images it has",
		"the contours name no image of the series, and the series does not say how many images it has",
	},
	"a segmentation of our own is not measured, and no report says so": {
		"a segmentation of radnode",
	},
	"the store, in the log": {
		"instance %s: %s",
	},
	"a step of radnode extract": {
		"read headers and contours", "images to a volume", "contours to voxels, all regions", "features, all regions",
		"write report and segmentation",
	},
	"of a delivery or of Storage Commitment: the log, the state, the answer to a peer": {
		"there is no way to ask for storage commitment", "the destination did not say whether it keeps what was delivered",
		"the destination was asked to commit, and has not answered yet", "not confirmed after %d requests: %s", "not mentioned",
		"the destination knows the transaction already",
		"the destination does not keep %d of %d objects that it had taken: Failure Reason %s", "given up: %s", "sent again: %s",
		"no such transaction was requested of this AE title", "%d requests of this AE title wait already",
		"too much at once from a peer whose address is not configured", "instance %s at %d: %s", "%v: %s: Storage Commitment",
		"claim from %s: %s",
	},
	"a value of Image Type (0008,0008)": {
		"PROJECTION IMAGE", "SCREEN SAVE", "SECONDARY CAPTURE",
	},
	"a value of Photometric Interpretation (0028,0004)": {
		"PALETTE COLOR",
	},
	"a private creator": {
		"SIEMENS MED PT",
	},
	"the meaning of a code": {
		"Anatomical Structure", "Morphologically Abnormal Structure", "Spatial and Relational Concept", "Treated Volume",
		"Irradiated Volume", "Organ At Risk", "Avoidance Volume", "Source image for image processing operation",
	},
	"a code": {
		"SCT 7771000", "SCT 24028007", "SCT 51440002", "SCT 66459002", "SRT G-A101", "SRT G-A100", "SRT G-A102",
		"SRT G-A103",
	},
	"stands for the name of a region that has none": {
		"ROI %s", "Segment %s",
	},
	"stands for the name of a region": {
		"%s (ROI %d)",
	},
}

// Every text of the sources is in the table of every language. One that is not is named with its place.
func TestEveryTextIsSaid(t *testing.T) {
	known, found := map[string]bool{}, map[string]bool{}
	for _, line := range italian {
		known[line[0]] = true
	}
	for _, texts := range unsaid {
		for _, s := range texts {
			known[s] = true
		}
	}
	for _, dir := range speaking {
		for _, s := range spokenIn(t, dir, false) {
			if found[s.format] = true; !known[s.format] {
				t.Errorf("%s: %q is not in italian.go; a text that no report shows belongs into unsaid, with the reason", s.at, s.format)
			}
		}
	}
	if len(found) < 400 {
		t.Errorf("only %d texts found in the sources", len(found))
	}
	for _, texts := range unsaid {
		for _, s := range texts {
			if !found[s] {
				t.Errorf("unsaid: %q is not in the sources", s)
			}
		}
	}
}

// awaited are texts of the table that stand in no source as they are there, by where they come from.
var awaited = map[string][]string{
	"Segmentation Fractional Type (0062,0010) in small letters": {
		"occupancy", "probability",
	},
	"between attributes and their values": {
		"and", "%s and %s",
	},
	"a single word": {"Radiomics"},
}

// A text that the sources do not have any more leaves the table.
func TestNothingIsSaidInVain(t *testing.T) {
	found := map[string]bool{}
	for _, texts := range awaited {
		for _, s := range texts {
			found[s] = true
		}
	}
	for _, dir := range append([]string{"../../dimse/pixel", "../../dimse/dicom"}, speaking...) {
		for _, s := range spokenIn(t, dir, true) {
			found[s.format] = true
		}
	}
	for _, line := range italian {
		if s := line[0]; !found[s] {
			t.Errorf("%q is in no source", s)
		}
	}
}
