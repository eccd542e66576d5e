package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/radnode/radnode/pipeline"
)

type balanceCmd struct {
	nodeFlags
	Days int    `help:"Only the last days, today among them." xor:"from" placeholder:"N"`
	From string `help:"Only from this day on, as 2026-11-25 (UTC)." xor:"from" placeholder:"DATE"`
	To   string `help:"Only up to this day." placeholder:"DATE"`
}

// Run writes one row a day. What was received is counted by the store as it comes; what became of it is counted afresh in every study
// that is here. That both agree is the proof that nothing was lost.
func (c balanceCmd) Run(e *env) error {
	from, to := c.From, c.To
	for _, day := range []string{from, to} {
		if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
			return usageError{fmt.Errorf("%q is no day; write it as 2026-11-25", day)}
		}
	}
	if c.Days < 0 {
		return usageError{errors.New("--days: must be at least 1")}
	}
	if c.Days > 0 {
		from = time.Now().UTC().AddDate(0, 0, 1-c.Days).Format(time.DateOnly)
	}
	node, err := c.reach(e)
	if err != nil {
		return err
	}
	var days []pipeline.BalanceDay
	err = node.ask(e.ctx, "GET", "/balance", nil, &days)
	if err := errors.Join(err, node.close()); err != nil {
		return err
	}
	days = slices.DeleteFunc(days, func(d pipeline.BalanceDay) bool { return d.Day < from || to != "" && d.Day > to })
	reasons := leftReasons(days)
	head := append([]string{"day", "received", "bytes", "again"}, pipeline.InstanceStates...)
	for _, r := range reasons {
		head = append(head, "left_"+column(r))
	}
	w := csv.NewWriter(e.stdout)
	_ = w.Write(append(head, "difference"))
	var wrong []string
	for _, d := range days {
		row := []string{d.Day, strconv.Itoa(d.Received), strconv.FormatInt(d.Bytes, 10), strconv.Itoa(d.Again)}
		for _, name := range pipeline.InstanceStates {
			row = append(row, strconv.Itoa(d.States[name]))
		}
		for _, r := range reasons {
			row = append(row, strconv.Itoa(d.Left[r]))
		}
		_ = w.Write(append(row, strconv.Itoa(d.Difference)))
		if d.Difference != 0 {
			wrong = append(wrong, fmt.Sprintf("%s: received %d, and %d are not accounted for", d.Day, d.Received, d.Difference))
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the balance does not come out:\n%s\nsee radnode status for damage; keep the data folder and report this", strings.Join(wrong, "\n"))
	}
	return nil
}

// leftReasons are the reasons for leaving, those that always have a column first.
func leftReasons(days []pipeline.BalanceDay) []string {
	reasons := []string{pipeline.LeftByAge, pipeline.LeftByQuota, pipeline.Discarded}
	var others []string
	for _, d := range days {
		for r := range d.Left {
			if !slices.Contains(reasons, r) && !slices.Contains(others, r) {
				others = append(others, r)
			}
		}
	}
	slices.Sort(others)
	return append(reasons, others...)
}

// column makes a reason the name of a column.
func column(reason string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ReplaceAll(strings.ToLower(reason), ": ", "_")), "_")
}
