package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"slices"
	"strings"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/pipeline"
)

// PeerConfig is another node: who it is when it calls, and where it is called.
type PeerConfig struct {
	AET         string   `yaml:"aet"`
	Address     string   `yaml:"address"`     // host:port; "" = nothing is sent there
	From        []string `yaml:"from"`        // addresses, networks, host names it calls from; empty = the host of address
	TLS         bool     `yaml:"tls"`         // it is called over TLS
	Certificate string   `yaml:"certificate"` // CN=..., a DNS name or sha256:... of its certificate; its AE title is bound to it

	MaxAssociations  int      `yaml:"max_associations"` // at once; 0 = all there are
	Reserved         int      `yaml:"reserved"`         // of dicom.max_associations, for it alone
	ObjectsPerSecond float64  `yaml:"objects_per_second"`
	BytesPerSecond   byteRate `yaml:"bytes_per_second"`

	Report pipeline.Style `yaml:"report"` // what it gets, where that differs from all others
	Commit bool           `yaml:"commit"` // it is asked for Storage Commitment of what was delivered
}

// TLSConfig is DICOM over TLS, PS3.15 B.12.
type TLSConfig struct {
	Listen      string `yaml:"listen"`      // "" = no TLS port
	Certificate string `yaml:"certificate"` // PEM files
	Key         string `yaml:"key"`
	CA          string `yaml:"ca"`
	Require     bool   `yaml:"require"` // a certificate of every peer that calls
}

// A byteRate is bytes in a second, or text with a unit, 100MiB.
type byteRate int64

// leastRate is a rate below which one image takes seconds: a number that was meant in another unit.
const leastRate = 64 << 10

// UnmarshalYAML reads a rate; what is none becomes -1, for check to refuse with its place.
func (r *byteRate) UnmarshalYAML(b []byte) error {
	*r = -1
	if n, err := parseSize("bytes_per_second", plainYAML(b)); err == nil {
		*r = byteRate(n)
	}
	return nil
}

func (t TLSConfig) files() dimse.TLSFiles {
	return dimse.TLSFiles{Certificate: t.Certificate, Key: t.Key, CA: t.CA}
}

// open reads the files; nil where none is named.
func (t TLSConfig) open(log *slog.Logger) (*dimse.TLS, error) {
	if t.files() == (dimse.TLSFiles{}) {
		return nil, nil
	}
	c, err := dimse.NewTLS(t.files(), log)
	if err != nil {
		return nil, fmt.Errorf("dicom.tls: %w", err)
	}
	return c, nil
}

