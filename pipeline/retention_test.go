package pipeline

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// The retention runs by itself: by age within the hour, for want of room within the minute, and where there is nothing to be had it says
// so once an hour. What is not finished stays.
func TestRetentionRuns(t *testing.T) {
	contours, images := bundled(t)
	objects := append(images, contours)
	for _, c := range []struct {
		name      string
		retention Retention
		finished  bool
		stays     time.Duration // no longer than that it leaves, 0 = never
		warnings  int           // within the first six hours
	}{
		{"by age", Retention{Age: 3 * time.Hour}, true, 3 * time.Hour, 0},
		{"by quota", Retention{Quota: 1}, true, time.Hour, 1}, // what was just finished stays for an hour
		{"not finished", Retention{Quota: 1, Age: 3 * time.Hour}, false, 0, 6},
		{"no retention", Retention{}, true, 0, 0},
		{"room enough", Retention{Quota: 1 << 40}, true, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log := &lines{t: t}
				st, err := store.Open(dir, store.Options{Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				o := testOptions()
				o.Retention, o.Logger = c.retention, slog.New(slog.NewTextHandler(log, nil))
				b := &bench{t: t, store: st, to: map[string][]string{}}
				if b.p, err = New(st, b, o); err != nil {
					t.Fatal(err)
				}
				b.put(objects...)
				study, series := contours.String(dicom.StudyInstanceUID), images[0].String(dicom.SeriesInstanceUID)
				state := store.State{Study: study, Subject: contours.String(dicom.SOPInstanceUID) + "/" + series, Name: StateWaiting, Detail: detail{Series: series}.raw()}
				if c.finished {
					state.Name, state.Detail = StateComputed, detail{Series: series, Documents: map[string]string{"full": "1.2.3"}, To: []string{"P@h:1"}}.raw()
				}
				if err := st.Commit(t.Context(), store.Change{States: []store.State{state}}); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				start := time.Now()
				go func() { ended <- b.p.retain(ctx) }()
				left := time.Duration(0)
				for left == 0 && time.Since(start) < 6*time.Hour+30*time.Minute {
					time.Sleep(30 * time.Second)
					if _, err := st.Study(study); err != nil {
						left = time.Since(start)
					}
				}
				if c.stays == 0 && left != 0 || c.stays > 0 && (left < c.stays || left > c.stays+retainEvery+2*retainTick) {
					t.Errorf("left after %v, want %v", left, c.stays)
				}
				if n := log.count("no more finished studies can leave"); n < c.warnings || n > c.warnings+1 {
					t.Errorf("%d warnings, want %d", n, c.warnings)
				}
				if n := log.count("finished studies have left"); (n == 1) != (left > 0) {
					t.Errorf("%d lines tell that it left", n)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				days, err := b.p.Balance(t.Context())
				if err != nil || len(days) != 1 || days[0].Difference != 0 {
					t.Errorf("%+v, %v", days, err)
				}
			})
		})
	}
}
