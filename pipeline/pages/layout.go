package pages

import (
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
	"time"
)

// A Document is a Sheet on pages. It may be used by several goroutines.
type Document struct {
	title string
	time  time.Time
	words *words
	pages [][]mark
	// number marks page n, from 0, as one of several; it is the mark at place of each page.
	number func(n, of int) mark
	place  int
}

// First is a document of the first pages alone, counted as such. Lesions come first, each with a page.
func (d *Document) First(n int) *Document {
	first := *d
	first.pages = nil
	for i := range min(n, d.Len()) {
		page := slices.Clone(d.pages[i])
		page[d.place] = d.number(i, min(n, d.Len()))
		first.pages = append(first.pages, page)
	}
	return &first
}

// Len is the number of pages.
func (d *Document) Len() int { return len(d.pages) }

// Picture is page n, from 0, in pixels.
func (d *Document) Picture(n int) *Picture {
	r := newRaster()
	for _, m := range d.pages[n] {
		m.put(r)
	}
	return r.to
}

// The places that all pages have in common.
const (
	margin     = 36 * point
	width      = pageWidth - 2*margin
	bodyBottom = 800 * point
	headTop    = 54 * point
	headRow    = 11*point + 500
	headRows   = 8 // lines of patient and of study
	headLines  = 3 // of one text
)

// Draw arranges a sheet on pages: one for each lesion, in their order, then an appendix with all values and with what had no
// room. It refuses a sheet above the limits of this package alone.
func Draw(s Sheet) (*Document, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	l := layout{sheet: s, words: wordsOf(s.Language)}
	l.regular, l.bold = faces()
	d := &Document{title: l.clean(s.Title), time: s.Time, words: l.words}

	l.bodyTop = headTop + l.head()*headRow + 14*point
	if title := d.title; l.bold.width(title, 12*point) > width-100*point {
		l.shortened = append(l.shortened, Row{"", title})
	}
	l.page = nil
	rests := []rest{{shortened: l.taken()}}
	for i, lesion := range s.Lesions {
		rests = append(rests, l.lesion(i, lesion))
		l.end()
	}
	if len(s.Lesions) == 0 {
		l.text(margin, l.bodyTop+12*point, 11*point, l.regular, black, l.words.noLesion)
	}
	if err := l.appendix(rests); err != nil {
		return nil, err
	}
	if len(l.page) > 0 {
		l.end()
	}
	frame := l.frame()
	d.place = len(frame)
	d.number = func(n, of int) mark {
		at := layout{}
		at.textRight(margin+width, 40*point, 9*point, l.regular, black, fmt.Sprintf(l.words.page, n+1, of))
		return at.page[0]
	}
	for n, body := range l.pages {
		d.pages = append(d.pages, slices.Concat(frame, []mark{d.number(n, len(l.pages))}, body))
	}
	return d, nil
}

func (s Sheet) check() error {
	if n := len(s.Lesions); n > mostLesions {
		return fmt.Errorf("pages: %d lesions, the most is %d; leave regions out", n, mostLesions)
	}
	size := 0
	text := func(all ...string) {
		for _, t := range all {
			size += len(t) + 16
		}
	}
	values := func(all []Value) {
		for _, v := range all {
			text(v.Name, v.Value, v.Unit)
		}
	}
	text(s.Title)
	text(s.Notes...)
	for _, r := range slices.Concat(s.Patient, s.Study) {
		text(r.Label, r.Text)
	}
	for _, l := range s.Lesions {
		text(l.Name, l.Subtitle)
		text(l.Summary...)
		text(l.Comments...)
		values(l.Key)
		for _, f := range l.Families {
			text(f.Name)
			values(f.Values)
		}
		for _, t := range l.Trend {
			text(t.Name, t.Unit)
			size += 48 * len(t.Points)
		}
	}
	if size > mostText {
		return fmt.Errorf("pages: %d bytes of text, the most is %d; shorten comments", size, mostText)
	}
	return nil
}

type layout struct {
	sheet         Sheet
	words         *words
	regular, bold *face
	bodyTop       int
	pages         [][]mark
	page          []mark
	lacking       bool  // a character could not be shown
	shortened     []Row // texts that were cut since taken
	under         int   // below the table of key values
}

