package sr

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/radnode/radnode/dimse/dicom"
)

// Text writes a Structured Report of any template as indented lines for a person at
// a terminal. A measurement report (TID 1500) comes in the order of interest: the
// summary, then each region by its name with its measurements, then how and by
// what they were made, the images last. Nothing that it says is left out. Other
// templates come in the order of their tree.
//
// The patient is shown. Numbers are rounded to seven significant digits,
// references are shortened, and no character of the document reaches the terminal
// as a control sequence.
func Text(w io.Writer, d *dicom.DataSet) error {
	root, err := parseDocument(d)
	if err != nil {
		return err
	}
	p := &printer{w: bufio.NewWriter(w)}
	p.line(0, nameOf(root))
	p.document(d, root)
	if root.isMeasurementReport() {
		p.measurementReport(root)
	} else {
		p.tree(root)
	}
	return p.w.Flush()
}

// tree writes what is said of the document, and then its containers.
func (p *printer) tree(root *item) {
	var context, containers []*item
	for _, c := range root.children {
		if c.vt == container {
			containers = append(containers, c)
		} else {
			context = append(context, c)
		}
	}
	p.children(0, context)
	for _, c := range containers {
		p.section(nameOf(c), c.children)
	}
}

func (p *printer) section(heading string, items []*item) {
	p.line(0, "")
	p.line(0, heading)
	p.children(1, items)
}

// measurementReport writes the containers of TID 1500 in the order of interest.
func (p *printer) measurementReport(root *item) {
	var lines, evaluations, measured, others, context, library []*item
	for _, c := range root.children {
		switch {
		case c.isSummary():
			lines = append(lines, c)
		case c.vt != container:
			context = append(context, c)
		case c.named(qualitativeEvals):
			evaluations = append(evaluations, c)
		case c.named(imagingMeasurements):
			measured = append(measured, c)
		case c.named(imageLibrary):
			library = append(library, c)
		default:
			others = append(others, c)
		}
	}
	for _, c := range evaluations {
		lines = append(lines, slices.DeleteFunc(slices.Clone(c.children), func(it *item) bool { return !it.isSummary() })...)
	}
	if len(lines) > 0 {
		p.line(0, "")
		p.line(0, summary.Meaning)
		for _, l := range lines {
			p.line(1, l.text)
		}
	}
	for _, c := range evaluations {
		if rest := slices.DeleteFunc(slices.Clone(c.children), (*item).isSummary); len(rest) > 0 {
			p.section(nameOf(c), rest)
		}
	}
	for _, c := range measured {
		var rest []*item
		heading := headings(c.children)
		for i, g := range c.children {
			if heading[i] == "" {
				rest = append(rest, g)
			} else {
				p.section(heading[i], ofInterest(g.children))
			}
		}
		if len(rest) > 0 || len(c.children) == 0 {
			p.section(nameOf(c), rest)
		}
	}
	for _, c := range others {
		p.section(nameOf(c), c.children)
	}
	if len(context) > 0 {
		p.section("Context", context)
	}
	for _, c := range library {
		p.section(nameOf(c), c.children)
	}
}

// isSummary says whether the item is a line of the summary and nothing more. Some
// write it into Qualitative Evaluations, some at the top.
func (it *item) isSummary() bool {
	return it.vt == text && it.rel == contains && it.named(summary) && len(it.children) == 0 && it.text != ""
}

// headings names measurement groups by their regions. A region with several
// groups, as for several sets of parameters, counts them. What is no group has none.
func headings(items []*item) []string {
	names := make([]string, len(items))
	total, seen := map[string]int{}, map[string]int{}
	for i, it := range items {
		if it.vt == container && it.named(measurementGroup) {
			names[i] = cmp.Or(it.findText(trackingIdentifier), nameOf(it))
			total[names[i]]++
		}
	}
	for i, name := range names {
		if n := total[name]; name != "" && n > 1 {
			seen[name]++
			names[i] = fmt.Sprintf("%s (%d of %d)", name, seen[name], n)
		}
	}
	return names
}

// ofInterest is the items of a measurement group: what and where it is, the
// numbers, what else is said, how it was measured and on what. The name is in the
// heading.
func ofInterest(items []*item) []*item {
	var ranks [4][]*item
	named := false
	for _, it := range items {
		r := 2
		switch {
		case it.vt == text && it.named(trackingIdentifier) && !named && len(it.children) == 0 && it.text != "":
			named = true
			continue
		case it.vt == num && it.rel == contains:
			r = 1
		case it.vt == image, it.vt == composite, it.vt == waveform, it.vt == sCoord, it.vt == sCoord3D, it.vt == uidRef,
			it.namedOneOf(measurementMethod, algorithmName, algorithmVersion, algorithmParameters):
			r = 3
		case it.rel != contains, it.namedOneOf(finding, findingCategory):
			r = 0
		}
		ranks[r] = append(ranks[r], it)
	}
	return slices.Concat(ranks[0], ranks[1], ranks[2], ranks[3])
}

