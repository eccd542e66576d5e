package dimse

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/radnode/radnode/dimse/ul"
)

// A KnownPeer may open associations: its AE title, its address and, where it has one, its certificate together are who it is.
type KnownPeer struct {
	Name    string // in counters
	Setting string // where an administrator finds it, as peers.CT1, for messages; empty: it is no entry of its own
	AETitle string
	// From are the addresses that it calls from: IP addresses, networks (10.0.1.0/24) and host names. Names are resolved
	// forward; what the reverse DNS says of an address is for its owner to choose and is never asked.
	From []string
	// Certificate binds the AE title: it is refused without TLS and a verified certificate that matches. See [CheckCertificateName].
	Certificate string

	Associations     int     // at once; 0 = as many as the server has
	Reserved         int     // places that nobody else gets
	ObjectsPerSecond float64 // objects and requests of any other kind; 0 = any number; above it the peer is slowed down, never refused
	BytesPerSecond   float64 // of all that it sends; 0 = any number; the same
}

// Unknown says what a peer may do that is not known.
type Unknown string

// What a peer that is not known may do.
const (
	RefuseUnknown Unknown = "refuse" // nothing; the default
	EchoUnknown   Unknown = "echo"   // C-ECHO alone
	AcceptUnknown Unknown = "accept" // everything
)

// Check says whether u is one of them, or empty.
func (u Unknown) Check() error {
	switch u {
	case "", RefuseUnknown, EchoUnknown, AcceptUnknown:
		return nil
	}
	return fmt.Errorf("%q; write refuse, echo or accept", string(u))
}

// AccessOptions say who may talk.
type AccessOptions struct {
	Peers   []KnownPeer
	Unknown Unknown
	// Local lets programs on this machine, which call from a loopback address, in under any AE title.
	Local bool
}

// Access decides who may open an association, what it may do there and how much of it: all of that is decided in this type
// and nowhere else. It may serve several servers and goroutines.
type Access struct {
	peers    []*entry
	unlisted *entry // counts everybody else
	unknown  Unknown
	local    bool
	names    names

	strange, familiar quiet // the log of those who are not known or not let in, and of the others

	refused map[Refusal]*atomic.Int64
	echoes  *rate.Limiter // messages of all who may verify the connection and no more

	mu        sync.Mutex // guards what follows, and open of every entry
	open      int
	strangers map[netip.Addr]int // associations of peers that are not known, by source; of those with none there is no entry
}

// What a peer gets that may verify the connection and no more.
const (
	echoTime = time.Minute // for its association
	echoRate = 100         // messages in a second, of all of them together
)

// An entry is a known peer and what it does.
type entry struct {
	KnownPeer
	addresses []netip.Prefix
	hosts     []string

	objects, octets *rate.Limiter // nil = no limit

	open                                             int // guarded by Access.mu
	associations, refused                            atomic.Int64
	stored, objectsRefused, bytes, slowed, lastHeard atomic.Int64
}

// place is what messages call the peer.
func (p *entry) place() string { return or(p.Setting, p.Name) }

