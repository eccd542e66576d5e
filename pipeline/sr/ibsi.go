package sr

// IBSI is the Coding Scheme Designator of the Image Biomarker Standardisation
// Initiative in PS3.16 chapter 8.
const IBSI = "IBSI"

// Concept gives the concept name of a feature from its four-character IBSI code.
//
// A feature is named by one pre-coordinated code, never by a quantity with a
// derivation: readers that drop the children of a NUM would lose half the name.
func Concept(ibsi string) (Code, bool) {
	f, ok := concepts[ibsi]
	return Code{ibsi, IBSI, f.meaning}, ok
}

// Processing gives the coded concept of a step before the features, or of a parameter of texture matrices, from its IBSI code.
// The caller names the code: one that is not in the table is a fault of the program.
func Processing(ibsi string) Code {
	meaning, ok := processing[ibsi]
	if !ok {
		panic("sr: no processing concept " + ibsi)
	}
	return Code{ibsi, IBSI, meaning}
}

// processing holds the concepts of chapter 2 of the IBSI reference manual and of its sections on texture matrices. None is in
// PS3.16, so the meanings are ours, short enough for Code Meaning.
var processing = map[string]string{
	"VTM2": "Image interpolation",
	"UMPJ": "Interpolation grid",
	"3WE3": "Align grid centres",
	"68QD": "Intensity rounding",
	"E8H9": "ROI partial volume",

	"IF9H": "Re-segmentation",
	"USB3": "Range re-segmentation",
	"7ACA": "Intensity outlier filtering",

	"4R0B": "Intensity discretisation",
	"K15C": "Fixed bin number",
	"Q3RU": "Fixed bin size",

	"5QB6": "Feature aggregation",
	"8QNN": "2D, averaged over slices",
	"62GR": "2.5D, slices merged",
	"KOBO": "3D",
	"BTW3": "2D, averaged over slices and directions",
	"SUJT": "2D, directions merged, averaged over slices",
	"JJUI": "2.5D, slices merged, averaged over directions",
	"ZW7Z": "2.5D, slices and directions merged",
	"ITBB": "3D, averaged over directions",
	"IAZD": "3D, directions merged",

	"MPUJ": "Grid distance",
	"PVMT": "Chebyshev distance",
	"G9EV": "Euclidean distance",
	"LIFZ": "Manhattan distance",
	"6CK8": "Distance weighting",
}

