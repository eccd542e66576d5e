package pages

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
)

// phantom is a sheet that needs no file from outside the project.
func phantom(t testing.TB, lesions int, italian bool) Sheet {
	s := synthetic(t)
	var all []Lesion
	for i := range lesions {
		all = append(all, lesion(s.volume.Grid, s.mask(t, ""), "CT", "HU", fmt.Sprintf("GTV-%d", i+1), i, italian))
	}
	sheet := sheetOf(all...)
	if italian {
		sheet.Language = "it"
	}
	return sheet
}

// hostile are sheets that a caller should not make and may.
func hostile(t testing.TB) map[string]Sheet {
	long := strings.Repeat("a word and another one ", 440)
	solid := strings.Repeat("Wx", 5000)
	odd := "\x00\x1b[31m\r\n\t\u202e\u200b\uFFFD\xff\xfe日本語 عربي עברית \U0001F600 \\ ( ) <<>> %PDF endstream"
	nan, inf := math.NaN(), math.Inf(1)
	all := func(s string) Sheet {
		l := Lesion{
			Name: s, Subtitle: s, Summary: []string{s, s}, Comments: []string{s, s},
			Key:       []Value{{s, s, s}, {"short", s, "mm"}, {s, "1", ""}},
			Histogram: &Histogram{Unit: s, Low: 0, Width: 1, Counts: []int{1, 2, 3}},
			Trend:     []Trend{{s, s, []Point{{time.Unix(0, 0), 1}, {time.Unix(1e8, 0), 2}}}},
			Views: []View{{
				Picture: image.NewGray(image.Rect(0, 0, 3, 3)), Pixel: [2]float64{1, 1}, Left: s, Right: s, Top: s, Bottom: s, Unit: s,
			}},
			Families: []Family{{s, []Value{{s, s, s}}}},
		}
		return Sheet{Title: s, Patient: []Row{{s, s}, {s, s}}, Study: []Row{{s, s}}, Lesions: []Lesion{l, l}, Notes: []string{s}}
	}
	one := func(l Lesion) Sheet { return Sheet{Lesions: []Lesion{l}} }
	points := func(v ...float64) Sheet {
		var p []Point
		for i, x := range v {
			p = append(p, Point{time.Unix(int64(i)*86400, 0), x})
		}
		return one(Lesion{Trend: []Trend{{"t", "u", p}}})
	}
	histogram := func(low, width float64, counts ...int) Sheet {
		return one(Lesion{Histogram: &Histogram{Low: low, Width: width, Counts: counts}})
	}
	view := func(p *image.Gray, w, h float64, contour ...[]image.Point) Sheet {
		v := View{Plane: 9, Picture: p, Pixel: [2]float64{w, h}, Contour: contour, Low: nan, High: inf, Place: nan}
		return one(Lesion{Views: []View{v, {}, {}, {}, {}}})
	}
	gray := func(w, h int) *image.Gray { return image.NewGray(image.Rect(0, 0, w, h)) }
	many := Sheet{}
	for range 60 {
		many.Patient = append(many.Patient, Row{"label", "text"})
	}
	keys := Lesion{}
	for i := range 40 {
		keys.Key = append(keys.Key, Value{fmt.Sprintf("quantity %d with a name that is longer than the line is", i), fmt.Sprint(i), "mm"})
	}
	return map[string]Sheet{
		"nothing":             {},
		"a lesion of nothing": one(Lesion{}),
		"long":                all(long),
		"no blank":            all(solid),
		"odd":                 all(odd),
		"blank":               all(" \t "),
		"rows":                many,
		"keys":                one(keys),
		"trend NaN":           points(nan, inf, -inf),
		"trend huge":          points(1e308, -1e308, 1),
		"trend large":         points(1e299, -1e299, 3),
		"trend equal":         points(5, 5, 5),
		"trend one":           points(5),
		"trend tiny":          points(1e-300, 2e-300),
		"trend zero":          points(0, 0),
		"trend offset":        points(1e15, 1e15+1),
		"trend times":         one(Lesion{Trend: []Trend{{"t", "u", []Point{{time.Time{}, 1}, {time.Unix(1<<55, 0), 2}, {time.Unix(-1<<40, 0), 3}}}}}),
		"histogram none":      histogram(0, 1),
		"histogram NaN":       histogram(nan, 1, 1),
		"histogram zero":      histogram(0, 0, 1),
		"histogram huge":      histogram(-1e308, 1e308, 1, 2),
		"histogram negative":  histogram(0, 1, -5, 0),
		"histogram many":      histogram(0, 1, make([]int, 1<<16)...),
		"histogram lost":      histogram(1e17, 1, 1, 2, 3),
		"picture none":        view(nil, 1, 1),
		"picture empty":       view(gray(0, 0), 1, 1),
		"picture NaN":         view(gray(3, 3), nan, 1),
		"picture thin":        view(gray(2000, 1), 1e-3, 1e3),
		"picture flat":        view(gray(1, 1), 1e5, 1e-5),
		"picture large":       view(gray(9000, 2), 1, 1),
		"contour outside":     view(gray(3, 3), 1, 1, []image.Point{{-5, 1 << 40}}, nil, []image.Point{{1, 1}}),
	}
}

