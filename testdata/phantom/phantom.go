// Package phantom makes the DICOM studies of testdata: the IBSI digital phantom (ibsi.go) and a synthetic CT (ct.go),
// each as CT images (PS3.3 A.3) and an RT Structure Set (PS3.3 A.19). Start at [Files].
//
// The bytes are the same on every machine: dates are fixed, UIDs follow from names, grey values are integer arithmetic.
package phantom

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/radnode/radnode/dimse/dicom"
)

// A File is one DICOM file; Name is its path inside testdata, with slashes.
type File struct {
	Name string
	Data []byte
}

// Files returns every DICOM file of testdata.
func Files() ([]File, error) {
	var files []File
	for _, s := range []study{ibsiDigitalPhantom(), syntheticCT()} {
		f, err := s.files()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.folder, err)
		}
		files = append(files, f...)
	}
	return files, nil
}

// A study is one CT series and one structure set on it.
type study struct {
	folder                      string // also the name that the UIDs follow from
	patientName, patientID      string
	birthDate, sex              string
	date, time                  string
	description                 string
	bodyPart, laterality        string // both empty for a phantom
	columns, rows               int
	columnSpacing, rowSpacing   float64    // mm between columns, mm between rows
	sliceSpacing                float64    // mm
	origin                      [3]float64 // LPS mm, centre of the first voxel of slice 0
	signed                      bool
	bitsStored                  int
	windowCenter, windowWidth   int
	slices                      [][]int16 // HU, in order of position, row by row
	storedAs                    []int     // storedAs[k] is the Instance Number of slice k
	structureSetLabel, operator string
	regions                     []region
}

// A region is one ROI of the structure set.
type region struct {
	name            string
	interpretedType string // RT ROI Interpreted Type (3006,00A4), may be empty
	code            *dicom.DataSet
	colour          [3]int
	contours        []contour
}

// A contour is a closed polygon on one slice: columns and rows of its vertices in mm from the first voxel's centre.
type contour struct {
	slice    int
	vertices [][2]float64
}

const (
	rescaleIntercept = -1024
	organisation     = "radnode testdata"

	// detachedStudyManagement is the retired class that PS3.3 C.8.8.5 expects in RT Referenced Study Sequence to this day.
	detachedStudyManagement = "1.2.840.10008.3.1.2.3.1"
)

func (s *study) uid(parts ...string) string {
	return dicom.UIDFrom(append([]string{organisation, s.folder}, parts...)...)
}

func (s *study) seriesUID() string         { return s.uid("series", "1") }
func (s *study) frameOfReference() string  { return s.uid("frame of reference") }
func (s *study) imageUID(slice int) string { return s.uid("image", fmt.Sprint(slice)) }

func (s *study) files() ([]File, error) {
	var files []File
	add := func(name string, d *dicom.DataSet) error {
		var b bytes.Buffer
		err := dicom.WriteFile(&b, dicom.FileMeta{
			MediaStorageSOPClassUID:      d.String(dicom.SOPClassUID),
			MediaStorageSOPInstanceUID:   d.String(dicom.SOPInstanceUID),
			TransferSyntaxUID:            dicom.ExplicitVRLittleEndian,
			ImplementationClassUID:       dicom.ImplementationClassUID,
			ImplementationVersionName:    dicom.ImplementationVersionName,
			SourceApplicationEntityTitle: "RADNODE",
		}, d)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, File{Name: s.folder + "/" + name, Data: b.Bytes()})
		return nil
	}
	for number := range s.slices {
		for k, n := range s.storedAs {
			if n != number+1 {
				continue
			}
			if err := add(fmt.Sprintf("ct-%02d.dcm", n), s.image(k)); err != nil {
				return nil, err
			}
		}
	}
	if err := add("rtstruct.dcm", s.structureSet()); err != nil {
		return nil, err
	}
	return files, nil
}

