package main

// A diskReserve is how much of the disk is kept for what is queued; 0 leaves the choice to the store.
type diskReserve int64

// UnmarshalYAML reads a size strictly.
func (r *diskReserve) UnmarshalYAML(b []byte) error {
	n, err := parseSize("reserve", plainYAML(b))
	if err != nil {
		return err
	}
	*r = diskReserve(n)
	return nil
}