// textOf is what pdftotext reads on each page, with single blanks.
func textOf(t testing.TB, pdf []byte) (pages []string) {
	t.Helper()
	out := run(t, "pdftotext", "-raw", "-enc", "UTF-8", save(t, "a.pdf", pdf), "-")
	for p := range strings.SplitSeq(strings.TrimSuffix(out, "\f"), "\f") {
		pages = append(pages, strings.Join(strings.Fields(p), " "))
	}
	return pages
}

// Every text of a sheet can be read and copied, in order on its line, and every page says whose it is and which.
func TestTextOfThePDF(t *testing.T) {
	for _, italian := range []bool{false, true} {
		s := phantom(t, 3, italian)
		s.Patient[0].Text = "Παπαδοπούλου, Щербакова Müller-Łódź Æsir Ñuñez İğdır"
		pages := textOf(t, pdfOf(t, s))
		of := "Page %d of %d"
		if italian {
			of = "Pagina %d di %d"
		}
		for i, p := range pages {
			for _, want := range []string{
				s.Patient[0].Text, s.Patient[1].Text, s.Patient[2].Text, s.Study[2].Text, s.Title, fmt.Sprintf(of, i+1, len(pages)), s.Notes[0],
			} {
				if !strings.Contains(p, want) {
					t.Errorf("page %d of %d lacks %q:\n%s", i+1, len(pages), want, p)
				}
			}
		}
		whole := strings.Join(pages, " ")
		find := func(texts ...string) {
			for _, want := range texts {
				if !strings.Contains(whole, want) {
					t.Errorf("%q is not in the document", want)
				}
			}
		}
		for i, l := range s.Lesions {
			if !strings.Contains(pages[i], l.Name) {
				t.Errorf("page %d is not that of lesion %q", i+1, l.Name)
			}
			find(l.Subtitle)
			find(l.Summary...)
			find(l.Comments...)
			for _, v := range l.Key {
				if want := strings.TrimSpace(v.Name + " " + v.Value + " " + v.Unit); !strings.Contains(pages[i], want) {
					t.Errorf("page %d lacks %q", i+1, want)
				}
			}
			for _, f := range l.Families {
				for _, v := range f.Values {
					if line := v.Name + " " + v.Value; len(line) < 50 { // longer names are on two lines
						find(strings.TrimSpace(line + " " + v.Unit))
					}
					find(v.Value)
				}
			}
			for _, tr := range l.Trend {
				for _, p := range tr.Points {
					find(wordsOf(s.Language).day(p.Time) + " " + wordsOf(s.Language).number(p.Value) + " " + tr.Unit)
				}
			}
		}
		find(strings.Fields(strings.Join(s.Notes, " "))...)
	}
}

