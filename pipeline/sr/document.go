package sr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
)

// header writes everything around the content tree: PS3.3 A.35.13.3.
func (r Report) header(d *dicom.DataSet, root *item, e evidence) {
	d.SetString(dicom.SpecificCharacterSet, "ISO_IR 192") // every DataSet holds UTF-8
	d.SetString(dicom.SOPClassUID, r.SOPClassUID)
	d.SetString(dicom.SOPInstanceUID, r.SOPInstanceUID)

	d.CopyEntities(r.Source)

	// SR Document Series, C.17.1.
	d.SetString(dicom.Modality, "SR")
	d.SetString(dicom.SeriesInstanceUID, r.SeriesInstanceUID)
	d.SetInt(dicom.SeriesNumber, r.SeriesNumber)
	if r.SeriesDescription != "" {
		d.SetString(dicom.SeriesDescription, r.SeriesDescription)
	}
	d.SetSeq(dicom.ReferencedPerformedProcedureStepSequence) // type 2

	r.Equipment.Describe(d)

	// SR Document General, C.17.2.
	at := r.Source.InZone(r.ContentTime)
	d.SetString(dicom.SeriesDate, at.Format("20060102"))
	d.SetString(dicom.SeriesTime, at.Format("150405"))
	d.SetString(dicom.ContentDate, at.Format("20060102"))
	d.SetString(dicom.ContentTime, at.Format("150405"))
	d.SetInt(dicom.InstanceNumber, r.InstanceNumber)
	d.SetString(dicom.PreliminaryFlag, "FINAL")
	d.SetString(dicom.CompletionFlag, "COMPLETE")
	d.SetString(dicom.VerificationFlag, "UNVERIFIED") // verifying is a person's act
	d.SetSeq(dicom.PerformedProcedureCodeSequence)    // type 2
	if q := requests(r.Source); len(q) > 0 {
		d.SetSeq(dicom.ReferencedRequestSequence, q...)
	}
	if len(e.current) > 0 {
		d.SetSeq(dicom.CurrentRequestedProcedureEvidenceSequence, e.current.encode()...)
	}
	if len(e.other) > 0 {
		d.SetSeq(dicom.PertinentOtherEvidenceSequence, e.other.encode()...)
	}
	if len(r.Predecessors) > 0 {
		var p references
		for _, doc := range r.Predecessors {
			p.add(doc)
		}
		d.SetSeq(dicom.PredecessorDocumentsSequence, p.encode()...)
	}
	if s := r.codingSchemes(root); len(s) > 0 {
		d.SetSeq(dicom.CodingSchemeIdentificationSequence, s...)
	}
}

// requests are those that the images were made for, as far as the images name them: PS3.3 C.17.2. An archive finds the report
// by them where it is asked for an order.
func requests(source *dicom.DataSet) (items []*dicom.DataSet) {
	known := []dicom.Tag{
		dicom.AccessionNumber, dicom.RequestedProcedureID, dicom.PlacerOrderNumberImagingServiceRequest, dicom.FillerOrderNumberImagingServiceRequest,
	}
	asked := source.Seq(dicom.RequestAttributesSequence)
	if len(asked) == 0 {
		asked = []*dicom.DataSet{source} // older images have them there
	}
	for _, a := range asked {
		if !slices.ContainsFunc(known, func(t dicom.Tag) bool { return a.String(t) != "" || source.String(t) != "" }) {
			continue
		}
		q := dicom.New()
		q.SetString(dicom.StudyInstanceUID, source.String(dicom.StudyInstanceUID))
		q.SetSeq(dicom.ReferencedStudySequence)
		q.SetSeq(dicom.RequestedProcedureCodeSequence)
		q.SetString(dicom.RequestedProcedureDescription)
		for _, t := range known { // type 2
			q.SetString(t)
			if q.Copy(source, t); a.String(t) != "" {
				q.Copy(a, t)
			}
		}
		if q.String(dicom.AccessionNumber) == source.String(dicom.AccessionNumber) { // else the issuer is that of another number
			q.Copy(source, dicom.IssuerOfAccessionNumberSequence)
		}
		q.Copy(a, dicom.IssuerOfAccessionNumberSequence, dicom.ReferencedStudySequence, dicom.RequestedProcedureDescription,
			dicom.RequestedProcedureCodeSequence, dicom.ReasonForTheRequestedProcedure)
		if uid := a.String(dicom.StudyInstanceUID); dicom.AcceptableUID(uid) {
			q.SetString(dicom.StudyInstanceUID, uid)
		}
		items = append(items, q)
	}
	return items
}

// Describe writes General Equipment, PS3.3 C.7.5.1, and the item of
// Contributing Equipment that IHE AIR asks of whoever runs an algorithm.
func (e Equipment) Describe(d *dicom.DataSet) {
	contributing := dicom.New()
	contributing.SetSeq(dicom.PurposeOfReferenceCodeSequence, processingEquipment.encode())
	if e.DeviceUID != "" {
		contributing.SetString(dicom.DeviceUID, e.DeviceUID)
	}
	for _, d := range []*dicom.DataSet{d, contributing} {
		d.SetString(dicom.Manufacturer, dicom.CleanLine(e.Manufacturer, 64))
		d.SetString(dicom.ManufacturerModelName, dicom.CleanLine(e.ModelName, 64))
		d.SetString(dicom.SoftwareVersions, dicom.CleanLine(e.SoftwareVersion, 64))
		if e.SerialNumber != "" {
			d.SetString(dicom.DeviceSerialNumber, dicom.CleanLine(e.SerialNumber, 64))
		}
	}
	d.SetSeq(dicom.ContributingEquipmentSequence, contributing)
}

