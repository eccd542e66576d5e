package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/ul"
)

// (1) Closed when the ARTIM timer ends, which is at most 30 s by default.
func hostileSilence(t *testing.T) {
	x := startTarget(t, testConfig(t), hurried)
	x.attack(4<<20, func() {
		var peers []*rawPeer
		for range 100 {
			peers = append(peers, x.connect())
		}
		for _, p := range peers {
			p.ends(0)
		}
	})
	x.logged("before the ARTIM timer ran out")
}

// (2) A byte now and then is no silence, but the whole has a deadline.
func hostileDrip(t *testing.T) {
	x := startTarget(t, testConfig(t), func(n *node) { hurried(n); n.server.Message = 800 * time.Millisecond })
	drip := func(p *rawPeer, b []byte, end byte) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range b {
				if _, err := p.Write(b[i : i+1]); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		p.ends(end)
		<-done
	}
	x.attack(4<<20, func() {
		drip(x.connect(), request(nil), 0)
		x.logged("before the ARTIM timer ran out")
		drip(x.associate(nil), pdv(3, true, true, storeCommand(1, "1.2.3")), pduAbort) // one PDU
		// One message: every PDU is there at once, but the data set has no end.
		p := x.associate(nil)
		p.send(pdv(3, true, true, storeCommand(1, "1.2.3")))
		start := time.Now()
		for time.Since(start) < patience {
			if _, err := p.Write(pdv(3, false, false, []byte("xx"))); err != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if time.Since(start) > patience/2 {
			t.Error("a message without an end is read for ever")
		}
		_ = p.Close()
	})
	x.logged("total time exceeded")
}

// (3) The log names the protocol, and the connection is closed at once and without a word.
func hostileProtocols(t *testing.T) {
	x := startTarget(t, testConfig(t), nil) // ARTIM is 20 s here
	for protocol, hello := range map[string]string{
		"HTTP": "GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("r", 500),
		"HL7 (MLLP)": "\x0bMSH|^~\\&|ADT|", "HL7": "MSH|^~\\&|", "SSH": "SSH-2.0-OpenSSH_9.6\r\n",
	} {
		x.attack(4<<20, func() {
			start := time.Now()
			x.connect().send([]byte(hello)).ends(0)
			if time.Since(start) > 10*time.Second {
				t.Errorf("%s: closed after %v", protocol, time.Since(start))
			}
		})
		x.logged("the peer speaks " + protocol)
	}
}

// (4) Less than 1 MB a connection, whatever it announces.
func hostilePDULengths(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	lengths := [][]byte{{0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff}, {0, 0, 0, 0}, {0, 0, 0, 3, 1, 2, 3}}
	const each = 16
	x.attack(4*each<<20, func() {
		var peers []*rawPeer
		for _, n := range lengths {
			for range each {
				peers = append(peers, x.connect().send([]byte{1, 0}, n))
			}
		}
		for _, p := range peers {
			p.ends(pduAbort)
		}
	})
	x.attack(4*each<<20, func() { // on an association, for each type of PDU
		for _, typ := range []byte{1, 2, 3, 4, 5, 6, 7} {
			for _, n := range lengths {
				x.associate(nil).send([]byte{typ, 0}, n).ends(pduAbort)
			}
		}
	})
}

// (5) Connects as fast as they go, half-open ones, and strangers who hold every place that they can get: known AE titles get in.
func hostileConnects(t *testing.T) {
	connects, halfOpen := 10_000, 1_000
	if testing.Short() {
		connects, halfOpen = 1_000, 200
	}
	cfg := testConfig(t)
	cfg.DICOM.MaxAssociations, cfg.DICOM.Unknown = 20, dimse.AcceptUnknown
	cfg.Peers = map[string]PeerConfig{
		"CT1": {AET: "CT1", From: []string{"127.0.0.1"}, Reserved: 3}, "SCANNER": {AET: "SCANNER", From: []string{"127.0.0.1"}, Reserved: 2},
	}
	x := startTarget(t, cfg, nil)
	peak := x.attack(64<<20, func() {
		half := request(nil)[:40]
		var open, strangers []*rawPeer
		for i := range halfOpen {
			p := x.connect()
			if i%2 == 0 {
				p.send(half)
			}
			open = append(open, p)
		}
		stranger := request(func(rq *ul.AssociateRQ) { rq.Calling = title("STRANGER") })
		sources := []string{"127.0.0.1"}
		if runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is this machine
			sources = append(sources, "127.0.0.2", "127.0.0.3", "127.0.0.4")
		}
		tried, refused := 0, 0
		for range 7 {
			for _, source := range sources {
				tried++
				p := x.connectFrom(source, x.dicom.Addr().String()).send(stranger)
				switch b := p.pdu(); {
				case len(b) > 0 && b[0] == pduAssociateAC:
					strangers = append(strangers, p)
				case len(b) > 0 && b[0] == pduAssociateRJ && [3]byte(b[7:]) == [3]byte{2, 3, 2}: // transient, presentation, local limit
					refused++
					_ = p.Close()
				default:
					t.Errorf("a stranger is answered with % x", b)
				}
			}
		}
		if want := min(5*len(sources), 15); len(strangers) != want || refused != tried-want { // 5 of one address, 5 kept for those who are known
			t.Errorf("of %d strangers %d are accepted and %d refused, want %d accepted", tried, len(strangers), refused, want)
		}
		for i := range connects {
			_ = x.connect().Close()
			if i%(connects/10) == 0 {
				x.echo()
			}
		}
		x.echo()
		for _, p := range append(open, strangers...) {
			_ = p.Close()
		}
	})
	if limit := 512 + 20 + 300; peak.goroutines > limit {
		t.Errorf("%d goroutines more, want at most %d", peak.goroutines, limit)
	}
}

