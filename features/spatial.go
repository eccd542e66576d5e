package features

import (
	"math"

	"github.com/radnode/radnode/features/voxel"
)

// spatialSums are the sums over all pairs of different voxels i, j with
// w = 1/distance in mm, of deviations z from the mean in standard deviations.
type spatialSums struct{ w, wzz, wdd float64 } // Σw, Σw·zᵢzⱼ, Σw·(zᵢ−zⱼ)²

// autocorrelation computes the sums of Moran's I and Geary's C exactly. A sum
// over pairs that depends on their offset only is a correlation, and by
// Parseval's theorem a sum over frequencies: with m the mask, z the deviations,
// q = z², hats for transforms over a grid of at least 2n−1 a side, N points,
//
//	Σw   = 1/N Σ Ŵ|M̂|²
//	Σwzz = 1/N Σ Ŵ|Ẑ|²
//	Σwdd = 2/N (Σ Ŵ Re(Q̂* M̂) − Σ Ŵ|Ẑ|²)
//
// so no transform back. The three are transformed along x whole; what lies
// beyond is done plane by plane of kx, of which half suffices for real signals.
func autocorrelation(roi *ROI, mean, deviation float64) spatialSums {
	b := roi.Intensity.Bounds()
	n := b.Size()
	var size, half [3]int
	var t [3]*transform
	for a := range 3 {
		size[a] = smooth(2*n[a] - 1)
		half[a] = size[a]/2 + 1
		t[a] = newTransform(size[a])
	}
	weights := weightSpectrum(size, half, roi.Image.Spacing, t)

	columns := 3 * n[2] // m, z, q of one (kx, y), z innermost
	spectrum := lineSpectra(roi, b, mean, deviation, t[0], half[0])

	const block = 3 * lineBlock
	room := make([]complex128, 2*block*max(size[1], size[2]))
	turned := make([]complex128, columns*size[1]) // [z][signal][ky]
	var sum spatialSums
	var mq float64
	for kx := range half[0] {
		plane := spectrum[kx*n[1]*columns:][:n[1]*columns]
		for first := 0; first < columns; first += block {
			lines := min(block, columns-first)
			in, other := room[:size[1]*lines], room[size[1]*lines:][:size[1]*lines]
			for y := range n[1] {
				copy(in[y*lines:][:lines], plane[y*columns+first:])
			}
			clear(in[n[1]*lines:])
			f := t[1].do(in, other, lines)
			for l := range lines {
				s, z := (first+l)/n[2], (first+l)%n[2]
				for ky := range size[1] {
					turned[(z*3+s)*size[1]+ky] = f[ky*lines+l]
				}
			}
		}
		var one spatialSums
		var oneMQ float64
		for first := 0; first < size[1]; first += lineBlock {
			width := min(lineBlock, size[1]-first)
			lines := 3 * width
			in, other := room[:size[2]*lines], room[size[2]*lines:][:size[2]*lines]
			for r := range columns { // (z, signal)
				copy(in[r*width:][:width], turned[r*size[1]+first:])
			}
			clear(in[columns*width:])
			f := t[2].do(in, other, lines)
			for kz := range size[2] {
				ms, zs, qs := f[kz*lines:][:width], f[kz*lines+width:][:width], f[kz*lines+2*width:][:width]
				w := weights[(kx*half[2]+min(kz, size[2]-kz))*half[1]:][:half[1]]
				for l, m := range ms {
					f := w[min(first+l, size[1]-first-l)]
					z, q := zs[l], qs[l]
					one.w += float64(f * (float64(real(m)*real(m)) + float64(imag(m)*imag(m))))
					one.wzz += float64(f * (float64(real(z)*real(z)) + float64(imag(z)*imag(z))))
					oneMQ += float64(f * (float64(real(q)*real(m)) + float64(imag(q)*imag(m))))
				}
			}
		}
		times := 2.0 // the planes of kx and −kx
		if kx == 0 || 2*kx == size[0] {
			times = 1
		}
		sum.w += float64(times * one.w)
		sum.wzz += float64(times * one.wzz)
		mq += float64(times * oneMQ)
	}
	points := float64(size[0]) * float64(size[1]) * float64(size[2])
	sum.w /= points
	sum.wzz /= points
	sum.wdd = 2 * (mq/points - sum.wzz)
	return sum
}

// lineBlock is how many rows are transformed at once: enough to fill the inner
// loops, few enough to stay in the cache.
const lineBlock = 16