type printer struct{ w *bufio.Writer }

// line writes one line; the text is escaped here and nowhere else.
func (p *printer) line(indent int, s string) {
	pad := strings.Repeat("  ", indent)
	for i, l := range strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		if i > 0 {
			pad = strings.Repeat("  ", indent+2)
		}
		p.w.WriteString(strings.TrimRight(pad+escape(l), " "))
		p.w.WriteByte('\n')
	}
}

// escape shows what is not graphic, the marks that reverse the direction of
// writing included, as \u and its number.
func escape(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || r == utf8.RuneError }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case unicode.IsGraphic(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	return b.String()
}

// document is the header: what the tree does not say.
func (p *printer) document(d *dicom.DataSet, root *item) {
	show := func(label string, parts ...string) {
		var there []string
		for _, s := range parts {
			if s != "" {
				there = append(there, s)
			}
		}
		if len(there) > 0 {
			p.line(1, fmt.Sprintf("%-10s%s", label, strings.Join(there, ", ")))
		}
	}
	with := func(prefix string, t dicom.Tag) string {
		if s := d.String(t); s != "" {
			return prefix + s
		}
		return ""
	}
	show("patient", d.String(dicom.PatientName), with("ID ", dicom.PatientID), with("sex ", dicom.PatientSex),
		joined("born ", day(d.String(dicom.PatientBirthDate))))
	show("study", day(d.String(dicom.StudyDate)), d.String(dicom.StudyDescription), with("accession ", dicom.AccessionNumber))
	show("", d.String(dicom.StudyInstanceUID))
	show("document", shortClass(d.String(dicom.SOPClassUID)), d.String(dicom.CompletionFlag), d.String(dicom.VerificationFlag),
		strings.TrimSpace(day(d.String(dicom.ContentDate))+" "+clock(d.String(dicom.ContentTime))))
	show("", d.String(dicom.SOPInstanceUID))
	show("series", with("", dicom.SeriesNumber), d.String(dicom.SeriesDescription), with("instance ", dicom.InstanceNumber))
	show("made by", d.String(dicom.Manufacturer), d.String(dicom.ManufacturerModelName), with("version ", dicom.SoftwareVersions))
	var people []string
	for _, o := range observers(root.children) {
		if o.Type.is(person) {
			people = append(people, o.Name)
		}
	}
	show("observer", people...)
}

func joined(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// day shows a DA as people write dates; anything else as it is.
func day(s string) string {
	if len(s) == 8 && strings.Trim(s, "0123456789") == "" {
		return s[:4] + "-" + s[4:6] + "-" + s[6:]
	}
	return s
}

// clock shows a TM to the second; anything else as it is.
func clock(s string) string {
	if len(s) >= 6 && strings.Trim(s[:6], "0123456789") == "" {
		return s[:2] + ":" + s[2:4] + ":" + s[4:6]
	}
	return s
}

func (p *printer) item(indent int, it *item, width int) {
	s := p.head(it, width)
	var below []*item
	if it.vt == container {
		below = it.children
	} else if len(it.children) > 0 {
		var details []string
		for _, c := range it.children {
			if c == it.display() { // stands in front of the number
				if c.text != it.name.Meaning {
					details = append(details, cmp.Or(it.name.Meaning, it.name.Value))
				}
			} else if c.flat() {
				details = append(details, inline(c))
			} else {
				below = append(below, c)
			}
		}
		if len(details) > 0 {
			s += "  (" + strings.Join(details, "; ") + ")"
		}
	}
	p.line(indent, s)
	p.children(indent+1, below)
}

// children aligns the numbers of a container and draws runs of bare references
// together: an image library may have a thousand.
func (p *printer) children(indent int, items []*item) {
	width := 0
	for _, c := range items {
		if c.vt == num {
			width = max(width, min(utf8.RuneCountInString(nameOf(c)), 64))
		}
	}
	for i := 0; i < len(items); {
		run := i
		for run < len(items) && items[run].bare() && items[run].vt == items[i].vt && items[run].ref.SOPClassUID == items[i].ref.SOPClassUID {
			run++
		}
		if run-i > 3 {
			p.line(indent, fmt.Sprintf("%d × %s  %s to %s", run-i, shortClass(items[i].ref.SOPClassUID),
				shortUID(items[i].ref.SOPInstanceUID), shortUID(items[run-1].ref.SOPInstanceUID)))
			i = run
			continue
		}
		p.item(indent, items[i], width)
		i++
	}
}

// bare says whether the item is a reference and nothing more; that an image is one goes without saying.
func (it *item) bare() bool {
	return (it.vt == image || it.vt == composite) && (it.name.zero() || it.name.is(sourceOfMeasurement)) && it.segment == 0 && len(it.children) == 0
}

// flat says whether the item fits into its parent's line.
func (it *item) flat() bool {
	if it.vt == container || strings.ContainsRune(it.text, '\n') {
		return false
	}
	for _, c := range it.children {
		if !c.flat() {
			return false
		}
	}
	return true
}

func inline(it *item) string {
	s, v := nameOf(it), valueOf(it)
	switch {
	case s == "":
		s = v
	case v != "":
		s += ": " + v
	}
	for i, c := range it.children {
		joint := ", "
		if i == 0 {
			joint = " with "
		}
		s += joint + inline(c)
	}
	return s
}

func (p *printer) head(it *item, width int) string {
	name, value := nameOf(it), valueOf(it)
	switch {
	case it.vt == num:
		return name + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(name))) + "  " + value
	case it.vt == container && value == "":
		return name
	case it.name.zero() || it.name.is(sourceOfMeasurement):
		return value
	}
	return name + ": " + value
}

