// Package dicom reads and writes DICOM data sets: PS3.5 (encoding), PS3.6 (dictionary) and PS3.10 (files).
//
// Start at [ReadFile], [ReadDataSet] and [DataSet]; the other way at [New] and [WriteFile]. A store that only wants to know
// what an object is takes [ReadIdentity].
//
//	guard.go           every byte is checked here, and nowhere else
//	read.go            files and bare data sets
//	identity.go        the first elements of a stream
//	charset.go         Specific Character Set to UTF-8: PS3.3 C.12.1.1.2, PS3.5 6.1
//	dataset.go         elements, getters, setters
//	number.go          DS and IS, and the binary numbers
//	write.go           Explicit VR Little Endian
//	tags.go, sopclass.go, transfersyntax.go, vr.go   tables
//
// # The guard
//
// Bytes come from the network, so nothing is believed: every length is held against the end of what encloses it, sequences
// nest 16 deep at most, elements are counted, an inflated data set has a limit, and the last byte must be reached exactly. A
// truncated object is an error that says where; it never becomes a data set with elements missing. The one exception is a
// cut behind a complete element of a bare data set, which no reader can see: there the pixels are missed, by package pixel.
// Small faults are forgiven, and noted in [File].Notes.
//
// Pixel data is located and not loaded. Reading a data set of n bytes, pixels not counted, allocates at most 24n + 256 KiB,
// and so never holds more: the worst is a list of empty elements, which are 8 bytes in a file and 56 in memory, twice while
// they are collected. A real object takes little more than its bytes. A deflated data set counts as what it inflates to,
// pixels included, and may inflate to 64 MiB, or to 200 times its bytes up to 1 GiB; it may have 2^18 elements and four more
// for each byte. No data set has more than 2^23 elements, items and fragments, or values of more than 1 GiB without its
// pixels. TestMemoryBound and the fuzz targets hold the code to this.
//
// # What github.com/suyashkumar/dicom is for
//
// Its dictionary (PS3.6) and its names of UIDs are the ones used here, and it reads what radnode writes in the tests, beside
// grailbio/go-dicom, pydicom and DCMTK. It does not parse what peers send. To check the lengths the guard has to find every
// element, with its tag, its VR, its place; to feed the parser after that, in a form in which it neither panics nor guesses,
// the guard would have to write it all again as Explicit VR Little Endian with every VR neutralised (it splits Contour Data
// into strings, reads OF and 64-bit integers as text, and wants a character set that it knows), and then convert what comes
// back. Parsing twice was slower in every measure: 65 ms and 40 MB against 4.6 ms and 8 MB for a structure set of 7.5 MB,
// 1.8 s and 317 MB against 0.3 s and 147 MB for 10^6 items (bench_test.go).
package dicom
