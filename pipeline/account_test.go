package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// A cast is a study written down shortly: instances as "uid class series", states as "subject name series".
type cast struct {
	instances, states, elsewhere []string
}

var castClasses = map[string]store.Instance{
	"CT":    {SOPClassUID: dicom.CTImageStorage, Modality: "CT"},
	"OT":    {SOPClassUID: dicom.SecondaryCaptureImageStorage, Modality: "OT"},
	"RT":    {SOPClassUID: dicom.RTStructureSetStorage, Modality: "RTSTRUCT"},
	"SEG":   {SOPClassUID: dicom.SegmentationStorage, Modality: "SEG"},
	"SR":    {SOPClassUID: dicom.Comprehensive3DSRStorage, Modality: "SR"},
	"DOSE":  {SOPClassUID: "1.2.840.10008.5.1.4.1.1.481.2", Modality: "RTDOSE"},
	"apart": {SOPClassUID: dicom.CTImageStorage, Modality: "CT", Quarantine: "another patient"},
	"RTap":  {SOPClassUID: dicom.RTStructureSetStorage, Modality: "RTSTRUCT", Quarantine: "another patient"},
	"twice": {SOPClassUID: dicom.CTImageStorage, Modality: "CT", Conflicts: 2},
	"made":  {SOPClassUID: dicom.SegmentationStorage, Modality: "SEG", Origin: store.Computed},
}

func (c cast) study() (s store.Study, elsewhere []store.State) {
	s.UID = "1.2"
	states := func(lines []string) (out []store.State) {
		for _, line := range lines {
			f := strings.Fields(line)
			state := store.State{Study: s.UID, Subject: f[0], Name: f[1]}
			if len(f) > 2 {
				state.Detail = detail{Series: f[2]}.raw()
			}
			out = append(out, state)
		}
		return out
	}
	for _, line := range c.instances {
		f := strings.Fields(line)
		in := castClasses[f[1]]
		in.SOPInstanceUID, in.SeriesInstanceUID, in.StudyInstanceUID, in.Size = f[0], f[2], s.UID, 10
		s.Instances = append(s.Instances, in)
	}
	s.States = states(c.states)
	return s, states(c.elsewhere)
}