func (l *layout) end() { l.pages, l.page = append(l.pages, l.page), nil }

// taken are the texts that were cut since it was called before.
func (l *layout) taken() []Row {
	rows := l.shortened
	l.shortened = nil
	return rows
}

func (l *layout) put(m ...mark) { l.page = append(l.page, m...) }

func (l *layout) clean(s string) string {
	s, whole := clean(s)
	l.lacking = l.lacking || !whole
	return s
}

// text puts down one line that has room. It is clean.
func (l *layout) text(x, y, size int, f *face, c color, s string) {
	if s != "" {
		l.put(text{x: x, y: y, size: size, face: f, color: c, s: s})
	}
}

func (l *layout) textRight(x, y, size int, f *face, c color, s string) {
	l.text(x-f.width(s, size), y, size, f, c, s)
}

// fit puts down one line that may be cut to a width; its whole text then goes to the appendix under a label.
func (l *layout) fit(x, y, size, width int, f *face, c color, label, s string) {
	line, cut := f.shorten(s, size, width)
	if cut {
		l.shortened = append(l.shortened, Row{label, s})
	}
	l.text(x, y, size, f, c, line)
}

// block puts down a text in at most so many lines, and returns where the next one begins.
func (l *layout) block(x, y, size, width, most int, f *face, c color, s string) int {
	if s == "" {
		return y
	}
	lines := f.wrap(s, size, width)
	for i, line := range lines {
		y += size * 5 / 4
		if i == most-1 && len(lines) > most {
			line, _ = f.shorten(line+"…", size, width)
			l.text(x, y, size, f, c, line)
			l.shortened = append(l.shortened, Row{"", s})
			break
		}
		l.text(x, y, size, f, c, line)
	}
	return y
}

// frame is what every page has but for its number: who the patient is.
func (l *layout) frame() []mark {
	l.page = nil
	l.put(fill{0, 0, pageWidth, 7 * point, blue})
	title, _ := l.bold.shorten(l.clean(l.sheet.Title), 12*point, width-100*point)
	l.text(margin, 40*point, 12*point, l.bold, blue, title)
	l.put(fill{margin, headTop - 6*point, width, l.bodyTop - headTop - 6*point, pale})
	l.head()
	l.put(fill{margin, bodyBottom + 4*point, width, point / 2, light})
	if len(l.sheet.Notes) > 0 {
		note, _ := l.regular.shorten(l.clean(l.sheet.Notes[0]), 7*point, width)
		l.text(margin, bodyBottom+13*point, 7*point, l.regular, dark, note)
	}
	if l.lacking {
		l.text(margin, bodyBottom+22*point, 7*point, l.regular, dark, l.words.missing)
	}
	marks := l.page
	l.page = nil
	return marks
}

// head puts down the rows of patient and study, side by side, and returns how many lines that takes.
func (l *layout) head() (most int) {
	half := width/2 - 6*point
	for k, rows := range [][]Row{l.sheet.Patient, l.sheet.Study} {
		x := margin + 6*point + k*(width/2)
		labels := 0
		for _, r := range rows {
			labels = max(labels, l.regular.width(l.clean(r.Label), 7*point+500))
		}
		labels = min(labels, 90*point)
		line := 0
		for i, r := range rows {
			label, s := l.clean(r.Label), l.clean(r.Text)
			f := l.regular
			if k == 0 && i < 2 { // the patient's name and identifier
				f = l.bold
			}
			all := f.wrap(s, 9*point, half-labels-12*point)
			if line+min(len(all), headLines) > headRows {
				l.shortened = append(l.shortened, Row{label, s})
				continue
			}
			if len(all) > headLines {
				all = all[:headLines]
				all[headLines-1], _ = f.shorten(all[headLines-1]+"…", 9*point, half-labels-12*point)
				l.shortened = append(l.shortened, Row{label, s})
			}
			l.fit(x, headTop+(line+1)*headRow-3*point, 7*point+500, labels, l.regular, dark, s, label)
			for _, t := range all {
				line++
				l.text(x+labels+6*point, headTop+line*headRow-3*point, 9*point, f, black, t)
			}
		}
		most = max(most, line)
	}
	return most
}

