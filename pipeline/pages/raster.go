package pages

import (
	"image"
	stdcolor "image/color"
	"math"
	"slices"

	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// The size of a page as a picture: 150 dots an inch, where the smallest print is 14 pixels high.
const (
	PageColumns = 1240
	PageRows    = 1754
)

// A Picture is a page in pixels: red, green, blue, a byte each, as an image has them with Planar Configuration 0.
type Picture struct {
	Columns, Rows int
	Pix           []byte
}

// The methods of [image.Image].
func (p *Picture) ColorModel() stdcolor.Model { return stdcolor.RGBAModel }
func (p *Picture) Bounds() image.Rectangle    { return image.Rect(0, 0, p.Columns, p.Rows) }
func (p *Picture) At(x, y int) stdcolor.Color {
	if !image.Pt(x, y).In(p.Bounds()) {
		return stdcolor.RGBA{}
	}
	i := 3 * (y*p.Columns + x)
	return stdcolor.RGBA{p.Pix[i], p.Pix[i+1], p.Pix[i+2], 255}
}

// A raster puts marks on a Picture. All of it is whole numbers: shapes are in 1/256 of a pixel and are covered by 8 lines a
// pixel, so the same marks are the same pixels on every machine.
type raster struct {
	to     *Picture
	glyphs map[glyphKey]*stamp
	edges  []edge
	cover  []int32
	cross  []crossing
}

type glyphKey struct {
	face  *face
	index sfnt.GlyphIndex
	size  int
	shift int // quarters of a pixel to the right
}

// A stamp is the coverage of a glyph, its left top at (x, y) from the pen.
type stamp struct {
	x, y, w, h int
	alpha      []uint8
}

const (
	sub   = 256 // of a pixel
	lines = 8   // in a pixel
)

func newRaster() *raster {
	p := &Picture{Columns: PageColumns, Rows: PageRows, Pix: make([]byte, 3*PageColumns*PageRows)}
	for i := range p.Pix {
		p.Pix[i] = 255
	}
	return &raster{to: p, glyphs: map[glyphKey]*stamp{}}
}

// across and down are a place on the page in 1/256 of a pixel.
func across(x int) int { return floorDiv(x*PageColumns*sub, pageWidth) }
func down(y int) int   { return floorDiv(y*PageRows*sub, pageHeight) }

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// An edge goes down or, with way −1, up.
type edge struct{ x0, y0, x1, y1, way int }

type crossing struct{ x, way int }

func (r *raster) line(x0, y0, x1, y1 int) {
	switch {
	case y0 < y1:
		r.edges = append(r.edges, edge{x0, y0, x1, y1, 1})
	case y0 > y1:
		r.edges = append(r.edges, edge{x1, y1, x0, y0, -1})
	}
}

// scan covers what the edges go round, by the rule that winding other than 0 is inside, and hands over each row of pixels
// with its coverage, 0 to 255, from pixel x on. Edges are consumed.
func (r *raster) scan(left, top, right, bottom int, row func(x, y int, alpha []uint8)) {
	edges := r.edges
	r.edges = r.edges[:0]
	if len(edges) == 0 {
		return
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return a.y0 - b.y0 })
	x0, x1, y1 := math.MaxInt, math.MinInt, math.MinInt
	for _, e := range edges {
		x0, x1, y1 = min(x0, e.x0, e.x1), max(x1, e.x0, e.x1), max(y1, e.y1)
	}
	from, to := max(floorDiv(x0, sub), left), min(floorDiv(x1, sub)+1, right)
	if from >= to {
		return
	}
	width := to - from
	r.cover = slices.Grow(r.cover[:0], width)[:width]
	alpha := make([]uint8, width)
	var active []edge
	next := 0
	for y := max(floorDiv(edges[0].y0, sub), top); y < min(floorDiv(y1, sub)+1, bottom); y++ {
		clear(r.cover)
		for k := range lines {
			at := y*sub + sub/(2*lines) + k*(sub/lines)
			for next < len(edges) && edges[next].y0 <= at {
				active = append(active, edges[next])
				next++
			}
			active = slices.DeleteFunc(active, func(e edge) bool { return e.y1 <= at })
			r.cross = r.cross[:0]
			for _, e := range active {
				r.cross = append(r.cross, crossing{e.x0 + floorDiv((at-e.y0)*(e.x1-e.x0), e.y1-e.y0), e.way})
			}
			slices.SortFunc(r.cross, func(a, b crossing) int {
				if a.x != b.x {
					return a.x - b.x
				}
				return a.way - b.way
			})
			winding := 0
			for i, c := range r.cross {
				if winding != 0 {
					r.span(r.cross[i-1].x-from*sub, c.x-from*sub)
				}
				winding += c.way
			}
		}
		for i, c := range r.cover {
			alpha[i] = uint8(c * 255 / (lines * sub))
		}
		row(from, y, alpha)
	}
}

