package store

import (
	"errors"
	"testing"
)

// A study that was found fit to leave stays when anything came of it meanwhile: an instance, other bytes under one of its UIDs, a job.
func TestLeaveUnchanged(t *testing.T) {
	for _, c := range []struct {
		name string
		come func(t *testing.T, s *Store)
		want error
	}{
		{"nothing", func(*testing.T, *Store) {}, nil},
		{"the same once more", func(t *testing.T, s *Store) { mustPut(t, s, newObject("1.2.3", "1.2.3.1", 100, 1)) }, nil},
		{"an instance", func(t *testing.T, s *Store) { mustPut(t, s, newObject("1.2.3", "1.2.3.2", 100, 1)) }, ErrBusy},
		{"evidence", func(t *testing.T, s *Store) { mustPut(t, s, newObject("1.2.3", "1.2.3.1", 100, 2)) }, ErrBusy},
		{"a job", func(t *testing.T, s *Store) {
			if err := s.Commit(t.Context(), Change{Jobs: []Job{{Key: "k", Queue: "q", Study: "1.2.3"}}}); err != nil {
				t.Fatal(err)
			}
		}, ErrBusy},
		{"another study", func(t *testing.T, s *Store) { mustPut(t, s, newObject("1.2.4", "1.2.4.1", 100, 1)) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir(), Options{})
			mustPut(t, s, newObject("1.2.3", "1.2.3.1", 100, 1))
			study, err := s.Study("1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			c.come(t, s)
			if err := s.LeaveUnchanged(t.Context(), study, "age"); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
			if _, err := s.Study("1.2.3"); (err == nil) != (c.want != nil) {
				t.Errorf("is it there? %v", err)
			}
		})
	}
}
