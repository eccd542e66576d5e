package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
)

// A Past is what an earlier report says of a region.
type Past struct {
	Time   time.Time // of the study that was measured
	Study  string    // Study Instance UID
	Report string    // SOP Instance UID
	// Values are by their concepts, without the meaning: sr.Code{Value: "RNU0", Scheme: sr.IBSI}. A concept of which the report
	// has several values for the region, by different methods, is left out, and a feature in another unit than it has now.
	Values map[sr.Code]sr.Measurement
}

const (
	maxPast = 50
	// A Patient ID with more studies than any patient has is none: of a phantom, of everybody that was anonymised.
	maxStudiesOfPatient = 500
)

// history finds what earlier reports in the store say of the regions of m, a list for each in their order, the oldest first
// and at most the latest 50. They are reports of radnode about the same patient in other studies of an earlier date, on
// images of the same modality, by a profile with the same hash, of a region with the same Tracking UID (0062,0021), else with
// the same name, case and blanks aside. Of several reports of the same contours the newest revision counts.
//
// A wrong trend is worse than none, so whatever is in doubt is left out: see [patient.same] and [pastOf].
func (p *Pipeline) history(m *Measured) ([][]Past, error) {
	out := make([][]Past, len(m.Regions))
	if len(m.Regions) == 0 {
		return out, nil
	}
	who, at := patientOf(m.Volume.Header), examined(m.Volume.Header)
	if at.day == "" {
		at = momentOf(contentTime(m.Source.DataSet, m.Volume.Header))
	}
	reports, err := p.earlierReports(who, m.Volume.Header.String(dicom.StudyInstanceUID), at, m.Volume.Modality)
	if err != nil || len(reports) == 0 {
		return out, err
	}
	for i, r := range identify(m) {
		for _, study := range slices.Compact(studiesIn(reports)) {
			in := slices.Clone(reports)
			in = slices.DeleteFunc(in, func(e *earlier) bool { return e.study != study })
			if past, ok := pastOf(in, r); ok {
				out[i] = append(out[i], past)
			}
		}
		slices.SortFunc(out[i], func(a, b Past) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Study, b.Study)) })
		out[i] = out[i][max(0, len(out[i])-maxPast):]
	}
	return out, nil
}

// An earlier is what matters of a report.
type earlier struct {
	study, report string
	at            moment    // of the study
	drawn         time.Time // the contours: Content Date and Time
	modality      string    // of the images
	contours      string    // SOP Instance UID
	series        string    // Series Instance UID of the images
	revision      int       // Instance Number
	predecessors  []string
	regions       []earlierRegion
}

// An earlierRegion is one region of an earlier report, from all the groups that are about it.
type earlierRegion struct {
	uid, name string // Tracking UID, and Tracking Identifier without case and blanks
	hash      string // of the profile
	segment   int
	values    map[sr.Code]sr.Measurement
}

// earlierReports are the reports of the patient in other studies that stand, in order of their studies.
func (p *Pipeline) earlierReports(who patient, study string, before moment, modality string) ([]*earlier, error) {
	if who.id == "" {
		return nil, nil
	}
	var all []*earlier
	superseded := make(map[string]bool)
	studies := 0
	for uid, err := range p.store.StudiesOf(who.id) {
		if err != nil {
			return nil, err
		}
		if studies++; studies > maxStudiesOfPatient {
			p.log.Warn("no history: more studies have this Patient ID (0010,0020) than one patient has", "study", study, "limit", maxStudiesOfPatient)
			return nil, nil
		}
		if uid == study {
			continue
		}
		s, err := p.store.Study(uid)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, in := range s.Instances {
			if in.Modality != "SR" || in.PatientID != who.id || in.Quarantine != "" {
				continue
			}
			e, err := p.readEarlier(in.SOPInstanceUID, who)
			if errors.Is(err, store.ErrNotFound) {
				continue // the study has just left
			}
			if err != nil {
				p.log.Warn("an earlier report is left out of the history: it cannot be read", "study", uid, "report", in.SOPInstanceUID, "err", err)
				continue
			}
			if e == nil {
				continue
			}
			for _, uid := range e.predecessors {
				superseded[uid] = true
			}
			all = append(all, e)
		}
	}
	// The newest revision of what was measured of some contours on one series. It may be in several documents, and an older one
	// that nothing supersedes may be of a kind that is not written any more.
	type subject struct{ study, contours, series string }
	newest := make(map[subject]int)
	of := func(e *earlier) subject { return subject{e.study, e.contours, e.series} }
	for _, e := range all {
		newest[of(e)] = max(newest[of(e)], e.revision)
	}
	return slices.DeleteFunc(all, func(e *earlier) bool {
		return superseded[e.report] || e.revision < newest[of(e)] || e.modality != modality || !e.at.before(before)
	}), nil
}

