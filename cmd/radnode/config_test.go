package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestMemoryKey(t *testing.T) {
	for text, want := range map[string]byteSize{
		"memory: 4GiB":       4 << 30,
		"memory: 512MiB":     512 << 20,
		`memory: "1.5 GiB"`:  3 << 29,
		"memory: 8589934592": 8 << 30,
		"memory: 65536KiB":   64 << 20,
		"memory: 1TiB # all": 1 << 40,
	} {
		c, err := parseConfig([]byte(text))
		if err != nil || c.Memory != want {
			t.Errorf("%q: %d, %v, want %d", text, c.Memory, err, want)
		}
	}
	for text, want := range map[string]string{
		"memory: 4GB":        "no size",
		"memory: 4 gib":      "no size",
		"memory: -1GiB":      "no size",
		"memory: .3KiB":      "no size",
		"memory: 1e9":        "no size",
		"memory: nan":        "no size",
		"memory: [1]":        "no size",
		"memory: 0":          "less than 16MiB",
		"memory: 4":          "less than 16MiB",
		"memory: 9999999TiB": "no size",
	} {
		if c, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "memory") {
			t.Errorf("%q: %d, %v, want %q", text, c.Memory, err, want)
		}
	}
}

// What a destination gets is said at the peer, then for all, then by default; a peer that is named by its address is the same.
func TestReportKey(t *testing.T) {
	c, err := parseConfig([]byte(`
report: {language: it, title: imaging}
peers:
  PACS: {aet: PACS, address: "10.0.0.5:104", report: {title: pet, documents: [key, pdf]}}
deliver: [PACS, "PACS@10.0.0.5:104", "OTHER@10.0.0.6:104"]
`))
	if err != nil {
		t.Fatal(err)
	}
	to, err := c.destinations()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"it pet [key pdf]", "it pet [key pdf]", "it imaging []"} {
		s := to[i].Style
		if got := fmt.Sprint(s.Language, " ", s.Title, " ", s.Documents); got != want {
			t.Errorf("%s gets %s, want %s", to[i], got, want)
		}
	}
	if back := c.replyTo(); len(back) != 1 || back[0].AETitle != "PACS" || back[0].Style.Title != "pet" {
		t.Errorf("back to PACS: %+v", back)
	}
	for text, want := range map[string]string{
		"report: {documents: [xml]}": "report.documents",
		"report: {language: fr}":     "report.language",
		`peers: {P: {aet: P, address: "h:1", report: {sop_class: basic}}}`: "peers.P.report.sop_class",
		"report: {colour: red}": "colour",
		"report: {series_number: 9800}\npeers: {P: {aet: P, address: \"h:1\", report: {documents: [key]}}}": "peers.P.report.series_number",
		`report: {description: "a\nb"}`:                "in one line",
		`report: {description: "{reg{modality}ions}"}`: "report.description",
		`peers: {P: {aet: X, address: "h:1", report: {language: it}}, Q: {aet: X, address: "h:1"}}
deliver: ["X@h:1"]`: "peers.P and peers.Q, which want other reports",
		"workers: 1000000000":  "workers",
		"quiet: 60":            "as 60s",
		"report_refusals: yes": "write true or false",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Editors on Windows begin a file with a byte order mark.
func TestByteOrderMark(t *testing.T) {
	if c, err := parseConfig([]byte("\ufeffworkers: 3\n")); err != nil || c.Workers != 3 {
		t.Errorf("workers %d, %v", c.Workers, err)
	}
}

func TestReserveKey(t *testing.T) {
	for text, want := range map[string]diskReserve{"reserve: 20GiB": 20 << 30, "reserve: 0": 0, "reserve: 1": 1, "quiet: 60s": 0} {
		c, err := parseConfig([]byte(text))
		if err != nil || c.Reserve != want {
			t.Errorf("%q: %d, %v, want %d", text, c.Reserve, err, want)
		}
	}
	for _, text := range []string{"reserve: 4GB", "reserve: -1", "reserve: 5%", "reserve: [1]"} {
		if c, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), "reserve: ") || !strings.Contains(err.Error(), "no size") {
			t.Errorf("%q: %d, %v", text, c.Reserve, err)
		}
	}
}
