package imaging_test

import (
	"encoding/binary"
	"fmt"

	"github.com/radnode/radnode/dimse/dicom"
)

// mrs are single-frame MR images on the planes of [ct], without rescale.
func mrs(n int) []*dicom.DataSet {
	s := series(n)
	for _, d := range s {
		d.SetString(dicom.SOPClassUID, dicom.MRImageStorage)
		d.SetString(dicom.Modality, "MR")
		d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "M")
		d.SetFloat(dicom.EchoTime, 20)
		d.Remove(dicom.RescaleSlope, dicom.RescaleIntercept)
	}
	return s
}

// pets are single-frame PET images on the planes of [ct], with a slope for each.
func pets(n int) []*dicom.DataSet {
	s := series(n)
	for k, d := range s {
		d.SetString(dicom.SOPClassUID, dicom.PositronEmissionTomographyImageStorage)
		d.SetString(dicom.Modality, "PT")
		d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY")
		d.SetString(dicom.SeriesType, "WHOLE BODY", "IMAGE")
		d.SetString(dicom.Units, "CNTS")
		d.SetFloat(dicom.RescaleSlope, 0.5+0.25*float64(k))
		d.SetFloat(dicom.RescaleIntercept, 0)
	}
	return s
}

// echoes are two MR stacks in one place.
func echoes(n int) []*dicom.DataSet {
	early, late := mrs(n), mrs(n)
	for _, d := range late {
		d.SetString(dicom.SOPInstanceUID, d.String(dicom.SOPInstanceUID)+".2")
		d.SetFloat(dicom.EchoTime, 80)
	}
	return append(early, late...)
}

// coronal is a CT stack of another orientation.
func coronal(n int) []*dicom.DataSet {
	s := series(n)
	for k, d := range s {
		d.SetString(dicom.SOPInstanceUID, fmt.Sprintf("1.2.3.%d", 300+k))
		d.SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0, 0, -1)
		d.SetFloat(dicom.ImagePositionPatient, 0, 3*float64(k), 0)
	}
	return s
}

// values are the samples of an image of the tests as they are stored.
func values(d *dicom.DataSet) []byte { return d.Bytes(dicom.PixelData) }

// enhanced makes one multi-frame image of single-frame ones, in their order, as PS3.3 A.38, A.36 and A.56 have it: what is the
// same in all in the shared groups, the rest in those of each frame.
func enhanced(class string, s []*dicom.DataSet) *dicom.DataSet {
	d := dicom.New()
	d.Copy(s[0], dicom.StudyInstanceUID, dicom.SeriesInstanceUID, dicom.FrameOfReferenceUID, dicom.Modality, dicom.ImageType, dicom.SamplesPerPixel,
		dicom.PhotometricInterpretation, dicom.Rows, dicom.Columns, dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation, dicom.Units)
	d.SetString(dicom.SOPClassUID, class)
	d.SetString(dicom.SOPInstanceUID, "1.2.3.1000")
	d.SetInt(dicom.NumberOfFrames, len(s))

	item := func(tags ...dicom.Tag) func(from *dicom.DataSet) *dicom.DataSet {
		return func(from *dicom.DataSet) *dicom.DataSet {
			i := dicom.New()
			i.Copy(from, tags...)
			return i
		}
	}
	shared := dicom.New()
	shared.SetSeq(dicom.PixelMeasuresSequence, item(dicom.PixelSpacing, dicom.SliceThickness)(s[0]))
	shared.SetSeq(dicom.PlaneOrientationSequence, item(dicom.ImageOrientationPatient)(s[0]))
	var own []*dicom.DataSet
	var pixels []byte
	for k, from := range s {
		g := dicom.New()
		content := dicom.New()
		content.SetString(dicom.StackID, "1")
		content.SetInt(dicom.InStackPositionNumber, len(s)-k) // says nothing
		g.SetSeq(dicom.FrameContentSequence, content)
		g.SetSeq(dicom.PlanePositionSequence, item(dicom.ImagePositionPatient)(from))
		if from.Has(dicom.RescaleSlope) {
			g.SetSeq(dicom.PixelValueTransformationSequence, item(dicom.RescaleSlope, dicom.RescaleIntercept, dicom.RescaleType)(from))
		}
		if from.Has(dicom.RealWorldValueMappingSequence) {
			g.SetSeq(dicom.RealWorldValueMappingSequence, from.Seq(dicom.RealWorldValueMappingSequence)...)
		}
		if te, ok := from.Float(dicom.EchoTime); ok {
			echo := dicom.New()
			echo.SetFloat(dicom.EffectiveEchoTime, te)
			g.SetSeq(dicom.MREchoSequence, echo)
		}
		frameType := item()(from)
		frameType.SetString(dicom.FrameType, from.Strings(dicom.ImageType)...)
		g.SetSeq(map[string]dicom.Tag{"CT": dicom.CTImageFrameTypeSequence, "MR": dicom.MRImageFrameTypeSequence, "PT": dicom.PETFrameTypeSequence}[from.String(dicom.Modality)], frameType)
		source := dicom.New()
		source.SetString(dicom.ReferencedSOPClassUID, from.String(dicom.SOPClassUID))
		source.SetString(dicom.ReferencedSOPInstanceUID, from.String(dicom.SOPInstanceUID))
		g.SetSeq(dicom.ConversionSourceAttributesSequence, source)
		own = append(own, g)
		pixels = append(pixels, values(from)...)
	}
	d.SetSeq(dicom.SharedFunctionalGroupsSequence, shared)
	d.SetSeq(dicom.PerFrameFunctionalGroupsSequence, own...)
	d.SetBytes(dicom.PixelData, dicom.OW, pixels)
	return d
}

