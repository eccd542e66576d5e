package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const cutRoundsEnv = "RADNODE_STORE_CUT_ROUNDS" // how many power cuts TestPowerCut makes; 200 when unset

// A simDisk is a disk with a cache that the power cut empties. What programs read is the cache: real files in a folder. What
// is durable is kept beside it, for every file and for every folder of names, with all that is not synced yet.
type simDisk struct {
	disk
	mu    sync.Mutex // guards all below
	rnd   *rand.Rand
	files map[*os.File]*inode
	names map[string]map[string]*inode // folder -> name, as programs see it
	dirs  map[string]*simDir
	left  int  // operations until the power is cut
	off   bool // it is, or the process was killed
	kill  bool // the last operation kills the process only, and the cache survives
	to    string
	index [][]byte // durable copies of the index, oldest first

	lies   string // "sync": a sync of a file does nothing; "syncDir": that of a folder
	sickly int    // one sync in so many fails, and what it was to write is lost; 0: none
}

// An inode is a file under whatever name.
type inode struct {
	durable []byte
	pending []change
}

// A change is a write, or a truncation where data is nil.
type change struct {
	at   int64 // offset, or new size
	data []byte
}

// A simDir is a folder.
type simDir struct {
	durable map[string]*inode
	pending []renaming
}

// A renaming creates (from is empty), removes (to is empty) or renames.
type renaming struct {
	from, to string
	ino      *inode
}

var errPowerOff = &os.PathError{Op: "use", Path: "disk", Err: syscall.ENODEV}

// newSimDisk starts with what lies in the data folder dir, all of it durable. The state after the cut goes to the folder to.
func newSimDisk(dir, to string, rnd *rand.Rand, left int) *simDisk {
	d := &simDisk{rnd: rnd, files: map[*os.File]*inode{}, names: map[string]map[string]*inode{}, dirs: map[string]*simDir{}, left: left, to: to}
	for _, sub := range []string{logDir, largeDir} {
		sd := &simDir{durable: map[string]*inode{}}
		path := filepath.Join(dir, sub)
		list, err := os.ReadDir(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			panic(err)
		}
		for _, de := range list {
			b, err := os.ReadFile(filepath.Join(path, de.Name()))
			if err != nil {
				panic(err)
			}
			sd.durable[de.Name()] = &inode{durable: b}
		}
		d.dirs[path], d.names[path] = sd, maps.Clone(sd.durable)
	}
	real := realDisk()
	d.disk = real
	d.looseIndex = true
	d.reserve = func(*os.File, int64) {}
	d.allocated = func(*os.File) int64 { return 0 }
	d.space = func(string) (int64, int64, error) { return 1 << 40, 1 << 39, nil }
	d.open = func(name string, flag int, perm os.FileMode) (*os.File, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.off {
			return nil, errPowerOff
		}
		f, err := real.open(name, flag, perm)
		if err != nil {
			return nil, err
		}
		dir, base := filepath.Split(name)
		dir = filepath.Clean(dir)
		ino := d.names[dir][base]
		if ino == nil {
			ino = new(inode)
			d.names[dir][base] = ino
			d.dirs[dir].pending = append(d.dirs[dir].pending, renaming{to: base, ino: ino})
		}
		d.files[f] = ino
		return f, d.tick(f)
	}
	d.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.off {
			return 0, errPowerOff
		}
		d.files[f].pending = append(d.files[f].pending, change{off, slices.Clone(b)})
		n, err := real.writeAt(f, b, off)
		return n, errors.Join(err, d.tick(nil))
	}
	d.truncate = func(f *os.File, size int64) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.off {
			return errPowerOff
		}
		d.files[f].pending = append(d.files[f].pending, change{at: size})
		return errors.Join(real.truncate(f, size), d.tick(nil))
	}
	d.sync = func(f *os.File) error {
		time.Sleep(300 * time.Microsecond) // as a disk does, so that others gather meanwhile
		d.mu.Lock()
		defer d.mu.Unlock()
		if err := d.tick(nil); err != nil {
			return err
		}
		ino := d.files[f]
		switch {
		case d.lies == "sync":
			return nil
		case d.sickly > 0 && d.rnd.IntN(d.sickly) == 0:
			// The kernel drops what it could not write and calls it clean: the next sync succeeds without it.
			ino.durable, ino.pending = ino.draw(d.rnd), nil
			return &os.PathError{Op: "sync", Path: f.Name(), Err: syscall.EIO}
		}
		ino.settle()
		return nil
	}
	d.syncDir = func(dir string) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if err := d.tick(nil); err != nil {
			return err
		}
		if sd := d.dirs[dir]; sd != nil && d.lies != "syncDir" {
			for _, r := range sd.pending {
				r.apply(sd.durable)
			}
			sd.pending = nil
		}
		return nil
	}
	d.forget = func(f *os.File) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.off {
			return
		}
		ino := d.files[f]
		b := slices.Clone(ino.durable)
		for _, c := range ino.pending {
			b = c.apply(b)
		}
		if err := real.truncate(f, int64(len(b))); err != nil {
			panic(err)
		}
		if _, err := real.writeAt(f, b, 0); err != nil && len(b) > 0 {
			panic(err)
		}
	}
	d.rename = func(from, to string) error { return d.move(func() error { return real.rename(from, to) }, from, to) }
	d.remove = func(name string) error { return d.move(func() error { return real.remove(name) }, name, "") }
	return d
}