// What became of an instance, case by case.
func TestAccount(t *testing.T) {
	for _, c := range []struct {
		name string
		cast cast
		want string // uid=state, in order
	}{
		{"images alone", cast{[]string{"1 CT a", "2 CT a"}, nil, nil}, "1=unmatched 2=unmatched"},
		{"contours that were not looked at", cast{[]string{"9 RT r"}, nil, nil}, "9=waiting"},
		{"waiting by the name of the series", cast{[]string{"1 CT a", "9 RT r"}, []string{"9/a waiting"}, nil}, "1=waiting 9=waiting"},
		{"waiting by what is here", cast{[]string{"1 CT a", "9 SEG r"}, []string{"9/ waiting a"}, nil}, "1=waiting 9=waiting"},
		{"queued", cast{[]string{"1 CT a", "9 RT r"}, []string{"9/a queued a"}, nil}, "1=queued 9=queued"},
		{"computed, and another series", cast{[]string{"1 CT a", "2 CT b", "9 RT r"}, []string{"9/a computed a"}, nil}, "1=computed 2=unmatched 9=computed"},
		{"refused", cast{[]string{"1 CT a", "9 RT r"}, []string{"9/a refused"}, nil}, "1=refused 9=refused"},
		{"contours that cannot be read", cast{[]string{"1 CT a", "9 RT r"}, []string{"9 refused"}, nil}, "1=unmatched 9=refused"},
		{"given up", cast{[]string{"1 CT a", "9 RT r"}, []string{"9/a failed a"}, nil}, "1=failed 9=failed"},
		{"two contours on one series", cast{[]string{"1 CT a", "8 RT r", "9 RT r"}, []string{"8/a computed a", "9/a waiting a"}, nil}, "1=waiting 8=computed 9=waiting"},
		{"one refused, one computed", cast{[]string{"1 CT a", "8 RT r", "9 RT r"}, []string{"8/a refused a", "9/a computed a"}, nil}, "1=refused 8=refused 9=computed"},
		{"given up before refused", cast{[]string{"1 CT a", "8 RT r", "9 RT r"}, []string{"8/a refused a", "9/a failed a"}, nil}, "1=failed 8=refused 9=failed"},
		{"one contour object on two series", cast{[]string{"1 CT a", "2 CT b", "9 RT r"}, []string{"9/a computed a", "9/b queued b"}, nil}, "1=computed 2=queued 9=queued"},
		{"contours of another study", cast{[]string{"1 CT a", "2 CT b"}, nil, []string{"9/a waiting a"}}, "1=waiting 2=unmatched"},
		{"contours here and in another study", cast{[]string{"1 CT a", "8 RT r"}, []string{"8/a computed a"}, []string{"9/a queued a"}}, "1=queued 8=computed"},
		{"a segmentation of radnode came back", cast{[]string{"9 SEG r"}, []string{"9 own"}, nil}, "9=not_measured"},
		{"what radnode made was not received", cast{[]string{"1 CT a", "5 made s"}, nil, nil}, "1=unmatched"},
		{"reports and doses", cast{[]string{"1 SR a", "2 DOSE d"}, nil, nil}, "1=not_measured 2=not_measured"},
		{"a report in the series of the images", cast{[]string{"1 CT a", "2 SR a", "9 RT r"}, []string{"9/a computed a"}, nil}, "1=computed 2=not_measured 9=computed"},
		{"captures that contours refer to", cast{[]string{"1 OT a", "2 OT b", "9 RT r"}, []string{"9/a refused a"}, nil}, "1=refused 2=not_measured 9=refused"},
		{"quarantined, whatever refers to it", cast{[]string{"1 apart a", "2 CT a", "7 RTap r", "9 RT r"}, []string{"9/a waiting a"}, nil}, "1=quarantined 2=waiting 7=quarantined 9=waiting"},
		{"evidence is counted beside", cast{[]string{"1 twice a"}, nil, nil}, "1=unmatched +2"},
		{"states of others say nothing of images", cast{[]string{"1 CT a"}, []string{"used/1.9/9/a used", "deliver/X@h:1/5 delivered"}, nil}, "1=unmatched"},
	} {
		study, elsewhere := c.cast.study()
		a := NewAccount(study, elsewhere)
		var got []string
		for _, uid := range slices.Sorted(maps.Keys(a.Instances)) {
			got = append(got, uid+"="+a.Instances[uid])
		}
		if a.Conflicts > 0 {
			got = append(got, fmt.Sprint("+", a.Conflicts))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

// Whatever is in a study: every instance that was received is in one state of the closed set, evidence is counted once each, and
// nothing else is.
func TestAccountIsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		series := rapid.SampledFrom([]string{"a", "b", "c"})
		class := rapid.SampledFrom(slices.Sorted(maps.Keys(castClasses)))
		name := rapid.SampledFrom(append([]string{stateOwn, stateUsed, StateDelivered, "of a later radnode"}, leastFinished...))
		var c cast
		for i := range rapid.IntRange(0, 12).Draw(t, "instances") {
			c.instances = append(c.instances, fmt.Sprint(i, " ", class.Draw(t, "class"), " ", series.Draw(t, "series")))
		}
		states := func(label string) (out []string) {
			for range rapid.IntRange(0, 6).Draw(t, label) {
				of := strings.ReplaceAll(name.Draw(t, "name"), " ", "-")
				out = append(out, fmt.Sprint(rapid.IntRange(0, 14).Draw(t, "subject"), "/", series.Draw(t, "of"), " ", of, " ", series.Draw(t, "detail")))
			}
			return out
		}
		c.states, c.elsewhere = states("states"), states("elsewhere")
		study, elsewhere := c.study()
		a := NewAccount(study, elsewhere)
		want := 0
		for _, in := range study.Instances {
			want += in.Conflicts
			if in.Origin == store.Received {
				want++
			}
		}
		got := 0
		for name, n := range a.Counts() {
			if !slices.Contains(InstanceStates, name) {
				t.Fatalf("%q is no state of an instance", name)
			}
			got += n
		}
		if got != want {
			t.Fatalf("%d accounted for, %d received: %+v", got, want, c)
		}
	})
}

