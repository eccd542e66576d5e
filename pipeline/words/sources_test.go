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
	"Debug": "the log", "Info": "the log", "Warn": "the log", "Error": "the log", "Park": "the log and whoever manages the queue",
	"panic": "a fault of the program", "UIDFrom": "digested", "uid": "digested", "Fprintf": "digested",
	"Contains": "asks for a value of DICOM", "HasPrefix": "asks for a value of DICOM", "Trim": "asks for bytes",
	"Name": "a coded concept, an attribute or a step of radnode extract", "name": "an attribute of DICOM", "creator": "a private creator",
}

// elsewhere are files whose texts no report shows.
var elsewhere = map[string]string{
	"features/profile.go":     "answers whoever writes the configuration; the notation is that of IBSI",
	"features/diagnostics.go": "names of diagnostics, for radnode extract",
	"pipeline/rules.go":       "answers whoever writes the configuration",
	"pipeline/pipeline.go":    "starting, and faults of the program",
	"pipeline/deliver.go":     "the log and the state of a delivery",
}

// unsaid are texts that stay English, each with the reason.
var unsaid = map[string]string{
	"features: image: %s": "a fault of the program",
	"features: a grid holds another number of voxels than its size says":                                    "a fault of the program",
	"features: the mask (%v voxels, origin %.3f mm) is not on the image's grid (%v voxels, origin %.3f mm)": "a fault of the program",
	"features: the mask holds a value other than 0 and 1":                                                   "a fault of the program",
	"features: %s gave %d of %d values, and %q out of the table's order":                                    "a fault of the program",
	"%s is not in the table of features":                                                                    "a fault of the program",
	"%s: IBSI code %s has no coded concept":                                                                 "a fault of the program",
	"segmentation: %s":                                                                                      "a fault of the program",
	"report: %s":                                                                                            "a fault of the program",
	"%d factors for %d slices":                                                                              "a fault of the program",
	"too many crossings":                                                                                    "inside of package roi",
	"features: %s":                                                                                          "the end of a context",
	"features: normalise: %s":                                                                               "a faulty profile, which does not start",
	"method: %q, want none, zscore, range or mean":                                                          "a faulty profile",
	"method: is empty, and the rest says how to normalise; write zscore, range or mean":                     "a faulty profile",
	"region: %q: %v":                                                                                        "a faulty profile",
	"region: is empty, and the mean is that of a reference region, muscle for example":                      "a faulty profile",
	"low: %v, high: %v, want percentiles from 0 to 100, the lower one first":                                "a faulty profile",
	"scale: %v, want a number above 0 and at most 1000000":                                                  "a faulty profile",
	"%q is no kind of SUV, want none, bw, lbm, lbm-james, bsa or ibw":                                       "a faulty profile",
	"given up after %d tries: %v":                                                                           "the state of a study, not in a report",
	"all named images are here":                                                                             "the state of a study, not in a report",
	"all named images are here, and the series is complete by its own count":                                "the state of a study, not in a report",
	"nothing new for the quiet period, and the series has no gaps":                                          "the state of a study, not in a report",
	"%d images of the series are here, but none of the %d that the contours name":                           "the state of a study, not in a report",
	"%d of %d named images are missing":                                                                     "the state of a study, not in a report",
	"%d of the %d images that the series announces in Number of Series Related Instances (0020,1209) are here": "the state of a study, not in a report",
	"no image of the series is here": "the state of a study, not in a report",
	"the contours name only the %d slices they are drawn on, and the series does not say how many images it has": "the state of a study, not in a report",
	"the contours name no image of the series, and the series does not say how many images it has":               "the state of a study, not in a report",
	"a segmentation of radnode":                   "a segmentation of our own is not measured, and no report says so",
	"instance %s: %s":                             "the store, in the log",
	"read headers and contours":                   "a step of radnode extract",
	"images to a volume":                          "a step of radnode extract",
	"contours to voxels, all regions":             "a step of radnode extract",
	"features, all regions":                       "a step of radnode extract",
	"write report and segmentation":               "a step of radnode extract",
	"PROJECTION IMAGE":                            "a value of Image Type (0008,0008)",
	"SCREEN SAVE":                                 "a value of Image Type (0008,0008)",
	"SECONDARY CAPTURE":                           "a value of Image Type (0008,0008)",
	"PALETTE COLOR":                               "a value of Photometric Interpretation (0028,0004)",
	"SIEMENS MED PT":                              "a private creator",
	"Philips PET Private Group":                   "a private creator",
	"Anatomical Structure":                        "the meaning of a code",
	"Morphologically Abnormal Structure":          "the meaning of a code",
	"Spatial and Relational Concept":              "the meaning of a code",
	"Treated Volume":                              "the meaning of a code",
	"Irradiated Volume":                           "the meaning of a code",
	"Organ At Risk":                               "the meaning of a code",
	"Avoidance Volume":                            "the meaning of a code",
	"Source image for image processing operation": "the meaning of a code",
	"SCT 7771000":                                 "a code", "SCT 24028007": "a code", "SCT 51440002": "a code", "SCT 66459002": "a code",
	"SRT G-A101": "a code", "SRT G-A100": "a code", "SRT G-A102": "a code", "SRT G-A103": "a code",
	"ROI %s":      "stands for the name of a region that has none",
	"%s (ROI %d)": "stands for the name of a region",
	"Segment %s":  "stands for the name of a region that has none",
}

