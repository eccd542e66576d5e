package dimse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/ul"
)

func access(t testing.TB, o AccessOptions) *Access {
	t.Helper()
	a, err := NewAccess(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Who is known and who is not, and what the administrator reads.
func TestAdmit(t *testing.T) {
	peers := []KnownPeer{
		{Name: "CT1", Setting: "peers.CT1", AETitle: "CT1", From: []string{"10.0.0.7", "10.0.1.0/24", "fd00::/64"}},
		{Name: "CT1b", Setting: "peers.CT1b", AETitle: "CT1", From: []string{"::ffff:10.9.9.9"}},
		{Name: "PACS", Setting: "peers.PACS", AETitle: "ORTHANC", From: []string{"pacs.example"}},
		{Name: "ARCHIVE@10.0.0.8:104", AETitle: "ARCHIVE", From: []string{"10.0.0.8"}},
		{Name: "FAR", Setting: "peers.FAR", AETitle: "FAR", From: []string{"0.0.0.0/0"}, Certificate: "CN=far"},
	}
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "pacs.example" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.5"), netip.MustParseAddr("fe80::5%eth0")}, nil
	}
	for _, c := range []struct {
		options       AccessOptions
		calling, from string
		name          string // of the peer, where one is recognised
		why           Refusal
		advice        string
		echo          bool
	}{
		{calling: "CT1", from: "10.0.0.7", name: "CT1"},
		{calling: "CT1", from: "::ffff:10.0.0.7", name: "CT1"},
		{calling: "CT1", from: "10.0.1.200", name: "CT1"},
		{calling: "CT1", from: "fd00::1234", name: "CT1"},
		{calling: "CT1", from: "10.9.9.9", name: "CT1b"},
		{calling: "ORTHANC", from: "10.0.0.5", name: "PACS"},
		{calling: "ORTHANC", from: "fe80::5%eth1", name: "PACS"},
		{calling: "ARCHIVE", from: "10.0.0.8", name: "ARCHIVE@10.0.0.8:104"},
		{calling: "CT1", from: "10.0.2.7", why: RefusedAddress,
			advice: "CT1 is known from 10.0.0.7, 10.0.1.0/24, fd00::/64 only, not from 10.0.2.7: add it to peers.CT1.from"},
		{calling: "ORTHANC", from: "10.0.0.6", why: RefusedAddress, advice: "known from pacs.example (10.0.0.5 fe80::5) only, not from 10.0.0.6: add it to peers.PACS.from"},
		{calling: "ARCHIVE", from: "10.0.0.9", why: RefusedAddress, advice: `add it under peers, as ARCHIVE: {aet: ARCHIVE, from: ['10.0.0.9']}`},
		{calling: "CT2", from: "10.0.0.9", why: RefusedUnknown,
			advice: `calling AE title CT2 from 10.0.0.9 is not a known peer: add it under peers, as CT2: {aet: CT2, from: ['10.0.0.9']}`},
		{calling: "a: {b", from: "fd01::9", why: RefusedUnknown, advice: `"a: {b": {aet: "a: {b", from: ['fd01::9']}`},
		{calling: "ct1", from: "10.0.0.7", why: RefusedUnknown, advice: "not a known peer"},
		{calling: "CT1", from: "127.0.0.1", why: RefusedAddress},
		{options: AccessOptions{Local: true}, calling: "ANY", from: "127.0.0.1"},
		{options: AccessOptions{Local: true}, calling: "ANY", from: "::1"},
		{options: AccessOptions{Local: true}, calling: "ANY", from: "::ffff:127.0.0.2"},
		{options: AccessOptions{Local: true}, calling: "CT1", from: "127.0.0.1"},
		{options: AccessOptions{Local: true}, calling: "ANY", from: "10.0.0.1", why: RefusedUnknown},
		{options: AccessOptions{Local: true}, calling: "FAR", from: "127.0.0.1", why: RefusedCertificate, advice: "came without TLS"},
		{options: AccessOptions{Unknown: AcceptUnknown}, calling: "ANY", from: "10.0.0.1"},
		{options: AccessOptions{Unknown: AcceptUnknown}, calling: "FAR", from: "10.0.0.1", why: RefusedCertificate},
		{options: AccessOptions{Unknown: AcceptUnknown}, calling: "FAR", from: "fd00::1", why: RefusedAddress},
		{options: AccessOptions{Unknown: EchoUnknown}, calling: "ANY", from: "10.0.0.1", echo: true},
		{options: AccessOptions{Unknown: EchoUnknown}, calling: "CT1", from: "10.0.0.7", name: "CT1"},
		{options: AccessOptions{Unknown: EchoUnknown}, calling: "CT1", from: "10.0.0.8", echo: true},
		{options: AccessOptions{Unknown: EchoUnknown}, calling: "FAR", from: "10.0.0.1", why: RefusedCertificate},
	} {
		c.options.Peers = peers
		a := access(t, c.options)
		a.names.lookup = lookup
		g, why, refusal := a.admit(t.Context(), c.calling, caller{addr: plain(netip.MustParseAddr(c.from))}, 10)
		switch {
		case c.why != "":
			if refusal == nil || why != c.why || refusal.Reason != ul.RejectCallingAETitle.Reason || refusal.Result != ul.RejectedPermanent || !strings.Contains(refusal.Detail, c.advice) {
				t.Errorf("%s from %s: %v, %v, want %s: %s", c.calling, c.from, why, refusal, c.why, c.advice)
			}
		case refusal != nil || g.name() != c.name || g.echo != c.echo:
			t.Errorf("%s from %s: %+v, %v, want %q, echo alone %v", c.calling, c.from, g, refusal, c.name, c.echo)
		}
	}
}

// Addresses are compared with what names resolve to, never the other way round: there is nothing here that asks what the
// reverse DNS says. An answer survives a DNS that is down, and a new one is taken.
func TestHostNames(t *testing.T) {
	a := access(t, AccessOptions{Peers: []KnownPeer{{Name: "PACS", Setting: "peers.PACS", AETitle: "PACS", From: []string{"Pacs.Example"}}}})
	asked, answer, fault := 0, netip.MustParseAddr("10.0.0.5"), error(nil)
	a.names.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
		if asked++; host != "pacs.example" {
			t.Errorf("asked for %q", host)
		}
		return []netip.Addr{answer}, fault
	}
	age := func(d time.Duration) {
		r := a.names.host("pacs.example")
		r.asked = r.asked.Add(-d)
	}
	in := func(from string) bool {
		g, _, _ := a.admit(t.Context(), "PACS", caller{addr: netip.MustParseAddr(from)}, 100)
		return g != nil
	}
	for i, c := range []struct {
		from   string
		later  time.Duration
		answer string
		fault  error
		in     bool
		asked  int
	}{
		{"10.0.0.6", 0, "10.0.0.5", nil, false, 1},
		{"10.0.0.5", 0, "10.0.0.5", nil, true, 1},
		{"10.0.0.6", 0, "10.0.0.6", nil, false, 1}, // asked just now
		{"10.0.0.6", 2 * namesPause, "10.0.0.6", nil, true, 2},
		{"10.0.0.5", 0, "10.0.0.6", nil, false, 2},
		{"10.0.0.6", 2 * namesFresh, "", errors.New("down"), true, 3},
		{"10.0.0.6", 2 * namesFresh, "10.0.0.7", nil, false, 4},
	} {
		age(c.later)
		if fault = c.fault; c.answer != "" {
			answer = netip.MustParseAddr(c.answer)
		}
		if got := in(c.from); got != c.in || asked != c.asked {
			t.Errorf("%d: %s is in: %v after %d questions, want %v, %d", i, c.from, got, asked, c.in, c.asked)
		}
	}
}