// (6) Whoever begins a TLS handshake and says no more keeps nobody else waiting, on the port without TLS and on that with it.
func hostileHandshake(t *testing.T) {
	certs := certificates(t, "radnode", "scanner")
	cfg := testConfig(t)
	cfg.DICOM.TLS = certs["radnode"]
	cfg.DICOM.TLS.Listen = "127.0.0.1:0"
	x := startTarget(t, cfg, func(n *node) { n.server.ARTIM = 2 * time.Second })
	x.attack(16<<20, func() {
		var frozen []*rawPeer
		for range 100 {
			frozen = append(frozen, x.connect().send([]byte{0x16}))
		}
		for i := range 100 { // half a ClientHello, or nothing
			p := x.connectTo(x.secure.Addr().String())
			if i%2 == 0 {
				p.send([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
			}
			frozen = append(frozen, p)
		}
		start := time.Now()
		x.echo()
		if took := time.Since(start); took > time.Second {
			t.Errorf("a C-ECHO takes %v beside frozen handshakes", took)
		}
		if err := x.echoTLS("SCANNER", certs["scanner"]); err != nil {
			t.Errorf("beside frozen handshakes: %v", err)
		}
		for _, p := range frozen {
			for p.pdu() != nil { // a TLS alert is no PDU
			}
		}
	})
	x.logged("the peer speaks TLS on a port without it")
}

// echoTLS is a C-ECHO over TLS.
func (x *target) echoTLS(aet string, files TLSConfig) error {
	own, err := dimse.NewTLS(files.files(), slog.New(slog.DiscardHandler))
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := dimse.Dial(ctx, dimse.Peer{AETitle: "RADNODE", Address: x.secure.Addr().String()}, dimse.DialOptions{CallingAET: aet, TLS: own.Client("")})
	if err != nil {
		return err
	}
	defer client.Abort()
	if err := client.Echo(ctx); err != nil {
		return err
	}
	return client.Release(ctx)
}

// (7) Only who has the certificate of its AE title gets in; the log says what is wrong with the others'.
func hostileCertificates(t *testing.T) {
	certs, strangers := certificates(t, "radnode", "scanner", "pacs"), certificates(t, "scanner")
	old := expired(t, "scanner")
	cfg := testConfig(t)
	cfg.DICOM.TLS = certs["radnode"]
	cfg.DICOM.TLS.Listen = "127.0.0.1:0"
	both := filepath.Join(t.TempDir(), "ca.pem") // an authority that is trusted, whose certificate of SCANNER has expired
	var pem []byte
	for _, file := range []string{certs["radnode"].CA, old.CA} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pem = append(pem, b...)
	}
	if err := os.WriteFile(both, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.DICOM.TLS.CA = both
	local := []string{"127.0.0.1"}
	cfg.Peers = map[string]PeerConfig{
		"CT1": {AET: "CT1", From: local}, "STORE": {AET: "SCANNER", From: local, Certificate: "CN=scanner"}, "PACS": {AET: "PACS", From: local, Certificate: "CN=pacs"},
	}
	x := startTarget(t, cfg, nil)
	x.plain = "CT1" // SCANNER's AE title is bound to its certificate
	x.attack(16<<20, func() {
		if err := x.echoTLS("SCANNER", certs["scanner"]); err != nil {
			t.Errorf("the right certificate: %v", err)
		}
		trusting := func(c TLSConfig) TLSConfig { c.CA = certs["radnode"].CA; return c }
		none := trusting(TLSConfig{})
		for name, c := range map[string]struct {
			aet   string
			files TLSConfig
			says  string
		}{
			"absent":   {"SCANNER", none, "the peer showed no certificate"},
			"wrong CA": {"SCANNER", trusting(strangers["scanner"]), "authority that we do not know"},
			"expired":  {"SCANNER", trusting(old), "expired"},
			"wrong AE": {"PACS", certs["scanner"], "bound to the certificate CN=pacs"},
		} {
			before := len(x.log.String())
			if err := x.echoTLS(c.aet, c.files); err == nil {
				t.Errorf("%s: is answered", name)
			}
			for deadline := time.Now().Add(10 * time.Second); !strings.Contains(x.log.String()[before:], c.says); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("%s: the log does not say %q:\n%s", name, c.says, x.log.String()[before:])
					break
				}
			}
		}
		x.connect().send(request(func(rq *ul.AssociateRQ) { rq.Calling = title("SCANNER") })).ends(pduAssociateRJ) // without TLS
	})
}

