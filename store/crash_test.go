package store

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	crashChildEnv  = "RADNODE_STORE_CRASH_CHILD"  // data folder: this process is the one to be killed
	crashRoundEnv  = "RADNODE_STORE_CRASH_ROUND"  // makes its UIDs unique
	crashRoundsEnv = "RADNODE_STORE_CRASH_ROUNDS" // how many kills TestKill does; 25 when unset
)

const crashLarge = 300 << 10

func crashObject(round, n int) object {
	size := 500 + n*7919%200_000
	if n%17 == 16 {
		size += crashLarge
	}
	return newObject(fmt.Sprintf("1.2.%d", round), fmt.Sprintf("1.2.%d.%d", round, n), size, uint64(n))
}

// crashChild stores objects and works through jobs until it is killed, and says each time what was answered with nil.
func crashChild(dir string) {
	round, _ := strconv.Atoi(os.Getenv(crashRoundEnv))
	s, err := Open(dir, Options{largeObject: crashLarge, segmentSize: 4 << 20})
	if err != nil {
		fmt.Println("E", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(what string, n int) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%s %d\n", what, n)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				n := int(next.Add(1))
				if err := crashObject(round, n).put(s); err != nil {
					fmt.Println("E", err)
					os.Exit(1)
				}
				say("P", n)
			}
		})
	}
	wg.Go(func() {
		queue := strconv.Itoa(round)
		for n := 0; ; n++ {
			if err := s.Commit(ctx, Change{Jobs: []Job{{Key: jobKey(round, n), Queue: queue}}}); err != nil {
				continue
			}
			say("J", n)
			if n%2 == 1 {
				continue
			}
			j, err := s.Claim(ctx, queue, time.Minute)
			if err != nil {
				continue
			}
			k, _ := strconv.Atoi(j.Key[strings.LastIndex(j.Key, "/")+1:])
			if s.Done(ctx, j.Key, Change{States: []State{{Study: "1.2", Subject: j.Key, Name: "computed"}}}) == nil {
				say("D", k)
			}
		}
	})
	wg.Wait()
}

func jobKey(round, n int) string { return fmt.Sprintf("job/%d/%d", round, n) }

// TestKill kills a process that stores, at any moment, again and again in the same data folder: whatever was answered
// must be there afterwards, byte for byte.
func TestKill(t *testing.T) {
	rounds := 25
	if v := os.Getenv(crashRoundsEnv); v != "" {
		var err error
		if rounds, err = strconv.Atoi(v); err != nil {
			t.Fatalf("%s: %v", crashRoundsEnv, err)
		}
	} else if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	answered := 0
	for round := range rounds {
		if round%50 == 49 { // a data folder of its own now and then, so that thousands of rounds stay small
			dir = t.TempDir()
		}
		answered += killOnce(t, dir, round, 1+rnd.IntN(80))
	}
	t.Logf("%d kills, %d answers, all kept", rounds, answered)
	if answered < rounds {
		t.Errorf("only %d answers in %d rounds", answered, rounds)
	}
}

// killOnce lets a child run until it has answered a number of times, kills it, and checks. The kill falls into whatever
// the child's five goroutines and its index are doing then.
func killOnce(t *testing.T, dir string, round, after int) int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashChildEnv+"="+dir, crashRoundEnv+"="+strconv.Itoa(round))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string][]int{}
	lines := bufio.NewScanner(out)
	for n := 1; lines.Scan(); n++ {
		if n == after {
			_ = child.Process.Kill() // what is in the pipe already is read to its end
		}
		what, num, ok := strings.Cut(lines.Text(), " ")
		k, err := strconv.Atoi(num)
		if !ok || err != nil {
			_ = child.Process.Kill()
			t.Errorf("round %d: child says %q", round, lines.Text())
			break
		}
		said[what] = append(said[what], k)
	}
	_ = child.Wait()

	s, err := Open(dir, Options{largeObject: crashLarge, segmentSize: 4 << 20})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	defer s.Close()
	if d := s.Damage(); len(d) > 0 {
		t.Errorf("round %d: damage after a kill: %v", round, d)
	}
	for _, n := range said["P"] {
		wantObject(t, s, crashObject(round, n))
	}
	waiting := map[string]bool{}
	for _, j := range s.Jobs(strconv.Itoa(round)) {
		waiting[j.Key] = true
	}
	done := map[string]bool{}
	if len(said["D"]) > 0 {
		st, err := s.Study("1.2")
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range st.States {
			done[x.Subject] = true
		}
	}
	for _, n := range said["D"] {
		if key := jobKey(round, n); waiting[key] || !done[key] {
			t.Errorf("round %d: job %s was done with its state: waiting %v, state %v", round, key, waiting[key], done[key])
		}
	}
	for _, n := range said["J"] {
		if key := jobKey(round, n); !waiting[key] && !done[key] && len(said["D"]) > 0 {
			t.Errorf("round %d: job %s is lost", round, key)
		}
	}
	if tmp, _ := filepath.Glob(filepath.Join(dir, largeDir, "*.tmp")); len(tmp) > 0 {
		t.Errorf("round %d: left behind: %v", round, tmp)
	}
	return len(said["P"]) + len(said["J"]) + len(said["D"])
}