func TestNewAccessRefuses(t *testing.T) {
	for from, want := range map[string]string{
		"10.0.1.7/24": "write 10.0.1.0/24", "10.0.0": "neither an IP address", "10.0.0.256": "neither an IP address", "10.0.0.0/33": "no network",
		"a b": "neither", "": "neither", "pacs.example:104": "neither", "-x": "neither", "::ffff:10.0.1.9/120": "write 10.0.1.0/24",
	} {
		_, err := NewAccess(AccessOptions{Peers: []KnownPeer{{Name: "X", Setting: "peers.X", AETitle: "X", From: []string{from}}}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "peers.X") {
			t.Errorf("%q: %v, want %q", from, err, want)
		}
	}
	for _, name := range []string{"CN=", "sha256:12", "sha256:" + strings.Repeat("g", 64), "a b", "O=x"} {
		if CheckCertificateName(name) == nil {
			t.Errorf("certificate %q is accepted", name)
		}
	}
	if err := CheckCertificateName("sha256:" + strings.Repeat("AB:", 31) + "AB"); err != nil {
		t.Error(err)
	}
	if _, err := NewAccess(AccessOptions{Unknown: "maybe"}); err == nil {
		t.Error("unknown: maybe is accepted")
	}
}

// A peer that is not known may verify the connection, and no more.
func TestEchoAlone(t *testing.T) {
	store := &memory{}
	server := &Server{Storage: store, Access: access(t, AccessOptions{Unknown: EchoUnknown})}
	addr, log, _ := serve(t, server)
	s := script(t, addr)
	if got := s.conn.Response.Contexts; got[0].Result != ul.Acceptance || got[1].Result != ul.UserRejection {
		t.Errorf("contexts %+v, want Verification alone", got)
	}
	s.alive() // so the line is written
	if !strings.Contains(log.String(), `calling AE title SCRIPT from 127.0.0.1 is not a known peer: add it under peers`) {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
	for name, m := range map[string]Message{
		"C-STORE": storeRQ(1, "1.2.3"), "N-ACTION": &Request{Field: NActionRQ, MessageID: 1, SOPClassUID: "1.2.840.10008.1.20.1", SOPInstanceUID: "1.2.840.10008.1.20.1.1"},
	} {
		s := script(t, addr)
		s.command(1, m).flush()
		s.t = quietly{t, name}
		s.aborted()
	}
	if st := server.Stats(); store.count() != 0 || st.Others.Associations != 3 || st.Others.ObjectsStored != 0 {
		t.Errorf("%d stored, %+v", store.count(), st)
	}
}

// quietly names the case at hand.
type quietly struct {
	testing.TB
	name string
}

func (q quietly) Errorf(format string, args ...any) { q.TB.Errorf(q.name+": "+format, args...) }

// A server that nobody told who may talk answers programs on this machine; one that was told refuses, and says why.
func TestUnknownPeersAreRefused(t *testing.T) {
	server := &Server{Storage: &memory{}, Access: access(t, AccessOptions{Peers: []KnownPeer{{Name: "CT1", Setting: "peers.CT1", AETitle: "CT1", From: []string{"127.0.0.1"}}}})}
	addr, log, stop := serve(t, server)
	var refusal *RejectedError
	for range 25 {
		if _, err := scriptAs(t, addr, "CT2", "RADNODE"); !errors.As(err, &refusal) || *refusal != ul.RejectCallingAETitle {
			t.Fatalf("%v, want %v", err, &ul.RejectCallingAETitle)
		}
	}
	s, err := scriptAs(t, addr, "CT1", "RADNODE")
	if err != nil {
		t.Fatal(err)
	}
	s.command(3, storeRQ(1, "1.2.3")).data([]byte("12345678")).flush()
	s.stored(1, StatusSuccess)
	if err := s.conn.Release(); err != nil {
		t.Error(err)
	}
	stop()
	n := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, "CT2 from 127.0.0.1 is not a known peer: add it under peers") {
			n++
		}
	}
	if n != strangerLines {
		t.Errorf("%d lines about 25 refusals, want %d and a sum\n%s", n, strangerLines, log)
	}
	if !strings.Contains(log.String(), server.Access.strange.withheld) || !strings.Contains(log.String(), "count=15") {
		t.Errorf("no sum of the others:\n%s", log)
	}
	st := server.Stats()
	ct1 := st.Peers["CT1"]
	if ct1.LastHeard.IsZero() {
		t.Error("CT1 was never heard of")
	}
	ct1.LastHeard = time.Time{}
	if want := (PeerStats{Associations: 1, ObjectsStored: 1, Bytes: 8}); ct1 != want || st.Refusals[RefusedUnknown] != 25 || len(st.Refusals) != 1 || st.AssociationsRefused != 25 {
		t.Errorf("stats %+v", st)
	}
}

