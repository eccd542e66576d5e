package pipeline

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
)

// A Rule chooses the profile of the regions that it matches.
type Rule struct {
	When    When   `yaml:"when"`
	Profile string `yaml:"profile"` // by name; [Skip] leaves the region out
}

// Skip is the name that a rule has for not measuring a region.
const Skip = "none"

// When holds the conditions of a rule; an empty one matches everything. They are compared in any case, but for the name of a
// region; regular expressions (RE2) are found anywhere.
type When struct {
	// Of the images.
	Modality          string `yaml:"modality,omitempty"`           // Modality (0008,0060)
	BodyPart          string `yaml:"body_part,omitempty"`          // Body Part Examined (0018,0015)
	SeriesDescription string `yaml:"series_description,omitempty"` // regular expression, Series Description (0008,103E)
	Manufacturer      string `yaml:"manufacturer,omitempty"`       // regular expression, Manufacturer (0008,0070)
	Station           string `yaml:"station,omitempty"`            // regular expression, Station Name (0008,1010)
	// Of the region.
	ROI      string `yaml:"roi,omitempty"`      // regular expression, ROI Name (3006,0026) or Segment Label (0062,0005)
	Type     string `yaml:"type,omitempty"`     // RT ROI Interpreted Type (3006,00A4)
	Number   int    `yaml:"number,omitempty"`   // ROI Number (3006,0022) or Segment Number (0062,0004)
	Property string `yaml:"property,omitempty"` // code value of the property type: Segmented Property Type (0062,000F), RT ROI Identification (3006,0086)
}

// Matches says whether the rule holds for a region on images with this header. The expressions of a checked rule compile;
// one that does not matches nothing.
func (w When) Matches(image *dicom.DataSet, r roi.Region) bool {
	for _, c := range []struct{ want, is string }{
		{w.Modality, image.String(dicom.Modality)},
		{w.BodyPart, image.String(dicom.BodyPartExamined)},
		{w.Type, r.InterpretedType},
		{w.Property, r.Type.Value},
	} {
		if c.want != "" && !strings.EqualFold(c.want, c.is) {
			return false
		}
	}
	if w.Number != 0 && w.Number != r.Number {
		return false
	}
	for _, c := range []struct{ want, is string }{
		{w.SeriesDescription, image.String(dicom.SeriesDescription)},
		{w.Manufacturer, image.String(dicom.Manufacturer)},
		{w.Station, image.String(dicom.StationName)},
	} {
		// Names of machines and protocols are written in any case.
		if re, err := regexp.Compile("(?i)" + c.want); err != nil || !re.MatchString(c.is) {
			return false
		}
	}
	re, err := regexp.Compile(w.ROI)
	return err == nil && re.MatchString(r.Name)
}

// check names the first condition that can never hold.
func (w When) check() error {
	if w.Modality != "" && !sr.ImageModality(strings.ToUpper(w.Modality)) {
		return fmt.Errorf("modality: %q is none of images; write Modality (0008,0060), as CT", w.Modality)
	}
	if w.Number < 0 {
		return fmt.Errorf("number: %d; write ROI Number (3006,0022) or Segment Number (0062,0004), from 1", w.Number)
	}
	for _, c := range []struct{ key, value string }{
		{"series_description", w.SeriesDescription}, {"manufacturer", w.Manufacturer}, {"station", w.Station}, {"roi", w.ROI},
	} {
		if _, err := regexp.Compile(c.value); err != nil {
			return fmt.Errorf("%s: %w; write a regular expression as in https://golang.org/s/re2syntax", c.key, err)
		}
	}
	return nil
}

// CheckRules returns an error that names the first rule or profile which cannot work, and what to do.
func CheckRules(rules []Rule, profiles map[string]features.Profile) error {
	for name, p := range profiles {
		if name == Skip {
			return fmt.Errorf("profiles.%s: the name is taken; in a rule it leaves regions out", name)
		}
		p.Name = "profiles." + name
		if err := p.Validate(); err != nil {
			return err
		}
	}
	for i, r := range rules {
		if err := r.When.check(); err != nil {
			return fmt.Errorf("rules[%d].when.%w", i, err)
		}
		if r.Profile == Skip {
			continue
		}
		if _, err := ProfileNamed(r.Profile, profiles); err != nil {
			return fmt.Errorf("rules[%d].profile: %w", i, err)
		}
	}
	return nil
}

// builtin are the modalities that have a profile of their own.
var builtin = []string{"CT", "MR", "PT"}

// ProfileNamed finds a profile among the configured and the built-in ones.
func ProfileNamed(name string, profiles map[string]features.Profile) (features.Profile, error) {
	if p, ok := profiles[name]; ok {
		p.Name = name
		return p, nil
	}
	var names []string
	for _, modality := range append(builtin, "") {
		p := features.DefaultProfile(modality)
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return features.Profile{}, fmt.Errorf("no profile %q: write it under profiles, or use a built-in one: %s", name, strings.Join(names, ", "))
}

// A Chooser says by which profile a region is measured on images with this header; ok is false for regions that are not.
type Chooser func(image *dicom.DataSet, r roi.Region) (p features.Profile, ok bool, err error)

// Select is the [Chooser] of the rules: the profile of the first rule that matches, else the built-in default of the modality.
func (o Options) Select(image *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
	for _, rule := range o.Rules {
		if rule.When.Matches(image, r) {
			if rule.Profile == Skip {
				return features.Profile{}, false, nil
			}
			p, err := ProfileNamed(rule.Profile, o.Profiles)
			return p, err == nil, err
		}
	}
	return features.DefaultProfile(image.String(dicom.Modality)), true, nil
}
