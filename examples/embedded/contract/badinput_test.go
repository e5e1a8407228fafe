// Package contract_test walks what Backstop promises an embedder, with the embedder's own
// types: sinks, recipients, errors and queues that Backstop has never seen.
package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// gateway is an embedder's sink: a name, and a Send.
type gateway struct {
	send func(ctx context.Context, to sinks.Recipient, m sinks.Message) error
}

func (gateway) Name() string { return "gateway" }

func (g gateway) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	return g.send(ctx, to, m)
}

// decoding is a gateway with a decoder.
type decoding struct {
	gateway
	decode func(raw []byte) (sinks.Recipient, error)
}

func (d decoding) DecodeRecipient(raw []byte) (sinks.Recipient, error) { return d.decode(raw) }

// badge is an embedder's recipient. It has no tags.
type badge struct{ Number string }

// readBadge is a decoder as one writes it for what is stored: it expects something, and its
// errors are json's.
func readBadge(raw []byte) (sinks.Recipient, error) {
	var to badge
	err := json.Unmarshal(raw, &to)
	return to, err
}

// fate is what became of one message.
type fate struct {
	code    fault.Code  // of the error that the caller got; "": none
	letters []dlq.State // of the dead letters afterwards, newest first
	sent    int         // accepted by the destination
}

// fates are those of the four ways on which Backstop calls a sink.
type fates struct{ retrier, sender, replay, engine fate }

// world is a server with one sink, in which a message of the id m is sent.
type world struct {
	queue *dlq.Memory
	sinks *sinks.Registry
	sent  int           // accepted
	left  chan struct{} // closed in the end: a sink that hangs returns
}

var quiet = slog.New(slog.DiscardHandler)

// keep puts a dead letter into the queue.
func (w *world) keep(ctx context.Context, to json.RawMessage) (id string, err error) {
	it, err := w.queue.Add(ctx, dlq.Item{
		Sink: "gateway", DeliveryID: "m", Recipient: to, Message: sinks.Message{ID: "m", Body: "door 7"},
		Reason: dlq.ReasonExhausted, LastError: "HTTP 503", Attempts: 5,
	})
	return it.ID, err
}

// The ways. to is the recipient as the embedder's code has it, raw as JSON.
var ways = map[string]struct {
	of   func(fates) fate
	send func(ctx context.Context, w *world, to sinks.Recipient, raw json.RawMessage) error
}{
	"the Retrier's Send": {
		func(f fates) fate { return f.retrier },
		func(ctx context.Context, w *world, to sinks.Recipient, _ json.RawMessage) error {
			s, _ := w.sinks.Get("gateway")
			return s.Send(ctx, to, sinks.Message{ID: "m", Body: "door 7"})
		},
	},
	"the Sender": {
		func(f fates) fate { return f.sender },
		func(ctx context.Context, w *world, _ sinks.Recipient, raw json.RawMessage) error {
			s := &delivery.Sender{Targets: delivery.Registered(w.sinks), Queue: w.queue, Records: delivery.NewMemory(0), Log: quiet}
			_, err := s.Deliver(ctx, delivery.Request{ID: "m", Sink: "gateway", Recipient: raw, Message: sinks.Message{Body: "door 7"}})
			return err
		},
	},
	"the DLQ's Replay": {
		func(f fates) fate { return f.replay },
		func(ctx context.Context, w *world, _ sinks.Recipient, raw json.RawMessage) error {
			id, err := w.keep(ctx, raw)
			if err != nil {
				return err
			}
			return w.queue.Replay(ctx, id)
		},
	},
	"the replay engine": {
		func(f fates) fate { return f.engine },
		func(ctx context.Context, w *world, _ sinks.Recipient, raw json.RawMessage) error {
			if _, err := w.keep(ctx, raw); err != nil {
				return err
			}
			e := &replay.Engine{Store: w.queue, Targets: delivery.Registered(w.sinks), Log: quiet}
			_, err := e.Run(ctx, replay.Request{})
			return err
		},
	},
}

