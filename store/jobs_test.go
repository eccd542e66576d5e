package store

import (
	gocmp "cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// modelJob is a job as the plainest possible implementation would keep it.
type modelJob struct {
	Job
	done    bool
	expires time.Time
	lease   *Job // as it was handed out last
}

// A testClock stands until it is moved. The store asks it from several goroutines.
type testClock struct{ since atomic.Int64 } // 2026, in nanoseconds

func (c *testClock) now() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(c.since.Load()))
}

func (c *testClock) add(d time.Duration) { c.since.Add(int64(d)) }

type model struct {
	clock   testClock
	jobs    map[string]*modelJob
	created uint64
	claimed map[string]int // by queue, since start
}

// next is the job that Claim has to hand out: scanned for, without any heap.
func (m *model) next(queue string) *modelJob {
	var best *modelJob
	for _, j := range m.jobs {
		if j.Queue != queue || !m.free(j) || j.RunAt.After(m.clock.now()) || m.behind(j) {
			continue
		}
		if best == nil || m.before(j, best) {
			best = j
		}
	}
	return best
}

func (m *model) free(j *modelJob) bool {
	return !j.done && (j.State == Pending || j.State == Leased && !j.expires.After(m.clock.now()))
}

// behind says whether another of the same Serial keeps j from being handed out.
func (m *model) behind(j *modelJob) bool {
	for _, o := range m.jobs {
		if j.Serial != "" && o != j && o.Serial == j.Serial && o.Queue == j.Queue && !o.done && o.State != Parked && (o.Seq < j.Seq || !m.free(o)) {
			return true
		}
	}
	return false
}

func (m *model) before(a, b *modelJob) bool {
	switch {
	case m.claimed[a.Queue]%4 == 3:
		return a.Seq < b.Seq
	case (a.Begun > 0) != (b.Begun > 0):
		return b.Begun > 0
	case a.Priority != b.Priority:
		return a.Priority > b.Priority
	}
	return a.Seq > b.Seq
}

