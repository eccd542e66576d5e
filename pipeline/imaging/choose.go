package imaging

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// Rules of what is left out, stated in the package comment.
const (
	leastProper = 3  // frames that make a stack beside which another one is odd
	mostOdd     = 3  // frames that may be odd, or
	oddShare    = 10 // one in so many
)

// few says whether rest is so little beside main that it is no stack of its own.
func few(main, rest int) bool {
	return main >= leastProper && rest <= max(mostOdd, main/oddShare) && leastProper*rest <= main
}

// A chooser finds the one stack that is measured.
type chooser struct {
	named  map[string]bool
	frames map[string][]int
}

func newChooser(o Options) *chooser {
	c := &chooser{named: make(map[string]bool, len(o.Named)), frames: o.NamedFrames}
	for _, uid := range o.Named {
		c.named[uid] = true
	}
	return c
}

// isNamed says whether the contours name the frame, or the image that it was before it was converted.
func (c *chooser) isNamed(f *frame) bool {
	if numbers, ok := c.frames[f.uid]; ok {
		return slices.Contains(numbers, f.Frame+1)
	}
	if c.named[f.uid] {
		return true
	}
	if len(c.named) > 0 && f.own != nil {
		for _, source := range f.own.Seq(dicom.ConversionSourceAttributesSequence) {
			if c.named[source.String(dicom.ReferencedSOPInstanceUID)] {
				return true
			}
		}
	}
	return false
}

// firstNamed is the first frame that the contours name, nil where they name none.
func (c *chooser) firstNamed(frames []*frame) *frame {
	if i := slices.IndexFunc(frames, c.isNamed); i >= 0 {
		return frames[i]
	}
	return nil
}

// An odd frame is left out, for a reason that is refused where it cannot be.
type odd struct {
	frame  *frame
	reason error
	why    string // for the note
}

// arrange finds the stack among all frames of a series.
func (c *chooser) arrange(frames []*frame) (stack, error) {
	frames, odds, err := c.byType(frames)
	if err != nil {
		return stack{}, err
	}
	frames, others, err := c.byGrid(frames)
	if err != nil {
		return stack{}, err
	}
	odds = append(odds, others...)
	s, err := c.solve(frames)
	if err != nil {
		for _, o := range odds {
			if codeOf(err) == refusal.GeometryGap && s.fills(o.frame) {
				return stack{}, o.reason // it is a slice of this stack, and broken
			}
		}
		return s, err
	}
	for _, o := range odds {
		if code := codeOf(o.reason); (code == refusal.GeometrySize || code == refusal.GeometryPixelSpacing) && s.goesOn(o.frame) {
			return stack{}, o.reason
		}
	}
	s.notes = append(s.notes, notesOf(odds)...)
	return s, nil
}

// goesOn says whether a frame lies where the next slice would be, before the first or behind the last.
func (s *stack) goesOn(f *frame) bool {
	at := voxel.Dot(sub(f.position, s.geometry.Origin), s.geometry.Axes[2]) / s.geometry.Spacing[2]
	n := float64(len(s.frames))
	return math.Abs(at+1) < 0.5 || math.Abs(at-n) < 0.5
}

// fills says whether a frame lies where a slice is missing.
func (s *stack) fills(f *frame) bool {
	normal := s.geometry.Axes[2]
	return slices.ContainsFunc(s.missing, func(p [3]float64) bool {
		return math.Abs(voxel.Dot(sub(p, f.position), normal)) < s.geometry.Spacing[2]/2
	})
}

func notesOf(odds []odd) (notes []string) {
	for i := 0; i < len(odds); {
		n := i + 1
		for n < len(odds) && odds[n].why == odds[i].why {
			n++
		}
		what := fmt.Sprintf("%simage %s is", odds[i].frame.place(), odds[i].frame.uid)
		if n-i > 1 {
			what = fmt.Sprintf("%d images are", n-i)
		}
		notes = append(notes, fmt.Sprintf("%s left out: %s", what, odds[i].why))
		i = n
	}
	return notes
}

