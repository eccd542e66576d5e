package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/testdata"
)

// What validators of other people say of everything that radnode sends back. [judge] is what a test calls; read_test.go has
// the readers.

// An acceptance is a line that a validator may say.
type acceptance struct{ judge, pattern, why string }

// accepted is what validators may say, and why it is no fault. Whatever else they say fails.
var accepted = []acceptance{
	{
		"dciodvfy", `^Warning - </ContributingEquipmentSequence.*/DeviceUID\(0018,1002\)> - Attribute is not present in standard DICOM IOD$`,
		"PS3.3 C.12.1 has Device UID in this sequence; dicom3tools of 2022 is older than that",
	},
	{
		"dciodvfy", `/CodingSchemeDesignator\(0008,0102\)\[1\]> - CodingSchemeDesignator is deprecated = <SRT>$`,
		"the codes of a segment as its Segmentation has them: dcmqi's test data are older than SNOMED CT in DICOM",
	},
	{
		"dciodvfy", `/CodingSchemeDesignator\(0008,0102\)\[1\]> - Unrecognized defined term = <99RADNODE>$`,
		"private codes, PS3.16 8.2: the name of the scheme is in Coding Scheme Identification",
	},
	{
		"dciodvfy", `^Warning - </StudyID\(0020,0010\)> - Missing attribute or value that would be needed to build DICOMDIR$`,
		"left empty where the images have more than the 16 characters of an SH",
	},
	{
		"dciodvfy", `^Warning - </ReferencedSeriesSequence\(0008,1115\).* - Attribute is not present in standard DICOM IOD$`,
		"an Encapsulated PDF that says which images it is about: a Standard Extended SOP Class",
	},
	{
		"dciodvfy", `^Warning - </Laterality\(0020,0060\)> - is only permitted to be empty when actually unknown`,
		"a page about several regions: it is not known",
	},
	{
		"dsrdump", `^W: The VR checker does not support this Specific Character Set: ISO_IR 192$`,
		"DCMTK checks the characters of single bytes only",
	},
	{
		"pixelmed", `/CONTAINER \(126200,DCM,"Image Library Group"\)/COMPOSITE \(121112,DCM,"Source of Measurement"\): Content Item not in template$`,
		"TID 1601 row 3, newer than the validator's tables of 2022: the RT Structure Set beside the images",
	},
	{
		"pixelmed", `/CONTAINER \(125007,DCM,"Measurement Group"\)/CODE \(276214006,SCT,"Finding category"\): Content Item not in template$`,
		"TID 1411 row 3a, newer than the validator's tables of 2022",
	},
	{
		"pixelmed", `/CONTAINER \(125007,DCM,"Measurement Group"\)/TEXT \(121106,DCM,"Comment"\): Content Item not in template$`,
		"TID 1411 row 17: any text; the validator knows no code for it",
	},
	{
		"pixelmed", `/CONTAINER \(125007,DCM,"Measurement Group"\)/(CODE|TEXT) \([^,]+,(IBSI|99RADNODE),"[^"]*"\)(/NUM \([^/]*"\))?: Content Item not in template$`,
		"TID 1411 rows 16 and 17, what the method was, and the numbers that it was used with: as for Comment",
	},
	{
		"pixelmed", `^Warning: /CONTAINER \(\d+,DCM,"[^"/]*"\)/TEXT \(121111,DCM,"Summary"\): Content Item not in template$`,
		"TID 1500 is extensible: the summary before everything else",
	},
	{
		"pixelmed", `/CONTAINER \(126200,DCM,"Image Library Group"\)/(UIDREF|TEXT|NUM) \((112002|113607|8302-2|29463-7),(DCM|LN),"[^"]*"\): Content Item not in template$`,
		"TID 1602 is extensible: series of the images, height and weight that a SUV was made with",
	},
	{
		"pixelmed", `: Code \(123003,DCM,"Radiopharmaceutical Start DateTime"\) has different code meaning`,
		"the meaning of PS3.16 Annex D, 2024c; the validator has an older one",
	},
	{
		"dcentvfy", `^Warning - Different information entities for attribute - Element=<AccessionNumber> IE <(Series> versus <Study|Study> versus <Series)>$`,
		"dicom3tools counts it to the study in SR IODs and to the series in those of images, in reports of others too",
	},
	{
		"dcentvfy", `^Warning - Attribute is empty .* Element=<StudyID> `,
		"as dciodvfy",
	},
	{
		"dcentvfy", `^Warning - Attribute present in one instance but not the other - Element=<PatientIdentityRemoved> `,
		"PS3.3 C.7.1.1 asks for a De-identification Method beside it, which these images lack",
	},
}