// NewAccess checks the options; an error names the peer.
func NewAccess(o AccessOptions) (*Access, error) {
	a := &Access{unknown: o.Unknown, local: o.Local, unlisted: &entry{}, refused: map[Refusal]*atomic.Int64{},
		echoes: limiter(echoRate, 1), strangers: map[netip.Addr]int{},
		strange:  quiet{lines: strangerLines, total: strangerTotal, withheld: "more was refused to peers, or done by peers that are not known, than is logged line by line"},
		familiar: quiet{lines: peerLines, total: peerTotal, withheld: "known peers did more than is logged line by line"}}
	if err := o.Unknown.Check(); err != nil {
		return nil, err
	}
	for _, r := range refusals {
		a.refused[r] = new(atomic.Int64)
	}
	for _, k := range o.Peers {
		p := &entry{KnownPeer: k}
		if _, err := ul.NewAETitle(k.AETitle); err != nil {
			return nil, fmt.Errorf("%s: %w", p.place(), err)
		}
		p.AETitle = strings.Trim(k.AETitle, " ") // spaces around it have no meaning, PS3.5 Table 6.2-1
		if len(k.From) == 0 {
			return nil, fmt.Errorf("%s: no address that it calls from", p.place())
		}
		for _, from := range k.From {
			prefix, host, err := parseFrom(from)
			switch {
			case err != nil:
				return nil, fmt.Errorf("%s: %w", p.place(), err)
			case host != "":
				p.hosts = append(p.hosts, host)
			default:
				p.addresses = append(p.addresses, prefix)
			}
		}
		if k.Certificate != "" {
			if err := CheckCertificateName(k.Certificate); err != nil {
				return nil, fmt.Errorf("%s: %w", p.place(), err)
			}
		}
		// A second's worth may come at once, and never less than a PDU.
		p.objects, p.octets = limiter(k.ObjectsPerSecond, 1), limiter(k.BytesPerSecond, ul.DefaultMaxPDU)
		a.peers = append(a.peers, p)
	}
	return a, nil
}

func limiter(perSecond float64, least int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(min(max(math.Ceil(perSecond), float64(least)), 1<<30)))
}

// CheckFrom says whether s can stand in [KnownPeer].From.
func CheckFrom(s string) error {
	_, _, err := parseFrom(s)
	return err
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// parseFrom reads an address, a network or a host name.
func parseFrom(s string) (netip.Prefix, string, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, "", fmt.Errorf("%q is no network: write it as 10.0.1.0/24", s)
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p != p.Masked() {
			return p, "", fmt.Errorf("%q names an address inside a network: write %s for the network, or the address without /%d", s, p.Masked(), p.Bits())
		}
		return p, "", nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = plain(addr)
		return netip.PrefixFrom(addr, addr.BitLen()), "", nil
	}
	// What was meant as an address, or as a range of them, must not be looked up as a name: no name ends in a number, RFC 3696 2.
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	digits := strings.Trim(labels[len(labels)-1], "0123456789-") == ""
	if digits || len(s) > 253 || !hostName.MatchString(s) {
		return netip.Prefix{}, "", fmt.Errorf("%q is neither an IP address (without a port) nor a network (10.0.1.0/24) nor a host name", s)
	}
	return netip.Prefix{}, strings.ToLower(s), nil
}

// plain is an address as it is compared: IPv4 in IPv6 is IPv4, and the zone, which is a name of ours for an interface, is left out.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// addrOf is the address of a connection, invalid where it has none.
func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return plain(t.AddrPort().Addr())
	}
	return netip.Addr{}
}

// A Refusal is why an association did not come about, for counting.
type Refusal string

// Refusals that are counted.
const (
	RefusedUnknown     Refusal = "unknown_peer"      // AE title is in no list
	RefusedAddress     Refusal = "address"           // AE title known from elsewhere
	RefusedCertificate Refusal = "certificate"       // AE title bound to a certificate that was not shown
	RefusedTLS         Refusal = "tls"               // no TLS came about
	RefusedTitle       Refusal = "ae_title"          // called AE title is not ours, or one is none at all
	RefusedPlaces      Refusal = "max_associations"  // all places taken
	RefusedPeerPlaces  Refusal = "peer_associations" // all places of the peer taken
	RefusedProtocol    Refusal = "protocol"          // not DICOM, or no DICOM that can be answered
	RefusedSilence     Refusal = "no_request"        // nothing, or not all of a request, in time
)

var refusals = []Refusal{RefusedUnknown, RefusedAddress, RefusedCertificate, RefusedTLS, RefusedTitle, RefusedPlaces, RefusedPeerPlaces, RefusedProtocol, RefusedSilence}

// A caller is what is known of who is at the other end before the association is there.
type caller struct {
	addr        netip.Addr
	tls         bool
	certificate *x509.Certificate // verified; nil = none
}

