package ul

import (
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

var actionNames = [...]string{
	ae1: "AE-1", ae2: "AE-2", ae3: "AE-3", ae4: "AE-4", ae5: "AE-5", ae6: "AE-6", ae7: "AE-7", ae8: "AE-8",
	dt1: "DT-1", dt2: "DT-2",
	ar1: "AR-1", ar2: "AR-2", ar3: "AR-3", ar4: "AR-4", ar5: "AR-5", ar6: "AR-6", ar7: "AR-7", ar8: "AR-8", ar9: "AR-9", ar10: "AR-10",
	aa1: "AA-1", aa2: "AA-2", aa3: "AA-3", aa4: "AA-4", aa5: "AA-5", aa6: "AA-6", aa7: "AA-7", aa8: "AA-8",
}

func readTable(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r := csv.NewReader(f)
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// The table agrees with another implementation's transcription in every one of its 19 × 13 cells.
func TestTransitions(t *testing.T) {
	rows := readTable(t, "testdata/table-9-10.csv")
	if len(rows) != 19 || len(transitions) != 20 {
		t.Fatalf("%d events in the reference, %d here", len(rows), len(transitions)-1)
	}
	for _, row := range rows {
		e, err := strconv.Atoi(row[0])
		if err != nil || len(row) != 14 {
			t.Fatalf("row %q: %v", row, err)
		}
		for i, want := range row[1:] {
			if got := actionNames[transitions[e][i]]; got != want {
				t.Errorf("event %d in Sta%d: %q, want %q", e, i+1, got, want)
			}
		}
	}
}

func TestNextStates(t *testing.T) {
	rows := readTable(t, "testdata/actions.csv")
	if len(rows) != len(actionNames)-1 {
		t.Fatalf("%d actions in the reference, %d here", len(rows), len(actionNames)-1)
	}
	for _, row := range rows {
		for a, name := range actionNames {
			if name != row[0] {
				continue
			}
			states := strings.Split(row[1], "|")
			if got := fmt.Sprint(nextState[a]); got != states[0] && (len(states) < 2 || got != states[1]) {
				t.Errorf("%s leads to %s, want %s", name, got, row[1])
			}
		}
	}
}
