package main

import (
	"fmt"

	"github.com/radnode/radnode/store"
)

// A conflictPolicy says which of several data sets under one SOP Instance UID is measured: first or last.
type conflictPolicy store.Policy

// UnmarshalYAML reads it strictly.
func (p *conflictPolicy) UnmarshalYAML(b []byte) error {
	switch text := plainYAML(b); text {
	case "first":
		*p = conflictPolicy(store.KeepFirst)
	case "last":
		*p = conflictPolicy(store.KeepLast)
	default:
		return fmt.Errorf("conflicts: %q is neither first nor last", text)
	}
	return nil
}
