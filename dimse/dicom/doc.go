// Package dicom reads and writes DICOM data sets: PS3.5 (encoding), PS3.6 (dictionary) and PS3.10 (files).
//
// Start at [ReadFile] and [DataSet].
package dicom
