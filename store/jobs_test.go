package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// modelJob is a job as the plainest possible implementation would keep it.
type modelJob struct {
	Job
	done    bool
	expires time.Time
}

type model struct {
	now  time.Time
	jobs map[string]*modelJob
}

// next is the job that Claim has to hand out: scanned for, without any heap.
func (m *model) next(queue string) *modelJob {
	var best *modelJob
	for _, j := range m.jobs {
		free := j.State == Pending || j.State == Leased && !j.expires.After(m.now)
		if j.done || j.Queue != queue || !free || j.RunAt.After(m.now) {
			continue
		}
		if best == nil || byPriority(&j.Job, &best.Job) < 0 {
			best = j
		}
	}
	return best
}

// TestJobs compares the store with the model over random histories with restarts and rebuilds of the index.
func TestJobs(t *testing.T) {
	root := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(root, fmt.Sprint(run))
		m := &model{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), jobs: map[string]*modelJob{}}
		open := func() *Store {
			s, err := Open(dir, Options{disk: fastDisk(), now: func() time.Time { return m.now }})
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
		keys := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
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
				j.State = Pending
				m.jobs[j.Key] = &modelJob{Job: j}
			}
		}
		draw := func(t *rapid.T) Job {
			return Job{Key: keys.Draw(t, "key"), Queue: queues.Draw(t, "queue"), Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
				RunAt: m.now.Add(time.Duration(minutes.Draw(t, "delay")) * time.Minute)}
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
					got, _ := s.jobs.queue(queue).claim(m.now, lease)
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
				j.State, j.expires = Leased, m.now.Add(lease)
				if d := cmp.Diff(j.Job, *got); d != "" {
					t.Fatalf("claimed (-want +got)\n%s", d)
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
				key, at := keys.Draw(t, "key"), m.now.Add(time.Duration(minutes.Draw(t, "delay"))*time.Minute)
				if same("Retry", s.Retry(ctx, key, at, "why"), want(key)) {
					j := m.jobs[key]
					j.State, j.RunAt, j.LastError = Pending, at, "why"
					j.Tries++
				}
			},
			"park": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				if same("Park", s.Park(ctx, key, "gone", Change{}), want(key)) {
					m.jobs[key].State, m.jobs[key].LastError = Parked, "gone"
				}
			},
			"extend": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				j := m.jobs[key]
				if j == nil || j.done || j.State != Leased || !j.expires.After(m.now) {
					return // an ended lease may or may not have been noticed
				}
				same("Extend", s.Extend(key, 10*time.Minute), nil)
				j.expires = m.now.Add(10 * time.Minute)
			},
			"time passes": func(t *rapid.T) { m.now = m.now.Add(time.Duration(minutes.Draw(t, "minutes")) * time.Minute) },
			"restart": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "without index") {
					_ = os.Remove(filepath.Join(dir, indexFile))
				}
				s = open()
				for _, j := range m.jobs {
					if j.State == Leased {
						j.State = Pending
					}
				}
			},
			"": func(t *rapid.T) {
				for _, queue := range []string{"q1", "q2"} {
					var st QueueStats
					for _, j := range m.jobs {
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
		claim := func(want string, after time.Duration) {
			t.Helper()
			j, err := s.Claim(ctx, "q", 5*time.Minute)
			if err != nil || j.Key != want || time.Since(start).Round(time.Second) != after {
				t.Fatalf("claimed %+v, %v after %v; want %s after %v", j, err, time.Since(start), want, after)
			}
		}
		claim("later", 10*time.Minute)
		claim("later", 15*time.Minute) // its lease has ended
		time.Sleep(4 * time.Minute)
		if err := s.Extend("later", 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		claim("later", 24*time.Minute)
		go func() {
			time.Sleep(time.Minute)
			if err := s.Done(ctx, "later", Change{Jobs: []Job{{Key: "next", Queue: "q"}}}); err != nil {
				t.Error(err)
			}
		}()
		claim("next", 25*time.Minute)
		if err := s.Extend("later", time.Minute); !errors.Is(err, ErrLeaseLost) {
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