func TestBadSinks(t *testing.T) {
	const (
		due     = dlq.StateDue
		waiting = dlq.StateWaiting
	)
	fails := func(err error) func(*world) sinks.Sink {
		return func(*world) sinks.Sink {
			return gateway{func(context.Context, sinks.Recipient, sinks.Message) error { return err }}
		}
	}
	accepts := func(w *world) gateway {
		return gateway{func(context.Context, sinks.Recipient, sinks.Message) error { w.sent++; return nil }}
	}
	var none *fault.Error
	// What fails for good waits for an operator; a replay of it lands beside.
	final := fates{
		retrier: fate{letters: []dlq.State{waiting}},
		sender:  fate{letters: []dlq.State{waiting}},
		replay:  fate{code: fault.CodeDeadLettered, letters: []dlq.State{waiting, waiting}},
		engine:  fate{letters: []dlq.State{waiting}},
	}
	delivered := fates{
		retrier: fate{sent: 1},
		sender:  fate{sent: 1},
		replay:  fate{sent: 1, letters: []dlq.State{dlq.StateDelivered}},
		engine:  fate{sent: 1},
	}
	tests := []struct {
		name string
		sink func(*world) sinks.Sink
		to   sinks.Recipient
		raw  string
		want fates
	}{
		{name: "it panics", want: final, sink: func(*world) sinks.Sink {
			return gateway{func(context.Context, sinks.Recipient, sinks.Message) error { panic("T0K3N") }}
		}},
		{name: "it hangs and ignores its context", want: final, sink: func(w *world) sinks.Sink {
			return gateway{func(context.Context, sinks.Recipient, sinks.Message) error { <-w.left; return nil }}
		}},
		{name: "its error has no code", want: final, sink: fails(errors.New("odd"))},
		{name: "its error is a nil pointer", want: final, sink: fails(none)},
		{
			name: "its error has no code, and says itself that it passes",
			sink: fails(passing{}),
			want: fates{
				retrier: fate{letters: []dlq.State{due}},
				sender:  fate{letters: []dlq.State{due}},
				replay:  fate{code: fault.CodeDeadLettered, letters: []dlq.State{due, waiting}},
				engine:  fate{letters: []dlq.State{dlq.StateScheduled}},
			},
		},
		{
			// Its letters keep their recipient, and an operator can discard or export them.
			name: "it has no decoder, and is given a recipient",
			sink: func(w *world) sinks.Sink { return accepts(w) },
			to:   badge{"7"}, raw: `{"Number":"7"}`,
			want: fates{
				retrier: fate{sent: 1},
				sender:  fate{code: fault.CodeInvalidArgument},
				replay:  fate{code: fault.CodeInvalidArgument, letters: []dlq.State{due}},
				engine:  fate{letters: []dlq.State{waiting}},
			},
		},
		{name: "it has no decoder and takes no recipient", want: delivered, sink: func(w *world) sinks.Sink { return accepts(w) }},
		{name: "its decoder is for stored recipients, and there is none", want: delivered, sink: func(w *world) sinks.Sink {
			return decoding{accepts(w), readBadge}
		}},
		{
			name: "its decoder reads a recipient of its own",
			sink: func(w *world) sinks.Sink {
				return decoding{gateway{func(_ context.Context, to sinks.Recipient, _ sinks.Message) error {
					if to != (badge{"7"}) {
						return errors.New("not a badge")
					}
					w.sent++
					return nil
				}}, readBadge}
			},
			to: badge{"7"}, raw: `{"Number":"7"}`, want: delivered,
		},
		{
			name: "its decoder has errors without a code",
			sink: func(w *world) sinks.Sink { return decoding{accepts(w), readBadge} },
			to:   badge{"7"}, raw: `{"Number":7}`,
			want: fates{
				retrier: fate{sent: 1},
				sender:  fate{code: fault.CodeInvalidArgument},
				replay:  fate{code: fault.CodeInvalidArgument, letters: []dlq.State{due}},
				engine:  fate{letters: []dlq.State{waiting}},
			},
		},
		{
			name: "its decoder panics",
			sink: func(w *world) sinks.Sink {
				return decoding{accepts(w), func([]byte) (sinks.Recipient, error) { panic("T0K3N") }}
			},
			to: badge{"7"}, raw: `{"Number":"7"}`,
			want: fates{
				retrier: fate{sent: 1},
				sender:  fate{code: fault.CodeInternal},
				replay:  fate{code: fault.CodeInternal, letters: []dlq.State{due}},
				engine:  fate{letters: []dlq.State{waiting}},
			},
		},
		{name: "it is registered twice, and the last one counts", want: delivered, sink: func(w *world) sinks.Sink {
			w.sinks.Register(gateway{func(context.Context, sinks.Recipient, sinks.Message) error { panic("the first one") }})
			return accepts(w)
		}},
	}
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(quiet) // the stacks of what panics
	for _, tt := range tests {
		for name, way := range ways {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &world{queue: dlq.NewMemory(), sinks: sinks.NewRegistry(), left: make(chan struct{})}
					defer close(w.left)
					w.queue.SetRegistryLookup(w.sinks.Get)
					w.sinks.Register(retry.WrapSink(tt.sink(w), retry.Config{MaxAttempts: 2}, w.queue))
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()

					err := way.send(ctx, w, tt.to, json.RawMessage(tt.raw))
					if ctx.Err() != nil {
						t.Error("the answer came after the deadline")
					}
					items, listErr := w.queue.Items(t.Context(), "", 0)
					if listErr != nil {
						t.Fatal(listErr)
					}
					got, want := fate{code: fault.CodeOf(err), sent: w.sent}, way.of(tt.want)
					for _, it := range items {
						got.letters = append(got.letters, it.State(time.Now()))
						if it.Message.Body != "door 7" || it.Message.ID != "m" {
							t.Errorf("a dead letter keeps %+v", it.Message)
						}
					}
					if got.code != want.code || got.sent != want.sent || !slices.Equal(got.letters, want.letters) {
						t.Errorf("got %+v (%v), want %+v", got, err, want)
					}
					if err != nil && got.code == "" {
						t.Errorf("an error without a code: %v", err)
					}
					if got.sent == 0 && len(got.letters) == 0 && err == nil {
						t.Error("the message is lost")
					}
				})
			})
		}
	}
}

