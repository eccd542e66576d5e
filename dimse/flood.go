package dimse

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A teller writes the log of one connection. However much its peer does, the disk is not filled with it: what is too much of one
// source is left to --debug, and counted.
type teller struct {
	log   *slog.Logger
	quiet *quiet
	from  netip.Addr
}

func (t *teller) say(level slog.Level, msg string, args ...any) {
	if level > slog.LevelDebug && !t.quiet.may(t.from, time.Now()) {
		level = slog.LevelDebug
	}
	t.log.Log(context.Background(), level, msg, args...)
}

// Lines a minute.
const (
	strangerLines, strangerTotal = 10, 300   // about one source, and about all, that are not let in or not known
	peerLines, peerTotal         = 600, 3000 // about one source of known peers, and about all

	quietSources = 4096 // that are told apart
	quietWindow  = time.Minute
)

// quiet bounds the lines about each source and about all.
type quiet struct {
	lines, total int
	withheld     string // what the line says that counts those that were left out

	mu      sync.Mutex // guards what follows
	sources map[netip.Addr]*sourceLines
	since   time.Time // of the minute that written counts
	written int
}

type sourceLines struct {
	since             time.Time
	written, withheld int
}

// may says whether a line about this source is to be written. What it withholds, summary tells.
func (q *quiet) may(from netip.Addr, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	from = source(from)
	l := q.sources[from]
	if l == nil {
		if q.sources == nil {
			q.sources = map[netip.Addr]*sourceLines{}
		}
		if len(q.sources) >= quietSources {
			from = netip.Addr{} // all others
		}
		if l = q.sources[from]; l == nil {
			l = &sourceLines{since: now}
			q.sources[from] = l
		}
	}
	if now.Sub(q.since) >= quietWindow {
		q.since, q.written = now, 0
	}
	if l.written >= q.lines || q.written >= q.total {
		l.withheld++
		return false
	}
	l.written++
	q.written++
	return true
}

// summary writes what was withheld of the sources whose minute is over, or of all, and forgets them.
func (q *quiet) summary(log *slog.Logger, now time.Time, all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, others := 0, 0
	for _, from := range slices.SortedFunc(maps.Keys(q.sources), netip.Addr.Compare) {
		l := q.sources[from]
		if !all && now.Sub(l.since) < quietWindow {
			continue
		}
		delete(q.sources, from)
		switch {
		case l.withheld == 0:
		case !from.IsValid() || lines == strangerTotal/10:
			others += l.withheld
		default:
			lines++
			log.Warn(q.withheld, "peer", from.String(), "count", l.withheld)
		}
	}
	if others > 0 {
		log.Warn(q.withheld, "peer", "others", "count", others)
	}
}
