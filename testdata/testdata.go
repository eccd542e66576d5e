// Package testdata holds the DICOM files that travel with radnode: what `radnode demo` sends through the loop,
// and seeds for the tests. Where each file comes from is in README.md; package phantom makes the DICOM files,
// `go generate` writes them anew, and a test in cmd/radnode checks that they are its output.
//
// The go tool leaves folders of this name out of ./..., yet imports them like any other.
package testdata

import "embed"

//go:generate go run ./generate

// FS is this folder without its Go code.
//
//go:embed README.md ibsi1 ibsi-digital-phantom synthetic-ct
var FS embed.FS

// The studies in FS: each folder is one image series and the structure set drawn on it.
const (
	DigitalPhantom = "ibsi-digital-phantom"
	SyntheticCT    = "synthetic-ct"
)

// DigitalPhantomReference is a file of FS: the figures that IBSI-1 publishes for DigitalPhantom, one a line after
// a heading: reference value; tolerance; tag.
const DigitalPhantomReference = "ibsi1/digital-phantom.csv"
