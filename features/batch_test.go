package features_test

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"golang.org/x/sync/errgroup"
)

// peak is the most memory that f has in use beside what was there before: what
// the collector finds alive, which runs at every large block. Who looks may miss
// the moment on a busy machine, so f is run again while the peak is less than it
// is thought to be at least.
func peak(least int64, f func()) (most int64) {
	for range 20 {
		if most = max(most, peakOnce(f)); most >= least {
			break
		}
	}
	return most
}

func peakOnce(f func()) int64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	in := func() int64 {
		metrics.Read(live)
		return int64(live[0].Value.Uint64())
	}
	runtime.GC()
	before := in()
	most := before
	var wait sync.WaitGroup
	done := make(chan struct{})
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Microsecond):
				most = max(most, in())
			}
		}
	})
	f()
	close(done)
	wait.Wait()
	return most - before
}

// The estimate is never below the peak, and at most six times as much, for all
// families together three times. A small one may be anything.
func TestEstimate(t *testing.T) {
	noise := func() (*voxel.Grid, *voxel.Mask) {
		g, m := ball(20, [3]float64{1, 1, 1})
		r := rand.New(rand.NewPCG(1, 2))
		for i := range m.Data {
			m.Data[i] &= uint8(r.IntN(2))
		}
		return g, m
	}
	for kind, make := range map[string]func() (*voxel.Grid, *voxel.Mask){
		"ball":   func() (*voxel.Grid, *voxel.Mask) { return ball(24, [3]float64{1, 1.2, 0.8}) },
		"ragged": func() (*voxel.Grid, *voxel.Mask) { return blob([3]int{70, 60, 50}, 4) },
		"noise":  noise,
	} {
		g, m := make()
		for _, f := range append(features.DefaultProfile("CT").Families, "all") {
			for _, method := range []string{"none", "linear", "cubic"} {
				if method != "none" && f != features.Statistics && f != "all" {
					continue // what interpolation takes hides what the family does
				}
				p := features.DefaultProfile("CT")
				most := int64(6)
				if f != "all" {
					p.Families = []features.Family{f}
				} else {
					most = 3
				}
				p.Aggregate = []features.Aggregation{features.Agg2DAvg, features.Agg25DComb, features.Agg3DComb}
				p.Resample.Image = method
				if method == "none" {
					p.Resample.Spacing = nil
				}
				p.Discretise = features.Discretise{Method: "fbn", Bins: 64}
				estimate := features.Estimate(g.Geometry, m.Bounds(), p)
				used := peak(estimate/most, func() { extract(t, g, m, p) })
				if estimate < used || estimate > most*used+8<<20 { // the parts of a needle's oriented box are 8 MiB
					t.Errorf("%s, %s, interpolation %s: estimate %d KiB, peak %d KiB", kind, f, method, estimate>>10, used>>10)
				}
			}
		}
	}
}

// targets are regions as in radiotherapy: a tumour in a target volume in a wider
// one, a region that looks out of it, one inside with another spacing, and one
// far off, with the boxes that contours would give.
func targets() (*voxel.Grid, []*voxel.Mask, []features.Region) {
	geo := geometry([3]int{80, 50, 70}, [3]float64{1.5, 1.5, 2})
	g := &voxel.Grid{Geometry: geo, Data: make([]float32, geo.Len())}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range g.Data {
		g.Data[i] = float32(r.IntN(200)) - 100
	}
	var masks []*voxel.Mask
	var regions []features.Region
	for n, box := range []voxel.Box{
		{Min: [3]int{6, 6, 5}, Max: [3]int{60, 40, 56}}, {Min: [3]int{4, 2, 2}, Max: [3]int{64, 44, 60}},
		{Min: [3]int{8, 7, 8}, Max: [3]int{58, 40, 52}}, {Min: [3]int{30, 20, 5}, Max: [3]int{42, 30, 66}},
		{Min: [3]int{30, 20, 16}, Max: [3]int{36, 26, 19}}, {Min: [3]int{72, 40, 66}, Max: [3]int{76, 46, 69}},
	} {
		m := &voxel.Mask{Geometry: geo, Data: make([]uint8, geo.Len())}
		for z := box.Min[2]; z < box.Max[2]; z++ {
			for y := box.Min[1]; y < box.Max[1]; y++ {
				for x := box.Min[0]; x < box.Max[0]; x++ {
					m.Data[(z*geo.Size[1]+y)*geo.Size[0]+x] = uint8(min(r.IntN(10), 1))
				}
			}
		}
		p := features.DefaultProfile("CT")
		p.Families = []features.Family{features.LocalIntensity, features.Statistics, features.GLCM}
		if n == 4 {
			p.Resample.Spacing = []float64{2, 2, 2}
		}
		masks = append(masks, m)
		regions = append(regions, features.Region{Bounds: box.Grow([3]int{1, 1, 1}, geo.Box()), Profile: p})
	}
	return g, masks, regions
}