// A balance comes out, and what is lost, invented or counted twice shows on its day. A day that rises while it is read is no
// difference.
func TestBalance(t *testing.T) {
	day := func(date string, received int, left map[string]int) store.Day {
		return store.Day{Date: date, Received: received, Bytes: int64(received), Left: left}
	}
	states := map[string]map[string]int{
		"2026-11-01": {StateComputed: 8, StateConflict: 1},
		"2026-11-02": {StateUnmatched: 5},
		"2026-11-03": {StateWaiting: 7},
		"2026-11-04": {StateWaiting: 7},
		"2026-11-06": {StateQueued: 1},
	}
	before := []store.Day{
		day("2026-11-01", 10, map[string]int{LeftByAge: 1}), day("2026-11-02", 6, nil), day("2026-11-03", 6, nil), day("2026-11-04", 4, nil),
		day("2026-11-05", 3, map[string]int{Discarded: 3}),
	}
	after := []store.Day{
		day("2026-11-01", 10, map[string]int{LeftByAge: 1}), day("2026-11-02", 6, nil), day("2026-11-03", 9, nil), day("2026-11-04", 6, nil),
		day("2026-11-05", 3, map[string]int{Discarded: 3}),
	}
	var got []string
	for _, b := range balance(before, after, states) {
		got = append(got, fmt.Sprint(b.Day[8:], ": ", b.Received, " ", b.Difference))
	}
	const want = "01: 10 0, 02: 6 1, 03: 7 0, 04: 6 -1, 05: 3 0, 06: 0 -1"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("%s, want %s", s, want)
	}
}

