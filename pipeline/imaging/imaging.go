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
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
)

// A Volume is an image series as one grid.
type Volume struct {
	Grid             *voxel.Grid
	Unit             string // of the values: "HU"; where refusal.ImageRescale Type (0028,1054) says otherwise, that type
	Modality         string
	Header           *dicom.DataSet // the first slice in order, for patient, study and equipment
	Study            string         // Study Instance UID
	Series           string         // Series Instance UID
	FrameOfReference string
	SOPClass         string
	SOPInstances     []string // in the order of slices
	FrameNumbers     []int    // of each slice in its instance, from 1; nil where the images are single-frame
	Notes            []string // what the reader of a result should know
	Lossy            string   // how the images were compressed with loss, "" where they were not
	SUV              *SUV     // how the values became standardised uptake values, nil where they are none
}

// Options say what is wanted of a series.
type Options struct {
	SUV SUVKind // of PET images; "" = body weight
	// Named are the instances that the contours name. Where a series holds several stacks (phases, echoes, b-values), it is
	// the one with all of them.
	Named []string
}

// A Layout is the place of every image in a stack.
type Layout struct {
	Geometry         voxel.Geometry
	Order            []int // Order[k] is the index of the image that is slice k
	SOPInstances     []string
	FrameNumbers     []int // as in [Volume]
	Study            string
	Series           string
	FrameOfReference string
	Modality         string
	SOPClass         string
	Missing          [][3]float64 // positions, LPS mm, where a slice is missing inside the stack
	Notes            []string
}
