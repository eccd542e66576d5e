package features

import (
	"math"
	"slices"

	"github.com/radnode/radnode/features/voxel"
)

// A symmetric matrix, of which the upper triangle counts.
type sym3 [3][3]float64

// eigenvalues by cyclic Jacobi rotations, largest first. The library's
// routines would be fused differently on each processor.
func (a sym3) eigenvalues() [3]float64 {
	for range 32 {
		if a[0][1] == 0 && a[0][2] == 0 && a[1][2] == 0 {
			break
		}
		for p := range 2 {
			for q := p + 1; q < 3; q++ {
				a.rotate(p, q)
			}
		}
	}
	v := []float64{a[0][0], a[1][1], a[2][2]}
	slices.Sort(v)
	return [3]float64{v[2], v[1], v[0]}
}

// rotate makes a[p][q] zero.
func (a *sym3) rotate(p, q int) {
	if a[p][q] == 0 {
		return
	}
	if s := math.Abs(a[p][p]) + math.Abs(a[q][q]); s+float64(math.Abs(a[p][q])*1e-3) == s {
		a[p][q] = 0
		return
	}
	theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
	t := 1 / (math.Abs(theta) + math.Sqrt(float64(theta*theta)+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(float64(t*t)+1)
	s := float64(t * c)
	d := float64(t * a[p][q])
	a[p][p] -= d
	a[q][q] += d
	a[p][q] = 0
	r := 3 - p - q
	at := func(i, j int) *float64 { return &a[min(i, j)][max(i, j)] }
	x, y := *at(p, r), *at(q, r)
	*at(p, r) = float64(c*x) - float64(s*y)
	*at(q, r) = float64(s*x) + float64(c*y)
}

// principalVariances are the eigenvalues of the covariance matrix of the voxel
// centres, largest first, in mm² (manual 3.1.12 to 3.1.16). It is the sample
// covariance, over n−1: the manual does not say, but the digital phantom's axes
// are only met so. The sums are of whole numbers, so they do not depend on where
// the ROI lies. There must be two voxels.
func principalVariances(m *voxel.Mask) [3]float64 {
	var n int64
	var sum [3]int64
	var prod [3][3]int64
	b := m.Bounds() // indices are counted from here, which keeps the sums small
	for z := b.Min[2]; z < b.Max[2]; z++ {
		for y := b.Min[1]; y < b.Max[1]; y++ {
			row := m.Data[(z*m.Size[1]+y)*m.Size[0]:][b.Min[0]:b.Max[0]]
			var k, x, xx int64 // of the row: voxels, Σx and Σx²
			for first, end := run(row, 0); first < end; first, end = run(row, end) {
				f, e := int64(first), int64(end)
				k += e - f
				x += (e*(e-1) - f*(f-1)) / 2
				xx += (e*(e-1)*(2*e-1) - f*(f-1)*(2*f-1)) / 6
			}
			y, z := int64(y-b.Min[1]), int64(z-b.Min[2])
			n += k
			for a, v := range [3]int64{x, k * y, k * z} {
				sum[a] += v
			}
			for a, v := range [3][3]int64{{xx, x * y, x * z}, {0, k * y * y, k * y * z}, {0, 0, k * z * z}} {
				for c := range v {
					prod[a][c] += v[c]
				}
			}
		}
	}
	var cov sym3
	for a := range 3 {
		for c := a; c < 3; c++ {
			nn := float64(n)
			v := (float64(prod[a][c]) - float64(float64(sum[a])*(float64(sum[c])/nn))) / (nn - 1)
			cov[a][c] = float64(v * float64(m.Spacing[a]*m.Spacing[c]))
		}
	}
	return cov.eigenvalues()
}

// ellipsoidVolume and ellipsoidArea take the three semi-axes.
func ellipsoidVolume(s [3]float64) float64 {
	return float64(4*math.Pi/3) * float64(float64(s[0]*s[1])*s[2])
}

// approximateArea is the area of an ellipsoid as the manual has it (3.1.22), a
// series of Legendre polynomials cut after degree 20:
//
//	A = 4πab Σ (αβ)ᵛ/(1−4v²) P_v((α²+β²)/2αβ),  α² = 1−b²/a²,  β² = 1−c²/a²
//
// With these α and β it is not the ellipsoid's area but near it for round ones
// (1 % for axes 5:4:3.5, 14 % for 3:3:2); see [ellipsoidArea]. The IBSI's
// reference values were made with it.
func approximateArea(s [3]float64) float64 {
	a, b, c := descending(s)
	return legendreArea(a, b, 1-float64(b*b)/float64(a*a), 1-float64(c*c)/float64(a*a), 20)
}

// ellipsoidArea is the area of an ellipsoid: the same series is exact with
// α² = 1−c²/a² and β² = 1−c²/b². It converges slowly for very flat ones; the
// terms left out after 2000 are below 10⁻⁷ of the sum.
func ellipsoidArea(s [3]float64) float64 {
	a, b, c := descending(s)
	return legendreArea(a, b, 1-float64(c*c)/float64(a*a), 1-float64(c*c)/float64(b*b), 2000)
}

func descending(s [3]float64) (a, b, c float64) {
	slices.Sort(s[:])
	return s[2], s[1], s[0]
}

// legendreArea sums 4πab Σ (αβ)ᵛ/(1−4v²) P_v. The recurrence is for (αβ)ᵛP_v,
// which also exists where α or β is 0.
func legendreArea(a, b, alpha2, beta2 float64, degree int) float64 {
	mean, prod := (alpha2+beta2)/2, float64(alpha2*beta2)
	before, p, sum := 0.0, 1.0, 1.0
	for n := 1; n <= degree; n++ {
		k := float64(n)
		before, p = p, (float64(float64((2*k-1)*mean)*p)-float64(float64((k-1)*prod)*before))/k
		term := p / (1 - float64(4*float64(k*k)))
		sum += term
		if math.Abs(term) < 1e-16 {
			break
		}
	}
	return float64(float64(4*math.Pi*float64(a*b)) * sum)
}

// enclosingEllipsoid is the ellipsoid of least volume around the points: its
// semi-axes. By duality (Khachiyan) it comes from weights on the points that make
// the determinant of the weighted moments X = Σ u q qᵀ greatest; then κ = qᵀX⁻¹q
// is 4 for the points that carry weight and less for others. Weight is exchanged
// between two points at a time, among those that carry some and the few of
// greatest κ (after Harman, Filová and Richtárik 2020), until κ is nowhere above 4, nor
// below it under a weight, by more than 10⁻⁷ of it. The result is then widened
// to hold every point, so it is never too small, and its volume is at most 2·10⁻⁷
// too large.

func enclosingEllipsoid(points [][3]float64) [3]float64 {
	const tolerance, most, greatest = 1e-7, 2000, 6
	q, scale := homogeneous(points)
	u := startWeights(q)
	kappa := make([]float64, len(q))
	for round := range most {
		inv := invert4(weighted(q, u))
		under := math.Inf(1)
		var work, top []int
		for i, p := range q {
			kappa[i] = quad(&inv, p)
			if u[i] > 0 {
				under = min(under, kappa[i])
				work = append(work, i)
			}
			if len(top) < greatest || kappa[i] > kappa[top[greatest-1]] {
				k := len(top)
				for k > 0 && kappa[i] > kappa[top[k-1]] {
					k--
				}
				top = slices.Insert(top, k, i)
				top = top[:min(greatest, len(top))]
			}
		}
		if kappa[top[0]] <= 4*(1+tolerance) && under >= 4*(1-tolerance) {
			break
		}
		for _, i := range top {
			if u[i] == 0 {
				work = append(work, i)
			}
		}
		for range min(3+round/4, 60) { // more where it is slow
			for n, i := range work {
				for _, j := range work[:n] {
					exchange(&inv, q, u, i, j)
				}
			}
		}
	}
	return semiAxes(q, u, scale)
}

// exchange moves weight between the points i and j such that det X is greatest,
// and keeps inv = X⁻¹.
func exchange(inv *[4][4]float64, q [][4]float64, u []float64, i, j int) {
	wi, wj := times(inv, q[i]), times(inv, q[j])
	ki, kj, kij := inner4(wi, q[i]), inner4(wj, q[j]), inner4(wi, q[j])
	if ki > kj {
		i, j, wi, wj, ki, kj = j, i, wj, wi, kj, ki
	}
	// det(X + a(qj qjᵀ − qi qiᵀ)) = det X·(1 + a(kj−ki) − a²(ki·kj − kij²))
	a := u[i]
	if c := float64(ki*kj) - float64(kij*kij); float64(2*float64(c*a)) > kj-ki {
		a = (kj - ki) / (2 * c)
	}
	if a == 0 {
		return
	}
	u[i] -= a
	u[j] += a
	// Sherman–Morrison, twice.
	f := a / (1 + float64(a*kj))
	for k := range wi {
		wi[k] -= float64(float64(f*kij) * wj[k])
	}
	g := a / (1 - float64(a*(ki-float64(float64(f*kij)*kij))))
	for r := range 4 {
		for c := range 4 {
			inv[r][c] += float64(float64(g*wi[r])*wi[c]) - float64(float64(f*wj[r])*wj[c])
		}
	}
}

func times(m *[4][4]float64, p [4]float64) (w [4]float64) {
	for a := range 4 {
		w[a] = float64(m[a][0]*p[0]) + float64(m[a][1]*p[1]) + float64(m[a][2]*p[2]) + float64(m[a][3]*p[3])
	}
	return w
}

func inner4(a, b [4]float64) float64 {
	return float64(a[0]*b[0]) + float64(a[1]*b[1]) + float64(a[2]*b[2]) + float64(a[3]*b[3])
}

// homogeneous moves the points into the cube from -1 to 1 and adds a 1 to each:
// the least ellipsoid moves along under such maps.
func homogeneous(points [][3]float64) (q [][4]float64, scale [3]float64) {
	lo, hi := points[0], points[0]
	for _, p := range points {
		for k := range 3 {
			lo[k], hi[k] = min(lo[k], p[k]), max(hi[k], p[k])
		}
	}
	q = make([][4]float64, len(points))
	var centre [3]float64
	for k := range 3 {
		centre[k], scale[k] = (lo[k]+hi[k])/2, (hi[k]-lo[k])/2
	}
	for i, p := range points {
		q[i][3] = 1
		for k := range 3 {
			q[i][k] = (p[k] - centre[k]) / scale[k]
		}
	}
	return q, scale
}

// startWeights puts equal weight on the two points that are farthest along each
// of 13 directions (Kumar and Yıldırım 2005): enough for three dimensions, and
// few to drop later.
func startWeights(q [][4]float64) []float64 {
	u := make([]float64, len(q))
	for d := 14; d < 27; d++ {
		dir := [3]float64{float64(d%3 - 1), float64(d/3%3 - 1), float64(d/9 - 1)}
		lo, hi, at := math.Inf(1), math.Inf(-1), [2]int{}
		for i, p := range q {
			h := float64(dir[0]*p[0]) + float64(dir[1]*p[1]) + float64(dir[2]*p[2])
			if h < lo {
				lo, at[0] = h, i
			}
			if h > hi {
				hi, at[1] = h, i
			}
		}
		u[at[0]], u[at[1]] = 1, 1
	}
	n := 0.0
	for _, w := range u {
		n += w
	}
	for i := range u {
		u[i] /= n
	}
	return u
}

// weighted is Σ u q qᵀ.
func weighted(q [][4]float64, u []float64) (x [4][4]float64) {
	for i, p := range q {
		if u[i] == 0 {
			continue
		}
		for a := range 4 {
			for b := range 4 {
				x[a][b] += float64(u[i] * float64(p[a]*p[b]))
			}
		}
	}
	return x
}

func quad(m *[4][4]float64, p [4]float64) float64 { return inner4(times(m, p), p) }

// invert4 is Gauss–Jordan with pivots; the matrix is positive definite.
func invert4(m [4][4]float64) (inv [4][4]float64) {
	for i := range 4 {
		inv[i][i] = 1
	}
	for c := range 4 {
		pivot := c
		for r := c + 1; r < 4; r++ {
			if math.Abs(m[r][c]) > math.Abs(m[pivot][c]) {
				pivot = r
			}
		}
		m[c], m[pivot] = m[pivot], m[c]
		inv[c], inv[pivot] = inv[pivot], inv[c]
		d := m[c][c]
		for k := range 4 {
			m[c][k] /= d
			inv[c][k] /= d
		}
		for r := range 4 {
			f := m[r][c]
			if r == c || f == 0 {
				continue
			}
			for k := range 4 {
				m[r][k] -= float64(f * m[c][k])
				inv[r][k] -= float64(f * inv[c][k])
			}
		}
	}
	return inv
}

// semiAxes of the ellipsoid with the weights u, in mm.
func semiAxes(q [][4]float64, u []float64, scale [3]float64) [3]float64 {
	var mean [3]float64
	for i, p := range q {
		for k := range 3 {
			mean[k] += float64(u[i] * p[k])
		}
	}
	var cov sym3
	for i, p := range q {
		for a := range 3 {
			for b := a; b < 3; b++ {
				cov[a][b] += float64(u[i] * float64((p[a]-mean[a])*(p[b]-mean[b])))
			}
		}
	}
	// {x: (x−mean)ᵀ cov⁻¹ (x−mean) ≤ 3}, widened to the farthest point.
	var full [4][4]float64
	for a := range 3 {
		for b := range 3 {
			full[a][b] = cov[min(a, b)][max(a, b)]
		}
	}
	full[3][3] = 1
	inv := invert4(full)
	far := 0.0
	for _, p := range q {
		far = max(far, quad(&inv, [4]float64{p[0] - mean[0], p[1] - mean[1], p[2] - mean[2], 0}))
	}
	for a := range 3 {
		for b := a; b < 3; b++ {
			cov[a][b] = float64(cov[a][b] * float64(scale[a]*scale[b]))
		}
	}
	s := cov.eigenvalues()
	for k := range s {
		s[k] = math.Sqrt(float64(s[k] * far))
	}
	return s
}
