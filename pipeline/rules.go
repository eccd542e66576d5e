package pipeline

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/radnode/radnode/features"
)

// A Rule chooses the profile of the regions that it matches.
type Rule struct {
	When    When   `yaml:"when"`
	Profile string `yaml:"profile"`
}

// When holds the conditions of a rule; an empty one matches everything.
type When struct {
	Modality string `yaml:"modality,omitempty"` // Modality (0008,0060) of the images, in any case
	ROI      string `yaml:"roi,omitempty"`      // regular expression (RE2), found anywhere in the ROI Name (3006,0026)
}

// Matches says whether the rule holds for a region of this name on images of this modality. The expression of a checked
// rule compiles; one that does not matches nothing.
func (w When) Matches(modality, roi string) bool {
	if w.Modality != "" && !strings.EqualFold(w.Modality, modality) {
		return false
	}
	if w.ROI == "" {
		return true
	}
	re, err := regexp.Compile(w.ROI)
	return err == nil && re.MatchString(roi)
}

// CheckRules returns an error that names the first rule or profile which cannot work, and what to do.
func CheckRules(rules []Rule, profiles map[string]features.Profile) error {
	for name, p := range profiles {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("profiles.%s: %w", name, err)
		}
	}
	for i, r := range rules {
		if _, err := regexp.Compile(r.When.ROI); err != nil {
			return fmt.Errorf("rules[%d].when.roi: %w; write a regular expression as in https://golang.org/s/re2syntax", i, err)
		}
		if _, err := ProfileNamed(r.Profile, profiles); err != nil {
			return fmt.Errorf("rules[%d].profile: %w", i, err)
		}
	}
	return nil
}

// ProfileNamed finds a profile among the configured and the built-in ones.
func ProfileNamed(name string, profiles map[string]features.Profile) (features.Profile, error) {
	if p, ok := profiles[name]; ok {
		p.Name = name
		return p, nil
	}
	if modality, ok := strings.CutSuffix(name, "-default"); ok {
		if p := features.DefaultProfile(strings.ToUpper(modality)); p.Name == name {
			return p, nil
		}
	}
	return features.Profile{}, fmt.Errorf("no profile %q: write it under profiles, or use the built-in %q", name, "ct-default")
}

// Select returns the profile for a region: of the first rule that matches, else the built-in default of the modality.
func (o Options) Select(modality, roi string) (features.Profile, error) {
	for _, r := range o.Rules {
		if r.When.Matches(modality, roi) {
			return ProfileNamed(r.Profile, o.Profiles)
		}
	}
	return features.DefaultProfile(modality), nil
}
