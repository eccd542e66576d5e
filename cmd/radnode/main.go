// Command radnode is a DICOM node that measures what it receives: images and contours in, Structured Reports with
// radiomic features out. See the README for its use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// version is the software version that reports name. It enters the UIDs of what is made: the same input gives the same
// instance as long as it stays.
const version = "0.1.0"

// Exit codes of the command line.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

type cli struct {
	Debug bool `help:"Log at debug level; may show patient data."`

	Serve   serveCmd   `cmd:"" help:"Receive, measure and report until stopped."`
	Status  statusCmd  `cmd:"" help:"How the node fares, or what became of a study and why."`
	Balance balanceCmd `cmd:"" help:"What was received on each day against what became of it, as CSV."`
	Requeue requeueCmd `cmd:"" help:"Run again what was given up or refused of a study, or lift its quarantine."`
	Discard discardCmd `cmd:"" help:"Remove a study, an instance apart, or what waits for a destination that is gone."`
	Demo    demoCmd    `cmd:"" help:"The whole loop in one process on bundled data; prints the report that came back."`
	Extract extractCmd `cmd:"" help:"Measure files and folders of DICOM, or a NIfTI image and mask."`
	IBSI    ibsiCmd    `cmd:"" name:"ibsi" help:"Compare with the reference values of the IBSI."`
	SR      srCmd      `cmd:"" name:"sr" help:"Print Structured Reports as text or JSON."`
	Echo    echoCmd    `cmd:"" help:"Verify a connection (C-ECHO)."`
	Send    sendCmd    `cmd:"" help:"Send files and folders (C-STORE)."`
	Config  configCmd  `cmd:"" help:"Check a configuration, or print an example."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// env is what a command may touch of the world.
type env struct {
	ctx            context.Context
	stdout, stderr io.Writer
	log            *slog.Logger
}

func main() {
	ctx, stop := untilStopped()
	defer stop()
	if os.Getenv("GOGC") == "" {
		// A volume is one large block without pointers: collecting costs little, and waiting for twice the memory much.
		debug.SetGCPercent(50)
	}
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("radnode"),
		kong.Description("A DICOM node that measures what it receives and returns Structured Reports."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "radnode:", err)
		return exitFailed
	}
	k, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exitDone
	}
	if err != nil {
		fmt.Fprintln(stderr, "radnode:", err)
		fmt.Fprintln(stderr, "radnode: see radnode --help")
		return exitUsage
	}
	e := &env{ctx: ctx, stdout: stdout, stderr: stderr, log: newLogger(stderr, c.Debug)}
	if err := k.Run(e); err != nil {
		fmt.Fprintln(stderr, "radnode:", err)
		var u usageError
		if errors.As(err, &u) {
			return exitUsage
		}
		return exitFailed
	}
	return exitDone
}

// A usageError is the operator's mistake on the command line or in the configuration.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// newLogger writes text on a terminal and JSON otherwise.
func newLogger(w io.Writer, debugLevel bool) *slog.Logger {
	level := slog.LevelInfo
	if debugLevel {
		level = slog.LevelDebug
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000"}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // nanoseconds otherwise, which nobody reads
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}))
}

type versionCmd struct {
	SBOM bool `name:"sbom" help:"Print what this binary was built from, as CycloneDX JSON."`
}

func (c versionCmd) Run(e *env) error {
	commit := "unknown commit"
	info, ok := debug.ReadBuildInfo()
	if c.SBOM {
		return writeSBOM(e.stdout, info)
	}
	if ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	fmt.Fprintf(e.stdout, "radnode %s (%s, %s, %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

type configCmd struct {
	Check   configCheckCmd   `cmd:"" help:"Read a configuration file and say what is wrong with it."`
	Example configExampleCmd `cmd:"" help:"Print an example with every key."`
}

type configCheckCmd struct {
	File string `arg:"" help:"The configuration file."`
}

func (c configCheckCmd) Run(e *env) error {
	cfg, err := readConfig(c.File)
	if err != nil {
		return err
	}
	if _, err := cfg.DICOM.TLS.open(e.log); err != nil { // for what it warns of
		return err
	}
	fmt.Fprintf(e.stdout, "%s: good\n", c.File)
	return nil
}

type configExampleCmd struct{}

func (configExampleCmd) Run(e *env) error {
	_, err := e.stdout.Write(exampleConfig)
	return err
}
