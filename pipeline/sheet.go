package pipeline

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/pages"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/pipeline/words"
)

// A Look is what the pages show of a region beside its values. It is taken while the image is in memory.
type Look struct {
	Views     []pages.View
	Histogram *pages.Histogram
}

// pages adds the PDF and the captures that a style asks for.
func (w *writing) pages(set *Set) error {
	style := set.Style
	if !looks(style.Documents) {
		return nil
	}
	drawn, err := pages.Draw(w.sheet(style.Language))
	if err != nil {
		return err
	}
	for _, d := range style.Documents {
		if d.report() {
			continue
		}
		description := style.description(d, w.m)
		h := pages.Header{
			Source: w.m.Volume.Header, Equipment: w.author(),
			SeriesInstanceUID: w.seriesUID(string(d), style.id(), description),
			SeriesNumber:      style.number(d), SeriesDescription: description, InstanceNumber: w.rev.Number,
			ContentTime: w.at, Title: description, Concept: titles[style.Title],
			Related: []sr.Document{document(w.segmentation), document(w.m.Source.DataSet)},
		}
		study := w.m.Volume.Header.String(dicom.StudyInstanceUID)
		for _, in := range instances(w.m.Volume) {
			h.Images = append(h.Images, sr.Document{StudyInstanceUID: study, SeriesInstanceUID: w.m.Volume.Series, Instance: in})
		}
		var objects []*dicom.DataSet
		switch d {
		case PDF:
			b, err := drawn.PDF()
			if err != nil {
				return err
			}
			// What earlier reports said is in the pages too: the UID follows from the bytes.
			h.SOPInstanceUID = w.uid("pdf", style.id(), strconv.Itoa(w.rev.Number), string(b))
			o, err := pages.Encapsulate(h, b)
			if err != nil {
				return err
			}
			objects = append(objects, o)
		case Capture:
			// A page for each region: all their values are in the reports, and a picture of numbers serves nobody.
			drawn := drawn.First(len(w.m.Regions))
			var pictures []*pages.Picture
			content := sha256.New()
			for i := range w.m.Regions {
				p := drawn.Picture(i)
				content.Write(p.Pix)
				pictures = append(pictures, p)
			}
			h.SOPInstanceUID = w.uid("capture", style.id(), string(content.Sum(nil)))
			h.SeriesInstanceUID = w.seriesUID("capture", style.id(), h.SOPInstanceUID) // pages of two revisions are not to be mixed
			h.InstanceNumber = 1
			if objects, err = pages.Captures(h, pictures); err != nil {
				return err
			}
		}
		if err := set.add(d, objects...); err != nil {
			return err
		}
	}
	return nil
}

// sheet is what the pages say: the summary, the known measurements and the pictures of each region, then all values.
func (w *writing) sheet(l words.Language) pages.Sheet {
	m := w.m
	s := pages.Sheet{Language: string(l), Title: l.Sprintf("Radiomics (IBSI)"), Time: w.at}
	s.Patient, s.Study = pages.Identity(m.Volume.Header, string(l))
	e := w.Equipment
	foot := l.Sprintf("This report was made by software and has not been verified by a person")
	if n := w.rev.Number; n > 1 { // no attribute of a PDF or a picture says it
		foot = l.Sprintf("%s. Revision %d, which replaces those before it", foot, n)
	}
	s.Notes = append(s.Notes, foot,
		l.Sprintf("Software: %s %s", e.Model, e.SoftwareVersion), l.Sprintf("definitions: %s", manual))
	for i, x := range m.Regions {
		if !slices.ContainsFunc(m.Regions[:i], func(y MeasuredRegion) bool { return y.Profile.Hash() == x.Profile.Hash() }) {
			s.Notes = append(s.Notes, l.Sprintf("Profile: %s, %s", x.Profile.Name, x.Profile.Notation()))
		}
		s.Lesions = append(s.Lesions, w.lesion(l, x))
	}
	if !w.views() {
		s.Notes = append(s.Notes, ofImages(l, m.Regions[0])...)
	}
	for _, k := range m.Skipped {
		s.Notes = append(s.Notes, l.Sprintf("%s: not measured, %s", k.Region.TrackingID, l.Detail(k.Reason)))
	}
	return s
}

