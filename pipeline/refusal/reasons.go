package refusal

// Codes, by area.
const (
	// The objects themselves.
	ObjectMalformed Code = "object.malformed"
	MemoryLimit     Code = "memory.limit"

	// One image.
	ImageNone        Code = "image.none"
	ImageModality    Code = "image.modality"
	ImageMultiFrame  Code = "image.multiframe"
	ImageLocalizer   Code = "image.localizer"
	ImageSecondary   Code = "image.secondary"
	ImageAttribute   Code = "image.attribute"
	ImagePhotometric Code = "image.photometric"
	ImageRescale     Code = "image.rescale"
	ImageCompressed  Code = "image.compressed"
	ImagePixels      Code = "image.pixels"

	// Images together.
	SeriesMixed          Code = "series.mixed"
	GeometryFrame        Code = "geometry.frame"
	GeometrySize         Code = "geometry.size"
	GeometryOrientation  Code = "geometry.orientation"
	GeometryPixelSpacing Code = "geometry.pixelspacing"
	GeometryDuplicate    Code = "geometry.duplicate"
	GeometryGap          Code = "geometry.gap"
	GeometrySpacing      Code = "geometry.spacing"
	GeometryTilt         Code = "geometry.tilt"

	// RT structure sets.
	ContoursClass       Code = "contours.class"
	ContoursNone        Code = "contours.none"
	ContoursReferences  Code = "contours.references"
	ContoursNumber      Code = "contours.number"
	ContoursAbsent      Code = "contours.absent"
	ContoursType        Code = "contours.type"
	ContoursData        Code = "contours.data"
	ContoursPlane       Code = "contours.plane"
	ContoursOrientation Code = "contours.orientation"
	ContoursOutside     Code = "contours.outside"
	ContoursEmpty       Code = "contours.empty"
	ContoursFrame       Code = "contours.frame"
	ContoursSeries      Code = "contours.series"

	// Segmentations.
	SegmentationEmpty Code = "segmentation.empty"
	SegmentationInput Code = "segmentation.input"
)

// Reasons is the list.
var Reasons = []Reason{
	{ObjectMalformed, "The bytes of an object break the standard.", "send the object again from its source"},
	{MemoryLimit, "The measurement needs more memory than it may have.", "raise memory in the configuration"},

	{ImageNone, "There is no image to measure on.", "send the images of the series"},
	{ImageModality, "The images are of a kind that is not measured.", "send CT, MR, PET or NM volumes"},
	{ImageMultiFrame, "The image has several frames and no geometry for each.", "send the series as single-frame or enhanced multi-frame images"},
	{ImageLocalizer, "The series holds nothing but scout views.", "send the slices, with localizers in a series of their own"},
	{ImageSecondary, "A secondary capture shows a screen and has no physical values.", "send the original images of the scanner"},
	{ImageAttribute, "A data element that the image needs is absent or malformed.", "send the original images of the scanner"},
	{ImagePhotometric, "The image has not one grey value a pixel.", "send the original images of the scanner"},
	{ImageRescale, "The stored values do not lead to physical values.", "send the original images of the scanner"},
	{ImageCompressed, "The transfer syntax is not decoded.", "send the images uncompressed: Explicit VR Little Endian"},
	{ImagePixels, "The pixels are absent, short or cannot be decoded.", "send the image again from its source"},

	{SeriesMixed, "The images are of several series or studies.", "measure one series at a time"},
	{GeometryFrame, "The images of the series have different frames of reference.", "send one acquisition as one series"},
	{GeometrySize, "Rows or columns differ between the images of the series.", "send the slices of one reconstruction as one series, and the others as another"},
	{GeometryOrientation, "The directions of the images differ, or are not at right angles.", "send the original images of the scanner, with their geometry"},
	{GeometryPixelSpacing, "The spacing in the plane is absent, or differs between the images.", "send the original images of the scanner, with their geometry"},
	{GeometryDuplicate, "Two images with different pixels lie in one place.", "send one image for each position; phases, energies and reconstructions belong in series of their own"},
	{GeometryGap, "A slice is missing inside the stack.", "send the missing images"},
	{GeometrySpacing, "The slices are not equally far apart.", "send a reconstruction with equal spacing"},
	{GeometryTilt, "The stack is sheared: gantry tilt, or a moved table.", "send a reconstruction without tilt"},

	{ContoursClass, "The object is neither an RT structure set nor a segmentation.", "send an RT structure set or a segmentation"},
	{ContoursNone, "The structure set or segmentation has no region.", "export it with its regions"},
	{ContoursReferences, "The regions do not say on which images they were drawn.", "export them with references to the images"},
	{ContoursNumber, "Regions of one number cannot be told apart.", "export the structure set with a number for each region"},
	{ContoursAbsent, "The region has no contour.", "draw the region, or leave it out of the export"},
	{ContoursType, "Points and open lines enclose nothing.", "draw the region with closed planar contours"},
	{ContoursData, "The coordinates of a contour cannot be read.", "export the structure set again"},
	{ContoursPlane, "A contour is not drawn in a plane.", "draw the region with planar contours"},
	{ContoursOrientation, "The contours of the region lie in planes of several directions.", "draw the region in planes of one direction"},
	{ContoursOutside, "The region was drawn where there is no image.", "send the series that the region was drawn on"},
	{ContoursEmpty, "The region holds no voxel of the images.", "draw it larger than a voxel and inside the images"},
	{ContoursFrame, "The region was drawn in another frame of reference than that of the images.", "register the images, and export the region on this series"},
	{ContoursSeries, "The region was drawn on another series.", "send the series that the region was drawn on"},

	{SegmentationEmpty, "The segmentation would have no voxel.", "leave empty regions out"},
	{SegmentationInput, "The segments do not fit together.", "measure them one by one"},
}