// expired is a certificate of yesterday, by an authority of its own.
func expired(t *testing.T, name string) TLSConfig {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		file := filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old hospital"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}
	caDER, errCA := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	der, errLeaf := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	private, errKey := x509.MarshalPKCS8PrivateKey(key)
	return TLSConfig{Certificate: write("leaf.crt", "CERTIFICATE", der, errLeaf), Key: write("leaf.key", "PRIVATE KEY", private, errKey),
		CA: write("ca.crt", "CERTIFICATE", caDER, errCA)}
}

// (13), our side: a PACS that takes PDUs of 7 bytes at most gets nothing, and whose limit is 8 gets all in pieces of 2.
func answerWith(p *rawPeer, maxLength uint32) error {
	rq := p.pdu()
	if len(rq) == 0 || rq[0] != 1 {
		return errors.New("no request")
	}
	// The contexts of the request, each accepted with its first transfer syntax: PS3.8 9.3.2.2 and 9.3.3.2.
	ac := &ul.AssociateAC{ProtocolVersion: 1, ApplicationContext: ul.ApplicationContext, User: ul.UserInformation{MaxLength: maxLength}}
	for b := rq[74:]; len(b) >= 4; {
		n := int(b[2])<<8 | int(b[3])
		if b[0] == 0x20 {
			items := b[8 : 4+n]
			abstract := int(items[2])<<8 | int(items[3])
			ts := items[4+abstract:]
			ac.Contexts = append(ac.Contexts, ul.ContextResult{ID: b[4], TransferSyntax: string(ts[4 : 4+int(ts[2])<<8|int(ts[3])])})
		}
		b = b[4+n:]
	}
	_, err := p.Write(ac.AppendTo(nil))
	return err
}
