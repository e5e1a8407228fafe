package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"backstop/lib/fault"
)

// Defaults of Options.
const (
	DefaultTTL           = 300 * time.Second
	DefaultFetchTimeout  = 5 * time.Second
	DefaultEarlyInterval = 10 * time.Second
)

// Options are the settings of a Cache. The zero value means the defaults.
type Options struct {
	// SSM reads parameters. Nil: ssm: sources and references cannot be read.
	SSM SSM
	// TTL is how long a configuration counts as fresh. The first call after 80 to 100%
	// of it, at random, so that many processes do not refresh together, starts a refresh
	// and does not wait for it. Default 300 s.
	TTL time.Duration
	// FetchTimeout bounds one reading of the source. Default 5 s.
	FetchTimeout time.Duration
	// EarlyInterval is the least time between two refreshes that unknown sink names
	// force, over all names. Default 10 s.
	EarlyInterval time.Duration
	// Logger is told about new configurations, findings and refreshes that did not
	// succeed. Nil: nothing is logged.
	Logger *slog.Logger
}

// The waits between tries while the source cannot be read: doubling, jittered.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Cache keeps a source's configuration and refreshes it. It is safe for concurrent
// use.
//
// Nothing runs between calls, since a frozen function's goroutines do not. On a busy
// process a call finds the configuration due before it is stale, and starts the one
// refresh beside the deliveries. The call that finds it stale starts the refresh and
// waits for it briefly; all others, and that one when the wait is over, go on with the
// configuration that is there. While the source cannot be read, is empty or is nonsense, the last good
// configuration stays in use (see Age and LastError).
type Cache struct {
	source Source
	opts   Options

	current atomic.Pointer[entry] // nil until the first configuration

	mu       sync.Mutex
	running  *flight   // nil while no refresh runs
	failures int       // since the last success
	resume   time.Time // after a failure: no refresh before
	early    time.Time // no early refresh before
	lastErr  error
}

type entry struct {
	snapshot *Snapshot
	dueAt    time.Time // to be refreshed
	staleAt  time.Time // not before dueAt
}

// due and stale also mistrust a clock that went backwards.
func (e *entry) due(t time.Time) bool { return !t.Before(e.dueAt) || t.Before(e.snapshot.loadedAt) }

func (e *entry) stale(t time.Time) bool { return !t.Before(e.staleAt) || t.Before(e.snapshot.loadedAt) }

// overtime is by how much a refresh outlasts FetchTimeout only when the process was frozen
// in it.
const overtime = time.Second

// flight is one refresh; done is closed at its end.
type flight struct {
	done  chan struct{}
	began time.Time
	// ahead says that nobody waited for it. The process may have been frozen since.
	ahead bool
	// void, once it is done, says that it failed and that this tells nothing of the
	// source: the process was frozen meanwhile, or may have been.
	void bool
}

// NewCache returns an empty cache of the source; the first call of Get or Sink reads
// it.
func NewCache(source Source, o Options) *Cache {
	if o.TTL <= 0 {
		o.TTL = DefaultTTL
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = DefaultFetchTimeout
	}
	if o.EarlyInterval <= 0 {
		o.EarlyInterval = DefaultEarlyInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Cache{source: source, opts: o}
}

// Get returns the configuration in use. With one there, it never waits longer than a
// second or a tenth of ctx's time left for a newer one. Without one, it waits for the
// source as long as ctx and FetchTimeout allow; the error is SINK_CONFIG_INVALID, and
// a later call tries again, after a short pause that grows with every failure.
func (c *Cache) Get(ctx context.Context) (*Snapshot, error) {
	e, t := c.current.Load(), now()
	if e != nil && !e.due(t) {
		return e.snapshot, nil
	}
	f, started := c.refresh(ctx, t, false)
	switch {
	case f == nil:
	case e == nil:
		c.wait(ctx, f, false, c.opts.FetchTimeout+time.Second)
	case e.stale(t) && (started || f.ahead):
		c.wait(ctx, f, false, patience(ctx, 0.1, time.Second))
	}
	if e = c.current.Load(); e != nil {
		return e.snapshot, nil
	}
	err := c.LastError()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s was not read in time: %w", c.source, errors.Join(context.Cause(ctx), err))
	}
	return nil, &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "no sink configuration", Cause: err}
}

// Sink returns the sink called name, also one whose configuration is invalid (see
// Sink.Err). A name that is not configured forces one early refresh, at most one per
// EarlyInterval for all such names, and waits for it up to half of ctx's time left.
// The errors are those of Get; SINK_NOT_FOUND for a name that is not configured; and
// SINK_CONFIG_INVALID when that cannot be known, because the configuration is old and
// the source could not be read since.
func (c *Cache) Sink(ctx context.Context, name string) (*Sink, error) {
	t := now()
	snapshot, err := c.Get(ctx)
	if err != nil {
		return nil, err
	}
	if s, ok := snapshot.sinks[name]; ok {
		return s, nil
	}
	notFound := &fault.Error{Code: fault.CodeSinkNotFound, Msg: fmt.Sprintf("no sink %.80q is configured", name)}
	if fault.CheckName(name) != nil || !snapshot.loadedAt.Before(t) {
		return nil, notFound // a refresh could not change it, or has just been made
	}
	known := true // that the source has no such sink
	if f, _ := c.refresh(ctx, now(), true); f != nil {
		known = c.wait(ctx, f, true, patience(ctx, 0.5, c.opts.FetchTimeout+time.Second))
	}
	if s, ok := c.current.Load().snapshot.sinks[name]; ok {
		return s, nil
	}
	err = c.LastError()
	if known && err == nil {
		return nil, notFound
	}
	return nil, &fault.Error{
		Code:  fault.CodeSinkConfigInvalid,
		Msg:   fmt.Sprintf("no sink %.80q in the configuration, which is %s old and could not be refreshed", name, c.Age().Round(time.Second)),
		Cause: err,
	}
}

