package pages

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/testdata"
)

// need gives a program that other people wrote. Without it the test is skipped, and fails where everything is meant to be
// installed.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		absent(t, program+" is not installed")
	}
	return path
}

func absent(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.Command(need(t, program), args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", program, err, out.Bytes(), problems.Bytes())
	}
	return out.String()
}

func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A study is images, their regions and the header of one image.
type study struct {
	volume  *imaging.Volume
	regions []roi.Region
}

// load reads a series and a structure set: every file of the folders of a file system.
func load(t testing.TB, fsys fs.FS, images, contours string) study {
	t.Helper()
	read := func(pattern string) (all []*dicom.File) {
		names, err := fs.Glob(fsys, pattern)
		if err != nil || len(names) == 0 {
			absent(t, "no file matches "+pattern+": RADNODE_SHARED names the folder of reference data")
		}
		for _, n := range names {
			b, err := fs.ReadFile(fsys, n)
			if err != nil {
				t.Fatal(err)
			}
			f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, f)
		}
		return all
	}
	v, err := imaging.Assemble(context.Background(), read(images), imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	regions, err := roi.Regions(read(contours)[0])
	if err != nil {
		t.Fatal(err)
	}
	return study{v, regions}
}

func synthetic(t testing.TB) study {
	return load(t, testdata.FS, testdata.SyntheticCT+"/ct-*.dcm", testdata.SyntheticCT+"/rtstruct.dcm")
}

func shared() fs.FS {
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	return os.DirFS(filepath.Join(root, "data"))
}

