package features

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The formulas of the manual as they are printed, over voxels in a map: the
// witness for the fast ways. Nothing here is shared with them.

type where = [3]int

// plainLevels discretises voxel by voxel (manual 2.7).
func plainLevels(roi *ROI) (map[where]int, int) {
	_, x := places(roi)
	lo, hi := slices.Min(x), slices.Max(x)
	p := roi.profile
	out, top, i := map[where]int{}, 0, 0
	for z := range roi.Image.Size[2] {
		for y := range roi.Image.Size[1] {
			for x := range roi.Image.Size[0] {
				if roi.Intensity.Data[i] != 0 {
					v := float64(roi.Image.Data[i])
					l := int(v)
					switch p.Discretise.Method {
					case "fbn":
						n := float64(p.Discretise.Bins)
						switch {
						case hi == lo:
							l = 1
						case v == hi:
							l = p.Discretise.Bins
						default:
							l = int(math.Floor(n*(v-lo)/(hi-lo))) + 1
						}
					case "fbs":
						start := lo
						if len(p.Resegment.Range) == 2 {
							start = p.Resegment.Range[0]
						}
						l = int(math.Floor((v-start)/p.Discretise.Width)) + 1
					}
					out[where{x, y, z}] = l
					top = max(top, l)
				}
				i++
			}
		}
	}
	return out, top
}

// inOrder are the voxels of a map in a fixed order.
func inOrder(m map[where]int) []where {
	var out []where
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b where) int {
		return (a[2]-b[2])<<20 + (a[1]-b[1])<<10 + a[0] - b[0]
	})
	return out
}

func plus(p, d where, n int) where {
	return where{p[0] + n*d[0], p[1] + n*d[1], p[2] + n*d[2]}
}

var (
	plane = []where{{1, 0, 0}, {1, 1, 0}, {0, 1, 0}, {-1, 1, 0}}
	space = []where{{0, 0, 1}, {0, 1, 0}, {1, 0, 0}, {0, 1, 1}, {0, 1, -1}, {1, 0, 1}, {1, 0, -1}, {1, 1, 0}, {1, -1, 0}, {1, 1, 1}, {1, 1, -1}, {1, -1, 1}, {1, -1, -1}}
)

// plainParts are the voxels and directions of each matrix of an aggregation.
func plainParts(m map[where]int, a Aggregation) (parts []struct {
	m    map[where]int
	dirs []where
}) {
	add := func(m map[where]int, dirs ...where) {
		parts = append(parts, struct {
			m    map[where]int
			dirs []where
		}{m, dirs})
	}
	bySlice := map[int]map[where]int{}
	for p, l := range m {
		if bySlice[p[2]] == nil {
			bySlice[p[2]] = map[where]int{}
		}
		bySlice[p[2]][p] = l
	}
	switch a {
	case Agg2D, Agg2DComb:
		for _, s := range bySlice {
			add(s, plane...)
		}
	case Agg2DAvg:
		for _, s := range bySlice {
			for _, d := range plane {
				add(s, d)
			}
		}
	case Agg25D, Agg25DComb:
		add(m, plane...)
	case Agg25DAvg:
		for _, d := range plane {
			add(m, d)
		}
	case Agg3D, Agg3DComb:
		add(m, space...)
	case Agg3DAvg:
		for _, d := range space {
			add(m, d)
		}
	}
	return parts
}

func plog(p float64) float64 {
	if p == 0 {
		return 0
	}
	return p * math.Log2(p)
}