func (d *simDisk) move(do func() error, from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return errPowerOff
	}
	if err := do(); err != nil {
		return err
	}
	dir := filepath.Dir(from)
	r := renaming{from: filepath.Base(from), ino: d.names[dir][filepath.Base(from)]}
	if to != "" {
		r.to = filepath.Base(to)
	}
	r.apply(d.names[dir])
	d.dirs[dir].pending = append(d.dirs[dir].pending, r)
	return d.tick(nil)
}

func (r renaming) apply(names map[string]*inode) {
	if r.from != "" {
		delete(names, r.from)
	}
	if r.to != "" {
		names[r.to] = r.ino
	}
}

// tick counts an operation; at the last one the power is cut. d.mu is held.
func (d *simDisk) tick(opened *os.File) error {
	if d.off {
		return errPowerOff
	}
	if d.left--; d.left > 0 {
		return nil
	}
	d.cut()
	if opened != nil {
		_ = opened.Close()
	}
	return errPowerOff
}

// cut writes down what the disk holds after a power cut now. d.mu is held.
func (d *simDisk) cut() {
	d.off = true
	if d.kill {
		return
	}
	write := func(b []byte, path ...string) {
		if err := os.WriteFile(filepath.Join(append([]string{d.to}, path...)...), b, 0o600); err != nil {
			panic(err)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(d.dirs)) {
		if err := os.MkdirAll(filepath.Join(d.to, filepath.Base(dir)), 0o700); err != nil {
			panic(err)
		}
		names := d.dirs[dir].draw(d.rnd)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			write(names[name].draw(d.rnd), filepath.Base(dir), name)
		}
	}
	if n := len(d.index); n > 0 && d.rnd.IntN(3) > 0 { // else it is lost
		write(d.index[n-1-d.rnd.IntN(n)], indexFile)
	}
}

// settle makes all of the file durable.
func (i *inode) settle() {
	for _, c := range i.pending {
		i.durable = c.apply(i.durable)
	}
	i.pending = nil
}

func (c change) apply(b []byte) []byte {
	end := c.at + int64(len(c.data))
	if grow := end - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	if c.data == nil {
		return b[:c.at]
	}
	copy(b[c.at:], c.data)
	return b
}

// draw returns one of the contents that the file may have after a power cut.
func (i *inode) draw(rnd *rand.Rand) []byte {
	b := slices.Clone(i.durable)
	if len(i.pending) == 0 {
		return b
	}
	switch rnd.IntN(6) {
	case 0: // nothing of what was not synced
	case 1: // all of it
		for _, c := range i.pending {
			b = c.apply(b)
		}
	case 2: // in order up to a torn write
		k := rnd.IntN(len(i.pending))
		for _, c := range i.pending[:k] {
			b = c.apply(b)
		}
		if c := i.pending[k]; c.data != nil {
			b = change{c.at, c.data[:rnd.IntN(len(c.data)+1)]}.apply(b)
		}
	case 3: // all but one sector of a write
		k := rnd.IntN(len(i.pending))
		for n, c := range i.pending {
			if n != k || len(c.data) == 0 {
				b = c.apply(b)
				continue
			}
			hole := (c.at + rnd.Int64N(int64(len(c.data)))) / 512 * 512
			from, to := max(hole-c.at, 0), min(hole+512-c.at, int64(len(c.data)))
			b = change{c.at, c.data[:from]}.apply(b)
			if to < int64(len(c.data)) {
				b = change{c.at + to, c.data[to:]}.apply(b)
			}
		}
	default: // any sectors, whatever the order; a size or a truncation may be lost
		keep := []int{1, 5, 9}[rnd.IntN(3)]
		for _, c := range i.pending {
			if c.data == nil {
				if rnd.IntN(2) == 0 {
					b = c.apply(b)
				}
				continue
			}
			for at, end := c.at, c.at+int64(len(c.data)); at < end; {
				next := min(end, (at/512+1)*512)
				if rnd.IntN(10) < keep {
					b = change{at, c.data[at-c.at : next-c.at]}.apply(b)
				}
				at = next
			}
		}
	}
	return b
}