// TestJobs compares the store with the model over random histories with restarts and rebuilds of the index.
func TestJobs(t *testing.T) {
	root := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(root, fmt.Sprint(run))
		m := &model{jobs: map[string]*modelJob{}, claimed: map[string]int{}}
		open := func() *Store {
			s, err := Open(dir, Options{disk: fastDisk(), now: m.clock.now})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		defer func() {
			_ = s.Close()
			_ = os.RemoveAll(dir)
		}()
		keys := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		queues := rapid.SampledFrom([]string{"q1", "q2"})
		minutes := rapid.IntRange(0, 5)
		// want is the error that an operation on the job of this key has to return.
		want := func(key string) error {
			switch j := m.jobs[key]; {
			case j == nil:
				return ErrNotFound
			case j.done:
				return ErrFinished
			}
			return nil
		}
		same := func(op string, got, want error) bool {
			if !errors.Is(got, want) || want == nil && got != nil {
				t.Fatalf("%s: got %v, want %v", op, got, want)
			}
			return want == nil
		}
		add := func(j Job) {
			if m.jobs[j.Key] == nil {
				m.created++
				j.State, j.Seq = Pending, m.created
				m.jobs[j.Key] = &modelJob{Job: j}
			}
		}
		draw := func(t *rapid.T) Job {
			return Job{Key: keys.Draw(t, "key"), Queue: queues.Draw(t, "queue"), Study: rapid.SampledFrom([]string{"1.2", "1.23"}).Draw(t, "study"), Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
				Serial: rapid.SampledFrom([]string{"", "s", "t"}).Draw(t, "serial"), Payload: []byte(rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "payload")),
				RunAt: m.clock.now().Add(time.Duration(minutes.Draw(t, "delay")) * time.Minute)}
		}
		t.Repeat(map[string]func(*rapid.T){
			"enqueue": func(t *rapid.T) {
				j := draw(t)
				same("Commit", s.Commit(ctx, Change{Jobs: []Job{j}}), nil)
				add(j)
			},
			"claim": func(t *rapid.T) {
				queue, lease := queues.Draw(t, "queue"), time.Duration(1+minutes.Draw(t, "lease"))*time.Minute
				j := m.next(queue)
				if j == nil {
					s.mu.Lock()
					got, _ := s.jobs.queue(queue).claim(m.clock.now(), lease)
					s.mu.Unlock()
					if got != nil {
						t.Fatalf("claimed %+v where nothing is due", got)
					}
					return
				}
				got, err := s.Claim(ctx, queue, lease)
				if err != nil {
					t.Fatal(err)
				}
				j.State, j.expires = Leased, m.clock.now().Add(lease)
				m.claimed[queue]++
				if d := cmp.Diff(j.Job, *got, cmpopts.IgnoreFields(Job{}, "Seq", "Lease"), cmpopts.EquateEmpty()); d != "" {
					t.Fatalf("claimed (-want +got)\n%s", d)
				}
				if j.lease != nil {
					for _, err := range []error{s.Extend(j.lease, time.Hour), s.Held(j.lease), s.Done(ctx, j.Key, Change{Lease: j.lease.Lease})} {
						if !errors.Is(err, ErrLeaseLost) {
							t.Fatalf("with a lease that another has taken over: %v", err)
						}
					}
				}
				j.lease = got
			},
			"done under the lease": func(t *rapid.T) {
				j := m.jobs[keys.Draw(t, "key")]
				if j == nil || j.done || j.State != Leased || !j.expires.After(m.clock.now()) {
					return
				}
				if err := s.Done(ctx, j.Key, Change{Lease: j.lease.Lease}); err != nil {
					t.Fatal(err)
				}
				j.done = true
			},
			"begin": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				if same("Begin", s.Begin(ctx, key), want(key)) {
					m.jobs[key].Begun++
				}
			},
			"give back": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				if same("GiveBack", s.GiveBack(ctx, key), want(key)) {
					j := m.jobs[key]
					if j.State == Leased {
						j.State = Pending
					}
					j.Begun = max(j.Begun-1, 0)
				}
			},
			"done": func(t *rapid.T) {
				key, follow := keys.Draw(t, "key"), draw(t)
				if same("Done", s.Done(ctx, key, Change{Jobs: []Job{follow}}), want(key)) {
					m.jobs[key].done = true
					add(follow)
				}
			},
			"retry": func(t *rapid.T) {
				key, at := keys.Draw(t, "key"), m.clock.now().Add(time.Duration(minutes.Draw(t, "delay"))*time.Minute)
				if same("Retry", s.Retry(ctx, key, at, "why"), want(key)) {
					j := m.jobs[key]
					j.State, j.RunAt, j.LastError, j.Begun = Pending, at, "why", 0
					j.Tries++
				}
			},
			"requeue": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				if same("Requeue", s.Requeue(ctx, key, m.clock.now(), "by hand"), want(key)) {
					j := m.jobs[key]
					j.State, j.RunAt, j.LastError, j.Begun, j.Tries = Pending, m.clock.now(), "by hand", 0, 0
				}
			},
			"park": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				if same("Park", s.Park(ctx, key, "gone", Change{}), want(key)) {
					m.jobs[key].State, m.jobs[key].LastError, m.jobs[key].Begun = Parked, "gone", 0
				}
			},
			"extend": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				j := m.jobs[key]
				if j == nil || j.done || j.State != Leased || !j.expires.After(m.clock.now()) {
					return // an ended lease may or may not have been noticed
				}
				same("Extend", s.Extend(j.lease, 10*time.Minute), nil)
				j.expires = m.clock.now().Add(10 * time.Minute)
			},
			"time passes": func(t *rapid.T) { m.clock.add(time.Duration(minutes.Draw(t, "minutes")) * time.Minute) },
			"restart": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "without index") {
					_ = os.Remove(filepath.Join(dir, indexFile))
				}
				s = open()
				clear(m.claimed)
				for _, j := range m.jobs {
					j.lease = nil
					if j.State == Leased {
						j.State = Pending
					}
				}
			},
			"": func(t *rapid.T) {
				like := cmp.Options{cmpopts.IgnoreFields(Job{}, "Seq", "Lease", "State"), cmpopts.EquateEmpty()}
				for _, queue := range []string{"q1", "q2"} {
					var st QueueStats
					var jobs []Job
					for _, j := range m.jobs {
						if j.Queue == queue && !j.done {
							jobs = append(jobs, j.Job)
							if m.free(j) && (st.Oldest.IsZero() || j.RunAt.Before(st.Oldest)) {
								st.Oldest = j.RunAt
							}
						}
						switch {
						case j.Queue != queue:
						case j.done:
							st.Done++
						case j.State == Parked:
							st.Parked++
						default:
							st.Pending++
						}
					}
					got := s.Queues()[queue]
					if got.Done != st.Done || got.Parked != st.Parked || got.Pending+got.Leased != st.Pending {
						t.Fatalf("queue %s: %+v, want %+v with leased among pending", queue, got, st)
					}
					if got.Leased == 0 && !got.Oldest.Equal(st.Oldest) {
						t.Fatalf("queue %s: oldest %v, want %v", queue, got.Oldest, st.Oldest)
					}
					slices.SortFunc(jobs, func(a, b Job) int { return byUrgency(&a, &b) })
					if d := cmp.Diff(jobs, s.Jobs(queue), like); d != "" {
						t.Fatalf("jobs of %s (-want +got)\n%s", queue, d)
					}
					slices.SortFunc(jobs, func(a, b Job) int { return created(&a, &b) })
					jobs = slices.DeleteFunc(jobs, func(j Job) bool { return j.State != Parked })
					parked, err := s.ParkedJobs(queue, 2)
					if d := cmp.Diff(jobs[:min(2, len(jobs))], parked, like); d != "" || err != nil {
						t.Fatalf("parked jobs of %s: %v (-want +got)\n%s", queue, err, d)
					}
				}
				of := make(map[string][]Job)
				for key, j := range m.jobs {
					got, err := s.Job(key)
					if j.done {
						if !errors.Is(err, ErrNotFound) {
							t.Fatalf("job %s that is done: %v, %v", key, got, err)
						}
						continue
					}
					if d := cmp.Diff(j.Job, got, like); d != "" || err != nil {
						t.Fatalf("job %s: %v (-want +got)\n%s", key, err, d)
					}
					of[j.Study] = append(of[j.Study], j.Job)
				}
				for study, want := range of {
					got, err := s.JobsOf(study)
					slices.SortFunc(want, func(a, b Job) int { return gocmp.Or(strings.Compare(a.Queue, b.Queue), byUrgency(&a, &b)) })
					if d := cmp.Diff(want, got, like); d != "" || err != nil {
						t.Fatalf("jobs of study %s: %v (-want +got)\n%s", study, err, d)
					}
				}
			},
		})
	})
}

