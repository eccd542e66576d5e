package store

import (
	"context"
	"sync"
)

// An Event says that instances of a study were received.
type Event struct {
	Study   string
	Arrived []Instance // since the last Event of this study, in the order of the log
}

// Watch sends an Event whenever received instances have become durable and are visible to Study. Several of one study in
// a row are sent together. It never holds up Put and never forgets an instance; the channel is closed when ctx or the
// store ends. What was there before Watch is in Studies.
func (s *Store) Watch(ctx context.Context) <-chan Event {
	w := &watch{arrived: make(map[string][]Instance), wake: make(chan struct{}, 1)}
	out := make(chan Event)
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
			e, ok := w.next()
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
			case out <- e:
			case <-ctx.Done():
				return
			case <-s.closing:
				return
			}
		}
	}()
	return out
}

// A watch holds what one watcher has still to be told of, by study, oldest first.
type watch struct {
	mu      sync.Mutex // guards studies and arrived
	studies []string
	arrived map[string][]Instance
	wake    chan struct{} // capacity 1: studies is not empty
}

func (w *watch) mark(in Instance) {
	study := in.StudyInstanceUID
	w.mu.Lock()
	if w.arrived[study] == nil {
		w.studies = append(w.studies, study)
	}
	w.arrived[study] = append(w.arrived[study], in)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watch) next() (Event, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.studies) == 0 {
		return Event{}, false
	}
	study := w.studies[0]
	w.studies = w.studies[1:]
	e := Event{study, w.arrived[study]}
	delete(w.arrived, study)
	return e, true
}