// checkAccess checks who may talk, and over what.
func (c Config) checkAccess() error {
	t := c.DICOM.TLS
	if c.DICOM.Listen != "" || t.Listen == "" {
		if _, _, err := net.SplitHostPort(c.DICOM.Listen); err != nil {
			return fmt.Errorf("dicom.listen: %w; write host:port, or :port for all addresses, or \"\" where dicom.tls.listen is enough", err)
		}
	}
	if t.Listen != "" {
		if _, _, err := net.SplitHostPort(t.Listen); err != nil {
			return fmt.Errorf("dicom.tls.listen: %w; write host:port, or :2762 for all addresses, or \"\" for none", err)
		}
	}
	if t.Listen != "" && t.Listen == c.DICOM.Listen {
		return fmt.Errorf("dicom.tls.listen: %q is dicom.listen too; write another port, as :2762", t.Listen)
	}
	tlsUsed := ""
	if t.Listen != "" {
		tlsUsed = "dicom.tls.listen"
	}
	reserved := 0
	same := map[dimse.Peer]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Peers)) {
		p, key := c.Peers[name], "peers."+name
		if err := checkAET(p.AET); err != nil {
			return fmt.Errorf("%s.aet: %w", key, err)
		}
		if p.Address == "" && len(p.From) == 0 {
			return fmt.Errorf("%s: neither from nor address; write from: [10.0.0.7] for a node that sends, address: \"10.0.0.5:104\" for one that is sent to", key)
		}
		if p.Address != "" {
			peer, err := p.peer()
			if err != nil {
				return fmt.Errorf("%s.address: %w; write host:port, as \"10.0.0.5:104\"", key, withoutPeer(err))
			}
			if other, ok := same[peer]; ok && (c.Peers[other].TLS != p.TLS || c.Peers[other].Certificate != p.Certificate) {
				return fmt.Errorf("%s and peers.%s are the same node, one with TLS and certificate as the other has not", key, other)
			}
			same[peer] = name
		}
		for _, from := range p.From {
			if err := dimse.CheckFrom(from); err != nil {
				return fmt.Errorf("%s.from: %w", key, err)
			}
		}
		if p.TLS && p.Address == "" {
			return fmt.Errorf("%s.tls: says how it is called, but there is no address", key)
		}
		if p.Commit && p.Address == "" {
			return fmt.Errorf("%s.commit: says what it is asked for, but there is no address", key)
		}
		if p.Certificate != "" {
			if err := dimse.CheckCertificateName(p.Certificate); err != nil {
				return fmt.Errorf("%s.%w", key, err)
			}
			tlsUsed = key + ".certificate"
		}
		if p.TLS {
			tlsUsed = key + ".tls"
		}
		if p.MaxAssociations < 0 || p.Reserved < 0 {
			return fmt.Errorf("%s: max_associations and reserved must not be below 0", key)
		}
		if p.MaxAssociations > 0 && p.Reserved > p.MaxAssociations {
			return fmt.Errorf("%s.reserved: %d are more than its max_associations, %d", key, p.Reserved, p.MaxAssociations)
		}
		if !(p.ObjectsPerSecond >= 0) || math.IsInf(p.ObjectsPerSecond, 0) {
			return fmt.Errorf("%s.objects_per_second: write a number above 0, or 0 for no limit", key)
		}
		if p.BytesPerSecond != 0 && p.BytesPerSecond < leastRate {
			return fmt.Errorf("%s.bytes_per_second: write at least 64KiB, as a number of bytes or with a unit as 100MiB, or 0 for no limit", key)
		}
		if err := p.Report.Over(c.Report).Check(); err != nil {
			return fmt.Errorf("%s.report.%w", key, err)
		}
		reserved += p.Reserved
	}
	if reserved > c.DICOM.MaxAssociations {
		return fmt.Errorf("peers: %d places are reserved, more than dicom.max_associations, %d", reserved, c.DICOM.MaxAssociations)
	}
	if err := c.DICOM.Unknown.Check(); err != nil {
		return fmt.Errorf("dicom.unknown: %w", err)
	}
	if tlsUsed != "" {
		for _, f := range []struct{ key, file, what string }{
			{"certificate", t.Certificate, "our certificate"}, {"key", t.Key, "its key"}, {"ca", t.CA, "the certificates of the authorities that peers' certificates are from"},
		} {
			if f.file == "" {
				return fmt.Errorf("dicom.tls.%s: missing, and %s needs it; name the PEM file with %s", f.key, tlsUsed, f.what)
			}
		}
	}
	_, err := t.open(nil)
	return err
}

// access is who may talk: the peers, the destinations, and, as long as nobody is listed, programs on this machine.
func (c Config) access() (*dimse.Access, error) {
	o := dimse.AccessOptions{Unknown: c.DICOM.Unknown, Local: len(c.Peers) == 0}
	bound := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Peers)) {
		p := c.Peers[name]
		bound[p.AET] = bound[p.AET] || p.Certificate != ""
		from := p.From
		if host, _, err := net.SplitHostPort(p.Address); err == nil && len(from) == 0 {
			from = []string{host}
		}
		o.Peers = append(o.Peers, dimse.KnownPeer{
			Name: name, Setting: "peers." + name, AETitle: p.AET, From: from, Certificate: p.Certificate, Associations: p.MaxAssociations, Reserved: p.Reserved,
			ObjectsPerSecond: p.ObjectsPerSecond, BytesPerSecond: float64(p.BytesPerSecond),
		})
	}
	for _, d := range c.Deliver {
		peer, err := dimse.ParsePeer(d)
		if _, named := c.Peers[d]; named || err != nil || bound[peer.AETitle] { // a bound title is not let in on its address
			continue
		}
		host, _, _ := net.SplitHostPort(peer.Address)
		o.Peers = append(o.Peers, dimse.KnownPeer{Name: d, AETitle: peer.AETitle, From: []string{host}})
	}
	return dimse.NewAccess(o)
}

