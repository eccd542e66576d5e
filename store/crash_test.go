package store

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	crashChildEnv  = "RADNODE_STORE_CRASH_CHILD"  // data folder: this process is the one to be killed
	crashRoundEnv  = "RADNODE_STORE_CRASH_ROUND"  // makes its ids unique
	crashCloseEnv  = "RADNODE_STORE_CRASH_CLOSE"  // it closes the store after so many answers
	crashLateEnv   = "RADNODE_STORE_CRASH_LATE"   // its disk writes later than it says
	crashRoundsEnv = "RADNODE_STORE_CRASH_ROUNDS" // how many kills TestKill does; 60 when unset
)

func crashOptions(round int) Options {
	return Options{largeObject: crashLarge, segmentSize: 1 << 20, prepared: int64(1+round%2*200) << 10, quiet: 2 * time.Millisecond,
		Conflicts: Policy(max(round, 0) % 3 % 2), compact: time.Duration(1+round%5*10) * time.Millisecond,
		small: 1 << 20}
}

// crashChild does things with a store until it is killed, and says each time what it begins and what was answered.
func crashChild(dir string) {
	round, _ := strconv.Atoi(os.Getenv(crashRoundEnv))
	closeAfter, _ := strconv.Atoi(os.Getenv(crashCloseEnv))
	var mu sync.Mutex
	say := func(parts ...string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(os.Stdout, strings.Join(parts, "\t")+"\n")
	}
	fail := func(err error) {
		say("failed", err.Error())
		os.Exit(1)
	}
	o := crashOptions(round)
	o.Logger = slog.New(slog.DiscardHandler)
	if os.Getenv(crashLateEnv) != "" {
		o.disk = lateDisk()
	}
	say("opens")
	s, err := Open(dir, o)
	if err != nil {
		fail(err)
	}
	say("open")
	var next, answers atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for closeAfter == 0 || answers.Load() < int64(closeAfter) {
				n := int(next.Add(1))
				id, what := fmt.Sprintf("%d.%d", round, n), doings[rnd2(1, round, n)%len(doings)]
				say("begins", what.name, id)
				err := what.do(s, id, func(step string) {
					answers.Add(1)
					say("answered", what.name, id, step)
				})
				if err != nil {
					fail(fmt.Errorf("%s: %w", what.name, err))
				}
			}
		})
	}
	wg.Wait()
	say("closes")
	if err := s.Close(); err != nil {
		fail(err)
	}
	say("closed")
}

// lateDisk says of records that they are written and synced, and writes them a little later.
func lateDisk() *disk {
	d := realDisk()
	real := d
	d.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
		if filepath.Ext(f.Name()) != ".seg" || off < segmentHeaderSize {
			return real.writeAt(f, b, off)
		}
		late := append([]byte(nil), b...)
		time.AfterFunc(20*time.Millisecond, func() { _, _ = real.writeAt(f, late, off) })
		return len(b), nil
	}
	return &d
}

// A crashLane kills one child after the other over one data folder.
type crashLane struct {
	rnd     *rand.Rand
	late    bool
	dir     string
	book    ledger
	checked int
	kills   int                      // over this folder
	usual   map[string]time.Duration // what opening and closing take
	phases  map[string]int           // kills by what the child was at
	answers int
	wrong   []string

	rewritten, amid int // looks at a folder with a segment that was compacted, and with one that was about to be
}

// forks keeps a child of one lane from being forked while another has a store open: until it has become the program that it
// is to run, it would share its lock.
var forks sync.RWMutex

const killsOfLife = 40 // then a new data folder, so that thousands stay small

// TestKill kills a process that stores, at any moment, again and again in the same data folder: while it opens the store and
// recovers what the one before has left, while it works, while it closes. Whatever was answered is there afterwards, byte
// for byte; whatever was not is there whole or not at all. RADNODE_STORE_CRASH_ROUNDS sets the number of kills.
func TestKill(t *testing.T) {
	usual := 60
	if testing.Short() {
		usual = 8
	}
	kills := roundsOf(t, crashRoundsEnv, usual)
	var round, killed atomic.Int64
	lanes := make([]*crashLane, max(2, min(4, runtime.NumCPU())))
	var wg sync.WaitGroup
	for i := range lanes {
		l := &crashLane{rnd: rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))}
		lanes[i] = l
		wg.Go(func() {
			for killed.Load() < int64(kills) && len(l.wrong) == 0 {
				if l.kill(t, int(round.Add(1))) {
					killed.Add(1)
				}
			}
			l.endLife()
		})
	}
	wg.Wait()
	phases, answers, rewritten, amid := map[string]int{}, 0, 0, 0
	for _, l := range lanes {
		for _, w := range l.wrong {
			t.Error(w)
		}
		for p, n := range l.phases {
			phases[p] += n
		}
		answers += l.answers
		rewritten += l.rewritten
		amid += l.amid
	}
	t.Logf("%d kills (%v), %d answers kept; looked %d times at compacted segments, %d times amid compaction", killed.Load(), phases, answers, rewritten, amid)
	if answers < kills {
		t.Errorf("only %d answers in %d rounds", answers, kills)
	}
	if kills >= 50 && (phases["opens"] == 0 || phases["open"] == 0 || phases["closes"] == 0 || rewritten == 0) {
		t.Errorf("the kills fell into %v, and should into each of opens, open and closes, and behind compactions", phases)
	}
}

