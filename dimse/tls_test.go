package dimse

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// An authority issues certificates into a folder.
type authority struct {
	t    testing.TB
	dir  string
	file string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	a.cert, a.key = template, a.newKey()
	var files TLSFiles
	files, a.cert = a.issue(template)
	a.file = files.Certificate
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

// issue signs a certificate and writes it and its key.
func (a *authority) issue(template *x509.Certificate) (TLSFiles, *x509.Certificate) {
	a.t.Helper()
	key := a.key
	if !template.IsCA {
		key = a.newKey()
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	base := filepath.Join(a.dir, template.SerialNumber.String())
	files := TLSFiles{Certificate: base + ".crt", Key: base + ".key", CA: a.file}
	for file, block := range map[string]*pem.Block{files.Certificate: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return files, cert
}

// leaf is a certificate of an application entity that listens at 127.0.0.1 and calls.
func leaf(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 6, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (a *authority) tls(template *x509.Certificate) *TLS {
	a.t.Helper()
	files, _ := a.issue(template)
	return newTLS(a.t, files, nil)
}

func newTLS(t testing.TB, files TLSFiles, log *slog.Logger) *TLS {
	t.Helper()
	c, err := NewTLS(files, log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serveTLS starts s on a free TLS port.
func serveTLS(t testing.TB, s *Server, config *tls.Config) (addr string, log *syncBuffer, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = &syncBuffer{}
	s.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.Grace = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeTLS(ctx, l, config) }()
	var once bool
	stop = func() {
		if once {
			return
		}
		once = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ServeTLS: %v", err)
		}
		if t.Failed() {
			t.Logf("server log:\n%s", log)
		}
	}
	t.Cleanup(stop)
	return l.Addr().String(), log, stop
}

// dialled opens an association over TLS, verifies it and stores an object.
func dialled(t testing.TB, addr string, config *tls.Config, calling string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := Dial(ctx, Peer{"RADNODE", addr}, DialOptions{CallingAET: calling, TLS: config, Proposals: []Proposal{
		{dicom.VerificationSOPClass, []string{dicom.ImplicitVRLittleEndian}}, {dicom.CTImageStorage, []string{dicom.ExplicitVRLittleEndian}},
	}})
	if err != nil {
		return err
	}
	defer c.Abort()
	if err := c.Echo(ctx); err != nil {
		return err
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	meta := dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: "1.2." + fmt.Sprint(len(calling)), TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
	status, err := c.Store(ctx, meta, bytes.NewReader(data))
	if err != nil {
		return err
	}
	if !status.Success() {
		return &status
	}
	return c.Release(ctx)
}

// Who sends a handshake without an end is stopped early: crypto/tls alone would hold a quarter of a MiB for each. Where no authority
// is named, nobody is verified, and not everybody whom the system trusts.
func TestTLSHandshakeIsBounded(t *testing.T) {
	ca := newAuthority(t, "hospital")
	server := &Server{Storage: &memory{}}
	addr, log, _ := serveTLS(t, server, ca.tls(leaf("radnode")).Server(true))
	config := ca.tls(leaf("ct1")).Client("")
	shown, err := config.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		long := *shown
		for len(long.Certificate) < 400 {
			long.Certificate = append(long.Certificate, shown.Certificate[0])
		}
		return &long, nil
	}
	if err := dialled(t, addr, config, "CT1"); err == nil {
		t.Error("accepted")
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "too long a chain of certificates"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("log:\n%s", log)
		}
	}
	if err := dialled(t, addr, ca.tls(leaf("ct1")).Client(""), "CT1"); err != nil { // sends more than that behind the handshake
		t.Error(err)
	}

	alone, _ := ca.issue(leaf("radnode"))
	alone.CA = ""
	c, err := newTLS(t, alone, nil).Server(true).GetConfigForClient(nil)
	if err != nil || c.ClientCAs == nil || !c.ClientCAs.Equal(x509.NewCertPool()) {
		t.Errorf("without authorities: %v, %v", c.ClientCAs, err)
	}
}

// Input 7: a certificate that is absent, expired, not valid yet, of another authority, made for another use, or of another AE is
// refused, and the log says each time what is wrong. Also who speaks another protocol.
func TestTLSRefusals(t *testing.T) {
	ca, other := newAuthority(t, "hospital"), newAuthority(t, "elsewhere")
	foreign, _ := other.issue(leaf("ct1"))
	foreign.CA = ca.file
	with := func(change func(c *x509.Certificate)) *TLS {
		c := leaf("ct1")
		change(c)
		return ca.tls(c)
	}
	_, pinned := ca.issue(leaf("ct3"))
	store := &memory{}
	server := &Server{Storage: store, ARTIM: 5 * time.Second, Access: access(t, AccessOptions{Peers: []KnownPeer{
		{Name: "CT1", Setting: "peers.CT1", AETitle: "CT1", From: []string{"127.0.0.1"}, Certificate: "CN=ct1"},
		{Name: "CT2", Setting: "peers.CT2", AETitle: "CT2", From: []string{"127.0.0.1"}, Certificate: "ct2.example"},
		{Name: "CT3", Setting: "peers.CT3", AETitle: "CT3", From: []string{"127.0.0.1"}, Certificate: fmt.Sprintf("sha256:%X", sha256.Sum256(pinned.Raw))},
		{Name: "ANY", Setting: "peers.ANY", AETitle: "ANY", From: []string{"127.0.0.1"}},
	}})}
	addr, log, _ := serveTLS(t, server, ca.tls(leaf("radnode")).Server(true))
	hello := func(text string) func() error {
		return func() error {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				return nil
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err = nc.Write([]byte(text)); err == nil {
				_, err = io.Copy(io.Discard, nc)
			}
			if err == nil {
				err = io.EOF
			}
			return err
		}
	}
	call := func(c *TLS, calling string) func() error {
		return func() error { return dialled(t, addr, c.Client(""), calling) }
	}
	for name, c := range map[string]struct {
		try func() error
		log string // "" = accepted
		why Refusal
	}{
		"right":         {call(ca.tls(leaf("ct1")), "CT1"), "", ""},
		"by DNS name":   {call(ca.tls(leaf("ct2")), "CT2"), "", ""},
		"any":           {call(ca.tls(leaf("x")), "ANY"), "", ""},
		"absent":        {call(newTLS(t, TLSFiles{CA: ca.file}, nil), "CT1"), "the peer showed no certificate", RefusedTLS},
		"expired":       {call(with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "CT1"), `certificate CN=\"ct1\"`, RefusedTLS},
		"not yet valid": {call(with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), "CT1"), "check the clocks", RefusedTLS},
		"wrong CA":      {call(newTLS(t, foreign, nil), "CT1"), "of an authority that we do not know", RefusedTLS},
		"wrong use": {call(with(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), "CT1"),
			"it needs serverAuth where it is called and clientAuth where it calls", RefusedTLS},
		"wrong AE":          {call(ca.tls(leaf("ct2")), "CT1"), `AE title CT1 is bound to the certificate CN=ct1, and 127.0.0.1 showed the one of CN=\"ct2\"`, RefusedCertificate},
		"wrong fingerprint": {call(ca.tls(leaf("ct3")), "CT3"), "AE title CT3 is bound to the certificate sha256:", RefusedCertificate},
		"unknown AE":        {call(ca.tls(leaf("ct1")), "CT9"), "CT9 from 127.0.0.1 is not a known peer", RefusedUnknown},
		"DICOM":             {hello("\x01\x00\x00\x00\x00\xcd\x00\x01"), "the peer speaks DICOM without TLS on a TLS port", RefusedTLS},
		"HTTP":              {hello("GET / HTTP/1.1\r\n\r\n"), "the peer speaks HTTP without TLS", RefusedTLS},
		"TLS 1.1": {func() error {
			nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
			if err == nil {
				nc.Close()
			}
			return err
		}, "unsupported versions", RefusedTLS},
	} {
		t.Run(name, func(t *testing.T) {
			before, lines := server.Stats().Refusals[c.why], len(log.String())
			server.Access.summary(server.Logger, time.Now(), true) // of its own, each line is written
			err := c.try()
			if c.log == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Error("was accepted")
			}
			for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String()[lines:], c.log) || server.Stats().Refusals[c.why] == before; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("log lacks %q, or the count %s does not rise:\n%s", c.log, c.why, log.String()[lines:])
				}
			}
			if !strings.Contains(log.String()[lines:], `msg="association refused"`) {
				t.Errorf("log:\n%s", log.String()[lines:])
			}
			t.Logf("the peer reads: %v", err)
		})
	}
	if store.count() != 1 { // one UID for all
		t.Errorf("%d stored", store.count())
	}

	// On the plain port a bound AE title is refused, and TLS is named.
	plainAddr, plainLog, stop := serve(t, &Server{Storage: store, Access: server.Access})
	if _, err := scriptAs(t, plainAddr, "CT1", "RADNODE"); err == nil {
		t.Error("a bound AE title is accepted without TLS")
	}
	if err := dialled(t, plainAddr, ca.tls(leaf("ct1")).Client(""), "CT1"); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("TLS on the plain port: %v", err)
	}
	stop() // the answer travels before the line is written
	for _, want := range []string{"127.0.0.1 came without TLS", "the peer speaks TLS on a port without it"} {
		if !strings.Contains(plainLog.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, plainLog)
		}
	}
}