func (s study) mask(t testing.TB, name string) *voxel.Mask {
	t.Helper()
	for _, r := range s.regions {
		if r.Name == name || name == "" {
			m, _, err := roi.Rasterise(context.Background(), r, s.volume.Grid.Geometry, voxel.Rule{})
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
	t.Fatalf("no region %q", name)
	return nil
}

// lesion is a page full of what a real report has; its numbers are made up from seed.
func lesion(g *voxel.Grid, m *voxel.Mask, modality, unit, name string, seed int, italian bool) Lesion {
	number := func(k int) string {
		s := fmt.Sprintf("%.4g", math.Abs(math.Sin(float64(k*7919+seed)))*math.Pow(10, float64(k%5)))
		if italian {
			s = strings.Replace(s, ".", ",", 1)
		}
		return s
	}
	l := Lesion{
		Name: name, Subtitle: "Neoplasm, upper lobe of the right lung, CT", Histogram: Count(g, m), Views: Views(g, m, modality, unit),
		Summary: []string{
			"Volume 12.3 cm³, longest diameter 41 mm, mean −46.9 HU.",
			"Against 12 March 2026: volume +18 %, mean −3.1 HU. 170 of 172 features could be computed.",
		},
		Key: []Value{
			{"Volume", number(1), "cm³"}, {"Longest diameter", number(2), "mm"}, {"Mean intensity", number(3), unit},
			{"Median intensity", number(4), unit}, {"Minimum", number(5), unit}, {"Maximum", number(6), unit},
			{"Standard deviation", number(7), unit}, {"10th percentile", number(8), unit}, {"90th percentile", number(9), unit},
			{"Sphericity", number(10), ""}, {"Surface area", number(11), "mm²"}, {"Entropy", number(12), "bit"},
		},
		Comments: []string{
			"Region: ROI 1 of RT Structure Set 1.2.826.0.1.3680043.8.498.100001",
			"14231 voxels as contoured, 10382 after resampling to 1 × 1 × 1 mm, 10377 after resegmentation to −1000 to 400 HU.",
			"Not computable: correlation of the grey level co-occurrence matrix (one level).",
		},
	}
	if italian {
		l.Subtitle = "Neoplasia, lobo superiore del polmone destro, TC"
		l.Summary = []string{"Volume 12,3 cm³, diametro massimo 41 mm, media −46,9 HU.",
			"Rispetto al 12 marzo 2026: volume +18 %, media −3,1 HU. 170 parametri su 172 calcolati."}
		for i, s := range []string{"Volume", "Diametro massimo", "Intensità media", "Intensità mediana", "Minimo", "Massimo",
			"Deviazione standard", "10° percentile", "90° percentile", "Sfericità", "Area della superficie", "Entropia"} {
			l.Key[i].Name = s
		}
	}
	if l.Histogram != nil {
		l.Histogram.Unit = unit
	}
	day := time.Date(2025, 11, 3, 9, 0, 0, 0, time.UTC)
	for i, q := range []string{"Volume", "Longest diameter", "Mean"} {
		tr := Trend{Name: q, Unit: []string{"cm³", "mm", unit}[i]}
		for k := range 4 {
			tr.Points = append(tr.Points, Point{day.AddDate(0, 0, 80*k), 10 + 5*math.Sin(float64(seed+k*(i+1)))})
		}
		l.Trend = append(l.Trend, tr)
	}
	k := 0
	for _, tag := range features.Tags(features.DefaultProfile(modality)) {
		f, a, _ := features.Lookup(tag)
		if n := len(l.Families); n == 0 || l.Families[n-1].Name != string(f.Family) {
			l.Families = append(l.Families, Family{Name: string(f.Family)})
		}
		k++
		n := f.Name
		if a != "" {
			n += " (3D, merged)"
		}
		last := &l.Families[len(l.Families)-1]
		last.Values = append(last.Values, Value{n, number(k * 13), strings.Trim(string(f.Unit), "1")})
	}
	return l
}

func sheetOf(lesions ...Lesion) Sheet {
	return Sheet{
		Title: "Radiomics (IBSI)", Time: time.Date(2026, 11, 3, 10, 30, 0, 0, time.UTC),
		Patient: []Row{{"Patient", "Müller-Lüdenscheidt, Dr. Anna Katharina Theodora"}, {"Patient ID", "PAT-0042"}, {"Born", "3 Feb 1958"}, {"Sex", "female"}},
		Study:   []Row{{"Study", "CT thorax with contrast"}, {"Study date", "2 Nov 2026"}, {"Accession no.", "A2026-11873"}, {"Series", "Thorax 1.0 B30f"}},
		Lesions: lesions,
		Notes: []string{
			"radnode 0.1.0: computed from the regions as they were drawn. To be read with the images, not for a diagnosis by itself.",
			"Profile ct-default (3f9a12c0): INT:LIN:3D:1mm, RS:[-1000,400], FBS:25HU, 3D:mrg. IBSI reference manual v11 (arXiv:1612.07003).",
		},
	}
}

func pdfOf(t testing.TB, s Sheet) []byte {
	t.Helper()
	d, err := Draw(s)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.PDF()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The test writes documents to look at where RADNODE_PAGES names a folder.
func TestLook(t *testing.T) {
	folder := os.Getenv("RADNODE_PAGES")
	if folder == "" {
		t.Skip("RADNODE_PAGES names no folder to write to")
	}
	write := func(name string, s Sheet) {
		if err := os.WriteFile(filepath.Join(folder, name+".pdf"), pdfOf(t, s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ct := load(t, shared(), "lung1/LUNG1-001/image/*.dcm", "lung1/LUNG1-001/mask_rtstruct/*.dcm")
	g := ct.volume.Grid
	a := lesion(g, ct.mask(t, "GTV-1"), "CT", "HU", "GTV-1 right upper lobe", 1, false)
	b := lesion(g, ct.mask(t, "Lung-Right"), "CT", "HU", "Lung-Right", 2, false)
	c := lesion(g, ct.mask(t, "Spinal-Cord"), "CT", "HU", "Spinal-Cord", 3, false)
	write("ct", sheetOf(a, b, c))

	it := sheetOf(lesion(g, ct.mask(t, "GTV-1"), "CT", "HU", "GTV-1 "+strings.Repeat("lobo superiore destro ", 9), 1, true))
	it.Language, it.Title = "it", "Radiomica (IBSI)"
	it.Patient[0].Text = "Παπαδοπούλου-Κωνσταντινίδη, Αικατερίνη Щербакова-Воскресенская, Екатерина 山田太郎 أحمد"
	it.Lesions[0].Trend = nil
	it.Lesions[0].Comments = append(it.Lesions[0].Comments, strings.Repeat("Un commento molto lungo che continua. ", 60))
	write("it", it)

	mr := load(t, shared(), "sts_raw/STS_001/MR_T1/image/*", "sts_raw/STS_001/MR_T1/mask/*")
	pt := load(t, shared(), "sts/STS_001/PET/image/*", "sts/STS_001/PET/mask/*")
	write("mrpt", sheetOf(lesion(mr.volume.Grid, mr.mask(t, ""), "MR", "", "MR", 4, false), lesion(pt.volume.Grid, pt.mask(t, ""), "PT", "SUV", "PET", 5, false)))
	s := synthetic(t)
	write("synthetic", sheetOf(lesion(s.volume.Grid, s.mask(t, ""), "CT", "HU", "Sphere", 6, false)))

	d, err := Draw(sheetOf(a))
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Len() {
		var b bytes.Buffer
		if err := png.Encode(&b, d.Picture(i)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("capture-%d.png", i+1)), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
