package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/pipeline"
)

// What is wrong with a configuration of who may talk is said with its place and its remedy.
func TestAccessKeys(t *testing.T) {
	for text, want := range map[string]string{
		`dicom: {callers: [CT1]}`:                                           "who may send is listed under peers",
		`dicom: {unknown: allow}`:                                           `dicom.unknown: "allow"; write refuse, echo or accept`,
		`dicom: {listen: ""}`:                                               "dicom.listen",
		`dicom: {tls: {listen: nowhere}}`:                                   "dicom.tls.listen",
		`dicom: {tls: {listen: ":2762"}}`:                                   "dicom.tls.certificate: missing, and dicom.tls.listen needs it",
		`dicom: {tls: {certificate: /x, key: /y}}`:                          "dicom.tls: open /x",
		`peers: {A: {aet: A}}`:                                              "peers.A: neither from nor address",
		`peers: {A: {aet: "", from: ["::1"]}}`:                              "peers.A.aet",
		`peers: {A: {aet: A, from: 10.0.0.7}}`:                              "from",
		`peers: {A: {aet: A, from: [10.0.0.7/24]}}`:                         "peers.A.from: \"10.0.0.7/24\" names an address inside a network: write 10.0.0.0/24",
		`peers: {A: {aet: A, from: [10.0.0]}}`:                              "peers.A.from",
		`peers: {A: {aet: A, address: "h"}}`:                                "peers.A",
		`{peers: {A: {aet: A, from: [h]}}, deliver: [A]}`:                   "deliver: peers.A has no address",
		`peers: {A: {aet: A, from: [h], tls: true}}`:                        "peers.A.tls: says how it is called, but there is no address",
		`peers: {A: {aet: A, address: "h:1", tls: true}}`:                   "dicom.tls.certificate: missing, and peers.A.tls needs it",
		`peers: {A: {aet: A, from: [h], certificate: CN=a}}`:                "peers.A.certificate needs it",
		`peers: {A: {aet: A, from: [h], certificate: "O=a"}}`:               "peers.A.certificate: write \"O=a\" as CN=",
		`peers: {A: {aet: A, from: [h], max_associations: -1}}`:             "must not be below 0",
		`peers: {A: {aet: A, from: [h], max_associations: 1, reserved: 2}}`: "peers.A.reserved: 2 are more than its max_associations, 1",
		`{dicom: {max_associations: 3}, peers: {A: {aet: A, from: [h], reserved: 2}, B: {aet: B, from: [h], reserved: 2}}}`: "peers: 4 places are reserved, more than dicom.max_associations, 3",
		`peers: {A: {aet: A, from: [h], objects_per_second: -1}}`:                                                           "peers.A.objects_per_second",
		`peers: {A: {aet: A, from: [h], objects_per_second: .nan}}`:                                                         "objects_per_second",
		`peers: {A: {aet: A, from: [h], bytes_per_second: 100}}`:                                                            "at least 64KiB",
		`peers: {A: {aet: A, from: [h], bytes_per_second: 1MB}}`:                                                            "bytes_per_second",
		`peers: {A: {from: [h]}}`:                                                              `peers.A.aet: AE title "" is not valid`,
		`peers: {A: {aet: A, address: h}}`:                                                     `peers.A.address: address h: missing port in address; write host:port`,
		`peers: {A: {aet: A, from: ["10.0.0.1-10.0.0.9"]}}`:                                    `peers.A.from: "10.0.0.1-10.0.0.9" is neither an IP address`,
		`peers: {A: {aet: A, from: [fd00::7]}}`:                                                `put quotes around text with colons`,
		`peers: {A: {aet: A, from: [h], reserved: many}}`:                                      "a whole number is expected here",
		`peers: {A: {aet: A, from: [h], commit: maybe}}`:                                       "write true or false",
		`peers: {A: {aet: A, from: [h], commit: true}}`:                                        "peers.A.commit: says what it is asked for, but there is no address",
		"peers:\n  - {aet: A, from: [h]}":                                                      "leave out the -",
		`retention: 90d`:                                                                       "{key: value}",
		`dicom: {listen: ":2762", tls: {listen: ":2762"}}`:                                     "dicom.tls.listen: \":2762\" is dicom.listen too",
		`peers: {A: {aet: A, address: "h:1", certificate: CN=a}, B: {aet: A, address: "h:1"}}`: "peers.B and peers.A are the same node",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Who may send follows from peers, deliver and, as long as nobody is listed, from being on this machine.
func TestAccessOfAConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"quiet: 60s":                         "programs on this machine under any AE title may send",
		`deliver: ["ORTHANC@10.0.0.5:4242"]`: "ORTHANC@10.0.0.5:4242 (ORTHANC from 10.0.0.5); programs on this machine under any AE title may send",
		`peers: {CT1: {aet: CT1, from: [10.0.0.7, 10.0.1.0/24]}, B: {aet: PACS, address: "[fd00::5]:104"}}
deliver: [B]`: "B (PACS from fd00::5); CT1 (CT1 from 10.0.0.7, 10.0.1.0/24) may send",
		`dicom: {unknown: accept}`: "everybody may send",
		`dicom: {unknown: echo}`:   "programs on this machine under any AE title may send; everybody may verify the connection (C-ECHO)",
	} {
		c, err := parseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.access()
		if err != nil || a.String() != want {
			t.Errorf("%s: %v, %v\nwant %s", text, a, err, want)
		}
	}
	c := defaultConfig()
	c.Peers = map[string]PeerConfig{"FAR": {AET: "FAR", Address: "far.example:2762", Certificate: "CN=far"}}
	c.Deliver = []string{"FAR@far.example:2762"}
	if a, err := c.access(); err != nil || a.String() != "FAR (FAR from far.example with the certificate CN=far) may send" {
		t.Errorf("a bound AE title is let in on its address: %v, %v", a, err)
	}
}

