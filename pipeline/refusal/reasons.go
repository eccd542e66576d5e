package refusal

// Codes, by area.
const (
	// The objects themselves.
	ObjectMalformed Code = "object.malformed"
	MemoryLimit     Code = "memory.limit"
	MeasureFailed   Code = "measure.failed"
	RulesNone       Code = "rules.none"

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
	ImageNormalise   Code = "image.normalise"

	// Images together.
	SeriesMixed          Code = "series.mixed"
	SeriesStacks         Code = "series.stacks"
	GeometryFrame        Code = "geometry.frame"
	GeometrySize         Code = "geometry.size"
	GeometryOrientation  Code = "geometry.orientation"
	GeometryPixelSpacing Code = "geometry.pixelspacing"
	GeometryDuplicate    Code = "geometry.duplicate"
	GeometryGap          Code = "geometry.gap"
	GeometrySpacing      Code = "geometry.spacing"
	GeometryTilt         Code = "geometry.tilt"

	// PET: why values stay in the unit of the images instead of becoming SUV. They are notes; pet.mixed alone refuses.
	PETMixed           Code = "pet.mixed"
	PETUnits           Code = "pet.units"
	PETNotCorrected    Code = "pet.not-corrected"
	PETNoWeight        Code = "pet.no-weight"
	PETNoHeight        Code = "pet.no-height"
	PETNoSex           Code = "pet.no-sex"
	PETNoDose          Code = "pet.no-dose"
	PETNoHalfLife      Code = "pet.no-half-life"
	PETNoInjectionTime Code = "pet.no-injection-time"
	PETNoReferenceTime Code = "pet.no-reference-time"
	PETDecay           Code = "pet.decay"
	PETDiffers         Code = "pet.differs"

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
	SegmentationNone      Code = "segmentation.none"
	SegmentationType      Code = "segmentation.type"
	SegmentationFraction  Code = "segmentation.fraction"
	SegmentationFrames    Code = "segmentation.frames"
	SegmentationGeometry  Code = "segmentation.geometry"
	SegmentationPixels    Code = "segmentation.pixels"
	SegmentationReference Code = "segmentation.reference"
	SegmentNumber         Code = "segment.number"
	SegmentAbsent         Code = "segment.absent"
	SegmentOutside        Code = "segment.outside"
	SegmentEmpty          Code = "segment.empty"
	SegmentationEmpty     Code = "segmentation.empty" // of one that is written
	SegmentationInput     Code = "segmentation.input"
)

