// Package pipeline tells the story of a study: which images a contour object needs, when they are all here, what is
// measured on them, and how the report reaches its destinations.
//
// It keeps no truth of its own. The store holds instances, states and jobs; a channel only says "look again", so a start
// after a crash is the same as any other look. The steps are, in the order a study takes them:
//
//   - match.go: is every image here that these contours name?
//   - rules.go: which regions are measured, and by which profile
//   - measure.go: images and contours to values, with no store and no network
//   - work.go: who computes, how often a study is tried, and how one that crashes, hangs or is killed stops no other
//   - memory.go: what may be computed at once
//   - style.go: in what form a destination wants results
//   - report.go: values to a Segmentation and Structured Reports; the known ones and the words are summary.go, what shaped
//     them steps.go
//   - sheet.go: the same on pages, as a PDF and as captures
//   - history.go: what earlier reports of the patient say
//   - deliver.go: a durable outbox for each destination
//   - account.go: what became of every instance that was received; hand.go: what a person may do about it
//   - retention.go: what may leave when the disk is to hold more
//   - destination.go: whether a destination is worked with now
//   - commit.go: Storage Commitment, both ways
//
// Start at [New] and [Pipeline.Run].
package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/store"
)

// Options say how studies are measured and where reports go. The zero value measures with the built-in profiles and keeps
// the reports in the store.
type Options struct {
	Rules    []Rule                      // first match wins; nothing matched = the built-in default for the modality
	Profiles map[string]features.Profile // by name

	Style   Style         // of results, where a destination does not say otherwise
	Deliver []Destination // all results go to each of them
	ReplyTo []Destination // where Deliver is empty, they go to the one of these that sent the contours

	Equipment Equipment     // how the reports name this installation
	Workers   int           // studies computed at once; 0 = one for each processor
	Memory    int64         // bytes that all of them may hold at once; 0 = DefaultMemory
	Timeout   time.Duration // of one computation, waiting aside; 0 = DefaultTimeout
	Quiet     time.Duration // the fallback of match.go; 0 = one minute

	// Also are modalities: where contours are drawn on one series, other series of these modalities in the study that share its
	// frame of reference are measured too, as the PET of a PET/CT.
	Also           []string
	ReportRefusals bool // what cannot be measured is said in a report of its own

	Retention Retention // when finished studies leave; the zero value keeps everything

	Backoff Backoff // between tries of a delivery
	Logger  *slog.Logger

	times commitTimes
}

// Equipment is what the reports say of this installation: PS3.3 C.7.5.1 General Equipment and PS3.16 TID 1004.
type Equipment struct {
	Manufacturer, Model, SoftwareVersion string
	StationName                          string // what the site calls it
	DeviceUID                            string // of this installation
}

// Wrote says whether an object was made by this product, here or on another machine.
func (e Equipment) Wrote(d *dicom.DataSet) bool {
	return d.String(dicom.Manufacturer) == e.Manufacturer && d.String(dicom.ManufacturerModelName) == e.Model
}

// A Pipeline takes studies from the store and puts results back into it.
type Pipeline struct {
	store  *store.Store
	sender Sender
	opt    Options
	log    *slog.Logger
	memory *Memory
	config string // digest of what decides whether a study can be measured, and what its report says

	matcher *matcher
	crew    *crew
	outbox  outbox
	tally   tally
	measure func(context.Context, Request) (*Measured, error) // that of memory

	outcomeRetry time.Duration // that of work.go, and in tests less

	checking chan struct{} // capacity 1: instances are read for a peer that asks whether they are kept

	mu    sync.Mutex // guards stats
	stats Stats
}

