package ul

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// QuickACK returns a function that asks the kernel to acknowledge at once. Linux forgets the request as it pleases
// (tcp(7), TCP_QUICKACK), so it is made again after every read. Without it a sender with Nagle's algorithm, which is
// every DCMTK tool as shipped, waits 40 ms for a delayed acknowledgement once an object.
func QuickACK(c net.Conn) func() {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() {}
	}
	set := func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // not TCP: nothing to acknowledge
	}
	return func() { _ = raw.Control(set) }
}
