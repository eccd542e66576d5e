package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/roi"
)

// Measured is what one contour object says of one image series.
type Measured struct {
	Volume  *imaging.Volume
	Source  *dicom.File // the RTSTRUCT
	Regions []MeasuredRegion
	Skipped []SkippedRegion // regions that could not be measured
	Took    Timing
}

// A MeasuredRegion is one ROI: where it lies, by which profile it was measured, and what came out.
type MeasuredRegion struct {
	Region  roi.Region
	Mask    *voxel.Mask // on the grid of the images
	Profile features.Profile
	Result  features.Result
	Notes   []string
}

// A SkippedRegion is an ROI without values, and why.
type SkippedRegion struct {
	Region roi.Region
	Reason string
}

// Timing says where the time of a computation went.
type Timing struct {
	Load      time.Duration `json:"load,omitempty"` // reading headers and contours
	Assemble  time.Duration `json:"assemble"`
	Rasterise time.Duration `json:"rasterise"` // summed over the regions
	Features  time.Duration `json:"features"`  // summed over the regions
	Report    time.Duration `json:"report,omitempty"`
}

// ErrNothingMeasured says that no region of a contour object gave a value; the reasons are in [Measured.Skipped].
var ErrNothingMeasured = errors.New("no region could be measured")

// Measure computes the features of every wanted region that the contours draw on these images (nil wants all), each region
// by the profile that choose returns for it. A region that cannot be measured is skipped with its reason; where that is all of them the error
// is [ErrNothingMeasured]. The result does not depend on the order of the images or on the number of processors.
func Measure(ctx context.Context, contours *dicom.File, images []*dicom.File, wanted func(roi.Region) bool, choose func(modality, roi string) (features.Profile, error)) (*Measured, error) {
	start := time.Now()
	volume, err := imaging.Assemble(ctx, images)
	if err != nil {
		return nil, err
	}
	m := &Measured{Volume: volume, Source: contours}
	m.Took.Assemble = time.Since(start)

	regions, err := roi.Regions(contours.DataSet)
	if err != nil {
		return nil, err
	}
	if wanted != nil {
		regions = slices.DeleteFunc(regions, func(r roi.Region) bool { return !wanted(r) })
	}
	results := make([]MeasuredRegion, len(regions))
	reasons := make([]string, len(regions))
	rasterised, extracted := make([]time.Duration, len(regions)), make([]time.Duration, len(regions))

	// Each region fills its own place, so the order of the results is that of the contours whoever finishes first.
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, region := range regions {
		g.Go(func() error {
			if reason := elsewhere(region, volume); reason != "" {
				reasons[i] = reason
				return nil
			}
			profile, err := choose(volume.Modality, region.Name)
			if err != nil {
				return err
			}
			start := time.Now()
			mask, notes, err := roi.Rasterise(ctx, region, volume.Grid.Geometry)
			rasterised[i] = time.Since(start)
			if err == nil {
				start = time.Now()
				var result features.Result
				result, err = features.Extract(ctx, volume.Grid, mask, profile)
				extracted[i] = time.Since(start)
				results[i] = MeasuredRegion{Region: region, Mask: mask, Profile: profile, Result: result, Notes: notes}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				reasons[i] = err.Error()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := range regions {
		m.Took.Rasterise += rasterised[i]
		m.Took.Features += extracted[i]
		if reasons[i] != "" {
			m.Skipped = append(m.Skipped, SkippedRegion{Region: regions[i], Reason: reasons[i]})
		} else {
			m.Regions = append(m.Regions, results[i])
		}
	}
	if len(m.Regions) == 0 {
		return m, ErrNothingMeasured
	}
	return m, nil
}

// elsewhere says why a region does not belong to the volume, "" where it does. A structure set may draw some regions on one
// series and some on another (PS3.3 C.8.8.5).
func elsewhere(r roi.Region, v *imaging.Volume) string {
	if r.FrameOfReference != "" && v.FrameOfReference != "" && r.FrameOfReference != v.FrameOfReference {
		return fmt.Sprintf("drawn in another frame of reference: Referenced Frame of Reference UID (3006,0024) is %s, that of the images %s", r.FrameOfReference, v.FrameOfReference)
	}
	if len(r.SeriesUIDs) > 0 && !slices.Contains(r.SeriesUIDs, v.Series) {
		return fmt.Sprintf("drawn on another series, %s", strings.Join(r.SeriesUIDs, ", "))
	}
	return ""
}

// A Step is one line of a Timing.
type Step struct {
	Name string
	Took time.Duration
}

// Steps lists the steps in their order.
func (t Timing) Steps() []Step {
	return []Step{
		{"read headers and contours", t.Load}, {"images to a volume", t.Assemble}, {"contours to voxels, all regions", t.Rasterise},
		{"features, all regions", t.Features}, {"write report and segmentation", t.Report},
	}
}
