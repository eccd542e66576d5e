package main

import (
	"fmt"

	"github.com/radnode/radnode/store"
)

// A diskReserve is how much of the disk is kept for what is queued; 0 leaves the choice to the store.
type diskReserve int64

// UnmarshalYAML reads a size strictly.
func (r *diskReserve) UnmarshalYAML(b []byte) error {
	n, err := parseSize("reserve", string(b))
	if err != nil {
		return err
	}
	*r = diskReserve(n)
	return nil
}

// space is what the monitoring page says of the disk.
func space(s store.Space) map[string]any {
	m := map[string]any{"total": s.Total, "free": s.Free, "reserve": s.Reserve, "bytes_per_second": s.BytesPerSecond, "refusing": s.Refusing}
	if s.FullIn > 0 {
		m["full_in_seconds"] = int64(s.FullIn.Seconds())
	}
	if s.Reason != "" {
		m["reason"] = s.Reason
	}
	return m
}

func sizeError(key, text string) error {
	return fmt.Errorf("%s: %q is no size; write a number of bytes, or one with a unit as 512MiB or 4GiB", key, text)
}