// certificates are the files of an authority of its own and of what it issues to the named AEs, valid at 127.0.0.1.
func certificates(t *testing.T, names ...string) map[string]TLSConfig {
	t.Helper()
	dir, out := t.TempDir(), map[string]TLSConfig{}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hospital"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 2, 0),
	}
	var signer *rsa.PrivateKey
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for i, name := range append([]string{"hospital"}, names...) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		c := authority
		if i == 0 {
			signer = key
		} else {
			c = &x509.Certificate{
				SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
				NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, authority, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = TLSConfig{
			Certificate: write(name+".crt", "CERTIFICATE", der), Key: write(name+".key", "PRIVATE KEY", private), CA: filepath.Join(dir, "hospital.crt"), Require: true,
		}
	}
	return out
}

// tlsNode is a node that is reached over TLS alone and delivers to a PACS on 127.0.0.1 over TLS; both AE titles are bound.
// Reports do not wait in vain for TLS and then go out without anybody knowing.
func TestPlainDestinationsAreSaid(t *testing.T) {
	own := certificates(t, "radnode")["radnode"]
	material, err := own.open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Peers: map[string]PeerConfig{
		"SAFE":  {AET: "SAFE", Address: "10.0.0.1:2762", TLS: true},
		"PLAIN": {AET: "PLAIN", Address: "10.0.0.2:104"},
		"HALF":  {AET: "HALF", Address: "10.0.0.3:104", Certificate: "CN=half"},
	}}
	waiting := []pipeline.DestinationStats{
		{To: "SAFE@10.0.0.1:2762", Waiting: 1}, {To: "PLAIN@10.0.0.2:104", Waiting: 2, Configured: true}, {To: "HALF@10.0.0.3:104"}, {To: "GONE@10.0.0.9:2762", Waiting: 3},
	}
	for _, with := range []*dimse.TLS{material, nil} {
		var log bytes.Buffer
		c.sayPlain(slog.New(slog.NewTextHandler(&log, nil)), with, waiting)
		for text, want := range map[string]bool{"to=SAFE": false, "to=PLAIN@10.0.0.2:104 waiting=2 configured=true": true, "to=HALF": false,
			"to=GONE@10.0.0.9:2762 waiting=3 configured=false": true, "peer=peers.HALF": true, "peers.SAFE": false} {
			if strings.Contains(log.String(), text) != (want && with != nil) {
				t.Errorf("%q in the log: %v\n%s", text, !want, log.String())
			}
		}
	}
}

func tlsNode(t *testing.T, own TLSConfig, pacsPort string) (n *node, port string) {
	t.Helper()
	cfg := testConfig(t)
	cfg.DICOM.Listen, cfg.DICOM.TLS = "", own
	cfg.DICOM.TLS.Listen = "127.0.0.1:0"
	cfg.Peers = map[string]PeerConfig{
		"SCANNER": {AET: "SCANNER", From: []string{"127.0.0.1"}, Certificate: "CN=scanner"},
		"PACS":    {AET: "PACS", Address: "127.0.0.1:" + pacsPort, TLS: true, Certificate: "CN=pacs"},
	}
	cfg.Deliver = []string{"PACS"}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	n, _ = startNode(t, cfg)
	_, port, _ = net.SplitHostPort(n.secure.Addr().String())
	return n, port
}