// What has no room on the page of its lesion is in the appendix: of every text, short or long, the first and the last word
// are in the document.
func TestNothingIsLost(t *testing.T) {
	for _, length := range []int{0, 1, 5, 20, 400} {
		n := 0
		next := func() string {
			n++
			return fmt.Sprintf("begin%03d %s end%03d", n, strings.Repeat("word ", length), n)
		}
		values := func(count int) (all []Value) {
			for range count {
				all = append(all, Value{next(), next(), next()})
			}
			return all
		}
		s := Sheet{
			Title: next(), Patient: []Row{{next(), next()}, {next(), next()}, {next(), next()}}, Study: []Row{{next(), next()}},
			Notes: []string{next(), next()},
		}
		for range 2 {
			l := Lesion{
				Name: next(), Subtitle: next(), Summary: []string{next(), next(), next()}, Comments: []string{next(), next()}, Key: values(15),
			}
			l.Families = []Family{{next(), values(2)}, {next(), values(1)}}
			for range 5 {
				l.Trend = append(l.Trend, Trend{next(), next(), []Point{{time.Unix(0, 0), 1}, {time.Unix(1e8, 0), 2}}})
			}
			s.Lesions = append(s.Lesions, l)
		}
		whole := strings.Join(textOf(t, pdfOf(t, s)), " ")
		for i := range n {
			for _, word := range []string{fmt.Sprintf("begin%03d", i+1), fmt.Sprintf("end%03d", i+1)} {
				if !strings.Contains(whole, word) {
					t.Errorf("%d words: %q is not in the document", length, word)
				}
			}
		}
	}
	odd := strings.Join(textOf(t, pdfOf(t, hostile(t)["odd"])), " ")
	for _, want := range []string{"[31m", "□", "□ stands for a character", "( ) <<>> %PDF endstream"} {
		if !strings.Contains(odd, want) {
			t.Errorf("%q is not in the document of odd characters", want)
		}
	}
	for _, r := range odd {
		if unicode.IsControl(r) || unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Han) {
			t.Errorf("the document has %U", r)
		}
	}
}

// The programs that other people read PDFs with have nothing to say.
func TestPDFIsValid(t *testing.T) {
	need(t, "qpdf")
	sheets := map[string]Sheet{"one": phantom(t, 1, false), "four": phantom(t, 4, true)}
	h := hostile(t)
	for _, name := range []string{"odd", "nothing", "picture thin", "trend large"} {
		sheets[name] = h[name]
	}
	for name, s := range sheets {
		d, err := Draw(s)
		if err != nil {
			t.Fatal(err)
		}
		file := save(t, "a.pdf", pdfOf(t, s))
		out := run(t, "qpdf", "--check", file)
		if strings.Contains(out, "WARNING") || !strings.Contains(out, "No syntax or stream encoding errors") {
			t.Errorf("%s: %s", name, out)
		}
		info := run(t, "pdfinfo", file)
		if !strings.Contains(info, fmt.Sprintf("Pages:           %d\n", d.Len())) || !strings.Contains(info, "(A4)") {
			t.Errorf("%s: want %d pages of A4:\n%s", name, d.Len(), info)
		}
		fonts := run(t, "pdffonts", file)
		for line := range strings.SplitSeq(strings.TrimSpace(fonts), "\n") {
			if f := strings.Fields(line); len(f) > 7 && f[1] == "CID" && (f[4] != "yes" || f[6] != "yes") { // embedded, Unicode
				t.Errorf("%s: %s", name, fonts)
			}
		}
		if !strings.Contains(fonts, "CID TrueType") {
			t.Errorf("%s: no embedded font:\n%s", name, fonts)
		}
	}
}

