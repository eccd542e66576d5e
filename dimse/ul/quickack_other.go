//go:build !linux

package ul

import "net"

// QuickACK does nothing: only Linux lets a receiver ask for immediate acknowledgements.
func QuickACK(net.Conn) func() { return func() {} }
