package dlq

import (
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// DefaultMaxLen is the number of dead letters that one sink's queue holds when
// WithMaxLen does not say otherwise.
const DefaultMaxLen = 10_000

// Overflow says what a push does when the sink's queue is full.
type Overflow string

// The overflow policies.
const (
	// OverflowTrim removes the oldest dead letters: those kept after their delivery
	// first, leased ones never. What was removed is counted (Stats.Trimmed) and
	// reported (WithOnTrim).
	OverflowTrim Overflow = "trim"
	// OverflowReject refuses the push with SINK_DLQ_OVERFLOW: the caller keeps the
	// message. Kept, delivered items do not count: they have a bound of their own
	// (WithMaxKept).
	OverflowReject Overflow = "reject"
)

// Option configures a store.
type Option func(*options)

type options struct {
	prefix   string
	maxLen   int
	maxKept  int // negative: as maxLen
	overflow Overflow
	onTrim   func(sink string, n int)
	sinks    func() []string
	journal  bool
	shards   func(sink string) int

	shardsHold time.Duration // how long after it was noted a number of shards holds
}

func newOptions(opts []Option) options {
	o := options{
		prefix:   redisconn.DefaultPrefix,
		maxLen:   DefaultMaxLen,
		maxKept:  -1,
		overflow: OverflowTrim,
		onTrim:   func(string, int) {},
		sinks:    func() []string { return nil },
		shards:   func(string) int { return 1 },

		shardsHold: 2 * spreadFor,
	}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithKeyPrefix sets the prefix of all Redis keys, "backstop" without this option. It
// matches ^[a-z0-9][a-z0-9._:-]{0,63}$: a store with another one answers every call with
// INVALID_ARGUMENT. Memory ignores it.
func WithKeyPrefix(prefix string) Option { return func(o *options) { o.prefix = prefix } }

// WithMaxLen bounds the dead letters of each sink; n <= 0 means no bound. Without this
// option it is DefaultMaxLen.
func WithMaxLen(n int) Option { return func(o *options) { o.maxLen = max(n, 0) } }

// WithMaxKept bounds the items of each sink that are kept after their delivery: beyond it
// the oldest of them are removed as others are kept, and counted as trimmed; leased ones
// never. n <= 0 means no bound; without this option it is that of WithMaxLen.
func WithMaxKept(n int) Option { return func(o *options) { o.maxKept = max(n, 0) } }

func (o options) keptLimit() int {
	if o.maxKept < 0 {
		return o.maxLen
	}
	return o.maxKept
}

// WithOverflow sets what happens at the bound; anything but OverflowReject is
// OverflowTrim, and so is a store without this option.
func WithOverflow(v Overflow) Option { return func(o *options) { o.overflow = v } }

// WithOnTrim sets a function that is told how many dead letters of a sink a push, or a
// settlement that keeps more than WithMaxKept, has removed. It is called from those
// goroutines and must be safe for concurrent use. When a reply of Redis is lost, only
// Stats.Trimmed counts them. Nil sets none.
func WithOnTrim(f func(sink string, n int)) Option {
	return func(o *options) {
		if f != nil {
			o.onTrim = f
		}
	}
}

// WithSinks names sinks that the store shall look at besides those that it saw dead
// letters pushed to, such as the configured ones: others may have written to their
// streams. It is called for every listing and must be safe for concurrent use; bad
// names are left out. Nil names none.
func WithSinks(names func() []string) Option {
	return func(o *options) {
		if names != nil {
			o.sinks = names
		}
	}
}

// opaqueForm is the form of a token or an operation, as errors show it.
const opaqueForm = `^[A-Za-z0-9._:-]{1,64}$`

func isOpaque(name string) bool { return fault.IsMadeOf(name, 64, fault.Alphanumeric+"._:-") }

// WithJournal tells the store that there is a journal of its dead letters: it notes those that
// were pushed without an address (see Journaling). Without this option it does not.
func WithJournal() Option { return func(o *options) { o.journal = true } }

// WithShards says over how many queues a sink's dead letters are spread, 1 to MaxShards: each is in a cluster slot of its own, so
// that one sink may fail more than the memory or the processor of one slot's node bears. Less than 1 is 1, and more than MaxShards
// is MaxShards; without this option, and with nil, it is 1.
//
// A delivery's dead letters are in the shard that its id gives. Pushes go to more shards two minutes after a process
// first asked for them: by then all processes know where to look. With fewer, the shards beyond them are not pushed to any more, and
// drain; both can be done while everything runs. What is promised of a sink holds for its shards together, but: its bound (WithMaxLen,
// WithMaxKept) may be passed by what is pushed, or kept, at the same moment; the order of dead letters in different shards is that
// of the clocks of their nodes; and a push into one takes a further round trip, to look into the others. It is called for every
// push, must be safe for concurrent use, and is to give the same number in all processes. Memory ignores it.
func WithShards(shards func(sink string) int) Option {
	return func(o *options) {
		if shards != nil {
			o.shards = shards
		}
	}
}
