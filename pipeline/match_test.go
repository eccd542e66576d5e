package pipeline

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
	"github.com/radnode/radnode/testdata"
)

const patience = 60 * time.Second

// bundled reads the bundled study: one structure set and its images, with the pixels in the data set so that they can be
// changed and sent.
func bundled(t *testing.T) (contours *dicom.DataSet, images []*dicom.DataSet) {
	t.Helper()
	err := fs.WalkDir(testdata.FS, testdata.SyntheticCT, func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".dcm" {
			return err
		}
		b, err := fs.ReadFile(testdata.FS, name)
		if err != nil {
			return err
		}
		f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		if f.Pixels == nil {
			contours = f.DataSet
			return nil
		}
		pixels, err := io.ReadAll(f.Pixels.Reader())
		if err != nil {
			return err
		}
		f.DataSet.SetBytes(dicom.PixelData, dicom.OW, pixels)
		images = append(images, f.DataSet)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return contours, images
}

// A bench is a store with a pipeline behind it and a Sender that keeps what it is given.
type bench struct {
	t     *testing.T
	store *store.Store
	p     *Pipeline

	mu   sync.Mutex
	sent []string            // SOP Instance UIDs
	to   map[string][]string // the same by the AE title that got them
}

func (b *bench) Send(_ context.Context, peer dimse.Peer, objects [][]Version) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range objects {
		b.sent = append(b.sent, o[0].SOPInstanceUID)
		b.to[peer.AETitle] = append(b.to[peer.AETitle], o[0].SOPInstanceUID)
	}
	return nil
}

func newBench(t *testing.T, quiet time.Duration) *bench {
	t.Helper()
	return newBenchWith(t, func(o *Options) { o.Quiet = quiet })
}

func newBenchWith(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	b, _ := openBench(t, t.TempDir(), change)
	return b
}

