package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// sent is one Send call that a receiver saw.
type sent struct {
	id string
	at time.Time
	to string
}

// receiver is a sink that answers as it is told and writes down what it saw.
type receiver struct {
	name   string
	answer func(ctx context.Context, m sinks.Message) error // nil: accepts
	dedup  bool

	mu     sync.Mutex
	sent   []sent
	now    map[string]int // under way, by message
	most   int            // at once
	double bool           // the same message twice at once
}

func (r *receiver) Name() string       { return r.name }
func (r *receiver) Deduplicates() bool { return r.dedup }

func (r *receiver) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	if string(raw) == `"bad"` {
		return nil, &fault.Error{Code: fault.CodeInvalidArgument, Msg: "recipient: bad"}
	}
	return string(raw), nil
}

func (r *receiver) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	r.mu.Lock()
	if r.now == nil {
		r.now = map[string]int{}
	}
	text, _ := to.(string)
	r.sent = append(r.sent, sent{m.ID, time.Now(), text})
	r.now[m.ID]++
	r.double = r.double || r.now[m.ID] > 1
	at := 0
	for _, n := range r.now {
		at += n
	}
	r.most = max(r.most, at)
	answer := r.answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now[m.ID]--
	}()
	if answer == nil {
		return nil
	}
	return answer(ctx, m)
}

func (r *receiver) calls() []sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sent)
}

// counts returns how often each message was sent.
func (r *receiver) counts() map[string]int {
	n := map[string]int{}
	for _, s := range r.calls() {
		n[s.id]++
	}
	return n
}

func (r *receiver) set(answer func(ctx context.Context, m sinks.Message) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

var (
	errDown  = sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	errGone  = sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 410"})
	errMaybe = sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer"})
)

func fails(err error) func(context.Context, sinks.Message) error {
	return func(context.Context, sinks.Message) error { return err }
}

// takes answers err after d.
func takes(d time.Duration, err error) func(context.Context, sinks.Message) error {
	return func(ctx context.Context, _ sinks.Message) error {
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// targets are configured sinks.
type targets map[string]delivery.Target

func (t targets) Target(_ context.Context, name string) (delivery.Target, error) {
	target, ok := t[name]
	if !ok {
		return target, &fault.Error{Code: fault.CodeSinkNotFound, Msg: "no sink " + name}
	}
	return target, nil
}

func (t targets) Names(context.Context) ([]string, error) {
	var names []string
	for name := range t {
		names = append(names, name)
	}
	return names, nil
}

// configured returns targets with one policy.
func configured(p replay.Policy, receivers ...*receiver) targets {
	t := targets{}
	for _, r := range receivers {
		t[r.name] = delivery.Target{Sink: r, Replay: p}
	}
	return t
}

// engine returns an engine without jitter and without a log.
func engine(store dlq.Store, t delivery.Targets) *replay.Engine {
	return &replay.Engine{
		Store: store, Targets: t, Operations: replay.NewMemoryOperations(),
		Log: slog.New(slog.DiscardHandler), Rand: func() float64 { return 0.5 },
	}
}

// push stores n dead letters in a sink, named <prefix>0 and so on, and returns their
// ids.
func push(tb testing.TB, s dlq.Store, sink, prefix string, n int, change ...func(*dlq.Item)) []string {
	tb.Helper()
	items := make([]dlq.Item, n)
	for i := range items {
		id := fmt.Sprintf("%s%d", prefix, i)
		items[i] = dlq.Item{
			DeliveryID: id, Sink: sink, Message: sinks.Message{ID: id, Subject: "s", Body: "secret-body"},
			Attempts: 5, LastError: "HTTP 503", Reason: dlq.ReasonExhausted,
		}
		for _, c := range change {
			c(&items[i])
		}
	}
	stored, errs := s.AddBatch(tb.Context(), items)
	ids := make([]string, n)
	for i, err := range errs {
		if err != nil {
			tb.Fatal(err)
		}
		ids[i] = stored[i].ID
	}
	return ids
}

func run(tb testing.TB, e *replay.Engine, req replay.Request) replay.Summary {
	tb.Helper()
	s, err := e.Run(tb.Context(), req)
	if err != nil {
		tb.Fatalf("Run: %v", err)
	}
	return s
}

func get(tb testing.TB, s dlq.Store, id string) dlq.Item {
	tb.Helper()
	it, err := s.Get(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return it
}

func depth(tb testing.TB, s dlq.Store, sink string) int64 {
	tb.Helper()
	n, err := s.Count(tb.Context(), sink)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// counter is an Observer.
type counter struct {
	mu                                          sync.Mutex
	delivered, failed, parked, refused, expired int
}

func (c *counter) ReplayDelivered(context.Context, string)           { c.add(&c.delivered) }
func (c *counter) ReplayFailed(context.Context, string)              { c.add(&c.failed) }
func (c *counter) ReplayRefused(context.Context, string, dlq.Reason) { c.add(&c.refused) }
func (c *counter) ReplayExpired(context.Context, string)             { c.add(&c.expired) }
func (c *counter) Parked(context.Context, string)                    { c.add(&c.parked) }

func (c *counter) add(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

// records is a Records that remembers.
type records struct {
	mu  sync.Mutex
	set map[delivery.Key]delivery.Status
	err error
}

func (r *records) Get(_ context.Context, k delivery.Key) (delivery.Record, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, known := r.set[k]
	return delivery.Record{Sink: k.Sink, ID: k.ID, Status: s}, known, r.err
}

func (r *records) Update(_ context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		r.set = map[delivery.Key]delivery.Status{}
	}
	statuses := make([]delivery.Status, len(changes))
	for i, c := range changes {
		r.set[c.Key], statuses[i] = c.Status, c.Status
	}
	return statuses, r.err
}

// logged returns an engine's log as text.
func logged(e *replay.Engine) *lockedBuffer {
	b := &lockedBuffer{}
	e.Log = slog.New(slog.NewJSONHandler(b, nil))
	return b
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
