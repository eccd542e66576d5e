package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

// A desk answers what a person asks of a node: how it fares, what became of a study, and what is to be done about it. No answer
// holds patient data: the key is the Study Instance UID.
type desk struct {
	store    *store.Store
	pipeline *pipeline.Pipeline
	server   *dimse.Server // nil: the node does not run
	tls      *dimse.TLS    // nil: none
	cfg      Config
	since    time.Time
	log      *slog.Logger
}

// handler is what the control socket speaks. The monitoring page has nothing of it but [desk.sums].
func (d *desk) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, of func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := of(r)
			code := http.StatusOK
			if err != nil {
				code, v = http.StatusInternalServerError, map[string]string{"error": err.Error()}
				if errors.Is(err, store.ErrNotFound) {
					code = http.StatusNotFound
				}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			if err := json.NewEncoder(w).Encode(v); err != nil {
				d.log.Debug("control socket", "err", err)
			}
		})
	}
	answer("GET /status", func(r *http.Request) (any, error) { return d.overview(r.Context()) })
	answer("GET /studies/{uid}", func(r *http.Request) (any, error) { return d.study(r.PathValue("uid")) })
	answer("GET /balance", func(r *http.Request) (any, error) { return d.pipeline.Balance(r.Context()) })
	answer("POST /requeue", func(r *http.Request) (any, error) {
		return d.requeue(context.WithoutCancel(r.Context()), r.FormValue("study"), r.FormValue("job"), r.Form["release"])
	})
	answer("POST /discard", func(r *http.Request) (any, error) {
		return d.discard(context.WithoutCancel(r.Context()), r.FormValue("study"), r.FormValue("instance"), r.FormValue("destination"), r.FormValue("force") != "")
	})
	return mux
}

// An overview is how a node fares.
type overview struct {
	Version string    `json:"version"`
	Running bool      `json:"running"`
	Since   time.Time `json:"since,omitzero"`
	AET     string    `json:"aet"`
	Data    string    `json:"data"`

	Space    fullness           `json:"space"`
	DICOM    *dimse.ServerStats `json:"dicom,omitempty"`
	Pipeline *pipeline.Stats    `json:"pipeline,omitempty"`

	Studies   int            `json:"studies"`
	Instances map[string]int `json:"instances"` // received ones, by their state

	Queues       map[string]store.QueueStats `json:"queues"`
	Destinations []pipeline.DestinationStats `json:"destinations"`
	Parked       []parkedJob                 `json:"parked,omitempty"` // the first of them
	ParkedJobs   int                         `json:"parkedJobs"`
	Expires      time.Time                   `json:"tlsExpires,omitzero"` // our TLS certificate
	Damage       []store.Damage              `json:"damage,omitempty"`
	Alerts       []string                    `json:"alerts,omitempty"` // what wants a person, in words
}

// A parkedJob is one that was given up.
type parkedJob struct {
	Key    string `json:"key"`
	Queue  string `json:"queue"`
	Study  string `json:"study,omitempty"`
	Tries  int    `json:"tries"`
	Reason string `json:"reason"`
}

// mostParked bounds how many parked jobs an overview lists.
const mostParked = 20

func (d *desk) overview(ctx context.Context) (*overview, error) {
	totals, err := d.pipeline.Totals(ctx)
	if err != nil {
		return nil, err
	}
	o := &overview{
		Version: version, AET: d.cfg.DICOM.AET, Data: d.cfg.Data, Studies: totals.Studies, Instances: totals.Instances, Space: d.fullness(),
		Queues: d.store.Queues(), Destinations: d.pipeline.Destinations(), Damage: d.store.Damage(),
	}
	if d.server != nil {
		served, done := d.server.Stats(), d.pipeline.Stats()
		o.Running, o.Since, o.DICOM, o.Pipeline = true, d.since, &served, &done
	}
	if d.tls != nil {
		o.Expires = d.tls.Expires()
	}
	for _, queue := range slices.Sorted(maps.Keys(o.Queues)) {
		o.ParkedJobs += o.Queues[queue].Parked
		if o.Queues[queue].Parked == 0 || len(o.Parked) == mostParked {
			continue
		}
		parked, err := d.store.ParkedJobs(queue, mostParked-len(o.Parked))
		if err != nil {
			return nil, err
		}
		for _, j := range parked {
			o.Parked = append(o.Parked, parkedJob{j.Key, j.Queue, j.Study, j.Tries, j.LastError})
		}
	}
	o.Alerts = o.alerts()
	return o, nil
}

