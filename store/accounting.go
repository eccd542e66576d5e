package store

import (
	"context"
	"errors"
)

// A Day counts what peers sent on one day, by the time of reception in UTC. Received is the sum of what is still here and
// of Left.
type Day struct {
	Date      string         // 2026-11-25
	Received  int            // answered Success and kept, once each: instances and conflicts
	Conflicts int            // of Received: other bytes under a UID that was taken, kept as evidence
	Again     int            // answered Success though nothing new came; not in Received
	Bytes     int64          // of the data sets of Received
	Left      map[string]int // of Received: not here any more, by the reason given to Leave
}

var errNotYet = errors.New("store: not there yet")

// Days lists the days on which something was received, oldest first.
func (s *Store) Days() ([]Day, error) { return nil, errNotYet }

// Leave removes all of a study, instances, evidence, states and the memory of its jobs, in one durable step that Days goes on
// counting under this reason. It is refused with ErrBusy while a job of the study is not done, parked ones included, unless
// force is set. Their space comes back when the log is compacted.
func (s *Store) Leave(ctx context.Context, study, reason string, force bool) error { return errNotYet }

// Release lifts the quarantine of instances (Instance.Quarantine), so that they take part in their study; Watch tells of
// them as if they had just arrived.
func (s *Store) Release(ctx context.Context, sopInstanceUIDs ...string) error { return errNotYet }