// A grant is a place that an association holds.
type grant struct {
	access  *Access
	peer    *entry
	from    netip.Addr // its source
	unknown bool       // a peer that is not known
	echo    bool       // only C-ECHO is granted
	advice  string

	messages, octets *rate.Limiter // nil = no limit
}

// name is the peer's name in the log, "" where it has none.
func (g *grant) name() string { return g.peer.Name }

// release gives the place back.
func (g *grant) release() {
	g.access.mu.Lock()
	defer g.access.mu.Unlock()
	g.access.open--
	g.peer.open--
	if g.unknown {
		if g.access.strangers[g.from]--; g.access.strangers[g.from] == 0 {
			delete(g.access.strangers, g.from)
		}
	}
}

// admit grants a place of max to a caller, or says why not; the refusal is for the peer, its Detail for the administrator, who
// shall know from it what to add where.
func (a *Access) admit(ctx context.Context, calling string, c caller, max int) (*grant, Refusal, *ul.RejectedError) {
	p, why, advice := a.identify(ctx, calling, c)
	g := &grant{access: a, peer: p, from: source(c.addr)}
	if why != "" {
		bound := slices.ContainsFunc(a.peers, func(p *entry) bool { return p.AETitle == calling && p.Certificate != "" })
		switch {
		case a.local && c.addr.IsLoopback() && !bound:
			g.peer = a.unlisted
		case a.unknown == AcceptUnknown && !bound:
			g.peer, g.unknown = a.unlisted, true
		case a.unknown == EchoUnknown && !bound:
			g.peer, g.unknown, g.echo, g.advice = a.unlisted, true, true, advice
		default:
			if p != nil {
				p.refused.Add(1)
			}
			r := ul.RejectCallingAETitle
			r.Detail = advice
			return nil, why, &r
		}
	}
	if why, detail := a.enter(g, max); why != "" {
		r := ul.RejectLocalLimitExceeded
		r.Detail = detail
		g.peer.refused.Add(1)
		return nil, why, &r
	}
	if g.messages, g.octets = g.peer.objects, g.peer.octets; g.echo {
		g.messages = a.echoes
	}
	g.peer.associations.Add(1)
	g.peer.lastHeard.Store(time.Now().UnixNano())
	return g, "", nil
}

// identify finds the known peer that a caller is. Where it is none, it says why and what to do, and returns the peer that the
// caller resembles, if any.
func (a *Access) identify(ctx context.Context, calling string, c caller) (*entry, Refusal, string) {
	var named, here []*entry
	for _, p := range a.peers {
		if p.AETitle == calling {
			named = append(named, p)
		}
	}
	for _, p := range named {
		if p.callsFrom(ctx, &a.names, c.addr) {
			here = append(here, p)
		}
	}
	fault := ""
	for _, p := range here {
		if fault = p.unproven(c); fault == "" {
			return p, "", ""
		}
	}
	switch {
	case len(here) > 0:
		return here[0], RefusedCertificate, fault
	case len(named) > 0:
		p := named[0]
		remedy := suggestion(calling, c.addr)
		if p.Setting != "" {
			remedy = fmt.Sprintf("add it to %s.from", p.Setting)
		}
		return p, RefusedAddress, fmt.Sprintf("%s is known from %s only, not from %v: %s", calling, p.from(&a.names), c.addr, remedy)
	}
	return nil, RefusedUnknown, fmt.Sprintf("calling AE title %s from %v is not a known peer: %s", calling, c.addr, suggestion(calling, c.addr))
}

// suggestion is the line of the configuration that is missing.
func suggestion(calling string, from netip.Addr) string {
	key := calling
	if strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" || strings.Trim(key, "0123456789-_") == "" {
		key = strconv.Quote(key)
	}
	return fmt.Sprintf(`add it under peers, as %s: {aet: %s, from: ['%v']}`, key, key, from) // double quotes would come escaped out of a log in JSON
}