// A rest is what has no room on the page of its lesion, for the appendix.
type rest struct {
	name      string
	summary   []string
	key       []Value
	trend     []Trend
	families  []Family
	comments  []string
	shortened []Row
}

func (l *layout) lesion(i int, x Lesion) (r rest) {
	w := l.words
	r.name, r.trend, r.families = l.clean(x.Name), x.Trend, x.Families
	y := l.bodyTop
	number := fmt.Sprintf(w.lesion, i+1, len(l.sheet.Lesions))
	room := l.regular.width(number, 9*point)
	l.textRight(margin+width, y+18*point, 9*point, l.regular, dark, number)
	y = l.block(margin, y, 15*point, width-room-12*point, 2, l.bold, black, r.name)
	y = l.block(margin, y+point, 9*point, width, 2, l.regular, dark, l.clean(x.Subtitle))

	if len(x.Summary) > 0 {
		var all []string
		for _, s := range x.Summary {
			all = append(all, l.regular.wrap(l.clean(s), 9*point+500, width-10*point)...)
		}
		const most = 7
		if len(all) > most {
			all = all[:most]
			all[most-1], _ = l.regular.shorten(all[most-1]+"…", 9*point+500, width-10*point)
			r.summary = x.Summary
		}
		top := y + 6*point
		y = top
		for _, s := range all {
			y += 12 * point
			l.text(margin+10*point, y, 9*point+500, l.regular, black, s)
		}
		y += 4 * point
		l.put(fill{margin, top, 2*point + 500, y - top, blue})
	}
	y += 10 * point

	var comments [][]string
	lines := 0
	for _, s := range x.Comments {
		c := l.regular.wrap(l.clean(s), 8*point, width)
		comments = append(comments, c)
		lines += len(c)
	}
	trends := drawable(x.Trend)
	courseHeight := 104 * point
	if len(trends) == 0 {
		courseHeight = 28 * point
	}
	space := 0
	if lines > 0 {
		space = 16*point + min(lines, 7)*10*point
	}
	// The pictures take what is left: a large one and two of half its size below.
	const column = 262 * point
	big := min(column, (bodyBottom-y-courseHeight-14*point-space-34*point)*2/3)
	big = max(big, 120*point)
	small := (big - 8*point) / 2
	bottom := y + big + 12*point + 6*point + small + 12*point
	left := margin + width - big
	l.views(left, y, big, small, x.Views)

	// Values and intensities beside them.
	gap := 16 * point
	r.key = l.key(margin, y, left-gap-margin, bottom-112*point, x.Key)
	l.histogram(margin, max(l.under, bottom-210*point), left-gap-margin, bottom, x.Histogram)
	y = bottom + 10*point
	l.course(margin, y, width, courseHeight, trends)
	y += courseHeight + 6*point

	if len(comments) > 0 {
		y += 8 * point
		heading := w.comments
		at := y
		y += 2 * point
		for i, c := range comments {
			if y+len(c)*10*point > bodyBottom-2*point {
				heading += " (" + w.appendix + ")"
				r.comments = x.Comments[i:]
				break
			}
			for _, s := range c {
				y += 10 * point
				l.text(margin, y, 8*point, l.regular, black, s)
			}
		}
		l.text(margin, at, 8*point+500, l.bold, blue, heading)
	}
	r.shortened = l.taken()
	return r
}

// finite tells whether a number can have a place on a plot.
func finite(v float64) bool { return math.Abs(v) < 1e300 }