// Names returns the names of the sinks in the configuration in use, sorted, without
// waiting for anything; nil while there is none.
func (c *Cache) Names() []string {
	if e := c.current.Load(); e != nil {
		return e.snapshot.Names()
	}
	return nil
}

// Shards returns over how many queues the dead letters of a sink are spread by the configuration in use, without waiting for
// anything; 1 while there is none, or no such sink.
func (c *Cache) Shards(sink string) int {
	if e := c.current.Load(); e != nil {
		if s, ok := e.snapshot.Sink(sink); ok {
			return s.Shards
		}
	}
	return 1
}

// Age is how old the configuration in use is, -1 while there is none.
func (c *Cache) Age() time.Duration {
	if e := c.current.Load(); e != nil {
		return max(0, now().Sub(e.snapshot.loadedAt))
	}
	return -1
}

// LastError is why the last refresh did not succeed, nil when it did.
func (c *Cache) LastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastErr
}

// refresh returns the running refresh, or starts one; nil when it is too soon for
// another. An early one is subject to EarlyInterval.
func (c *Cache) refresh(ctx context.Context, t time.Time, early bool) (f *flight, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil && !c.outlived(c.running, t) {
		return c.running, false
	}
	e := c.current.Load()
	switch {
	case !early && e != nil && !e.due(t): // refreshed since the caller looked
		return nil, false
	case t.Before(c.resume), early && t.Before(c.early):
		return nil, false
	case early:
		c.early = t.Add(c.opts.EarlyInterval)
	}
	f = &flight{done: make(chan struct{}), began: t, ahead: !early && e != nil && !e.stale(t)}
	c.running = f
	// The refresh serves everybody, not only the caller who happened to start it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.FetchTimeout)
	go func() {
		defer cancel()
		c.fetch(ctx, f, e)
		close(f.done)
	}()
	return f, true
}

// outlived reports whether f should have ended long ago: the process was frozen in it, and
// its connections may be dead.
func (c *Cache) outlived(f *flight, t time.Time) bool {
	return t.Sub(f.began) > c.opts.FetchTimeout+overtime || t.Before(f.began)
}

// fetch reads the source once and records what came of it.
func (c *Cache) fetch(ctx context.Context, f *flight, e *entry) {
	var prev *Snapshot
	if e != nil {
		prev = e.snapshot
	}
	next, err := c.load(ctx, prev)
	c.mu.Lock()
	defer c.mu.Unlock()
	replaced := c.running != f
	if replaced || err != nil && (c.outlived(f, now()) || f.ahead && ctx.Err() != nil) {
		f.void = true
		if !replaced {
			c.running, c.early = nil, time.Time{}
		}
		return
	}
	c.running, c.lastErr = nil, err
	if err != nil {
		pause := min(firstPause<<min(c.failures, 10), lastPause)
		c.failures++
		c.resume = now().Add(jitter(pause))
		c.opts.Logger.WarnContext(ctx, "sink configuration not refreshed",
			"source", c.source.String(), "error", err.Error(), "failures", c.failures, "in_use", prev != nil)
		return
	}
	c.failures, c.resume = 0, time.Time{}
	c.current.Store(&entry{next, next.loadedAt.Add(jitter(c.opts.TTL)), next.loadedAt.Add(c.opts.TTL)})
	if prev != nil && slices.Equal(prev.findings, next.findings) {
		return
	}
	for _, f := range next.findings {
		c.opts.Logger.WarnContext(ctx, "sink configuration is faulty", "sink", f.Sink, "finding", f.String())
	}
}

// load is load, with a panic turned into an error: it runs in a goroutine of its own.
func (c *Cache) load(ctx context.Context, prev *Snapshot) (s *Snapshot, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("reading %s panicked (%T)", c.source, p)}
		}
	}()
	return load(ctx, c.source, c.opts.SSM, prev)
}

// jitter returns 80 to 100% of d.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Float64()*0.2*float64(d))
}

// patience is a share of the time that ctx has left, limit when it has no end.
func patience(ctx context.Context, share float64, limit time.Duration) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return limit
	}
	return min(limit, max(0, time.Duration(share*float64(time.Until(end)))))
}

// wait returns when the refresh f is done, ctx ends, or limit has passed, and reports
// whether it is done. When f tells nothing of the source it is started anew.
func (c *Cache) wait(ctx context.Context, f *flight, early bool, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	for f != nil {
		select {
		case <-f.done:
			if !f.void {
				return true
			}
		case <-ctx.Done():
			return false
		case <-t.C:
			return false
		}
		f, _ = c.refresh(ctx, now(), early)
	}
	return true // somebody else has refreshed it
}