// openBench starts a bench on a data folder; stop ends it, so that another one may have the folder.
func openBench(t *testing.T, dir string, change func(*Options), prepare ...func(*Pipeline)) (b *bench, stop func()) {
	t.Helper()
	st, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b = &bench{t: t, store: st, to: map[string][]string{}}
	o := Options{
		Deliver:   []Destination{{Peer: dimse.Peer{AETitle: "PACS", Address: "127.0.0.1:104"}}},
		Equipment: Equipment{Manufacturer: "radnode", Model: "radnode", SoftwareVersion: "test", StationName: "TEST", DeviceUID: "2.25.7"},
	}
	change(&o)
	b.p, err = New(st, b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(b.p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		accounted(t, b.p)
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return b, stop
}

// accounted fails where anything that was received is not in exactly one state: every test ends with it.
func accounted(t *testing.T, p *Pipeline) {
	t.Helper()
	days, err := p.Balance(context.Background())
	if err != nil {
		t.Error(err)
	}
	for _, d := range days {
		if d.Difference != 0 {
			t.Errorf("the balance does not come out: %+v", d)
		}
	}
}

// put stores data sets as a peer would.
func (b *bench) put(objects ...*dicom.DataSet) {
	b.t.Helper()
	for _, d := range objects {
		data, err := d.EncodedBytes()
		if err != nil {
			b.t.Fatal(err)
		}
		meta := dicom.FileMeta{
			MediaStorageSOPClassUID: d.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID),
			TransferSyntaxUID: dicom.ExplicitVRLittleEndian, SourceApplicationEntityTitle: "SCANNER",
		}
		if err := b.store.Put(b.t.Context(), meta, bytes.NewReader(data)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// wait returns the state of the contours in a study once it suits.
func (b *bench) wait(study string, suits func(store.State) bool) store.State {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s, _ := b.store.Study(study)
		for _, state := range s.States {
			if suits(state) {
				return state
			}
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the state did not come: %+v", s.States)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// ofContours leaves out what became of deliveries and of segmentations that came back.
func ofContours(states []store.State) []store.State {
	return slices.DeleteFunc(slices.Clone(states), func(s store.State) bool { return !isStory(s) })
}

func is(name string) func(store.State) bool {
	return func(s store.State) bool { return s.Name == name }
}

// dropSeriesList leaves only the references in the contours themselves.
func dropSeriesList(d *dicom.DataSet) { d.Remove(dicom.ReferencedFrameOfReferenceSequence) }

// seriesList returns the items of RT Referenced Series Sequence's list of images.
func seriesItem(t *testing.T, d *dicom.DataSet) *dicom.DataSet {
	t.Helper()
	for _, frame := range d.Seq(dicom.ReferencedFrameOfReferenceSequence) {
		for _, study := range frame.Seq(dicom.RTReferencedStudySequence) {
			for _, series := range study.Seq(dicom.RTReferencedSeriesSequence) {
				return series
			}
		}
	}
	t.Fatal("no RT Referenced Series Sequence")
	return nil
}

// contoured returns the images that contours name.
func contoured(d *dicom.DataSet) map[string]bool {
	out := map[string]bool{}
	for _, r := range d.Seq(dicom.ROIContourSequence) {
		for _, c := range r.Seq(dicom.ContourSequence) {
			for _, i := range c.Seq(dicom.ContourImageSequence) {
				out[i.String(dicom.ReferencedSOPInstanceUID)] = true
			}
		}
	}
	return out
}

// Every rule by which a computation starts, and every reason to wait.
func TestRules(t *testing.T) {
	const long, short = time.Hour, 20 * time.Millisecond
	for _, c := range []struct {
		name    string
		quiet   time.Duration
		prepare func(t *testing.T, contours *dicom.DataSet, images []*dicom.DataSet) (push []*dicom.DataSet)
		state   string
		rule    string
		reason  string // part of it
		missing int
	}{
		{"all named images", long, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			return append([]*dicom.DataSet{c}, im...)
		}, StateComputed, RuleNamed, "", 0},
		{"one named image missing, whatever the quiet", short, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			return append([]*dicom.DataSet{c}, im[1:]...)
		}, StateWaiting, "", "1 of", 1},
		{"no image at all", short, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			return []*dicom.DataSet{c}
		}, StateWaiting, "", "missing", 24},
		{"only contours name images, none announced, still arriving", long, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			dropSeriesList(c)
			return append(im, c)
		}, StateWaiting, "", "does not say how many", 0},
		{"only contours name images, none announced, quiet", short, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			dropSeriesList(c)
			return append(im, c)
		}, StateComputed, RuleQuiet, "", 0},
		{"only contours name images, all announced are here", long, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			dropSeriesList(c)
			for _, i := range im {
				i.SetInt(dicom.NumberOfSeriesRelatedInstances, len(im))
			}
			return append(im, c)
		}, StateComputed, RuleConsistent, "", 0},
		{"only contours name images, one announced is missing", long, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			dropSeriesList(c)
			for _, i := range im {
				i.SetInt(dicom.NumberOfSeriesRelatedInstances, len(im)+1)
			}
			return append(im, c)
		}, StateWaiting, "", "announces", 0},
		{"images under other UIDs, quiet", short, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			for _, i := range im {
				i.SetString(dicom.SOPInstanceUID, dicom.UIDFrom("renamed", i.String(dicom.SOPInstanceUID)))
			}
			return append(im, c)
		}, StateComputed, RuleQuiet, "", 0},
		{"images under other UIDs after the contours, quiet", short, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			for _, i := range im {
				i.SetString(dicom.SOPInstanceUID, dicom.UIDFrom("renamed", i.String(dicom.SOPInstanceUID)))
			}
			return append([]*dicom.DataSet{c}, im...)
		}, StateComputed, RuleQuiet, "", 0},
		{"images under other UIDs that cannot be measured, quiet", short, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			for _, i := range im {
				i.SetString(dicom.SOPInstanceUID, dicom.UIDFrom("renamed", i.String(dicom.SOPInstanceUID)))
				i.SetString(dicom.Modality, "PT")
			}
			return append(im, c)
		}, StateRefused, RuleQuiet, "Modality", 0},
		{"images in a study of their own", long, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			c.SetString(dicom.StudyInstanceUID, dicom.UIDFrom("contours' own study"))
			return append([]*dicom.DataSet{c}, im...)
		}, StateComputed, RuleNamed, "", 0},
		{"no image named", long, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			dropSeriesList(c)
			for _, r := range c.Seq(dicom.ROIContourSequence) {
				for _, k := range r.Seq(dicom.ContourSequence) {
					k.Remove(dicom.ContourImageSequence)
				}
			}
			return append(im, c)
		}, StateRefused, "", "names no image", 0},
		{"a slice is missing inside the series", long, func(t *testing.T, c *dicom.DataSet, im []*dicom.DataSet) []*dicom.DataSet {
			series := seriesItem(t, c)
			gone := im[0].String(dicom.SOPInstanceUID)
			for _, i := range im { // one that no contour names
				if uid := i.String(dicom.SOPInstanceUID); !contoured(c)[uid] && !atEnd(im, i) {
					gone = uid
				}
			}
			var items []*dicom.DataSet
			for _, item := range series.Seq(dicom.ContourImageSequence) {
				if item.String(dicom.ReferencedSOPInstanceUID) != gone {
					items = append(items, item)
				}
			}
			series.SetSeq(dicom.ContourImageSequence, items...)
			var push []*dicom.DataSet
			for _, i := range im {
				if i.String(dicom.SOPInstanceUID) != gone {
					push = append(push, i)
				}
			}
			return append(push, c)
		}, StateRefused, RuleNamed, "missing", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			contours, images := bundled(t)
			b := newBench(t, c.quiet)
			push := c.prepare(t, contours, images)
			b.put(push...)
			s := b.wait(contours.String(dicom.StudyInstanceUID), func(s store.State) bool {
				return s.Name == c.state && strings.Contains(s.Reason, c.reason) && len(s.Missing) == c.missing
			})
			if s.Rule != c.rule {
				t.Errorf("rule %q, want %q", s.Rule, c.rule)
			}
		})
	}
}

