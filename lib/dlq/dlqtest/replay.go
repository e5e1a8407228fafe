package dlqtest

import (
	"context"
	"errors"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

var replayCases = []Case{
	{
		Name: "a replay delivers and keeps",
		Rule: "Replay sends the stored message through the sink, marks the item delivered and never removes it",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			in := item("mail", "a")
			in.Trace, in.Replays = "trace", 3
			it := add(t, s, in)
			var got sinks.Message
			s.SetRegistryLookup(lookup(sender{"mail", func(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
				got = m
				o, ok := dlq.OriginFrom(ctx)
				want := dlq.Origin{ItemID: it.ID, FirstFailedAt: it.At, Generation: 4, Trace: "trace"}
				if !ok || o != want {
					t.Errorf("origin %+v, want %+v", o, want)
				}
				if to != nil {
					t.Errorf("recipient %v, want none", to)
				}
				wantCode(t, "Discard while it is replayed", s.Discard(ctx, it.ID), fault.CodeItemLeased)
				return nil
			}}))
			if err := s.Replay(t.Context(), it.ID); err != nil {
				t.Fatal(err)
			}
			if got.ID != "a" || got.Body != "b a" {
				t.Errorf("sent %+v", got)
			}
			after := get(t, s, it.ID)
			if after.DeliveredAt.IsZero() || after.State(time.Now()).Scheduled() || after.Replays != 4 {
				t.Errorf("after the replay: %+v", after)
			}
			wantStats(t, s, "mail", counts{Depth: 1, Kept: 1})
			wantCode(t, "Replay of a delivered item", s.Replay(t.Context(), it.ID), fault.CodeInvalidArgument)
		},
	},
	{
		Name: "a replay that is dead-lettered again",
		Rule: "the new item lands beside the old one, linked by origin, and counts its attempts without an answer on; the old one is no longer due; Replay says SINK_DEAD_LETTERED",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			first := item("mail", "a")
			first.Unanswered = 2
			it := add(t, s, first)
			// As a Retrier does: record the failure, return nil.
			s.SetRegistryLookup(lookup(sender{"mail", func(ctx context.Context, _ sinks.Recipient, m sinks.Message) error {
				return s.Push(context.WithoutCancel(ctx), dlq.Item{Sink: "mail", DeliveryID: m.ID, Message: m, Reason: dlq.ReasonExhausted, LastError: "again", Unanswered: 1})
			}}))
			wantCode(t, "Replay", s.Replay(t.Context(), it.ID), fault.CodeDeadLettered)
			items, err := s.Items(t.Context(), "mail", 0)
			if err != nil || len(items) != 2 {
				t.Fatalf("%d items, %v; want the old one and the new one", len(items), err)
			}
			fresh, old := items[0], items[1]
			if fresh.Origin != it.ID || fresh.Replays != 1 || !fresh.State(time.Now()).Scheduled() || !fresh.FirstFailedAt.Equal(it.At) || fresh.LastError != "again" || fresh.Unanswered != 3 {
				t.Errorf("new item %+v", fresh)
			}
			if old.ID != it.ID || !old.Held || old.State(time.Now()).Scheduled() || !old.DeliveredAt.IsZero() || old.Replays != 1 {
				t.Errorf("old item %+v", old)
			}
			// The same once more, of the new one and of the old one: four items in all.
			wantCode(t, "Replay", s.Replay(t.Context(), fresh.ID), fault.CodeDeadLettered)
			wantCode(t, "Replay", s.Replay(t.Context(), old.ID), fault.CodeDeadLettered)
			wantStats(t, s, "mail", counts{Depth: 4, Remaining: 2})
		},
	},
	{
		Name: "a replay that fails and is recorded nowhere",
		Rule: "when the sink returns an error the item stays as it was, and Replay returns the error",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			due := add(t, s, item("mail", "a"))
			never := add(t, s, withReason(item("mail", "b"), dlq.ReasonTerminal))
			boom := &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "boom"}
			s.SetRegistryLookup(lookup(sender{"mail", func(context.Context, sinks.Recipient, sinks.Message) error { return boom }}))
			for _, it := range []dlq.Item{due, never} {
				if err := s.Replay(t.Context(), it.ID); !errors.Is(err, boom) {
					t.Errorf("Replay = %v, want %v", err, boom)
				}
				if got := get(t, s, it.ID); got.State(time.Now()).Scheduled() != it.State(time.Now()).Scheduled() || got.Replays != 0 || got.Held {
					t.Errorf("after the failure: %+v", got)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 2, Remaining: 1})
			if got := claim(t, s, "mail", 10); len(got) != 1 {
				t.Errorf("%d due, want 1", len(got))
			}
		},
	},
	{
		Name: "a replay through a sink without a Retrier",
		Rule: "it comes back whatever the sink does, with a code: what panicked or failed stays as it was, and is held when nobody knows what became of it",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			left := make(chan struct{})
			defer close(left)
			odd := errors.New("odd")
			for _, tt := range []struct {
				id   string
				send func(context.Context) error
				code fault.Code
				held bool
			}{
				{"panics", func(context.Context) error { panic("T0K3N") }, fault.CodeInternal, false},
				{"no-code", func(context.Context) error { return odd }, fault.CodeSinkUnavailable, false},
				{"hangs", func(context.Context) error { <-left; return nil }, fault.CodeSinkUnavailable, true},
				{"maybe", func(context.Context) error { return sinks.Ambiguous(odd) }, fault.CodeSinkUnavailable, true},
			} {
				it := add(t, s, item("mail", tt.id))
				s.SetRegistryLookup(lookup(sender{"mail", func(ctx context.Context, _ sinks.Recipient, _ sinks.Message) error { return tt.send(ctx) }}))
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				err := s.Replay(ctx, it.ID)
				cancel()
				wantCode(t, tt.id, err, tt.code)
				got := get(t, s, it.ID)
				if got.Held != tt.held || !got.DeliveredAt.IsZero() || got.State(time.Now()) == dlq.StateReplaying {
					t.Errorf("%s: after the failure: %+v, want held %v", tt.id, got, tt.held)
				}
				if got.State(time.Now()).Scheduled() == tt.held {
					t.Errorf("%s: state %s", tt.id, got.State(time.Now()))
				}
			}
		},
	},
	{
		Name: "a replay that cannot start",
		Rule: "no lookup, no such sink, no such item, a bad recipient and a lease held by others are told apart, and change nothing",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, item("mail", "a"))
			withRecipient := item("mail", "b")
			withRecipient.Recipient = []byte(`{"x":1}`)
			bad := add(t, s, withRecipient)
			wantCode(t, "without a lookup", s.Replay(t.Context(), it.ID), fault.CodeSinkConfigInvalid)
			s.SetRegistryLookup(lookup())
			wantCode(t, "without the sink", s.Replay(t.Context(), it.ID), fault.CodeSinkNotFound)
			s.SetRegistryLookup(lookup(sender{"mail", func(context.Context, sinks.Recipient, sinks.Message) error {
				t.Error("sent")
				return nil
			}}))
			wantCode(t, "missing item", s.Replay(t.Context(), "mail~1-1"), fault.CodeDLQNotFound)
			wantCode(t, "missing bare id", s.Replay(t.Context(), "1-1"), fault.CodeDLQNotFound)
			wantCode(t, "nonsense", s.Replay(t.Context(), "x"), fault.CodeInvalidArgument)
			wantCode(t, "bad recipient", s.Replay(t.Context(), bad.ID), fault.CodeInvalidArgument)
			claimIDs(t, s, "mail", it.ID)
			wantCode(t, "leased", s.Replay(t.Context(), it.ID), fault.CodeItemLeased)
			wantStats(t, s, "mail", counts{Depth: 2, Remaining: 2})
		},
	},
	{
		Name: "a caller that gives up in mid-replay",
		Rule: "what became of the send is recorded although the context has ended",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, item("mail", "a"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			s.SetRegistryLookup(lookup(sender{"mail", func(context.Context, sinks.Recipient, sinks.Message) error {
				cancel()
				return nil
			}}))
			if err := s.Replay(ctx, it.ID); err != nil {
				t.Fatal(err)
			}
			if got := get(t, s, it.ID); got.DeliveredAt.IsZero() {
				t.Errorf("delivery was not recorded: %+v", got)
			}
		},
	},
}