// display is the item with the name that a measurement shall be shown by, TID 1419 row 18, or nil.
func (it *item) display() *item {
	if it.vt != num {
		return nil
	}
	if f := it.find(equivalentMeaning); f != nil && f.vt == text && f.text != "" && f.flat() && len(f.children) == 0 {
		return f
	}
	return nil
}

// nameOf is the name that the report wants displayed, else that of the concept.
func nameOf(it *item) string {
	if f := it.display(); f != nil {
		return f.text
	}
	switch {
	case it.name.Meaning != "":
		return it.name.Meaning
	case it.name.Value != "":
		return it.name.Value
	}
	return strings.ToLower(string(it.vt))
}

func valueOf(it *item) string {
	switch it.vt {
	case container:
		return ""
	case "":
		return strings.TrimSpace(strings.ToLower(string(it.rel)) + " " + it.text)
	case code:
		return cmp.Or(it.code.Meaning, it.code.Value, "(empty)")
	case num:
		if math.IsNaN(it.value) {
			if why := cmp.Or(it.qualifier.Meaning, it.qualifier.Value); why != "" {
				return "(no value: " + why + ")"
			}
			return "(no value)"
		}
		return strings.TrimSpace(round(it.value) + " " + unitText(it.unit))
	case image, composite, waveform:
		s := shortClass(it.ref.SOPClassUID) + " " + shortUID(it.ref.SOPInstanceUID)
		if it.segment > 0 {
			s += ", segment " + strconv.Itoa(it.segment)
		}
		return s
	case date:
		return day(it.text)
	case timeOfDay:
		return clock(it.text)
	case sCoord, sCoord3D, tCoord:
		return strings.TrimSpace(string(it.vt) + " " + it.text)
	}
	return cmp.Or(it.text, "(empty)")
}

// round gives seven significant digits, and never fewer than the whole part has.
func round(v float64) string {
	a := math.Abs(v)
	if a >= 1e6 && a < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 6, 64), 64)
	if v == 0 || (a >= 1e-4 && a < 1e15) {
		return strconv.FormatFloat(r, 'f', -1, 64)
	}
	return strconv.FormatFloat(r, 'e', -1, 64)
}

// unitText writes a UCUM unit as people do.
func unitText(u Code) string {
	if u.Scheme != "UCUM" {
		return cmp.Or(u.Meaning, u.Value)
	}
	if u.Value == "1" {
		return ""
	}
	u = u.annotationLast()
	s := strings.NewReplacer("[hnsf'U]", "HU", "[arb'U]", "a.u.", "{", " ", "}", " ").Replace(u.Value)
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), " )", ")")
}

func shortClass(uid string) string {
	return strings.TrimSuffix(cmp.Or(dicom.UIDName(uid), uid, "(no SOP class)"), " Storage")
}

// shortUID keeps the end of a UID, where those of one study differ.
func shortUID(uid string) string {
	if r := []rune(uid); len(r) > 20 {
		return "…" + string(r[len(r)-16:])
	}
	return cmp.Or(uid, "(no UID)")
}