// A TLS port that answers an association request with an alert, as OpenSSL does, is named for what it is.
func TestDialToTLSPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_, _ = io.ReadFull(nc, make([]byte, 100))
		_, _ = nc.Write([]byte("\x15\x03\x01\x00\x02\x02\x46")) // fatal, protocol_version
		_ = nc.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
	}()
	if err := dialled(t, l.Addr().String(), nil, "CT1"); err == nil || !strings.Contains(err.Error(), "TLS port") {
		t.Error(err)
	}
}

// Versions, cipher suites and curves are those of the profile.
func TestTLSProfile(t *testing.T) {
	ca := newAuthority(t, "hospital")
	client := ca.tls(leaf("ct1"))
	addr, _, _ := serveTLS(t, &Server{Storage: &memory{}}, ca.tls(leaf("radnode")).Server(true))
	for _, c := range []struct {
		change func(c *tls.Config)
		ok     bool
	}{
		{func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		{func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} }, true},
		{func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }, false},
		{func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}, true},
		{func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
	} {
		config := client.Client("")
		c.change(config)
		if err := dialled(t, addr, config, "CT1"); (err == nil) != c.ok {
			t.Errorf("%+v: %v, want accepted %v", config, err, c.ok)
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := client.Client("")
		config.MaxVersion, config.SessionTicketsDisabled, config.ClientSessionCache = version, false, noSessions{t}
		if err := dialled(t, addr, config, "CT1"); err != nil {
			t.Error(err)
		}
	}
}