// alerts are what wants a person.
func (o *overview) alerts() (say []string) {
	add := func(n int, what, rest string) {
		if n > 0 {
			say = append(say, counted(n, what)+" "+rest)
		}
	}
	add(len(o.Damage), "place", "in the data folder cannot be read; see the log of the last start for file and offset")
	say = append(say, o.Space.alerts()...)
	add(o.Instances[pipeline.StateFailed], "instance", "of computations that were given up; radnode requeue STUDY tries again")
	add(o.Instances[pipeline.StateQuarantined], "instance", "in quarantine; radnode status STUDY says why and what to do")
	add(o.Instances[pipeline.StateConflict], "instance", "came with other bytes under a UID that was taken; kept as evidence, see radnode status STUDY")
	add(o.ParkedJobs, "job", "given up; radnode requeue STUDY or JOB tries again")
	if left := time.Until(o.Expires); !o.Expires.IsZero() && left < dimse.ExpiresSoon {
		word := "expires"
		if left <= 0 {
			word = "expired"
		}
		say = append(say, fmt.Sprintf("our TLS certificate %s on %s: renew the file, no restart is needed", word, clock(o.Expires)))
	}
	for _, to := range o.Destinations {
		if !to.Down.IsZero() {
			say = append(say, fmt.Sprintf("%s is down since %s: %s", to.To, clock(to.Down), strings.TrimPrefix(to.LastError, to.To+": ")))
		}
		if !to.Configured {
			say = append(say, fmt.Sprintf("%s for %s, which is not configured any more (%d wait, %d given up, %d not confirmed); radnode discard --destination %s drops them",
				counted(to.Waiting+to.Parked+to.Unconfirmed, "delivery"), to.To, to.Waiting, to.Parked, to.Unconfirmed, to.To))
		}
	}
	return say
}

// sums are what the monitoring page may show of a node: counters, nothing of a study.
func (d *desk) sums() map[string]any {
	totals := d.pipeline.LastTotals()
	sums := map[string]any{
		"version": version, "dicom": d.server.Stats(), "pipeline": d.pipeline.Stats(), "queues": d.store.Queues(),
		"since": d.since, "destinations": d.pipeline.Destinations(), "damage": len(d.store.Damage()),
	}
	if !totals.At.IsZero() {
		sums["instances"], sums["studies"], sums["counted"] = totals.Instances, totals.Studies, totals.At
	}
	if d.tls != nil {
		if expires := d.tls.Expires(); !expires.IsZero() {
			sums["tlsExpires"] = expires
		}
	}
	sums["space"] = d.fullness()
	return sums
}

// A studyReport is what became of a study.
type studyReport struct {
	Study     string           `json:"study"`
	Instances map[string]int   `json:"instances"` // received ones, by their state
	Contours  []contoursReport `json:"contours,omitempty"`
	Series    []seriesReport   `json:"series"` // of what was received

	Quarantined []quarantinedReport  `json:"quarantined,omitempty"`
	Conflicts   []conflictReport     `json:"conflicts,omitempty"`
	Deliveries  []pipeline.Delivery  `json:"deliveries,omitempty"`
	Jobs        []parkedOrPendingJob `json:"jobs,omitempty"` // that are not done
	Abroad      []string             `json:"contoursIn,omitempty"`
}

// A contoursReport is what became of a contour object on one series.
type contoursReport struct {
	pipeline.Story
	MissingImages int `json:"missingImages,omitempty"`
}

// A seriesReport counts what was received of a series.
type seriesReport struct {
	Series   string         `json:"series"`
	Modality string         `json:"modality"`
	States   map[string]int `json:"states"`
}

type quarantinedReport struct {
	Instance string    `json:"instance"`
	Reason   string    `json:"reason"`
	Received time.Time `json:"received"`
	From     string    `json:"from"` // AE title
}