// Claim waits for the time of a job, for the end of a lease and for a new job, and for nothing else.
func TestClaimWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, t.TempDir(), Options{})
		defer s.Close()
		start := time.Now()
		if err := s.Commit(ctx, Change{Jobs: []Job{{Key: "later", Queue: "q", RunAt: start.Add(10 * time.Minute)}}}); err != nil {
			t.Fatal(err)
		}
		var last *Job
		claim := func(want string, after time.Duration) {
			t.Helper()
			j, err := s.Claim(ctx, "q", 5*time.Minute)
			last = j
			if err != nil || j.Key != want || time.Since(start).Round(time.Second) != after {
				t.Fatalf("claimed %+v, %v after %v; want %s after %v", j, err, time.Since(start), want, after)
			}
		}
		claim("later", 10*time.Minute)
		claim("later", 15*time.Minute) // its lease has ended
		time.Sleep(4 * time.Minute)
		if err := s.Extend(last, 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		claim("later", 24*time.Minute)
		later := last
		go func() {
			time.Sleep(time.Minute)
			if err := s.Done(ctx, "later", Change{Jobs: []Job{{Key: "next", Queue: "q"}}}); err != nil {
				t.Error(err)
			}
		}()
		claim("next", 25*time.Minute)
		if err := s.Extend(later, time.Minute); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("Extend of a job that is done: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if _, err := s.Claim(short, "empty", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Claim of an empty queue: %v", err)
		}
	})
}