// The log of refusals is bounded, whoever makes how many from wherever.
func TestQuiet(t *testing.T) {
	q := quiet{lines: strangerLines, total: strangerTotal}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	now := time.Now()
	for range 100 {
		if q.may(netip.MustParseAddr("10.0.0.9"), now) {
			fmt.Fprintln(&out, "line")
		}
	}
	if n := strings.Count(out.String(), "line"); n != strangerLines {
		t.Errorf("%d lines", n)
	}
	q.summary(log, now.Add(quietWindow/2), false)
	if strings.Contains(out.String(), "count") {
		t.Error("summed up too early")
	}
	q.summary(log, now.Add(quietWindow), false)
	if !strings.Contains(out.String(), "peer=10.0.0.9 count=90") {
		t.Errorf("no sum: %s", out.String())
	}
	if !q.may(netip.MustParseAddr("10.0.0.9"), now.Add(quietWindow)) {
		t.Error("still quiet a minute later")
	}
	lines, addr := 0, netip.MustParseAddr("10.1.0.0")
	for range 20000 {
		if addr = addr.Next(); q.may(addr, now.Add(2*quietWindow)) {
			lines++
		}
	}
	if lines != strangerTotal || len(q.sources) > quietSources+1 {
		t.Errorf("%d lines, %d sources kept", lines, len(q.sources))
	}
	out.Reset()
	if q.summary(log, now.Add(4*quietWindow), false); strings.Count(out.String(), "\n") != strangerTotal/10+1 || len(q.sources) != 0 {
		t.Errorf("%d lines sum up", strings.Count(out.String(), "\n"))
	}
	if source(netip.MustParseAddr("fd00::1")) != source(netip.MustParseAddr("fd00::2:3:4:5")) || source(netip.MustParseAddr("fd00::1")) == source(netip.MustParseAddr("fd00:0:0:1::1")) {
		t.Error("an IPv6 network is not one source")
	}
}

