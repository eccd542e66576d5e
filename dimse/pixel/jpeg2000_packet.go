package pixel

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// tileScratch is memory that the tiles of an image take one after the other.
type tileScratch struct {
	coefficients []int32
	planes       [2][]int32
	floats       [2][]float64
	floatRow     []float64
}

// room is a slice of n elements in the memory of s where it suffices.
func room[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	return (*s)[:n]
}

// tile is a tile of the only component, B.3 to B.7.
type tile struct {
	area        rect
	parameters  *parameters
	resolutions []resolution
	lossy       bool
	scratch     *tileScratch
}

// resolution is one of the levels + 1 sizes in which the tile can be had, the smallest first.
type resolution struct {
	area           rect
	ppx, ppy       int   // exponents of the size of a precinct
	across, down   int   // precincts
	firstX, firstY int64 // of them, in a grid that begins at 0
	bands          []band
	precincts      []precinct
}

// band is one subband: LL alone, or HL, LH, HH.
type band struct {
	area         rect
	orientation  int // bit 0: high-pass along the rows, bit 1: along the columns
	planes       int // Mb of E-2
	step         float64
	cbx, cby     int // exponents of the size of a code-block
	coefficients []int32
}

// precinct is a part of a resolution whose code-blocks travel together.
type precinct struct {
	layers int // that were read
	bands  []blocks
}

// blocks are the code-blocks of a precinct in one subband.
type blocks struct {
	across, down       int
	firstX, firstY     int64 // of the grid of code-blocks
	blocks             []codeBlock
	inclusion, leading tagTree
}

type codeBlock struct {
	included bool
	leading  uint8 // planes without a bit set
	lblock   uint8 // B.10.7.1
	passes   int16
	segments []codewordSegment
}

// codewordSegment is a run of coding passes that were terminated together.
type codewordSegment struct {
	passes, limit int
	data          []byte
}

// newTile lays the tile out. The memory it takes grows with the area; the packets of a codestream that is whole have a
// byte each, so that their count is bound by the length of data.
func newTile(area rect, p *parameters, precision int, data []byte, scratch *tileScratch) (*tile, error) {
	t := &tile{area: area, parameters: p, scratch: scratch, lossy: !p.reversible}
	t.resolutions = make([]resolution, p.levels+1)
	free := room(&scratch.coefficients, area.width()*area.height())
	clear(free)
	packets := int64(0)
	for r := range t.resolutions {
		res := &t.resolutions[r]
		n := p.levels - r
		res.area = rect{ceilShift(area.x0, n), ceilShift(area.y0, n), ceilShift(area.x1, n), ceilShift(area.y1, n)} // B-14
		res.ppx, res.ppy = int(p.precinct[r]&15), int(p.precinct[r]>>4)
		if !res.area.empty() { // B-16
			res.firstX, res.firstY = res.area.x0>>res.ppx, res.area.y0>>res.ppy
			res.across = int(ceilShift(res.area.x1, res.ppx) - res.firstX)
			res.down = int(ceilShift(res.area.y1, res.ppy) - res.firstY)
		}
		packets += int64(res.across) * int64(res.down) * int64(p.layers)
		if packets > int64(len(data)) {
			return nil, incomplete("%d bytes cannot hold %d packets and more", len(data), packets)
		}
		first, last, lower := 1, 3, n+1
		if r == 0 {
			first, last, lower = 0, 0, n
		}
		for o := first; o <= last; o++ {
			b := band{orientation: o}
			if lower == 0 {
				b.area = area
			} else { // B-15
				dx, dy := int64(o&1)<<(lower-1), int64(o>>1)<<(lower-1)
				b.area = rect{
					ceilShift(area.x0-dx, lower), ceilShift(area.y0-dy, lower), ceilShift(area.x1-dx, lower), ceilShift(area.y1-dy, lower),
				}
			}
			exponent, mantissa, err := p.subband(max(0, 3*(r-1)+o))
			if err != nil {
				return nil, err
			}
			b.planes = p.guard + exponent - 1 // E-2
			// E-3 and Table E.1: each high-pass doubles the range.
			b.step = math.Ldexp(1+float64(mantissa)/2048, precision+o&1+o>>1-exponent)
			b.cbx, b.cby = min(p.cbx, res.ppx), min(p.cby, res.ppy) // B-17, B-18
			if r > 0 {
				b.cbx, b.cby = min(p.cbx, res.ppx-1), min(p.cby, res.ppy-1)
			}
			if !b.area.empty() {
				n := b.area.width() * b.area.height()
				b.coefficients, free = free[:n:n], free[n:]
			}
			res.bands = append(res.bands, b)
		}
		res.precincts = make([]precinct, res.across*res.down)
	}
	return t, nil
}