// TestKillFindsTheBug shows that TestKill would notice a store that answers before it has written: the same rounds over a
// disk that writes later than it says.
func TestKillFindsTheBug(t *testing.T) {
	const most = 40
	l := &crashLane{rnd: rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))), late: true}
	lost := -1
	for n := 1; n <= most && lost < 0; n++ {
		l.kill(t, n)
		l.look(n, 0)
		lost = slices.IndexFunc(l.wrong, func(w string) bool { return strings.Contains(w, "is lost") })
		if lost < 0 && len(l.wrong) > 0 { // writes that came out of order look like damage
			l.dir = ""
		}
	}
	if lost < 0 {
		t.Fatalf("%d kills of a store that answers before it writes, and no answer is missed: %v", most, l.wrong)
	}
	t.Logf("found: %s", l.wrong[lost])
}

// kill lets a child run, kills it, and now and then looks at what it has left; else the next child has something to recover.
// It is false where the child had ended before.
func (l *crashLane) kill(t *testing.T, round int) bool {
	if l.kills == killsOfLife {
		l.endLife()
	}
	if l.dir == "" {
		l.dir, l.book, l.checked, l.kills = filepath.Join(t.TempDir(), "data"), ledger{}, 0, 0
	}
	if l.usual == nil {
		l.usual, l.phases = map[string]time.Duration{"opens": 5 * time.Millisecond, "closes": 5 * time.Millisecond}, map[string]int{}
	}
	l.kills++

	// When the child says target, it has so long to live.
	target, after, closeAfter := "open", time.Duration(l.rnd.Int64N(int64(80*time.Millisecond))), 0
	switch p := l.rnd.IntN(10); {
	case l.late:
	case p < 4:
		target = "opens"
	case p < 6:
		target, closeAfter = "closes", 1+l.rnd.IntN(40)
	}
	if usual := l.usual[target]; usual > 0 {
		after = time.Duration(l.rnd.Int64N(int64(usual) * 5 / 4))
	}
	phase, err := l.run(round, target, after, closeAfter)
	if err != nil {
		l.wrong = append(l.wrong, fmt.Sprintf("round %d: %v", round, err))
		return false
	}
	if phase == "ended" {
		return false
	}
	l.phases[phase]++
	if l.rnd.IntN(5) < 2 {
		l.look(round, l.checked)
	}
	return true
}

// run starts a child and kills it so long after it has said target. It returns what the child was at then: starts, opens,
// open, closes or closed; ended when it was not killed at all.
func (l *crashLane) run(round int, target string, after time.Duration, closeAfter int) (phase string, err error) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashChildEnv+"="+l.dir, crashRoundEnv+"="+strconv.Itoa(round), crashCloseEnv+"="+strconv.Itoa(closeAfter))
	if l.late {
		child.Env = append(child.Env, crashLateEnv+"=1")
	}
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return "", err
	}
	forks.Lock()
	err = child.Start()
	forks.Unlock()
	if err != nil {
		return "", err
	}
	stuck := time.AfterFunc(2*time.Minute, func() { _ = child.Process.Kill() })
	defer stuck.Stop()
	phase = "starts"
	begun := time.Now()
	lines := bufio.NewScanner(out)
	for lines.Scan() { // what is in the pipe already is read to its end
		parts := strings.Split(lines.Text(), "\t")
		switch {
		case len(parts) == 1:
			if usual := l.usual[phase]; usual > 0 { // it is through
				l.usual[phase] = (3*usual + time.Since(begun)) / 4
			}
			phase, begun = parts[0], time.Now()
			if phase == target {
				time.AfterFunc(after, func() { _ = child.Process.Kill() })
			}
		case parts[0] == "begins" && len(parts) == 3:
			l.book.line(parts[1], parts[2])
		case parts[0] == "answered" && len(parts) == 4:
			l.book.answered(parts[1], parts[2], parts[3])
		default:
			_ = child.Process.Kill()
			_ = child.Wait()
			return "", fmt.Errorf("the child says %q", lines.Text())
		}
	}
	_ = child.Wait()
	if !stuck.Stop() {
		return "", fmt.Errorf("the child hangs (%s)", phase)
	}
	if child.ProcessState.Exited() && child.ProcessState.Success() {
		phase = "ended"
	}
	return phase, nil
}

// look opens the store and compares it with what was answered, from a line of the ledger on.
func (l *crashLane) look(round, from int) {
	forks.RLock()
	defer forks.RUnlock()
	o := crashOptions(round)
	o.Logger = slog.New(slog.DiscardHandler)
	rewritten, amid := compactedIn(l.dir)
	l.rewritten += count(rewritten)
	l.amid += count(amid)
	s, err := Open(l.dir, o)
	if err != nil {
		l.wrong = append(l.wrong, fmt.Sprintf("round %d: the store does not open: %v", round, err))
		return
	}
	defer s.Close()
	if d := s.Damage(); len(d) > 0 {
		l.wrong = append(l.wrong, fmt.Sprintf("round %d: damage after a kill: %v", round, d))
	}
	for _, w := range l.book.check(s, from) {
		l.wrong = append(l.wrong, fmt.Sprintf("round %d: %s", round, w))
	}
	l.checked = len(l.book.order)
	if tmp, _ := filepath.Glob(filepath.Join(l.dir, largeDir, "*.tmp")); len(tmp) > 0 {
		l.wrong = append(l.wrong, fmt.Sprintf("round %d: left behind: %v", round, tmp))
	}
}

// endLife looks at all that was ever answered over this folder, once with the index and once without.
func (l *crashLane) endLife() {
	if l.dir == "" {
		return
	}
	if len(l.wrong) == 0 {
		l.look(-1, 0)
		if err := os.Remove(filepath.Join(l.dir, indexFile)); err != nil {
			l.wrong = append(l.wrong, err.Error())
		}
		l.look(-2, 0)
	}
	l.answers += l.book.answers()
	_ = os.RemoveAll(l.dir)
	l.dir = ""
}
