package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/pipeline/pages"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/testdata"
)

type demoCmd struct {
	Out string `help:"Keep the returned report (also as PDF) and segmentation in this folder." placeholder:"DIR"`
}

// demoTimeout bounds the demonstration: it takes a second, and an error in it must not hang a script.
const demoTimeout = 2 * time.Minute

// Run starts a node and a small PACS in this process, pushes the bundled study over real sockets, contours first and images
// scrambled, and prints the report that comes back.
func (c demoCmd) Run(e *env) error {
	if c.Out != "" {
		if err := os.MkdirAll(c.Out, 0o755); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, demoTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "radnode-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	pacs := &demoPACS{arrived: make(chan demoObject, 16)}
	pacsPort, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cfg := defaultConfig()
	cfg.Data = filepath.Join(dir, "data")
	cfg.DICOM.Listen = "127.0.0.1:0"
	cfg.HTTP.Listen = ""
	cfg.Deliver = []string{"PACS@" + pacsPort.Addr().String()}
	cfg.Report.Documents = []pipeline.Document{pipeline.Full, pipeline.PDF}

	quiet := slog.New(slog.DiscardHandler)
	serveCtx, stop := context.WithCancel(ctx)
	defer stop()
	nodes := make(chan *node, 1)
	var g errgroup.Group
	g.Go(func() error {
		return (&dimse.Server{AETitle: "PACS", Storage: pacs, Logger: quiet}).Serve(serveCtx, pacsPort)
	})
	g.Go(func() error { return run(serveCtx, cfg, quiet, func(n *node) { nodes <- n }) })
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()

	var n *node
	select {
	case n = <-nodes:
	case err := <-ended:
		return fmt.Errorf("the node did not start: %w", err)
	}
	fmt.Fprintf(e.stdout, "radnode listens on %s, the PACS of the demonstration on %s.\n", n.dicom.Addr(), pacsPort.Addr())

	objects, err := demoStudy()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := push(ctx, dimse.Peer{AETitle: cfg.DICOM.AET, Address: n.dicom.Addr().String()}, objects); err != nil {
		return err
	}
	pushed := time.Now()
	fmt.Fprintf(e.stdout, "Pushed %d objects: the RTSTRUCT first, then the images in scrambled order.\n", len(objects))

	var report, pdf demoObject
	for report.data == nil || pdf.data == nil {
		select {
		case o := <-pacs.arrived:
			fmt.Fprintf(e.stdout, "Back in the PACS: %s, %.1f kB.\n", dicom.UIDName(o.meta.MediaStorageSOPClassUID), float64(len(o.data))/1e3)
			if c.Out != "" {
				if err := o.keep(c.Out); err != nil {
					return err
				}
			}
			switch o.meta.MediaStorageSOPClassUID {
			case dicom.SegmentationStorage:
			case dicom.EncapsulatedPDFStorage:
				pdf = o
			default:
				report = o
			}
		case err := <-ended:
			return errors.Join(errors.New("the node stopped before the report came"), err)
		case <-ctx.Done():
			return errors.New("no report came back")
		}
	}
	back := time.Now()

	f, err := dicom.ReadDataSet(bytes.NewReader(report.data), int64(len(report.data)), report.meta.TransferSyntaxUID)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout)
	if err := sr.Text(e.stdout, f.DataSet); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "\nWhere the time went:\n")
	fmt.Fprintf(e.stdout, "  %-44s %8.1f ms\n", fmt.Sprintf("push, each of %d objects durable", len(objects)), ms(pushed.Sub(start)))
	if took, ok := n.pipeline.Took(f.DataSet.String(dicom.StudyInstanceUID)); ok {
		for _, step := range took.Steps() {
			fmt.Fprintf(e.stdout, "  %-44s %8.1f ms\n", step.Name, ms(step.Took))
		}
	}
	fmt.Fprintf(e.stdout, "  %-44s %8.1f ms\n", "last object pushed to report in the PACS", ms(back.Sub(pushed)))
	stop()
	return <-ended
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// demoStudy returns the bundled study, RTSTRUCT first, images in the scrambled order of their file names.
func demoStudy() ([]demoObject, error) {
	var contours, images []demoObject
	err := fs.WalkDir(testdata.FS, testdata.SyntheticCT, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".dcm" {
			return err
		}
		b, err := fs.ReadFile(testdata.FS, name)
		if err != nil {
			return err
		}
		meta, offset, err := dicom.ReadMeta(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		o := demoObject{meta: meta, data: b[offset:]}
		if meta.MediaStorageSOPClassUID == dicom.RTStructureSetStorage {
			contours = append(contours, o)
		} else {
			images = append(images, o)
		}
		return nil
	})
	return append(contours, images...), err
}

// push sends objects over one association.
func push(ctx context.Context, to dimse.Peer, objects []demoObject) error {
	var proposals []dimse.Proposal
	for _, o := range objects {
		p := dimse.Proposal{SOPClass: o.meta.MediaStorageSOPClassUID, TransferSyntaxes: []string{o.meta.TransferSyntaxUID}}
		if !slices.ContainsFunc(proposals, func(q dimse.Proposal) bool { return q.SOPClass == p.SOPClass }) {
			proposals = append(proposals, p)
		}
	}
	client, err := dimse.Dial(ctx, to, dimse.DialOptions{CallingAET: "SCANNER", Proposals: proposals})
	if err != nil {
		return err
	}
	defer client.Abort()
	for _, o := range objects {
		status, err := client.Store(ctx, o.meta, bytes.NewReader(o.data))
		if err != nil {
			return err
		}
		if !status.Success() {
			return &status
		}
	}
	return client.Release(ctx)
}

// A demoObject is an instance in memory.
type demoObject struct {
	meta dicom.FileMeta
	data []byte // the data set
}

// keep writes the object as a file that a viewer opens, and a PDF as itself.
func (o demoObject) keep(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := "report.dcm"
	switch o.meta.MediaStorageSOPClassUID {
	case dicom.SegmentationStorage:
		name = "segmentation.dcm"
	case dicom.EncapsulatedPDFStorage:
		f, err := dicom.ReadDataSet(bytes.NewReader(o.data), int64(len(o.data)), o.meta.TransferSyntaxUID)
		if err != nil {
			return err
		}
		b, err := pages.Extract(f.DataSet)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "report.pdf"), b, 0o644)
	}
	var b bytes.Buffer
	if err := dicom.WriteMeta(&b, o.meta); err != nil {
		return err
	}
	b.Write(o.data)
	return os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644)
}

// demoPACS takes whatever it is sent.
type demoPACS struct{ arrived chan demoObject }

func (p *demoPACS) Put(ctx context.Context, meta dicom.FileMeta, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	select {
	case p.arrived <- demoObject{meta, b}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
