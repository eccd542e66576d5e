package pipeline

import (
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemMemory is the machine's memory in bytes, or the limit of the process's control group where that is lower.
func systemMemory() int64 {
	least := int64(math.MaxInt64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		least = int64(info.Totalram) * int64(info.Unit)
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return least
	}
	return min(least, groupLimit("/sys/fs/cgroup", string(b)))
}

// groupLimit is the lowest memory.max from the process's group up to the root, which are below root in cgroup v2. groups is
// what /proc/self/cgroup says.
func groupLimit(root, groups string) int64 {
	least := int64(math.MaxInt64)
	for line := range strings.Lines(groups) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for ; ; group = path.Dir(group) {
			// The file holds "max" where there is no limit, and is absent at the root of the machine.
			if b, err := os.ReadFile(path.Join(root, group, "memory.max")); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
					least = min(least, n)
				}
			}
			if group == "/" || group == "." || group == "" {
				break
			}
		}
	}
	return least
}