// What may leave, and what never does by itself.
func TestUnfinished(t *testing.T) {
	computed := func(to ...string) store.State {
		return store.State{Subject: "9/a", Name: StateComputed, Detail: detail{Series: "a", Documents: map[string]string{"full": "5"}, To: to}.raw()}
	}
	delivery := func(name string) store.State { return store.State{Subject: "deliver/P@h:1/5", Name: name} }
	images := []string{"1 CT a", "9 RT r"}
	for _, c := range []struct {
		name      string
		instances []string
		states    []store.State
		jobs      []store.Job
		want      string
	}{
		{"images alone", []string{"1 CT a"}, nil, nil, ""},
		{"delivered", images, []store.State{computed("P@h:1"), delivery(StateDelivered)}, nil, ""},
		{"confirmed", images, []store.State{computed("P@h:1"), delivery(StateConfirmed)}, nil, ""},
		{"delivered before that was remembered", images, []store.State{computed("P@h:1")}, nil, ""},
		{"not delivered yet", images, []store.State{computed("P@h:1")}, []store.Job{{Queue: "deliver:P@h:1", State: store.Pending}}, "1 delivery to make"},
		{"not confirmed yet", images, []store.State{computed("P@h:1"), delivery(StateDelivered)}, []store.Job{{Queue: "commit:P@h:1", State: store.Pending}}, "1 delivery to be confirmed"},
		{"delivery given up", images, []store.State{computed("P@h:1"), delivery(StateUndelivered)}, []store.Job{{Queue: "deliver:P@h:1", State: store.Parked}}, "1 job given up, 1 report that was delivered to nobody"},
		{"dropped by hand", images, []store.State{computed("P@h:1"), delivery(StateUndelivered)}, nil, "1 report that was delivered to nobody"},
		{"dropped at one of two", images, []store.State{computed("P@h:1", "Q@h:1"), delivery(StateUndelivered), {Subject: "deliver/Q@h:1/5", Name: StateDelivered}}, nil, ""},
		{"no destination", images, []store.State{computed()}, nil, "1 report that was delivered to nobody"},
		{"refused", images, []store.State{{Subject: "9/a", Name: StateRefused}}, nil, ""},
		{"refused, and asked for again", images, []store.State{{Subject: "9/a", Name: StateRefused}}, []store.Job{{Queue: computeQueue, State: store.Leased}}, "1 job to do"},
		{"waiting", images, []store.State{{Subject: "9/a", Name: StateWaiting}}, nil, "instances: 2 waiting"},
		{"queued", images, []store.State{{Subject: "9/a", Name: StateQueued}}, nil, "instances: 2 queued"},
		{"given up", images, []store.State{{Subject: "9/a", Name: StateFailed}}, []store.Job{{Queue: computeQueue, State: store.Parked}}, "instances: 2 failed, 1 job given up"},
		{"quarantined", []string{"1 apart a"}, nil, nil, "instances: 1 quarantined"},
		{"evidence", []string{"1 twice a"}, nil, nil, "instances: 2 conflict"},
	} {
		study, _ := cast{instances: c.instances}.study()
		study.States = c.states
		if got := NewAccount(study, nil).unfinished(study, c.jobs); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// When a finished study leaves.
func TestMayLeave(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	aged, filled := Retention{Age: 90 * day}, Retention{Quota: 1 << 40}
	for _, c := range []struct {
		name     string
		r        Retention
		rest     time.Duration
		measured bool
		full     bool
		refusing bool
		want     string
	}{
		{"no retention", Retention{}, 1000 * day, true, false, false, ""},
		{"young", aged, 89 * day, true, false, false, ""},
		{"old", aged, 90 * day, true, false, false, LeftByAge},
		{"below the quota", filled, 1000 * day, true, false, false, ""},
		{"above the quota", filled, day, true, true, false, LeftByQuota},
		{"above the quota, just finished", filled, time.Minute, true, true, false, ""},
		{"above the quota, finished an hour ago", filled, time.Hour, true, true, false, LeftByQuota},
		{"the disk is full", filled, 10 * time.Minute, true, true, true, LeftByQuota},
		{"the disk is full, just finished", filled, 9 * time.Minute, true, true, true, ""},
		{"the disk is full, without contours", filled, 29 * day, false, true, true, ""},
		{"above the quota, without contours", filled, 29 * day, false, true, false, ""},
		{"above the quota, without contours for long", filled, 30 * day, false, true, false, LeftByQuota},
		{"old by a short age, without contours", Retention{Age: day}, 29 * day, false, false, false, ""},
		{"old by a short age, without contours for long", Retention{Age: day}, 30 * day, false, false, false, LeftByAge},
		{"without contours, as configured", Retention{Age: day, Unmatched: 2 * day}, 2 * day, false, false, false, LeftByAge},
		{"old and above", Retention{Age: day, Quota: 1}, 2 * day, true, true, false, LeftByAge},
	} {
		if got := c.r.mayLeave(leaver{touched: now.Add(-c.rest), measured: c.measured}, now, c.full, c.refusing); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		r    Retention
		s    Space
		want int64
	}{
		{Retention{}, Space{Bytes: 100, Free: 100}, 0},
		{Retention{Quota: 50}, Space{Bytes: 100, Free: 100}, 50},
		{Retention{Share: 0.5}, Space{Bytes: 100, Free: 100}, 100},
		{Retention{Share: 0.5}, Space{Bytes: 100, Free: 0}, 50},
		{Retention{Share: 0.5}, Space{Bytes: 100, Free: -1}, 0},
		{Retention{Share: 0.5, Quota: 70}, Space{Bytes: 100, Free: 100}, 70},
	} {
		if got := c.r.Bound(c.s); got != c.want {
			t.Errorf("%+v of %+v: %d, want %d", c.r, c.s, got, c.want)
		}
	}
}
