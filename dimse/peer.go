package dimse

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/radnode/radnode/dimse/ul"
)

// A Peer is an application entity and where it listens.
type Peer struct {
	AETitle string
	Address string // host:port
}

// ParsePeer reads AET@HOST:PORT.
func ParsePeer(s string) (Peer, error) {
	title, address, found := strings.Cut(s, "@")
	if !found {
		return Peer{}, fmt.Errorf("peer %q: write AET@HOST:PORT, for example ORTHANC@10.0.0.5:4242", s)
	}
	if _, err := ul.NewAETitle(title); err != nil {
		return Peer{}, fmt.Errorf("peer %q: %w", s, err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Peer{}, fmt.Errorf("peer %q: %w", s, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || n == 0 {
		return Peer{}, fmt.Errorf("peer %q: write a host and a port from 1 to 65535 behind the @", s)
	}
	return Peer{title, address}, nil
}

func (p Peer) String() string { return p.AETitle + "@" + p.Address }
