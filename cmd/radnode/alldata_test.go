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

	"github.com/radnode/radnode/pipeline/sr"
)

// TestAllDataThroughTheNetwork pushes every study of the reference data into a node: each contour object that has its images
// comes back as a report, with the values that extract gives for the same files, to the bit; of the others the state says
// why not.
func TestAllDataThroughTheNetwork(t *testing.T) {
	for _, c := range []struct {
		folder  []string
		reports int // one for each contour object and series
		regions int
		waiting int // contour objects without their images
	}{
		{[]string{"ibsi1", "ct_phantom", "dicom"}, 1, 1, 0},
		{[]string{"lung1"}, 1, 4, 0},
		{[]string{"sts"}, 9, 9, 0},
		{[]string{"sts_raw"}, 3, 6, 0},
		{[]string{"dcmqi"}, 3, 7, 1},
		{[]string{"highdicom"}, 1, 1, 5},
	} {
		t.Run(c.folder[0], func(t *testing.T) {
			folder := shared(t, append([]string{"data"}, c.folder...)...)
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

			pacs := startPACS(t, "127.0.0.1:0")
			cfg := testConfig(t)
			cfg.Deliver = []string{pacs.destination()}
			cfg.Quiet = time.Second // for contours that name only the slices they are drawn on, or images by former UIDs
			n, _ := startNode(t, cfg)
			radnode(t, "send", n.peer().String(), folder, "-j", "2")
			got := map[string][]float64{}
			for _, o := range pacs.waitReports(t, c.reports) {
				groups, err := sr.Measurements(o.dataSet(t))
				if err != nil {
					t.Fatal(err)
				}
				region := ""
				for _, g := range groups {
					region = cmp.Or(regionOf(g), region)
					key := region + " " + g.SourceSeries
					for _, m := range g.Measurements {
						got[key] = append(got[key], m.Value)
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
			if s := n.pipeline.Stats(); s.Waiting != c.waiting || s.Refused != 0 || s.Failed != 0 {
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