// The whole loop over TLS with DCMTK at both ends: storescu pushes, storescp gets the report. Without the certificate of the AE
// nothing is taken.
func TestLoopOverTLS(t *testing.T) {
	need(t, "storescu", "storescp", "echoscu")
	certs := certificates(t, "radnode", "scanner", "pacs")
	scanner, pacs := certs["scanner"], certs["pacs"]
	pacsPort, dir := freePort(t), t.TempDir()
	start(t, pacsPort, exec.Command("storescp", "+tls", pacs.Key, pacs.Certificate, "+cf", pacs.CA, "-od", dir, "-uf", "+xa", pacsPort))
	n, port := tlsNode(t, certs["radnode"], pacsPort)

	flags := []string{"--tls-cert", scanner.Certificate, "--tls-key", scanner.Key, "--tls-ca", scanner.CA}
	radnode(t, append([]string{"echo", "RADNODE@127.0.0.1:" + port, "--aet", "SCANNER"}, flags...)...)
	for want, args := range map[string][]string{
		"":                                 {"echo", "RADNODE@127.0.0.1:" + port, "--aet", "SCANNER"},
		"the peer refused":                 {"echo", "RADNODE@127.0.0.1:" + port, "--aet", "SCANNER", "--tls-ca", scanner.CA},
		"calling AE title not recognised":  append([]string{"echo", "RADNODE@127.0.0.1:" + port, "--aet", "PACS"}, flags...),
		"--tls-cert and --tls-key belong":  {"echo", "RADNODE@127.0.0.1:" + port, "--tls-cert", scanner.Certificate},
		"not CN=other":                     append([]string{"echo", "RADNODE@127.0.0.1:" + port, "--tls-name", "CN=other"}, flags...),
		"an authority that we do not know": {"echo", "RADNODE@127.0.0.1:" + port, "--tls-name", "CN=radnode"},
		"--tls-name: write \"O=x\" as CN=": {"echo", "RADNODE@127.0.0.1:" + port, "--tls-name", "O=x"},
		"no such file":                     {"echo", "RADNODE@127.0.0.1:" + port, "--tls-ca", filepath.Join(dir, "none")},
	} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, &out, &errs); code == exitDone {
			t.Errorf("%v: is answered", args)
		} else if !strings.Contains(errs.String(), want) {
			t.Errorf("%v: %s, want %q", args, errs.String(), want)
		}
	}

	command(t, "storescu", "+tls", scanner.Key, scanner.Certificate, "+cf", scanner.CA, "-R", "-aet", "SCANNER", "-aec", "RADNODE", "127.0.0.1", port,
		"+sd", "+r", "+sp", "*.dcm", bundledStudy(t))
	for deadline := time.Now().Add(patience); n.pipeline.Stats().Delivered == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is delivered")
		}
	}
	if reports, err := filepath.Glob(filepath.Join(dir, "SR*")); err != nil || len(reports) != 1 {
		t.Errorf("%d reports, %v", len(reports), err)
	}
	radnode(t, append([]string{"send", "RADNODE@127.0.0.1:" + port, bundledStudy(t), "--aet", "SCANNER"}, flags...)...)
	stats := n.server.Stats()
	if s := stats.Peers["SCANNER"]; s.Associations != 3 || s.ObjectsRefused != 0 || s.Bytes == 0 || stats.Refusals[dimse.RefusedTLS] == 0 || stats.Refusals[dimse.RefusedCertificate] != 1 {
		t.Errorf("%+v", stats)
	}
}

// Orthanc over TLS, both ways.
func TestOrthancOverTLS(t *testing.T) {
	certs := certificates(t, "radnode", "scanner", "pacs")
	pacs := certs["pacs"]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	portNumber, _ := strconv.Atoi(port)
	o := startOrthanc(t, "", map[string]any{
		"DicomTlsEnabled": true, "DicomTlsCertificate": pacs.Certificate, "DicomTlsPrivateKey": pacs.Key, "DicomTlsTrustedCertificates": pacs.CA,
		"DicomModalities": map[string]any{"radnode": map[string]any{"AET": "RADNODE", "Host": "127.0.0.1", "Port": portNumber, "UseDicomTls": true}},
	})
	cfg := testConfig(t)
	cfg.DICOM.Listen, cfg.DICOM.TLS = "", certs["radnode"]
	cfg.DICOM.TLS.Listen = addr
	cfg.Peers = map[string]PeerConfig{"PACS": {AET: "PACS", Address: "127.0.0.1:" + o.dicom, TLS: true, Certificate: "CN=pacs"}} // the reply goes to the sender
	startNode(t, cfg)

	radnode(t, "send", "PACS@127.0.0.1:"+o.dicom, bundledStudy(t), "--tls-cert", certs["scanner"].Certificate, "--tls-key", certs["scanner"].Key, "--tls-ca", pacs.CA)
	study := studyUID(t)
	o.post(t, "/modalities/radnode/echo", nil)
	var parents []string
	query := fmt.Sprintf(`{"Level":"Study","Query":{"StudyInstanceUID":%q}}`, study)
	if err := json.Unmarshal(o.post(t, "/tools/find", []byte(query)), &parents); err != nil || len(parents) != 1 {
		t.Fatalf("%d studies in Orthanc, %v", len(parents), err)
	}
	o.post(t, "/modalities/radnode/store", []byte(parents[0]))
	o.wait(t, study, "SR")
	o.wait(t, study, "SEG")
}
