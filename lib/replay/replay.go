// Package replay sends dead letters again: on a schedule, for an operator, and in bulk.
//
// Start with Engine and its Run, which a timer or a schedule calls: nothing runs by itself.
// ReplayOne is for an operator; CreateOperation, with Preview before it, works on many.
//
// An Engine claims items under leases, sends each through its sink, and settles what
// became of it. Two replays never send the same item at once: a lease outlives the
// invocation that holds it, and what a late holder settles is refused by its fencing
// token. Failed items are due again later and later, and are parked in the end. What has
// expired, or belongs to a canceled delivery, is not sent: Run marks it, or removes it.
package replay

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
)

// DefaultConcurrency is the number of sends at once, over all sinks, of one Run.
const DefaultConcurrency = 50

// Engine replays dead letters. Its fields are set before its first use and never
// changed; then it is safe for concurrent use, within the process and, through the
// store, across processes. It must not be copied.
type Engine struct {
	// Store holds the dead letters. Required.
	Store Store
	// Targets finds the sinks. Required.
	Targets delivery.Targets
	// Operations holds the bulk operations. Nil: there are none, and none can be created.
	Operations OperationStore
	// Gate is asked before every attempt (see retry.Retrier.Gate), and hands out the slots of
	// Policy.Rate. What it refuses stays as it was, or is put off, uncharged. ReplayOne does not
	// ask it: an operator knows better. Nil: nobody is asked, and the rate holds in this process
	// alone.
	Gate Gate
	// Records is told when a dead letter is delivered or its time is over, before it is settled,
	// and when it is discarded or imported. Nil: nobody is.
	Records Records
	// Events tells what becomes of dead letters, before it is settled; Run sends what is owed. Nil:
	// nobody does.
	Events *delivery.Eventer
	// Journal is kept by Run, and bulk operations restore from it, audit it, and erase in it; its
	// Back is to be BringBack. Nil: there is none.
	Journal Journal
	// Observer counts replays, and more where it is a JournalObserver, a RetentionObserver or a CauseObserver. Nil:
	// nobody does.
	Observer Observer
	// Log gets one line per replay, without body, recipient or URL. Nil: slog.Default.
	Log *slog.Logger
	// Reserve is the time kept before the deadline for settling and the answer (see
	// retry.Budget). Zero: retry.DefaultReserve.
	Reserve time.Duration
	// MaxBytes is the most bytes of a message that an operator edits (see delivery.Sender.MaxBytes). Zero:
	// delivery.DefaultMaxBytes.
	MaxBytes int
	// Concurrency bounds the sends at once, over all sinks, of one Run. Zero:
	// DefaultConcurrency. Policy.Concurrency bounds those of one sink.
	Concurrency int
	// Replayers is the most Runs that work on what is due at once, the tick (Request.Scheduled) included: one
	// that finds more due than it gets done asks Start for the others. Zero or 1: it starts none. More than MaxReplayers
	// is MaxReplayers.
	Replayers int
	// Start has another process Run a request, a Part of this tick, and does not wait for it. An error says that it may not
	// come: then the others are not asked for, and this run does what it can. Nil: there is no other process.
	Start func(ctx context.Context, r Request) error
	// Rand returns numbers in [0, 1) for jitter; it must be safe for concurrent use.
	// Nil: math/rand/v2.
	Rand func() float64

	alone     sync.Once
	aloneGate *flow.Gate // paces all runs of this process together where there is no Gate
}

// Gate decides when a receiver may be attempted, and paces replays; a *flow.Gate is one. It is
// safe for concurrent use.
type Gate interface {
	retry.Gate
	// Slot takes a slot of a rate that is shared under a name of the sink, and says when it is;
	// false where none is due at latest.
	Slot(ctx context.Context, sink, name string, r flow.Rate, latest time.Time) (at time.Time, taken bool)
}

// gate returns what retries ask: own, else the engine's. Nil: nobody.
func (e *Engine) gate(own Gate) retry.Gate {
	switch {
	case own != nil:
		return own
	case e.Gate != nil:
		return e.Gate
	}
	return nil
}