// callsFrom says whether an address is one of the peer's.
func (p *entry) callsFrom(ctx context.Context, names *names, addr netip.Addr) bool {
	if slices.ContainsFunc(p.addresses, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return true
	}
	return slices.ContainsFunc(p.hosts, func(host string) bool { return names.has(ctx, host, addr) })
}

// from are the peer's addresses in words.
func (p *entry) from(names *names) string {
	var all []string
	for _, from := range p.From {
		if _, host, _ := parseFrom(from); host != "" {
			from += " (" + names.say(host) + ")"
		}
		all = append(all, from)
	}
	return strings.Join(all, ", ")
}

// unproven says what is missing of the certificate that the AE title is bound to.
func (p *entry) unproven(c caller) (fault string) {
	switch {
	case p.Certificate == "":
		return ""
	case !c.tls:
		fault = "came without TLS: let it call the TLS port"
	case c.certificate == nil:
		fault = "showed no certificate"
	case !certificateIs(c.certificate, p.Certificate):
		fault = fmt.Sprintf("showed the one of %s: correct %s.certificate where that is the right one", describeCertificate(c.certificate), p.place())
	default:
		return ""
	}
	return fmt.Sprintf("AE title %s is bound to the certificate %s, and %v %s", p.AETitle, p.Certificate, c.addr, fault)
}

// enter takes a place. Some of them are kept: what known peers have reserved and do not use, and, from those who are not
// known, a quarter of all for those who are. One source of those gets no more than a quarter.
func (a *Access) enter(g *grant, maximum int) (Refusal, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := g.peer.Associations; n > 0 && g.peer.open >= n {
		return RefusedPeerPlaces, fmt.Sprintf("%s.max_associations, %d, are open", g.peer.place(), n)
	}
	kept, known := 0, 0
	for _, p := range a.peers {
		known += p.open
		if p != g.peer && p.open < p.Reserved {
			kept += p.Reserved - p.open
		}
	}
	if quarter := maximum / 4; g.unknown && len(a.peers) > 0 && quarter-known > kept {
		kept = quarter - known
	}
	if a.open+kept >= maximum {
		if kept == 0 {
			return RefusedPlaces, fmt.Sprintf("%d associations are open, which is dicom.max_associations", a.open)
		}
		return RefusedPlaces, fmt.Sprintf("%d associations are open, and the other %d of dicom.max_associations are kept for known peers", a.open, maximum-a.open)
	}
	if g.unknown {
		if most := max(maximum/4, 1); a.strangers[g.from] >= most {
			return RefusedPeerPlaces, fmt.Sprintf("%v has %d associations, which is the limit of an address that is not known", g.from, most)
		}
		a.strangers[g.from]++
	}
	a.open++
	g.peer.open++
	return "", ""
}

// slow waits until the limit l lets n through. The peer is not read meanwhile, so that TCP slows it down.
func (g *grant) slow(ctx context.Context, l *rate.Limiter, n int) (waited time.Duration) {
	if l == nil {
		return 0
	}
	for n > 0 {
		k := min(n, l.Burst())
		n -= k
		d := l.ReserveN(time.Now(), k).Delay()
		if d <= 0 {
			continue
		}
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return waited
		}
		waited += d
	}
	if waited > 0 {
		g.peer.slowed.Add(int64(waited))
	}
	return waited
}

// PeerStats count what one peer did.
type PeerStats struct {
	AssociationsOpen    int64         `json:"associationsOpen"`    // now
	Associations        int64         `json:"associations"`        // accepted
	AssociationsRefused int64         `json:"associationsRefused"` // under its AE title
	ObjectsStored       int64         `json:"objectsStored"`
	ObjectsRefused      int64         `json:"objectsRefused"`     // answered with a failure
	Bytes               int64         `json:"bytes"`              // of data sets, kept or not
	Slowed              time.Duration `json:"slowedNanoseconds"`  // that its limits made it wait
	LastHeard           time.Time     `json:"lastHeard,omitzero"` // when its last association was accepted; zero = never
}