// Many workers on many jobs: each job is handed out once while its lease lasts.
func TestClaimOnce(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk()})
	const jobs, workers = 200, 8
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				j, err := s.Claim(ctx, "q", time.Hour)
				if err != nil {
					return
				}
				mu.Lock()
				seen[j.Key]++
				all := len(seen) == jobs
				mu.Unlock()
				if err := s.Done(context.Background(), j.Key, Change{}); err != nil {
					t.Error(err)
				}
				if all {
					cancel()
				}
			}
		})
	}
	for i := range jobs {
		if err := s.Commit(context.Background(), Change{Jobs: []Job{{Key: fmt.Sprint(i), Queue: "q"}}}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	for key, n := range seen {
		if n != 1 {
			t.Errorf("job %s was handed out %d times", key, n)
		}
	}
	if q := s.Queues()["q"]; q.Done != jobs || q.Pending+q.Leased+q.Parked != 0 {
		t.Errorf("%+v", q)
	}
}

// The jobs of a Serial are handed out in the order of their creation, whatever their priorities, and across a restart; one that
// waits for its next try holds up its own Serial and no other.
func TestSerial(t *testing.T) {
	var clock testClock
	dir := t.TempDir()
	open := func() *Store {
		s, err := Open(dir, Options{disk: fastDisk(), now: clock.now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Keys and priorities against the order.
	must(s.Commit(ctx, Change{Jobs: []Job{{Key: "z1", Queue: "q", Serial: "z"}, {Key: "b", Queue: "q", Serial: "b", Priority: -1}}}))
	must(s.Commit(ctx, Change{Jobs: []Job{{Key: "a2", Queue: "q", Serial: "z", Priority: 5}, {Key: "a3", Queue: "q", Serial: "z", Priority: 9}}}))
	var got []string
	next := func() *Job {
		t.Helper()
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		j, err := s.Claim(short, "q", time.Hour)
		if err != nil {
			got = append(got, "none")
			return nil
		}
		got = append(got, j.Key)
		return j
	}
	next()
	must(s.Retry(ctx, "z1", clock.now().Add(time.Minute), "down")) // a2 waits for it
	next()                                                         // b
	next()                                                         // none
	must(s.Done(ctx, "b", Change{}))
	must(s.Close())
	must(os.Remove(filepath.Join(dir, indexFile)))
	s = open()
	next() // none
	clock.add(2 * time.Minute)
	next() // z1
	next() // none: it is not done
	must(s.Park(ctx, "z1", "refused", Change{}))
	next()                                        // a2
	must(s.Retry(ctx, "z1", clock.now(), "once")) // before a3, though not beside a2
	next()                                        // none
	must(s.Close())
	s = open()
	next() // z1: the lease of a2 is gone
	must(s.Done(ctx, "z1", Change{}))
	next()
	must(s.Done(ctx, "a2", Change{}))
	next()
	must(s.Close())
	if d := cmp.Diff([]string{"z1", "b", "none", "none", "z1", "none", "a2", "none", "z1", "a2", "a3"}, got); d != "" {
		t.Errorf("handed out (-want +got)\n%s", d)
	}
}

// With a backlog, who comes now is served next, and of four claims one goes to the oldest.
func TestFreshBeforeBacklog(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk()})
	defer s.Close()
	var backlog Change
	for i := range 1000 {
		backlog.Jobs = append(backlog.Jobs, Job{Key: fmt.Sprintf("old %04d", i), Queue: "q"})
	}
	if err := s.Commit(ctx, backlog); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range 8 {
		if err := s.Commit(ctx, Change{Jobs: []Job{{Key: fmt.Sprint("fresh ", i), Queue: "q"}}}); err != nil {
			t.Fatal(err)
		}
		j, err := s.Claim(ctx, "q", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, j.Key)
	}
	want := []string{"fresh 0", "fresh 1", "fresh 2", "old 0000", "fresh 4", "fresh 5", "fresh 6", "old 0001"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("handed out (-want +got)\n%s", d)
	}
}

// What the caller does with his bytes after Commit changes nothing, whenever the index is written.
func TestPayloadIsTheStores(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk()})
	payload, detail := []byte("payload"), []byte(`{"a":1}`)
	c := Change{Jobs: []Job{{Key: "k", Queue: "q", Payload: payload}}, States: []State{{Study: "1.2", Subject: "s", Name: "queued", Detail: detail}}}
	if err := s.Commit(ctx, c); err != nil {
		t.Fatal(err)
	}
	clear(payload)
	clear(detail)
	if err := s.flushIndex(); err != nil {
		t.Fatal(err)
	}
	st, err := s.Study("1.2")
	if err != nil || string(st.States[0].Detail) != `{"a":1}` || string(s.Jobs("q")[0].Payload) != "payload" {
		t.Errorf("state %s, %v, payload %q", st.States, err, s.Jobs("q")[0].Payload)
	}
}