// lineSpectra are the transforms along x of m, z and q: [kx][y][signal][z],
// kx up to half. Two real rows are transformed as one complex one.
func lineSpectra(roi *ROI, b voxel.Box, mean, deviation float64, t *transform, half int) []complex128 {
	n, g := b.Size(), roi.Image
	signals := 3 * n[2]
	out := make([]complex128, half*n[1]*signals)
	in := make([]complex128, t.n*2*lineBlock)
	room := make([]complex128, t.n*2*lineBlock)
	for y := range n[1] {
		for z0 := 0; z0 < n[2]; z0 += lineBlock {
			rows := min(lineBlock, n[2]-z0)
			pairs := (rows + 1) / 2
			lines := rows + pairs // (m, z) of each row, then (q, q') of two rows
			x := in[:t.n*lines]
			clear(x)
			for r := range rows {
				at := ((b.Min[2]+z0+r)*g.Size[1]+b.Min[1]+y)*g.Size[0] + b.Min[0]
				for i := range n[0] {
					if roi.Intensity.Data[at+i] == 0 {
						continue
					}
					z := (float64(g.Data[at+i]) - mean) / deviation
					x[i*lines+r] = complex(1, z)
					q := float64(z * z)
					if r%2 == 0 {
						x[i*lines+rows+r/2] += complex(q, 0)
					} else {
						x[i*lines+rows+r/2] += complex(0, q)
					}
				}
			}
			f := t.do(x, room[:t.n*lines], lines)
			for kx := range half {
				a, c := f[kx*lines:][:lines], f[(t.n-kx)%t.n*lines:][:lines]
				o := out[(kx*n[1]+y)*signals+z0:]
				for r := range rows {
					o[r], o[n[2]+r] = apart(a[r], c[r])
				}
				for r := 0; r < rows; r += 2 {
					q, q2 := apart(a[rows+r/2], c[rows+r/2])
					o[2*n[2]+r] = q
					if r+1 < rows {
						o[2*n[2]+r+1] = q2
					}
				}
			}
		}
	}
	return out
}

// apart splits the transform of u + iv at k and −k into those of u and v.
func apart(a, c complex128) (u, v complex128) {
	u = complex((real(a)+real(c))/2, (imag(a)-imag(c))/2)
	v = complex((imag(a)+imag(c))/2, (real(c)-real(a))/2)
	return u, v
}

// weightSpectrum is Ŵ, the transform of 1/distance, which is real and even on
// each axis: only kx, ky, kz up to half, laid out [kx][kz][ky].
func weightSpectrum(size, half [3]int, spacing [3]float64, t [3]*transform) []float64 {
	nx, ny, nz := half[0], half[1], half[2]
	w := make([]float64, nx*ny*nz)
	i := 0
	for x := range nx {
		dx := float64(float64(x) * spacing[0])
		for z := range nz {
			dz := float64(float64(z) * spacing[2])
			for y := range ny {
				dy := float64(float64(y) * spacing[1])
				if d := float64(dx*dx) + float64(dy*dy) + float64(dz*dz); d > 0 {
					w[i] = 1 / math.Sqrt(d)
				}
				i++
			}
		}
	}
	evenTransform(w, 1, nx, ny*nz, t[0])
	evenTransform(w, nx, nz, ny, t[2])
	evenTransform(w, nx*nz, ny, 1, t[1])
	return w
}

// evenTransform replaces w[outer][n][inner], which are the first halves of even
// lines of t.n samples, by the first halves of their transforms, which are real
// and even again. Two lines are transformed as one complex one.
func evenTransform(w []float64, outer, n, inner int, t *transform) {
	all := outer * inner
	const block = 2 * lineBlock
	x, room := make([]complex128, t.n*lineBlock), make([]complex128, t.n*lineBlock)
	var at [block]int
	for first := 0; first < all; first += block {
		lines := min(block, all-first)
		for l := range lines {
			at[l] = (first+l)/inner*n*inner + (first+l)%inner
		}
		pairs := (lines + 1) / 2
		in := x[:t.n*pairs]
		for k := range t.n {
			from := min(k, t.n-k) * inner
			for p := range pairs {
				re, im := w[at[2*p]+from], 0.0
				if 2*p+1 < lines {
					im = w[at[2*p+1]+from]
				}
				in[k*pairs+p] = complex(re, im)
			}
		}
		f := t.do(in, room[:t.n*pairs], pairs)
		for k := range n {
			for p := range pairs {
				v := f[k*pairs+p]
				w[at[2*p]+k*inner] = real(v)
				if 2*p+1 < lines {
					w[at[2*p+1]+k*inner] = imag(v)
				}
			}
		}
	}
}

// spatialBytes is the memory that autocorrelation takes for a box of n voxels.
func spatialBytes(n [3]int) int64 {
	var size, half [3]int64
	for a := range 3 {
		size[a] = int64(smooth(2*n[a] - 1))
		half[a] = size[a]/2 + 1
	}
	ny, nz := int64(n[1]), int64(n[2])
	return 8*half[0]*half[1]*half[2] + // weights
		16*(half[0]*ny*3*nz+ // lines
			size[1]*3*nz+ // one plane
			6*max(size[0], size[1], size[2])*lineBlock)
}
