package main

import (
	"errors"
	"time"
)

// leastTimeout is what a large study may well need on a busy machine.
const leastTimeout = time.Minute

// checkTimeout checks how long one computation may take.
func checkTimeout(t time.Duration) error {
	if t != 0 && t < leastTimeout {
		return errors.New("timeout: less than a minute gives up studies that can be measured; write a time as 2h, or leave it out")
	}
	return nil
}