type conflictReport struct {
	Instance string     `json:"instance"`
	Evidence []evidence `json:"evidence"`
}

type evidence struct {
	Digest   string    `json:"sha256"`
	Bytes    int64     `json:"bytes"`
	Received time.Time `json:"received"`
	From     string    `json:"from"` // AE title
}

type parkedOrPendingJob struct {
	parkedJob
	State string    `json:"state"`
	RunAt time.Time `json:"runAt"`
}

func (d *desk) study(uid string) (*studyReport, error) {
	a, study, err := d.pipeline.Account(uid)
	if err != nil {
		return nil, d.unknown(err, "study", uid)
	}
	jobs, err := d.store.JobsOf(uid)
	if err != nil {
		return nil, err
	}
	r := &studyReport{Study: uid, Instances: a.Counts(), Series: []seriesReport{}, Deliveries: d.deliveries(study, jobs), Abroad: a.Abroad}
	for _, s := range a.Stories {
		r.Contours = append(r.Contours, contoursReport{s, len(s.Missing)})
	}
	of := make(map[string]*seriesReport)
	for _, in := range study.Instances {
		name, received := a.Instances[in.SOPInstanceUID]
		if !received {
			continue
		}
		s := of[in.SeriesInstanceUID]
		if s == nil {
			s = &seriesReport{in.SeriesInstanceUID, in.Modality, map[string]int{}}
			of[in.SeriesInstanceUID] = s
		}
		s.States[name]++
		if in.Quarantine != "" {
			r.Quarantined = append(r.Quarantined, quarantinedReport{in.SOPInstanceUID, in.Quarantine, in.Received, in.SourceAET})
		}
		if in.Conflicts == 0 {
			continue
		}
		kept, err := d.store.Conflicts(in.SOPInstanceUID)
		if err != nil {
			return nil, err
		}
		c := conflictReport{Instance: in.SOPInstanceUID}
		for _, e := range kept {
			c.Evidence = append(c.Evidence, evidence{fmt.Sprintf("%x", e.Digest), e.Size, e.Received, e.SourceAET})
		}
		r.Conflicts = append(r.Conflicts, c)
	}
	for _, uid := range slices.Sorted(maps.Keys(of)) {
		r.Series = append(r.Series, *of[uid])
	}
	for _, j := range jobs {
		r.Jobs = append(r.Jobs, parkedOrPendingJob{parkedJob{j.Key, j.Queue, j.Study, j.Tries, j.LastError}, string(j.State), j.RunAt})
	}
	return r, nil
}

// deliveries are those of a study; one that waits for a destination which is down says so.
func (d *desk) deliveries(study store.Study, jobs []store.Job) []pipeline.Delivery {
	all := pipeline.Deliveries(study, jobs)
	for _, to := range d.pipeline.Destinations() {
		for i := range all {
			if all[i].To == to.To && all[i].State == pipeline.StateWaiting && !to.Down.IsZero() {
				all[i].NextTry, all[i].LastError = time.Time{}, "the destination is down since "+clock(to.Down)
			}
		}
	}
	return all
}

// An unknownError says in words that there is no such thing here.
type unknownError struct{ what, uid string }

func (e unknownError) Error() string {
	return fmt.Sprintf("%s %s is unknown here: nothing of it was received, or it has left", e.what, e.uid)
}

func (unknownError) Is(target error) bool { return target == store.ErrNotFound }

func (d *desk) unknown(err error, what, uid string) error {
	if errors.Is(err, store.ErrNotFound) {
		return unknownError{what, uid}
	}
	return err
}

func (d *desk) requeue(ctx context.Context, study, job string, release []string) (n pipeline.Requeued, err error) {
	switch {
	case job != "":
		if n, err = d.pipeline.RequeueJob(ctx, job); errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("no job %s waits or was given up here; radnode status names those that were", job)
		}
		return n, err
	case slices.Contains(release, "all"):
		n, err = d.pipeline.Release(ctx, study)
	case len(release) > 0:
		n, err = d.pipeline.Release(ctx, study, release...)
	default:
		n, err = d.pipeline.Requeue(ctx, study)
	}
	return n, d.unknown(err, "study", study)
}

