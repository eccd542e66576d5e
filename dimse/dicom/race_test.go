//go:build race

package dicom

// raceDetector: every allocation is larger by its bookkeeping.
const raceDetector = 2