// box is the place of a mark on the page.
func box(m mark) image.Rectangle {
	switch m := m.(type) {
	case text:
		return image.Rect(m.x, m.y-m.size*7/10, m.x+m.face.width(m.s, m.size), m.y+m.size*2/10)
	case fill:
		return image.Rect(m.x, m.y, m.x+m.w, m.y+m.h)
	case picture:
		return image.Rect(m.x, m.y, m.x+m.w, m.y+m.h)
	case stroke:
		r := image.Rectangle{m.points[0], m.points[0]}
		for _, p := range m.points {
			r.Min.X, r.Min.Y = min(r.Min.X, p.X), min(r.Min.Y, p.Y)
			r.Max.X, r.Max.Y = max(r.Max.X, p.X), max(r.Max.Y, p.Y)
		}
		return r
	}
	panic("a mark of another kind")
}

// Nothing runs off the page, no line of text lies over another, and hostile sheets end.
func TestNothingOverlaps(t *testing.T) {
	sheets := hostile(t)
	for n := range 3 {
		sheets[fmt.Sprintf("%d lesions", n+1)] = phantom(t, n+1, n == 1)
	}
	for name, s := range sheets {
		d, err := Draw(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d.Len() < 1 || d.Len() > 200 {
			t.Errorf("%s: %d pages", name, d.Len())
		}
		for n, page := range d.pages {
			var texts []image.Rectangle
			var words []string
			for _, m := range page {
				b := box(m)
				if !b.In(image.Rect(0, 0, pageWidth, pageHeight)) {
					t.Errorf("%s, page %d: a %T runs off the page: %v", name, n+1, m, b)
				}
				if m, ok := m.(text); ok {
					if m.s == "" || strings.TrimSpace(m.s) != m.s && name != "blank" {
						t.Errorf("%s, page %d: text %.40q", name, n+1, m.s)
					}
					if b.Min.X < margin || b.Max.X > margin+width+50 {
						t.Errorf("%s, page %d: %.40q is in the margin", name, n+1, m.s)
					}
					for i, o := range texts {
						if o.Overlaps(b) {
							t.Errorf("%s, page %d: %.40q lies over %.40q", name, n+1, m.s, words[i])
						}
					}
					texts, words = append(texts, b), append(words, m.s)
				}
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for name, s := range map[string]Sheet{
		"lesions": {Lesions: make([]Lesion, mostLesions+1)},
		"text":    {Notes: []string{strings.Repeat("x", mostText+1)}},
		"values":  {Lesions: []Lesion{{Families: []Family{{"", make([]Value, 1<<20)}}}}},
		"points":  {Lesions: []Lesion{{Trend: []Trend{{Points: make([]Point, 1<<20)}}}}},
		"pages":   {Notes: []string{strings.Repeat("W", mostText-100)}},
	} {
		if _, err := Draw(s); err == nil || !strings.HasPrefix(err.Error(), "pages: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// digest is of all that is made of a sheet.
func digest(t testing.TB, s Sheet) string {
	t.Helper()
	d, err := Draw(s)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	pdf, err := d.PDF()
	if err != nil {
		t.Fatal(err)
	}
	h.Write(pdf)
	for n := range d.Len() {
		h.Write(d.Picture(n).Pix)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The same sheet is the same bytes: again, at the same time, and in another process with another map seed.
func TestDeterministic(t *testing.T) {
	s := phantom(t, 2, true)
	want := digest(t, s)
	if os.Getenv("RADNODE_PAGES_DIGEST") == "1" {
		fmt.Println("digest " + want)
		return
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if got := digest(t, phantom(t, 2, true)); got != want {
				t.Errorf("another time the digest is %s, not %s", got, want)
			}
		})
	}
	group.Wait()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDeterministic$")
	cmd.Env = append(os.Environ(), "RADNODE_PAGES_DIGEST=1", "TZ=Asia/Tokyo", "LANG=tr_TR.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "digest "+want+"\n") {
		t.Errorf("another process: %v, %s, not %s", err, out, want)
	}
}

// The bytes are those of every machine: .ci/run asks an arm64 too. What changes the pages on purpose changes the digest; look at
// them (TestLook) before it is written anew. The digest leaves out the PDF, whose packed data a Go release may change.
func TestSameBits(t *testing.T) {
	const want = "70769c1bc033392d10303965bf52af1cc14f1ee2f41d0611efcb6b29d9f35adf"
	h := sha256.New()
	for _, italian := range []bool{false, true} {
		s := phantom(t, 1, italian)
		s.Lesions[0].Families = []Family{{"Morphology", []Value{{"Volume (mesh)", "912.9", "mm³"}, {"Sphericity", "0.81", ""}}}}
		d, err := Draw(s)
		if err != nil {
			t.Fatal(err)
		}
		for n := range d.Len() {
			h.Write(d.Picture(n).Pix)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the digest of the pages is %s, not %s", got, want)
	}
}

// The pictures are the pages of the PDF, as poppler draws them.
func TestPicturesAreThePagesOfThePDF(t *testing.T) {
	need(t, "pdftoppm")
	s := phantom(t, 1, false)
	d, err := Draw(s)
	if err != nil {
		t.Fatal(err)
	}
	file := save(t, "a.pdf", pdfOf(t, s))
	root := filepath.Join(t.TempDir(), "page")
	run(t, "pdftoppm", "-scale-to-x", fmt.Sprint(PageColumns), "-scale-to-y", fmt.Sprint(PageRows), file, root)
	for n := range d.Len() {
		b, err := os.ReadFile(fmt.Sprintf("%s-%d.ppm", root, n+1))
		if err != nil {
			t.Fatal(err)
		}
		var w, h int
		if _, err := fmt.Sscanf(string(b), "P6\n%d %d\n255\n", &w, &h); err != nil || w != PageColumns || h != PageRows {
			t.Fatalf("page %d: %v, %d × %d", n+1, err, w, h)
		}
		theirs, ours := b[len(b)-3*w*h:], d.Picture(n).Pix
		// The means of squares of 8 × 8 pixels: poppler's letters are a little heavier, all places are the same. Moved by a square
		// the same pages differ a lot.
		mean := func(shift int) (mean, worst float64) {
			squares := 0
			for y := 0; y+8 <= h; y += 8 {
				for x := 0; x+8+shift <= w; x += 8 {
					diff := 0
					for j := range 8 {
						at := 3 * ((y+j)*w + x)
						for i := range 3 * 8 {
							diff += int(theirs[at+i]) - int(ours[at+3*shift+i])
						}
					}
					d := math.Abs(float64(diff)) / (3 * 64)
					mean += d
					worst = max(worst, d)
					squares++
				}
			}
			return mean / float64(squares), worst
		}
		same, worst := mean(0)
		moved, _ := mean(8)
		t.Logf("page %d: mean difference of squares %.2f, the most %.1f, moved by 8 pixels %.2f", n+1, same, worst, moved)
		if same > 3 || worst > 40 || moved < 3*same {
			t.Errorf("page %d: mean difference of squares %.2f, the most %.1f, moved by 8 pixels %.2f", n+1, same, worst, moved)
		}
	}
}

// The first pages alone are counted as such, and are else the same.
func TestFirst(t *testing.T) {
	d, err := Draw(phantom(t, 3, false))
	if err != nil {
		t.Fatal(err)
	}
	numbers := func(d *Document) (found []string) {
		for _, page := range d.pages {
			for _, m := range page {
				if m, ok := m.(text); ok && strings.HasPrefix(m.s, "Page ") {
					found = append(found, m.s)
				}
			}
		}
		return found
	}
	before := numbers(d)
	if got := numbers(d.First(2)); !slices.Equal(got, []string{"Page 1 of 2", "Page 2 of 2"}) {
		t.Errorf("the first two pages are numbered %q", got)
	}
	if got := numbers(d.First(999)); !slices.Equal(got, before) || !slices.Equal(numbers(d), before) || len(before) != d.Len() {
		t.Errorf("%d pages: all of them are numbered %q, afterwards %q, want %q", d.Len(), got, numbers(d), before)
	}
	differ := 0
	for i, m := range d.First(2).pages[1] {
		if !reflect.DeepEqual(m, d.pages[1][i]) {
			differ++
		}
	}
	if differ != 1 {
		t.Errorf("%d marks differ, want the number alone", differ)
	}
}

// On the page the contour lies where the bright voxels end: within half a voxel of it there is both bright and dark.
func TestContourOnThePage(t *testing.T) {
	g := centred([3]int{60, 50, 60}, [3]float64{1, 1.5, 1.25}, turned(identity, 0, math.Pi/2))
	m := maskOf(g, func(p [3]float64) bool { return distance([3]float64{p[0] - 5, p[1], p[2] + 3}) < 14 })
	im := m.On(g, [3]int{})
	v := grid(g, func([3]float64) float64 { return 0 })
	for i, in := range im.Data {
		v.Data[i] = float32(in)
	}
	views := Views(v, m, "MR", "")
	for i := range views { // without letters and bars, which are on the picture too
		views[i].Left, views[i].Right, views[i].Top, views[i].Bottom = "", "", "", ""
	}
	d, err := Draw(Sheet{Lesions: []Lesion{{Views: views}}})
	if err != nil {
		t.Fatal(err)
	}
	p := d.Picture(0)
	var area image.Rectangle
	for _, m := range d.pages[0] {
		if m, ok := m.(picture); ok {
			x, y, w, h := m.pixels()
			area = area.Union(image.Rect(x, y, x+w, y+h))
		}
	}
	found := 0
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			i := 3 * (y*p.Columns + x)
			if !bytes.Equal(p.Pix[i:i+3], orange[:]) {
				continue
			}
			found++
			bright, black := false, false
			for j := -8; j <= 8; j++ {
				for k := -8; k <= 8; k++ {
					at := 3 * ((y+j)*p.Columns + x + k)
					bright = bright || p.Pix[at] > 200 && p.Pix[at+2] > 200
					black = black || p.Pix[at] < 20 && p.Pix[at+2] < 20 && max(j, -j)+max(k, -k) > 4
				}
			}
			if !bright || !black {
				t.Fatalf("the contour at (%d, %d) is not at the edge of the bright voxels: bright %t, dark %t", x, y, bright, black)
			}
		}
	}
	if found < 500 {
		t.Errorf("%d pixels of contour", found)
	}
}

// resize against the plain formulas: the mean of whole pixels, and what lies between two.
func TestResize(t *testing.T) {
	g := image.NewGray(image.Rect(0, 0, 6, 4))
	for i := range g.Pix {
		g.Pix[i] = uint8(i * 10)
	}
	half := resize(g, 3, 2)
	for y := range 2 {
		for x := range 3 {
			sum := 0
			for j := range 2 {
				for i := range 2 {
					sum += int(g.GrayAt(2*x+i, 2*y+j).Y)
				}
			}
			if want := (sum + 2) / 4; int(half.GrayAt(x, y).Y) != want {
				t.Errorf("(%d, %d) of half the size is %d, want %d", x, y, half.GrayAt(x, y).Y, want)
			}
		}
	}
	twice := resize(g, 12, 8)
	at := func(v float64, n int) (int, float64) {
		v = min(max(v, 0), float64(n-1))
		i := min(int(v), n-2)
		return i, v - float64(i)
	}
	for y := range 8 {
		for x := range 12 {
			i, u := at((float64(x)+0.5)/2-0.5, 6)
			j, v := at((float64(y)+0.5)/2-0.5, 4)
			p := func(i, j int) float64 { return float64(g.GrayAt(i, j).Y) }
			want := (p(i, j)*(1-u)+p(i+1, j)*u)*(1-v) + (p(i, j+1)*(1-u)+p(i+1, j+1)*u)*v
			if got := float64(twice.GrayAt(x, y).Y); math.Abs(got-want) > 0.51 {
				t.Errorf("(%d, %d) of twice the size is %v, want %v", x, y, got, want)
			}
		}
	}
	if same := resize(g, 6, 4); !bytes.Equal(same.Pix, g.Pix) {
		t.Errorf("the same size has other pixels: %v", same.Pix)
	}
}

func TestWrap(t *testing.T) {
	regular, _ := faces()
	for _, s := range []string{
		"", "a", "one two three four five six seven", strings.Repeat("Wx", 300), "a " + strings.Repeat("m", 100) + " b", "Ωμέγα и ёлка",
	} {
		for _, width := range []int{1, 20 * point, 60 * point, 500 * point} {
			lines := regular.wrap(s, 8*point, width)
			if got := strings.ReplaceAll(strings.Join(lines, ""), " ", ""); got != strings.ReplaceAll(s, " ", "") {
				t.Errorf("%q at %d: %q", s, width, lines)
			}
			for _, l := range lines {
				if n := regular.width(l, 8*point); n > max(width, 8*point) {
					t.Errorf("%q is %d wide, more than %d", l, n, width)
				}
			}
			short, cut := regular.shorten(s, 8*point, max(width, 20*point))
			if n := regular.width(short, 8*point); n > max(width, 20*point) || cut == (short == s) {
				t.Errorf("%q shortened to %d is %q, %d wide, cut %t", s, width, short, n, cut)
			}
		}
	}
}

func TestPersonName(t *testing.T) {
	for pn, want := range map[string]string{
		"Adams^John Robert Quincy^^Rev.^B.A. M.Div.": "Adams, Rev. John Robert Quincy, B.A. M.Div.",
		"Yamada^Tarou=山田^太郎=やまだ^たろう":                 "Yamada, Tarou",
		"=山田^太郎": "山田, 太郎", "Doe": "Doe", "": "", "^^^^": "", "^Anna": "Anna", "a^b^c^d^e^f^g": "a, d b c, e",
	} {
		if got := PersonName(pn); got != want {
			t.Errorf("%q is %q, want %q", pn, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 12.345: "12.35", -46.91: "−46.91", 1234567: "1234567", 12345678: "1.235e+07", 0.001234: "0.001234",
		0.5: "0.5", 100: "100", 99999: "99999",
	} {
		if got := english.number(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
		if got := italian.number(v); got != strings.Replace(want, ".", ",", 1) {
			t.Errorf("%v is %q in Italian", v, got)
		}
	}
	if got := english.count(1036805); got != "1\u202f036\u202f805" {
		t.Errorf("count: %q", got)
	}
}

func BenchmarkPages(b *testing.B) {
	for _, n := range []int{1, 4} {
		s := phantom(b, n, false)
		d, err := Draw(s)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("draw/lesions=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Draw(s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(d.Len()), "pages")
		})
		b.Run(fmt.Sprintf("pdf/lesions=%d", n), func(b *testing.B) {
			size := 0
			for b.Loop() {
				pdf, err := d.PDF()
				if err != nil {
					b.Fatal(err)
				}
				size = len(pdf)
			}
			b.ReportMetric(float64(size), "bytes")
		})
		b.Run(fmt.Sprintf("pictures/lesions=%d", n), func(b *testing.B) {
			size := 0
			for b.Loop() {
				size = 0
				for k := range d.Len() {
					size += len(d.Picture(k).Pix)
				}
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
	s := synthetic(b)
	m := s.mask(b, "")
	b.Run("views", func(b *testing.B) {
		for b.Loop() {
			Views(s.volume.Grid, m, "CT", "HU")
			Count(s.volume.Grid, m)
		}
	})
}
