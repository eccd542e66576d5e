package main

import (
	"strings"
	"testing"

	"github.com/radnode/radnode/store"
)

func TestConflictPolicy(t *testing.T) {
	for text, want := range map[string]store.Policy{"quiet: 60s": store.KeepFirst, "conflicts: first": store.KeepFirst, "conflicts: last": store.KeepLast, `conflicts: "last"`: store.KeepLast} {
		c, err := parseConfig([]byte(text))
		if err != nil || store.Policy(c.Conflicts) != want {
			t.Errorf("%q: %v, %v", text, c.Conflicts, err)
		}
	}
	for _, text := range []string{"conflicts: newest", "conflicts: 1"} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), "conflicts") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
