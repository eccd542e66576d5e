package store

import "context"

// LeaveUnchanged is Leave without force for whoever has decided by what a study was when it was read: it is refused with ErrBusy
// too when an instance or evidence has come since, which was answered Success and must not go with what was there before.
func (s *Store) LeaveUnchanged(ctx context.Context, study Study, reason string) error {
	if err := checkUIDs(study.UID); err != nil {
		return err
	}
	return s.leave(ctx, &leave{Study: study.UID, Reason: reason, as: &study})
}

// unchanged tells whether these instances are those of a study as it was read, with the same bytes and evidence. s.mu is held.
func (s *Store) unchanged(as *Study, instances []*located) (bool, error) {
	was := make(map[string]*Instance, len(as.Instances))
	for i := range as.Instances {
		was[as.Instances[i].SOPInstanceUID] = &as.Instances[i]
	}
	if len(instances) != len(was) {
		return false, nil
	}
	for _, l := range instances {
		known, err := s.conflictsHeld(l.entry.SOPInstance)
		if err != nil {
			return false, err
		}
		in := was[l.entry.SOPInstance]
		if in == nil || string(in.Digest[:]) != string(l.entry.Digest) || in.Conflicts != len(known) {
			return false, nil
		}
	}
	return true, nil
}
