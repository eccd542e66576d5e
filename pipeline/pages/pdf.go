package pages

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image/png"
	"time"

	"codeberg.org/go-pdf/fpdf"
)

// PDF writes the document as a PDF with text that can be searched and copied, the two faces with the characters that are
// used of them, and lines as lines.
func (d *Document) PDF() ([]byte, error) {
	c := fpdf.NewCustom(&fpdf.InitType{UnitStr: "pt", Size: fpdf.SizeType{Wd: pageWidth / 1000.0, Ht: pageHeight / 1000.0}})
	// The same bytes each time: nothing of the clock, nothing in the order of a map.
	at := d.time
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	c.SetCreationDate(at.UTC())
	c.SetModificationDate(at.UTC())
	c.SetCatalogSort(true)
	c.SetProducer("radnode", true)
	c.SetTitle(d.title, true)
	c.SetLang(d.words.language)
	c.SetAutoPageBreak(false, 0)
	c.SetMargins(0, 0, 0)
	regular, bold := faces()
	for _, f := range []*face{regular, bold} {
		c.AddUTF8FontFromBytes("liberation", f.name, f.ttf)
	}
	p := pdf{Fpdf: c, widths: map[int]bool{}}
	for _, page := range d.pages {
		c.AddPage()
		for _, m := range page {
			m.put(&p)
		}
	}
	var b bytes.Buffer
	if err := c.Output(&b); err != nil {
		return nil, fmt.Errorf("pages: writing the PDF: %w", err)
	}
	return b.Bytes(), nil
}

type pdf struct {
	*fpdf.Fpdf
	widths map[int]bool // of pictures, in pixels
}

func pt(v int) float64 { return float64(v) / point }

func (p *pdf) text(t text) {
	p.SetFont("liberation", t.face.name, pt(t.size))
	p.SetTextColor(int(t.color[0]), int(t.color[1]), int(t.color[2]))
	p.Text(pt(t.x), pt(t.y), t.s)
}

func (p *pdf) fill(f fill) {
	p.SetFillColor(int(f.color[0]), int(f.color[1]), int(f.color[2]))
	p.Rect(pt(f.x), pt(f.y), pt(f.w), pt(f.h), "F")
}

func (p *pdf) stroke(s stroke) {
	if len(s.points) == 0 {
		return
	}
	p.SetDrawColor(int(s.color[0]), int(s.color[1]), int(s.color[2]))
	p.SetLineWidth(pt(s.width))
	for i, q := range s.points {
		if i == 0 {
			p.MoveTo(pt(q.X), pt(q.Y))
		} else {
			p.LineTo(pt(q.X), pt(q.Y))
		}
	}
	if s.closed {
		p.ClosePath()
	}
	p.DrawPath("D")
}

func (p *pdf) picture(m picture) {
	_, _, w, h := m.pixels()
	for p.widths[w] { // the library writes pictures by their width, and those of one width in the order of a map
		w++
	}
	p.widths[w] = true
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := e.Encode(&b, resize(m.gray, w, h)); err != nil {
		p.SetError(err)
		return
	}
	name := fmt.Sprintf("%x", sha256.Sum256(b.Bytes())) // a picture that is there twice is written once
	p.RegisterImageOptionsReader(name, fpdf.ImageOptions{ImageType: "png"}, &b)
	p.ImageOptions(name, pt(m.x), pt(m.y), pt(m.w), pt(m.h), false, fpdf.ImageOptions{ImageType: "png"}, 0, "")
}