// passing is an embedder's error that says of itself whether it passes.
type passing struct{}

func (passing) Error() string   { return "come again" }
func (passing) Transient() bool { return true }

// The same with no queue: the caller still has the message, and is told with a code.
func TestWithoutAQueueTheCallerIsToldWithACode(t *testing.T) {
	odd := errors.New("odd")
	for name, tt := range map[string]struct {
		send func(context.Context, sinks.Recipient, sinks.Message) error
		code fault.Code
	}{
		"no code": {func(context.Context, sinks.Recipient, sinks.Message) error { return odd }, fault.CodeSinkUnavailable},
		"panic":   {func(context.Context, sinks.Recipient, sinks.Message) error { panic("T0K3N") }, fault.CodeInternal},
	} {
		r := retry.NewRetrier(gateway{tt.send}, retry.Config{MaxAttempts: 1}, nil)
		r.Logger = quiet
		err := r.Send(t.Context(), nil, sinks.Message{Body: "door 7"})
		if fault.CodeOf(err) != tt.code {
			t.Errorf("%s: got %v, want %s", name, err, tt.code)
		}
		if tt.code == fault.CodeSinkUnavailable && !errors.Is(err, odd) {
			t.Errorf("%s: %v hides the sink's error", name, err)
		}
	}
}

// misnamed is a sink whose name can be part of no key and no id.
type misnamed struct{ gateway }

func (misnamed) Name() string { return "My Gateway" }

// What such a sink fails to deliver cannot be kept, so it stays the caller's.
func TestWhatASinkWithABadNameFailsToDeliverIsHandedBack(t *testing.T) {
	down := misnamed{gateway{func(context.Context, sinks.Recipient, sinks.Message) error { return errors.New("down") }}}
	err := retry.WrapSink(down, retry.Config{MaxAttempts: 1}, dlq.NewMemory()).Send(t.Context(), nil, sinks.Message{Body: "door 7"})
	if fault.CodeOf(err) != fault.CodeInvalidArgument {
		t.Errorf("got %v, want %s", err, fault.CodeInvalidArgument)
	}
}

// A recipient that fails to decode may be somebody's number: no answer, no dead letter and
// no error shows it.
func TestADecodersErrorShowsNoRecipient(t *testing.T) {
	const secret = "0049151"
	queue, registry := dlq.NewMemory(), sinks.NewRegistry()
	queue.SetRegistryLookup(registry.Get)
	registry.Register(retry.WrapSink(decoding{gateway{}, func(raw []byte) (sinks.Recipient, error) {
		return nil, errors.New("cannot read " + string(raw))
	}}, retry.Config{}, queue))
	w := &world{queue: queue, sinks: registry}
	id, err := w.keep(t.Context(), json.RawMessage(`"`+secret+`"`))
	if err != nil {
		t.Fatal(err)
	}
	errs := map[string]error{"Replay": queue.Replay(t.Context(), id)}
	_, errs["Deliver"] = (&delivery.Sender{Targets: delivery.Registered(registry), Queue: queue, Records: delivery.NewMemory(0)}).
		Deliver(t.Context(), delivery.Request{ID: "m", Sink: "gateway", Recipient: json.RawMessage(`"` + secret + `"`), Message: sinks.Message{Body: "x"}})
	e := &replay.Engine{Store: queue, Targets: delivery.Registered(registry), Log: quiet}
	if _, err := e.Run(t.Context(), replay.Request{}); err != nil {
		t.Fatal(err)
	}
	it, err := queue.Get(t.Context(), id)
	if err != nil || len(it.History) != 1 {
		t.Fatalf("%v, history %+v; want the engine's replay in it", err, it.History)
	}
	errs["the history"] = errors.New(it.History[0].Error)
	for name, err := range errs {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v shows the recipient", name, err)
		}
	}
}