func plainGLCM(m map[where]int, dirs []where, top int, t Texture) []float64 {
	p := make([][]float64, top+1)
	for i := range p {
		p[i] = make([]float64, top+1)
	}
	total := 0.0
	for _, d := range dirs {
		w := 1.0
		if t.GLCMWeighting != "none" {
			d := plus(where{}, d, t.GLCMDistance)
			x, y, z := math.Abs(float64(d[0])), math.Abs(float64(d[1])), math.Abs(float64(d[2]))
			length := map[string]float64{"euclidean": math.Sqrt(x*x + y*y + z*z), "manhattan": x + y + z, "chebyshev": math.Max(x, math.Max(y, z))}[t.GLCMNorm]
			w = map[string]float64{"inverse": 1 / length, "exponential": math.Exp(-length * length)}[t.GLCMWeighting]
		}
		for q, i := range m {
			for _, sign := range []int{1, -1} {
				if j, ok := m[plus(q, d, sign*t.GLCMDistance)]; ok {
					p[i][j] += w
					total += w
				}
			}
		}
	}
	if total == 0 {
		return nil
	}
	f := make([]float64, 25)
	n := float64(top)
	row := make([]float64, top+1)
	diff, sum := make([]float64, top+1), make([]float64, 2*top+1)
	used := 0
	for i := 1; i <= top; i++ {
		for j := 1; j <= top; j++ {
			p[i][j] /= total
			row[i] += p[i][j]
			diff[max(i-j, j-i)] += p[i][j]
			sum[i+j] += p[i][j]
		}
		if row[i] > 0 {
			used++
		}
	}
	mu, sigma, hx := 0.0, 0.0, 0.0
	for i, r := range row {
		mu += float64(i) * r
		hx -= plog(r)
	}
	for i, r := range row {
		sigma += (float64(i) - mu) * (float64(i) - mu) * r
	}
	hxy1, hxy2 := 0.0, 0.0
	for i := 1; i <= top; i++ {
		for j := 1; j <= top; j++ {
			q := p[i][j]
			a, b := float64(i), float64(j)
			d := math.Abs(a - b)
			f[0] = math.Max(f[0], q)
			f[1] += a * q
			f[2] += (a - mu) * (a - mu) * q
			f[3] -= plog(q)
			f[10] += q * q
			f[11] += d * d * q
			f[12] += d * q
			f[13] += q / (1 + d)
			f[14] += q / (1 + d/n)
			f[15] += q / (1 + d*d)
			f[16] += q / (1 + d*d/(n*n))
			if j > i {
				f[17] += 2 * q / (d * d)
			}
			f[18] += (a - mu) * (b - mu) * q / sigma
			f[19] += a * b * q
			f[20] += math.Pow(a+b-2*mu, 2) * q
			f[21] += math.Pow(a+b-2*mu, 3) * q
			f[22] += math.Pow(a+b-2*mu, 4) * q
			if row[i] > 0 && row[j] > 0 {
				hxy1 -= q * math.Log2(row[i]*row[j])
				hxy2 -= row[i] * row[j] * math.Log2(row[i]*row[j])
			}
		}
	}
	for k, q := range diff {
		f[4] += float64(k) * q
		f[6] -= plog(q)
	}
	for k, q := range diff {
		f[5] += (float64(k) - f[4]) * (float64(k) - f[4]) * q
	}
	for k, q := range sum {
		f[7] += float64(k) * q
		f[9] -= plog(q)
	}
	for k, q := range sum {
		f[8] += (float64(k) - f[7]) * (float64(k) - f[7]) * q
	}
	f[23] = (f[3] - hxy1) / hx
	f[24] = math.Sqrt(math.Max(0, 1-math.Exp(-2*(hxy2-f[3]))))
	if used == 1 {
		f[18], f[23], f[24] = math.NaN(), math.NaN(), 0
	}
	return f
}

