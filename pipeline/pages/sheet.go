// Package pages shows a measurement to people whose viewer cannot show Structured Reports: a document in A4 pages, sent as
// an Encapsulated PDF (PS3.3 A.45.1) and as Secondary Captures of the same pages (PS3.3 A.8.1).
//
// Start at [Sheet], which is what the document says, and [Draw], which arranges it. What is drawn is a list of marks with
// whole numbers for places; pdf.go and raster.go are two ways to put the same marks down. dicom.go makes the DICOM objects,
// view.go cuts the pictures out of the images.
package pages

import (
	"image"
	"time"
)

// A Sheet is what a document for people says of the measurement of one study. All its text is the caller's and is in its
// language; of a text of any length nothing is lost: what has no room on the page of its lesion is in the appendix.
type Sheet struct {
	Language string    // "en", also where it is empty, or "it": of the labels that are not the caller's
	Title    string    // "Radiomics (IBSI)"
	Time     time.Time // of the measurement, for the properties of the PDF; 1970 where it is zero

	Patient, Study []Row // at the top of every page: see Identity
	Lesions        []Lesion
	Notes          []string // for all lesions: software, version, profile, limits; the first is at the foot of every page
}

// A Row is a label and what it labels.
type Row struct{ Label, Text string }

// A Lesion is one region: its page, and its part of the appendix.
type Lesion struct {
	Name      string
	Subtitle  string     // finding, site, side, modality
	Summary   []string   // two or three lines in plain words
	Key       []Value    // a dozen has room beside the pictures
	Histogram *Histogram // of the intensities in the region: see Count; nil where there is none
	Trend     []Trend    // four have room; none: the page says that there is no earlier report
	Views     []View     // see Views
	Families  []Family   // all values, for the appendix
	Comments  []string
}

// A Value is a number as the reader shall see it.
type Value struct{ Name, Value, Unit string }

// A Family is a group of values, as the chapters of the IBSI manual have them.
type Family struct {
	Name   string
	Values []Value
}

// A Trend is the course of one quantity over the reports of a lesion.
type Trend struct {
	Name, Unit string
	Points     []Point
}

// A Point is the value that one report has.
type Point struct {
	Time  time.Time
	Value float64
}

// A Histogram counts the voxels of a region by intensity. Counts[i] is how many lie in [Low+i·Width, Low+(i+1)·Width).
type Histogram struct {
	Unit         string
	Low, Width   float64
	Counts       []int
	Below, Above int // voxels outside the bins: of a region whose extremes are far from the rest
}

// A View is a slice through a lesion as a radiologist looks at it: the patient's right at the left, front or head at the top.
type View struct {
	Plane   Plane
	Oblique bool    // the slice is more than 10° off the plane
	Place   float64 // LPS mm of the middle of the picture along the axis that the plane is normal to

	Picture                  *image.Gray // one pixel for a voxel
	Pixel                    [2]float64  // mm from pixel to pixel along a row, and along a column
	Left, Right, Top, Bottom string      // what lies there: A, P, L, R, H, F, two letters in an oblique slice

	// Contour outlines the voxels of the region: closed lines along the corners of pixels, (0, 0) the corner at the top left.
	Contour [][]image.Point

	Low, High float64 // the intensities at the ends of the grey scale
	Inverse   bool    // High is black, as PET is read
	Unit      string  // of Low and High
}

// A Plane is one of the three that bodies are looked at in.
type Plane int

// The planes.
const (
	Axial Plane = iota
	Coronal
	Sagittal
)

// What a Sheet may hold: above, it is refused.
const (
	mostLesions = 200
	mostText    = 4 << 20 // bytes
	mostPages   = 600
)