func studiesIn(reports []*earlier) (uids []string) {
	for _, e := range reports {
		uids = append(uids, e.study)
	}
	return uids
}

// readEarlier reads a report of the store; nil where it is not of radnode or about somebody else.
func (p *Pipeline) readEarlier(uid string, who patient) (*earlier, error) {
	f, done, err := p.open(uid)
	if err != nil {
		return nil, err
	}
	defer done()
	if !p.opt.Equipment.Wrote(f.DataSet) || !who.same(patientOf(f.DataSet)) {
		return nil, nil
	}
	return readReport(f.DataSet)
}

// readReport reads what report.go has written.
func readReport(d *dicom.DataSet) (*earlier, error) {
	c, err := sr.Read(d)
	if err != nil {
		return nil, err
	}
	e := &earlier{study: c.StudyInstanceUID, report: c.SOPInstanceUID, at: examined(d), drawn: contentTime(d, d), predecessors: uids(c.Predecessors)}
	e.revision, _ = d.Int(dicom.InstanceNumber)
	if e.at.day == "" {
		e.at = momentOf(e.drawn)
	}
	if len(c.Images) > 1 {
		return nil, errors.New("it is about several series of images")
	}
	for _, s := range c.Images {
		e.modality = s.Modality
	}
	for _, contours := range c.Contours {
		e.contours = contours.SOPInstanceUID
	}
	for _, g := range c.Groups {
		if e.series = cmp.Or(e.series, g.SourceSeries); e.series != g.SourceSeries {
			return nil, errors.New("it is about several series of images")
		}
		i := slices.IndexFunc(e.regions, func(r earlierRegion) bool { return r.uid == g.TrackingUID && r.segment == g.Segment.Number })
		if i < 0 {
			i = len(e.regions)
			e.regions = append(e.regions, earlierRegion{
				uid: g.TrackingUID, name: plainName(g.TrackingIdentifier), segment: g.Segment.Number, values: map[sr.Code]sr.Measurement{},
				hash: profileHash(strings.Join(slices.Concat(g.Algorithm.Parameters, c.Algorithm.Parameters), "\n")),
			})
		}
		e.regions[i].add(g.Measurements)
	}
	return e, nil
}

// add takes the values of one group. What has several different ones becomes NaN, which [pastOf] leaves out.
func (r *earlierRegion) add(values []sr.Measurement) {
	for _, v := range values {
		key := sr.Code{Value: v.Concept.Value, Scheme: v.Concept.Scheme}
		if v.Unit.Value == "cm3" && key.Scheme == sr.IBSI { // as key reports have volumes
			v.Value, v.Unit = v.Value*1000, sr.Unit("mm3")
		}
		if old, ok := r.values[key]; ok && (old.Value != v.Value || old.Unit.Value != v.Unit.Value) {
			v.Value = math.NaN() // and stays it, which equals nothing
		}
		r.values[key] = v
	}
}

// profileText is how [Options.algorithm] names a profile in Algorithm Parameters, in any language.
var profileText = regexp.MustCompile(`(?m)^\pL+ .* sha256:([0-9a-f]+)$`)

// profileHash is the hash of the one profile that the parameters name, empty where there is none or more than one.
func profileHash(parameters string) string {
	found := profileText.FindAllStringSubmatch(parameters, 2)
	if len(found) != 1 {
		return ""
	}
	return found[0][1]
}

// A wanted is a region whose past is looked for.
type wanted struct {
	uid, name string // name is empty where it tells no region from another
	hash      string
	others    map[string]bool     // Tracking UIDs of the other regions
	units     map[sr.Code]sr.Code // that its features have now
}

// generic are the names of regions that nobody named: those that programs, radnode too, give for want of a better one.
var generic = regexp.MustCompile(`^(roi|region|segment|label|contour|structure|mask|volume|unnamed|unknown|new)?[-_#(.]*[0-9]*\)?$`)

// plainName is a name without case and blanks; empty where it is none.
func plainName(s string) string {
	s = strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return -1
		}
		return r
	}, s))
	if generic.MatchString(s) {
		return ""
	}
	return s
}