func (w *writing) lesion(l words.Language, x MeasuredRegion) pages.Lesion {
	known, _ := w.known(x) // the report has been written with them
	p := pages.Lesion{Name: x.Region.TrackingID, Subtitle: whatAndWhere(x.Region)}
	lines, count := summary(l, x, known)
	for _, line := range append(lines, count) {
		p.Summary = append(p.Summary, capital(line))
	}
	for _, m := range inCM3(known) {
		p.Key = append(p.Key, pages.Value{Name: m.plainName(l), Value: rounded(l, m.Value), Unit: plainUnit(m.Unit.Value)})
	}
	if x.Look != nil {
		p.Views, p.Histogram = x.Look.Views, x.Look.Histogram
	}
	p.Trend = w.trends(l, x, known)
	at := map[string]int{} // family and aggregation
	for _, v := range x.Result.Values {
		f, concept, err := named(v)
		if err != nil {
			continue // as above
		}
		_, a, _ := features.Lookup(v.Tag)
		key := string(f.Family) + string(a)
		if _, there := at[key]; !there {
			name := l.Text(familyNames[f.Family])
			if _, how := a.Describe(); how != "" {
				name += ": " + l.Text(how)
			}
			at[key] = len(p.Families)
			p.Families = append(p.Families, pages.Family{Name: name})
		}
		value := pages.Value{Name: concept.Meaning, Value: "-"}
		if f.Family == features.VolumeHistogram { // two fractions have one name
			value.Name += fractions[v.Tag]
		}
		if c, err := coded(v, x.Image.Unit); err == nil && v.Reason == "" {
			value.Value, value.Unit = l.Number("%.6g", v.Value), plainUnit(c.Unit.Value)
		}
		family := &p.Families[at[key]]
		family.Values = append(family.Values, value)
	}
	p.Comments = append(notComputable(l, x.Result.Values), w.remarks(l, x)...)
	return p
}

// capital begins a line that stands alone.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// trends are the course of what a radiologist follows, from the earliest report that the store has to this one.
func (w *writing) trends(l words.Language, x MeasuredRegion, known []measurement) (list []pages.Trend) {
	if len(x.Past) == 0 {
		return nil
	}
	at := examined(w.m.Volume.Header)
	if at.day == "" {
		at = momentOf(w.at)
	}
	follow := []string{"morph_volume", "morph_diam", "stat_mean", "morph_sphericity"}
	if w.m.Volume.Modality == "PT" {
		follow = []string{metabolic, "stat_max", "loc_peak_glob", glycolysis}
	}
	for _, tag := range follow {
		i := slices.IndexFunc(known, func(m measurement) bool { return m.tag == tag })
		if i < 0 {
			continue
		}
		now := inCM3(known[i : i+1])[0]
		t := pages.Trend{Name: now.plainName(l), Unit: plainUnit(now.Unit.Value)}
		for _, past := range x.Past {
			was, ok := past.Values[sr.Code{Value: now.Concept.Value, Scheme: now.Concept.Scheme}]
			if !ok {
				continue
			}
			if m := inCM3([]measurement{{tag: tag, Measurement: was}})[0]; m.Unit.Value == now.Unit.Value {
				t.Points = append(t.Points, pages.Point{Time: past.Time, Value: m.Value})
			}
		}
		if len(t.Points) > 0 {
			t.Points = append(t.Points, pages.Point{Time: at.time, Value: now.Value})
			list = append(list, t)
		}
	}
	return list
}

// familyNames are the chapters of the IBSI manual.
var familyNames = map[features.Family]string{
	features.Morphology: "Morphology", features.LocalIntensity: "Local intensity", features.Statistics: "Intensity statistics",
	features.Histogram: "Intensity histogram", features.VolumeHistogram: "Intensity-volume histogram",
	features.GLCM: "Grey level co-occurrence (GLCM)", features.GLRLM: "Grey level run length (GLRLM)",
	features.GLSZM: "Grey level size zone (GLSZM)", features.GLDZM: "Grey level distance zone (GLDZM)",
	features.NGTDM: "Neighbourhood grey tone difference (NGTDM)", features.NGLDM: "Neighbouring grey level dependence (NGLDM)",
}

// fractions tell the values of the intensity-volume histogram apart.
var fractions = map[string]string{"ivh_v10": ", 10%", "ivh_v90": ", 90%", "ivh_i10": ", 10%", "ivh_i90": ", 90%"}