// noSessions fails the test where the server offers a session to resume.
type noSessions struct{ t testing.TB }

func (noSessions) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (n noSessions) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		n.t.Error("the server offers a session to resume")
	}
}

// A handshake that freezes keeps nobody waiting and ends; input 6.
func TestFrozenHandshake(t *testing.T) {
	ca := newAuthority(t, "hospital")
	addr, _, _ := serveTLS(t, &Server{Storage: &memory{}, ARTIM: 2 * time.Second}, ca.tls(leaf("radnode")).Server(true))
	var frozen []net.Conn
	for i := range 30 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = nc.Write([]byte("\x16\x03\x01\x02\x00\x01")[:i%7])
		frozen = append(frozen, nc)
	}
	if err := dialled(t, addr, ca.tls(leaf("ct1")).Client(""), "CT1"); err != nil {
		t.Error(err)
	}
	for _, nc := range frozen {
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a frozen handshake is still open")
		}
	}
}

// Certificates are renewed while the server runs; a broken file changes nothing and is logged once.
func TestTLSFilesAreReadAgain(t *testing.T) {
	ca, next := newAuthority(t, "hospital"), newAuthority(t, "next")
	files, first := ca.issue(leaf("radnode"))
	log := &syncBuffer{}
	server := newTLS(t, files, slog.New(slog.NewTextHandler(log, nil)))
	addr, _, _ := serveTLS(t, &Server{Storage: &memory{}}, server.Server(true))
	client := ca.tls(leaf("ct1"))
	shown := func() []byte {
		t.Helper()
		server.mu.Lock()
		server.looked = time.Time{}
		server.mu.Unlock()
		var der []byte
		config := client.Client("CN=radnode")
		config.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error { der = raw[0]; return nil }
		if err := dialled(t, addr, config, "CT1"); err != nil {
			t.Fatal(err)
		}
		return der
	}
	replace := func(file string, with []byte) {
		t.Helper()
		if err := os.WriteFile(file, with, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	content := func(file string) []byte {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(shown(), first.Raw) {
		t.Error("another certificate")
	}
	renewed, second := ca.issue(leaf("radnode"))
	replace(files.Certificate, content(renewed.Certificate)) // the key does not fit yet
	for range 3 {
		if !bytes.Equal(shown(), first.Raw) {
			t.Error("half a renewal is in use")
		}
	}
	if n := strings.Count(log.String(), "those read before stay in use"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	replace(files.Key, content(renewed.Key))
	if !bytes.Equal(shown(), second.Raw) || strings.Count(log.String(), "TLS files read again") != 1 {
		t.Errorf("the new certificate is not in use:\n%s", log)
	}
	replace(ca.file, []byte("nothing"))
	if !bytes.Equal(shown(), second.Raw) {
		t.Error("another certificate")
	}
	replace(ca.file, content(next.file)) // from now on another authority
	server.mu.Lock()
	server.looked = time.Time{}
	server.mu.Unlock()
	config := client.Client("")
	config.InsecureSkipVerify = true
	if err := dialled(t, addr, config, "CT1"); err == nil || !strings.Contains(err.Error(), "the peer refused") {
		t.Errorf("a certificate of the old authority: %v", err)
	}
}

func TestNewTLSRefuses(t *testing.T) {
	ca := newAuthority(t, "hospital")
	one, _ := ca.issue(leaf("one"))
	two, _ := ca.issue(leaf("two"))
	for want, files := range map[string]TLSFiles{
		"no such file":                {Certificate: filepath.Join(t.TempDir(), "x"), Key: one.Key},
		"private key does not match":  {Certificate: one.Certificate, Key: two.Key},
		"holds no certificate in PEM": {CA: one.Key},
		"certificate \"\" and key":    {Key: one.Key},
	} {
		if _, err := NewTLS(files, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", files, err, want)
		}
	}
}

// Whom we call must be the host that we call, or show the certificate that is configured.
func TestTLSServerIsVerified(t *testing.T) {
	ca, other := newAuthority(t, "hospital"), newAuthority(t, "elsewhere")
	elsewhere := leaf("radnode")
	elsewhere.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)}
	addr, _, _ := serveTLS(t, &Server{Storage: &memory{}}, ca.tls(elsewhere).Server(false))
	client, stranger := ca.tls(leaf("ct1")), other.tls(leaf("ct1"))
	for _, c := range []struct {
		client      *TLS
		certificate string
		want        string
	}{
		{client, "", "not made for the host 127.0.0.1"},
		{client, "CN=radnode", ""},
		{client, "radnode.example", ""},
		{client, "CN=pacs", "not CN=pacs"},
		{stranger, "CN=radnode", "of an authority that we do not know"},
		{newTLS(t, TLSFiles{CA: ca.file}, nil), "CN=radnode", ""}, // the server does not require one
	} {
		err := dialled(t, addr, c.client.Client(c.certificate), "CT1")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.certificate, err, c.want)
		}
	}
}

