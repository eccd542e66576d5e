package store

import (
	"context"
	"sync"
)

// An Event says that instances of a study were received.
type Event struct {
	Study   string
	Arrived []Instance // since the last Event of this study, in the order of the log; those in quarantine too, see Instance.Quarantine

	// Again are the SOP Instance UIDs of received instances that a peer sent once more, with the same bytes. Nothing was
	// written: whoever misses the Event, as the process ended, never learns of it.
	Again []string
}

// Watch sends an Event whenever received instances have become durable and are visible to Study, or came again. Several of
// one study in a row are sent together. It never holds up Put and never forgets an instance; the channel is closed when ctx or the
// store ends. What was there before Watch is in Studies.
func (s *Store) Watch(ctx context.Context) <-chan Event {
	w := &watch{events: make(map[string]*Event), wake: make(chan struct{}, 1)}
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
	mu      sync.Mutex // guards studies and events
	studies []string
	events  map[string]*Event
	wake    chan struct{} // capacity 1: studies is not empty
}

func (w *watch) arrived(in Instance) {
	w.mark(in.StudyInstanceUID, func(e *Event) { e.Arrived = append(e.Arrived, in) })
}

func (w *watch) again(study, uid string) {
	w.mark(study, func(e *Event) { e.Again = append(e.Again, uid) })
}

func (w *watch) mark(study string, add func(*Event)) {
	w.mu.Lock()
	e := w.events[study]
	if e == nil {
		e = &Event{Study: study}
		w.events[study] = e
		w.studies = append(w.studies, study)
	}
	add(e)
	w.mu.Unlock()
	wake(w.wake)
}

func (w *watch) next() (Event, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.studies) == 0 {
		return Event{}, false
	}
	e := w.events[w.studies[0]]
	delete(w.events, e.Study)
	w.studies = w.studies[1:]
	return *e, true
}
