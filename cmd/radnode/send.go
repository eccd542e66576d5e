package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
)

type echoCmd struct {
	To      string        `arg:"" placeholder:"AET@HOST:PORT" help:"The node to verify."`
	AET     string        `name:"aet" default:"RADNODE" help:"Our AE title."`
	Timeout time.Duration `default:"10s" help:"Give up after this."`
	tlsFlags
}

func (c echoCmd) Run(e *env) error {
	to, err := dimse.ParsePeer(c.To)
	if err != nil {
		return usageError{err}
	}
	secure, err := c.config()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	start := time.Now()
	client, err := dimse.Dial(ctx, to, dimse.DialOptions{CallingAET: c.AET, TLS: secure, Proposals: []dimse.Proposal{{
		SOPClass: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian},
	}}})
	if err != nil {
		return err
	}
	defer client.Abort()
	if err := client.Echo(ctx); err != nil {
		return err
	}
	if err := client.Release(ctx); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s answers (%s)\n", to, time.Since(start).Round(time.Microsecond))
	return nil
}

type sendCmd struct {
	To           string        `arg:"" placeholder:"AET@HOST:PORT" help:"The node to send to."`
	Path         []string      `arg:"" help:"Files and folders; a folder is read whole."`
	Associations int           `short:"j" default:"1" help:"Associations at once."`
	AET          string        `name:"aet" default:"RADNODE" help:"Our AE title."`
	Timeout      time.Duration `default:"60s" help:"For one object."`
	tlsFlags
}

// An outgoing is a Part 10 file that is to be sent.
type outgoing struct {
	path   string
	meta   dicom.FileMeta
	offset int64 // of the data set
	size   int64 // of the data set
	note   string
}

func (c sendCmd) Run(e *env) error {
	to, err := dimse.ParsePeer(c.To)
	if err != nil {
		return usageError{err}
	}
	secure, err := c.config()
	if err != nil {
		return err
	}
	if c.Associations < 1 {
		return usageError{errors.New("-j: must be at least 1")}
	}
	objects, passed, bad := findObjects(c.Path)
	for _, path := range passed {
		fmt.Fprintf(e.stderr, "passed over: %s: no DICOM file (PS3.10)\n", path)
	}
	for _, o := range objects {
		if o.note != "" {
			fmt.Fprintf(e.stderr, "%s: %s\n", o.path, o.note)
		}
	}
	for _, err := range bad {
		fmt.Fprintln(e.stderr, "not sent:", err)
	}
	if len(objects) == 0 {
		return errors.New("nothing to send: no DICOM file (PS3.10) found")
	}

	start := time.Now()
	s := &sending{cmd: c, to: to, tls: secure, env: e, bar: progress(e.stderr, len(objects), "sending")}
	s.send(e.ctx, objects)
	took := time.Since(start)
	_ = s.bar.Finish()

	for _, line := range s.failed {
		fmt.Fprintln(e.stderr, "not sent:", line)
	}
	failed := len(objects) - s.sent + len(bad)
	fmt.Fprintf(e.stdout, "%d sent to %s, %d not sent, %.1f MB in %.2f s: %.0f objects/s, %.1f MB/s\n",
		s.sent, to, failed, float64(s.bytes)/1e6, took.Seconds(), float64(s.sent)/took.Seconds(), float64(s.bytes)/1e6/took.Seconds())
	if failed > 0 {
		return fmt.Errorf("%d of %d objects not sent", failed, len(objects)+len(bad))
	}
	return nil
}