// nm is a reconstructed NM image of n slices, spacing mm apart, for each of the time slots.
func nm(n, slots int, spacing float64) *dicom.DataSet {
	d := ct(0)
	d.SetString(dicom.SOPClassUID, dicom.NuclearMedicineImageStorage)
	d.SetString(dicom.Modality, "NM")
	d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION")
	d.Remove(dicom.RescaleSlope, dicom.RescaleIntercept, dicom.ImagePositionPatient, dicom.ImageOrientationPatient)
	detector := dicom.New()
	at := position(0)
	detector.SetFloat(dicom.ImagePositionPatient, at[:]...)
	detector.SetFloat(dicom.ImageOrientationPatient, append(row[:], column[:]...)...)
	d.SetSeq(dicom.DetectorInformationSequence, detector)
	d.SetFloat(dicom.SpacingBetweenSlices, spacing)
	d.SetInt(dicom.NumberOfFrames, n*slots)
	var slot, slice []int
	var pixels []byte
	for t := range slots {
		for k := range n {
			slot, slice = append(slot, t+1), append(slice, k+1)
			for p := range 6 {
				pixels = binary.LittleEndian.AppendUint16(pixels, uint16(1000*t+100*k+p))
			}
		}
	}
	d.SetInt(dicom.TimeSlotVector, slot...)
	d.SetInt(dicom.SliceVector, slice...)
	d.SetInt(dicom.PixelRepresentation, 0)
	d.SetBytes(dicom.PixelData, dicom.OW, pixels)
	return d
}

// table gives images a Modality LUT of n entries from a stored value on: twice the entry's number.
func table(s []*dicom.DataSet, n, first int) {
	for _, d := range s {
		lut := dicom.New()
		lut.SetBytes(dicom.LUTDescriptor, dicom.US, binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, uint16(n)), uint16(first)), 16))
		lut.SetString(dicom.ModalityLUTType, "US")
		var data []byte
		for i := range n {
			data = binary.LittleEndian.AppendUint16(data, uint16(2*i))
		}
		lut.SetBytes(dicom.LUTData, dicom.OW, data)
		d.SetSeq(dicom.ModalityLUTSequence, lut)
	}
}

// mapping gives images a Real World Value Mapping: 3 s - 7 in a unit, after one in a unit of no scheme.
func mapping(s []*dicom.DataSet, unit string, low, high int) {
	for _, d := range s {
		item := func(scheme, unit string, slope float64) *dicom.DataSet {
			m, code := dicom.New(), dicom.New()
			code.SetString(dicom.CodeValue, unit)
			code.SetString(dicom.CodingSchemeDesignator, scheme)
			code.SetString(dicom.CodeMeaning, unit)
			m.SetSeq(dicom.MeasurementUnitsCodeSequence, code)
			m.SetBytes(dicom.RealWorldValueFirstValueMapped, dicom.SS, binary.LittleEndian.AppendUint16(nil, uint16(low)))
			m.SetBytes(dicom.RealWorldValueLastValueMapped, dicom.SS, binary.LittleEndian.AppendUint16(nil, uint16(high)))
			m.SetFloat(dicom.RealWorldValueSlope, slope)
			m.SetFloat(dicom.RealWorldValueIntercept, -7)
			return m
		}
		d.SetSeq(dicom.RealWorldValueMappingSequence, item("99VENDOR", "thing", 11), item("UCUM", unit, 3), item("UCUM", "mm", 5))
	}
}