// Reasons is the list.
var Reasons = []Reason{
	{ObjectMalformed, "The bytes of an object break the standard.", "send the object again from its source"},
	{MemoryLimit, "The measurement needs more memory than it may have.", "raise memory in the configuration"},
	{MeasureFailed, "The values of the region cannot be computed.", "look at the images and the contours in a viewer"},
	{RulesNone, "The rules leave every region out.", "change the rules in the configuration"},

	{ImageNone, "There is no image to measure on.", "send the images of the series"},
	{ImageModality, "The images are of a kind that is not measured.", "send CT, MR, PET or NM volumes"},
	{ImageMultiFrame, "The image has several frames and no geometry for each.", "send the series as single-frame or enhanced multi-frame images"},
	{ImageLocalizer, "The series holds nothing but scout views.", "send the slices, with localizers in a series of their own"},
	{ImageSecondary, "A secondary capture shows a screen and has no physical values.", "send the original images of the scanner"},
	{ImageAttribute, "A data element that the image needs is absent or malformed.", "send the original images of the scanner"},
	{ImagePhotometric, "The image has not one grey value a pixel.", "send the original images of the scanner"},
	{ImageRescale, "The stored values do not lead to physical values.", "send the original images of the scanner"},
	{ImageCompressed, "The transfer syntax is not decoded.", "send the images uncompressed: Explicit VR Little Endian"},
	{ImageNormalise, "The image cannot be normalised as the profile says.", "change normalise in the profile, or draw the region that it refers to"},
	{ImagePixels, "The pixels are absent, short or cannot be decoded.", "send the image again from its source"},

	{SeriesMixed, "The images are of several series, studies or classes.", "measure one series at a time"},
	{SeriesStacks, "The series holds several stacks, and nothing says which one to measure.", "send each stack (phase, echo, b-value, time) as a series of its own, or contours that name the images of one"},
	{GeometryFrame, "The images of the series have different frames of reference.", "send one acquisition as one series"},
	{GeometrySize, "Rows or columns differ between the images of the series.", "send the slices of one reconstruction as one series, and the others as another"},
	{GeometryOrientation, "The directions of the images differ, or are not at right angles.", "send the original images of the scanner, with their geometry"},
	{GeometryPixelSpacing, "The spacing in the plane is absent, or differs between the images.", "send the original images of the scanner, with their geometry"},
	{GeometryDuplicate, "Two images with different pixels lie in one place.", "send one image for each position; phases, energies and reconstructions belong in series of their own"},
	{GeometryGap, "A slice is missing inside the stack.", "send the missing images"},
	{GeometrySpacing, "The slices are not equally far apart.", "send a reconstruction with equal spacing"},
	{GeometryTilt, "The stack is sheared: gantry tilt, or a moved table.", "send a reconstruction without tilt"},

	{PETMixed, "The slices of the PET series differ in unit or in decay correction.", "send one reconstruction as one series"},
	{PETUnits, "The unit of the PET image does not lead to SUV.", "send the reconstruction in Bq/ml, or in SUV"},
	{PETNotCorrected, "The PET image is not corrected for attenuation, or does not say so.", "send the attenuation-corrected reconstruction"},
	{PETNoWeight, "The weight of the patient is absent or impossible.", "enter the weight in kg at the scanner, or correct Patient's Weight (0010,1030)"},
	{PETNoHeight, "The height of the patient is absent or impossible.", "enter the height in m at the scanner, or correct Patient's Size (0010,1020)"},
	{PETNoSex, "The sex of the patient is absent, and the formula depends on it.", "correct Patient's Sex (0010,0040)"},
	{PETNoDose, "The injected dose is absent or impossible.", "enter the dose at the scanner, or correct Radionuclide Total Dose (0018,1074)"},
	{PETNoHalfLife, "The half life of the radionuclide is absent.", "correct Radionuclide Half Life (0018,1075) or the Radionuclide Code Sequence (0054,0300)"},
	{PETNoInjectionTime, "The time of injection is absent.", "enter it at the scanner, or correct Radiopharmaceutical Start DateTime (0018,1078)"},
	{PETNoReferenceTime, "The time that the values are decay-corrected to cannot be found.", "send the original images of the scanner, with their times and private elements"},
	{PETDecay, "Decay correction, times and half life do not fit together.", "check the times of injection and scan"},
	{PETDiffers, "The slices disagree on patient, dose or injection.", "send one acquisition as one series"},

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

	{SegmentationNone, "The segmentation describes no segment.", "export it with its segments"},
	{SegmentationType, "The segmentation is of a kind that is not read.", "export it as BINARY, FRACTIONAL or LABELMAP"},
	{SegmentationFraction, "The fractions of the segmentation have no scale.", "export it with Maximum Fractional Value, or as BINARY"},
	{SegmentationFrames, "The frames of the segmentation do not fit their description.", "export the segmentation again"},
	{SegmentationGeometry, "A frame of the segmentation has no place in the patient.", "export it with position, orientation and pixel spacing of each frame; a segmentation of projections or slides is not a volume"},
	{SegmentationPixels, "The frames of the segmentation are absent, short or cannot be decoded.", "send it again, uncompressed: Explicit VR Little Endian"},
	{SegmentationReference, "The segmentation says neither its images nor its frame of reference.", "export it with references to the images"},
	{SegmentNumber, "Segments of one number cannot be told apart.", "export the segmentation with a number for each segment"},
	{SegmentAbsent, "No frame shows the segment.", "leave empty segments out of the export"},
	{SegmentOutside, "The segment lies where there is no image.", "send the series that was segmented"},
	{SegmentEmpty, "The segment holds no voxel of the images.", "draw it larger than a voxel, or lower the threshold of fractions in the profile"},
	{SegmentationEmpty, "The segmentation would have no voxel.", "leave empty regions out"},
	{SegmentationInput, "The segments do not fit together.", "measure them one by one"},
}
