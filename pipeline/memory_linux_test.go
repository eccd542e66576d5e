package pipeline

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// The lowest limit between the process's control group and the root counts.
func TestGroupLimit(t *testing.T) {
	root := t.TempDir()
	write := func(group, text string) {
		dir := filepath.Join(root, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("/system.slice", "3000\n")
	write("/system.slice/radnode.service", "max\n")
	write("/user.slice", "5000\n")
	write("/user.slice/one", "4000\n")
	for groups, want := range map[string]int64{
		"0::/system.slice/radnode.service\n":      3000,
		"1:cpu:/user.slice\n0::/user.slice/one\n": 4000,
		"0::/user.slice/two\n":                    5000,
		"0::/\n":                                  math.MaxInt64,
		"4:memory:/user.slice\n":                  math.MaxInt64,
	} {
		if got := groupLimit(root, groups); got != want {
			t.Errorf("%q: %d, want %d", groups, got, want)
		}
	}
	if DefaultMemory() < 1<<20 {
		t.Errorf("the default is %d bytes", DefaultMemory())
	}
}