// concepts holds the 172 features of the IBSI reference manual. Where PS3.16
// CID 218 (2025e) has the code, the meaning is the standard's own wording,
// American in the older families and British in the newer ones; local
// intensity, intensity statistics and the intensity-volume histogram are not in
// PS3.16 and bear their IBSI names, which CID 218 allows, being extensible.
//
// The unit is UCUM, with U for the unit of the image: [UnitFor] resolves it.
var concepts = map[string]struct{ meaning, unit string }{
	// Morphology, CID 7477
	"RNU0": {"Volume of Mesh", "mm3"},
	"YEKZ": {"Volume from Voxel Summation", "mm3"},
	"C0JK": {"Surface Area of Mesh", "mm2"},
	"2PR5": {"Surface to Volume Ratio", "/mm"},
	"SKGS": {"Compactness 1", "1"},
	"BQWJ": {"Compactness 2", "1"},
	"KRCK": {"Spherical Disproportion", "1"},
	"QCFX": {"Sphericity", "1"},
	"25C7": {"Asphericity", "1"},
	"KLMA": {"Centre of Mass Shift", "mm"},
	"L0JK": {"Maximum 3D Diameter of a Mesh", "mm"},
	"TDIC": {"Major Axis in 3D Length", "mm"},
	"P9VJ": {"Minor Axis in 3D Length", "mm"},
	"7J51": {"Least Axis in 3D Length", "mm"},
	"Q3CK": {"Elongation", "1"},
	"N17B": {"Flatness", "1"},
	"PBX1": {"Volume Density in Frame of Reference Axis Aligned Bounding Box", "1"},
	"R59B": {"Area Density in Frame of Reference Axis Aligned Bounding Box", "1"},
	"ZH1A": {"Volume Density in Oriented Minimum Bounding Box", "1"},
	"IQYR": {"Area Density in Oriented Minimum Bounding Box", "1"},
	"6BDE": {"Volume Density in Approximate Enclosing Ellipsoid", "1"},
	"RDD2": {"Area Density in Approximate Enclosing Ellipsoid", "1"},
	"SWZ1": {"Volume Density in Minimum Volume Enclosing Ellipsoid", "1"},
	"BRI8": {"Area Density in Minimum Volume Enclosing Ellipsoid", "1"},
	"R3ER": {"Volume Density in Convex Hull", "1"},
	"7T7F": {"Area Density in Convex Hull", "1"},
	"99N0": {"Integrated Intensity", "U.mm3"},
	"N365": {"Moran's I Index", "1"},
	"NPT7": {"Geary's C Measure", "1"},

	// Local intensity, not in PS3.16
	"VJGA": {"Local intensity peak", "U"},
	"0F91": {"Global intensity peak", "U"},

	// Intensity statistics, not in PS3.16
	"Q4LE": {"Mean intensity", "U"},
	"ECT3": {"Intensity variance", "U2"},
	"KE2A": {"Intensity skewness", "1"},
	"IPH6": {"(Excess) intensity kurtosis", "1"},
	"Y12H": {"Median intensity", "U"},
	"1GSF": {"Minimum intensity", "U"},
	"QG58": {"10th intensity percentile", "U"},
	"8DWT": {"90th intensity percentile", "U"},
	"84IY": {"Maximum intensity", "U"},
	"SALO": {"Intensity interquartile range", "U"},
	"2OJQ": {"Intensity range", "U"},
	"4FUA": {"Intensity-based mean absolute deviation", "U"},
	"1128": {"Intensity-based robust mean absolute deviation", "U"},
	"N72L": {"Intensity-based median absolute deviation", "U"},
	"7TET": {"Intensity-based coefficient of variation", "1"},
	"9S40": {"Intensity-based quartile coefficient of dispersion", "1"},
	"N8CA": {"Intensity-based energy", "U2"},
	"5ZWQ": {"Root mean square intensity", "U"},

	// Intensity histogram, CID 7478
	"X6K6": {"Intensity Histogram Mean", "1"},
	"CH89": {"Intensity Histogram Variance", "1"},
	"88K1": {"Intensity Histogram Skewness", "1"},
	"C3I7": {"Intensity Histogram Kurtosis", "1"},
	"WIFQ": {"Intensity Histogram Median", "1"},
	"1PR8": {"Intensity Histogram Minimum Gray Level", "1"},
	"GPMT": {"Intensity Histogram 10th Percentile", "1"},
	"OZ0C": {"Intensity Histogram 90th Percentile", "1"},
	"3NCY": {"Intensity Histogram Maximum Gray Level", "1"},
	"AMMC": {"Intensity Histogram Mode", "1"},
	"WR0O": {"Intensity Histogram Interquartile Range", "1"},
	"5Z3W": {"Intensity Histogram Range", "1"},
	"D2ZX": {"Intensity Histogram Mean Absolute Deviation", "1"},
	"WRZB": {"Intensity Histogram Robust Mean Absolute Deviation", "1"},
	"4RNL": {"Intensity Histogram Median Absolute Deviation", "1"},
	"CWYJ": {"Intensity Histogram Coefficient of Variation", "1"},
	"SLWD": {"Intensity Histogram Quartile Coefficient of Dispersion", "1"},
	"TLU2": {"Intensity Histogram Entropy", "1"},
	"BJ5W": {"Intensity Histogram Uniformity", "1"},
	"12CE": {"Intensity Histogram Maximum Gradient", "1"},
	"8E6O": {"Intensity Histogram Maximum Gradient Gray Level", "1"},
	"VQB3": {"Intensity Histogram Minimum Gradient", "1"},
	"RHQZ": {"Intensity Histogram Minimum Gradient Gray Level", "1"},

	// Intensity-volume histogram, not in PS3.16
	"BC2M": {"Volume at intensity fraction", "1"},
	"GBPN": {"Intensity at volume fraction", "U"},
	"DDTU": {"Volume fraction difference between intensity fractions", "1"},
	"CNV2": {"Intensity fraction difference between volume fractions", "U"},
	"9CMM": {"Area under the IVH curve", "1"},

	// GLCM, CID 7467
	"GYBY": {"Joint Maximum of GLCM", "1"},
	"60VM": {"Joint Average of GLCM", "1"},
	"UR99": {"Joint Variance of GLCM", "1"},
	"TU9B": {"Joint Entropy of GLCM", "1"},
	"TF7R": {"Difference Average of GLCM", "1"},
	"D3YU": {"Difference Variance of GLCM", "1"},
	"NTRS": {"Difference Entropy of GLCM", "1"},
	"ZGXS": {"Sum Average of GLCM", "1"},
	"OEEB": {"Sum Variance of GLCM", "1"},
	"P6QZ": {"Sum Entropy of GLCM", "1"},
	"8ZQL": {"Angular Second Moment of GLCM", "1"},
	"ACUI": {"Contrast of GLCM", "1"},
	"8S9J": {"Dissimilarity of GLCM", "1"},
	"IB1Z": {"Inverse Difference of GLCM", "1"},
	"NDRX": {"Normalized Inverse Difference of GLCM", "1"},
	"WF0Z": {"Inverse Difference Moment of GLCM", "1"},
	"1QCO": {"Normalized Inverse Difference Moment of GLCM", "1"},
	"E8JP": {"Inverse Variance of GLCM", "1"},
	"NI2N": {"Correlation of GLCM", "1"},
	"QWB0": {"Autocorrelation of GLCM", "1"},
	"DG8W": {"Cluster Tendency of GLCM", "1"},
	"7NFM": {"Cluster Shade of GLCM", "1"},
	"AE86": {"Cluster Prominence of GLCM", "1"},
	"R8DG": {"First Measure of Information Correlation of GLCM", "1"},
	"JN9H": {"Second Measure of Information Correlation of GLCM", "1"},

	// GLRLM, CID 7475
	"22OV": {"Short Runs Emphasis", "1"},
	"W4KF": {"Long Runs Emphasis", "1"},
	"V3SW": {"Low Gray Level Run Emphasis", "1"},
	"G3QZ": {"High Gray Level Run Emphasis", "1"},
	"HTZT": {"Short Run Low Gray Level Emphasis", "1"},
	"GD3A": {"Short Run High Gray Level Emphasis", "1"},
	"IVPO": {"Long Run Low Gray Level Emphasis", "1"},
	"3KUM": {"Long Run High Gray Level Emphasis", "1"},
	"R5YN": {"Gray Level Nonuniformity in Runs", "1"},
	"OVBL": {"Normalized Gray Level Nonuniformity in Runs", "1"},
	"W92Y": {"Run Length Nonuniformity", "1"},
	"IC23": {"Normalized Run Length Nonuniformity", "1"},
	"9ZK5": {"Run Percentage", "1"},
	"8CE5": {"Gray Level Variance in Runs", "1"},
	"SXLW": {"Run Length Variance", "1"},
	"HJ9O": {"Run Entropy", "1"},

	// GLSZM, CID 7476
	"5QRC": {"Small Zone Emphasis", "1"},
	"48P8": {"Large Zone Emphasis", "1"},
	"XMSY": {"Low Gray Level Zone Emphasis", "1"},
	"5GN9": {"High Gray Level Zone Emphasis", "1"},
	"5RAI": {"Small Zone Low Gray Level Emphasis", "1"},
	"HW1V": {"Small Zone High Gray Level Emphasis", "1"},
	"YH51": {"Large Zone Low Gray Level Emphasis", "1"},
	"J17V": {"Large Zone High Gray Level Emphasis", "1"},
	"JNSA": {"Gray Level Nonuniformity of Size Zone Counts", "1"},
	"Y1RO": {"Normalized Gray Level Nonuniformity of Size Zone Counts", "1"},
	"4JP3": {"Zone Size Nonuniformity", "1"},
	"VB3A": {"Normalized Zone Size Nonuniformity", "1"},
	"P30P": {"Size Zone Percentage", "1"},
	"BYLV": {"Gray Level Variance in Size Zones", "1"},
	"3NSA": {"Zone Size Variance", "1"},
	"GU8N": {"Zone Size Entropy", "1"},

	// GLDZM, CID 7479
	"0GBI": {"Small Distance Emphasis", "1"},
	"MB4I": {"Large Distance Emphasis", "1"},
	"S1RA": {"Low Grey Level Zone Emphasis", "1"},
	"K26C": {"High Grey Level Zone Emphasis", "1"},
	"RUVG": {"Small Distance Low Grey Level Emphasis", "1"},
	"DKNJ": {"Small Distance High Grey Level Emphasis", "1"},
	"A7WM": {"Large Distance Low Grey Level Emphasis", "1"},
	"KLTH": {"Large Distance High Grey Level Emphasis", "1"},
	"VFT7": {"Grey Level Non-uniformity of Distance Zone Counts", "1"},
	"7HP3": {"Normalized Grey Level Non-uniformity of Distance Zone Counts", "1"},
	"V294": {"Zone Distance Non-uniformity", "1"},
	"IATH": {"Normalized Zone Distance Non-uniformity", "1"},
	"VIWW": {"Distance Zone Percentage", "1"},
	"QK93": {"Grey Level Variance in Distance Zones", "1"},
	"7WT1": {"Zone Distance Variance", "1"},
	"GBDU": {"Zone Distance Entropy", "1"},

	// NGTDM, CID 7500
	"QCDE": {"Coarseness of NGTDM", "1"},
	"65HE": {"Contrast of NGTDM", "1"},
	"NQ30": {"Busyness of NGTDM", "1"},
	"HDEZ": {"Complexity of NGTDM", "1"},
	"1X9X": {"Strength of NGTDM", "1"},

	// NGLDM, CID 7501
	"SODN": {"Low dependence emphasis", "1"},
	"IMOQ": {"High dependence emphasis", "1"},
	"TL9H": {"Low grey level count emphasis", "1"},
	"OAE7": {"High grey level count emphasis", "1"},
	"EQ3F": {"Low dependence low grey level emphasis", "1"},
	"JA6D": {"Low dependence high grey level emphasis", "1"},
	"NBZI": {"High dependence low grey level emphasis", "1"},
	"9QMG": {"High dependence high grey level emphasis", "1"},
	"FP8K": {"Grey level non-uniformity of NGLDM", "1"},
	"5SPA": {"Normalized grey level non-uniformity of NGLDM", "1"},
	"Z87G": {"Dependence count non-uniformity", "1"},
	"OKJI": {"Dependence count non-uniformity normalized", "1"},
	"6XV8": {"Dependence count percentage", "1"},
	"1PFV": {"Grey level variance of NGLDM", "1"},
	"DNX2": {"Dependence count variance", "1"},
	"FCBV": {"Dependence count entropy", "1"},
	"CAS9": {"Dependence count energy", "1"},
}
