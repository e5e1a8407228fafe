// Package lambdahost is a local AWS Lambda: it runs functions as the platform does,
// from their real bootstrap binaries, and feeds them from the same sources.
//
// A Host starts each process with a Runtime API of its own, hands it one invocation
// at a time with a deadline, and kills it when the deadline passes. Around the host
// stand the Invoke API that the AWS CLI and SDKs call (Host.InvokeAPI), an HTTP API
// that turns requests into payload 2.0 events (HTTPAPI), a schedule (Schedule) and an
// SQS event source mapping (Poller).
//
// It differs from the platform: idle processes are not frozen, memory is not
// limited, a failed init is answered at once instead of being tried again, and the
// delays between asynchronous retries are short.
package lambdahost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Options configure a Host. The zero value is usable.
type Options struct {
	// Logger reports processes, time-outs and retries: info for starts, warnings for
	// what went wrong, debug for each invocation. Nil discards.
	Logger *slog.Logger
	// Output receives each line that a function writes to stdout or stderr, without
	// its newline. Calls are serialized. Every line that a function wrote before it
	// answered has been passed on when Invoke returns. Nil discards.
	Output func(function, line string)
	// Region and AccountID appear in ARNs and in AWS_REGION. Empty: us-east-1 and
	// 123456789012.
	Region, AccountID string
	// QueueWait is how long a synchronous invocation waits for a free process when
	// all are busy, before it is throttled. Zero: 10 s. Negative: not at all, as on
	// the platform.
	QueueWait time.Duration
	// InitTimeout bounds the time from a process's start to its first request for
	// work. Zero: 10 s, as on the platform.
	InitTimeout time.Duration
}

func (o Options) normalize() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.AccountID == "" {
		o.AccountID = "123456789012"
	}
	if o.QueueWait == 0 {
		o.QueueWait = 10 * time.Second
	}
	if o.InitTimeout == 0 {
		o.InitTimeout = 10 * time.Second
	}
	return o
}

// Host runs functions. It is safe for concurrent use. Close it to stop its
// processes; they also die when the parent process dies (on Linux, even by SIGKILL).
type Host struct {
	opts  Options
	ctx   context.Context
	stop  context.CancelFunc
	pools map[string]*pool

	outputMu sync.Mutex

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// Start returns a host for the given functions. Processes start with the first
// invocation that needs them. Everything ends with ctx, or with Close. All faults of
// all functions are reported together.
func Start(ctx context.Context, o Options, functions ...Function) (*Host, error) {
	h := &Host{opts: o.normalize(), pools: map[string]*pool{}}
	var errs []error
	for _, fn := range functions {
		fn = fn.normalize()
		if err := fn.validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if _, twice := h.pools[fn.Name]; twice {
			errs = append(errs, fmt.Errorf("function %q is given twice", fn.Name))
			continue
		}
		h.pools[fn.Name] = newPool(h, fn)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	h.ctx, h.stop = context.WithCancel(ctx)
	return h, nil
}

// Close stops accepting invocations, ends every process and waits for them. A
// process that registered an extension (as lambda.WithEnableSIGTERM does) gets
// SIGTERM and half a second first; the others are killed at once, as on the platform.
// Running invocations end as Runtime.ExitError; waiting asynchronous ones are handed
// to their OnFailure. Close may be called more than once.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.wg.Wait()
	return nil
}

// Kill sends SIGKILL to one randomly chosen process of the function that has an
// invocation in hand, and reports whether there was one.
func (h *Host) Kill(function string) bool {
	p, ok := h.pools[function]
	return ok && p.killOne()
}

// Stats returns the counters of a function; zero for an unknown one.
func (h *Host) Stats(function string) Stats {
	p, ok := h.pools[function]
	if !ok {
		return Stats{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Busy, s.Idle = len(p.busy), len(p.idle)
	return s
}

// Functions returns the names of all functions, sorted.
func (h *Host) Functions() []string {
	names := make([]string, 0, len(h.pools))
	for name := range h.pools {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Stats counts what happened to a function since the host started.
type Stats struct {
	Invocations   int // attempts handed to a process, or failed in its init
	ColdStarts    int // processes started
	Errors        int // attempts that ended with a function error of any kind
	Timeouts      int // processes killed by the host because a deadline passed
	Crashes       int // processes that ended without an answer, in their init or an invocation, some of Kills among them
	Kills         int // processes killed by Kill
	Throttled     int // invocations refused because all processes stayed busy
	AsyncRetries  int // asynchronous attempts after the first
	AsyncFailures int // asynchronous events handed to OnFailure
	Busy, Idle    int // processes now
}

// begin registers a piece of background work; false after Close.
func (h *Host) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.ctx.Err() != nil {
		return false
	}
	h.wg.Add(1)
	return true
}

func (h *Host) output(function, line string) {
	if h.opts.Output == nil {
		return
	}
	h.outputMu.Lock()
	defer h.outputMu.Unlock()
	h.opts.Output(function, line)
}

func (h *Host) arn(function string) string {
	return fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", h.opts.Region, h.opts.AccountID, function)
}
