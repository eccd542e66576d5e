package dimse

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Storage that keeps objects in memory.
type memory struct {
	mu      sync.Mutex
	objects map[string]object
	failed  int // bodies that failed
	put     func(ctx context.Context, meta dicom.FileMeta, body io.Reader) error
}

type object struct {
	meta dicom.FileMeta
	data []byte
}

func (m *memory) Put(ctx context.Context, meta dicom.FileMeta, body io.Reader) error {
	if m.put != nil {
		return m.put(ctx, meta, body)
	}
	data, err := io.ReadAll(body)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failed++
		return err
	}
	if m.objects == nil {
		m.objects = map[string]object{}
	}
	m.objects[meta.MediaStorageSOPInstanceUID] = object{meta, data}
	return nil
}

func (m *memory) get(uid string) (object, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[uid]
	return o, ok
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.objects)
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serve starts s on a free port; the test ends when it has ended.
func serve(t testing.TB, s *Server) (addr string, log *syncBuffer, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = &syncBuffer{}
	if s.Logger == nil {
		s.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if s.Grace == 0 {
		s.Grace = 100 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if t.Failed() {
			t.Logf("server log:\n%s", log.String())
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), log, stop
}