// dialTLS says how each peer is called.
func (c Config) dialTLS(t *dimse.TLS) func(dimse.Peer) *tls.Config {
	certificates := map[dimse.Peer]string{}
	for _, p := range c.Peers {
		if peer, err := p.peer(); err == nil && p.TLS {
			certificates[peer] = p.Certificate
		}
	}
	return func(to dimse.Peer) *tls.Config {
		certificate, secure := certificates[to]
		if !secure || t == nil {
			return nil
		}
		return t.Client(certificate)
	}
}

// sayAccess logs who may talk, and, where that is nobody but us, what to do.
func (c Config) sayAccess(log *slog.Logger, a *dimse.Access) {
	switch {
	case c.DICOM.Unknown == dimse.AcceptUnknown:
		log.Warn("dicom.unknown: accept lets everybody on the network send; list the senders under peers", "access", a.String())
	case len(c.Peers) == 0:
		log.Info("no senders are listed: name them under peers in the configuration (radnode config example)", "access", a.String())
	default:
		log.Info("senders are listed", "access", a.String())
	}
}

// sayPlain warns of what is called without TLS and looks as if it should not be: reports are patients' data. The present
// configuration decides, also about what waits since another one.
func (c Config) sayPlain(log *slog.Logger, t *dimse.TLS, destinations []pipeline.DestinationStats) {
	if t == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.Peers)) {
		if p := c.Peers[name]; p.Certificate != "" && p.Address != "" && !p.TLS {
			log.Warn("this peer has a certificate and is called without TLS: write tls: true, unless only its calls to this node are over TLS", "peer", "peers."+name)
		}
	}
	secure := c.dialTLS(t)
	for _, d := range destinations {
		if to, err := dimse.ParsePeer(d.To); err != nil || d.Waiting == 0 || secure(to) != nil {
			continue
		}
		log.Warn("reports wait for this destination and go there without TLS: write tls: true under peers where it is called over TLS", "to", d.To, "waiting", d.Waiting, "configured", d.Configured)
	}
}

// tlsFlags are for the commands that call.
type tlsFlags struct {
	Cert string `name:"tls-cert" help:"Our certificate (PEM); any of these flags switches TLS on." placeholder:"FILE"`
	Key  string `name:"tls-key" help:"Its key (PEM)." placeholder:"FILE"`
	CA   string `name:"tls-ca" help:"Authorities that the peer's certificate may be from (PEM; default those of the system)." placeholder:"FILE"`
	Name string `name:"tls-name" help:"The peer's certificate, where it is not made for HOST: CN=..., a DNS name or sha256:... ." placeholder:"NAME"`
}

// config is nil where TLS is off.
func (f tlsFlags) config() (*tls.Config, error) {
	if f == (tlsFlags{}) {
		return nil, nil
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, usageError{errors.New("--tls-cert and --tls-key belong together: name both files")}
	}
	if f.Name != "" {
		if err := dimse.CheckCertificateName(f.Name); err != nil {
			return nil, usageError{errors.New("--tls-name: " + strings.TrimPrefix(err.Error(), "certificate: "))}
		}
	}
	t, err := dimse.NewTLS(dimse.TLSFiles{Certificate: f.Cert, Key: f.Key, CA: f.CA}, nil)
	if err != nil {
		return nil, usageError{err}
	}
	return t.Client(f.Name), nil
}