// summary tells what was left out of the log.
func (a *Access) summary(log *slog.Logger, now time.Time, all bool) {
	a.strange.summary(log, now, all)
	a.familiar.summary(log, now, all)
}

func (a *Access) stats() (open int64, refused map[Refusal]int64, peers map[string]PeerStats, unlisted PeerStats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	refused, peers = map[Refusal]int64{}, map[string]PeerStats{}
	for r, n := range a.refused {
		if n := n.Load(); n > 0 {
			refused[r] = n
		}
	}
	for _, p := range a.peers {
		peers[p.Name] = p.stats()
	}
	return int64(a.open), refused, peers, a.unlisted.stats()
}

func (p *entry) stats() PeerStats {
	s := PeerStats{
		AssociationsOpen: int64(p.open), Associations: p.associations.Load(), AssociationsRefused: p.refused.Load(),
		ObjectsStored: p.stored.Load(), ObjectsRefused: p.objectsRefused.Load(), Bytes: p.bytes.Load(), Slowed: time.Duration(p.slowed.Load()),
	}
	if t := p.lastHeard.Load(); t != 0 {
		s.LastHeard = time.Unix(0, t).UTC()
	}
	return s
}

// String says in one line who may send, for the log at start.
func (a *Access) String() string {
	var who []string
	for _, p := range a.peers {
		with := ""
		if p.Certificate != "" {
			with = " with the certificate " + p.Certificate
		}
		who = append(who, fmt.Sprintf("%s (%s from %s%s)", p.Name, p.AETitle, strings.Join(p.From, ", "), with))
	}
	if a.local {
		who = append(who, "programs on this machine under any AE title")
	}
	if a.unknown == AcceptUnknown {
		return "everybody may send"
	}
	s := "nobody"
	if len(who) > 0 {
		s = strings.Join(who, "; ")
	}
	if s += " may send"; a.unknown == EchoUnknown {
		s += "; everybody may verify the connection (C-ECHO)"
	}
	return s
}

// CheckCertificateName says whether s can name a certificate: CN=... is the Common Name of its subject, sha256:... the
// fingerprint of all of it in hexadecimal, anything else one of its DNS names.
func CheckCertificateName(s string) error {
	if cn, ok := strings.CutPrefix(s, "CN="); ok {
		if strings.TrimSpace(cn) == "" {
			return errors.New("certificate: nothing behind CN=")
		}
		return nil
	}
	if _, ok := strings.CutPrefix(s, "sha256:"); ok {
		if b, err := hex.DecodeString(fingerprint(s)); err != nil || len(b) != sha256.Size {
			return fmt.Errorf("certificate: %q is no SHA-256 fingerprint of 64 hexadecimal digits", s)
		}
		return nil
	}
	if !hostName.MatchString(s) {
		return fmt.Errorf("certificate: write %q as CN=..., as a DNS name of it, or as sha256:... (openssl x509 -noout -fingerprint -sha256)", s)
	}
	return nil
}

// fingerprint is the hexadecimal digits of a fingerprint as OpenSSL and others write it.
func fingerprint(s string) string {
	return strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(strings.TrimPrefix(s, "sha256:")))
}

// certificateIs says whether a name names a certificate.
func certificateIs(c *x509.Certificate, name string) bool {
	if cn, ok := strings.CutPrefix(name, "CN="); ok {
		return c.Subject.CommonName == cn
	}
	if _, ok := strings.CutPrefix(name, "sha256:"); ok {
		sum := sha256.Sum256(c.Raw)
		return hex.EncodeToString(sum[:]) == fingerprint(name)
	}
	return slices.ContainsFunc(c.DNSNames, func(d string) bool { return strings.EqualFold(d, name) }) // a wildcard is nobody's name
}

func describeCertificate(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return fmt.Sprintf("CN=%.64q (sha256:%x)", c.Subject.CommonName, sum)
}

const (
	namesFresh = time.Minute     // that an answer of the DNS is taken as it is
	namesPause = 5 * time.Second // between two questions about one name, whoever makes us ask
	namesWait  = 3 * time.Second // for an answer
)