// projections are values of Image Type, Frame Type and Volume Based Calculation Technique of what was calculated from a volume
// and is no slice of it: PS3.3 C.8.16.1.3, C.8.16.2.1.4.
var projections = map[string]bool{
	"MIP": true, "MAX_IP": true, "MIN_IP": true, "MINIP": true, "PROJECTION IMAGE": true, "VOLUME_RENDER": true, "SURFACE_RENDER": true,
}

// byType leaves out scout views, and projections among slices.
func (c *chooser) byType(frames []*frame) (proper []*frame, odds []odd, err error) {
	var projected []odd
	for _, f := range frames {
		kind := f.imageType()
		technique := f.grouped(dicom.VolumeBasedCalculationTechnique, frameTypes[:]...).String(dicom.VolumeBasedCalculationTechnique)
		projection := slices.ContainsFunc(append(kind, technique), func(v string) bool { return projections[v] })
		switch {
		case slices.Contains(kind, "LOCALIZER"):
			odds = append(odds, odd{f, f.refuse(refusal.ImageLocalizer, "keep localizers in a series of their own", "Image Type (0008,0008) says LOCALIZER: a scout view is no slice"),
				"Image Type (0008,0008) says LOCALIZER, a scout view"})
		case projection:
			projected = append(projected, odd{frame: f, why: fmt.Sprintf("Image Type (0008,0008) is %s, a projection or rendering", strings.Join(kind, "\\"))})
		default:
			proper = append(proper, f)
		}
	}
	if len(proper)+len(projected) == 0 {
		return nil, nil, odds[0].reason
	}
	for _, o := range odds {
		if c.isNamed(o.frame) {
			return nil, nil, o.reason
		}
	}
	if len(proper) == 0 || slices.ContainsFunc(projected, func(o odd) bool { return c.isNamed(o.frame) }) {
		kept := make(map[*frame]bool, len(odds))
		for _, o := range odds {
			kept[o.frame] = true
		}
		return slices.DeleteFunc(slices.Clone(frames), func(f *frame) bool { return kept[f] }), odds, nil
	}
	for i := range projected {
		o := &projected[i]
		o.reason = o.frame.refuse(refusal.ImageModality, sendOriginals, "%s", o.why)
	}
	return proper, append(odds, projected...), nil
}

// byGrid keeps the frames of one size, spacing and orientation.
func (c *chooser) byGrid(frames []*frame) (proper []*frame, odds []odd, err error) {
	var grids [][]*frame
	const most = 16 // more are no stacks
	for _, f := range frames {
		i := slices.IndexFunc(grids, func(g []*frame) bool { return sameGrid(g[0], f) == nil })
		switch {
		case i >= 0:
			grids[i] = append(grids[i], f)
		case len(grids) == most:
			return nil, nil, sameGrid(grids[0][0], f)
		default:
			grids = append(grids, []*frame{f})
		}
	}
	if len(grids) == 1 {
		return frames, nil, nil
	}
	// The largest first; those of one size stay in the order of their UIDs.
	slices.SortStableFunc(grids, func(a, b []*frame) int { return cmp.Compare(len(b), len(a)) })
	chosen := 0
	var named []int
	for i, g := range grids {
		if c.firstNamed(g) != nil {
			named = append(named, i)
		}
	}
	differs := func() error { return sameGrid(grids[0][0], grids[1][0]) }
	switch rest := len(frames) - len(grids[0]); {
	case len(named) > 1:
		return nil, nil, differs()
	case len(named) == 1:
		chosen = named[0]
		if chosen > 0 && few(len(grids[0]), rest) {
			return nil, nil, differs() // what would be left out
		}
	case !few(len(grids[0]), rest):
		for _, g := range grids {
			if len(g) < leastProper {
				return nil, nil, differs()
			}
			if _, err := regular(g); err != nil {
				return nil, nil, differs()
			}
		}
		return nil, nil, &refusal.Refusal{Code: refusal.SeriesStacks, Text: fmt.Sprintf("the series holds %d stacks that differ in their grid, and nothing says which one to measure: %v", len(grids), differs())}
	}
	for i, g := range grids {
		if i == chosen {
			continue
		}
		for _, f := range g {
			reason := sameGrid(grids[chosen][0], f)
			why := "Image Orientation (Patient) (0020,0037) is another one"
			switch codeOf(reason) {
			case refusal.GeometrySize:
				why = fmt.Sprintf("Rows (0028,0010) %d and Columns (0028,0011) %d are others", f.rows, f.columns)
			case refusal.GeometryPixelSpacing:
				why = "Pixel Spacing (0028,0030) is another one"
			}
			odds = append(odds, odd{f, reason, why})
		}
	}
	return grids[chosen], odds, nil
}

