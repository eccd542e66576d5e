package main

// A diskReserve is how much of the disk is kept for what is queued; 0 leaves the choice to the store.
type diskReserve int64

// UnmarshalYAML reads a size strictly.
func (r *diskReserve) UnmarshalYAML(b []byte) error {
	text := plainYAML(b)
	n, err := sizeText(text)
	if err != nil {
		return sizeError("reserve", text)
	}
	*r = diskReserve(n)
	return nil
}
