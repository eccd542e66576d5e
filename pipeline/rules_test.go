package pipeline

import (
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/roi"
)

// Each condition, met in another case where names are compared in any case, and broken by one letter.
func TestRuleConditions(t *testing.T) {
	image := dicom.New()
	image.SetString(dicom.Modality, "CT")
	image.SetString(dicom.BodyPartExamined, "CHEST")
	image.SetString(dicom.SeriesDescription, "Thorax 1.0 B30f")
	image.SetString(dicom.Manufacturer, "SIEMENS")
	image.SetString(dicom.StationName, "CTAWP7")
	region := roi.Region{Name: "GTV-1", InterpretedType: "GTV", Number: 3, Type: roi.Code{Value: "86049000", Scheme: "SCT", Meaning: "Neoplasm"}}
	for name, c := range map[string]struct {
		meets, breaks When
	}{
		"modality":     {When{Modality: "ct"}, When{Modality: "CTX"}},
		"body part":    {When{BodyPart: "chest"}, When{BodyPart: "CHES"}},
		"description":  {When{SeriesDescription: "thorax.*b30"}, When{SeriesDescription: "^b30"}},
		"manufacturer": {When{Manufacturer: "siemens"}, When{Manufacturer: "philips"}},
		"station":      {When{Station: "^ctawp"}, When{Station: "^awp"}},
		"name":         {When{ROI: "^GTV"}, When{ROI: "^gtv"}},
		"type":         {When{Type: "gtv"}, When{Type: "GTV-1"}},
		"number":       {When{Number: 3}, When{Number: 4}},
		"property":     {When{Property: "86049000"}, When{Property: "8604900"}},
		"all":          {When{"CT", "CHEST", "Thorax", "SIEMENS", "CT", "GTV", "GTV", 3, "86049000"}, When{"CT", "CHEST", "Thorax", "SIEMENS", "CT", "GTV", "GTV", 2, "86049000"}},
		"none":         {When{}, When{ROI: "(("}},
	} {
		if !c.meets.Matches(image, region) {
			t.Errorf("%s: %+v does not match", name, c.meets)
		}
		if c.breaks.Matches(image, region) {
			t.Errorf("%s: %+v matches", name, c.breaks)
		}
	}

	o := Options{
		Rules: []Rule{
			{When{Type: "ORGAN"}, Skip},
			{When{ROI: "^GTV"}, "coarse"},
			{When{Modality: "CT"}, "mr-default"},
		},
		Profiles: map[string]features.Profile{"coarse": features.DefaultProfile("CT")},
	}
	if err := CheckRules(o.Rules, o.Profiles); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		region  roi.Region
		profile string // "" = not measured
	}{
		{region, "coarse"},
		{roi.Region{Name: "GTV", InterpretedType: "ORGAN"}, ""},
		{roi.Region{Name: "Lung"}, "mr-default"},
	} {
		p, ok, err := o.Select(image, c.region)
		if err != nil || ok != (c.profile != "") || ok && p.Name != c.profile {
			t.Errorf("%s: profile %q, %v, %v, want %q", c.region.Name, p.Name, ok, err, c.profile)
		}
	}
	image.SetString(dicom.Modality, "PT")
	if p, ok, err := (Options{}).Select(image, region); p.Name != "pt-default" || !ok || err != nil {
		t.Errorf("without rules a PET is measured by %q, %v, %v", p.Name, ok, err)
	}

	for _, c := range []struct {
		rule  Rule
		names string
	}{
		{Rule{When{ROI: "(("}, Skip}, "rules[0].when.roi"},
		{Rule{When{Station: "(("}, Skip}, "rules[0].when.station"},
		{Rule{When{Manufacturer: "(("}, Skip}, "rules[0].when.manufacturer"},
		{Rule{When{SeriesDescription: "(("}, Skip}, "rules[0].when.series_description"},
		{Rule{When{}, "nope"}, "pt-default"},
	} {
		if err := CheckRules([]Rule{c.rule}, nil); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("error is %v, want one that names %s", err, c.names)
		}
	}
	if err := CheckRules(nil, map[string]features.Profile{Skip: features.DefaultProfile("CT")}); err == nil {
		t.Error("a profile may have the name that leaves regions out")
	}
}
