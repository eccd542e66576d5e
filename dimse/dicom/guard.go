package dicom

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unsafe"
)

// What a data set may ask of radnode. Real objects stay far below: the deepest SR and RT objects seen nest 9 sequences, and
// 10^6 items of an RTSTRUCT are 5·10^6 elements.
const (
	maxDepth    = 16      // sequences inside of each other
	maxElements = 8 << 20 // elements (56 bytes each, and as much again until their data set is complete), items (48), fragments (none)
	maxHeld     = 1 << 30 // bytes of values in memory; pixel data is not held
	maxPadding  = 4096    // zeros behind the last element, which some writers leave; more of them may have been data
	maxNotes    = 20
)

// What an inflated data set may grow to: PS3.5 A.5 sets no limit. Masks do shrink a thousandfold, so small ones may.
// Elements do not: the functional groups of a segmentation, which are alike from frame to frame, take a byte and a half
// each.
const (
	maxInflated  = 1 << 30
	freeInflated = 64 << 20
	inflateRatio = 200
	freeElements = 256 << 10
	elementRatio = 4 // for each stored byte
)

// coding is how elements are laid out, PS3.5 7.1; an item may differ from the data set around it.
type coding struct{ explicit, bigEndian bool }

var implicitLE = coding{}

func (c coding) order() binary.ByteOrder {
	if c.bigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// header is what stands before a value: PS3.5 7.1.2 and 7.1.3.
type header struct {
	tag    Tag
	vr     VR
	length uint32
	size   int64 // of the header itself
}

// parseHeader reads a header from b, which has 8 bytes at least; short says that it needs 12.
func parseHeader(b []byte, c coding) (h header, short bool, err error) {
	o := c.order()
	h = header{tag: Tag(o.Uint16(b))<<16 | Tag(o.Uint16(b[2:])), size: 8}
	switch {
	case h.tag>>16 == 0xFFFE: // items and delimiters have no VR: PS3.5 7.5
		h.length = o.Uint32(b[4:])
	case !c.explicit:
		h.vr, h.length = h.tag.VR(), o.Uint32(b[4:])
		if h.vr == OB && h.tag.allows(OW) {
			h.vr = OW // PS3.5 A.1
		}
	case !letters(b[4:]):
		return h, false, malformed("bytes %02X %02X are no VR", b[4], b[5])
	default:
		h.vr = VR(b[4])<<8 | VR(b[5])
		if info, known := vrs[h.vr]; known && !info.long {
			h.length = uint32(o.Uint16(b[6:]))
			return h, false, nil
		}
		if len(b) < 12 { // a VR of tomorrow has the long form: PS3.5 6.2
			return h, true, nil
		}
		h.length, h.size = o.Uint32(b[8:]), 12
	}
	return h, false, nil
}

func letters(b []byte) bool { return 'A' <= b[0] && b[0] <= 'Z' && 'A' <= b[1] && b[1] <= 'Z' }

// sniff corrects the coding by the first 8 bytes of a data set or item: writers exist that name one and use the other, and that
// put implicit items into explicit private sequences. left is how many bytes an implicit length may span.
func sniff(b []byte, c coding, left int64) coding {
	o := c.order()
	if o.Uint16(b) == 0xFFFE {
		return c
	}
	named := letters(b[4:])
	length := int64(o.Uint32(b[4:]))
	switch {
	case c.explicit && !named && (length <= left || length == undefinedLength):
		c.explicit = false
	case !c.explicit && named && length > left && (VR(b[4])<<8 | VR(b[5])).known():
		c.explicit = true
	}
	return c
}

// guard is the only code that trusts no byte. It walks a data set once: every length against the end of what encloses it, the
// depth, the number of elements, the exact end; and turns it into a DataSet on the way.
type guard struct {
	cursor
	gePix  bool // pixel data is big endian though nothing else is
	pixels *PixelElement
	path   []place
	count  int // of elements, items and fragments
	limit  int // of them
	notes  []string
	more   int // notes beyond maxNotes
	trying bool

	// Elements and items are collected on stacks and then cut from slabs, so that a data set takes what it needs and no more.
	elemStack stack[Element]
	itemStack stack[*DataSet]
	elemSlab  []Element
	itemSlab  []DataSet

	room    int64 // for what is held
	without []Tag // whose values are left out

	texts map[string]*charset // those read, by the bytes of Specific Character Set: items may repeat it
}

// A stack grows by pieces and never moves: append would cost five times the elements of a large data set on the way.
type stack[T any] struct {
	pieces [][]T
	n      int
}

const pieceSize = 128

func (s *stack[T]) push(v T) {
	if s.n == len(s.pieces)*pieceSize {
		s.pieces = append(s.pieces, make([]T, pieceSize))
	}
	s.pieces[s.n/pieceSize][s.n%pieceSize] = v
	s.n++
}

// pop moves the last ones into out, as many as it holds.
func (s *stack[T]) pop(out []T) {
	s.n -= len(out)
	for i := s.n; len(out) > 0; {
		piece := s.pieces[i/pieceSize][i%pieceSize:]
		n := copy(out, piece)
		clear(piece[:n])
		out, i = out[n:], i+n
	}
}

// place is a step of the path to the element being read.
type place struct {
	tag  Tag
	item int
}

// context is what an item inherits from the data set around it.
type context struct {
	coding
	text   *charset
	signed bool // Pixel Representation, which decides "US or SS"
	depth  int
}

func (g *guard) where(t Tag) string {
	var b strings.Builder
	for _, p := range g.path {
		b.WriteString(p.tag.String())
		if p.item > 0 {
			fmt.Fprintf(&b, "[%d]", p.item)
		}
		b.WriteByte('.')
	}
	if t == 0 {
		return strings.TrimSuffix(b.String(), ".")
	}
	return b.String() + t.String()
}

func (g *guard) fail(t Tag, err error) error {
	var already *Error
	if g.trying || errors.As(err, &already) { // where it is only tried, nobody asks for the place
		return err
	}
	return &Error{Path: g.where(t), Offset: g.pos, Err: err}
}

func (g *guard) note(t Tag, format string, args ...any) {
	if len(g.notes) == maxNotes {
		g.more++
		return
	}
	text := fmt.Sprintf(format, args...)
	if w := g.where(t); w != "" {
		text = w + ": " + text
	}
	g.notes = append(g.notes, text)
}

func (g *guard) counted(t Tag) error {
	if g.count++; g.count > g.limit {
		return g.fail(t, unsupported("more than %d elements, items and fragments", g.limit))
	}
	return g.roomFor(t, 0)
}

// memory is about what the data set holds, and roomFor refuses to let it hold n bytes more than there is room for.
func (g *guard) memory() int64 { return g.held + int64(g.count)*int64(unsafe.Sizeof(Element{})) }

func (g *guard) roomFor(t Tag, n int64) error {
	if g.memory() > g.room-n {
		return g.fail(t, kindError{ErrTooLarge, fmt.Errorf("the data set needs more than the %d MiB that there is room for", g.room>>20)})
	}
	return nil
}

// beyond is the error for a value that claims more bytes than are left of what encloses it.
func (g *guard) beyond(t Tag, length, end int64) error {
	hint := ""
	if end == g.size {
		hint = "; it is truncated, send it again"
	}
	return g.fail(t, malformed("claims %d bytes where %d are left%s", length, end-g.pos, hint))
}

// dataSet reads elements up to end, or to an item delimiter where open is set; end then bounds what encloses the item.
func (g *guard) dataSet(ctx context, end int64, open bool) (*DataSet, error) {
	base := g.elemStack.n
	sorted, last := true, Tag(0)
	for first := true; ; first = false {
		if g.pos == end && !open {
			break
		}
		if end-g.pos < 8 {
			// A single zero in big endian is the first byte of any tag.
			if ctx.depth == 0 && g.zeros(end-g.pos) && (end-g.pos > 1 || !ctx.bigEndian) {
				g.note(0, "%d zero bytes after the last element", end-g.pos)
				g.pos = end
				break
			}
			return nil, g.fail(0, malformed("ends in the middle of an element: %d bytes left; it is truncated, send it again", end-g.pos))
		}
		b, err := g.peek(int(min(12, end-g.pos)))
		if err != nil {
			return nil, g.fail(0, err)
		}
		if ctx.depth == 0 && [8]byte(b) == [8]byte{} && end-g.pos < maxPadding && g.zeros(end-g.pos) {
			g.note(0, "%d zero bytes after the last element", end-g.pos)
			g.pos = end
			break
		}
		if first {
			if c := sniff(b, ctx.coding, end-g.pos-8); c != ctx.coding {
				if ctx.coding = c; c.explicit {
					g.note(0, "is in explicit VR where implicit VR was announced")
				} else {
					g.note(0, "is in implicit VR where explicit VR was announced")
				}
			}
		}
		h, short, err := parseHeader(b, ctx.coding)
		if short {
			err = malformed("ends in the middle of an element")
		}
		if err != nil {
			return nil, g.fail(h.tag, err)
		}
		if h.tag == itemDelimTag && open {
			g.pos += 8
			break
		}
		if h.tag>>16 == 0xFFFE {
			return nil, g.fail(0, malformed("%s where an element belongs", h.tag))
		}
		if err := g.counted(h.tag); err != nil {
			return nil, err
		}
		e, keep, err := g.element(&ctx, h, end)
		if err != nil {
			return nil, err
		}
		if !keep {
			continue
		}
		if e.Tag <= last && g.elemStack.n > base {
			sorted = false
		}
		last = e.Tag
		g.elemStack.push(e)
	}
	d := g.newDataSet()
	d.elems = g.cut(base)
	if !sorted {
		d.elems = g.sort(d.elems)
	}
	return d, nil
}

// sort brings elements into order and drops repeated ones: the first counts, as in DCMTK.
func (g *guard) sort(elems []Element) []Element {
	g.note(0, "elements are not in ascending order")
	slices.SortStableFunc(elems, func(a, b Element) int {
		switch {
		case a.Tag < b.Tag:
			return -1
		case a.Tag > b.Tag:
			return 1
		}
		return 0
	})
	kept := elems[:1]
	for _, e := range elems[1:] {
		if e.Tag == kept[len(kept)-1].Tag {
			g.note(e.Tag, "is there twice; the first one counts")
			continue
		}
		kept = append(kept, e)
	}
	clear(elems[len(kept):])
	return kept[:len(kept):len(kept)]
}

// cut moves the elements from base on off the stack.
func (g *guard) cut(base int) []Element {
	n := g.elemStack.n - base
	if n == 0 {
		return nil
	}
	var out []Element
	switch {
	case n >= pieceSize: // so that no large rest of a slab is lost
		out = make([]Element, n)
	case n > len(g.elemSlab):
		g.elemSlab = make([]Element, max(n, min(1024, 16+g.count)))
		fallthrough
	default:
		out = g.elemSlab[:n:n]
		g.elemSlab = g.elemSlab[n:]
	}
	g.elemStack.pop(out)
	return out
}

func (g *guard) newDataSet() *DataSet {
	if len(g.itemSlab) == 0 {
		g.itemSlab = make([]DataSet, min(512, 1+g.count/8))
	}
	d := &g.itemSlab[0]
	g.itemSlab = g.itemSlab[1:]
	return d
}

// element reads the element behind header h; keep is false for what a DataSet does not hold.
func (g *guard) element(ctx *context, h header, end int64) (e Element, keep bool, err error) {
	t, vr := h.tag, h.vr
	g.pos += h.size
	if h.length != undefinedLength && int64(h.length) > end-g.pos {
		return e, false, g.beyond(t, int64(h.length), end)
	}
	if ctx.explicit && !vr.known() {
		g.note(t, "VR %s is unknown, read as UN", vr)
		vr = UN
	}
	if !ctx.explicit && vr == US && ctx.signed && t.allows(SS) {
		vr = SS // "US or SS" follows Pixel Representation: PS3.5 A.1
	}
	switch {
	case ctx.depth == 0 && bulk(t):
		return e, false, g.locate(ctx, t, vr, h.length, end)
	case h.length == undefinedLength && (vr == OB || vr == OW):
		// Only pixel data may have fragments (PS3.5 A.4): here that of an icon, which nobody reads.
		g.note(t, "is encapsulated, and left out")
		_, err := g.fragments(ctx.coding, t, end)
		return e, false, err
	case h.length == undefinedLength && vr != SQ && vr != UN:
		return e, false, g.fail(t, malformed("has undefined length, which VR %s cannot have", vr)) // PS3.5 7.1.1
	case h.length == undefinedLength || vr == SQ:
		inner := *ctx
		if vr == UN {
			inner.coding = implicitLE // PS3.5 6.2.2 Note 4, CP-246
		}
		items, err := g.sequence(inner, t, int64(h.length), end)
		return Element{Tag: t, VR: SQ, items: items}, true, err
	}
	if t&0xFFFF == 0 || t == DataSetTrailingPadding { // PS3.5 7.2 and 7.1
		g.pos += int64(h.length)
		return e, false, nil
	}
	if slices.Contains(g.without, t) {
		g.pos += int64(h.length)
		return Element{Tag: t, VR: vr}, true, nil
	}
	if !g.own {
		if err := g.roomFor(t, int64(h.length)); err != nil {
			return e, false, err
		}
	}
	value, err := g.take(int64(h.length))
	if err != nil {
		return e, false, g.fail(t, err)
	}
	if h.length&1 == 1 {
		g.note(t, "odd length")
	}
	switch {
	case vr == UN && ctx.explicit:
		// The sender did not know the attribute, radnode may: then the value is implicit VR little endian, PS3.5 6.2.2 Note 2.
		if vr = t.VR(); vr == SQ {
			if items, ok := g.unknownSequence(ctx, t, value); ok {
				return Element{Tag: t, VR: SQ, items: items}, true, nil
			}
			return Element{Tag: t, VR: UN, value: value}, true, nil
		}
	case ctx.bigEndian:
		if n := vrs[vr].word; n > 1 {
			swapWords(value, n)
		}
	}
	switch t {
	case SpecificCharacterSet:
		ctx.text = g.charset(value)
	case PixelRepresentation:
		ctx.signed = len(value) > 0 && value[0] == 1
	}
	if vrs[vr].text {
		var r remark
		if value, r = ctx.text.decode(vr, value); r.fault != fits {
			if len(g.notes) < maxNotes {
				g.note(t, "%s", r.words(vr, ctx.text))
			} else {
				g.more++
			}
		}
	}
	return Element{Tag: t, VR: vr, value: value}, true, nil
}

// maxTexts is how many different character sets one data set may have. The standard's terms are 30, and real objects have three.
const maxTexts = 256

// charset reads the value of Specific Character Set.
func (g *guard) charset(value []byte) *charset {
	c, known := g.texts[string(value)]
	if known {
		return c
	}
	if len(g.texts) == maxTexts {
		g.note(SpecificCharacterSet, "is not followed: the data set has had more than 256 character sets")
		return nil
	}
	c, note := parseCharset(value)
	if note != "" {
		g.note(SpecificCharacterSet, "%s", note)
	}
	if g.texts == nil {
		g.texts = make(map[string]*charset)
	}
	g.texts[string(value)] = c
	return c
}

// sequence reads items: PS3.5 7.5.
func (g *guard) sequence(ctx context, t Tag, length, end int64) ([]*DataSet, error) {
	if ctx.depth++; ctx.depth > maxDepth {
		return nil, g.fail(t, unsupported("sequences are nested more than %d deep", maxDepth))
	}
	open := length == undefinedLength
	if !open {
		end = g.pos + length
	}
	base := g.itemStack.n
	g.path = append(g.path, place{t, 0})
	for {
		if g.pos == end && !open {
			break
		}
		if end-g.pos < 8 {
			return nil, g.fail(0, malformed("ends in the middle of a sequence; it is truncated, send it again"))
		}
		b, err := g.peek(8)
		if err != nil {
			return nil, g.fail(0, err)
		}
		h, _, err := parseHeader(b, ctx.coding)
		if err != nil {
			return nil, g.fail(0, malformed("no item where one belongs"))
		}
		if h.tag == sequenceEndTag {
			g.pos += 8
			if open {
				break
			}
			g.note(0, "sequence delimiter in a sequence of defined length")
			continue
		}
		if h.tag != itemTag {
			return nil, g.fail(0, malformed("%s where an item belongs", h.tag))
		}
		g.path[len(g.path)-1].item++
		if err := g.counted(0); err != nil {
			return nil, err
		}
		g.pos += 8
		itemEnd, itemOpen := end, h.length == undefinedLength
		if !itemOpen {
			if int64(h.length) > end-g.pos {
				return nil, g.beyond(0, int64(h.length), end)
			}
			itemEnd = g.pos + int64(h.length)
		}
		item, err := g.dataSet(ctx, itemEnd, itemOpen)
		if err != nil {
			return nil, err
		}
		g.itemStack.push(item)
	}
	g.path = g.path[:len(g.path)-1]
	if g.itemStack.n == base {
		return nil, nil
	}
	items := make([]*DataSet, g.itemStack.n-base)
	g.itemStack.pop(items)
	return items, nil
}

// unknownSequence reads the items inside of a UN value; where that fails the value stays what it was.
func (g *guard) unknownSequence(ctx *context, t Tag, value []byte) ([]*DataSet, bool) {
	if len(value) > 0 && !bytes.HasPrefix(value, []byte{0xFE, 0xFF, 0x00, 0xE0}) {
		g.note(t, "is UN and could not be read as a sequence")
		return nil, false
	}
	outer, path, notes, more, elems, items, trying := g.cursor, len(g.path), len(g.notes), g.more, g.elemStack.n, g.itemStack.n, g.trying
	g.cursor, g.trying = cursor{size: int64(len(value)), window: value, own: true}, true
	sub := *ctx
	sub.coding = implicitLE
	found, err := g.sequence(sub, t, g.size, g.size)
	g.cursor, g.trying = outer, trying
	if err != nil {
		g.path, g.notes, g.more, g.elemStack.n, g.itemStack.n = g.path[:path], g.notes[:notes], more, elems, items
		g.texts = nil // their notes are gone
		g.note(t, "is UN and could not be read as a sequence")
		return nil, false
	}
	return found, true
}

// bulk names the elements that hold pixels: PS3.5 8.
func bulk(t Tag) bool { return t == PixelData || t == FloatPixelData || t == DoubleFloatPixelData }

// locate notes where pixel data is and steps over it.
func (g *guard) locate(ctx *context, t Tag, vr VR, length uint32, end int64) error {
	if vr == UN {
		vr = OW
	}
	p := &PixelElement{Tag: t, VR: vr, Offset: g.pos, Length: int64(length), BigEndian: ctx.bigEndian || g.gePix, r: g.r}
	if length == undefinedLength {
		extent, err := g.fragments(ctx.coding, t, end)
		if err != nil {
			return err
		}
		p.Length, p.extent = -1, extent
	} else {
		p.extent = int64(length)
		g.pos += int64(length)
	}
	if g.pixels != nil {
		g.note(t, "second element with pixels; the first one counts")
		return nil
	}
	g.pixels = p
	return nil
}

// fragments steps over the items of encapsulated pixel data, PS3.5 A.4, and returns how many bytes they take.
func (g *guard) fragments(c coding, t Tag, end int64) (int64, error) {
	start := g.pos
	for n := 1; ; n++ {
		if err := g.counted(t); err != nil {
			return 0, err
		}
		if end-g.pos < 8 {
			return 0, g.fail(t, malformed("ends before fragment %d is complete; it is truncated, send it again", n))
		}
		b, err := g.peekSmall(8)
		if err != nil {
			return 0, g.fail(t, err)
		}
		h, _, err := parseHeader(b, c)
		switch {
		case err != nil || h.tag != itemTag && h.tag != sequenceEndTag:
			return 0, g.fail(t, malformed("no item where fragment %d belongs", n))
		case h.tag == sequenceEndTag:
			extent := g.pos - start
			g.pos += 8
			return extent, nil
		}
		if g.pos += 8; h.length == undefinedLength || int64(h.length) > end-g.pos {
			return 0, g.beyond(t, int64(h.length), end)
		}
		g.pos += int64(h.length)
	}
}

// swapWords turns big endian words of n bytes into little endian ones; a rest stays as it is, and its getter will complain.
func swapWords(b []byte, n int) {
	for ; len(b) >= n; b = b[n:] {
		slices.Reverse(b[:n])
	}
}

// cursor reads forward through a file, window by window, or through bytes that are in memory.
type cursor struct {
	r      io.ReaderAt
	size   int64 // where the data ends
	pos    int64
	held   int64
	window []byte
	off    int64 // of window[0]
	own    bool  // the window is the whole of it, and values are cut from it
	slab   []byte
}

const windowSize = 32 << 10

func inMemory(b []byte) cursor {
	return cursor{r: bytes.NewReader(b), size: int64(len(b)), window: b, own: true}
}

// peek shows the next n bytes, which the caller has made sure are before the end.
func (c *cursor) peek(n int) ([]byte, error) { return c.fill(n, windowSize) }

// peekSmall is peek for headers that stand far apart.
func (c *cursor) peekSmall(n int) ([]byte, error) { return c.fill(n, 512) }

func (c *cursor) fill(n, size int) ([]byte, error) {
	if i := c.pos - c.off; i >= 0 && i+int64(n) <= int64(len(c.window)) {
		return c.window[i : i+int64(n)], nil
	}
	if cap(c.window) < windowSize {
		c.window = make([]byte, 0, windowSize)
	}
	c.window = c.window[:min(int64(size), c.size-c.pos)]
	c.off = c.pos
	if err := readAt(c.r, c.window, c.pos); err != nil {
		c.window = c.window[:0]
		return nil, err
	}
	return c.window[:n], nil
}

// take returns the next n bytes, to keep.
func (c *cursor) take(n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	i := c.pos - c.off
	if c.own {
		c.pos += n
		return c.window[i : i+n : i+n], nil
	}
	if c.held += n; c.held > maxHeld {
		return nil, unsupported("values of more than %d MiB", maxHeld>>20)
	}
	var out []byte
	if n > windowSize/4 {
		out = make([]byte, n)
	} else {
		if n > int64(len(c.slab)) {
			c.slab = make([]byte, max(n, min(windowSize, 4*c.held)))
		}
		out = c.slab[:n:n]
		c.slab = c.slab[n:]
	}
	have := 0
	if i >= 0 && i < int64(len(c.window)) {
		have = copy(out, c.window[i:])
	}
	if have < len(out) {
		if err := readAt(c.r, out[have:], c.pos+int64(have)); err != nil {
			return nil, err
		}
	}
	c.pos += n
	return out, nil
}

// zeros reports whether the next n bytes, a few thousand at most, are all zero.
func (c *cursor) zeros(n int64) bool {
	b := make([]byte, n)
	if readAt(c.r, b, c.pos) != nil {
		return false
	}
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes: %w", len(b), err)
}

// inflate undoes PS3.5 A.5 in memory: once to see how much it is, so that a bomb costs time and no memory, and once to keep it.
func inflate(r io.ReaderAt, offset, size, room int64) (b []byte, note string, err error) {
	limit := min(maxInflated, max(freeInflated, inflateRatio*(size-offset)), max(room, 0))
	in := bufio.NewReaderSize(nil, 4096)
	z := flate.NewReader(in)
	defer z.Close()
	start := func() io.Reader {
		in.Reset(io.NewSectionReader(r, offset, size-offset))
		_ = z.(flate.Resetter).Reset(in, nil) // always nil
		return io.LimitReader(z, limit+1)
	}
	head := make([]byte, min(5, size-offset))
	if err := readAt(r, head, offset); err != nil {
		return nil, "", &Error{Offset: offset, Err: err}
	}
	zlib := zlibHeader(head)
	if zlib {
		offset += 2
		note = "the deflated data set has the header of zlib"
	}
	n, err := io.Copy(io.Discard, start())
	switch {
	case n > room:
		return nil, "", &Error{Offset: offset, Err: kindError{ErrTooLarge, fmt.Errorf("the deflated data set needs more than the %d MiB that there is room for", room>>20)}}
	case n > limit:
		return nil, "", &Error{Offset: offset, Err: unsupported("the deflated data set grows beyond %d MiB", limit>>20)}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, "", &Error{Offset: size, Err: malformed("the deflated data set is truncated, send it again: %w", err)}
	case err != nil:
		return nil, "", &Error{Offset: offset, Err: malformed("the deflated data set cannot be inflated: %w", err)}
	}
	// One NUL behind it makes the length even: PS3.5 A.5.
	if rest, err := io.Copy(io.Discard, in); err == nil && rest > 1 && !zlib {
		note = fmt.Sprintf("%d bytes after the deflated data set", rest)
	}
	b = make([]byte, n)
	if _, err := io.ReadFull(start(), b); err != nil {
		return nil, "", &Error{Offset: offset, Err: fmt.Errorf("reading a second time: %w", err)}
	}
	return b, note, nil
}

// zlibHeader reports whether b starts a stream with the header of RFC 1950 2.2, which PS3.5 A.5 does not allow and some
// writers make. As deflate its first byte begins a stored block, whose length stands there twice (RFC 1951 3.2.4).
func zlibHeader(b []byte) bool {
	if len(b) < 5 || b[0]&0x0F != 8 || b[1]&0x20 != 0 || binary.BigEndian.Uint16(b)%31 != 0 {
		return false
	}
	return binary.LittleEndian.Uint16(b[1:]) != ^binary.LittleEndian.Uint16(b[3:])
}
