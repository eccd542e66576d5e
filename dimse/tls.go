package dimse

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/radnode/radnode/dimse/ul"
)

// TLSFiles are PEM files.
type TLSFiles struct {
	Certificate, Key string // ours, with the intermediate certificates behind it; both empty = none
	CA               string // certificates of the authorities that peers' certificates lead to
}

// TLS is DICOM over TLS by the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile, PS3.15 B.12, on both sides.
// The files are read again when they change, so that a certificate is renewed without a restart; where the new ones are
// broken, the old ones stay in use.
type TLS struct {
	files   TLSFiles
	log     *slog.Logger
	current atomic.Pointer[material]

	mu     sync.Mutex // held by who looks at the files
	looked time.Time
	broken string    // the error that was logged last
	warned time.Time // that our certificate expires
}

// material is what the files hold.
type material struct {
	content     [3][]byte
	certificate *tls.Certificate // nil = none
	leaf        *x509.Certificate
	ca          *x509.CertPool
}

// NewTLS reads the files; an error names the one at fault.
func NewTLS(files TLSFiles, log *slog.Logger) (*TLS, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &TLS{files: files, log: log}
	m, err := t.read()
	if err != nil {
		return nil, err
	}
	t.current.Store(m)
	t.warn(m, time.Now())
	return t, nil
}

// ExpiresSoon is how long before the end of our certificate warnings begin.
const ExpiresSoon = 30 * 24 * time.Hour

// warn logs once a day that our certificate comes to its end.
func (t *TLS) warn(m *material, now time.Time) {
	if m.leaf == nil || now.Sub(t.warned) < 24*time.Hour || m.leaf.NotAfter.Sub(now) > ExpiresSoon {
		return
	}
	t.warned = now
	t.log.Warn("our TLS certificate expires soon or has expired: renew it", "file", t.files.Certificate, "expires", m.leaf.NotAfter.UTC().Format(time.DateTime))
}

// Expires is when our certificate ends; zero where there is none.
func (t *TLS) Expires() time.Time {
	if m := t.material(); m.leaf != nil {
		return m.leaf.NotAfter
	}
	return time.Time{}
}

// maxPEM is more than every certificate authority of the world together.
const maxPEM = 4 << 20

func (t *TLS) read() (*material, error) {
	m := &material{}
	for i, name := range []string{t.files.Certificate, t.files.Key, t.files.CA} {
		if name == "" {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		m.content[i], err = io.ReadAll(io.LimitReader(f, maxPEM))
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	if old := t.current.Load(); old != nil {
		same := true
		for i := range m.content {
			same = same && bytes.Equal(m.content[i], old.content[i])
		}
		if same {
			return old, nil
		}
	}
	if t.files.Certificate != "" || t.files.Key != "" {
		pair, err := tls.X509KeyPair(m.content[0], m.content[1])
		if err != nil {
			return nil, fmt.Errorf("certificate %q and key %q: %w", t.files.Certificate, t.files.Key, err)
		}
		m.certificate, m.leaf = &pair, pair.Leaf
	}
	if t.files.CA != "" {
		m.ca = x509.NewCertPool()
		n := 0
		for block, rest := pem.Decode(m.content[2]); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			n++
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("CA file %q: certificate %d cannot be read: %w", t.files.CA, n, err)
			}
			m.ca.AddCert(c)
		}
		if n == 0 {
			return nil, fmt.Errorf("CA file %q holds no certificate in PEM", t.files.CA)
		}
	}
	return m, nil
}

// material returns what the files hold, looked at once a second at most.
func (t *TLS) material() *material {
	if !t.mu.TryLock() { // a disk may be slow; handshakes are not
		return t.current.Load()
	}
	defer t.mu.Unlock()
	now := time.Now()
	if now.Sub(t.looked) < time.Second {
		return t.current.Load()
	}
	t.looked = now
	old := t.current.Load()
	m, err := t.read()
	switch {
	case err != nil:
		if t.broken != err.Error() {
			t.broken = err.Error()
			t.log.Error("TLS files cannot be used; those read before stay in use", "error", err)
		}
		m = old
	case m != old:
		t.current.Store(m)
		t.log.Info("TLS files read again", "certificate", t.files.Certificate, "ca", t.files.CA)
		fallthrough
	default:
		t.broken = ""
	}
	t.warn(m, now)
	return m
}

// profile is what both sides agree to: RFC 9325 3.1.1 (versions), 3.4 (no tickets: a session that is resumed would live on
// with what was true when it began), 3.5 (no renegotiation), 4.2 and 4.2.1 (cipher suites and curves; those of TLS 1.3 are fixed).
func profile() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		},
		CurvePreferences:       []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		SessionTicketsDisabled: true,
		Renegotiation:          tls.RenegotiateNever,
	}
}