// plainEmphases is the manual's section 3.7 for a matrix of (level, size).
func plainEmphases(r map[[2]int]float64, voxels float64) []float64 {
	if len(r) == 0 {
		return nil
	}
	f := make([]float64, 16)
	ns, mi, mj := 0.0, 0.0, 0.0
	byI, byJ := map[int]float64{}, map[int]float64{}
	for c, n := range r {
		ns += n
		byI[c[0]] += n
		byJ[c[1]] += n
	}
	for c, n := range r {
		i, j, p := float64(c[0]), float64(c[1]), n/ns
		for k, x := range []float64{1 / (j * j), j * j, 1 / (i * i), i * i, 1 / (i * i * j * j), i * i / (j * j), j * j / (i * i), i * i * j * j} {
			f[k] += x * n / ns
		}
		mi += i * p
		mj += j * p
		f[15] -= plog(p)
	}
	for _, n := range byI {
		f[8] += n * n / ns
		f[9] += n * n / (ns * ns)
	}
	for _, n := range byJ {
		f[10] += n * n / ns
		f[11] += n * n / (ns * ns)
	}
	f[12] = ns / voxels
	for c, n := range r {
		f[13] += (float64(c[0]) - mi) * (float64(c[0]) - mi) * n / ns
		f[14] += (float64(c[1]) - mj) * (float64(c[1]) - mj) * n / ns
	}
	return f
}

func plainGLRLM(m map[where]int, dirs []where) []float64 {
	r := map[[2]int]float64{}
	for _, d := range dirs {
		for p, i := range m {
			if m[plus(p, d, -1)] == i {
				continue // not where the run begins
			}
			n := 1
			for m[plus(p, d, n)] == i {
				n++
			}
			r[[2]int{i, n}]++
		}
	}
	return plainEmphases(r, float64(len(m)*len(dirs)))
}

// plainZones fills zones from a seed, and gives each its level, size and least distance.
func plainZones(roi *ROI, m map[where]int, threeD bool) (zones [][3]int) {
	distance := func(p where) int { // to the nearest where outside the morphological mask, by trying all
		g := roi.Morph.Size
		least := math.MaxInt
		for z := -1; z <= g[2]; z++ {
			if !threeD && z != p[2] {
				continue
			}
			for y := -1; y <= g[1]; y++ {
				for x := -1; x <= g[0]; x++ {
					inside := x >= 0 && y >= 0 && z >= 0 && x < g[0] && y < g[1] && z < g[2] && roi.Morph.Data[(z*g[1]+y)*g[0]+x] != 0
					if !inside {
						abs := func(a int) int { return max(a, -a) }
						least = min(least, abs(x-p[0])+abs(y-p[1])+abs(z-p[2]))
					}
				}
			}
		}
		return least
	}
	seen := map[where]bool{}
	for _, seed := range inOrder(m) {
		if seen[seed] {
			continue
		}
		seen[seed] = true
		zone := [3]int{m[seed], 0, math.MaxInt}
		for stack := []where{seed}; len(stack) > 0; {
			p := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			zone[1]++
			zone[2] = min(zone[2], distance(p))
			for _, d := range space {
				if !threeD && d[2] != 0 {
					continue
				}
				for _, sign := range []int{1, -1} {
					if q := plus(p, d, sign); m[q] == m[seed] && !seen[q] {
						seen[q] = true
						stack = append(stack, q)
					}
				}
			}
		}
		zones = append(zones, zone)
	}
	return zones
}

func plainNGTDM(m map[where]int, reach int, threeD bool) []float64 {
	s, n := map[int]float64{}, map[int]float64{}
	total := 0.0
	for p, i := range m {
		sum, w := 0.0, 0.0
		around(p, reach, threeD, func(q where) {
			if j, ok := m[q]; ok && q != p {
				sum += float64(j)
				w++
			}
		})
		if w > 0 {
			s[i] += math.Abs(float64(i) - sum/w)
			n[i]++
			total++
		}
	}
	if total == 0 {
		return nil
	}
	ps, sums, a, b, c, d := 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
	for i := range n {
		pi := n[i] / total
		ps += pi * s[i]
		sums += s[i]
		for j := range n {
			pj := n[j] / total
			x, y := float64(i), float64(j)
			a += pi * pj * (x - y) * (x - y)
			b += math.Abs(x*pi - y*pj)
			c += math.Abs(x-y) * (pi*s[i] + pj*s[j]) / (pi + pj)
			d += (pi + pj) * (x - y) * (x - y)
		}
	}
	out := []float64{1e6, 0, 0, c / total, 0}
	if ps > 1e-6 {
		out[0] = 1 / ps
	}
	if k := float64(len(n)); k > 1 {
		out[1] = a / (k * (k - 1)) * sums / total
		out[2] = ps / b
		if b < 1e-12 {
			out[2] = math.NaN()
		}
	}
	if sums > 0 {
		out[4] = d / sums
	}
	return out
}

