package phantom

import "math"

// The synthetic CT is a lower leg with a soft-tissue lesion: fat under the skin, muscle, one bone, and a lesion with a
// denser rim, a necrotic core and a grain of its own, in the middle of an oedema. Nothing in it is measured from a patient.
//
// Three unequal spacings and an origin off the centre bring to light swapped axes; the order of the files says nothing
// of the slices' order, so only Image Position (Patient) does.
const (
	ctColumns, ctRows, ctSlices = 64, 56, 24

	// All lengths of the anatomy are in hundredths of a millimetre, so that every decision is made in integers.
	ctColumnSpacing, ctRowSpacing, ctSliceSpacing = 110, 90, 250

	centreX, centreY, centreZ = 3460, 2510, 2870 // of the leg and the lesion, from the first voxel
	lesionX                   = 2611             // the lesion lies towards the patient's right
)

// An ellipsoid is given by centre and semi-axes. It holds p where q <= one.
type ellipsoid struct{ x, y, z, a, b, c int64 }

const one = 1 << 20

// q is ((x-x0)/a)² + ((y-y0)/b)² + ((z-z0)/c)² in units of 1/one; an axis of 0 means no limit along it.
func (e ellipsoid) q(x, y, z int64) int64 {
	term := func(d, axis int64) int64 {
		if axis == 0 {
			return 0
		}
		return d * d * one / (axis * axis)
	}
	return term(x-e.x, e.a) + term(y-e.y, e.b) + term(z-e.z, e.c)
}

var (
	skin     = ellipsoid{centreX, centreY, 0, 3150, 2230, 0}
	fascia   = ellipsoid{centreX, centreY, 0, 2780, 1880, 0}
	bone     = ellipsoid{centreX + 1500, centreY - 350, 0, 620, 560, 0}
	marrow   = ellipsoid{centreX + 1500, centreY - 350, 0, 370, 330, 0}
	gtv      = ellipsoid{lesionX, centreY + 121, centreZ, 1130, 960, 1490}
	necrosis = ellipsoid{lesionX - 150, centreY + 200, centreZ + 180, 560, 470, 760}
	oedema   = ellipsoid{lesionX, centreY + 57, centreZ, 1640, 1390, 2080}
)

// hounsfield is the value at voxel (i, j, k).
func hounsfield(i, j, k int) int16 {
	x, y, z := int64(i*ctColumnSpacing), int64(j*ctRowSpacing), int64(k*ctSliceSpacing)
	switch {
	case skin.q(x, y, z) > one:
		return int16(-1000 + grain(i, j, k, 1)*40/128) // some below -1024: stored values are negative there
	case fascia.q(x, y, z) > one:
		return int16(-95 + grain(i, j, k, 2)*18/128)
	case marrow.q(x, y, z) <= one:
		return int16(130 + grain(i, j, k, 3)*60/128)
	case bone.q(x, y, z) <= one:
		return int16(1150 + grain(i, j, k, 4)*140/128)
	case necrosis.q(x, y, z) <= one:
		return int16(14 + grain(i, j, k, 5)*14/128)
	case gtv.q(x, y, z) <= one:
		rim := 30 * gtv.q(x, y, z) / one // brighter towards the border
		return int16(38 + rim + blotch(i, j, k)*34/128 + grain(i, j, k, 6)*12/128)
	case oedema.q(x, y, z) <= one:
		return int16(27 + grain(i, j, k, 7)*14/128)
	default:
		return int16(56 + grain(i, j, k, 8)*16/128)
	}
}

// grain is white noise in [-128, 127]: the finaliser of SplitMix64 over the voxel's place.
func grain(i, j, k int, salt uint64) int64 {
	h := uint64(i)<<42 ^ uint64(j)<<21 ^ uint64(k) ^ salt<<60
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return int64(h>>56) - 128
}

// blotch is noise with patches some three voxels wide: the mean of the grain around, stretched to about the same range.
func blotch(i, j, k int) int64 {
	var sum int64
	for dk := -1; dk <= 1; dk++ {
		for dj := -1; dj <= 1; dj++ {
			for di := -1; di <= 1; di++ {
				sum += grain(i+di+1, j+dj+1, k+dk+1, 9)
			}
		}
	}
	return max(-128, min(127, sum*3/27))
}

// outline is the ellipse that the plane of slice k cuts out of e, as a polygon of n vertices rounded to 0.01 mm;
// nil where the plane misses e or barely touches it.
func (e ellipsoid) outline(k, n int) [][2]float64 {
	dz := float64(int64(k*ctSliceSpacing)-e.z) / float64(e.c)
	scale := 1 - dz*dz
	if scale < 0.05 {
		return nil
	}
	scale = math.Sqrt(scale)
	vertices := make([][2]float64, n)
	for v := range vertices {
		// A start off the axes keeps vertices away from rows and columns of voxel centres.
		sin, cos := math.Sincos(2 * math.Pi * (float64(v) + 0.37) / float64(n))
		vertices[v] = [2]float64{
			hundredth(float64(e.x) + scale*float64(e.a)*cos),
			hundredth(float64(e.y) + scale*float64(e.b)*sin),
		}
	}
	return vertices
}

// hundredth turns hundredths of a millimetre into millimetres, rounded to a whole hundredth.
func hundredth(v float64) float64 { return math.Round(v) / 100 }

func micrometre(mm float64) float64 { return math.Round(mm*1000) / 1000 }

func syntheticCT() study {
	s := study{
		folder:      "synthetic-ct",
		patientName: "RADNODE^DEMO", patientID: "RADNODE-DEMO", birthDate: "19700101", sex: "O",
		date: "20260105", time: "093000",
		description: "Synthetic CT", bodyPart: "LEG", laterality: "R",
		columns: ctColumns, rows: ctRows,
		columnSpacing: ctColumnSpacing / 100., rowSpacing: ctRowSpacing / 100., sliceSpacing: ctSliceSpacing / 100.,
		origin: [3]float64{-112.35, -48.2, -731.25},
		signed: true, bitsStored: 16, windowCenter: 40, windowWidth: 400,
		structureSetLabel: "DEMO", operator: "RADNODE^DEMO",
	}
	for k := range ctSlices {
		slice := make([]int16, 0, ctRows*ctColumns)
		for j := range ctRows {
			for i := range ctColumns {
				slice = append(slice, hounsfield(i, j, k))
			}
		}
		s.slices = append(s.slices, slice)
		s.storedAs = append(s.storedAs, (7*k+10)%ctSlices+1) // 7 and 24 share no factor: every number comes once
	}

	// The oedema holds the lesion as a hole: an inner contour in each slice that both cross.
	lesion := region{name: "GTV-1", interpretedType: "GTV", colour: [3]int{255, 0, 0}}
	ring := region{name: "Oedema", colour: [3]int{255, 255, 0}, code: code("79654002", "SCT", "Edema")}
	for k := range ctSlices {
		inner, outer := gtv.outline(k, 40), oedema.outline(k, 48)
		if outer != nil {
			ring.contours = append(ring.contours, contour{k, outer})
		}
		if inner != nil {
			ring.contours = append(ring.contours, contour{k, inner})
			lesion.contours = append(lesion.contours, contour{k, inner})
		}
	}
	s.regions = []region{lesion, ring}
	return s
}