// part is precinct k in subband b.
func (res *resolution) part(b *band, k int) rect {
	x, y, ppx, ppy := res.firstX+int64(k%res.across), res.firstY+int64(k/res.across), res.ppx, res.ppy
	if b.orientation != 0 {
		ppx, ppy = ppx-1, ppy-1
	}
	return rect{max(b.area.x0, x<<ppx), max(b.area.y0, y<<ppy), min(b.area.x1, (x+1)<<ppx), min(b.area.y1, (y+1)<<ppy)}
}

// open makes the code-blocks of precinct k, which no packet needs before it has bytes for them.
func (res *resolution) open(k int) *precinct {
	p := &res.precincts[k]
	if p.bands != nil {
		return p
	}
	p.bands = make([]blocks, len(res.bands))
	for i := range res.bands {
		b, g := &res.bands[i], &p.bands[i]
		area := res.part(b, k)
		if area.empty() {
			continue
		}
		g.firstX, g.firstY = area.x0>>b.cbx, area.y0>>b.cby
		g.across, g.down = int(ceilShift(area.x1, b.cbx)-g.firstX), int(ceilShift(area.y1, b.cby)-g.firstY)
		g.blocks = make([]codeBlock, g.across*g.down)
		g.inclusion, g.leading = newTagTree(g.across, g.down), newTagTree(g.across, g.down)
	}
	return p
}

// A packetReader takes the packets of a tile one by one.
type packetReader struct {
	*parameters
	data    []byte
	pos     int
	last    byte // of the packet header
	left    uint // bits of last
	over    bool // the header goes on after the end
	pending []pendingSegment
}

// pendingSegment is what a packet header says of the body.
type pendingSegment struct {
	block   *codeBlock
	segment int
	length  int
}

// readPackets reads all packets of the tile in the order of Table A.16 (B.12).
func (t *tile) readPackets(data []byte) error {
	r := &packetReader{parameters: t.parameters, data: data}
	orders := t.parameters.progressions
	if len(orders) == 0 {
		orders = []progression{{t.parameters.order, 0, len(t.resolutions), t.parameters.layers}}
	}
	for _, p := range orders {
		p.endRes, p.layers = min(p.endRes, len(t.resolutions)), min(p.layers, t.parameters.layers)
		if err := t.readProgression(r, p); err != nil {
			return err
		}
	}
	for _, res := range t.resolutions {
		for i := range res.precincts {
			if res.precincts[i].layers < t.parameters.layers {
				return damaged("POC leaves packets out")
			}
		}
	}
	return nil
}