// span adds what lies between two places on one line.
func (r *raster) span(a, b int) {
	a, b = max(a, 0), min(b, len(r.cover)*sub)
	for a < b {
		i := a / sub
		end := min((i+1)*sub, b)
		r.cover[i] += int32(end - a)
		a = end
	}
}

func (r *raster) blend(c color) func(x, y int, alpha []uint8) {
	return func(x, y int, alpha []uint8) {
		at := 3 * (y*r.to.Columns + x)
		for i, a := range alpha {
			if a != 0 {
				r.mix(at+3*i, c, int(a))
			}
		}
	}
}

func (r *raster) mix(at int, c color, a int) {
	p := r.to.Pix[at : at+3 : at+3]
	for k := range p {
		p[k] = uint8((int(p[k])*(255-a) + int(c[k])*a + 127) / 255)
	}
}

func (r *raster) shape(c color) { r.scan(0, 0, r.to.Columns, r.to.Rows, r.blend(c)) }

func (r *raster) rectangle(x0, y0, x1, y1 int) {
	r.line(x1, y0, x1, y1)
	r.line(x0, y1, x0, y0)
}

func (r *raster) fill(f fill) {
	r.rectangle(across(f.x), down(f.y), across(f.x+f.w), down(f.y+f.h))
	r.shape(f.color)
}

func (r *raster) stroke(s stroke) {
	n := len(s.points)
	if n == 0 {
		return
	}
	last := n - 1
	if s.closed {
		last = n
	}
	half := s.width / 2
	for i := range last {
		p, q := s.points[i], s.points[(i+1)%n]
		switch {
		case p.X == q.X || p.Y == q.Y:
			r.rectangle(across(min(p.X, q.X)-half), down(min(p.Y, q.Y)-half), across(max(p.X, q.X)+half), down(max(p.Y, q.Y)+half))
		default:
			dx, dy := float64(q.X-p.X), float64(q.Y-p.Y)
			length := math.Sqrt(float64(dx*dx) + float64(dy*dy))
			nx, ny := int(math.Round(-dy*float64(half)/length)), int(math.Round(dx*float64(half)/length))
			c := [4]image.Point{{p.X - nx, p.Y - ny}, {q.X - nx, q.Y - ny}, {q.X + nx, q.Y + ny}, {p.X + nx, p.Y + ny}}
			for k := range c {
				a, b := c[k], c[(k+1)%4]
				r.line(across(a.X), down(a.Y), across(b.X), down(b.Y))
			}
		}
	}
	r.shape(s.color)
}

func (r *raster) text(t text) {
	pen := 0 // font units
	baseline := floorDiv(down(t.y)+sub/2, sub)
	for _, c := range t.s {
		g := t.face.lookup(c)
		x := across(t.x + pen*t.size/unitsPerEm)
		pen += g.advance
		quarter := floorDiv(x+sub/8, sub/4)
		s := r.stamp(glyphKey{t.face, g.index, t.size, quarter & 3})
		left, top := quarter>>2+s.x, baseline+s.y
		for j := range s.h {
			y := top + j
			if y < 0 || y >= r.to.Rows {
				continue
			}
			for i := range s.w {
				if x := left + i; s.alpha[j*s.w+i] != 0 && x >= 0 && x < r.to.Columns {
					r.mix(3*(y*r.to.Columns+x), t.color, int(s.alpha[j*s.w+i]))
				}
			}
		}
	}
}

