package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/pipeline/sr"
)

// A study is what a node is sent, and how much comes of it.
type study struct {
	name, folder string // below data, or absolute
	reports      int    // contour objects and series that are measured
	regions      int
	waiting      int // contour objects without their images
}

var referenceData = []study{
	{"ibsi1", "ibsi1/ct_phantom/dicom", 1, 1, 0},
	{"lung1", "lung1", 1, 4, 0},
	{"sts", "sts", 9, 9, 0},
	{"sts_raw", "sts_raw", 3, 6, 0},
	{"dcmqi", "dcmqi", 3, 7, 1},
	{"highdicom", "highdicom", 1, 1, 5},
}

// An answer is all that came back for a study.
type answer struct {
	folder  string
	objects []demoObject
	stats   pipeline.Stats
}

// answers are kept, as several tests look at the same ones.
var answers = map[string]answer{}

// sent pushes a study into a node of its own and returns what comes back.
func sent(t *testing.T, s study) answer {
	t.Helper()
	a, ok := answers[s.name]
	if !ok {
		a.folder = s.folder
		if !filepath.IsAbs(a.folder) {
			a.folder = shared(t, "data", filepath.FromSlash(s.folder))
		}
		a.objects, a.stats = send(t, a.folder, s.reports, nil)
		answers[s.name] = a
	}
	return a
}

// send pushes a folder into a node that change has configured, and returns what comes back by the time that there are so many
// reports and nothing is left to deliver.
func send(t *testing.T, folder string, reports int, change func(*Config)) ([]demoObject, pipeline.Stats) {
	t.Helper()
	pacs := startPACS(t, "127.0.0.1:0")
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	cfg.Quiet = time.Second // for contours that name only the slices they are drawn on, or images by former UIDs
	if change != nil {
		change(&cfg)
	}
	n, stop := startNode(t, cfg)
	radnode(t, "send", n.peer().String(), folder, "-j", "2")
	pacs.waitReports(t, reports)
	waitIdle(t, n)
	stats := n.pipeline.Stats()
	stop()
	pacs.stop()
	return pacs.objects, stats
}

func ofClasses(objects []demoObject, classes ...string) (out []demoObject) {
	for _, o := range objects {
		if slices.Contains(classes, o.meta.MediaStorageSOPClassUID) {
			out = append(out, o)
		}
	}
	return out
}

// TestAllDataThroughTheNetwork pushes every study of the reference data into a node: each contour object that has its images
// comes back as a report, with the values that extract gives for the same files, to the bit; of the others the state says
// why not.
func TestAllDataThroughTheNetwork(t *testing.T) {
	for _, c := range referenceData {
		t.Run(c.name, func(t *testing.T) {
			folder := shared(t, "data", filepath.FromSlash(c.folder))
			file := filepath.Join(t.TempDir(), "values.csv")
			want := map[string][]float64{} // by contour object, series and region
			if code := execute(t.Context(), []string{"extract", "--out", file, folder}, t.Output(), t.Output()); (code != exitDone) != (c.waiting > 0) {
				t.Fatalf("extract: exit %d", code)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows[1:] {
				column := func(name string) string { return r[slices.Index(rowNames, name)] }
				if column("value") == "" {
					continue
				}
				v, err := strconv.ParseFloat(column("value"), 64)
				if err != nil {
					t.Fatal(err)
				}
				key := column("roi_source_uid") + " " + column("roi_number") + " " + column("series_uid")
				want[key] = append(want[key], v)
			}

			back := sent(t, c)
			got := map[string][]float64{}
			for _, o := range ofClasses(back.objects, reportClasses...) {
				groups, err := sr.Measurements(o.dataSet(t))
				if err != nil {
					t.Fatal(err)
				}
				regions := map[string]string{} // by Tracking UID: the first group of a region names it
				for _, g := range groups {
					regions[g.TrackingUID] = cmp.Or(regions[g.TrackingUID], regionOf(g))
					key := regions[g.TrackingUID] + " " + g.SourceSeries
					for _, m := range g.Measurements {
						if m.Concept.Scheme == "IBSI" { // others are for the reader: the same in other words or units
							got[key] = append(got[key], m.Value)
						}
					}
				}
			}
			if len(want) != c.regions || len(got) != c.regions {
				t.Errorf("extract measures %d regions, the reports hold %d, want %d", len(want), len(got), c.regions)
			}
			for key, w := range want {
				g := got[key]
				slices.Sort(w)
				slices.Sort(g)
				if !slices.Equal(w, g) {
					t.Errorf("%s: the report has %d values, extract %d, and they differ", key, len(g), len(w))
				}
			}
			if s := back.stats; s.Waiting != c.waiting || s.Refused != 0 || s.Failed != 0 {
				t.Errorf("%+v, want %d waiting", s, c.waiting)
			}
		})
	}
}

// regionOf is the contour object and the number of a group's region, as a comment says in the first of several groups of a
// region: "Region: ROI 2 of RT Structure Set 1.2.3".
func regionOf(g sr.Group) string {
	for _, c := range g.Comments {
		if text, ok := strings.CutPrefix(c, "Region: "); ok {
			words := strings.Fields(text)
			return words[len(words)-1] + " " + words[1]
		}
	}
	return ""
}