// Stats counts what a pipeline has done since it started.
type Stats struct {
	Waiting  int `json:"waiting"` // contour objects that wait for images, now
	Computed int `json:"computed"`
	Refused  int `json:"refused"`

	Reasons map[refusal.Code]int `json:"reasons,omitempty"` // refusals by their reason; one may have several

	Failed      int `json:"failed"` // computations given up after several tries
	Stuck       int `json:"stuck"`  // computations that do not stop though they were told to, now
	Delivered   int `json:"delivered"`
	Undelivered int `json:"undelivered"` // tries of a delivery that failed
}

// Queues of the store that the pipeline works on.
const (
	computeQueue  = "compute"
	deliverPrefix = "deliver:"           // followed by the destination, AET@HOST:PORT
	commitPrefix  = "commit:"            // the same: Storage Commitment of what was delivered
	reportPrefix  = "report-commitment:" // followed by the AE title that asked for it
)

// New prepares a pipeline; nothing moves before [Pipeline.Run].
func New(st *store.Store, sender Sender, o Options) (*Pipeline, error) {
	if o.Workers <= 0 {
		o.Workers = imaging.Processors()
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Quiet <= 0 {
		o.Quiet = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Backoff = o.Backoff.withDefaults()
	o.times = o.times.withDefaults()
	if e := o.Equipment; e.Manufacturer == "" || e.Model == "" || e.SoftwareVersion == "" || e.StationName == "" || !dicom.ValidUID(e.DeviceUID) {
		return nil, fmt.Errorf("pipeline: Options.Equipment %+v is not complete: segmentations and reports need all of it (PS3.3 C.7.5.2)", e)
	}
	if err := CheckRules(o.Rules, o.Profiles); err != nil {
		return nil, err
	}
	for _, s := range o.allStyles() {
		if err := s.Check(); err != nil {
			return nil, fmt.Errorf("pipeline: Options.Style: %w", err)
		}
	}
	p := &Pipeline{store: st, sender: sender, opt: o, log: o.Logger, memory: NewMemory(o.Memory), checking: make(chan struct{}, 1),
		outcomeRetry: outcomeRetry, tally: tally{wanted: make(chan struct{}, 1)}}
	p.config = o.digest(p.memory.limit)
	p.matcher, p.crew, p.measure = newMatcher(p), newCrew(o.Workers), p.memory.Measure
	return p, nil
}

// digest names what decides whether a study can be measured and what its report says, beside the study.
func (o Options) digest(memory int64) string {
	h := sha256.New()
	fmt.Fprintln(h, o.settings(o.allStyles()), addresses(o.Deliver), addresses(o.ReplyTo), memory)
	for _, r := range o.Rules {
		fmt.Fprintf(h, "%+v\n", r)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Profiles)) {
		fmt.Fprintln(h, name, o.Profiles[name].Hash())
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// settings are what every report depends on, whatever is measured and by which profile.
func (o Options) settings(styles []Style) string {
	return fmt.Sprint(o.Equipment.SoftwareVersion, " ", o.Equipment.DeviceUID, styles)
}

// Run works until ctx is done and returns nil. Computations under way are given back to the queue, deliveries are finished, each
// within a bound. It returns an error only where the store fails.
func (p *Pipeline) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	changed := p.store.Watch(ctx) // before the first look, so that nothing falls between the two
	g.Go(func() error { return p.matcher.run(ctx, changed) })
	g.Go(func() error { return p.retain(ctx) })
	g.Go(func() error { return p.keepTotals(ctx) })
	p.crew.hands, p.crew.since = g, time.Now()
	for range p.crew.size {
		g.Go(func() error { return p.man(ctx) })
	}
	p.outbox.open(func(queue string) {
		g.Go(func() error { return p.carry(ctx, queue) })
	})
	p.abandoned()
	for queue := range p.store.Queues() {
		p.outbox.serve(queue) // what an earlier run left
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("pipeline: %w", err)
	}
	return nil
}

// Stats returns the counters of this run.
func (p *Pipeline) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Reasons = maps.Clone(s.Reasons)
	return s
}

func (p *Pipeline) count(f func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.stats)
}
