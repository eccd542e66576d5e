package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/radnode/radnode/pipeline"
)

// RetentionConfig says when finished studies leave.
type RetentionConfig struct {
	Age       span  `yaml:"age"`       // 0 = whatever their age
	Quota     quota `yaml:"quota"`     // none = no bound
	Unmatched span  `yaml:"unmatched"` // how long images are kept at least that no contours refer to
}

// defaultRetention keeps the node from filling up after months, when it would refuse everything: images are copies of what the
// PACS has, and only what is finished leaves.
var defaultRetention = RetentionConfig{Quota: quota{share: 0.8}, Unmatched: span(30 * 24 * time.Hour)}

func (c RetentionConfig) check() error {
	switch {
	case c.Age < 0:
		return errors.New("retention.age: write a time with its unit, as 90d or 12h, or none")
	case c.Unmatched < 0:
		return errors.New("retention.unmatched: write a time with its unit, as 30d or 12h")
	case c.Quota.bytes < 0:
		return errors.New("retention.quota: write a size of at least 16MiB, as 500GiB, or 1% to 95% of what the store can hold, as 80%, or none")
	case c.Age != 0 && time.Duration(c.Age) < time.Hour:
		return errors.New("retention.age: less than an hour; write a time as 90d, or none")
	case c.Unmatched == 0 || time.Duration(c.Unmatched) < time.Hour:
		return errors.New("retention.unmatched: less than an hour; write a time as 30d: contours come later than their images")
	}
	return nil
}

func (c RetentionConfig) retention() pipeline.Retention {
	return pipeline.Retention{Age: time.Duration(c.Age), Quota: c.Quota.bytes, Share: c.Quota.share, Unmatched: time.Duration(c.Unmatched)}
}

// A span is a time that may be written in days: 90d, 12h, 90d12h. "none" is 0.
type span time.Duration

// UnmarshalYAML reads a time; what is none becomes -1, for check to refuse with its key.
func (s *span) UnmarshalYAML(b []byte) error {
	*s = -1
	text := plainYAML(b)
	if text == "none" {
		*s = 0
		return nil
	}
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n > 100*366 {
		return nil
	}
	var d time.Duration
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil || d < 0 || d > 100*366*24*time.Hour {
			return nil
		}
	}
	*s = span(time.Duration(n)*24*time.Hour + d)
	return nil
}

// A quota is a number of bytes, or a share of what the store can hold: 500GiB, 80%, none.
type quota struct {
	bytes int64
	share float64
}

// UnmarshalYAML reads a quota; what is none becomes -1, for check to refuse with its key.
func (q *quota) UnmarshalYAML(b []byte) error {
	*q = quota{bytes: -1}
	text := plainYAML(b)
	if text == "none" {
		*q = quota{}
		return nil
	}
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
		if err == nil && strings.Trim(percent, "0123456789. ") == "" && n >= 1 && n <= 95 {
			*q = quota{share: n / 100}
		}
		return nil
	}
	if n, err := parseSize("retention.quota", text); err == nil && n >= leastMemory {
		*q = quota{bytes: n}
	}
	return nil
}