// names keeps what host names resolve to. An answer is kept until there is another one: a DNS that is down must not lock
// known peers out.
type names struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error) // nil = the system's

	mu    sync.Mutex // guards what follows
	hosts map[string]*resolved
}

type resolved struct {
	mu     sync.Mutex    // guards what follows
	asking chan struct{} // closed with the answer; nil = nobody asks
	asked  time.Time
	addrs  []netip.Addr
	err    error // of the last question
}

func (n *names) host(name string) *resolved {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.hosts[name]
	if r == nil {
		if n.hosts == nil {
			n.hosts = map[string]*resolved{}
		}
		r = &resolved{}
		n.hosts[name] = r
	}
	return r
}

// has says whether a host has an address. It asks again where the answer is old, or says no and is not quite new.
func (n *names) has(ctx context.Context, host string, addr netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, namesWait)
	defer cancel()
	r := n.host(host)
	r.mu.Lock()
	defer r.mu.Unlock()
	age, known := time.Since(r.asked), slices.Contains(r.addrs, addr)
	switch {
	case r.asking != nil && known: // someone else sees to it
		return true
	case r.asking != nil:
		asking := r.asking
		r.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
		}
		r.mu.Lock()
	case r.asked.IsZero() || known && age > namesFresh || !known && age > namesPause:
		asking := make(chan struct{})
		r.asking = asking
		r.mu.Unlock()
		addrs, err := n.resolve(ctx, host)
		r.mu.Lock()
		if r.asked, r.err, r.asking = time.Now(), err, nil; err == nil {
			r.addrs = addrs
		}
		close(asking)
	}
	return slices.Contains(r.addrs, addr)
}

func (n *names) resolve(ctx context.Context, host string) (addrs []netip.Addr, err error) {
	if n.lookup != nil {
		addrs, err = n.lookup(ctx, host)
	} else {
		addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	for i := range addrs {
		addrs[i] = plain(addrs[i])
	}
	return addrs, err
}

// say is what a host resolved to, in words.
func (n *names) say(host string) string {
	r := n.host(host)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.addrs) > 0:
		return strings.Trim(fmt.Sprint(r.addrs), "[]")
	case r.err != nil:
		return "which does not resolve"
	}
	return "not resolved yet"
}

// source is what counts as one address: of IPv6 a network, since every host has one of its own.
func source(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// A pending connection is one on which no association was requested yet, or is no longer.
type pending struct {
	nc   net.Conn
	from netip.Addr
}

// lobby holds the connections without an association. Where there are too many, from one source or together, one is closed:
// the oldest of the source that has the most. Who means it sends its request within milliseconds and closes as soon after
// the end, so those of known peers are never the oldest for long.
type lobby struct {
	mu      sync.Mutex // guards what follows
	waiting []*pending // oldest first
	count   map[netip.Addr]int
}

func (l *lobby) enter(p *pending, most, mostOfSource int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count = map[netip.Addr]int{}
	}
	l.waiting = append(l.waiting, p)
	l.count[p.from]++
	crowd := p.from
	if l.count[p.from] <= mostOfSource {
		if len(l.waiting) <= most {
			return
		}
		crowd = l.waiting[0].from
		for _, w := range l.waiting { // in order of age, so that the oldest goes where all have as many
			if l.count[w.from] > l.count[crowd] {
				crowd = w.from
			}
		}
	}
	i := slices.IndexFunc(l.waiting, func(w *pending) bool { return w.from == crowd })
	_ = l.waiting[i].nc.Close()
	l.remove(i)
}

func (l *lobby) leave(p *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, p); i >= 0 {
		l.remove(i)
	}
}

func (l *lobby) remove(i int) {
	from := l.waiting[i].from
	l.waiting = slices.Delete(l.waiting, i, i+1)
	if l.count[from]--; l.count[from] == 0 {
		delete(l.count, from)
	}
}