// solve finds the stack among frames of one grid.
func (c *chooser) solve(frames []*frame) (stack, error) {
	s, err := regular(frames)
	if err == nil {
		return s, nil
	}
	duplicate := codeOf(err) == refusal.GeometryDuplicate
	if d := divide(frames, duplicate); d != nil {
		picked, ambiguous := c.pick(d)
		if ambiguous == nil || codeOf(err) != refusal.GeometryGap { // with a gap it may as well be one stack that is not complete
			return picked, ambiguous
		}
	}
	s, err = regular(frames) // all along one normal again
	if duplicate {
		rest, twins, different := c.pair(s.frames, err)
		if different != nil {
			return s, different
		}
		s, err = regular(rest)
		s.twins = twins
	}
	if codeOf(err) == refusal.GeometryTilt {
		if i := outlier(s.frames); i >= 0 && !c.isNamed(s.frames[i]) {
			aside := s.frames[i]
			if t, again := regular(slices.Delete(slices.Clone(s.frames), i, i+1)); again == nil {
				t.twins = slices.DeleteFunc(s.twins, func(w twin) bool { return w.of == aside })
				t.notes = append(t.notes, fmt.Sprintf("%simage %s is left out: Image Position (Patient) (0020,0032) lies beside the line of all others", aside.place(), aside.uid))
				return t, nil
			}
		}
	}
	return s, err
}

// outlier is the one frame that lies beside the line of the others, -1 where there is not exactly one or there are too few.
func outlier(frames []*frame) int {
	if len(frames) < leastProper+1 {
		return -1
	}
	var line [2]float64
	for a := range line {
		at := make([]float64, len(frames))
		for i, f := range frames {
			at[i] = f.beside[a]
		}
		line[a] = median(at)
	}
	found := -1
	for i, f := range frames {
		if math.Hypot(f.beside[0]-line[0], f.beside[1]-line[1]) > f.offLine() {
			if found >= 0 {
				return -1
			}
			found = i
		}
	}
	return found
}

// pair takes one of the frames that share a place: a named one, else the first by UID. Frames must be in order along the normal.
func (c *chooser) pair(frames []*frame, err error) (rest []*frame, twins []twin, _ error) {
	values := make([][]string, len(traits))
	index := make(map[*frame]int, len(frames))
	for i, f := range frames {
		index[f] = i
	}
	for a := range traits {
		values[a] = traits[a].values(frames)
	}
	for i := 0; i < len(frames); {
		n := i + 1
		for n < len(frames) && frames[n].along-frames[i].along < samePlace {
			n++
		}
		kept := i
		for k := i; k < n; k++ {
			if c.isNamed(frames[k]) {
				kept = k
				break
			}
		}
		for k := i; k < n; k++ {
			f, of := frames[k], frames[kept]
			if k == kept {
				continue
			}
			if math.Hypot(f.beside[0]-of.beside[0], f.beside[1]-of.beside[1]) > f.offLine() {
				return nil, nil, err // side by side
			}
			for a, attr := range traits {
				if x, y := values[a][k], values[a][kept]; x != y && !attr.time {
					return nil, nil, f.refuse(refusal.GeometryDuplicate, "", "lies in the place of image %s, ImagePositionPatient (0020,0032), and %s is %s, not %s",
						of.uid, attr.name, attr.print(x), attr.print(y))
				}
			}
			twins = append(twins, twin{f, of})
		}
		rest = append(rest, frames[kept])
		i = n
	}
	slices.SortFunc(rest, func(a, b *frame) int {
		return cmp.Or(cmp.Compare(a.uid, b.uid), cmp.Compare(a.Frame, b.Frame))
	})
	return rest, twins, nil
}