// Places are kept for those who reserved them, and a quarter of all for known peers; nobody who is known is pushed out.
func TestReservedPlaces(t *testing.T) {
	a := access(t, AccessOptions{Unknown: AcceptUnknown, Peers: []KnownPeer{
		{Name: "CT1", Setting: "peers.CT1", AETitle: "CT1", From: []string{"10.0.0.1"}, Reserved: 2, Associations: 3},
		{Name: "CT2", Setting: "peers.CT2", AETitle: "CT2", From: []string{"10.0.0.2"}},
	}})
	hosts := map[string]netip.Addr{"CT1": netip.MustParseAddr("10.0.0.1"), "CT2": netip.MustParseAddr("10.0.0.2"), "X": netip.MustParseAddr("10.9.0.0")}
	open := map[string][]*grant{}
	for i, c := range []struct {
		calling string
		why     Refusal
	}{
		{"X", ""}, {"X", ""}, {"X", ""}, {"X", ""}, {"X", ""}, {"X", ""},
		{"X", RefusedPlaces}, {"CT2", RefusedPlaces}, // 2 of 8 are kept for CT1
		{"CT1", ""}, {"CT1", ""}, {"CT1", RefusedPlaces},
		{"-X", ""}, {"CT1", ""}, {"-X", ""}, {"CT1", RefusedPeerPlaces}, // its own limit
		{"CT2", ""}, {"X", RefusedPlaces}, {"-X", ""}, {"X", ""},
	} {
		if calling, leave := strings.CutPrefix(c.calling, "-"); leave {
			open[calling][0].release()
			open[calling] = open[calling][1:]
			continue
		}
		if c.calling == "X" { // each from an address of its own
			hosts["X"] = hosts["X"].Next()
		}
		g, why, refusal := a.admit(t.Context(), c.calling, caller{addr: hosts[c.calling]}, 8)
		if why != c.why || (refusal == nil) != (c.why == "") || refusal != nil && refusal.Result != ul.RejectedTransient {
			t.Errorf("%d: %s: %q, %v, want %q", i, c.calling, why, refusal, c.why)
		}
		if refusal == nil {
			open[c.calling] = append(open[c.calling], g)
		}
	}
}