// stamp covers a glyph once for each size and quarter of a pixel.
func (r *raster) stamp(k glyphKey) *stamp {
	if s := r.glyphs[k]; s != nil {
		return s
	}
	// An em is size/pageWidth·PageColumns pixels; the outline is in 1/64 of 1/2048 of it.
	scale := func(v fixed.Int26_6) int { return floorDiv(int(v)*k.size*PageColumns*sub, pageWidth*unitsPerEm*64) }
	place := func(p fixed.Point26_6) image.Point { return image.Pt(scale(p.X)+k.shift*sub/4, scale(p.Y)) }
	var begin, at image.Point
	to := func(p image.Point) { r.line(at.X, at.Y, p.X, p.Y); at = p }
	for _, s := range k.face.outlineOf(k.index) {
		switch s.Op {
		case sfnt.SegmentOpMoveTo:
			to(begin)
			begin = place(s.Args[0])
			at = begin
		case sfnt.SegmentOpLineTo:
			to(place(s.Args[0]))
		case sfnt.SegmentOpQuadTo:
			a, b, c := at, place(s.Args[0]), place(s.Args[1])
			const n = 6
			for i := 1; i <= n; i++ {
				u, v, w := (n-i)*(n-i), 2*i*(n-i), i*i
				to(image.Pt(floorDiv(a.X*u+b.X*v+c.X*w, n*n), floorDiv(a.Y*u+b.Y*v+c.Y*w, n*n)))
			}
		}
	}
	to(begin)
	s := &stamp{}
	first := true
	r.scan(-4*PageColumns, -4*PageRows, 4*PageColumns, 4*PageRows, func(x, y int, alpha []uint8) {
		if first {
			s.x, s.y, s.w, first = x, y, len(alpha), false
		}
		s.alpha = append(s.alpha, alpha...)
		s.h++
	})
	r.glyphs[k] = s
	return s
}

func (r *raster) picture(p picture) {
	x, y, w, h := p.pixels()
	if x < 0 || y < 0 || x+w > r.to.Columns || y+h > r.to.Rows {
		return
	}
	g := resize(p.gray, w, h)
	for j := range h {
		at := 3 * ((y+j)*r.to.Columns + x)
		for i, v := range g.Pix[j*g.Stride:][:w] {
			r.to.Pix[at+3*i], r.to.Pix[at+3*i+1], r.to.Pix[at+3*i+2] = v, v, v
		}
	}
}

// pixels is the place of a picture on the page of pixels.
func (p picture) pixels() (x, y, w, h int) {
	x, y = floorDiv(across(p.x)+sub/2, sub), floorDiv(down(p.y)+sub/2, sub)
	w, h = floorDiv(across(p.x+p.w)+sub/2, sub)-x, floorDiv(down(p.y+p.h)+sub/2, sub)-y
	return x, y, max(w, 1), max(h, 1)
}

// resize makes a picture of another size: linear between pixels where it grows, the mean of what a pixel covers where it
// shrinks.
func resize(from *image.Gray, w, h int) *image.Gray {
	b := from.Bounds()
	cols, rows := taps(b.Dx(), w), taps(b.Dy(), h)
	mid := make([]int32, w*b.Dy())
	for y := range b.Dy() {
		row := from.Pix[y*from.Stride:][:b.Dx()]
		for x, t := range cols {
			sum := 0
			for k, weight := range t.weights {
				sum += weight * int(row[t.first+k])
			}
			mid[y*w+x] = int32(sum)
		}
	}
	to := image.NewGray(image.Rect(0, 0, w, h))
	for y, t := range rows {
		for x := range w {
			sum := 0
			for k, weight := range t.weights {
				sum += weight * int(mid[(t.first+k)*w+x])
			}
			to.Pix[y*to.Stride+x] = uint8((sum + 1<<31) >> 32)
		}
	}
	return to
}

// A tap is the pixels that make one pixel of another size; the weights sum to 65536.
type tap struct {
	first   int
	weights []int
}

func taps(from, to int) []tap {
	all := make([]tap, to)
	for i := range all {
		if from > to { // covers [i·from, (i+1)·from) in 1/to of a pixel
			a, b := i*from, (i+1)*from
			first := a / to
			t := tap{first: first}
			sum := 0
			for k := first; k*to < b; k++ {
				w := (min((k+1)*to, b) - max(k*to, a)) * 65536 / from
				t.weights = append(t.weights, w)
				sum += w
			}
			t.weights[len(t.weights)/2] += 65536 - sum
			all[i] = t
			continue
		}
		// The centre is at (i+½)·from/to − ½, in 1/65536.
		c := ((2*i+1)*from*65536/to - 65536) / 2
		c = min(max(c, 0), (from-1)*65536)
		first := min(c>>16, max(from-2, 0))
		f := c - first<<16
		if from == 1 {
			all[i] = tap{0, []int{65536}}
		} else {
			all[i] = tap{first, []int{65536 - f, f}}
		}
	}
	return all
}