// common sets what every object of the study carries: Patient (C.7.1.1), General Study (C.7.2.1),
// General Equipment (C.7.5.1), Frame of Reference (C.7.4.1).
func (s *study) common(class, instance string) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, class)
	d.SetString(dicom.SOPInstanceUID, instance)
	d.SetString(dicom.InstanceCreationDate, s.date)
	d.SetString(dicom.InstanceCreationTime, s.time)
	d.SetString(dicom.PatientName, s.patientName)
	d.SetString(dicom.PatientID, s.patientID)
	d.SetString(dicom.PatientBirthDate, s.birthDate)
	d.SetString(dicom.PatientSex, s.sex)
	d.SetString(dicom.StudyInstanceUID, s.uid("study"))
	d.SetString(dicom.StudyDate, s.date)
	d.SetString(dicom.StudyTime, s.time)
	d.SetString(dicom.ReferringPhysicianName)
	d.SetString(dicom.StudyID, "1")
	d.SetString(dicom.AccessionNumber)
	d.SetString(dicom.StudyDescription, s.description)
	d.SetString(dicom.Manufacturer, "radnode")
	d.SetString(dicom.ManufacturerModelName, "testdata")
	d.SetString(dicom.DeviceSerialNumber, "1")
	d.SetString(dicom.SoftwareVersions, "1")
	d.SetString(dicom.FrameOfReferenceUID, s.frameOfReference())
	d.SetString(dicom.PositionReferenceIndicator)
	return d
}

// image is slice k as a CT Image (PS3.3 A.3).
func (s *study) image(k int) *dicom.DataSet {
	d := s.common(dicom.CTImageStorage, s.imageUID(k))

	// General Series, C.7.3.1
	d.SetString(dicom.Modality, "CT")
	d.SetString(dicom.SeriesInstanceUID, s.seriesUID())
	d.SetInt(dicom.SeriesNumber, 1)
	d.SetString(dicom.SeriesDate, s.date)
	d.SetString(dicom.SeriesTime, s.time)
	d.SetString(dicom.SeriesDescription, s.description)
	d.SetString(dicom.BodyPartExamined, s.bodyPart)
	d.SetString(dicom.Laterality, s.laterality)
	d.SetString(dicom.PatientPosition, "HFS")

	// General Image, C.7.6.1
	d.SetInt(dicom.InstanceNumber, s.storedAs[k])
	d.SetString(dicom.ContentDate, s.date)
	d.SetString(dicom.ContentTime, s.time)
	d.SetString(dicom.AcquisitionDate, s.date)
	d.SetString(dicom.AcquisitionTime, s.time)
	d.SetInt(dicom.AcquisitionNumber, 1)
	d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "AXIAL")
	d.SetString(dicom.BurnedInAnnotation, "NO")
	d.SetString(dicom.LossyImageCompression, "00")

	// Image Plane, C.7.6.2: Pixel Spacing is the distance between rows, then between columns (C.10.7.1.3)
	d.SetFloat(dicom.PixelSpacing, s.rowSpacing, s.columnSpacing)
	d.SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0, 1, 0)
	d.SetFloat(dicom.ImagePositionPatient, s.origin[0], s.origin[1], s.z(k))
	d.SetFloat(dicom.SliceThickness, s.sliceSpacing)
	d.SetFloat(dicom.SliceLocation, s.z(k))

	// CT Image, C.8.2.1
	d.SetFloat(dicom.KVP, 120)
	d.SetFloat(dicom.RescaleIntercept, rescaleIntercept)
	d.SetFloat(dicom.RescaleSlope, 1)
	d.SetString(dicom.RescaleType, "HU")
	d.SetFloat(dicom.WindowCenter, float64(s.windowCenter))
	d.SetFloat(dicom.WindowWidth, float64(s.windowWidth))

	// Image Pixel, C.7.6.3
	d.SetInt(dicom.SamplesPerPixel, 1)
	d.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
	d.SetInt(dicom.Rows, s.rows)
	d.SetInt(dicom.Columns, s.columns)
	d.SetInt(dicom.BitsAllocated, 16)
	d.SetInt(dicom.BitsStored, s.bitsStored)
	d.SetInt(dicom.HighBit, s.bitsStored-1)
	representation := 0
	if s.signed {
		representation = 1
	}
	d.SetInt(dicom.PixelRepresentation, representation)
	stored := make([]byte, 0, 2*s.rows*s.columns)
	for _, hu := range s.slices[k] {
		stored = binary.LittleEndian.AppendUint16(stored, uint16(hu-rescaleIntercept))
	}
	d.SetBytes(dicom.PixelData, dicom.OW, stored)
	return d
}

// z is the position of slice k along the patient's axis, to the micrometre.
func (s *study) z(k int) float64 { return micrometre(s.origin[2] + float64(k)*s.sliceSpacing) }

