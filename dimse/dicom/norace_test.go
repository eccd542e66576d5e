//go:build !race

package dicom

const raceDetector = 1