// key puts down the table of key values and returns those that have no room.
func (l *layout) key(x, y, w, bottom int, values []Value) []Value {
	l.under = y
	if len(values) == 0 {
		return nil
	}
	l.text(x, y+8*point, 8*point+500, l.bold, blue, l.words.key)
	y += 12 * point
	const size = 8*point + 500
	unitRoom := 48 * point
	valueRoom := 58 * point
	nameRoom := w - unitRoom - valueRoom - 10*point
	for i, v := range values {
		name, value, unit := l.clean(v.Name), l.clean(v.Value), l.clean(v.Unit)
		names := l.regular.wrap(name, size, nameRoom)
		if len(names) > 2 {
			names[1], _ = l.regular.shorten(names[1]+"…", size, nameRoom)
			names = names[:2]
			l.shortened = append(l.shortened, Row{name, value + " " + unit})
		}
		height := 13*point + (len(names)-1)*10*point
		if i >= 12 || y+height > bottom {
			l.under = y + 8*point
			return values[i:]
		}
		if i%2 == 0 {
			l.put(fill{x, y, w, height, pale})
		}
		base := y + 9*point + 500
		for k, s := range names {
			l.text(x+4*point, base+k*10*point, size, l.regular, black, s)
		}
		line, cut := l.bold.shorten(value, size, valueRoom)
		if cut {
			l.shortened = append(l.shortened, Row{name, value + " " + unit})
		}
		l.textRight(x+w-unitRoom-2*point, base, size, l.bold, black, line)
		l.fit(x+w-unitRoom+2*point, base, size-point, unitRoom-4*point, l.regular, dark, name, unit)
		y += height
	}
	l.under = y + 8*point
	return nil
}

// views puts down three pictures, the first one large.
func (l *layout) views(x, y, big, small int, views []View) {
	places := [][3]int{{x, y, big}, {x, y + big + 18*point, small}, {x + big - small, y + big + 18*point, small}}
	if len(views) == 0 {
		l.put(fill{x, y, big, big, pale})
		s := l.words.noPicture
		l.text(x+(big-l.regular.width(s, 9*point))/2, y+big/2, 9*point, l.regular, dark, s)
		return
	}
	for i, v := range views[:min(len(views), 3)] {
		first := views[0]
		same := i > 0 && v.Low == first.Low && v.High == first.High && v.Unit == first.Unit
		l.view(places[i][0], places[i][1], places[i][2], v, !same)
	}
}