func (s *simDir) draw(rnd *rand.Rand) map[string]*inode {
	names := maps.Clone(s.durable)
	mode := rnd.IntN(4)
	k := rnd.IntN(len(s.pending) + 1)
	for i, r := range s.pending {
		if mode == 1 || mode == 2 && i < k || mode == 3 && rnd.IntN(2) == 0 {
			r.apply(names)
		}
	}
	return names
}

// A cutRun is a row of power cuts.
type cutRun struct {
	lies     string
	sickly   int
	cuts     int
	kills    int // of them only the process
	inOpen   int // cuts while the store was opened
	answers  int
	refusals int
	wrong    []string

	rewritten, amid int // starts with a segment that was compacted, and with one that was about to be
}

// compactedIn looks at the segments of a data folder: whether some were compacted, and whether compaction broke off.
func compactedIn(dir string) (rewritten, amid bool) {
	names, _ := os.ReadDir(filepath.Join(dir, logDir))
	seen := make(map[uint64]bool)
	for _, de := range names {
		n, generation, ok := parseSegmentName(strings.TrimSuffix(de.Name(), ".tmp"))
		rewritten = rewritten || ok && generation > 0
		amid = amid || strings.HasSuffix(de.Name(), ".tmp") || seen[n]
		seen[n] = true
	}
	return rewritten, amid
}

// cutLife cuts the power so many times over one data folder and looks each time.
func (c *cutRun) life(t *testing.T, seed uint64, cuts int) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	root := memoryDir(t)
	dir := filepath.Join(root, "0")
	var (
		book    ledger
		index   [][]byte
		checked int // lines that were looked at more than once
		id      int
	)
	options := Options{
		Logger: slog.New(slog.DiscardHandler), largeObject: crashLarge, segmentSize: 120 << 10,
		prepared: int64(seed%2) * 30 << 10, quiet: time.Nanosecond,
		small: 120 << 10,
	}
	var d *simDisk
	// Every power cut leaves a folder of its own, and the last one is read through on a good disk. Now and then the process
	// is killed before: what it wrote is in the cache, and the next one reads it from there.
	for n := 1; n <= cuts; n++ {
		left := 1 + rnd.IntN(200)
		if rnd.IntN(4) == 0 {
			left = 1 + rnd.IntN(16) // before the store is open
		}
		to := filepath.Join(root, strconv.Itoa(n))
		if d == nil || !d.kill {
			d = newSimDisk(dir, to, rnd, left)
		}
		d.left, d.to, d.off, d.kill = left, to, false, n < cuts && rnd.IntN(3) == 0
		d.lies, d.sickly, d.index = c.lies, c.sickly, index
		options.disk, options.Conflicts = &d.disk, Policy(n%2)
		c.cuts++
		if d.kill {
			c.kills++
		}
		rewritten, amid := compactedIn(dir)
		c.rewritten += count(rewritten)
		c.amid += count(amid)
		s, err := Open(dir, options)
		switch {
		case err != nil && !d.isOff() && c.sickly > 0 && errors.Is(err, syscall.EIO):
			d.cutNow()
			c.inOpen++
		case err != nil && !d.isOff():
			c.wrong = append(c.wrong, fmt.Sprintf("seed %d, cut %d: the store does not open: %v", seed, n, err))
			return
		case err != nil:
			c.inOpen++
		default:
			if dam := s.Damage(); len(dam) > 0 {
				c.wrong = append(c.wrong, fmt.Sprintf("seed %d, cut %d: what was never answered is called damage: %v", seed, n, dam))
			}
			wrong := book.check(s, checked)
			if n%8 == 0 {
				wrong = append(wrong, book.check(s, 0)...)
			}
			checked = len(book.order)
			for _, w := range wrong {
				c.wrong = append(c.wrong, fmt.Sprintf("seed %d, cut %d: %s", seed, n, w))
			}
			d.copyIndex(s)
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					for !d.isOff() {
						mu.Lock()
						id++
						me, what := fmt.Sprintf("%d.%d.%d", seed, n, id), doings[rnd2(seed, n, id)%len(doings)]
						mu.Unlock()
						book.line(what.name, me)
						err := what.do(s, me, func(step string) { book.answered(what.name, me, step) })
						switch {
						case err != nil && !d.isOff() && !s.log.unsealed.Load():
							book.refused(what.name, me)
							mu.Lock()
							c.refusals++
							mu.Unlock()
						case what.name == "flush", what.name == "compact":
							d.copyIndex(s)
						}
					}
				})
			}
			wg.Wait()
			_ = s.Close()
		}
		index = d.index
		if !d.kill {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			dir = to
		}
		if len(c.wrong) > 20 {
			return
		}
	}
	d = newSimDisk(dir, "", rnd, 1<<30)
	options.disk = &d.disk
	s, err := Open(dir, options)
	if err != nil {
		c.wrong = append(c.wrong, fmt.Sprintf("seed %d, at the end: %v", seed, err))
		return
	}
	for _, w := range book.check(s, 0) {
		c.wrong = append(c.wrong, fmt.Sprintf("seed %d, at the end: %s", seed, w))
	}
	if dam := s.Damage(); len(dam) > 0 {
		c.wrong = append(c.wrong, fmt.Sprintf("seed %d, at the end: damage %v", seed, dam))
	}
	c.answers += book.answers()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// rnd2 is a random number that does not depend on the order of the goroutines.