func (t *tile) readProgression(r *packetReader, p progression) error {
	read := func(res, k, layer int) error {
		if t.resolutions[res].precincts[k].layers > layer { // B.12.2: a packet comes once
			return nil
		}
		return r.packet(&t.resolutions[res], k, layer)
	}
	switch p.order {
	case 0: // layer, resolution, position
		for layer := range p.layers {
			for res := p.firstRes; res < p.endRes; res++ {
				for k := range t.resolutions[res].precincts {
					if err := read(res, k, layer); err != nil {
						return err
					}
				}
			}
		}
	case 1: // resolution, layer, position
		for res := p.firstRes; res < p.endRes; res++ {
			for layer := range p.layers {
				for k := range t.resolutions[res].precincts {
					if err := read(res, k, layer); err != nil {
						return err
					}
				}
			}
		}
	case 2: // resolution, position, layer
		for res := p.firstRes; res < p.endRes; res++ {
			for k := range t.resolutions[res].precincts {
				for layer := range p.layers {
					if err := read(res, k, layer); err != nil {
						return err
					}
				}
			}
		}
	default: // position, resolution, layer
		for _, at := range t.positions(p) {
			for layer := range p.layers {
				if err := read(at.res, at.k, layer); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// position is where a precinct begins on the reference grid.
type position struct {
	x, y   int64
	res, k int
}

// positions are the precincts in the order of B.12.1.4 and B.12.1.5, which are the same for one component.
func (t *tile) positions(p progression) []position {
	var all []position
	for r := p.firstRes; r < p.endRes; r++ {
		res, n := &t.resolutions[r], t.parameters.levels-r
		for k := range res.precincts {
			i, j := int64(k%res.across), int64(k/res.across)
			at := position{(res.firstX + i) << (res.ppx + n), (res.firstY + j) << (res.ppy + n), r, k}
			// The first precinct begins with the tile where the tile does not begin with a precinct.
			at.x, at.y = max(at.x, t.area.x0), max(at.y, t.area.y0)
			all = append(all, at)
		}
	}
	slices.SortFunc(all, func(a, b position) int {
		return cmp.Or(cmp.Compare(a.y, b.y), cmp.Compare(a.x, b.x), cmp.Compare(a.res, b.res), cmp.Compare(a.k, b.k))
	})
	return all
}

// bit takes one bit of a packet header, where a bit 0 follows each byte FF (B.10.1).
func (r *packetReader) bit() int {
	if r.left == 0 {
		r.left = 8
		if r.last == 0xff {
			r.left = 7
		}
		if r.pos >= len(r.data) {
			r.over = true
			return 0
		}
		r.last = r.data[r.pos]
		r.pos++
	}
	r.left--
	return int(r.last>>r.left) & 1
}

func (r *packetReader) bits(n int) int {
	v := 0
	for range n {
		v = v<<1 | r.bit()
	}
	return v
}

// packet reads the packet of a precinct and a layer: the header (B.10), then the bytes of its code-blocks.
func (r *packetReader) packet(res *resolution, k, layer int) error {
	if len(r.data)-r.pos >= 6 && r.data[r.pos] == markSOP>>8 && r.data[r.pos+1] == markSOP&0xff {
		r.pos += 6 // A.8.1; no header begins so
	}
	if r.pos >= len(r.data) {
		return incomplete("packets are missing")
	}
	r.last, r.left, r.pending = 0, 0, r.pending[:0]
	if r.bit() == 1 {
		p := res.open(k)
		for i := range p.bands {
			for j := range p.bands[i].blocks {
				if err := r.block(&p.bands[i], j, layer); err != nil {
					return err
				}
			}
		}
	}
	if r.last == 0xff { // B.10.1: a header does not end with FF
		r.pos++
	}
	if r.over || r.pos > len(r.data) {
		return incomplete("it ends within a packet header")
	}
	if r.eph {
		if len(r.data)-r.pos < 2 || r.data[r.pos] != markEPH>>8 || r.data[r.pos+1] != markEPH&0xff {
			return damaged("a packet header does not end with EPH")
		}
		r.pos += 2
	}
	for _, s := range r.pending {
		if s.length > len(r.data)-r.pos {
			return incomplete("it ends within a packet")
		}
		b := r.data[r.pos : r.pos+s.length : r.pos+s.length]
		r.pos += s.length
		if g := &s.block.segments[s.segment]; g.data == nil {
			g.data = b
		} else {
			g.data = append(g.data, b...)
		}
	}
	res.precincts[k].layers = layer + 1
	return nil
}

// block reads what a packet header says of code-block j.
func (r *packetReader) block(g *blocks, j, layer int) error {
	b := &g.blocks[j]
	if b.included {
		if r.bit() == 0 {
			return nil
		}
	} else {
		if !g.inclusion.below(r, j%g.across, j/g.across, layer+1) { // B.10.4
			return nil
		}
		for b.leading = 0; !g.leading.below(r, j%g.across, j/g.across, int(b.leading)+1); b.leading++ { // B.10.5
			if b.leading > 80 || r.over { // more than any Mb
				return damaged("a code-block without a bit plane")
			}
		}
		b.included, b.lblock = true, 3
	}
	n := r.passes()
	for r.bit() == 1 {
		if b.lblock++; b.lblock > 31 {
			return damaged("a code-block of more than 2^31 bytes")
		}
	}
	if r.over {
		return incomplete("it ends within a packet header")
	}
	if b.passes += int16(n); b.passes > 3*80 {
		return damaged("a code-block of %d passes", b.passes)
	}
	for first := true; n > 0; first = false {
		last := len(b.segments) - 1
		if last < 0 || b.segments[last].passes == b.segments[last].limit {
			b.segments = append(b.segments, codewordSegment{limit: r.limit(b, n)})
			last++
		} else if !first {
			return damaged("a code-block without end")
		}
		s := &b.segments[last]
		if s.limit == 0 {
			return beyond("a code-block of several high throughput sets")
		}
		take := min(n, s.limit-s.passes)
		s.passes += take
		n -= take
		width := int(b.lblock) + bits.Len(uint(take)) - 1 // B.10.7.1
		if width > 31 {
			return damaged("a code-block of more than 2^31 bytes")
		}
		r.pending = append(r.pending, pendingSegment{b, last, r.bits(width)})
	}
	return nil
}

// passes is the number of coding passes, Table B.4.
func (r *packetReader) passes() int {
	switch {
	case r.bit() == 0:
		return 1
	case r.bit() == 0:
		return 2
	}
	if n := r.bits(2); n < 3 {
		return 3 + n
	}
	if n := r.bits(5); n < 31 {
		return 6 + n
	}
	return 37 + r.bits(7)
}

// limit is how many passes the next segment of b can hold, of which n are to come now.
func (r *packetReader) limit(b *codeBlock, n int) int {
	i := len(b.segments)
	switch {
	case r.style&styleHT != 0: // T.814 B.3: the cleanup pass, behind passes that only count planes; then both refinements
		return [...]int{(n-1)/3*3 + 1, 2, 0}[min(i, 2)]
	case r.style&styleTermAll != 0:
		return 1
	case r.style&styleBypass != 0: // Table D.9: the first four planes, then two passes raw and one arithmetic in turn
		if i == 0 {
			return 10
		}
		return 1 + i&1
	}
	return math.MaxInt
}

// tagTree is a tree of minima over a grid, B.10.2.
type tagTree struct {
	levels []tagLevel // leaves first
}

type tagLevel struct {
	across int
	nodes  []tagNode
}

type tagNode struct {
	least int32 // the value is not below
	known bool  // least is the value
}

func newTagTree(across, down int) tagTree {
	var t tagTree
	for {
		t.levels = append(t.levels, tagLevel{across, make([]tagNode, across*down)})
		if across*down == 1 {
			return t
		}
		across, down = (across+1)/2, (down+1)/2
	}
}

// below reads on until it is known whether the value of a leaf is below the limit.
func (t *tagTree) below(r *packetReader, x, y, limit int) bool {
	least := int32(0)
	for i := len(t.levels) - 1; i >= 0; i-- {
		l := &t.levels[i]
		n := &l.nodes[(y>>i)*l.across+x>>i]
		n.least = max(n.least, least)
		for !n.known && n.least < int32(limit) {
			if r.bit() == 1 {
				n.known = true
			} else {
				n.least++
			}
		}
		least = n.least
	}
	n := t.levels[0].nodes[y*t.levels[0].across+x]
	return n.known && n.least < int32(limit)
}
