package main

import (
	"strings"
	"testing"
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
		`peers: {A: {aet: A, address: "h:1", certificate: CN=a}, B: {aet: A, address: "h:1"}}`:                              "peers.B and peers.A are the same node",
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
	if a, err := c.access(); err != nil || a.String() != "FAR (FAR from far.example) may send" {
		t.Errorf("a bound AE title is let in on its address: %v, %v", a, err)
	}
}