// atEnd says whether an image is the first or the last of the stack along z.
func atEnd(images []*dicom.DataSet, d *dicom.DataSet) bool {
	z := func(d *dicom.DataSet) float64 {
		p, _ := d.Floats(dicom.ImagePositionPatient)
		return p[2]
	}
	lower, higher := false, false
	for _, i := range images {
		lower = lower || z(i) < z(d)
		higher = higher || z(i) > z(d)
	}
	return !lower || !higher
}

// Late images supersede the report that stands: a new instance in the same series that names the old one.
func TestLateImagesSupersede(t *testing.T) {
	contours, images := bundled(t)
	drawn := contoured(contours)
	series := seriesItem(t, contours)
	var items, early, late = []*dicom.DataSet(nil), []*dicom.DataSet(nil), []*dicom.DataSet(nil)
	for _, item := range series.Seq(dicom.ContourImageSequence) {
		if drawn[item.String(dicom.ReferencedSOPInstanceUID)] {
			items = append(items, item)
		}
	}
	series.SetSeq(dicom.ContourImageSequence, items...) // a list of the slices with contours, and no more
	for _, i := range images {
		if drawn[i.String(dicom.SOPInstanceUID)] {
			early = append(early, i)
		} else {
			late = append(late, i)
		}
	}
	b := newBench(t, 200*time.Millisecond)
	study := contours.String(dicom.StudyInstanceUID)
	b.put(append(early, contours)...)
	first := detailOf(b.wait(study, is(StateComputed)))
	b.put(late...)
	second := detailOf(b.wait(study, func(s store.State) bool { return s.Name == StateComputed && detailOf(s).Revision > 1 }))

	if second.Revision != 2 || second.Images != len(images) {
		t.Errorf("revision %d of %d images, want 2 of %d", second.Revision, second.Images, len(images))
	}
	f, done, err := b.p.open(second.report())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	o, err := b.store.Instance(first.report())
	if err != nil {
		t.Fatal(err)
	}
	if got := f.DataSet.String(dicom.SeriesInstanceUID); got != o.SeriesInstanceUID {
		t.Errorf("the new report is in series %s, want that of the old one, %s", got, o.SeriesInstanceUID)
	}
	if n, _ := f.DataSet.Int(dicom.InstanceNumber); n != 2 {
		t.Errorf("Instance Number %d, want 2", n)
	}
	if got := predecessors(f.DataSet); len(got) != 1 || got[0] != first.report() {
		t.Errorf("Predecessor Documents Sequence names %v, want %s", got, first.report())
	}
}

func predecessors(d *dicom.DataSet) (uids []string) {
	for _, study := range d.Seq(dicom.PredecessorDocumentsSequence) {
		for _, series := range study.Seq(dicom.ReferencedSeriesSequence) {
			for _, i := range series.Seq(dicom.ReferencedSOPSequence) {
				uids = append(uids, i.String(dicom.ReferencedSOPInstanceUID))
			}
		}
	}
	return uids
}

// A study that is pushed again changes nothing: one computation, one delivery.
func TestAgainIsNothing(t *testing.T) {
	contours, images := bundled(t)
	b := newBench(t, time.Millisecond)
	study := contours.String(dicom.StudyInstanceUID)
	b.put(append(images, contours)...)
	b.wait(study, is(StateComputed))
	b.put(append(images, contours)...)
	deadline := time.Now().Add(patience)
	for {
		q := b.store.Queues()
		if q[computeQueue].Pending+q[computeQueue].Leased == 0 && b.p.Stats().Delivered > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(q)
		}
		time.Sleep(2 * time.Millisecond)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sent) != 2 {
		t.Errorf("%d objects sent, want a report and a segmentation", len(b.sent))
	}
}

// The quiet period ends before the study is read, not while its headers are: what comes meanwhile is not seen.
func TestQuietUntilTheStudyWasRead(t *testing.T) {
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	o := testOptions()
	o.Quiet = 50 * time.Millisecond
	b := &bench{t: t, store: st, to: map[string][]string{}}
	if b.p, err = New(st, b, o); err != nil { // it does not run
		t.Fatal(err)
	}
	contours, images := bundled(t)
	dropSeriesList(contours)
	b.put(images...)
	b.put(contours)
	m := b.p.matcher
	look := func(readAt time.Time) string {
		t.Helper()
		study, err := st.Study(contours.String(dicom.StudyInstanceUID))
		if err != nil {
			t.Fatal(err)
		}
		m.asOf = readAt
		for _, in := range study.Instances {
			if in.SOPInstanceUID == contours.String(dicom.SOPInstanceUID) {
				if err := m.consider(t.Context(), study, in); err != nil {
					t.Fatal(err)
				}
			}
		}
		if study, err = st.Study(study.UID); err != nil || len(study.States) != 1 {
			t.Fatalf("%v, %+v", err, study.States)
		}
		return study.States[0].Name
	}
	read := time.Now()
	time.Sleep(2 * o.Quiet) // headers
	if name := look(read); name != StateWaiting {
		t.Errorf("%s after the study was read too early to know, want %s", name, StateWaiting)
	}
	if name := look(time.Now()); name != StateQueued {
		t.Errorf("%s after the quiet period, want %s", name, StateQueued)
	}
}