// Server is the configuration of the side that is called. require refuses peers without a certificate; one that is shown must
// be good in any case.
func (t *TLS) Server(require bool) *tls.Config {
	c := profile()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m, c := t.material(), profile()
		if m.certificate == nil {
			return nil, errors.New("no certificate to show")
		}
		c.Certificates, c.ClientCAs, c.ClientAuth = []tls.Certificate{*m.certificate}, m.ca, tls.VerifyClientCertIfGiven
		if m.ca == nil { // for crypto/tls that is everybody whom the system trusts
			c.ClientCAs = x509.NewCertPool()
		}
		if require {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return c, nil
	}
	return c
}

// Client is the configuration for one call. The peer's certificate must lead to the CA and be valid for the host that is
// called, or, where certificate is not empty, be the one of that name; see [CheckCertificateName].
func (t *TLS) Client(certificate string) *tls.Config {
	m, c := t.material(), profile()
	c.RootCAs = m.ca
	// Shown whatever authorities the peer lists: its refusal tells more than its complaint that none was shown.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if m.certificate == nil {
			return &tls.Certificate{}, nil
		}
		return m.certificate, nil
	}
	if certificate == "" {
		return c
	}
	c.InsecureSkipVerify = true // the name alone: VerifyConnection does the rest
	c.VerifyConnection = func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: m.ca, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		leaf := s.PeerCertificates[0]
		if _, err := leaf.Verify(o); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		if !certificateIs(leaf, certificate) {
			return fmt.Errorf("it shows the certificate of %s, not %s", describeCertificate(leaf), certificate)
		}
		return nil
	}
	return c
}

// dialTLS opens a TLS connection.
func dialTLS(ctx context.Context, address string, c *tls.Config) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if c.ServerName == "" {
		c = c.Clone()
		c.ServerName = host
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(nc, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, tlsFault(err, "peer's")
	}
	return conn, nil
}

// tlsRefusal names an alert for what it is.
func tlsRefusal(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return tlsFault(err, "peer's")
	}
	return err
}

// tlsFault says what went wrong in a handshake in words for an administrator. whose is whose certificate we verify.
func tlsFault(err error, whose string) error {
	if fault := explain(err, whose); fault != "" {
		return fmt.Errorf("TLS: %s (%w)", fault, err)
	}
	return fmt.Errorf("TLS: %w", err)
}

func explain(err error, whose string) string {
	var (
		header  tls.RecordHeaderError
		verify  *tls.CertificateVerificationError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		op      *net.OpError
	)
	name := whose + " certificate"
	if errors.As(err, &verify) && len(verify.UnverifiedCertificates) > 0 {
		name += " " + describeCertificate(verify.UnverifiedCertificates[0])
	}
	switch {
	case errors.Is(err, errLongHandshake):
		return "the peer sends too long a chain of certificates: leave those out that do not lead to the authority"
	case errors.As(err, &header):
		return "the peer speaks " + or(ul.Protocol(header.RecordHeader[:]), "another protocol") + " without TLS on a TLS port: configure TLS there, or point it at the other port"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		return fmt.Sprintf("the %s is not valid before %s: check the clocks", name, invalid.Cert.NotBefore.UTC().Format(time.DateTime))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the %s expired on %s: renew it there", name, invalid.Cert.NotAfter.UTC().Format(time.DateTime))
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return fmt.Sprintf("the %s is not made for this side of a connection (Extended Key Usage): it needs serverAuth where it is called and clientAuth where it calls", name)
	case errors.As(err, &unknown):
		return fmt.Sprintf("the %s is of an authority that we do not know: add that to the CA file, or have it issued by one of those", name)
	case errors.As(err, &host):
		return fmt.Sprintf("the %s is not made for the host %s: call it by a name that is in it, or name the certificate", name, host.Host)
	case strings.Contains(err.Error(), "didn't provide a certificate"): // crypto/tls has no type for it
		return "the peer showed no certificate: give it one, or do not require any"
	case errors.As(err, &op) && op.Op == "remote error":
		return "the peer refused: it does not accept our certificate or our settings"
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "the handshake did not come to an end"
	}
	return ""
}

// linger lets the peer read our alert: to close on unread bytes would reset the connection.
func linger(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok && t.CloseWrite() == nil {
		_ = t.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.CopyN(io.Discard, t, 64<<10)
	}
}

// maxHandshakeBytes bounds what a stranger may make us hold: crypto/tls alone takes a quarter of a MiB of certificates. A chain of
// five has about 10 KiB.
const maxHandshakeBytes = 64 << 10

var errLongHandshake = fmt.Errorf("a handshake of more than %d bytes", maxHandshakeBytes)

// A countedConn knows whether anything arrived, bounds it until the handshake is over, and acknowledges it at once: a handshake with
// a sender that has Nagle's algorithm on takes 40 ms more otherwise.
type countedConn struct {
	net.Conn
	acknowledge func()
	read        int64
	established bool
}

func (c *countedConn) Read(p []byte) (int, error) {
	if !c.established && c.read > maxHandshakeBytes {
		return 0, errLongHandshake
	}
	n, err := c.Conn.Read(p)
	c.acknowledge()
	c.read += int64(n)
	return n, err
}

// NetConn is for who looks for the TCP connection.
func (c *countedConn) NetConn() net.Conn { return c.Conn }