func rnd2(seed uint64, n, id int) int {
	return int(rand.New(rand.NewPCG(seed, uint64(n)<<32|uint64(id))).Uint32() >> 1)
}

func (d *simDisk) isOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

func (d *simDisk) cutNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		d.cut()
	}
}

// copyIndex keeps the index as it is now: bbolt syncs it by itself, so that any of its past states may be the one that the
// next start finds.
func (d *simDisk) copyIndex(s *Store) {
	s.flushing.Lock()
	b, err := os.ReadFile(filepath.Join(s.dir, indexFile))
	s.flushing.Unlock()
	if err != nil {
		panic(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		d.index = append(d.index[max(0, len(d.index)-3):len(d.index):len(d.index)], b)
	}
}

func roundsOf(t *testing.T, env string, usual int) int {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of rounds", env, v)
	}
	return n
}

const cutsOfLife = 20 // then a new data folder, so that thousands stay small

// TestPowerCut cuts the power, or kills the process, at any operation on the disk, also while the store is opened and closed, again and again over
// the same data folder. Whatever was answered is there afterwards, byte for byte; whatever was not is there whole or not at all.
func TestPowerCut(t *testing.T) {
	usual := 200
	if testing.Short() {
		usual = 60
	}
	rounds := roundsOf(t, cutRoundsEnv, usual)
	refusals := 0
	for _, c := range []*cutRun{{}, {sickly: 12}, {sickly: 3}} {
		name, rounds := "good disk", max(1, rounds/2)
		if c.sickly > 0 {
			name, rounds = fmt.Sprintf("1 of %d syncs fails", c.sickly), max(1, rounds/2)
		}
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); c.cuts < rounds && len(c.wrong) == 0; seed++ {
				c.life(t, seed, min(cutsOfLife, rounds-c.cuts))
			}
			for _, w := range c.wrong {
				t.Error(w)
			}
			t.Logf("%d power cuts and %d kills, %d of them while the store was opened; %d answers kept, %d refusals stayed refusals; %d starts with compacted segments, %d amid compaction",
				c.cuts-c.kills, c.kills, c.inOpen, c.answers, c.refusals, c.rewritten, c.amid)
			if c.cuts >= 50 && (c.inOpen == 0 || c.inOpen == c.cuts || c.answers < c.cuts/(1+c.sickly/3*4) || c.sickly == 0 && (c.rewritten == 0 || c.amid == 0)) {
				t.Error("the cuts did not fall where they should: this test proves nothing")
			}
			refusals += c.refusals
		})
	}
	if rounds >= 200 && refusals == 0 {
		t.Error("nothing was refused where syncs fail: this test proves nothing")
	}
}

// memoryDir is a folder that lives in memory where the system has one: what these disks sync is not for a real one.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "radnode")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestPowerCutFindsTheBug shows that TestPowerCut would notice a store that answers Success before the bytes are durable: the
// same rounds over a disk that says it has synced and has not, once files and once names. Within 60 cuts an answer is missed.
func TestPowerCutFindsTheBug(t *testing.T) {
	const most = 60
	for _, lies := range []string{"sync", "syncDir"} {
		t.Run(lies, func(t *testing.T) {
			c := &cutRun{lies: lies}
			lost := -1
			for seed := uint64(1); c.cuts < most && lost < 0; seed++ {
				c.life(t, seed, min(cutsOfLife, most-c.cuts))
				lost = slices.IndexFunc(c.wrong, func(w string) bool {
					return strings.Contains(w, "is lost") || strings.Contains(w, "no such file")
				})
			}
			if lost < 0 {
				t.Fatalf("%d power cuts over a disk that does not sync, and no answer is missed: %v", c.cuts, c.wrong)
			}
			t.Logf("found: %s", c.wrong[lost])
		})
	}
}
