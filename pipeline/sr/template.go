package sr

import "github.com/radnode/radnode/dimse/dicom"

// measurementReport is TID 1500 Measurement Report.
func (r Report) measurementReport() *item {
	root := newContainer(r.Title, "1500")
	root.add(hasConceptMod, newCode(languageOfContent, languages[r.Language])) // row 2, TID 1204
	r.Equipment.observe(root)                                                  // row 3
	for _, c := range r.ProcedureReported {                                    // row 4
		root.add(hasConceptMod, newCode(procedureReported, c))
	}
	// What a reader wants first stands before the hundreds of images of the library. The template has no row for a summary of
	// what was measured; it is extensible, and what is added may stand at any place that makes sense, also where the order of
	// the rows counts: PS3.16 6.2.5, note.
	for _, s := range r.Summary {
		root.add(contains, newText(summary, s))
	}
	root.add(contains, r.imageLibrary()) // row 5
	if len(r.Groups) > 0 {
		m := root.add(contains, newContainer(imagingMeasurements, "")) // row 6
		r.Algorithm.identify(m)                                        // row 6b
		for _, g := range r.Groups {
			m.add(contains, g.measurementGroup(r.Title, r.Digits)) // row 8
		}
	} else {
		// Without measurements row 12 has to be there. Its summary says why there is none.
		q := root.add(contains, newContainer(qualitativeEvals, ""))
		q.add(contains, newCode(outcome, measurementFailure)) // row 13
	}
	return root
}

// observe is TID 1001 with one observer, a device: TID 1002 and TID 1004.
func (e Equipment) observe(root *item) {
	root.add(hasObsContext, newCode(observerType, device))
	root.add(hasObsContext, newUID(deviceObserverUID, e.DeviceUID))
	for _, t := range []struct {
		name  Code
		value string
	}{
		{deviceObserverName, e.Name},
		{deviceManufacturer, e.Manufacturer},
		{deviceModelName, e.ModelName},
		{deviceSerialNumber, e.SerialNumber},
	} {
		if t.value != "" {
			root.add(hasObsContext, newText(t.name, t.value))
		}
	}
}

// imageLibrary is TID 1600: one group for each image series, with what its
// images have in common (TID 1602), and one for the contours. The single images
// are left to the evidence, which names them all: viewers show a line for each,
// hundreds before the first value, and TID 1601 does not ask for them.
func (r Report) imageLibrary() *item {
	lib := newContainer(imageLibrary, "1600")
	for _, s := range r.Images {
		s.context(lib.add(contains, newContainer(imageLibraryGroup, "")))
	}
	if len(r.Contours) > 0 {
		// No Modality here: RTSTRUCT is in CID 33 of the newer TID 1602 but not in
		// CID 29 of the older, and validators know the older.
		g := lib.add(contains, newContainer(imageLibraryGroup, ""))
		for _, d := range r.Contours {
			// TID 1601 row 3. A reference needs no concept name and may have one, which is its purpose (PS3.3 Table C.17-5);
			// OHIF shows no report that has a reference without.
			g.add(contains, &item{vt: composite, name: sourceOfMeasurement, ref: d.Instance})
		}
	}
	return lib
}

// measurementGroup is TID 1411 Volumetric ROI Measurements and Qualitative Evaluations.
func (g Group) measurementGroup(title Code, digits int) *item {
	it := newContainer(measurementGroup, "1411")
	it.add(hasObsContext, newText(trackingIdentifier, g.TrackingIdentifier)) // row 2
	// Row 3. OHIF takes the first UIDREF of a group for the tracking UID, whatever its name.
	it.add(hasObsContext, newUID(trackingUID, g.TrackingUID))
	if !g.Category.zero() {
		it.add(contains, newCode(findingCategory, g.Category)) // row 3a
	}
	if !g.Finding.zero() {
		it.add(contains, newCode(finding, g.Finding)) // row 3b
	}
	it.add(contains, &item{vt: image, name: referencedSegment, ref: g.Segment.Instance, segment: g.Segment.Number}) // row 7
	it.add(contains, newUID(sourceSeries, g.SourceSeries))                                                          // row 12
	g.roiMeasurements(it, title, digits)                                                                            // row 15
	for _, s := range g.Steps {
		s.add(it)
	}
	for _, c := range g.Comments {
		it.add(contains, newText(comment, c)) // row 17
	}
	return it
}

// add appends the step to a group: row 16 with a method, row 17 with a text. They come after the measurements, which a reader
// looks for; TID 1419, which holds the measurements, has no row for what holds for all of them.
func (s Step) add(group *item) {
	it := newText(s.Name, s.Text)
	if !s.Method.zero() {
		it = newCode(s.Name, s.Method)
	}
	group.add(contains, it)
	for _, n := range s.Numbers {
		it.add(stepNumber, newNum(n.Concept, n.Value, n.Unit))
	}
}

const stepNumber = hasProperties

// roiMeasurements is TID 1419 ROI Measurements.
func (g Group) roiMeasurements(it *item, title Code, digits int) {
	if !g.Method.zero() {
		it.add(hasConceptMod, newCode(measurementMethod, g.Method)) // row 1
	}
	if !g.Site.zero() {
		site := it.add(hasConceptMod, newCode(findingSite, g.Site)) // row 2
		if !g.Laterality.zero() {
			site.add(hasConceptMod, newCode(laterality, g.Laterality)) // row 3
		}
	}
	g.Algorithm.identify(it) // row 4b
	for _, m := range g.Measurements {
		n := it.add(contains, newNum(m.Concept, m.Value, m.Unit)) // row 5
		n.digits = digits
		for _, p := range m.Modifiers {
			n.add(hasConceptMod, newCode(p.Name, p.Value)) // rows 6 to 9
		}
		for _, p := range m.Parameters {
			n.add(inferredFrom, newNum(p.Concept, p.Value, p.Unit)) // row 13
		}
		// OHIF throws on a NUM without children in a report with this title
		// (cornerstone-dicom-sr, groups that are not drawn from coordinates), and
		// with it goes the whole study. Row 18 is the child that says nothing new.
		if m.Display == "" && title.is(ImagingMeasurementReport) && len(n.children) == 0 {
			m.Display = m.Concept.Meaning
		}
		if m.Display != "" {
			n.add(hasConceptMod, newText(equivalentMeaning, m.Display)) // row 18
		}
	}
}

// identify is TID 4019 Algorithm Identification.
func (a Algorithm) identify(it *item) {
	if a.zero() {
		return
	}
	it.add(hasConceptMod, newText(algorithmName, dicom.CleanText(a.Name)))
	it.add(hasConceptMod, newText(algorithmVersion, dicom.CleanText(a.Version)))
	for _, p := range a.Parameters {
		it.add(hasConceptMod, newText(algorithmParameters, dicom.CleanText(p)))
	}
}
