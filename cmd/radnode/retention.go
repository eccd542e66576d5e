package main

import (
	"errors"
	"fmt"
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

// UnmarshalYAML reads a time strictly.
func (s *span) UnmarshalYAML(b []byte) error {
	text := plainYAML(b)
	if text == "none" {
		*s = 0
		return nil
	}
	wrong := fmt.Errorf("%q is no time; write a number with a unit, as 90d or 12h, or none", text)
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n > 100*366 {
		return wrong
	}
	var d time.Duration
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil || d < 0 || d > 100*366*24*time.Hour {
			return wrong
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

// UnmarshalYAML reads a quota strictly.
func (q *quota) UnmarshalYAML(b []byte) error {
	text := plainYAML(b)
	*q = quota{}
	if text == "none" {
		return nil
	}
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
		if err != nil || strings.Trim(percent, "0123456789. ") != "" || n < 1 || n > 95 {
			return fmt.Errorf("%q: write 1%% to 95%% of what the store can hold, a number of bytes as 500GiB, or none", text)
		}
		q.share = n / 100
		return nil
	}
	n, err := sizeText(text)
	if err != nil || n < leastMemory {
		return fmt.Errorf("%q is no size of at least 16MiB; write a number of bytes, or one with a unit as 500GiB, or a share as 80%%, or none", text)
	}
	q.bytes = n
	return nil
}