// DCMTK's tools over TLS, in every one of its profiles that the standard has not retired: with and without a certificate, as
// sender and as receiver.
func TestTLSWithDCMTK(t *testing.T) {
	echoscu, storescu, storescp := peer(t, "echoscu"), peer(t, "storescu"), peer(t, "storescp")
	ca := newAuthority(t, "hospital")
	own, _ := ca.issue(leaf("ct1"))
	store := &memory{}
	server := &Server{Storage: store, Access: access(t, AccessOptions{Peers: []KnownPeer{{Name: "CT1", Setting: "peers.CT1", AETitle: "CT1", From: []string{"127.0.0.1"}, Certificate: "CN=ct1"}}})}
	addr, log, stop := serveTLS(t, server, ca.tls(leaf("radnode")).Server(true))
	host, port := hostPort(t, addr)
	for _, profile := range []string{"+py", "+px", "+pz"} {
		run(t, echoscu, "+tls", own.Key, own.Certificate, "+cf", ca.file, profile, "-aet", "CT1", "-aec", "RADNODE", host, port)
	}
	dir := t.TempDir()
	file, data := sample(t, dir, dicom.CTImageStorage, "1.2.3.4", dicom.ExplicitVRLittleEndian)
	run(t, storescu, "+tls", own.Key, own.Certificate, "+cf", ca.file, "-R", "-aet", "CT1", "-aec", "RADNODE", host, port, file)
	if o, ok := store.get("1.2.3.4"); !ok || !bytes.Equal(o.data, data) {
		t.Errorf("%v, %d bytes", ok, len(o.data))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, args := range [][]string{{"+tla", "-ic"}, nil} {
		if out, err := exec.CommandContext(ctx, echoscu, append(slices.Clone(args), "-aet", "CT1", "-aec", "RADNODE", host, port)...).CombinedOutput(); err == nil {
			t.Errorf("%v is accepted\n%s", args, out)
		}
	}
	stop()
	for _, want := range []string{"the peer showed no certificate", "DICOM without TLS"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}

	received := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port = hostPort(t, l.Addr().String())
	_ = l.Close()
	cmd := exec.CommandContext(ctx, storescp, "+tls", own.Key, own.Certificate, "+cf", ca.file, "-od", received, "-uf", "+B", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	c, err := dialUntil(ctx, Peer{"STORESCP", "127.0.0.1:" + port}, DialOptions{TLS: ca.tls(leaf("radnode")).Client(""), Proposals: []Proposal{{dicom.CTImageStorage, []string{dicom.ExplicitVRLittleEndian}}}})
	if err != nil {
		t.Fatal(err)
	}
	meta := dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: "1.2.3.4", TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
	if status, err := c.Store(ctx, meta, bytes.NewReader(data)); err != nil || !status.Success() {
		t.Fatalf("%v, %v", status, err)
	}
	if err := c.Release(ctx); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(received, "CT.1.2.3.4")); err != nil || !bytes.HasSuffix(got, data) {
		t.Errorf("not what storescp wrote: %v", err)
	}
	if _, err := Dial(ctx, Peer{"STORESCP", "127.0.0.1:" + port}, DialOptions{TLS: newTLS(t, TLSFiles{CA: ca.file}, nil).Client("")}); err == nil {
		t.Error("storescp accepted an association without a certificate of ours") // and resets the connection, often before its alert is read
	}
	if _, err := Dial(ctx, Peer{"STORESCP", "127.0.0.1:" + port}, DialOptions{}); err == nil {
		t.Error("storescp accepted an association without TLS")
	} else {
		t.Log("plain to a TLS port:", err)
	}
}

// That our certificate comes to its end is said at start, before anybody calls.
func TestExpirySaid(t *testing.T) {
	ca := newAuthority(t, "hospital")
	for days, want := range map[int]bool{-1: true, 20: true, 40: false} {
		template := leaf("radnode")
		template.NotBefore, template.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, days)
		files, certificate := ca.issue(template)
		log := &syncBuffer{}
		c := newTLS(t, files, slog.New(slog.NewTextHandler(log, nil)))
		if got := strings.Contains(log.String(), "expires soon or has expired"); got != want {
			t.Errorf("%d days before its end: said %v, want %v: %s", days, got, want, log)
		}
		if !c.Expires().Equal(certificate.NotAfter) {
			t.Errorf("expires %v, want %v", c.Expires(), certificate.NotAfter)
		}
	}
	if c := newTLS(t, TLSFiles{CA: ca.file}, nil); !c.Expires().IsZero() {
		t.Error("without a certificate nothing expires")
	}
}
