package words

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
// as one text, and what is appended to a text by += as a text with what it is appended to.
func spokenIn(t *testing.T, dir string, skip func(file, call string) bool) (all []spoken) {
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
		c := collector{constants: constants, skip: skip, file: filepath.Base(dir) + "/" + filepath.Base(set.Position(f.Pos()).Filename)}
		c.add = func(format string, at token.Pos) {
			all = append(all, spoken{format, fmt.Sprintf("%s:%d", c.file, set.Position(at).Line)})
		}
		c.walk(f, "")
	}
	return all
}

type collector struct {
	constants map[string]string
	file      string
	skip      func(file, call string) bool
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
	if c.skip(c.file, call) || !strings.Contains(strings.TrimSpace(format), " ") || !word.MatchString(verbs.ReplaceAllString(format, "")) {
		return
	}
	if strings.HasSuffix(format, ": ") {
		format += "%s"
	}
	c.add(format, at)
}

// quiet are calls and fields whose texts no report shows.
var quiet = map[string]string{
	"Debug": "the log is English", "Info": "the log is English", "Warn": "the log is English", "Error": "the log is English",
	"panic":   "a fault of the program",
	"UIDFrom": "digested into a UID", "uid": "digested into a UID",
	"Contains": "asks for a value of DICOM", "HasPrefix": "asks for a value of DICOM", "Trim": "bytes",
	"Park":       "answered to whoever manages the queue",
	"creator":    "a private creator",
	"Fprintf":    "digested",
	"Parameters": "",
}

func TestZ(t *testing.T) {
	var out []string
	for _, dir := range []string{"../../features", "..", "../imaging", "../roi", "../refusal"} {
		for _, s := range spokenIn(t, dir, func(file, call string) bool {
			_, is := quiet[call]
			return is
		}) {
			out = append(out, s.at+"\t"+s.format)
		}
	}
	_ = slices.Sort[[]string]
	os.WriteFile("/tmp/spoken.txt", []byte(strings.Join(out, "\n")), 0o644)
}
