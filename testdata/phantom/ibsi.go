package phantom

// The IBSI digital phantom: 5 x 4 x 4 voxels of 2 mm (IBSI reference manual, section 5.1).
// Columns are the phantom's x, rows its y, slices its z.
const (
	ibsiColumns = 5
	ibsiRows    = 4
	ibsiSpacing = 2.0 // mm
)

var ibsiImage = [4][ibsiRows][ibsiColumns]int16{
	{
		{1, 4, 4, 1, 1},
		{1, 4, 6, 1, 1},
		{4, 1, 6, 4, 1},
		{4, 4, 6, 4, 1},
	}, {
		{1, 4, 4, 1, 1},
		{1, 1, 6, 1, 1},
		{1, 1, 3, 1, 1},
		{4, 4, 6, 1, 1},
	}, {
		{1, 4, 4, 1, 1},
		{1, 1, 1, 1, 1},
		{1, 1, 9, 1, 1},
		{1, 1, 6, 1, 1},
	}, {
		{1, 4, 4, 1, 1},
		{1, 1, 1, 1, 1},
		{1, 1, 1, 1, 1},
		{1, 1, 6, 1, 1},
	},
}

// ibsiContours run along the borders of the mask's voxels, which lie at odd millimetres: no voxel centre is near a line.
//
//	slice 0   slice 1   slice 2   slice 3
//	# # # # #   # # # # #   # # # . .   # # # . .
//	# # # # #   # # # # #   # # # # #   # # # # #
//	# # # # #   . # # # #   # # . # #   # # # # #
//	# # # # #   # # # # #   # # # # #   # # # # #
//
// The voxel missing inside slice 2 is a second contour: several contours of a slice combine by exclusive or.
var ibsiContours = []contour{
	{0, [][2]float64{{-1, -1}, {9, -1}, {9, 7}, {-1, 7}}},
	{1, [][2]float64{{-1, -1}, {9, -1}, {9, 7}, {-1, 7}, {-1, 5}, {1, 5}, {1, 3}, {-1, 3}}},
	{2, [][2]float64{{-1, -1}, {5, -1}, {5, 1}, {9, 1}, {9, 7}, {-1, 7}}},
	{2, [][2]float64{{3, 3}, {5, 3}, {5, 5}, {3, 5}}},
	{3, [][2]float64{{-1, -1}, {5, -1}, {5, 1}, {9, 1}, {9, 7}, {-1, 7}}},
}

func ibsiDigitalPhantom() study {
	s := study{
		folder:      "ibsi-digital-phantom",
		patientName: "IBSI^DIGITAL PHANTOM", patientID: "IBSI-DIGITAL-PHANTOM", sex: "O",
		date: "20200101", time: "120000",
		description: "IBSI digital phantom",
		columns:     ibsiColumns, rows: ibsiRows,
		columnSpacing: ibsiSpacing, rowSpacing: ibsiSpacing, sliceSpacing: ibsiSpacing,
		bitsStored: 12, windowCenter: 5, windowWidth: 10,
		storedAs:          []int{1, 2, 3, 4},
		structureSetLabel: "IBSI",
		regions:           []region{{name: "ROI", colour: [3]int{255, 0, 0}, contours: ibsiContours}},
	}
	for _, rows := range ibsiImage {
		var slice []int16
		for _, row := range rows {
			slice = append(slice, row[:]...)
		}
		s.slices = append(s.slices, slice)
	}
	return s
}
