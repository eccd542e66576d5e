package store

import (
	"context"
	"sync"
)

// Watch sends the UID of a study whenever a received instance of it has become durable and is visible to Study. Several
// in a row are sent once. It never holds up Put and never forgets a study; the channel is closed when ctx or the store
// ends. What was there before Watch is in Studies.
func (s *Store) Watch(ctx context.Context) <-chan string {
	w := &watch{waiting: make(map[string]bool), wake: make(chan struct{}, 1)}
	out := make(chan string)
	s.mu.Lock()
	if !s.closed {
		s.watches[w] = true
	}
	s.mu.Unlock()
	go func() {
		defer close(out)
		defer func() {
			s.mu.Lock()
			delete(s.watches, w)
			s.mu.Unlock()
		}()
		for {
			study, ok := w.next()
			if !ok {
				select {
				case <-w.wake:
					continue
				case <-ctx.Done():
					return
				case <-s.closing:
					return
				}
			}
			select {
			case out <- study:
			case <-ctx.Done():
				return
			case <-s.closing:
				return
			}
		}
	}()
	return out
}

// A watch holds the studies that one watcher has still to be told of, oldest first.
type watch struct {
	mu      sync.Mutex // guards studies and waiting
	studies []string
	waiting map[string]bool // the same as a set
	wake    chan struct{}   // capacity 1: studies is not empty
}

func (w *watch) mark(study string) {
	w.mu.Lock()
	if !w.waiting[study] {
		w.waiting[study] = true
		w.studies = append(w.studies, study)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watch) next() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.studies) == 0 {
		return "", false
	}
	study := w.studies[0]
	w.studies = w.studies[1:]
	delete(w.waiting, study)
	return study, true
}