// One address that is not known cannot take the places of all that are not, under whatever titles; nothing is remembered of it when
// it is gone.
func TestPlacesOfStrangers(t *testing.T) {
	for _, unknown := range []Unknown{AcceptUnknown, EchoUnknown} {
		a := access(t, AccessOptions{Unknown: unknown})
		var open []*grant
		enter := func(i int, from string) Refusal {
			g, why, _ := a.admit(t.Context(), fmt.Sprintf("X%d", i), caller{addr: netip.MustParseAddr(from)}, 16)
			if g != nil {
				open = append(open, g)
			}
			return why
		}
		for i := range 6 {
			want := RefusedPeerPlaces
			if i < 4 {
				want = ""
			}
			if why := enter(i, "10.6.6.6"); why != want {
				t.Errorf("%s: association %d of one address: %q, want %q", unknown, i+1, why, want)
			}
			if why := enter(i, fmt.Sprintf("fd00::%d", i)); why != want {
				t.Errorf("%s: association %d of one IPv6 network: %q, want %q", unknown, i+1, why, want)
			}
		}
		if why := enter(0, "10.6.6.7"); why != "" {
			t.Errorf("%s: another address: %q", unknown, why)
		}
		for _, g := range open {
			g.release()
		}
		if len(open) != 9 || len(a.strangers) != 0 || a.open != 0 {
			t.Errorf("%s: %d were in; left are %v and %d", unknown, len(open), a.strangers, a.open)
		}
	}
}

// A peer above its limits is slowed down and nothing is refused; others are not. What it sends counts, whatever it is.
func TestPeersAreSlowed(t *testing.T) {
	known := func(name string, objects, octets float64) KnownPeer {
		return KnownPeer{Name: name, Setting: "peers." + name, AETitle: name, From: []string{"127.0.0.1"}, ObjectsPerSecond: objects, BytesPerSecond: octets}
	}
	server := &Server{Storage: &memory{}, Access: access(t, AccessOptions{Peers: []KnownPeer{
		known("OBJECTS", 20, 0), known("ECHOES", 20, 0), known("BYTES", 0, 2<<20), known("STRAY", 0, 2<<20), known("EMPTY", 0, 256<<10), known("FREE", 0, 0),
	}})}
	addr, _, _ := serve(t, server)
	stores := func(n, size int) func(s *scripted) {
		return func(s *scripted) {
			for i := range n {
				s.command(3, storeRQ(uint16(i), fmt.Sprintf("1.2.%d", i)))
				for left := size; left > 0; left -= 64 << 10 {
					s.pdv(3, false, left <= 64<<10, make([]byte, min(left, 64<<10)))
				}
				s.flush()
				s.stored(uint16(i), StatusSuccess)
			}
		}
	}
	for name, c := range map[string]struct {
		send  func(s *scripted)
		least time.Duration
		slow  time.Duration // a machine that takes so long is slow enough
	}{
		"OBJECTS": {stores(30, 100), 400 * time.Millisecond, time.Second}, // 20 at once, then 10 at 20/s: 500 ms
		"ECHOES": {func(s *scripted) {
			for range 30 {
				s.alive()
			}
		}, 400 * time.Millisecond, time.Second},
		"BYTES": {stores(5, 512<<10), 200 * time.Millisecond, time.Second}, // 2 MiB at once, then 512 KiB: 250 ms
		"STRAY": {func(s *scripted) { // data sets that nobody announced
			for range 5 {
				for range 8 {
					s.pdv(3, false, false, make([]byte, 64<<10))
				}
				s.alive()
			}
		}, 200 * time.Millisecond, time.Second},
		"EMPTY": {func(s *scripted) { // fragments of commands with nothing in them: 12 bytes each, of which 256 KiB come at once
			s.command(3, storeRQ(1, "1.2.3"))
			for range 30_000 {
				s.pdv(3, false, false, nil)
			}
			s.data([]byte("12345678")).flush()
			s.stored(1, StatusSuccess)
		}, 200 * time.Millisecond, time.Second},
		"FREE": {stores(300, 64<<10), 0, time.Hour},
	} {
		s, err := scriptAs(t, addr, name, "RADNODE")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		c.send(s)
		slowed := server.Stats().Peers[name].Slowed
		if took := time.Since(start); took < c.least || took < c.slow && (slowed > 0) != (c.least > 0) {
			t.Errorf("%s took %v, slowed %v, want at least %v", name, took, slowed, c.least)
		}
	}
}

