package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// BenchmarkScale is `radnode extract` on a CT of up to 2,000 slices with up to 50 ROIs, spheres of 5 to 25 mm radius: seconds, and
// the most memory that the process had resident, beside the bytes of the volume as float32. Time grows with slices and with
// ROIs, each by itself.
//
//	go test -run '^$' -bench Scale -benchtime 1x -timeout 1h ./cmd/radnode
func BenchmarkScale(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "radnode")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct{ slices, regions int }{{500, 50}, {1000, 50}, {2000, 50}, {2000, 25}, {2000, 1}} {
		b.Run(fmt.Sprintf("%dslices-%drois", c.slices, c.regions), func(b *testing.B) {
			dir := b.TempDir()
			writeLargeCT(b, dir, 512, c.slices, c.regions)
			volume := float64(4 * 512 * 512 * c.slices)
			var took, most float64
			b.ResetTimer()
			for range b.N {
				cmd := exec.Command(binary, "extract", "--out", filepath.Join(dir, "out.csv"), dir)
				start := time.Now()
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				took += time.Since(start).Seconds()
				most = max(most, maxResident(cmd.ProcessState))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(took/float64(b.N), "s")
			b.ReportMetric(most/(1<<20), "MiB-resident")
			b.ReportMetric(most/volume, "volumes")
		})
	}
}

// writeLargeCT writes a CT of noise and a structure set of spheres.
func writeLargeCT(b *testing.B, dir string, size, slices, regions int) {
	b.Helper()
	const study, series, frame, spacing = "1.2.3", "1.2.3.1", "1.2.3.2", 0.8
	uid := func(k int) string { return fmt.Sprintf("1.2.3.1.%d", k+1) }
	common := func(class, uid, series, modality string) *dicom.DataSet {
		d := dicom.New()
		d.SetString(dicom.SOPClassUID, class)
		d.SetString(dicom.SOPInstanceUID, uid)
		d.SetString(dicom.StudyInstanceUID, study)
		d.SetString(dicom.SeriesInstanceUID, series)
		d.SetString(dicom.FrameOfReferenceUID, frame)
		d.SetString(dicom.Modality, modality)
		return d
	}
	write := func(name string, d *dicom.DataSet) {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = dicom.WriteFile(f, dicom.FileMeta{
				MediaStorageSOPClassUID: d.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID),
				TransferSyntaxUID: dicom.ExplicitVRLittleEndian,
			}, d)
			f.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	pixels := make([]byte, 2*size*size)
	var images []*dicom.DataSet
	for k := range slices {
		for i := 0; i < len(pixels); i += 2 {
			v := 1000 + r.Uint32()%128
			pixels[i], pixels[i+1] = byte(v), byte(v>>8)
		}
		d := common(dicom.CTImageStorage, uid(k), series, "CT")
		d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "AXIAL")
		d.SetInt(dicom.Rows, size)
		d.SetInt(dicom.Columns, size)
		d.SetInt(dicom.SamplesPerPixel, 1)
		d.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
		d.SetInt(dicom.BitsAllocated, 16)
		d.SetInt(dicom.BitsStored, 16)
		d.SetInt(dicom.HighBit, 15)
		d.SetInt(dicom.PixelRepresentation, 0)
		d.SetFloat(dicom.PixelSpacing, spacing, spacing)
		d.SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0, 1, 0)
		d.SetFloat(dicom.ImagePositionPatient, 0, 0, float64(k)*spacing)
		d.SetFloat(dicom.RescaleSlope, 1)
		d.SetFloat(dicom.RescaleIntercept, -1024)
		d.SetBytes(dicom.PixelData, dicom.OW, pixels)
		write(fmt.Sprintf("%05d.dcm", k), d)
		reference := dicom.New()
		reference.SetString(dicom.ReferencedSOPClassUID, dicom.CTImageStorage)
		reference.SetString(dicom.ReferencedSOPInstanceUID, uid(k))
		images = append(images, reference)
	}
	item := func(fill func(*dicom.DataSet)) *dicom.DataSet {
		d := dicom.New()
		fill(d)
		return d
	}
	d := common(dicom.RTStructureSetStorage, "1.2.3.9", "1.2.3.8", "RTSTRUCT")
	d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, item(func(d *dicom.DataSet) {
		d.SetString(dicom.FrameOfReferenceUID, frame)
		d.SetSeq(dicom.RTReferencedStudySequence, item(func(d *dicom.DataSet) {
			d.SetSeq(dicom.RTReferencedSeriesSequence, item(func(d *dicom.DataSet) {
				d.SetString(dicom.SeriesInstanceUID, series)
				d.SetSeq(dicom.ContourImageSequence, images...)
			}))
		}))
	}))
	var rois, drawn []*dicom.DataSet
	for n := range regions {
		radius := 5 + 20*float64(n)/float64(max(regions-1, 1))
		centre := [3]float64{120 + 160*r.Float64(), 120 + 160*r.Float64(), radius + 1 + (float64(slices)*spacing-2*radius-2)*r.Float64()}
		rois = append(rois, item(func(d *dicom.DataSet) {
			d.SetInt(dicom.ROINumber, n+1)
			d.SetString(dicom.ReferencedFrameOfReferenceUID, frame)
			d.SetString(dicom.ROIName, fmt.Sprintf("ROI %d", n+1))
		}))
		var contours []*dicom.DataSet
		for k := range slices {
			h := float64(k)*spacing - centre[2]
			if math.Abs(h) >= radius-0.1 {
				continue
			}
			across := math.Sqrt(radius*radius - h*h)
			var points []float64
			for a := range 90 {
				sin, cos := math.Sincos(2 * math.Pi * float64(a) / 90)
				points = append(points, centre[0]+across*cos, centre[1]+across*sin, float64(k)*spacing)
			}
			contours = append(contours, item(func(d *dicom.DataSet) {
				d.SetSeq(dicom.ContourImageSequence, images[k])
				d.SetString(dicom.ContourGeometricType, "CLOSED_PLANAR")
				d.SetInt(dicom.NumberOfContourPoints, 90)
				d.SetFloat(dicom.ContourData, points...)
			}))
		}
		drawn = append(drawn, item(func(d *dicom.DataSet) {
			d.SetInt(dicom.ReferencedROINumber, n+1)
			d.SetSeq(dicom.ContourSequence, contours...)
		}))
	}
	d.SetSeq(dicom.StructureSetROISequence, rois...)
	d.SetSeq(dicom.ROIContourSequence, drawn...)
	write("contours.dcm", d)
	runtime.GC()
}