// structureSet is the RT Structure Set (PS3.3 A.19) with the study's regions.
func (s *study) structureSet() *dicom.DataSet {
	d := s.common(dicom.RTStructureSetStorage, s.uid("structure set"))

	// RT Series, C.8.8.1
	d.SetString(dicom.Modality, "RTSTRUCT")
	d.SetString(dicom.SeriesInstanceUID, s.uid("series", "2"))
	d.SetInt(dicom.SeriesNumber, 2)
	d.SetString(dicom.SeriesDate, s.date)
	d.SetString(dicom.SeriesTime, s.time)
	d.SetString(dicom.SeriesDescription, "Contours")
	d.SetString(dicom.OperatorsName, s.operator)

	// Structure Set, C.8.8.5
	d.SetInt(dicom.InstanceNumber, 1)
	d.SetString(dicom.StructureSetLabel, s.structureSetLabel)
	d.SetString(dicom.StructureSetDate, s.date)
	d.SetString(dicom.StructureSetTime, s.time)
	images := make([]*dicom.DataSet, len(s.slices))
	for k := range s.slices {
		images[k] = s.imageReference(k)
	}
	series := dicom.New()
	series.SetString(dicom.SeriesInstanceUID, s.seriesUID())
	series.SetSeq(dicom.ContourImageSequence, images...)
	referenced := dicom.New()
	referenced.SetString(dicom.ReferencedSOPClassUID, detachedStudyManagement)
	referenced.SetString(dicom.ReferencedSOPInstanceUID, s.uid("study"))
	referenced.SetSeq(dicom.RTReferencedSeriesSequence, series)
	frame := dicom.New()
	frame.SetString(dicom.FrameOfReferenceUID, s.frameOfReference())
	frame.SetSeq(dicom.RTReferencedStudySequence, referenced)
	d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame)

	var definitions, outlines, observations []*dicom.DataSet
	for i, r := range s.regions {
		number := i + 1
		definition := dicom.New()
		definition.SetInt(dicom.ROINumber, number)
		definition.SetString(dicom.ReferencedFrameOfReferenceUID, s.frameOfReference())
		definition.SetString(dicom.ROIName, r.name)
		definition.SetString(dicom.ROIGenerationAlgorithm, "MANUAL")
		definitions = append(definitions, definition)

		outline := dicom.New() // ROI Contour, C.8.8.6
		outline.SetInt(dicom.ReferencedROINumber, number)
		outline.SetInt(dicom.ROIDisplayColor, r.colour[:]...)
		var contours []*dicom.DataSet
		for j, c := range r.contours {
			contours = append(contours, s.contour(j+1, c))
		}
		outline.SetSeq(dicom.ContourSequence, contours...)
		outlines = append(outlines, outline)

		observation := dicom.New() // RT ROI Observations, C.8.8.8
		observation.SetInt(dicom.ObservationNumber, number)
		observation.SetInt(dicom.ReferencedROINumber, number)
		observation.SetString(dicom.RTROIInterpretedType, r.interpretedType)
		if r.code != nil {
			observation.SetSeq(dicom.RTROIIdentificationCodeSequence, r.code)
		}
		observation.SetString(dicom.ROIInterpreter, s.operator)
		observations = append(observations, observation)
	}
	d.SetSeq(dicom.StructureSetROISequence, definitions...)
	d.SetSeq(dicom.ROIContourSequence, outlines...)
	d.SetSeq(dicom.RTROIObservationsSequence, observations...)
	d.SetString(dicom.ApprovalStatus, "UNAPPROVED") // C.8.8.16
	return d
}

func (s *study) imageReference(slice int) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.ReferencedSOPClassUID, dicom.CTImageStorage)
	d.SetString(dicom.ReferencedSOPInstanceUID, s.imageUID(slice))
	return d
}

func (s *study) contour(number int, c contour) *dicom.DataSet {
	d := dicom.New()
	d.SetSeq(dicom.ContourImageSequence, s.imageReference(c.slice))
	d.SetString(dicom.ContourGeometricType, "CLOSED_PLANAR")
	d.SetInt(dicom.NumberOfContourPoints, len(c.vertices))
	d.SetInt(dicom.ContourNumber, number)
	var points []float64
	for _, v := range c.vertices {
		points = append(points, micrometre(s.origin[0]+v[0]), micrometre(s.origin[1]+v[1]), s.z(c.slice))
	}
	d.SetFloat(dicom.ContourData, points...)
	return d
}

// code is an item of a code sequence (PS3.3 8.8).
func code(value, scheme, meaning string) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.CodeValue, value)
	d.SetString(dicom.CodingSchemeDesignator, scheme)
	d.SetString(dicom.CodeMeaning, meaning)
	return d
}