// inherited are the elements that come as they are from the images: what dciodvfy says of them in the very same words in an
// image of the study is the image's fault. The pipeline does not rename patients or studies.
var inherited = []string{"StudyID(0020,0010)", "StudyDate(0008,0020)", "StudyTime(0008,0030)", "PatientName(0010,0010)",
	"PatientWeight(0010,1030)", "ReferringPhysicianName(0008,0090)"}

func inherits(text string) bool {
	return slices.ContainsFunc(inherited, func(element string) bool { return strings.Contains(text, "</"+element) })
}

// A remark is a line that a validator said of files.
type remark struct {
	judge, file, text string
}

// A verdict is what is left of the remarks when those are gone that are accepted or inherited.
type verdict struct {
	remarks  []remark
	accepted map[int]int // how often each of the table
	lent     map[string]int
}

// judge has all that came back for a study looked at by dciodvfy, dsrdump, pixelmed's template validator and dcentvfy. It fails
// for whatever they say that is not accepted.
func judge(t *testing.T, back answer) {
	t.Helper()
	for _, r := range judgeAll(t, map[string]answer{"": back})[""].remarks {
		t.Errorf("%s: %s: %s", r.judge, r.file, r.text)
	}
}

// judgeAll judges many studies: pixelmed takes seconds to start.
func judgeAll(t *testing.T, backs map[string]answer) map[string]verdict {
	t.Helper()
	need(t, "dciodvfy", "dsrdump", "dcentvfy", "java", "javac") // javac: of the JDK, for a program in source
	dir := t.TempDir()
	names := slices.Sorted(maps.Keys(backs))
	remarks := map[string][]remark{}
	files := map[string][]string{}
	var documents []string
	for _, name := range names {
		files[name] = backs[name].write(t, filepath.Join(dir, name))
		for i, o := range backs[name].objects {
			if o.dataSet(t).String(dicom.Modality) == "SR" {
				documents = append(documents, files[name][i])
			}
		}
	}
	var pixelmed []remark
	var g errgroup.Group
	g.Go(func() (err error) {
		pixelmed, err = validateTemplates(documents)
		return err
	})
	lenders := map[string][]string{}
	for _, name := range names {
		for i := range files[name] {
			remarks[name] = append(remarks[name], validateObject(t, files[name][i], documents)...)
		}
		for from, results := range bySources(t, backs[name], files[name]) {
			sources := strings.Split(from, "\n")
			remarks[name] = append(remarks[name], validateEntities(results, sources)...)
			lenders[name] = append(lenders[name], sources[0])
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, r := range pixelmed {
		name := strings.Trim(strings.TrimPrefix(filepath.Dir(r.file), dir), "/")
		remarks[name] = append(remarks[name], r)
	}

	verdicts := map[string]verdict{}
	for _, name := range names {
		v := verdict{accepted: map[int]int{}, lent: map[string]int{}}
		said := map[string]bool{} // of the images
		for _, file := range lenders[name] {
			for _, line := range dciodvfy(file) {
				said[line] = true
			}
		}
		for _, r := range remarks[name] {
			i := slices.IndexFunc(accepted, func(a acceptance) bool {
				return a.judge == r.judge && regexp.MustCompile(a.pattern).MatchString(r.text)
			})
			switch {
			case i >= 0:
				v.accepted[i]++
			case r.judge == "dciodvfy" && said[r.text] && inherits(r.text):
				v.lent[r.text]++
			case !slices.Contains(v.remarks, r):
				v.remarks = append(v.remarks, r)
			}
		}
		verdicts[name] = v
	}
	return verdicts
}

// write keeps the objects as files, in the order of the objects.
func (a answer) write(t *testing.T, dir string) (files []string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, o := range a.objects {
		var b bytes.Buffer
		if err := dicom.WriteMeta(&b, o.meta); err != nil {
			t.Fatal(err)
		}
		b.Write(o.data)
		file := filepath.Join(dir, fmt.Sprintf("%02d-%s.dcm", i, o.dataSet(t).String(dicom.Modality)))
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// imageFiles are the files of a folder by SOP Instance UID, contours left out: their headers are another program's.
func imageFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	objects, _, _ := findObjects([]string{folder})
	for _, o := range objects {
		if c := o.meta.MediaStorageSOPClassUID; c != dicom.RTStructureSetStorage && c != dicom.SegmentationStorage {
			out[o.meta.MediaStorageSOPInstanceUID] = o.path
		}
	}
	return out
}

// bySources are the files of an answer's objects by the images that the objects name. A document or a picture need not name
// any, and then goes with those of its study.
func bySources(t *testing.T, back answer, files []string) map[string][]string {
	t.Helper()
	images := imageFiles(t, back.folder)
	named := make([][]string, len(files))
	ofStudy := map[string][]string{}
	studyOf := func(i int) string { return back.objects[i].dataSet(t).String(dicom.StudyInstanceUID) }
	for i, o := range back.objects {
		for _, uid := range referenced(o.dataSet(t)) {
			if file := images[uid]; file != "" {
				named[i] = append(named[i], file)
			}
		}
		ofStudy[studyOf(i)] = append(ofStudy[studyOf(i)], named[i]...)
	}
	out := map[string][]string{}
	for i, from := range named {
		if len(from) == 0 {
			from = ofStudy[studyOf(i)]
		}
		if len(from) == 0 {
			t.Errorf("%s: no object of its study names an image that was sent", files[i])
			continue
		}
		slices.Sort(from)
		key := strings.Join(slices.Compact(from), "\n")
		out[key] = append(out[key], files[i])
	}
	return out
}

// referenced are the instances that a data set names, at any depth.
func referenced(d *dicom.DataSet) (uids []string) {
	if uid := d.String(dicom.ReferencedSOPInstanceUID); uid != "" {
		uids = append(uids, uid)
	}
	for e := range d.Elements() {
		for _, item := range e.Items() {
			uids = append(uids, referenced(item)...)
		}
	}
	return uids
}

// dciodvfy says its lines, less the names of IODs.
func dciodvfy(file string) (lines []string) {
	out, _ := exec.Command("dciodvfy", "-new", file).CombinedOutput() // the exit code is 1 for an Error that the images have too
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// validateObject is what the validators of one object say.
func validateObject(t *testing.T, file string, documents []string) (remarks []remark) {
	t.Helper()
	known := false
	for _, line := range dciodvfy(file) {
		if regexp.MustCompile(`^\w+$`).MatchString(line) { // the name of the IOD
			known = true
			continue
		}
		remarks = append(remarks, remark{"dciodvfy", file, line})
	}
	if !known {
		remarks = append(remarks, remark{"dciodvfy", file, "does not know the IOD"})
	}
	if slices.Contains(documents, file) {
		var out, errs bytes.Buffer
		cmd := exec.Command("dsrdump", "+Pc", file)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || out.Len() == 0 {
			remarks = append(remarks, remark{"dsrdump", file, fmt.Sprintf("cannot read it: %v", err)})
		}
		for line := range strings.Lines(errs.String()) {
			remarks = append(remarks, remark{"dsrdump", file, strings.TrimSpace(line)})
		}
	}
	return remarks
}

// completeRun are the lines of a run that looked at everything: pixelmed says nothing bad of a report whose root template it
// does not know.
var completeRun = []string{
	"Found Root Template TID_1500 (MeasurementReport)", "Root Template Validation Complete", "IOD validation complete",
}

// validateTemplates is what pixelmed says of reports.
func validateTemplates(files []string) (remarks []remark, err error) {
	var jars []string
	for _, jar := range strings.Fields("pixelmed commons-codec commons-net hsqldb javax.json jaxb-api jmdns slf4j-api vecmath") {
		jars = append(jars, "/usr/share/java/"+jar+".jar")
	}
	// Without these limits off, Java refuses the style sheet (JAXP0801003).
	args := []string{
		"-Djdk.xml.xpathExprGrpLimit=0", "-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0", "-Xmx1g", "-Xss64m",
		"-cp", strings.Join(jars, ":"), filepath.Join("testdata", "DicomSRValidators.java"),
	}
	out, err := exec.Command("java", append(args, files...)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("pixelmed: %w\n%s", err, out)
	}
	location := regexp.MustCompile(`\b\d+(\.\d+)+: `)
	said := strings.Split(string(out), "== ")[1:]
	if len(said) != len(files) {
		return nil, fmt.Errorf("pixelmed speaks of %d reports, want %d\n%s", len(said), len(files), out)
	}
	for i, part := range said {
		complete := 0
		for line := range strings.Lines(strings.TrimPrefix(part, files[i])) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" || regexp.MustCompile(`^Found \w+SR IOD$`).MatchString(line):
			case slices.Contains(completeRun, line):
				complete++
			default:
				remarks = append(remarks, remark{"pixelmed", files[i], location.ReplaceAllString(line, "")})
			}
		}
		if complete != len(completeRun) {
			remarks = append(remarks, remark{"pixelmed", files[i], "does not know the root template"})
		}
	}
	return remarks, nil
}

// validateEntities is what dcentvfy says of results beside the images that they were made of. What it says of two images is
// theirs. It does not compare what has another Patient ID or Study Instance UID: TestIdentityOfTheImages does.
func validateEntities(results, sources []string) (remarks []remark) {
	out, _ := exec.Command("dcentvfy", slices.Concat(results, sources)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		text, files, _ := strings.Cut(strings.TrimSpace(line), " for file <")
		for _, r := range results {
			if strings.Contains(files, r+">") {
				_, values, _ := strings.Cut(files, "> Value ")
				if values != "" {
					text += " Value " + values
				}
				remarks = append(remarks, remark{"dcentvfy", r, text})
				break
			}
		}
		if files == "" {
			remarks = append(remarks, remark{"dcentvfy", results[0], text})
		}
	}
	return remarks
}

// allStudies are those of the reference data, where it is, and the bundled ones.
func allStudies(t *testing.T) []study {
	t.Helper()
	var all []study
	for _, c := range []study{{"bundled", testdata.SyntheticCT, 1, 2, 0}, {"digital phantom", testdata.DigitalPhantom, 1, 1, 0}} {
		var err error
		if c.folder, err = filepath.Abs(filepath.Join("..", "..", "testdata", c.folder)); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if root := os.Getenv("RADNODE_SHARED"); root != "" || exists(filepath.Join("..", "..", "..", "shared")) {
		all = append(all, referenceData...)
	}
	return all
}

// Independent validators find no fault in anything that comes back for any study there is: what they say is accepted above, or
// said of the images too.
func TestValidators(t *testing.T) {
	need(t, "dciodvfy", "dsrdump", "dcentvfy", "java", "javac")
	backs := map[string]answer{}
	for _, s := range allStudies(t) {
		backs[s.name] = sent(t, s)
	}
	everyDocument(t, backs)
	verdicts := judgeAll(t, backs)
	used := map[int]int{}
	for name, back := range backs {
		t.Run(name, func(t *testing.T) {
			v := verdicts[name]
			for _, r := range v.remarks {
				t.Errorf("%s: %s: %s", r.judge, filepath.Base(r.file), r.text)
			}
			for _, text := range slices.Sorted(maps.Keys(v.lent)) {
				t.Logf("%d times, as of the images: %s", v.lent[text], text)
			}
			for i, n := range v.accepted {
				used[i] += n
			}
			t.Logf("%d objects", len(back.objects))
		})
	}
	if _, all := backs["sts"]; !all {
		return
	}
	for i, a := range accepted {
		t.Logf("%s: %d times: %s: %s", a.judge, used[i], a.pattern, a.why)
		if used[i] == 0 {
			t.Errorf("%s no longer says %s: strike it from what is accepted", a.judge, a.pattern)
		}
	}
}

// everyDocument is what comes back where all kinds of documents are asked for, in another language, under another title and in
// another SOP Class too.
func everyDocument(t *testing.T, backs map[string]answer) {
	t.Helper()
	for _, s := range allStudies(t) {
		style := pipeline.Style{Documents: []pipeline.Document{pipeline.Full, pipeline.Key, pipeline.PDF, pipeline.Capture}}
		switch s.name {
		case "lung1":
			style.Language, style.Title, style.SOPClass = "it", "imaging", "comprehensive"
		case "sts_raw":
			style.Language, style.Title, style.SOPClass = "it", "pet", "enhanced"
		}
		folder := sent(t, s).folder
		objects, _ := send(t, folder, 2*s.reports, func(cfg *Config) { cfg.Report = style })
		kinds := map[string]int{}
		for _, o := range objects {
			kinds[dicom.UIDName(o.meta.MediaStorageSOPClassUID)]++
		}
		if len(kinds) != 4 {
			t.Errorf("%s: %v, want reports, Segmentation, Encapsulated PDF and Secondary Capture", s.name, kinds)
		}
		backs[s.name+", every document"] = answer{folder: folder, objects: objects}
	}
}

// The judges see it when a report is wrong.
func TestValidatorsFindFaults(t *testing.T) {
	back := sent(t, allStudies(t)[0])
	faults := map[string]struct {
		judge  string
		damage func(*dicom.DataSet)
	}{
		"another template": {"pixelmed", func(d *dicom.DataSet) {
			d.Seq(dicom.ContentTemplateSequence)[0].SetString(dicom.TemplateIdentifier, "1501")
		}},
		"a language that there is not": {"pixelmed", func(d *dicom.DataSet) {
			d.Seq(dicom.ContentSequence)[0].Seq(dicom.ConceptCodeSequence)[0].SetString(dicom.CodeValue, "xx")
		}},
		"no Performed Procedure Code": {"dciodvfy", func(d *dicom.DataSet) { d.Remove(dicom.PerformedProcedureCodeSequence) }},
		"no evidence but of the images": {"dciodvfy", func(d *dicom.DataSet) {
			study := d.Seq(dicom.CurrentRequestedProcedureEvidenceSequence)[0]
			study.SetSeq(dicom.ReferencedSeriesSequence, study.Seq(dicom.ReferencedSeriesSequence)[0])
		}},
		"another name": {"dcentvfy", func(d *dicom.DataSet) { d.SetString(dicom.PatientName, "Another") }},
		"a relationship that there is not": {"dsrdump", func(d *dicom.DataSet) {
			d.Seq(dicom.ContentSequence)[0].SetString(dicom.RelationshipType, "CONTAINED")
		}},
	}
	backs := map[string]answer{}
	for name, f := range faults {
		o := ofClasses(back.objects, reportClasses...)[0]
		d := o.dataSet(t)
		f.damage(d)
		data, err := d.EncodedBytes()
		if err != nil {
			t.Fatal(err)
		}
		backs[name] = answer{folder: back.folder, objects: []demoObject{{o.meta, data}}}
	}
	for name, v := range judgeAll(t, backs) {
		if !slices.ContainsFunc(v.remarks, func(r remark) bool { return r.judge == faults[name].judge }) {
			t.Errorf("%s: %s says nothing of it: %v", name, faults[name].judge, v.remarks)
		}
	}
}