// A trait tells acquisitions apart.
type trait struct {
	name   string
	tag    dicom.Tag   // in a single-frame image
	multi  dicom.Tag   // in a multi-frame image, where it is another one
	groups []dicom.Tag // functional groups that hold it
	inner  dicom.Tag   // sequence inside of the group
	unit   string
	time   bool // may differ from slice to slice inside of a stack; see [ranked]
	vector bool // one value a frame: PS3.3 C.8.4.8

	// A private element in place of the tag.
	group   uint16
	creator string
	element byte
	vr      dicom.VR
}

func in(groups ...dicom.Tag) []dicom.Tag { return groups }

// traits, those that say most of an image first.
var traits = []trait{
	{name: "Stack ID (0020,9056)", tag: dicom.StackID, groups: in(dicom.FrameContentSequence)},
	{name: "Diffusion b-value (0018,9087)", tag: dicom.DiffusionBValue, groups: in(dicom.MRDiffusionSequence), unit: "s/mm2"},
	{name: "b-value (0019,xx0C) of SIEMENS MR HEADER", group: 0x0019, creator: "SIEMENS MR HEADER", element: 0x0C, vr: dicom.IS, unit: "s/mm2"},
	{name: "b-value (0043,xx39) of GEMS_PARM_01", group: 0x0043, creator: "GEMS_PARM_01", element: 0x39, vr: dicom.IS, unit: "s/mm2"},
	{name: "b-value (2001,xx03) of Philips Imaging DD 001", group: 0x2001, creator: "Philips Imaging DD 001", element: 0x03, vr: dicom.FL, unit: "s/mm2"},
	{name: "Diffusion Gradient Orientation (0018,9089)", tag: dicom.DiffusionGradientOrientation, groups: in(dicom.MRDiffusionSequence), inner: dicom.DiffusionGradientDirectionSequence},
	{name: "Echo Time (0018,0081)", tag: dicom.EchoTime, multi: dicom.EffectiveEchoTime, groups: in(dicom.MREchoSequence), unit: "ms"},
	{name: "Echo Numbers (0018,0086)", tag: dicom.EchoNumbers},
	{name: "Inversion Time (0018,0082)", tag: dicom.InversionTime, multi: 0x00189079, groups: in(dicom.MRModifierSequence), unit: "ms"},
	{name: "Repetition Time (0018,0080)", tag: dicom.RepetitionTime, groups: in(dicom.MRTimingAndRelatedParametersSequence), unit: "ms"},
	{name: "Flip Angle (0018,1314)", tag: dicom.FlipAngle, groups: in(dicom.MRTimingAndRelatedParametersSequence), unit: "degrees"},
	{name: "Temporal Position (0020,0100), (0020,9128)", tag: dicom.TemporalPositionIdentifier, multi: dicom.TemporalPositionIndex, groups: in(dicom.FrameContentSequence)},
	{name: "Acquisition Number (0020,0012)", tag: dicom.AcquisitionNumber, multi: dicom.FrameAcquisitionNumber, groups: in(dicom.FrameContentSequence)},
	{name: "Nominal Percentage of Cardiac Phase (0020,9241)", tag: dicom.NominalPercentageOfCardiacPhase, groups: in(dicom.CardiacSynchronizationSequence), unit: "%"},
	{name: "Nominal Percentage of Respiratory Phase (0020,9245)", tag: dicom.NominalPercentageOfRespiratoryPhase, groups: in(dicom.RespiratorySynchronizationSequence), unit: "%"},
	{name: "KVP (0018,0060)", tag: dicom.KVP, groups: in(dicom.CTXRayDetailsSequence), unit: "kV"},
	{name: "Convolution Kernel (0018,1210)", tag: dicom.ConvolutionKernel, groups: in(dicom.CTReconstructionSequence)},
	{name: "Slice Thickness (0018,0050)", tag: dicom.SliceThickness, groups: in(dicom.PixelMeasuresSequence), unit: "mm"},
	{name: "Image Type (0008,0008), (0008,9007)", tag: dicom.ImageType, multi: dicom.FrameType, groups: frameTypes[:]},
	{name: "Complex Image Component (0008,9208)", tag: dicom.ComplexImageComponent, groups: in(dicom.MRImageFrameTypeSequence)},
	{name: "Contrast/Bolus Agent (0018,0010)", tag: dicom.ContrastBolusAgent},
	{name: "Energy Window Vector (0054,0010)", tag: dicom.EnergyWindowVector, vector: true},
	{name: "Detector Vector (0054,0020)", tag: dicom.DetectorVector, vector: true},
	{name: "Phase Vector (0054,0030)", tag: dicom.PhaseVector, vector: true},
	{name: "R-R Interval Vector (0054,0060)", tag: dicom.RRIntervalVector, vector: true},
	{name: "Time Slot Vector (0054,0070)", tag: dicom.TimeSlotVector, vector: true},
	{name: "Time Slice Vector (0054,0100)", tag: dicom.TimeSliceVector, vector: true},
	{name: "Trigger Time (0018,1060), (0020,9153)", tag: dicom.TriggerTime, multi: dicom.NominalCardiacTriggerDelayTime, groups: in(dicom.CardiacSynchronizationSequence), unit: "ms", time: true},
	{name: "Temporal Position Time Offset (0020,930D)", tag: dicom.TemporalPositionTimeOffset, groups: in(dicom.TemporalPositionSequence), unit: "s", time: true},
	{name: "Frame Reference Time (0054,1300)", tag: dicom.FrameReferenceTime, unit: "ms", time: true},
	{name: "Frame Reference DateTime (0018,9151)", tag: dicom.FrameReferenceDateTime, groups: in(dicom.FrameContentSequence), time: true},
	{name: "Acquisition DateTime (0008,002A), (0018,9074)", tag: dicom.AcquisitionDateTime, multi: dicom.FrameAcquisitionDateTime, groups: in(dicom.FrameContentSequence), time: true},
	{name: "Acquisition Time (0008,0032)", tag: dicom.AcquisitionTime, time: true},
	{name: "Content Time (0008,0033)", tag: dicom.ContentTime, time: true},
}