// view puts down one picture; window tells whether the caption has the ends of the grey scale.
func (l *layout) view(x, y, side int, v View, window bool) {
	ground, ink := black, white
	if v.Inverse {
		ground, ink = white, black
	}
	l.put(fill{x - point/2, y - point/2, side + point, side + point, light}, fill{x, y, side, side, ground})
	if v.Picture == nil || v.Picture.Bounds().Empty() || v.Picture.Bounds().Dx() > 1<<13 || v.Picture.Bounds().Dy() > 1<<13 ||
		!(v.Pixel[0] > 1e-6 && v.Pixel[1] > 1e-6 && v.Pixel[0] < 1e6 && v.Pixel[1] < 1e6) {
		s := l.words.noPicture
		l.text(x+(side-l.regular.width(s, 8*point))/2, y+side/2, 8*point, l.regular, ink, s)
		return
	}
	cols, rows := v.Picture.Bounds().Dx(), v.Picture.Bounds().Dy()
	across, down := float64(float64(cols)*v.Pixel[0]), float64(float64(rows)*v.Pixel[1]) // mm
	perMM := float64(side) / max(across, down)
	w, h := int(math.Round(float64(across*perMM))), int(math.Round(float64(down*perMM)))
	w, h = max(min(w, side), point/2), max(min(h, side), point/2)
	px, py := x+(side-w)/2, y+(side-h)/2
	l.put(picture{x: px, y: py, w: w, h: h, gray: v.Picture})

	thin := min(900, side/180) // finer on a small picture
	for _, wide := range []bool{true, false} {
		for _, c := range v.Contour {
			points := make([]image.Point, 0, len(c))
			for _, p := range c {
				if p.X < 0 || p.Y < 0 || p.X > cols || p.Y > rows {
					points = nil
					break
				}
				points = append(points, image.Pt(px+p.X*w/cols, py+p.Y*h/rows))
			}
			if len(points) == 0 {
				continue
			}
			if wide {
				l.put(stroke{points: points, closed: true, width: 2 * thin, color: color{40, 20, 0}})
			} else {
				l.put(stroke{points: points, closed: true, width: thin, color: orange})
			}
		}
	}
	// Where is what, on a ground of its own: the picture below may be of any grey.
	const size = 8 * point
	mark := func(cx, base int, s string) {
		s, _ = l.bold.shorten(l.clean(s), size, 16*point)
		if s == "" {
			return
		}
		n := l.bold.width(s, size)
		l.put(fill{cx - n/2 - point, base - 6*point - 500, n + 2*point, 7*point + 500, ground})
		l.text(cx-n/2, base, size, l.bold, ink, s)
	}
	mark(x+side/2, y+9*point, v.Top)
	mark(x+side/2, y+side-3*point, v.Bottom)
	mark(x+9*point, y+side/2+3*point, v.Left)
	mark(x+side-9*point, y+side/2+3*point, v.Right)

	// A bar of a round length, at most a third of the side.
	length := 0.0
	for _, c := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		if c*perMM <= float64(side)/3 {
			length = c
		}
	}
	if length > 0 {
		n := int(math.Round(float64(length * perMM)))
		s := fmt.Sprintf("%.0f mm", length)
		box := max(n, l.regular.width(s, 7*point))
		l.put(fill{x + 3*point, y + side - 15*point, box + 4*point, 13 * point, ground},
			fill{x + 5*point, y + side - 4*point - 500, n, point + 200, ink})
		l.text(x+5*point, y+side-7*point, 7*point, l.regular, ink, s)
	}

	// What it is.
	caption := ""
	if v.Plane >= Axial && v.Plane <= Sagittal {
		caption = l.words.planes[v.Plane]
		if v.Oblique {
			caption += " (" + l.words.oblique + ")"
		}
		if finite(v.Place) {
			caption += ", " + [3]string{"z", "y", "x"}[v.Plane] + " " + l.words.decimal(fmt.Sprintf("%.1f", v.Place)) + " mm"
		}
	}
	ends := ""
	if window && finite(v.Low) && finite(v.High) {
		ends = l.words.number(v.Low) + " " + l.words.to + " " + l.words.number(v.High) + " " + l.clean(v.Unit)
	}
	room := min(l.regular.width(ends, 6*point+500), side/2)
	line, _ := l.regular.shorten(caption, 6*point+500, side-room-4*point)
	l.text(x, y+side+8*point, 6*point+500, l.regular, dark, line)
	line, _ = l.regular.shorten(ends, 6*point+500, room)
	l.textRight(x+side, y+side+8*point, 6*point+500, l.regular, dark, line)
}

// An axis maps values to places.
type axis struct {
	low, high float64
	from, to  int
	step      float64
}

func newAxis(low, high float64, from, to, ticks int) axis {
	return axis{low, high, from, to, nice((high - low) / float64(ticks))}
}

func (a axis) place(v float64) int {
	return a.from + int(math.Round(float64((v-a.low)/(a.high-a.low)*float64(a.to-a.from))))
}

// ticks visits the round values on the axis.
func (a axis) ticks(do func(v float64)) {
	first := math.Ceil(a.low/a.step - 1e-9)
	for k := range 40 {
		v := float64((first + float64(k)) * a.step)
		if v > a.high+float64(1e-9*a.step) {
			return
		}
		do(v)
	}
}