// Every text of the sources is in the table of every language. One that is not is named with its place.
func TestEveryTextIsSaid(t *testing.T) {
	found := map[string]bool{}
	for _, dir := range speaking {
		for _, s := range spokenIn(t, dir, false) {
			found[s.format] = true
			if _, is := unsaid[s.format]; is {
				continue
			}
			if _, ok := italian[s.format]; !ok {
				t.Errorf("%s: %q is not in italian.go; a text that no report shows belongs into unsaid, with the reason", s.at, s.format)
			}
		}
	}
	if len(found) < 400 {
		t.Errorf("only %d texts found in the sources", len(found))
	}
	for s := range unsaid {
		if !found[s] {
			t.Errorf("unsaid: %q is not in the sources", s)
		}
	}
}

// awaited are texts of the table that stand in no source as they are there.
var awaited = map[string]string{
	"occupancy": "Segmentation Fractional Type (0062,0010) in small letters", "probability": "the same",
	"and": "between the names of attributes", "%s and %s": "values of them",
	"mean %s %s (SD %s)":             "for reports",
	"median %s %s":                   "for reports",
	"SUV peak %s":                    "for reports",
	"SUV maximum %s":                 "for reports",
	"metabolic tumour volume %s cm3": "for reports",
	"total lesion glycolysis %s g":   "for reports",
	"%d values, %d not computable":   "for reports",
	"Not computed: %s":               "for reports",
	"Key values of %d lesions":       "for reports",
	"Radiomics (IBSI)":               "for reports",
	"Measured voxels":                "for reports",
	"key values":                     "for reports",
	"all values":                     "for reports",
	"Patient":                        "for reports",
	"Study":                          "for reports",
	"Born":                           "for reports",
	"Sex":                            "for reports",
	"Accession":                      "for reports",
	"Profile":                        "for reports",
	"Software":                       "for reports",
	"page %d of %d":                  "for reports",
	"no earlier report of this lesion is here": "for reports",
	"finding":        "for reports",
	"site":           "for reports",
	"side":           "for reports",
	"measured on %s": "for reports",
	"This report was made by software and has not been verified by a person": "for reports",
	"not verified":                               "for reports",
	"definitions: %s":                            "for reports",
	"Morphology":                                 "for reports",
	"Local intensity":                            "for reports",
	"Intensity statistics":                       "for reports",
	"Intensity histogram":                        "for reports",
	"Intensity-volume histogram":                 "for reports",
	"Grey level co-occurrence (GLCM)":            "for reports",
	"Grey level run length (GLRLM)":              "for reports",
	"Grey level size zone (GLSZM)":               "for reports",
	"Grey level distance zone (GLDZM)":           "for reports",
	"run length (GLRLM)":                         "for reports",
	"size zone (GLSZM)":                          "for reports",
	"distance zone (GLDZM)":                      "for reports",
	"Run length (GLRLM)":                         "for reports",
	"Size zone (GLSZM)":                          "for reports",
	"Distance zone (GLDZM)":                      "for reports",
	"Neighbourhood grey tone difference (NGTDM)": "for reports",
	"neighbourhood grey tone difference (NGTDM)": "for reports",
	"Neighbouring grey level dependence (NGLDM)": "for reports",
	"neighbouring grey level dependence (NGLDM)": "for reports",
}

// A text that the sources do not have any more leaves the table.
func TestNothingIsSaidInVain(t *testing.T) {
	found := map[string]bool{}
	for _, dir := range append([]string{"../../dimse/pixel", "../../dimse/dicom"}, speaking...) {
		for _, s := range spokenIn(t, dir, true) {
			found[s.format] = true
		}
	}
	for s := range italian {
		if !found[s] && awaited[s] == "" {
			t.Errorf("%q is in no source", s)
		}
	}
}