// codingSchemes describes the private schemes that the tree uses, PS3.3 C.12.1.
func (r Report) codingSchemes(root *item) []*dicom.DataSet {
	var private []string
	use := func(c Code) {
		if strings.HasPrefix(c.Scheme, "99") && !slices.Contains(private, c.Scheme) {
			private = append(private, c.Scheme)
		}
	}
	root.walk(func(it *item) { use(it.name); use(it.code); use(it.unit) })
	slices.Sort(private)
	items := make([]*dicom.DataSet, len(private))
	for i, p := range private {
		d := dicom.New()
		d.SetString(dicom.CodingSchemeDesignator, p)
		if p == Private {
			d.SetString(dicom.CodingSchemeName, "Concepts of radiomics reports by radnode")
			d.SetString(dicom.CodingSchemeResponsibleOrganization, "radnode")
		}
		for _, s := range r.CodingSchemes {
			if s.Designator == p {
				d.SetString(dicom.CodingSchemeName, dicom.CleanText(s.Name))
				d.SetString(dicom.CodingSchemeResponsibleOrganization, dicom.CleanText(s.Organization))
			}
		}
		items[i] = d
	}
	return items
}

// Evidence is every instance that the tree names: those of the report's own
// study as Current Requested Procedure Evidence, the others as Pertinent Other
// Evidence, PS3.3 C.17.2.3. An instance is in one of the two, once.
type evidence struct {
	current, other references
	at             map[string]Document // by SOP Instance UID
}

func (r Report) evidence() (evidence, error) {
	e := evidence{at: map[string]Document{}}
	study := r.Source.String(dicom.StudyInstanceUID)
	add := func(d Document, field string, index ...any) error {
		field = fmt.Sprintf(field, index...)
		if err := d.check(); err != nil {
			return missing(field, err.Error())
		}
		if d.SeriesInstanceUID == r.SeriesInstanceUID {
			return missing(field, "is in the series of the report, which must have a series of its own") // C.17.1
		}
		if old, known := e.at[d.SOPInstanceUID]; known {
			if old != d {
				return missing(field, fmt.Sprintf("instance %s is named before with another study, series or SOP class", d.SOPInstanceUID))
			}
			return nil
		}
		e.at[d.SOPInstanceUID] = d
		if d.StudyInstanceUID == study {
			e.current.add(d)
		} else {
			e.other.add(d)
		}
		return nil
	}
	for i, s := range r.Images {
		for j, in := range s.Instances {
			if err := add(Document{s.StudyInstanceUID, s.SeriesInstanceUID, in}, "Images[%d].Instances[%d]", i, j); err != nil {
				return e, err
			}
		}
	}
	for i, d := range r.Contours {
		if err := add(d, "Contours[%d]", i); err != nil {
			return e, err
		}
	}
	for i, g := range r.Groups {
		if err := add(g.Segment.Document, "Groups[%d].Segment", i); err != nil {
			return e, err
		}
	}
	for i, d := range r.Predecessors {
		if err := d.check(); err != nil {
			return e, missing(fmt.Sprintf("Predecessors[%d]", i), err.Error())
		}
	}
	return e, nil
}

func (d Document) check() error {
	if !dicom.AcceptableUID(d.StudyInstanceUID) || !dicom.AcceptableUID(d.SeriesInstanceUID) {
		return fmt.Errorf("needs a valid Study and Series Instance UID, has %q and %q", d.StudyInstanceUID, d.SeriesInstanceUID)
	}
	return d.Instance.check()
}

// covers makes sure that no reference in the tree is without evidence.
func (e evidence) covers(root *item) error {
	var err error
	root.walk(func(it *item) {
		if (it.vt == image || it.vt == composite) && e.at[it.ref.SOPInstanceUID].Instance != it.ref {
			err = fmt.Errorf("sr: instance %s is named in the tree and is not in the evidence", it.ref.SOPInstanceUID)
		}
	})
	return err
}

// References is a Hierarchical SOP Instance Reference Macro, PS3.3 C.17.2.1:
// studies, their series, their instances, each in the order of first mention.
type references []studyReference

type studyReference struct {
	uid    string
	series []seriesReference
}

type seriesReference struct {
	uid       string
	instances []Instance
}

func (r *references) add(d Document) {
	i := slices.IndexFunc(*r, func(s studyReference) bool { return s.uid == d.StudyInstanceUID })
	if i < 0 {
		i = len(*r)
		*r = append(*r, studyReference{uid: d.StudyInstanceUID})
	}
	st := &(*r)[i]
	j := slices.IndexFunc(st.series, func(s seriesReference) bool { return s.uid == d.SeriesInstanceUID })
	if j < 0 {
		j = len(st.series)
		st.series = append(st.series, seriesReference{uid: d.SeriesInstanceUID})
	}
	st.series[j].instances = append(st.series[j].instances, d.Instance)
}

func (r references) encode() []*dicom.DataSet {
	studies := make([]*dicom.DataSet, len(r))
	for i, st := range r {
		series := make([]*dicom.DataSet, len(st.series))
		for j, se := range st.series {
			instances := make([]*dicom.DataSet, len(se.instances))
			for k, in := range se.instances {
				instances[k] = in.encode()
			}
			series[j] = dicom.New()
			series[j].SetString(dicom.SeriesInstanceUID, se.uid)
			series[j].SetSeq(dicom.ReferencedSOPSequence, instances...)
		}
		studies[i] = dicom.New()
		studies[i].SetString(dicom.StudyInstanceUID, st.uid)
		studies[i].SetSeq(dicom.ReferencedSeriesSequence, series...)
	}
	return studies
}