func (l *layout) histogram(x, y, w, bottom int, h *Histogram) {
	if h == nil || len(h.Counts) == 0 || len(h.Counts) > 1000 || !(h.Width > 0) || bottom-y < 60*point {
		return
	}
	n := len(h.Counts)
	high := h.Low + float64(float64(n)*h.Width)
	if !finite(h.Low) || !finite(high) || !(high > h.Low) {
		return
	}
	most, total := 1, max(h.Below, 0)+max(h.Above, 0)
	for _, c := range h.Counts {
		most = max(most, c)
		total += max(c, 0)
	}
	heading := l.words.histogram
	l.text(x, y+8*point, 8*point+500, l.bold, blue, heading)
	counts := l.words.count(total) + " " + l.words.voxels
	l.textRight(x+w, y+8*point, 7*point, l.regular, dark, counts)
	unit := l.clean(h.Unit)
	if h.Below > 0 || h.Above > 0 {
		s, _ := l.regular.shorten(fmt.Sprintf(l.words.outside, h.Below, h.Above), 6*point+500, w)
		l.textRight(x+w, y+17*point, 6*point+500, l.regular, dark, s)
	}
	top, base := y+22*point, bottom-20*point
	across, up := newAxis(h.Low, high, x+6*point, x+w-6*point, 5), newAxis(0, float64(most), base, top, 3)
	for i, c := range h.Counts {
		if c <= 0 {
			continue
		}
		a := across.from + i*(across.to-across.from)/n
		b := across.from + (i+1)*(across.to-across.from)/n
		p := up.place(float64(c))
		l.put(fill{a, p, max(b-a-300, 300), base - p, bar})
	}
	l.put(fill{x, base, w, point / 2, dark})
	l.ticksBelow(across, base, x, x+w)
	l.unitBelow(x, bottom, w, unit)
}

// ticksBelow puts down the values of a level axis; those that would lie over the one before are left out.
func (l *layout) ticksBelow(a axis, base, left, right int) {
	const size = 6*point + 500
	last := math.MinInt
	a.ticks(func(v float64) {
		p := a.place(v)
		l.put(fill{p - point/4, base, point / 2, 3 * point, dark})
		s := l.words.tick(v, a.step)
		n := l.regular.width(s, size)
		at := min(max(p-n/2, left), right-n)
		if at < last+4*point && last != math.MinInt {
			return
		}
		l.text(at, base+10*point, size, l.regular, dark, s)
		last = at + n
	})
}

func (l *layout) unitBelow(x, bottom, w int, unit string) {
	s, _ := l.regular.shorten(unit, 6*point+500, w)
	l.textRight(x+w, bottom-2*point, 6*point+500, l.regular, dark, s)
}

// drawable are the trends that have room, with the points that can be drawn in the order of time.
func drawable(trends []Trend) (drawn []Trend) {
	for _, t := range trends {
		var p []Point
		for _, q := range t.Points {
			if finite(q.Value) && q.Time.Year() > 0 && q.Time.Year() < 10000 {
				p = append(p, q)
			}
		}
		slices.SortStableFunc(p, func(a, b Point) int { return a.Time.Compare(b.Time) })
		if len(p) > 100 {
			p = p[len(p)-100:]
		}
		if len(p) > 0 && len(drawn) < 4 {
			drawn = append(drawn, Trend{t.Name, t.Unit, p})
		}
	}
	return drawn
}

// course puts down one small plot for each quantity; all points are in the appendix.
func (l *layout) course(x, y, w, h int, drawn []Trend) {
	l.put(fill{x, y - 4*point, w, point / 2, light})
	l.text(x, y+8*point, 8*point+500, l.bold, blue, l.words.course)
	if len(drawn) == 0 {
		l.text(x, y+21*point, 8*point+500, l.regular, black, l.words.noEarlier)
		return
	}
	each := min((w-(len(drawn)-1)*12*point)/len(drawn), 200*point)
	for i, t := range drawn {
		l.trend(x+i*(each+12*point), y+12*point, each, h-12*point, t)
	}
}

