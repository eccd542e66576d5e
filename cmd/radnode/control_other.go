//go:build !linux

package main

import "fmt"

func shortened(data string) (path string, done func(), err error) {
	return "", nil, fmt.Errorf("the path of the data folder is longer than this system allows for a socket in it (%d bytes with /%s): choose a shorter one for radnode status and the like", longestSocket, controlName)
}
