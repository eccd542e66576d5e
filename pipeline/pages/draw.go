package pages

import (
	"image"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"codeberg.org/go-fonts/liberation/liberationsansbold"
	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// Places and sizes are whole thousandths of a point (1/72 inch), from the top left of the page: whole numbers are the same
// on every machine.
const (
	point      = 1000
	pageWidth  = 595276 // A4, 210 mm × 297 mm
	pageHeight = 841890
	mm         = 2835 // thousandths of a point
)

// A color is red, green, blue.
type color [3]uint8

var (
	black  = color{0, 0, 0}
	white  = color{255, 255, 255}
	dark   = color{70, 70, 70}
	light  = color{190, 190, 190}
	pale   = color{238, 241, 245}
	blue   = color{38, 84, 140}
	bar    = color{120, 155, 195}
	orange = color{255, 120, 0}
)

// A mark is one thing on a page, and lies over those before it.
type mark interface{ put(c canvas) }

// A canvas is what pages are put on: a PDF or a picture.
type canvas interface {
	text(t text)
	fill(f fill)
	stroke(s stroke)
	picture(p picture)
}

// A text is one line of characters that the face has; x is its left end, y its base line.
type text struct {
	x, y, size int
	face       *face
	color      color
	s          string
}

// A fill is a rectangle.
type fill struct {
	x, y, w, h int
	color      color
}

// A stroke is a line through points, with square ends where it is of level and upright parts.
type stroke struct {
	points []image.Point
	closed bool
	width  int
	color  color
}

// A picture is grey pixels in a rectangle, smoothed.
type picture struct {
	x, y, w, h int
	gray       *image.Gray
}

func (m text) put(c canvas)    { c.text(m) }
func (m fill) put(c canvas)    { c.fill(m) }
func (m stroke) put(c canvas)  { c.stroke(m) }
func (m picture) put(c canvas) { c.picture(m) }

// A face is a font. Liberation Sans has Latin, Greek and Cyrillic, and is as wide as Arial.
type face struct {
	name  string // of the style, as fpdf has it
	ttf   []byte
	sfnt  *sfnt.Font
	glyph map[rune]glyph
	mu    sync.Mutex // guards glyph
}

// A glyph is a character in the font: 0 is one that the font lacks.
type glyph struct {
	index   sfnt.GlyphIndex
	advance int // font units
}

const unitsPerEm = 2048 // of both faces

var faces = sync.OnceValues(func() (regular, bold *face) {
	open := func(style string, ttf []byte) *face {
		f, err := sfnt.Parse(ttf)
		if err != nil || f.UnitsPerEm() != unitsPerEm {
			panic("pages: the font in the program is not the one it was built with")
		}
		return &face{name: style, ttf: ttf, sfnt: f, glyph: map[rune]glyph{}}
	}
	return open("", liberationsansregular.TTF), open("B", liberationsansbold.TTF)
})

func (f *face) lookup(r rune) glyph {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok := f.glyph[r]
	if !ok {
		var b sfnt.Buffer
		g.index, _ = f.sfnt.GlyphIndex(&b, r)
		a, _ := f.sfnt.GlyphAdvance(&b, g.index, unitsPerEm, font.HintingNone) // at this size 1/64 pixel is 1/64 font unit
		g.advance = int(a)
		if len(f.glyph) < 1<<12 {
			f.glyph[r] = g
		}
	}
	return g
}

// width is how far the text reaches.
func (f *face) width(s string, size int) int {
	units := 0
	for _, r := range s {
		units += f.lookup(r).advance
	}
	return units * size / unitsPerEm
}

// missing stands for a character that the font lacks, or that is written from right to left: letters in the wrong order would
// be another name.
const missing = '□'

// clean makes a line that can be drawn of any string, and tells whether all of it can.
func clean(s string) (line string, whole bool) {
	regular, bold := faces()
	whole = true
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) || unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Cf, r): // marks of direction, soft hyphens: nothing to see
			return -1
		case r > 0xFFFF, r == utf8.RuneError, unicode.In(r, unicode.Hebrew, unicode.Arabic),
			regular.lookup(r).index == 0, bold.lookup(r).index == 0:
			whole = false
			return missing
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	return strings.Join(strings.Fields(s), " "), whole
}

// shorten cuts a line to a width, with three points at its end.
func (f *face) shorten(s string, size, width int) (line string, cut bool) {
	if f.width(s, size) <= width {
		return s, false
	}
	width = width * unitsPerEm / size
	room := width - f.lookup('…').advance
	units := 0
	for i, r := range s {
		if units += f.lookup(r).advance; units > room {
			return strings.TrimRight(s[:i], " ") + "…", true
		}
	}
	return s, false
}

// wrap breaks a line between words, and inside words that are longer than the width. There is always a line.
func (f *face) wrap(s string, size, width int) (lines []string) {
	limit := max(width, size) * unitsPerEm / size
	start, units := 0, 0
	space := -1 // the last blank, where the line may end
	for i, r := range s {
		a := f.lookup(r).advance
		if r == ' ' {
			space = i
		}
		if units+a > limit && i > start {
			switch {
			case r == ' ': // the blank takes the place of the break
				lines = append(lines, s[start:i])
				start, units, space = i+1, 0, -1
				continue
			case space >= start:
				lines = append(lines, s[start:space])
				start = space + 1
			default:
				lines = append(lines, s[start:i])
				start = i
			}
			units, space = 0, -1
			for _, q := range s[start:i] {
				units += f.lookup(q).advance
			}
		}
		units += a
	}
	return append(lines, s[start:])
}

// outlineOf is the shape of a glyph in 1/64 of font units, y down: quadratic curves and lines.
func (f *face) outlineOf(g sfnt.GlyphIndex) sfnt.Segments {
	var b sfnt.Buffer
	s, err := f.sfnt.LoadGlyph(&b, g, fixed.I(unitsPerEm), nil)
	if err != nil {
		return nil
	}
	return s
}
