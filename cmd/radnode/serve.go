package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

type serveCmd struct {
	Config  string   `help:"YAML configuration; flags win over it." placeholder:"FILE"`
	Data    string   `help:"Folder for everything received and made (default ./radnode-data)." placeholder:"DIR"`
	Listen  string   `help:"Address of the DICOM port (default :11112)." placeholder:"ADDR"`
	AET     string   `name:"aet" help:"AE title (default RADNODE)." placeholder:"AET"`
	Deliver []string `help:"Send every report there; may be repeated." placeholder:"AET@HOST:PORT" sep:"none"`
	HTTP    *string  `name:"http" help:"Address for monitoring (default 127.0.0.1:8042); empty for none." placeholder:"ADDR"`
}

func (s serveCmd) Run(e *env) error {
	cfg := defaultConfig()
	if s.Config != "" {
		var err error
		if cfg, err = readConfig(s.Config); err != nil {
			return usageError{err}
		}
	}
	if s.Data != "" {
		cfg.Data = s.Data
	}
	if s.Listen != "" {
		cfg.DICOM.Listen = s.Listen
	}
	if s.AET != "" {
		cfg.DICOM.AET = s.AET
	}
	if len(s.Deliver) > 0 {
		cfg.Deliver = s.Deliver
	}
	if s.HTTP != nil {
		cfg.HTTP.Listen = *s.HTTP
	}
	if err := cfg.check(); err != nil {
		return usageError{err}
	}
	serveThreads()
	return run(e.ctx, cfg, e.log, nil)
}

// A node is one running radnode: the store, the server in front of it and the pipeline behind it.
type node struct {
	store    *store.Store
	server   *dimse.Server
	pipeline *pipeline.Pipeline
	dicom    net.Listener // nil where there is none
	secure   net.Listener // the same over TLS; nil where there is none
	config   *tls.Config  // of secure
	http     net.Listener // nil where there is none
	control  net.Listener // nil where there is none
	desk     *desk
	log      *slog.Logger
}

// serveThreads lets twice as many threads run as there are processors. One that waits for the disk keeps its place for up to 10 ms
// (sysmon of the Go runtime), and with two places for all of a node nobody is answered meanwhile. Computing stays at one each.
func serveThreads() { runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0)) }

// run opens a node, tells ready where it listens, and serves until ctx is done. It ends cleanly: the object in flight is
// finished, the computation under way is finished or left for the next start, and the store is closed.
func run(ctx context.Context, cfg Config, log *slog.Logger, ready func(*node)) error {
	n, err := open(cfg, log)
	if err != nil {
		return err
	}
	if ready != nil {
		ready(n)
	}
	return errors.Join(n.serve(ctx), n.store.Close())
}

