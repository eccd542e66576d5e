package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

// controlName is the socket in the data folder over which the commands reach a running node: HTTP with JSON, for the user that
// radnode runs as and nobody else.
const controlName = "control"

// longestSocket is how long the name of a socket may be: sun_path holds 104 bytes on some systems, its end included.
const longestSocket = 100

// listenControl opens the socket in a data folder that is locked by this process: one that is there is left from a process that
// was killed.
func listenControl(data string) (net.Listener, error) {
	path := filepath.Join(data, controlName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	short, done, err := shortPath(data)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.Listen("unix", short)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its short name means nothing any more
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return &controlListener{l, path}, nil
}

// A controlListener takes its socket away when it is closed.
type controlListener struct {
	net.Listener
	path string
}

func (l *controlListener) Close() error {
	err := l.Listener.Close()
	if err == nil {
		_ = os.Remove(l.path)
	}
	return err
}

// dialControl connects to the node that has the data folder.
func dialControl(ctx context.Context, data string) (net.Conn, error) {
	short, done, err := shortPath(data)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// shortPath names the socket of a data folder in as few bytes as a socket may have.
func shortPath(data string) (path string, done func(), err error) {
	path = filepath.Join(data, controlName)
	if len(path) <= longestSocket {
		return path, func() {}, nil
	}
	return shortened(data)
}

// serveControl answers the commands until ctx is done.
func (d *desk) serveControl(ctx context.Context, l net.Listener) error {
	// No time limit for an answer: a balance of a million instances takes its time, and only one user may ask.
	s := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(grace) != nil {
			_ = s.Close()
		}
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	<-ended
	return nil
}

// nodeFlags say which node a command is about, as serve is told.
type nodeFlags struct {
	Config string `help:"YAML configuration, as of serve." placeholder:"FILE"`
	Data   string `help:"Data folder, as of serve (default ./radnode-data)." placeholder:"DIR"`
}

func (f nodeFlags) read() (Config, error) {
	cfg := defaultConfig()
	if f.Config != "" {
		var err error
		if cfg, err = readConfig(f.Config); err != nil {
			return cfg, usageError{err}
		}
	}
	if f.Data != "" {
		cfg.Data = f.Data
	}
	return cfg, nil
}

// A client asks a node, the one that runs or the one that this process opens for it.
type client struct {
	http  http.Client
	close func() error
}

const asItsUser = "run this as the user of radnode serve"

// reach finds the node of a data folder. Where none runs, it opens the folder itself.
func (f nodeFlags) reach(e *env) (*client, error) {
	cfg, err := f.read()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "log")); errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: %s", err, asItsUser)
	} else if err != nil {
		return nil, fmt.Errorf("%s is no data folder of radnode: name it with --data or --config as for radnode serve (%w)", cfg.Data, err)
	}
	ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
	defer cancel()
	conn, dialErr := dialControl(ctx, cfg.Data)
	if dialErr == nil {
		conn.Close()
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialControl(ctx, cfg.Data) }}
		return &client{http: http.Client{Transport: transport}, close: func() error { transport.CloseIdleConnections(); return nil }}, nil
	}
	if errors.Is(dialErr, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: %s", dialErr, asItsUser)
	}
	d, err := openDesk(cfg, e.log)
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("a radnode has the data folder %s and does not answer on its socket %s (%w): it is starting or stopping, or is an older version; try again, or stop it",
			cfg.Data, filepath.Join(cfg.Data, controlName), dialErr)
	}
	if err != nil {
		return nil, err
	}
	return &client{http: http.Client{Transport: inProcess{d.handler()}}, close: d.store.Close}, nil
}

// ask sends a request and reads the answer into out.
func (c *client) ask(ctx context.Context, method, path string, query url.Values, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, (&url.URL{Scheme: "http", Host: "radnode", Path: path, RawQuery: query.Encode()}).String(), nil)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("the node does not answer: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		var refused struct{ Error string }
		if b, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10)); err != nil || json.Unmarshal(b, &refused) != nil || refused.Error == "" {
			return fmt.Errorf("the node answers %s", answer.Status)
		}
		return errors.New(refused.Error)
	}
	return json.NewDecoder(answer.Body).Decode(out)
}

// inProcess answers requests without a network.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorded{header: http.Header{}, code: http.StatusOK}
	p.ServeHTTP(w, r)
	return &http.Response{
		StatusCode: w.code, Status: fmt.Sprint(w.code, " ", http.StatusText(w.code)), Header: w.header, Body: io.NopCloser(&w.body), Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(w.body.Len()),
	}, nil
}

type recorded struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (w *recorded) Header() http.Header         { return w.header }
func (w *recorded) WriteHeader(code int)        { w.code = code }
func (w *recorded) Write(b []byte) (int, error) { return w.body.Write(b) }

// openDesk opens the data folder of a node that does not run. Nothing is received, computed or delivered meanwhile.
func openDesk(cfg Config, log *slog.Logger) (*desk, error) {
	to, err := cfg.destinations()
	if err != nil {
		return nil, usageError{err}
	}
	st, err := store.Open(cfg.Data, store.Options{Logger: log, Conflicts: store.Policy(cfg.Conflicts)})
	if err != nil {
		return nil, err
	}
	p, err := pipeline.New(st, nil, pipeline.Options{Deliver: to, ReplyTo: cfg.replyTo(), Equipment: equipmentOf(cfg.DICOM.AET), Logger: log})
	if err != nil {
		st.Close()
		return nil, err
	}
	return &desk{store: st, pipeline: p, cfg: cfg, log: log}, nil
}