// print writes a value with its unit.
func (a *trait) print(v string) string {
	if v == "" {
		return "absent"
	}
	if a.unit != "" {
		return v + " " + a.unit
	}
	return v
}

// values are those of the frames, "" where it is absent.
func (a *trait) values(frames []*frame) []string {
	out := make([]string, len(frames))
	vectors := make(map[*dicom.DataSet][]int)
	for i, f := range frames {
		switch {
		case a.vector:
			v, read := vectors[f.header]
			if !read {
				v, _ = f.header.Ints(a.tag)
				vectors[f.header] = v
			}
			if f.Frame < len(v) {
				out[i] = strconv.Itoa(v[f.Frame])
			}
		case a.creator != "":
			out[i] = a.private(f.header)
		default:
			out[i] = a.value(f)
		}
	}
	return out
}

func (a *trait) value(f *frame) string {
	t, d := a.tag, f.header
	if f.own != nil {
		if a.multi != 0 {
			t = a.multi
		}
		if a.inner != 0 {
			if items := f.grouped(a.inner, a.groups...).Seq(a.inner); len(items) > 0 {
				d = items[0]
			}
		} else if d = f.grouped(t, a.groups...); d == nil {
			t = a.tag
			d = f.holder(t)
		}
	}
	e := d.Element(t)
	v := e.Strings()
	if e != nil && (e.VR == dicom.DS || e.VR == dicom.IS) { // 20 and 20.0 are one value
		v = slices.Clone(v)
		for i := range v {
			if x, err := strconv.ParseFloat(v[i], 64); err == nil {
				v[i] = strconv.FormatFloat(x, 'g', -1, 64)
			}
		}
	}
	return strings.Join(v, "\\")
}