func around(p where, reach int, threeD bool, f func(where)) {
	for z := -reach; z <= reach; z++ {
		if z != 0 && !threeD {
			continue
		}
		for y := -reach; y <= reach; y++ {
			for x := -reach; x <= reach; x++ {
				f(where{p[0] + x, p[1] + y, p[2] + z})
			}
		}
	}
}

func plainNGLDM(m map[where]int, reach, alpha int, threeD bool) []float64 {
	s := map[[2]int]float64{}
	for p, i := range m {
		k := 0
		around(p, reach, threeD, func(q where) {
			if j, ok := m[q]; ok && max(i-j, j-i) <= alpha {
				k++
			}
		})
		s[[2]int{i, k}]++
	}
	f := plainEmphases(s, float64(len(m)))
	energy := 0.0
	for _, n := range s {
		energy += n * n / float64(len(m)*len(m))
	}
	return append(f, energy)
}

// texturedROI is a random ROI with a random discretisation and random texture parameters.
func texturedROI(t *rapid.T) *ROI {
	roi := randomROI(t, rapid.SampledFrom([]int{1, 3, 6, 9}).Draw(t, "most"))
	p := Profile{Discretise: Discretise{Method: "fbn", Bins: rapid.SampledFrom([]int{2, 3, 8, 32, 256}).Draw(t, "bins")}}
	switch rapid.IntRange(0, 3).Draw(t, "method") {
	case 0:
		p.Resegment.Range = []float64{-1020, 3200}
		p.Discretise = Discretise{Method: "fbs", Width: rapid.SampledFrom([]float64{7.5, 100, 1000, 5000}).Draw(t, "width")}
	case 1: // levels as they are, often equal
		p.Discretise = Discretise{Method: "none"}
		n := rapid.SampledFrom([]float64{1, 2, 5}).Draw(t, "levels")
		for i, v := range roi.Image.Data {
			roi.Image.Data[i] = float32(1 + math.Mod(math.Floor(math.Abs(float64(v))), n))
		}
	}
	p.Texture = Texture{
		GLCMDistance:    rapid.IntRange(1, 3).Draw(t, "glcm"),
		GLCMWeighting:   rapid.SampledFrom([]string{"none", "inverse", "exponential"}).Draw(t, "weighting"),
		GLCMNorm:        rapid.SampledFrom([]string{"euclidean", "manhattan", "chebyshev"}).Draw(t, "norm"),
		NGTDMDistance:   rapid.IntRange(1, 3).Draw(t, "ngtdm"),
		NGLDMDistance:   rapid.IntRange(1, 2).Draw(t, "ngldm"),
		NGLDMCoarseness: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "coarseness"),
	}
	p.Families = []Family{GLSZM, GLDZM}
	// Re-segmentation takes voxels out of the intensity mask alone.
	in := &roi.Intensity
	*in = roi.Morph.Crop(roi.Morph.Box())
	for i := range (*in).Data {
		if roi.Image.Data[i] > 1000 && len(intensities(roi)) > 1 {
			(*in).Data[i] = 0
		}
	}
	roi.profile = p
	return roi
}

