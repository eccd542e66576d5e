package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/pipeline/sr"
)

// Config is the configuration: one YAML file, read strictly, with the same names as the flags.
type Config struct {
	Data     string                `yaml:"data"`
	DICOM    DICOMConfig           `yaml:"dicom"`
	HTTP     HTTPConfig            `yaml:"http"`
	Peers    map[string]PeerConfig `yaml:"peers"`
	Deliver  []string              `yaml:"deliver"` // names under peers, or AET@HOST:PORT
	Report   pipeline.Style        `yaml:"report"`  // what every destination gets that does not say otherwise
	Quiet    time.Duration         `yaml:"quiet"`
	Workers  int                   `yaml:"workers"`
	Timeout  time.Duration         `yaml:"timeout"` // of one computation; 0 = pipeline.DefaultTimeout
	Memory   byteSize              `yaml:"memory"`  // that computations may hold at once; 0 = pipeline.DefaultMemory
	Also     []string              `yaml:"also"`    // modalities on which contours of another series are measured too
	Refusals bool                  `yaml:"report_refusals"`
	Reserve  diskReserve           `yaml:"reserve"` // of the disk, kept for what is queued; 0 = the store's choice

	Rules    []pipeline.Rule             `yaml:"rules"`
	Profiles map[string]features.Profile `yaml:"profiles"`

	Retention RetentionConfig `yaml:"retention"`
	Conflicts conflictPolicy  `yaml:"conflicts"` // which of several data sets under one UID is measured
}

// DICOMConfig is the receiving side.
type DICOMConfig struct {
	AET             string        `yaml:"aet"`
	Listen          string        `yaml:"listen"`
	TLS             TLSConfig     `yaml:"tls"`
	Unknown         dimse.Unknown `yaml:"unknown"`       // what peers may do that are not listed under peers
	CheckCalled     bool          `yaml:"check_called"`  // refuse associations that call another AE title
	StandardOnly    bool          `yaml:"standard_only"` // refuse private and unknown storage SOP classes
	MaxAssociations int           `yaml:"max_associations"`
	MaxObject       int64         `yaml:"max_object"` // bytes of one object
	Idle            time.Duration `yaml:"idle"`       // an association without traffic is aborted after this
}

// HTTPConfig is the page for the operator's monitoring.
type HTTPConfig struct {
	Listen string `yaml:"listen"` // "" = none
}

// A byteSize is a number of bytes, or text with a unit: 512MiB, 4GiB, 1.5TiB.
type byteSize int64

// leastMemory is a memory below which no study can be measured: a number that was meant in another unit.
const leastMemory = 16 << 20

// mostWorkers is more than any machine has processors for.
const mostWorkers = 4096

// UnmarshalYAML reads a size strictly.
func (s *byteSize) UnmarshalYAML(b []byte) error {
	text := plainYAML(b)
	n, err := parseSize("memory", text)
	if err != nil {
		return err
	}
	if n < leastMemory {
		return fmt.Errorf("memory: %q is less than 16MiB, in which nothing can be measured; write a number of bytes, or one with a unit as 512MiB or 4GiB", text)
	}
	*s = byteSize(n)
	return nil
}

// defaultConfig is what holds where neither file nor flag says otherwise.
func defaultConfig() Config {
	return Config{
		Data:  "./radnode-data",
		DICOM: DICOMConfig{AET: "RADNODE", Listen: ":11112", TLS: TLSConfig{Require: true}, Unknown: dimse.RefuseUnknown, MaxAssociations: 100, MaxObject: 8 << 30, Idle: 5 * time.Minute},
		HTTP:  HTTPConfig{Listen: "127.0.0.1:8042"},
		Quiet: time.Minute, Retention: defaultRetention,
	}
}

//go:embed example.yaml
var exampleConfig []byte

// readConfig reads a configuration over the defaults. An unknown name or a wrong type is an error with its line.
func readConfig(file string) (Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

func parseConfig(b []byte) (Config, error) {
	c := defaultConfig()
	if err := decodeYAML(b, &c); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

// readProfile reads a file that holds one profile, or finds a built-in one by name.
func readProfile(nameOrFile string) (features.Profile, error) {
	if p, err := pipeline.ProfileNamed(nameOrFile, nil); err == nil {
		return p, nil
	}
	b, err := os.ReadFile(nameOrFile)
	if err != nil {
		return features.Profile{}, fmt.Errorf("--profile %s: neither a built-in profile (ct-default) nor a file that can be read: %w", nameOrFile, err)
	}
	p, err := parseProfile(b)
	if err != nil {
		return p, fmt.Errorf("%s: %w", nameOrFile, err)
	}
	p.Name = profileName(nameOrFile)
	return p, nil
}

// parseProfile reads the mapping of one profile, which is then valid.
func parseProfile(b []byte) (features.Profile, error) {
	var p features.Profile
	if err := decodeYAML(b, &p); err != nil {
		return p, err
	}
	return p, p.Validate()
}

// remedy says what to write where the library tells of Go.
var remedy = strings.NewReplacer(
	"string was used where sequence is expected", "one value where a list is expected: write it in brackets, as [CT1]",
	"sequence was used where mapping is expected", "a list where names are expected, each with its values: leave out the -, and write NAME: {...}",
	"string was used where mapping is expected", "one value where keys are expected, each with its value, as {key: value}",
	"found an invalid key for this map", "an invalid key for this map; put quotes around text with colons, as \"fd00::7\"",
	`unknown field "callers"`, `unknown field "callers": who may send is listed under peers, as CT1: {aet: CT1, from: [10.0.0.7]}`,
)

// wrongType is what the library says of a value of the wrong type.
var wrongType = regexp.MustCompile(`cannot unmarshal [^\n]* into Go struct field \S+ of type (\S+)`)

// inWordsOfYAML says what is expected.
func inWordsOfYAML(message string) string {
	message = wrongType.ReplaceAllStringFunc(message, func(s string) string {
		switch wrongType.FindStringSubmatch(s)[1] {
		case "time.Duration":
			return "this is no time: write a number with a unit, as 60s"
		case "bool":
			return "write true or false"
		case "string":
			return "one text is expected here; put quotes around text with colons, as \"fd00::7\""
		case "int", "int64", "uint", "uint64":
			return "a whole number is expected here"
		case "float64":
			return "a number is expected here"
		}
		return s
	})
	return remedy.Replace(message)
}

// decodeYAML reads one document; an unknown name or a wrong type is an error with its line. What the library panics at, such
// as a tag before a missing value (github.com/goccy/go-yaml issue 735), is an error too.
func decodeYAML(b []byte, into any) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("is no YAML that can be read; leave out tags (!name), anchors (&name) and aliases (*name)")
		}
	}()
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // as editors on Windows put it
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return errors.New(strings.TrimSpace(inWordsOfYAML(yaml.FormatError(err, false, true))))
	}
	if dec.Decode(new(any)) != io.EOF {
		return errors.New("holds more than one document (---)")
	}
	return nil
}