// findObjects reads the file meta information of every file below the paths. Other files in a folder are passed over, as is a
// DICOMDIR, which is no object; one that is named itself is bad.
func findObjects(paths []string) (objects []outgoing, passed []string, bad []error) {
	bad = walkFiles(paths, func(path string, named bool) error {
		o, err := readOutgoing(path)
		switch {
		case err == nil:
			objects = append(objects, o)
		case errors.Is(err, errNotPart10) && !named:
			passed = append(passed, path)
		default:
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	return objects, passed, bad
}

// walkFiles visits every file below the paths but a DICOMDIR, and gathers what went wrong with each. named says that the file
// is one of the paths itself.
func walkFiles(paths []string, visit func(path string, named bool) error) (failed []error) {
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			const other = fs.ModeNamedPipe | fs.ModeSocket | fs.ModeDevice // to open a pipe could wait for ever
			if err == nil && !d.IsDir() && d.Type()&other == 0 && d.Name() != "DICOMDIR" {
				err = visit(path, path == root)
			}
			if err != nil {
				failed = append(failed, err)
			}
			return nil
		})
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// errNotPart10 says that a file has no DICM behind a preamble of 128 bytes, PS3.10 7.1.
var errNotPart10 = errors.New(`not a DICOM file (PS3.10): no "DICM" at byte 128`)

// isPart10 looks for it.
func isPart10(f io.ReaderAt) bool {
	var prefix [4]byte
	_, err := f.ReadAt(prefix[:], 128)
	return err == nil && string(prefix[:]) == "DICM"
}

func readOutgoing(path string) (outgoing, error) {
	f, err := os.Open(path)
	if err != nil {
		return outgoing{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return outgoing{}, err
	}
	if !info.Mode().IsRegular() || !isPart10(f) {
		return outgoing{}, errNotPart10
	}
	meta, offset, err := dicom.ReadMeta(f, info.Size())
	if err != nil {
		return outgoing{}, err
	}
	return outgoing{path: path, meta: meta, offset: offset, size: info.Size() - offset, note: dicom.PreambleNote(f)}, nil
}

// progress draws a bar on a terminal and nothing elsewhere.
func progress(w io.Writer, n int, what string) *progressbar.ProgressBar {
	f, ok := w.(*os.File)
	return progressbar.NewOptions(n, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetVisibility(ok && term.IsTerminal(int(f.Fd()))))
}

// A sending shares one list of objects between associations.
type sending struct {
	cmd sendCmd
	to  dimse.Peer
	tls *tls.Config // nil = without
	env *env
	bar *progressbar.ProgressBar

	mu     sync.Mutex // guards what follows
	sent   int
	bytes  int64
	failed []string
}

func (s *sending) done(o outgoing, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.bar.Add(1)
	if err != nil {
		s.failed = append(s.failed, fmt.Sprintf("%s: %v", o.path, err))
		return
	}
	s.sent++
	s.bytes += o.size
}

// maxContexts is how many presentation contexts one association can propose: odd identifiers 1 to 255 (PS3.8 9.3.2.2).
const maxContexts = 128

// send deals the objects out to the associations. Objects whose classes and syntaxes do not fit one proposal go in several
// rounds.
func (s *sending) send(ctx context.Context, objects []outgoing) {
	type pair struct{ class, syntax string }
	for len(objects) > 0 {
		var proposals []dimse.Proposal
		seen := map[pair]bool{}
		var now, later []outgoing
		for _, o := range objects {
			p := pair{o.meta.MediaStorageSOPClassUID, o.meta.TransferSyntaxUID}
			if !seen[p] && len(seen) == maxContexts {
				later = append(later, o)
				continue
			}
			if !seen[p] {
				seen[p] = true
				proposals = append(proposals, dimse.Proposal{SOPClass: p.class, TransferSyntaxes: []string{p.syntax}})
			}
			now = append(now, o)
		}
		work := make(chan outgoing, len(now))
		for _, o := range now {
			work <- o
		}
		close(work)
		var g errgroup.Group
		for range min(s.cmd.Associations, len(now)) {
			g.Go(func() error {
				s.associate(ctx, proposals, work)
				return nil
			})
		}
		_ = g.Wait()
		objects = later
	}
}

// associate sends what it takes from work over one association after the other: one that breaks costs the object in
// flight, and the next is opened for the rest. Where none can be opened, the rest is not sent.
func (s *sending) associate(ctx context.Context, proposals []dimse.Proposal, work <-chan outgoing) {
	for {
		o, ok := <-work
		if !ok {
			return
		}
		dialCtx, cancel := context.WithTimeout(ctx, s.cmd.Timeout)
		client, err := dimse.Dial(dialCtx, s.to, dimse.DialOptions{CallingAET: s.cmd.AET, TLS: s.tls, Proposals: slices.Clone(proposals)})
		cancel()
		if err != nil {
			s.done(o, err)
			for o := range work {
				s.done(o, err)
			}
			return
		}
		for ok {
			broken, err := s.store(ctx, client, o)
			s.done(o, err)
			if broken {
				break
			}
			o, ok = <-work
		}
		releaseCtx, cancel := context.WithTimeout(ctx, s.cmd.Timeout)
		_ = client.Release(releaseCtx) // every object has its own status already
		cancel()
		client.Abort()
		if !ok {
			return
		}
	}
}

// store sends one object. broken says that the association is of no use any more.
func (s *sending) store(ctx context.Context, client *dimse.Client, o outgoing) (broken bool, err error) {
	if !client.Accepted(o.meta.MediaStorageSOPClassUID, o.meta.TransferSyntaxUID) {
		ts, _ := dicom.LookupTransferSyntax(o.meta.TransferSyntaxUID)
		return false, fmt.Errorf("the peer does not accept %s in %s", nameOr(dicom.UIDName(o.meta.MediaStorageSOPClassUID), o.meta.MediaStorageSOPClassUID), nameOr(ts.Name, o.meta.TransferSyntaxUID))
	}
	f, err := os.Open(o.path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, s.cmd.Timeout)
	defer cancel()
	status, err := client.Store(ctx, o.meta, io.NewSectionReader(f, o.offset, o.size))
	if err != nil {
		return true, err
	}
	if !status.Success() {
		return false, &status
	}
	return false, nil
}

func nameOr(name, uid string) string {
	if name == "" {
		return uid
	}
	return name
}
