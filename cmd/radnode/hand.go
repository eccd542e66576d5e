package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
)

type requeueCmd struct {
	nodeFlags
	Study   string   `arg:"" placeholder:"STUDY|JOB" help:"Study Instance UID, or the key of a job as radnode status names it."`
	Release []string `help:"Lift the quarantine of these instances instead, or of all." placeholder:"UID|all" sep:","`
}

func (c requeueCmd) Run(e *env) error {
	ask := url.Values{"study": {c.Study}, "release": c.Release}
	if !dicom.ValidUID(c.Study) {
		if len(c.Release) > 0 || !strings.Contains(c.Study, "/") {
			return usageError{fmt.Errorf("%q is neither a Study Instance UID (0020,000D) nor the key of a job", c.Study)}
		}
		ask = url.Values{"job": {c.Study}}
	}
	node, err := c.reach(e)
	if err != nil {
		return err
	}
	var n pipeline.Requeued
	err = node.ask(e.ctx, "POST", "/requeue", ask, &n)
	if err := errors.Join(err, node.close()); err != nil {
		return err
	}
	if len(c.Release) > 0 {
		fmt.Fprintf(e.stdout, "%s released\n", counted(n.Released, "instance"))
		return nil
	}
	if n == (pipeline.Requeued{}) {
		return fmt.Errorf("nothing was given up or refused there; radnode status %s says what it waits for", c.Study)
	}
	fmt.Fprintf(e.stdout, "tried again: %s that were given up, %d that were refused, %s\n", counted(n.Computations, "computation"), n.Refused, counted(n.Deliveries, "delivery"))
	return nil
}

type discardCmd struct {
	nodeFlags
	Study       string `arg:"" optional:"" placeholder:"STUDY" help:"Study Instance UID: remove all of it, what was received and what was made."`
	Instance    string `help:"Remove this instance, if it is in quarantine, or else what came with other bytes under its UID." placeholder:"UID" xor:"what"`
	Destination string `help:"Drop what waits for this destination." placeholder:"AET@HOST:PORT" xor:"what"`
	Force       bool   `help:"Also a study that is not finished, and with an instance in quarantine what came with other bytes under its UID."`
}

func (c discardCmd) Run(e *env) error {
	ask := url.Values{}
	switch {
	case (c.Study != "") == (c.Instance != "" || c.Destination != ""):
		return usageError{errors.New("say what to discard: a study, --instance or --destination")}
	case c.Destination != "":
		to, err := dimse.ParsePeer(c.Destination)
		if err != nil {
			return usageError{err}
		}
		ask.Set("destination", to.String())
	case c.Instance != "":
		if !dicom.ValidUID(c.Instance) {
			return usageError{fmt.Errorf("--instance: %q is no SOP Instance UID (0008,0018)", c.Instance)}
		}
		ask.Set("instance", c.Instance)
	default:
		if !dicom.ValidUID(c.Study) {
			return usageError{fmt.Errorf("%q is no Study Instance UID (0020,000D)", c.Study)}
		}
		ask.Set("study", c.Study)
	}
	if c.Force {
		ask.Set("force", "yes")
	}
	node, err := c.reach(e)
	if err != nil {
		return err
	}
	var n pipeline.Dropped
	err = node.ask(e.ctx, "POST", "/discard", ask, &n)
	if err := errors.Join(err, node.close()); err != nil {
		return err
	}
	if c.Destination != "" {
		if n.Studies == 0 {
			fmt.Fprintf(e.stdout, "nothing waits for %s; radnode status names the destinations\n", c.Destination)
			return nil
		}
		fmt.Fprintf(e.stdout, "dropped: %s of %s\n", counted(n.Deliveries, "delivery"), counted(n.Studies, "study"))
		return nil
	}
	fmt.Fprintf(e.stdout, "removed: %s, %s", counted(n.Instances, "instance"), bytesText(n.Bytes))
	if n.Deliveries > 0 {
		fmt.Fprintf(e.stdout, ", %s that waited", counted(n.Deliveries, "delivery"))
	}
	fmt.Fprintln(e.stdout)
	return nil
}
