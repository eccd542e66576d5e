//go:build !linux

package ul

import "net"

// quickACK does nothing: only Linux lets a receiver ask for immediate acknowledgements.
func quickACK(net.Conn) func() { return func() {} }