func (l *layout) trend(x, y, w, h int, t Trend) {
	const size = 6*point + 500
	p := t.Points
	name := l.clean(t.Name)
	if unit := l.clean(t.Unit); unit != "" {
		name += " (" + unit + ")"
	}
	line, _ := l.regular.shorten(name, 7*point+500, w)
	l.text(x, y+8*point, 7*point+500, l.regular, black, line)
	low, high := p[0].Value, p[0].Value
	for _, q := range p {
		low, high = min(low, q.Value), max(high, q.Value)
	}
	pad := (high - low) / 4 // for the labels
	if !(pad > 0) {
		pad = max(math.Abs(low)/10, 1e-6)
	}
	low, high = low-pad, high+pad
	top, base := y+14*point, y+h-14*point
	up := newAxis(low, high, base, top, 3)
	room := 0
	up.ticks(func(v float64) { room = max(room, l.regular.width(l.words.tick(v, up.step), size)) })
	room = min(room, w/2)
	left := x + room + 4*point
	up.ticks(func(v float64) {
		at := up.place(v)
		l.put(fill{left, at, x + w - left, point / 3, color{225, 225, 225}})
		l.textRight(left-3*point, at+2*point, size, l.regular, dark, l.words.tick(v, up.step))
	})
	l.put(fill{left, base, x + w - left, point / 2, dark})
	from, to := p[0].Time, p[len(p)-1].Time
	span := to.Unix() - from.Unix()
	place := func(q Point) image.Point {
		px := (left + x + w) / 2
		if span > 0 {
			a, b := left+8*point, x+w-14*point
			px = a + int(float64(q.Time.Unix()-from.Unix())/float64(span)*float64(b-a))
		}
		return image.Pt(px, up.place(q.Value))
	}
	var points []image.Point
	for _, q := range p {
		points = append(points, place(q))
	}
	if len(points) > 1 {
		l.put(stroke{points: points, width: point, color: blue})
	}
	for i, q := range points {
		c := bar
		if i == len(points)-1 {
			c = blue
		}
		l.put(fill{q.X - 2*point, q.Y - 2*point, 4 * point, 4 * point, c})
	}
	// The last value, which is this report's, and the first.
	label := func(q, beside Point) { // on the side where the line is not
		at := place(q)
		s := l.words.number(q.Value)
		n := l.bold.width(s, 7*point)
		y := at.Y - 4*point
		if beside.Value > q.Value {
			y = at.Y + 9*point
		}
		l.text(min(max(at.X-n/2, left), x+w-n), y, 7*point, l.bold, blue, s)
	}
	label(p[len(p)-1], p[max(len(p)-2, 0)])
	first, last := l.words.day(from), l.words.day(to)
	if span <= 0 {
		n := l.regular.width(last, size)
		l.text((left+x+w-n)/2, base+9*point, size, l.regular, dark, last)
		return
	}
	if n := l.regular.width(first, size) + l.regular.width(last, size); n+6*point <= x+w-left {
		label(p[0], p[1])
		l.text(left, base+9*point, size, l.regular, dark, first)
	}
	l.textRight(x+w, base+9*point, size, l.regular, dark, last)
}

var errPages = errors.New("pages: the sheet makes too many pages; leave texts or regions out")

// appendix puts down all values in two columns, a lesion after the other, and the notes.
func (l *layout) appendix(rests []rest) error {
	f := &flow{layout: l, column: 2}
	if len(l.page) > 0 { // a page without lesions is not full
		f.column, f.y = 0, l.bodyTop+28*point
	}
	w := l.words
	for i, r := range rests {
		title := w.all + ": " + r.name
		if i == 0 {
			title = ""
		}
		f.chapter(title)
		if len(r.summary) > 0 {
			f.heading(w.summary)
			f.paragraphs(r.summary)
		}
		if len(r.shortened) > 0 {
			f.heading(w.shortened)
			for _, row := range r.shortened {
				if row.Label != "" {
					row.Text = row.Label + ": " + row.Text
				}
				f.paragraph(row.Text)
			}
		}
		if len(r.key) > 0 {
			f.heading(w.key)
			f.values(r.key)
		}
		for _, family := range r.families {
			f.heading(family.Name)
			f.values(family.Values)
		}
		for _, t := range r.trend {
			var values []Value
			for _, p := range t.Points {
				values = append(values, Value{w.day(p.Time), w.number(p.Value), t.Unit})
			}
			if len(values) > 0 {
				f.heading(w.course + ": " + t.Name)
				f.values(values)
			}
		}
		if len(r.comments) > 0 {
			f.heading(w.comments)
			f.paragraphs(r.comments)
		}
	}
	if len(l.sheet.Notes) > 0 {
		f.chapter(w.notes)
		f.paragraphs(l.sheet.Notes)
	}
	if len(l.pages) > mostPages {
		return errPages
	}
	return nil
}

// A flow fills columns and pages.
type flow struct {
	*layout
	column, y int
	title     string // of the chapter
	pending   string // a title that has nothing below it yet
	family    string // the same for a heading
}