// private reads the first value of a private element, whose representation is lost in implicit VR.
func (a *trait) private(d *dicom.DataSet) string {
	t, ok := d.Private(a.group, a.creator, a.element)
	e := d.Element(t)
	switch {
	case !ok || e == nil:
		return ""
	case e.VR == dicom.UN && a.vr == dicom.FL && len(e.Bytes()) == 4:
		return strconv.FormatFloat(float64(math.Float32frombits(binary.LittleEndian.Uint32(e.Bytes()))), 'g', -1, 32)
	case e.VR == dicom.UN:
		first, _, _ := strings.Cut(string(e.Bytes()), "\\")
		return strings.ToValidUTF8(strings.Trim(first, " \x00"), "?")
	}
	return d.String(t)
}

// A division tells the stacks of a series apart.
type division struct {
	by     string // attributes
	stacks []stack
	labels []string // what the attributes are in each stack
}

// divide tells stacks apart, by the rule in the package comment; nil where nothing does. sharing says that frames share places:
// only then can a stack have less than three slices.
func divide(frames []*frame, sharing bool) *division {
	type varying struct {
		*trait
		values []string
	}
	var strong, times []varying
	for i := range traits {
		v := varying{&traits[i], traits[i].values(frames)}
		if !slices.ContainsFunc(v.values, func(x string) bool { return x != v.values[0] }) {
			continue
		}
		if v.time {
			times = append(times, v)
		} else {
			strong = append(strong, v)
		}
	}
	try := func(by ...varying) *division {
		groups := make(map[string][]*frame)
		parts := make(map[string][]string)
		for i, f := range frames {
			part := make([]string, len(by))
			for k, v := range by {
				part[k] = v.values[i]
			}
			key := strings.Join(part, "\x00")
			groups[key] = append(groups[key], f)
			parts[key] = part
		}
		if len(groups) < 2 || len(frames)%len(groups) != 0 {
			return nil
		}
		var keys []string
		for key, g := range groups {
			if len(g) != len(frames)/len(groups) {
				return nil
			}
			keys = append(keys, key)
		}
		slices.SortFunc(keys, func(a, b string) int { return slices.CompareFunc(parts[a], parts[b], compareValues) })
		d := &division{}
		var names []string
		for _, v := range by {
			names = append(names, v.name)
		}
		d.by = strings.Join(names, " and ")
		for _, key := range keys {
			var label []string
			for k, v := range by {
				label = append(label, v.print(parts[key][k]))
			}
			d.labels = append(d.labels, strings.Join(label, " and "))
			d.stacks = append(d.stacks, stack{frames: groups[key]})
		}
		if !d.holds(sharing) {
			return nil
		}
		return d
	}
	for _, v := range append(slices.Clone(strong), times...) {
		if d := try(v); d != nil {
			return d
		}
	}
	for i := range strong {
		for k := range i {
			if d := try(strong[k], strong[i]); d != nil {
				return d
			}
		}
	}
	if len(strong) > 2 {
		if d := try(strong...); d != nil {
			return d
		}
	}
	if sharing {
		for _, v := range times {
			if d := ranked(frames, v.trait, v.values); d != nil && d.holds(sharing) {
				return d
			}
		}
	}
	return nil
}