// Who may verify the connection and no more cannot keep the node busy with it, nor hold its place.
func TestEchoesAreSlowed(t *testing.T) {
	server := &Server{Storage: &memory{}, Access: access(t, AccessOptions{Unknown: EchoUnknown})}
	addr, _, _ := serve(t, server)
	start := time.Now()
	for range 2 {
		s := script(t, addr)
		for range 3 * echoRate / 4 {
			s.alive()
		}
	}
	if took := time.Since(start); took < 400*time.Millisecond { // 100 at once, 50 at 100/s
		t.Errorf("150 took %v", took)
	}
}

// Connections that say nothing from one source cannot push out another's, however many they are.
func TestLobby(t *testing.T) {
	var l lobby
	closed := map[*pending]bool{}
	knock := func(from string) *pending {
		p := &pending{from: netip.MustParseAddr(from)}
		p.nc = closing{func() { closed[p] = true }}
		l.enter(p, 10, 6)
		return p
	}
	known := []*pending{knock("10.0.0.1"), knock("10.0.0.1")}
	var crowd []*pending
	for range 50 {
		crowd = append(crowd, knock("10.6.6.6"))
	}
	if len(closed) != 44 || closed[crowd[44]] || !closed[crowd[43]] {
		t.Errorf("%d of a crowd are closed", len(closed))
	}
	for range 50 {
		crowd = append(crowd, knock("10.7.7.7"))
	}
	for _, p := range known {
		if closed[p] {
			t.Error("a connection of another source is closed")
		}
		l.leave(p)
		l.leave(p)
	}
	open := 0
	for _, p := range crowd {
		if !closed[p] {
			open++
			l.leave(p)
		}
	}
	if open != 8 || len(l.waiting) != 0 || len(l.count) != 0 {
		t.Errorf("%d of the crowd are open, %d left, counts %v", open, len(l.waiting), l.count)
	}
}

type closing struct{ close func() }

func (closing) Read([]byte) (int, error)         { return 0, os.ErrClosed }
func (closing) Write([]byte) (int, error)        { return 0, os.ErrClosed }
func (c closing) Close() error                   { c.close(); return nil }
func (closing) LocalAddr() net.Addr              { return nil }
func (closing) RemoteAddr() net.Addr             { return nil }
func (closing) SetDeadline(time.Time) error      { return nil }
func (closing) SetReadDeadline(time.Time) error  { return nil }
func (closing) SetWriteDeadline(time.Time) error { return nil }

// What a hostile peer claims to be never becomes part of a decision in another form than it was given in.
func FuzzAdmit(f *testing.F) {
	f.Add("CT1", "10.0.0.7", "10.0.0.0/8")
	f.Add("CT1", "::ffff:10.0.0.7", "fd00::/64")
	f.Add("a: {b", "fe80::1%x", "pacs.example")
	f.Add("CT1", "::ffff:10.0.0.7", "::/64")
	f.Add("CT1", "10.0.0.7", "::ffff:10.0.0.0/104")
	f.Fuzz(func(t *testing.T, calling, from, list string) {
		addr, err := netip.ParseAddr(from)
		a, bad := NewAccess(AccessOptions{Peers: []KnownPeer{{Name: "P", Setting: "peers.P", AETitle: "CT1", From: []string{list}}}})
		if err != nil || bad != nil {
			return
		}
		a.names.lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("none") }
		g, _, refusal := a.admit(t.Context(), calling, caller{addr: plain(addr)}, 1)
		network, err := netip.ParsePrefix(list)
		if one, e := netip.ParseAddr(list); e == nil {
			network, err = plain(one).Prefix(plain(one).BitLen())
		}
		mapped := network.Addr().Is4In6() && network.Bits() >= 96 // a network of IPv4 in the form of IPv6; any other holds no IPv4
		contained := err == nil && (network.Contains(plain(addr)) || mapped && network.Contains(netip.AddrFrom16(addr.As16())))
		if want := calling == "CT1" && contained; (g != nil) != want || (refusal == nil) != want {
			t.Errorf("%q from %s, known from %s: in %v, want %v", calling, from, list, g != nil, want)
		}
	})
}