// check returns an error that names the key and what to write there.
func (c Config) check() error {
	if c.Data == "" {
		return errors.New("data: empty; name the folder that keeps what is received")
	}
	if err := checkAET(c.DICOM.AET); err != nil {
		return fmt.Errorf("dicom.aet: %w", err)
	}
	if c.HTTP.Listen != "" {
		if _, _, err := net.SplitHostPort(c.HTTP.Listen); err != nil {
			return fmt.Errorf("http.listen: %w; write host:port, or \"\" for none", err)
		}
	}
	if c.DICOM.MaxAssociations < 1 {
		return errors.New("dicom.max_associations: must be at least 1")
	}
	if c.DICOM.MaxObject < 1 {
		return errors.New("dicom.max_object: must be at least 1 (bytes)")
	}
	if c.DICOM.Idle <= 0 || c.Quiet <= 0 {
		return errors.New("dicom.idle and quiet: must be longer than nothing, for example 60s")
	}
	if c.Workers < 0 || c.Workers > mostWorkers {
		return fmt.Errorf("workers: want 1 to %d, or 0 for one a processor", mostWorkers)
	}
	if err := checkTimeout(c.Timeout); err != nil {
		return err
	}
	if err := c.Report.Check(); err != nil {
		return fmt.Errorf("report.%w", err)
	}
	if err := c.checkAccess(); err != nil {
		return err
	}
	if _, err := c.destinations(); err != nil {
		return err
	}
	if err := c.Retention.check(); err != nil {
		return err
	}
	for _, m := range c.Also {
		if !sr.ImageModality(m) {
			return fmt.Errorf("also: %q is no modality of images; write Modality (0008,0060), as PT", m)
		}
	}
	return pipeline.CheckRules(c.Rules, c.Profiles)
}

// checkAET holds AE titles to PS3.5 6.2: 1 to 16 characters without control characters and backslash, not only spaces.
func checkAET(aet string) error {
	_, err := dimse.ParsePeer(aet + "@localhost:104")
	return withoutPeer(err)
}

// withoutPeer leaves out what was read, which the key says.
func withoutPeer(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

func (p PeerConfig) peer() (dimse.Peer, error) { return dimse.ParsePeer(p.AET + "@" + p.Address) }

// destinations resolves deliver.
func (c Config) destinations() ([]pipeline.Destination, error) {
	var out []pipeline.Destination
	for _, d := range c.Deliver {
		if p, ok := c.Peers[d]; ok {
			if p.Address == "" {
				return nil, fmt.Errorf("deliver: peers.%s has no address; write one, as \"10.0.0.5:104\"", d)
			}
			peer, err := p.peer()
			if err != nil {
				return nil, fmt.Errorf("peers.%s: %w", d, err)
			}
			out = append(out, pipeline.Destination{Peer: peer, Style: p.Report.Over(c.Report), Commit: p.Commit})
			continue
		}
		peer, err := dimse.ParsePeer(d)
		if err != nil {
			return nil, fmt.Errorf("deliver: %q is neither a name under peers nor AET@HOST:PORT: %w", d, err)
		}
		style, named, commit := c.Report, "", false
		for _, name := range slices.Sorted(maps.Keys(c.Peers)) { // the same node, named by its address
			p := c.Peers[name]
			if known, err := p.peer(); err != nil || known != peer {
				continue
			}
			other := p.Report.Over(c.Report)
			if named != "" && !reflect.DeepEqual(style, other) {
				return nil, fmt.Errorf("deliver: %q is the address of peers.%s and peers.%s, which want other reports; write their names", d, named, name)
			}
			style, named, commit = other, name, commit || p.Commit
		}
		out = append(out, pipeline.Destination{Peer: peer, Style: style, Commit: commit})
	}
	return out, nil
}

// replyTo are the peers in the order of their names, to which reports go back where nothing else is said.
func (c Config) replyTo() (out []pipeline.Destination) {
	for _, name := range slices.Sorted(maps.Keys(c.Peers)) {
		p := c.Peers[name]
		if peer, err := p.peer(); err == nil {
			out = append(out, pipeline.Destination{Peer: peer, Style: p.Report.Over(c.Report), Commit: p.Commit})
		}
	}
	return out
}
