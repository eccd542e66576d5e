package main

import (
	"fmt"
	"os"
)

// shortened goes by way of the folder's descriptor.
func shortened(data string) (path string, done func(), err error) {
	folder, err := os.Open(data)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), controlName), func() { folder.Close() }, nil
}