const (
	columnWidth = (width - 20*point) / 2
	small       = 7*point + 500
	pitch       = 9*point + 300
)

func (f *flow) x() int { return margin + f.column*(columnWidth+20*point) }

// chapter begins what belongs to one lesion; its title is put down with the first line below it.
func (f *flow) chapter(title string) { f.title, f.pending, f.family = title, title, "" }

// heading names what follows. Its whole text is below it where it is longer than a line.
func (f *flow) heading(s string) {
	s = f.clean(s)
	line, cut := f.bold.shorten(s, 8*point, columnWidth)
	f.family = line
	if cut {
		f.paragraph(s)
	}
}

// room makes sure of a height, in a new column or page where it has to be. A column is never left for less.
func (f *flow) room(height int) {
	need := height
	if f.pending != "" {
		need += 26 * point
	}
	if f.family != "" {
		need += 14 * point
	}
	if f.column > 1 || f.y+need > bodyBottom {
		f.next()
	}
	if f.pending != "" {
		if f.y > f.top() {
			f.y += 10 * point
		}
		f.titleLine(f.pending, "")
		f.pending = ""
	}
	if f.family != "" {
		f.y += 12 * point
		f.text(f.x(), f.y, 8*point, f.bold, blue, f.family)
		f.y += 2 * point
		f.family = ""
	}
}

func (f *flow) top() int { return f.bodyTop }

func (f *flow) next() {
	if f.column++; f.column > 1 {
		if len(f.page) > 0 {
			f.end()
		}
		f.column = 0
	}
	f.y = f.top()
	if f.column == 0 && f.page == nil {
		f.put(fill{margin + columnWidth + 10*point, f.bodyTop, point / 3, bodyBottom - f.bodyTop, light})
	}
	if f.pending == "" && f.title != "" {
		f.titleLine(f.title, " ("+f.words.continued+")")
	}
}

func (f *flow) titleLine(s, more string) {
	f.y += 10 * point
	line, _ := f.bold.shorten(f.clean(s), 9*point+500, columnWidth-f.bold.width(more, 9*point+500))
	f.text(f.x(), f.y, 9*point+500, f.bold, black, line+more)
	f.y += 4 * point
	f.put(fill{f.x(), f.y, columnWidth, point / 2, blue})
	f.y += 2 * point
}

func (f *flow) paragraphs(all []string) {
	for _, s := range all {
		f.paragraph(s)
	}
}

func (f *flow) paragraph(s string) {
	if len(f.pages) > mostPages { // refused in the end
		return
	}
	for _, line := range f.regular.wrap(f.clean(s), small, columnWidth) {
		f.room(pitch)
		f.y += pitch
		f.text(f.x(), f.y, small, f.regular, black, line)
	}
	f.y += 3 * point
}

// values puts down a line for each: name at the left, number and unit at the right. What is too long for that goes below.
func (f *flow) values(values []Value) {
	units := 12 * point
	for _, v := range values {
		if n := f.regular.width(f.clean(v.Unit), small); n <= 60*point {
			units = max(units, n)
		}
	}
	const valueRoom = 50 * point
	nameRoom := columnWidth - units - valueRoom - 8*point
	for _, v := range values {
		if len(f.pages) > mostPages {
			return
		}
		name, value, unit := f.clean(v.Name), f.clean(v.Value), f.clean(v.Unit)
		names := f.regular.wrap(name, small, nameRoom)
		if f.regular.width(value, small) > valueRoom || f.regular.width(unit, small) > units || len(names) > 4 {
			f.paragraph(name + ": " + value + " " + unit)
			continue
		}
		f.room(len(names) * pitch)
		for i, s := range names {
			f.y += pitch
			f.text(f.x(), f.y, small, f.regular, black, s)
			if i == 0 {
				f.textRight(f.x()+columnWidth-units-3*point, f.y, small, f.regular, black, value)
				f.text(f.x()+columnWidth-units, f.y, small, f.regular, dark, unit)
			}
		}
		f.put(fill{f.x(), f.y + 2*point, columnWidth, point / 4, color{222, 222, 222}})
	}
}
