package main

import (
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