// identify says how the measured regions of m are known in other reports. Names that several regions of the contours share
// tell nothing.
func identify(m *Measured) []wanted {
	all := make([]roi.Region, 0, len(m.Regions)+len(m.Skipped))
	for _, r := range m.Regions {
		all = append(all, r.Region)
	}
	for _, s := range m.Skipped {
		all = append(all, s.Region)
	}
	uids, ids := make(map[string]bool), make(map[string]int)
	for _, r := range all {
		uids[r.TrackingUID] = true
		ids[plainName(r.TrackingID)]++
	}
	var out []wanted
	for _, r := range m.Regions {
		w := wanted{uid: r.Region.TrackingUID, name: plainName(r.Region.TrackingID), hash: r.Profile.Hash(), others: uids, units: make(map[sr.Code]sr.Code)}
		numbered := r.Region.Name != "" && r.Region.TrackingID == fmt.Sprintf("%s (ROI %d)", r.Region.Name, r.Region.Number) // as contours with equal names are
		if numbered || ids[w.name] > 1 {
			w.name = ""
		}
		for _, v := range r.Result.Values {
			f, _, ok := features.Lookup(v.Tag)
			if !ok || v.Reason != "" {
				continue
			}
			u, _ := sr.UnitFor(f.Code, r.Image.Unit)
			if v.Unit == features.UnitNone {
				u = sr.Unit("1")
			}
			w.units[sr.Code{Value: f.Code, Scheme: sr.IBSI}] = u
		}
		out = append(out, w)
	}
	return out
}

// pastOf finds a region in the reports of one study. Where several fit, they have to be the same region measured on the same
// images: of contours that were drawn again those count that were drawn last.
func pastOf(reports []*earlier, w wanted) (past Past, ok bool) {
	type found struct {
		*earlier
		*earlierRegion
	}
	find := func(fits func(earlierRegion) bool) (list []found) {
		for _, e := range reports {
			for i, r := range e.regions {
				if r.hash != "" && r.hash == w.hash && fits(r) {
					list = append(list, found{e, &e.regions[i]})
				}
			}
		}
		return list
	}
	list := find(func(r earlierRegion) bool { return r.uid != "" && r.uid == w.uid })
	if len(list) == 0 && w.name != "" {
		list = find(func(r earlierRegion) bool { return r.name == w.name && !w.others[r.uid] })
	}
	if len(list) == 0 {
		return past, false
	}
	// The one of them that says most is the last.
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(a.drawn.Compare(b.drawn), cmp.Compare(a.revision, b.revision), cmp.Compare(len(a.values), len(b.values)), -strings.Compare(a.report, b.report))
	})
	last := list[len(list)-1]
	for _, o := range list {
		if o.series != last.series || o.drawn.Equal(last.drawn) && (o.contours != last.contours || o.uid != last.uid || o.segment != last.segment) {
			return past, false
		}
	}
	past = Past{Time: last.at.time, Study: last.study, Report: last.report, Values: make(map[sr.Code]sr.Measurement)}
	for key, v := range last.values {
		if now, measured := w.units[key]; key.Scheme == sr.IBSI && (!measured || now.Value != v.Unit.Value) || math.IsNaN(v.Value) {
			continue
		}
		past.Values[key] = v
	}
	return past, len(past.Values) > 0
}

// A patient is by what two objects are known to be about the same one.
type patient struct{ id, issuer, birth, sex, name string }

func patientOf(d *dicom.DataSet) patient {
	return patient{
		id: d.String(dicom.PatientID), issuer: d.String(dicom.IssuerOfPatientID), birth: d.String(dicom.PatientBirthDate), sex: d.String(dicom.PatientSex),
		name: strings.ToLower(strings.TrimRight(strings.Join(strings.Fields(d.String(dicom.PatientName)), " "), "^= ")),
	}
}

// same says whether both are the same patient beyond doubt: Patient ID (0010,0020) and Issuer of Patient ID (0010,0021) are
// equal, neither the date of birth nor the sex contradict each other, and where a date of birth is missing, so that two
// hospitals may have given the number to two people, the name is the same. Names alone change, by marriage.
func (a patient) same(b patient) bool {
	contradict := func(x, y string) bool { return x != "" && y != "" && x != y }
	if a.id == "" || a.id != b.id || a.issuer != b.issuer || contradict(a.birth, b.birth) || contradict(a.sex, b.sex) {
		return false
	}
	return a.birth != "" && b.birth != "" || a.name == b.name
}

// A moment is a day, and the time of the day where that is known.
type moment struct {
	day  string // YYYYMMDD; empty: nothing is known
	time time.Time
	hour bool // the time of the day is known too
}

// before is false where it cannot be told.
func (m moment) before(o moment) bool {
	if m.day == "" || o.day == "" || !m.hour && m.day == o.day || !o.hour && m.day == o.day {
		return false
	}
	return m.time.Before(o.time)
}

func momentOf(t time.Time) moment { return moment{day: t.Format("20060102"), time: t, hour: true} }

// examined is when the patient was: Study Date (0008,0020) and Time (0008,0030), which a report has from its images.
func examined(d *dicom.DataSet) moment {
	t, hour, ok := dateTime(d, dicom.StudyDate, dicom.StudyTime, zoneOf(d))
	if !ok {
		return moment{}
	}
	return moment{t.Format("20060102"), t, hour}
}
