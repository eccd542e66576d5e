package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

type statusCmd struct {
	nodeFlags
	Study  string `arg:"" optional:"" placeholder:"STUDY" help:"Study Instance UID: what became of it. Without: how the node fares."`
	All    bool   `help:"Every missing image, not the first few."`
	Format string `enum:"text,json" default:"text" help:"text for people, json for programs."`
}

func (c statusCmd) Run(e *env) error {
	if c.Study != "" && !dicom.ValidUID(c.Study) {
		return usageError{fmt.Errorf("%q is no Study Instance UID (0020,000D)", c.Study)}
	}
	node, err := c.reach(e)
	if err != nil {
		return err
	}
	var say func(io.Writer)
	var answer any
	if c.Study == "" {
		o := &overview{}
		answer, say = o, o.print
		err = node.ask(e.ctx, "GET", "/status", nil, o)
	} else {
		r := &studyReport{}
		answer, say = r, func(w io.Writer) { r.print(w, c.All) }
		err = node.ask(e.ctx, "GET", "/studies/"+c.Study, nil, r)
	}
	if err := errors.Join(err, node.close()); err != nil {
		return err
	}
	if c.Format == "json" {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		return out.Encode(answer)
	}
	say(e.stdout)
	return nil
}

// firstMissing is how many missing images are named where not all are asked for.
const firstMissing = 3

func (o *overview) print(w io.Writer) {
	if o.Running {
		fmt.Fprintf(w, "radnode %s, AE title %s, running since %s (%s), data in %s\n", o.Version, o.AET, clock(o.Since), time.Since(o.Since).Round(time.Second), o.Data)
	} else {
		fmt.Fprintf(w, "radnode %s does not run; data in %s\n", o.Version, o.Data)
	}
	for _, alert := range o.Alerts {
		fmt.Fprintf(w, "! %s\n", alert)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	s := o.Space
	fmt.Fprintf(t, "disk\t%s held", bytesText(s.Held))
	if s.Bound > 0 {
		fmt.Fprintf(t, " of %s until finished studies leave", bytesText(s.Bound))
	}
	if s.Total > 0 {
		fmt.Fprintf(t, "; %s of %s free", bytesText(s.Free), bytesText(s.Total))
	}
	if s.FullIn > 0 {
		fmt.Fprintf(t, "; full in about %s at the rate of the last minutes", time.Duration(s.FullIn*float64(time.Second)).Round(time.Minute))
	}
	fmt.Fprintln(t)
	if d := o.DICOM; d != nil {
		fmt.Fprintf(t, "associations\t%d open, %d accepted, %d refused%s, %d aborted since the start\n", d.AssociationsOpen, d.Associations, d.AssociationsRefused, refusalWords(d.Refusals), d.AssociationsAborted)
		fmt.Fprintf(t, "objects\t%d stored, %d refused since the start\n", d.ObjectsStored, d.ObjectsRefused)
	}
	fmt.Fprintf(t, "studies\t%d\n", o.Studies)
	for _, name := range pipeline.InstanceStates {
		if n := o.Instances[name]; n > 0 {
			fmt.Fprintf(t, "instances\t%d %s\n", n, inWords(name))
		}
	}
	for _, queue := range slices.Sorted(maps.Keys(o.Queues)) {
		q := o.Queues[queue]
		fmt.Fprintf(t, "queue %s\t%d waiting, %d under way, %d given up, %d done\n", queue, q.Pending, q.Leased, q.Parked, q.Done)
	}
	for _, d := range o.Destinations {
		fmt.Fprintf(t, "destination %s\t%s\n", d.To, strings.Join(destinationWords(d, o.Running), "; "))
	}
	for _, j := range o.Parked {
		fmt.Fprintf(t, "given up\t%s, study %s, after %s: %s\n", j.Key, j.Study, tries(j.Tries), j.Reason)
	}
	if more := o.ParkedJobs - len(o.Parked); more > 0 {
		fmt.Fprintf(t, "given up\t%d more\n", more)
	}
	for _, d := range o.Damage {
		fmt.Fprintf(t, "damage\t%s at %d, %d bytes: %s\n", d.File, d.Offset, d.Length, d.Reason)
	}
}

// refusalWords say why associations were refused.
func refusalWords(why map[dimse.Refusal]int64) string {
	var say []string
	for _, r := range slices.Sorted(maps.Keys(why)) {
		say = append(say, fmt.Sprint(why[r], " ", strings.ReplaceAll(string(r), "_", " ")))
	}
	if len(say) == 0 {
		return ""
	}
	return " (" + strings.Join(say, ", ") + ")"
}

// destinationWords say how a destination fares.
func destinationWords(d pipeline.DestinationStats, running bool) (say []string) {
	switch {
	case !running:
		say = append(say, fmt.Sprintf("%d waiting, %d given up", d.Waiting, d.Parked))
		if !d.Configured {
			say = append(say, "not configured any more")
		}
		return say
	case !d.Down.IsZero():
		text := "down since " + clock(d.Down)
		if !d.NextTry.IsZero() {
			text += ", tried again at " + clock(d.NextTry)
		}
		say = append(say, text)
	case d.Delivered == 0 && d.Parked == 0:
		say = append(say, "not called since the start")
	default:
		say = append(say, "up")
	}
	say = append(say, fmt.Sprintf("%d waiting, %d given up, %d delivered since the start", d.Waiting, d.Parked, d.Delivered))
	if d.Commit {
		say = append(say, fmt.Sprintf("%d confirmed, %d without an answer, %d lost there", d.Confirmed, d.Unconfirmed, d.Lost))
	}
	if !d.NotOffered.IsZero() {
		say = append(say, "does not offer Storage Commitment")
	}
	if !d.Configured {
		say = append(say, "not configured any more")
	}
	return say
}

func (r *studyReport) print(w io.Writer, all bool) {
	fmt.Fprintf(w, "study %s\n", r.Study)
	for _, name := range pipeline.InstanceStates {
		if n := r.Instances[name]; n > 0 {
			fmt.Fprintf(w, "  %s %s\n", counted(n, "instance"), inWords(name))
		}
	}
	for _, s := range r.Series {
		var states []string
		for _, name := range pipeline.InstanceStates {
			if n := s.States[name]; n > 0 {
				states = append(states, fmt.Sprint(n, " ", strings.ReplaceAll(name, "_", " ")))
			}
		}
		fmt.Fprintf(w, "series %s (%s): %s\n", s.Series, s.Modality, strings.Join(states, ", "))
	}
	if len(r.Contours) == 0 && len(r.Abroad) == 0 && len(r.Quarantined) == 0 {
		fmt.Fprintln(w, "Nothing is computed: no contours (RTSTRUCT or SEG) that refer to these images have been received.")
	}
	for _, uid := range r.Abroad {
		fmt.Fprintf(w, "contours in study %s refer to images of this one: radnode status %s\n", uid, uid)
	}
	for _, c := range r.Contours {
		c.print(w, all)
	}
	for _, d := range r.Deliveries {
		fmt.Fprintf(w, "delivery of %s to %s: %s\n", d.Report, d.To, deliveryWords(d))
	}
	for _, j := range r.Jobs {
		if j.State == string(store.Parked) {
			fmt.Fprintf(w, "given up: job %s after %s: %s\n", j.Key, tries(j.Tries), j.Reason)
		}
	}
	why := map[string]int{}
	for _, q := range r.Quarantined {
		why[q.Reason]++
	}
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		fmt.Fprintf(w, "%s in quarantine: %s\n", counted(why[reason], "instance"), reason)
	}
	for _, q := range r.Quarantined[:min(len(r.Quarantined), most(all))] {
		fmt.Fprintf(w, "  %s, received %s from %s\n", q.Instance, clock(q.Received), q.From)
	}
	if len(r.Quarantined) > 0 {
		fmt.Fprintf(w, "  to let them take part: radnode requeue %s --release all\n", r.Study)
		fmt.Fprintln(w, "  to remove one, and what came with other bytes under its UID: radnode discard --instance UID")
	}
	for _, c := range r.Conflicts {
		what := "the evidence"
		if slices.ContainsFunc(r.Quarantined, func(q quarantinedReport) bool { return q.Instance == c.Instance }) {
			what = "it and the evidence"
		}
		fmt.Fprintf(w, "conflict: %s came with other bytes; kept as evidence:\n", c.Instance)
		for _, e := range c.Evidence {
			fmt.Fprintf(w, "  sha256 %s, %s, received %s from %s\n", e.Digest, bytesText(e.Bytes), clock(e.Received), e.From)
		}
		fmt.Fprintf(w, "  to remove %s: radnode discard --instance %s\n", what, c.Instance)
	}
}