func TestTexturesAreThePlainFormulas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := texturedROI(t)
		m, top := plainLevels(roi)
		par := roi.profile.Texture
		for _, f := range families {
			if f.aggregate == whole {
				continue
			}
			for _, a := range f.aggregations(Profile{Aggregate: aggregations}) {
				threeD := a == Agg3D
				var sum, n []float64
				for _, part := range plainParts(m, a) {
					var one []float64
					switch f.name {
					case GLCM:
						one = plainGLCM(part.m, part.dirs, top, par)
					case GLRLM:
						one = plainGLRLM(part.m, part.dirs)
					case GLSZM, GLDZM:
						r := map[[2]int]float64{}
						for _, z := range plainZones(roi, part.m, threeD) {
							if f.name == GLSZM {
								r[[2]int{z[0], z[1]}]++
							} else {
								r[[2]int{z[0], z[2]}]++
							}
						}
						one = plainEmphases(r, float64(len(part.m)))
					case NGTDM:
						one = plainNGTDM(part.m, par.NGTDMDistance, threeD)
					case NGLDM:
						one = plainNGLDM(part.m, par.NGLDMDistance, par.NGLDMCoarseness, threeD)
					}
					if one == nil {
						continue
					}
					if sum == nil {
						sum, n = make([]float64, len(one)), make([]float64, len(one))
					}
					for k, x := range one {
						if !math.IsNaN(x) {
							sum[k] += x
							n[k]++
						}
					}
				}
				if f.name == GLSZM || f.name == GLDZM {
					// 2.5D merges zones of slices, which do not reach across.
					if a == Agg25D {
						r := map[[2]int]float64{}
						for _, part := range plainParts(m, Agg2D) {
							for _, z := range plainZones(roi, part.m, false) {
								if f.name == GLSZM {
									r[[2]int{z[0], z[1]}]++
								} else {
									r[[2]int{z[0], z[2]}]++
								}
							}
						}
						sum = plainEmphases(r, float64(len(m)))
						n = slices.Repeat([]float64{1}, len(sum))
					}
				}
				v := values{rows: f.rows, aggregation: a}
				f.compute(roi, &v)
				for k, got := range v.list {
					switch {
					case sum == nil || n[k] == 0:
						if got.Reason == "" {
							t.Fatalf("%s = %v, want none", got.Tag, got.Value)
						}
					case got.Reason != "":
						t.Fatalf("%s has no value (%s), want %v", got.Tag, got.Reason, sum[k]/n[k])
					default:
						want := sum[k] / n[k]
						// What is a difference of large numbers is compared with those.
						scale := math.Max(math.Abs(want), 1e-3*math.Pow(float64(top), map[string]float64{"cm_clust_shade": 3, "cm_clust_prom": 4}[f.rows[k].Tag]))
						tol := 1e-9
						switch f.rows[k].Tag {
						case "cm_info_corr1": // a ratio of entropies near 0
							tol = 1e-6
						case "cm_info_corr2": // the square root of a rounding error
							tol = 1e-4
						}
						if math.Abs(got.Value-want) > tol*(scale+1e-3) {
							t.Fatalf("%s = %v, want %v (%d levels, %+v)", got.Tag, got.Value, want, top, roi.profile)
						}
					}
				}
			}
		}
	})
}

