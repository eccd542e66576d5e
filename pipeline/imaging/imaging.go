// Package imaging turns the images of a series into one grid of physical values: PS3.3 C.7.6.2 (image plane), C.7.6.3
// (pixels), C.8.2 (CT image, Hounsfield units).
//
// Start at [Assemble]. [Check] answers from headers alone whether images form one regular stack; Assemble uses the same
// code. At present both take single-frame CT; everything else is refused by name.
//
// What makes a stack, in the terms of PS3.3 C.7.6.2.1.1:
//
//   - Slices are ordered by the projection of Image Position (Patient) on the normal, which is the cross product of the row
//     and the column direction. Instance Number, Slice Location and the order of the files say nothing.
//   - The spacing between slices is the distance from the first to the last position divided by the number of steps. No
//     slice may lie further from its regular place than a tenth of the spacing or 0.1 mm, whichever is smaller.
//   - The line of positions is parallel to the normal: no slice may lie further beside it than a quarter of a pixel.
//   - A single slice takes Slice Thickness (0018,0050) as its spacing.
package imaging

import (
	"fmt"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
)

// A Volume is an image series as one grid.
type Volume struct {
	Grid             *voxel.Grid
	Unit             string // of the values: "HU"; where Rescale Type (0028,1054) says otherwise, that type
	Modality         string
	Header           *dicom.DataSet // the first slice in order, for patient, study and equipment
	Study            string         // Study Instance UID
	Series           string         // Series Instance UID
	FrameOfReference string
	SOPClass         string
	SOPInstances     []string // in the order of slices
	Notes            []string // what the reader of a result should know
}

// A Layout is the place of every image in a stack.
type Layout struct {
	Geometry         voxel.Geometry
	Order            []int // Order[k] is the index of the image that is slice k
	SOPInstances     []string
	Study            string
	Series           string
	FrameOfReference string
	Modality         string
	SOPClass         string
	Missing          [][3]float64 // positions, LPS mm, where a slice is missing inside the stack
	Notes            []string
}

// A Refusal says why images cannot be measured. It is found with errors.As.
type Refusal struct {
	Code        string // stable, for programs: see the Code constants
	Text        string // what is wrong, with the data element
	Remedy      string // what to do about it
	SOPInstance string // the image that shows it, "" where it is the series as a whole
}

// Codes of refusal.
const (
	NoImages       = "image.none"            // nothing to assemble
	WrongModality  = "image.modality"        // not CT
	MultiFrame     = "image.multiframe"      // enhanced or multi-frame
	Localizer      = "image.localizer"       // a scout view
	Secondary      = "image.secondary"       // a capture of a screen
	Attribute      = "image.attribute"       // a data element is absent or malformed
	Photometric    = "image.photometric"     // not one grey value a pixel
	Rescale        = "image.rescale"         // no way to physical values
	Compressed     = "image.compressed"      // a transfer syntax that cannot be decoded yet
	Pixels         = "image.pixels"          // Pixel Data absent, short or unreadable
	SeriesMixed    = "series.mixed"          // images of several series or studies
	FrameMixed     = "geometry.frame"        // several frames of reference
	SizeMixed      = "geometry.size"         // Rows or Columns differ
	Orientation    = "geometry.orientation"  // directions differ, or are not at right angles
	PixelSpacing   = "geometry.pixelspacing" // spacing in the plane absent, or different
	Duplicate      = "geometry.duplicate"    // two images in one place
	Gap            = "geometry.gap"          // a slice is missing
	UnequalSpacing = "geometry.spacing"      // slices are not equally far apart
	Tilt           = "geometry.tilt"         // the stack is sheared
)

// Error returns the text with the image and the remedy.
func (r *Refusal) Error() string {
	s := r.Text
	if r.SOPInstance != "" {
		s = fmt.Sprintf("image %s: %s", r.SOPInstance, s)
	}
	if r.Remedy != "" {
		s += "; " + r.Remedy
	}
	return s
}