// compareValues puts numbers in the order of numbers, and before everything else.
func compareValues(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	switch {
	case errX == nil && errY == nil:
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a, b)
}

// holds makes the stacks of a division regular, and says whether they are.
func (d *division) holds(sharing bool) bool {
	low, high, extent := math.Inf(-1), math.Inf(1), 0.0
	for i := range d.stacks {
		if n := len(d.stacks[i].frames); n < leastProper && !sharing {
			return false
		}
		s, err := regular(d.stacks[i].frames)
		if err != nil {
			return false
		}
		d.stacks[i] = s
		bottom, top := s.frames[0].along, s.frames[len(s.frames)-1].along
		low, high, extent = max(low, bottom), min(high, top), max(extent, top-bottom)
	}
	return high-low > extent/2-samePlace // else they lie one behind the other
}

// ranked divides frames by the order of their times in each place: times may differ a little from place to place.
func ranked(frames []*frame, a *trait, values []string) *division {
	at := make(map[*frame]string, len(frames))
	for i, f := range frames {
		at[f] = values[i]
	}
	s, _ := regular(frames) // for the order alone
	ordered := s.frames
	n := 0 // frames a place
	var groups [][]*frame
	for i := 0; i < len(ordered); {
		end := i + 1
		for end < len(ordered) && ordered[end].along-ordered[i].along < samePlace {
			end++
		}
		place := slices.Clone(ordered[i:end])
		slices.SortStableFunc(place, func(a, b *frame) int { return compareValues(at[a], at[b]) })
		if n == 0 {
			n = len(place)
			groups = make([][]*frame, n)
		}
		if len(place) != n || n < 2 {
			return nil
		}
		for k, f := range place {
			if at[f] == "" || k > 0 && at[f] == at[place[k-1]] {
				return nil
			}
			groups[k] = append(groups[k], f)
		}
		i = end
	}
	d := &division{by: a.name}
	for _, g := range groups {
		low, high := at[g[0]], at[g[0]]
		for _, f := range g {
			if compareValues(at[f], low) < 0 {
				low = at[f]
			}
			if compareValues(at[f], high) > 0 {
				high = at[f]
			}
		}
		label := a.print(low)
		if low != high {
			label = low + " to " + a.print(high)
		}
		slices.SortFunc(g, func(a, b *frame) int { return cmp.Or(cmp.Compare(a.uid, b.uid), cmp.Compare(a.Frame, b.Frame)) })
		d.labels = append(d.labels, label)
		d.stacks = append(d.stacks, stack{frames: g})
	}
	return d
}

// pick takes the stack that the contours name.
func (c *chooser) pick(d *division) (stack, error) {
	var named []int
	for i, s := range d.stacks {
		if c.firstNamed(s.frames) != nil {
			named = append(named, i)
		}
	}
	const most = 8
	labels := strings.Join(d.labels[:min(most, len(d.labels))], ", ")
	if len(d.labels) > most {
		labels += ", and others"
	}
	if len(named) != 1 {
		why := "nothing says which one to measure"
		if len(named) > 1 {
			why = fmt.Sprintf("the contours name images of %d of them", len(named))
		}
		return d.stacks[0], &refusal.Refusal{Code: refusal.SeriesStacks, Text: fmt.Sprintf("the series holds %d stacks of %d slices, told apart by %s: %s; %s",
			len(d.stacks), len(d.stacks[0].frames), d.by, labels, why)}
	}
	s := d.stacks[named[0]]
	s.notes = append(s.notes, fmt.Sprintf("stack %d of %d in the series, the one that the contours name: %s %s, of %s", named[0]+1, len(d.stacks), d.by, d.labels[named[0]], labels))
	return s, nil
}