// The histogram's features over the list of voxels rather than its bins.
func TestHistogramIsThePlainFormulas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := texturedROI(t)
		m, top := plainLevels(roi)
		var x []float64
		for _, l := range m {
			x = append(x, float64(l))
		}
		slices.Sort(x)
		n := float64(len(x))
		mean := func(f func(float64) float64) (s float64) {
			for _, v := range x {
				s += f(v) / n
			}
			return s
		}
		mu := mean(func(v float64) float64 { return v })
		moment := func(k float64) float64 { return mean(func(v float64) float64 { return math.Pow(v-mu, k) }) }
		quantile := func(p float64) float64 {
			h := (n - 1) * p
			lo := int(h)
			return x[lo] + (h-float64(lo))*(x[min(lo+1, len(x)-1)]-x[lo])
		}
		h := make([]float64, top+1)
		for _, v := range x {
			h[int(v)]++
		}
		want := map[string]float64{
			"ih_mean": mu, "ih_var": moment(2), "ih_median": quantile(0.5), "ih_min": x[0], "ih_max": float64(top),
			"ih_p10": quantile(0.1), "ih_p90": quantile(0.9), "ih_iqr": quantile(0.75) - quantile(0.25), "ih_range": float64(top) - x[0],
			"ih_mad":   mean(func(v float64) float64 { return math.Abs(v - mu) }),
			"ih_medad": mean(func(v float64) float64 { return math.Abs(v - quantile(0.5)) }),
			"ih_cov":   math.Sqrt(moment(2)) / mu, "ih_qcod": (quantile(0.75) - quantile(0.25)) / (quantile(0.75) + quantile(0.25)),
			"ih_skew": 0, "ih_kurt": 0,
		}
		if x[0] != x[len(x)-1] {
			want["ih_skew"], want["ih_kurt"] = moment(3)/math.Pow(moment(2), 1.5), moment(4)/math.Pow(moment(2), 2)-3
		}
		var middle []float64
		for _, v := range x {
			if v >= quantile(0.1) && v <= quantile(0.9) {
				middle = append(middle, v)
			}
		}
		if k := float64(len(middle)); k > 0 {
			s, d := 0.0, 0.0
			for _, v := range middle {
				s += v / k
			}
			for _, v := range middle {
				d += math.Abs(v-s) / k
			}
			want["ih_rmad"] = d
		}
		best, sum := 0, 0.0
		for _, v := range x {
			sum += v
		}
		for i := 1; i <= top; i++ {
			want["ih_entropy"] -= plog(h[i] / n)
			want["ih_uniformity"] += h[i] * h[i] / (n * n)
			if d, b := math.Abs(float64(i)*n-sum), math.Abs(float64(best)*n-sum); h[i] > h[best] || h[i] == h[best] && d < b {
				best = i
			}
		}
		want["ih_mode"] = float64(best)
		if top > 1 {
			for i := 1; i <= top; i++ {
				g := h[i] - h[i-1]
				if i == 1 {
					g = h[2] - h[1]
				} else if i < top {
					g = (h[i+1] - h[i-1]) / 2
				}
				if i == 1 || g > want["ih_max_grad"] {
					want["ih_max_grad"], want["ih_max_grad_g"] = g, float64(i)
				}
				if i == 1 || g < want["ih_min_grad"] {
					want["ih_min_grad"], want["ih_min_grad_g"] = g, float64(i)
				}
			}
		}
		for _, v := range valuesOf(Histogram, roi) {
			w, ok := want[v.Tag]
			if ok != (v.Reason == "") || math.Abs(v.Value-w) > 1e-9*(1+math.Abs(w)) {
				t.Fatalf("%s = %v %q, want %v (%v)", v.Tag, v.Value, v.Reason, w, ok)
			}
		}
	})
}