func (d *desk) discard(ctx context.Context, study, instance, destination string, force bool) (pipeline.Dropped, error) {
	switch {
	case destination != "":
		return d.pipeline.DropDestination(ctx, destination)
	case instance != "":
		dropped, err := d.pipeline.DiscardInstance(ctx, instance, force)
		if beside := (*pipeline.BesideError)(nil); errors.As(err, &beside) {
			err = fmt.Errorf("%w. See radnode status STUDY; --force removes all of it", err)
		}
		return dropped, d.unknown(err, "instance", instance)
	}
	dropped, err := d.pipeline.Discard(ctx, study, force)
	var unfinished *pipeline.UnfinishedError
	if errors.As(err, &unfinished) {
		err = fmt.Errorf("study %s is not finished: %s; nothing was removed, --force removes all of it: %s, %s",
			study, unfinished.Why, counted(unfinished.Holds.Instances, "instance"), bytesText(unfinished.Holds.Bytes))
	}
	return dropped, d.unknown(err, "study", study)
}

// A fullness is how full a node is.
type fullness struct {
	Held    int64 `json:"held"`              // bytes of all instances and evidence
	Bound   int64 `json:"quota,omitempty"`   // bytes from which on finished studies leave
	Total   int64 `json:"total,omitempty"`   // bytes of the file system; 0: it does not say
	Free    int64 `json:"free,omitempty"`    // bytes of it
	Reserve int64 `json:"reserve,omitempty"` // bytes of it that new objects do not get
	// FullIn is in how many seconds new objects will be refused, at the rate of the last minutes; 0: not in sight.
	FullIn   float64 `json:"fullIn,omitempty"`
	Refusing bool    `json:"refusing,omitempty"` // new objects are refused
	Reason   string  `json:"reason,omitempty"`   // why, or what else the disk does not do
}

func (d *desk) fullness() fullness {
	disk := d.store.Space()
	used, err := d.pipeline.Space()
	if err != nil {
		d.log.Warn("what the store holds cannot be told", "err", err)
	}
	s := fullness{
		Held: used.Bytes, Total: disk.Total, Free: disk.Free, Reserve: disk.Reserve, FullIn: disk.FullIn.Seconds(), Refusing: disk.Refusing, Reason: disk.Reason,
	}
	s.Bound = d.cfg.Retention.retention().Bound(used)
	return s
}

func (s fullness) alerts() (say []string) {
	switch {
	case s.Refusing:
		say = append(say, "new objects are refused: "+s.Reason)
	case s.Reason != "":
		say = append(say, s.Reason)
	}
	if s.FullIn > 0 && s.FullIn < (24*time.Hour).Seconds() {
		say = append(say, fmt.Sprintf("the disk is full in about %s", time.Duration(s.FullIn*float64(time.Second)).Round(time.Minute)))
	}
	if s.Bound > 0 && s.Held > s.Bound {
		say = append(say, fmt.Sprintf("the store holds %s, more than the %s of retention.quota: finished studies leave within the hour, what is not finished stays", bytesText(s.Held), bytesText(s.Bound)))
	}
	return say
}

// clock writes a moment for people, to the second, with its zone.
func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 -0700")
}

// counted writes a number of things.
func counted(n int, what string) string {
	if n != 1 {
		if stem, ok := strings.CutSuffix(what, "y"); ok {
			return fmt.Sprint(n, " ", stem, "ies")
		}
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	for _, u := range []struct {
		bytes float64
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if float64(n) >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// in names a state for people.
func inWords(state string) string {
	return cmp.Or(map[string]string{
		pipeline.StateUnmatched: "unmatched: no contours refer to them", pipeline.StateWaiting: "waiting for images", pipeline.StateQueued: "queued",
		pipeline.StateComputed: "computed", pipeline.StateRefused: "refused: cannot be measured", pipeline.StateFailed: "failed: given up",
		pipeline.StateQuarantined: "quarantined", pipeline.StateConflict: "conflict: kept as evidence", pipeline.StateNotMeasured: "not measured: of no use here",
	}[state], state)
}