// open takes the folder and the ports; whatever fails names what to change.
func open(cfg Config, log *slog.Logger) (*node, error) {
	destinations, err := cfg.destinations()
	if err != nil {
		return nil, err
	}
	access, err := cfg.access()
	if err != nil {
		return nil, err
	}
	n := &node{log: log}
	closeAll := func() {
		for _, l := range []net.Listener{n.dicom, n.secure, n.http} {
			if l != nil {
				l.Close()
			}
		}
		if n.control != nil {
			n.control.Close()
		}
		if n.store != nil {
			n.store.Close()
		}
	}
	secure, err := cfg.DICOM.TLS.open(log)
	if err != nil {
		return nil, err
	}
	if cfg.DICOM.Listen != "" {
		if n.dicom, err = net.Listen("tcp", cfg.DICOM.Listen); err != nil {
			return nil, fmt.Errorf("dicom.listen: %w; %s", err, portRemedy(err))
		}
	}
	if cfg.DICOM.TLS.Listen != "" {
		if n.secure, err = net.Listen("tcp", cfg.DICOM.TLS.Listen); err != nil {
			closeAll()
			return nil, fmt.Errorf("dicom.tls.listen: %w; %s", err, portRemedy(err))
		}
		n.config = secure.Server(cfg.DICOM.TLS.Require)
	}
	if cfg.HTTP.Listen != "" {
		// Monitoring is a convenience: receiving goes on without it where the port is taken, as by an Orthanc beside us.
		if n.http, err = net.Listen("tcp", cfg.HTTP.Listen); err != nil {
			n.http = nil
			log.Warn("no monitoring page: its port is taken; choose another with --http", "address", cfg.HTTP.Listen, "err", err)
		}
	}
	if n.store, err = store.Open(cfg.Data, store.Options{Logger: log, Reserve: int64(cfg.Reserve), Conflicts: store.Policy(cfg.Conflicts)}); err != nil {
		closeAll()
		if !errors.Is(err, store.ErrInUse) { // which names the folder
			err = fmt.Errorf("data folder %s: %w", cfg.Data, err)
		}
		return nil, err
	}
	n.server = &dimse.Server{
		AETitle:                 cfg.DICOM.AET,
		Storage:                 n.store,
		Access:                  access,
		Logger:                  log,
		MaxAssociations:         cfg.DICOM.MaxAssociations,
		MaxObjectBytes:          cfg.DICOM.MaxObject,
		Idle:                    cfg.DICOM.Idle,
		RefuseUnknownSOPClasses: cfg.DICOM.StandardOnly,
	}
	if cfg.DICOM.CheckCalled {
		n.server.AcceptCalled = []string{cfg.DICOM.AET}
	}
	n.pipeline, err = pipeline.New(n.store, pipeline.DIMSE{CallingAET: cfg.DICOM.AET, TLS: cfg.dialTLS(secure)}, pipeline.Options{
		Rules: cfg.Rules, Profiles: cfg.Profiles, Style: cfg.Report, Deliver: destinations, ReplyTo: cfg.replyTo(),
		Equipment: equipmentOf(cfg.DICOM.AET), Workers: cfg.Workers, Memory: int64(cfg.Memory), Timeout: cfg.Timeout, Quiet: cfg.Quiet, Also: cfg.Also, ReportRefusals: cfg.Refusals, Logger: log,
		Retention: cfg.Retention.retention(),
	})
	if err != nil {
		closeAll()
		return nil, err
	}
	n.server.Committer = n.pipeline
	n.desk = &desk{store: n.store, pipeline: n.pipeline, server: n.server, tls: secure, cfg: cfg, since: time.Now(), log: log}
	if n.control, err = listenControl(cfg.Data); err != nil {
		log.Warn("no control socket: radnode status and the like do not reach this node while it runs", "data", cfg.Data, "err", err)
	}
	log.Info("radnode serves", "version", version, "aet", cfg.DICOM.AET, "dicom", address(n.dicom), "dicom_tls", address(n.secure), "http", address(n.http),
		"data", cfg.Data, "deliver", strings.Join(cfg.Deliver, " "))
	cfg.sayAccess(log, access)
	if len(destinations) == 0 && len(cfg.replyTo()) == 0 {
		log.Warn("no destination: reports stay here; name one with --deliver or under deliver in the configuration")
	}
	cfg.sayPlain(log, secure, n.pipeline.Destinations())
	return n, nil
}

// portRemedy says what to do about a port that cannot be had.
func portRemedy(err error) string {
	switch {
	case errors.Is(err, syscall.EACCES):
		return "a port below 1024 needs a right of its own (on Linux CAP_NET_BIND_SERVICE); give it to radnode, or choose a higher port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have the address; leave it out, as :11112, to listen on all"
	}
	return "another program has it; stop that, or choose another with --listen or in the configuration"
}

func address(l net.Listener) string {
	if l == nil {
		return "none"
	}
	return l.Addr().String()
}

// serve runs the parts until ctx is done or one of them fails.
func (n *node) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if n.dicom != nil {
		g.Go(func() error { return n.server.Serve(ctx, n.dicom) })
	}
	if n.secure != nil {
		g.Go(func() error { return n.server.ServeTLS(ctx, n.secure, n.config) })
	}
	g.Go(func() error { return n.pipeline.Run(ctx) })
	if n.control != nil {
		g.Go(func() error { return n.desk.serveControl(ctx, n.control) })
	}
	if n.http != nil {
		page := &http.Server{Handler: n.monitoring(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
		g.Go(func() error {
			if err := page.Serve(n.http); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			return page.Close()
		})
	}
	err := g.Wait()
	served, done := n.server.Stats(), n.pipeline.Stats()
	n.log.Info("radnode stopped", "associations", served.Associations, "refused", served.AssociationsRefused, "objects", served.ObjectsStored,
		"objects_refused", served.ObjectsRefused, "computed", done.Computed, "delivered", done.Delivered)
	return err
}

// monitoring answers GET /healthz with the counters as JSON.
func (n *node) monitoring() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(n.desk.sums()); err != nil {
			n.log.Debug("monitoring", "err", err)
		}
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

// equipmentOf names this installation: its Device UID (PS3.16 TID 1004, Device Observer UID) follows from the AE title, which
// is unique in a hospital, so that a node set up anew writes the same reports as before, and from the version, since IHE AIR
// wants another one for another model.
func equipmentOf(aet string) pipeline.Equipment {
	return pipeline.Equipment{
		Manufacturer: "radnode", Model: "radnode", SoftwareVersion: version, StationName: aet,
		DeviceUID: dicom.UIDFrom("radnode", "device", aet, version),
	}
}