// Regions that share a block have the bits of regions extracted alone, in any
// order, whatever the number of workers and whatever becomes of the others.
func TestBatch(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	g, masks, regions := targets()
	for _, method := range []string{"nearest", "linear", "cubic"} {
		want := make([]features.Result, len(regions))
		for i := range regions {
			regions[i].Profile.Resample.Image = method
			want[i] = extract(t, g, masks[i], regions[i].Profile)
		}
		shared := features.NewBatch(g.Geometry, regions, math.MaxInt64).Shared()
		if all := 4 * int64(voxel.Aligned(g.Geometry, [3]float64{1, 1, 1}).Len()); shared < all/3 || shared > all {
			t.Fatalf("%s: the blocks take %d bytes, the whole image %d", method, shared, all)
		}
		for _, workers := range []int{1, 2, 8} {
			for _, room := range []int64{math.MaxInt64, 0} {
				runtime.GOMAXPROCS(workers)
				b := features.NewBatch(g.Geometry, regions, room)
				if room == 0 && b.Shared() != 0 {
					t.Fatalf("%d bytes shared in no room", b.Shared())
				}
				got := make([]features.Result, len(regions))
				var tasks errgroup.Group
				tasks.SetLimit(workers)
				for _, i := range rand.New(rand.NewPCG(5, uint64(workers))).Perm(len(regions)) {
					tasks.Go(func() (err error) {
						defer b.Done(i)
						got[i], err = b.Extract(context.Background(), i, g, masks[i])
						return err
					})
				}
				if err := tasks.Wait(); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s, %d workers, room %d:\n%s", method, workers, room, d)
				}
			}
		}
	}
}

// A voxel without a value refuses the regions around it, and no other that
// shares the block; a mask outside the box that was foretold is measured all the
// same.
func TestBatchApart(t *testing.T) {
	g, masks, regions := targets()
	g.Data[(30*50+25)*80] = float32(math.NaN()) // in reach of the widest region alone, which the others share
	b := features.NewBatch(g.Geometry, regions, math.MaxInt64)
	for i := range regions {
		got, err := b.Extract(context.Background(), i, g, masks[i])
		want, err2 := features.Extract(context.Background(), g, masks[i], regions[i].Profile)
		if (err == nil) != (i != 1) || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Errorf("region %d: %v; alone: %v", i, err, err2)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("region %d:\n%s", i, d)
		}
	}

	g, masks, regions = targets()
	b = features.NewBatch(g.Geometry, regions[:3], math.MaxInt64)
	got, err := b.Extract(context.Background(), 0, g, masks[3])
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(extract(t, g, masks[3], regions[0].Profile), got); d != "" {
		t.Error(d)
	}
}

// The blocks and the region that takes most bound what a batch takes, one after
// the other.
func TestBatchEstimate(t *testing.T) {
	g, masks, regions := targets()
	for _, method := range []string{"linear", "cubic"} {
		for i := range regions {
			regions[i].Profile.Resample.Image = method
		}
		b := features.NewBatch(g.Geometry, regions, math.MaxInt64)
		estimate := int64(0)
		for i := range regions {
			estimate = max(estimate, b.Shared()+b.Estimate(i))
		}
		used := peak(estimate/3, func() {
			b := features.NewBatch(g.Geometry, regions, math.MaxInt64)
			for i := range regions {
				if _, err := b.Extract(context.Background(), i, g, masks[i]); err != nil {
					t.Error(err)
				}
				b.Done(i)
			}
		})
		if estimate < used || estimate > 3*used {
			t.Errorf("%s: estimate %d KiB, peak %d KiB", method, estimate>>10, used>>10)
		}
	}
}

// BenchmarkBatch is a tumour in two target volumes, together and each alone.
func BenchmarkBatch(b *testing.B) {
	g, masks, regions := targets()
	for _, method := range []string{"linear", "cubic"} {
		for i := range 3 {
			regions[i].Profile.Families = []features.Family{features.Statistics}
			regions[i].Profile.Resample.Image = method
		}
		for name, room := range map[string]int64{"shared": math.MaxInt64, "alone": 0} {
			b.Run(method+"/"+name, func(b *testing.B) {
				for b.Loop() {
					batch := features.NewBatch(g.Geometry, regions[:3], room)
					var tasks errgroup.Group
					tasks.SetLimit(runtime.GOMAXPROCS(0))
					for i := range 3 {
						tasks.Go(func() error {
							defer batch.Done(i)
							_, err := batch.Extract(context.Background(), i, g, masks[i])
							return err
						})
					}
					if err := tasks.Wait(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