// pacer returns what hands out the slots of rates.
func (e *Engine) pacer() Gate {
	if e.Gate != nil {
		return e.Gate
	}
	e.alone.Do(func() { e.aloneGate = &flow.Gate{Store: &flow.Memory{}, Log: e.log()} })
	return e.aloneGate
}

// Store is what the engine needs of a queue of dead letters; every dlq.Store has it.
type Store interface {
	dlq.Leases
	dlq.Successions
	dlq.Tallies
	PruneCanceled(ctx context.Context, sink string) (int64, error)
	Beat(ctx context.Context) error
	NewGroups(ctx context.Context, sink string) ([]dlq.Group, error)
	Told(ctx context.Context, told []dlq.Group) error
	AddBatch(ctx context.Context, items []dlq.Item) (stored []dlq.Item, errs []error)
	Discard(ctx context.Context, id string) error
	Get(ctx context.Context, id string) (dlq.Item, error)
	Page(ctx context.Context, q dlq.Query) (dlq.Page, error)
	Sinks(ctx context.Context) ([]string, error)
	Stats(ctx context.Context, sink string) (dlq.Stats, error)
	Gate(ctx context.Context, sink, token string, ttl time.Duration) (bool, error)
	Ungate(ctx context.Context, sink, token string) error
	Retire(ctx context.Context, sink string, before time.Time) (retired int64, more bool, err error)
	Present(ctx context.Context, sink string, of []dlq.Identity) ([]dlq.Present, error)
	Return(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error)
}

// Records keeps what became of a delivery; a delivery.Store is one.
type Records interface {
	Get(ctx context.Context, k delivery.Key) (delivery.Record, bool, error)
	Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error)
}

// Observer counts what replays did. It is called from many goroutines at once, with
// the context of the Run or ReplayOne.
type Observer interface {
	// ReplayDelivered is called for every replay that delivered.
	ReplayDelivered(ctx context.Context, sink string)
	// ReplayFailed is called for every replay that failed, parked items included.
	ReplayFailed(ctx context.Context, sink string)
	// Parked is called besides ReplayFailed when the item is parked.
	Parked(ctx context.Context, sink string)
	// ReplayExpired is called once for every dead letter that is marked as expired, sent in vain
	// by then or not. No other of these is called for it.
	ReplayExpired(ctx context.Context, sink string)
	// ReplayRefused is called for every replay that the Gate did not let go, for reason open or
	// throttled.
	ReplayRefused(ctx context.Context, sink string, reason dlq.Reason)
}

// CauseObserver is an Observer that counts new causes, too.
type CauseObserver interface {
	// NewCauses is called with how many groups of a sink's dead letters are new: at least once for
	// each. n is positive.
	NewCauses(ctx context.Context, sink string, n int)
}

func (e *Engine) log() *slog.Logger {
	if e.Log != nil {
		return e.Log
	}
	return slog.Default()
}

func (e *Engine) rand() float64 {
	if e.Rand != nil {
		return e.Rand()
	}
	return rand.Float64()
}

// target returns a sink with its policy complete and its retries taken off: the engine
// makes attempts of its own, and the item stays where it is.
func (e *Engine) target(ctx context.Context, name string) (delivery.Target, error) {
	t, err := e.shared(ctx, name)
	return t.Target, err
}

// shared is a target of which the replayers of a tick have their parts.
type shared struct {
	delivery.Target
	// bounded says that somebody chose Replay.Concurrency: it is for all of them together. Else each has its own.
	bounded bool
}

func (e *Engine) shared(ctx context.Context, name string) (shared, error) {
	t, err := e.Targets.Target(ctx, name)
	if err == nil && t.ConfigErr != nil {
		err = &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: name, Cause: t.ConfigErr}
	}
	if err != nil {
		return shared{}, err
	}
	bounded := t.Replay.Concurrency > 0
	t.Sink, t.Retry, t.Replay = guarded{retry.Bare(t.Sink)}, t.Retry.Normalize(), t.Replay.Normalize()
	t.Retry.MaxAttempts = t.Replay.Attempts
	return shared{t, bounded}, nil
}
