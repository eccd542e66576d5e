package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"runtime/debug"
	"strings"
)

// The parts of a CycloneDX 1.6 document that radnode writes (ECMA-424).
type (
	sbom struct {
		Schema       string           `json:"$schema"`
		Format       string           `json:"bomFormat"`
		SpecVersion  string           `json:"specVersion"`
		SerialNumber string           `json:"serialNumber"`
		Version      int              `json:"version"`
		Metadata     sbomMetadata     `json:"metadata"`
		Components   []sbomComponent  `json:"components"`
		Dependencies []sbomDependency `json:"dependencies"`
	}
	sbomMetadata struct {
		Component  sbomComponent  `json:"component"`
		Properties []sbomProperty `json:"properties"`
	}
	sbomComponent struct {
		Type       string         `json:"type"`
		Ref        string         `json:"bom-ref"`
		Name       string         `json:"name"`
		Version    string         `json:"version"`
		PURL       string         `json:"purl,omitempty"`
		Properties []sbomProperty `json:"properties,omitempty"`
	}
	sbomProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	sbomDependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// writeSBOM writes what this binary was built from, as its builder recorded it: every module with the checksum that go.sum
// holds for it. The same binary gives the same document: it bears no time, and its serial number follows from the content.
func writeSBOM(w io.Writer, info *debug.BuildInfo) error {
	if info == nil || info.Main.Path == "" {
		return errors.New("this binary does not say what it was built from: build it in module mode (go build ./cmd/radnode)")
	}
	doc := sbom{Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1}
	radnode := sbomComponent{Type: "application", Ref: "radnode", Name: "radnode", Version: version, PURL: purl(info.Main.Path, version)}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "-trimpath", "vcs.revision", "vcs.modified":
			doc.Metadata.Properties = append(doc.Metadata.Properties, sbomProperty{"go:build:" + s.Key, s.Value})
		}
	}
	doc.Metadata.Component = radnode
	std := sbomComponent{Type: "library", Ref: "std", Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go"),
		PURL: purl("std", strings.TrimPrefix(info.GoVersion, "go"))}
	doc.Components = []sbomComponent{std}
	all := sbomDependency{Ref: radnode.Ref, DependsOn: []string{std.Ref}}
	for _, m := range info.Deps {
		used := m
		if m.Replace != nil {
			used = m.Replace
		}
		c := sbomComponent{Type: "library", Ref: used.Path + "@" + used.Version, Name: used.Path, Version: used.Version, PURL: purl(used.Path, used.Version)}
		// Not among CycloneDX's hashes, which are of one file: h1 is one over the list of the module's files and their SHA-256
		// (golang.org/x/mod/sumdb/dirhash, Hash1).
		c.Properties = []sbomProperty{{"go:sum", used.Sum}}
		doc.Components = append(doc.Components, c)
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	doc.Dependencies = []sbomDependency{all}
	content, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // RFC 9562 5.8: a UUID of version 8
	id := hex.EncodeToString(sum[:16])
	doc.SerialNumber = "urn:uuid:" + strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// purl is the package URL of a Go module: https://github.com/package-url/purl-spec, type golang.
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}