// most is how many of a list are named.
func most(all bool) int {
	if all {
		return 1 << 30
	}
	return firstMissing
}

func (c contoursReport) print(w io.Writer, all bool) {
	fmt.Fprintf(w, "contours %s", c.Contours)
	if c.Series != "" {
		fmt.Fprintf(w, " on series %s", c.Series)
	}
	when := "at"
	if c.State == pipeline.StateWaiting || c.State == pipeline.StateQueued {
		when = "since"
	}
	fmt.Fprintf(w, "\n  %s %s %s", inWords(c.State), when, clock(c.At))
	if c.Revision > 0 {
		fmt.Fprintf(w, ", revision %d", c.Revision)
	}
	if c.Images > 0 {
		fmt.Fprintf(w, ", %d images", c.Images)
	}
	fmt.Fprintln(w)
	if c.Rule != "" {
		fmt.Fprintf(w, "  started by: %s\n", c.Rule)
	}
	if c.Reason != "" {
		what := "why"
		if c.State == pipeline.StateComputed {
			what = "not measured" // regions that were left out
		}
		fmt.Fprintf(w, "  %s: %s\n", what, c.Reason)
	}
	for _, uid := range c.Missing[:min(len(c.Missing), most(all))] {
		fmt.Fprintf(w, "  missing: %s\n", uid)
	}
	if more := len(c.Missing) - most(all); more > 0 {
		fmt.Fprintf(w, "  missing: %d more; --all names them\n", more)
	}
	for _, uid := range c.Reports {
		fmt.Fprintf(w, "  report %s\n", uid)
	}
	switch {
	case c.State == pipeline.StateComputed && len(c.To) == 0:
		fmt.Fprintln(w, "  delivered nowhere: no destination is configured, and the sender is not among the peers")
	case c.State == pipeline.StateFailed, c.State == pipeline.StateRefused:
		fmt.Fprintln(w, "  radnode requeue with the study tries again")
	}
}

func tries(n int) string { return counted(n, "failed try") }

// deliveryWords say what became of a delivery.
func deliveryWords(d pipeline.Delivery) string {
	text := d.State
	switch d.State {
	case string(store.Parked):
		text = "given up after " + tries(d.Tries)
	case pipeline.StateWaiting:
		if d.Tries > 0 {
			text += " after " + tries(d.Tries)
		}
		if !d.NextTry.IsZero() {
			text += ", next at " + clock(d.NextTry)
		}
	default:
		text += " at " + clock(d.At)
	}
	if d.LastError != "" {
		text += ": " + d.LastError
	}
	return text
}