// The intensity-volume histogram by its table of intensities and volumes, as the manual's section 3.5 makes it.
func TestVolumeHistogramIsThePlainFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 6)
		p := Profile{}
		switch rapid.IntRange(0, 2).Draw(t, "range") {
		case 1:
			p.Resegment.Range = []float64{-1050, 3200}
		case 2:
			p.Resegment.Range = []float64{-1050, math.Inf(1)}
		}
		switch rapid.IntRange(0, 2).Draw(t, "method") {
		case 0:
			p.IVH.Method = "none"
			round(roi.Image)
		case 1:
			p.IVH = IVH{Method: "fbs", Width: rapid.SampledFrom([]float64{2.5, 10, 100}).Draw(t, "width")}
		case 2:
			p.IVH = IVH{Method: "fbn", Bins: rapid.SampledFrom([]int{2, 7, 1000}).Draw(t, "bins")}
		}
		roi.profile = p
		x := intensities(roi)
		slices.Sort(x)
		lo, hi, w := x[0], x[len(x)-1], 1.0
		if r := p.Resegment.Range; r != nil {
			lo = r[0]
			if math.IsInf(r[1], 1) {
				hi = x[len(x)-1]
			} else {
				hi = r[1]
			}
		}
		d := slices.Clone(x) // discretised intensities
		switch p.IVH.Method {
		case "fbs":
			w = p.IVH.Width
			for i, v := range x {
				d[i] = lo + (math.Floor((v-lo)/w)+0.5)*w
			}
			lo, hi = lo+w/2, hi-w/2
		case "fbn":
			n := float64(p.IVH.Bins)
			for i, v := range x {
				d[i] = math.Floor(n*(v-x[0])/(x[len(x)-1]-x[0])) + 1
				if v == x[len(x)-1] {
					d[i] = n
				}
				if x[0] == x[len(x)-1] {
					d[i] = 1
				}
			}
			lo, hi = 1, n
		}
		nu := func(i float64) float64 {
			k := 0.0
			for _, v := range d {
				if v > i-1e-9*w {
					k++
				}
			}
			return k / float64(len(d))
		}
		want := map[string]float64{}
		found := map[string]bool{}
		area, last := 0.0, 0.0
		for k := 0; lo+float64(k)*w <= hi+1e-9*w; k++ {
			i := lo + float64(k)*w
			gamma := (i - lo) / (hi - lo)
			for tag, at := range map[string]float64{"ivh_v10": 0.1, "ivh_v90": 0.9} {
				if gamma >= at-1e-9 && !found[tag] {
					want[tag], found[tag] = nu(i), true
				}
			}
			if k > 0 {
				area += (nu(i) + last) / 2 * w / (hi - lo)
			}
			last = nu(i)
		}
		for tag, at := range map[string]float64{"ivh_i10": 0.1, "ivh_i90": 0.9} {
			i := lo
			for nu(i) > at+1e-9 {
				i += w
			}
			want[tag] = i
		}
		want["ivh_diff_v10_v90"] = want["ivh_v10"] - want["ivh_v90"]
		want["ivh_diff_i10_i90"] = want["ivh_i10"] - want["ivh_i90"]
		if d[0] != d[len(d)-1] {
			want["ivh_auc"] = area
		}
		for _, v := range valuesOf(VolumeHistogram, roi) {
			if v.Reason != "" {
				if hi > lo+1e-9 {
					t.Fatalf("%s: %s", v.Tag, v.Reason)
				}
				continue
			}
			if !found["ivh_v90"] && (v.Tag == "ivh_v90" || v.Tag == "ivh_diff_v10_v90") || !found["ivh_v10"] && v.Tag == "ivh_v10" {
				continue // the range ends within a bin, before a centre at that fraction
			}
			if math.Abs(v.Value-want[v.Tag]) > 1e-6*(1+math.Abs(want[v.Tag])) {
				t.Fatalf("%s = %v, want %v (%+v, %v to %v)", v.Tag, v.Value, want[v.Tag], p, lo, hi)
			}
		}
	})
}

// log2 and exp against the standard library's.
func TestLog2Exp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(1e-12, 1e12).Draw(t, "x")
		if got, want := Log2(x), math.Log2(x); math.Abs(got-want) > 1e-15*(1+math.Abs(want)) {
			t.Fatalf("Log2(%v) = %v, want %v", x, got, want)
		}
		y := rapid.Float64Range(-600, 20).Draw(t, "y")
		if got, want := exp(y), math.Exp(y); math.Abs(got-want) > 1e-14*want {
			t.Fatalf("exp(%v) = %v, want %v", y, got, want)
		}
	})
	if Log2(1) != 0 || Log2(8) != 3 || exp(0) != 1 || exp(-1000) != 0 {
		t.Error("log2 or exp are not exact where they can be")
	}
}
