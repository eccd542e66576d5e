// Package imaging turns the images of a series into one grid of physical values: PS3.3 C.7.6.2 (image plane), C.7.6.3
// (pixels), C.7.6.16 (multi-frame functional groups), C.11.1 (modality LUT), C.7.6.16.2.11 (real world values).
//
// Start at [Assemble]. [Check] answers from headers alone whether images form one regular stack; Assemble uses the same
// code. What is left to Assemble is in the pixels: whether they can be decoded, whether images in one place are equal, and
// whether values lie where a mapping is defined.
//
//	frame.go      an image, or a frame of one, and its plane
//	stack.go      planes that form a regular stack
//	choose.go     one stack of several, and images that are left out
//	value.go      from stored to physical values
//	assemble.go   pixels into the grid
//
// CT, MR, PET and nuclear medicine are taken: single-frame, enhanced and legacy converted enhanced images, and
// reconstructed tomographic NM images (RECON TOMO, RECON GATED TOMO). Everything else is refused by name.
//
// # What makes a stack
//
// In the terms of PS3.3 C.7.6.2.1.1:
//
//   - Slices are ordered by the projection of Image Position (Patient) on the normal, which is the cross product of the row
//     and the column direction. Instance Number, Slice Location, the order of the files and of the frames say nothing.
//   - The spacing between slices is the distance from the first to the last position divided by the number of steps. No
//     slice may lie further from its regular place than a tenth of the spacing or 0.1 mm, whichever is smaller.
//   - The line of positions is parallel to the normal: no slice may lie further beside it than a quarter of a pixel.
//   - A missing slice, unequal spacing, and a sheared stack (gantry tilt) are refused.
//   - A single slice takes Slice Thickness (0018,0050) as its spacing.
//
// # Several stacks in one series
//
// Where the images are no regular stack, the attributes that tell acquisitions apart (echo time, b-value, phase, time, image
// type and the like) are tried one by one, then in pairs, then all at once. An attribute tells stacks apart when its values
// divide the images into at least two regular stacks with as many slices each, at least half of which lie side by side. Times,
// which may differ from slice to slice, also do by their order: the first, the second, the third image of each place. The
// stack that holds all images named in [Options] is taken, and a note says which it was; otherwise the series is refused.
// Stacks that share no place need three slices each, and where slices seem to be missing, [Options] that name one of them.
//
// # What is left out
//
// Each of these is noted, and refused instead where [Options] name the image:
//
//   - Scout views (Image Type LOCALIZER), and projections and renderings (MIP and others) among slices.
//   - Images of another size, pixel spacing or orientation: where at least 3 images agree, and the others are at most 3 or
//     a tenth, and at most a third, of those. Where more disagree, the named images decide.
//   - One image beside the line on which at least 3 others lie.
//   - An image in the place of another one, where headers tell no difference and all values are equal.
//
// Nothing is left out in whose place a slice of the stack is missing, and no image of another size or pixel spacing that lies
// where the stack would go on.
//
// # Values
//
//   - CT: Rescale Slope and Intercept, in HU or what Rescale Type says.
//   - PET: Rescale Slope and Intercept of each slice, in Units (0054,1001), made standardised uptake values as [Options] ask.
//     Without Units, the Real World Value Mapping.
//   - MR and NM: the first Real World Value Mapping with a UCUM unit; else the Modality LUT; else Rescale Slope and
//     Intercept; else the stored values. MR has the unit 1 where nothing says otherwise.
//   - A Real World Value Mapping that is a line goes on beyond the stored values that it is defined for, with a note that counts
//     them; one that is a table does not, and the series is refused.
//   - All slices must lead to one unit. Values that are no finite numbers are refused.
//   - MONOCHROME1 changes how an image is shown and no value.
//   - Pixels of Pixel Padding Value (0028,0120) are voxels like all others; a note says that they exist.
package imaging

import (
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
)

// A Volume is an image series as one grid.
type Volume struct {
	Grid             *voxel.Grid
	Unit             string // of the values: "HU", or a UCUM code
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
	// the one with all of them. An image that was converted to multi-frame is found by its former UID too.
	Named []string
	// NamedFrames are the frames that a segmentation names, from 1, by instance: only those frames of it count as named.
	NamedFrames map[string][]int
}

// A Place says where a slice is among the images.
type Place struct {
	Image int // index of the image as the caller gave it
	Frame int // from 0
}

// A Layout is the place of every image in a stack.
type Layout struct {
	Geometry         voxel.Geometry
	Order            []Place // Order[k] is slice k
	SOPInstances     []string
	FrameNumbers     []int // as in [Volume]
	Study            string
	Series           string
	FrameOfReference string
	Modality         string
	SOPClass         string
	Missing          [][3]float64 // positions, LPS mm, where a slice is missing inside the stack
	Unit             string       // as in [Volume], as Notes, Lossy (from headers alone) and SUV are
	Notes            []string
	Lossy            string
	SUV              *SUV
	Twins            []Twin // images that are left out if their values are those of a slice
}

// A Twin is an image in the place of a slice. Headers tell no difference; [Assemble] refuses the series where the values do.
type Twin struct {
	Place
	Slice int
}
