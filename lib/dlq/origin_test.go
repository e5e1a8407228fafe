package dlq_test

import (
	"context"
	"testing"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

func TestOriginTravelsWithTheContext(t *testing.T) {
	if o, ok := dlq.OriginFrom(t.Context()); ok {
		t.Errorf("a plain context has the origin %+v", o)
	}
	want := dlq.Origin{ItemID: "mail~1-1", FirstFailedAt: time.UnixMilli(1).UTC(), Generation: 2, Trace: "t"}
	ctx := context.WithoutCancel(dlq.WithOrigin(t.Context(), want))
	if o, ok := dlq.OriginFrom(ctx); !ok || o != want {
		t.Errorf("OriginFrom = %+v, %v; want %+v", o, ok, want)
	}
}

func TestAPushUnderAnOriginIsLinked(t *testing.T) {
	origin := dlq.Origin{ItemID: "mail~1-1", FirstFailedAt: time.UnixMilli(1000).UTC(), Generation: 2, Trace: "t"}
	late := time.UnixMilli(5000).UTC()
	for name, c := range map[string]struct{ in, want dlq.Item }{
		"what is empty is filled in": {
			dlq.Item{},
			dlq.Item{Origin: "mail~1-1", Replays: 2, FirstFailedAt: origin.FirstFailedAt, Trace: "t"},
		},
		"what the Retrier set stays, but the first failure is the earliest": {
			dlq.Item{Origin: "mail~1-1", Replays: 7, FirstFailedAt: late, Trace: "own"},
			dlq.Item{Origin: "mail~1-1", Replays: 7, FirstFailedAt: origin.FirstFailedAt, Trace: "own"},
		},
		"an item of another origin is left alone": {
			dlq.Item{Origin: "mail~9-9", FirstFailedAt: late},
			dlq.Item{Origin: "mail~9-9", FirstFailedAt: late},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := dlq.NewMemory()
			ctx := dlq.WithOrigin(t.Context(), origin)
			c.in.Sink, c.in.Message = "mail", sinks.Message{ID: "a", Body: "b"}
			got, err := s.Add(ctx, c.in)
			if err != nil {
				t.Fatal(err)
			}
			if got.Origin != c.want.Origin || got.Replays != c.want.Replays || got.Trace != c.want.Trace || !got.FirstFailedAt.Equal(c.want.FirstFailedAt) {
				t.Errorf("stored %+v, want %+v", got, c.want)
			}
		})
	}
}

// The Retrier may keep what fails in another store than the one that replays.
func TestAReplayThatBecameADeadLetterElsewhereIsNotDelivered(t *testing.T) {
	here, elsewhere := dlq.NewMemory(), dlq.NewMemory()
	it, err := here.Add(t.Context(), dlq.Item{Sink: "mail", Message: sinks.Message{ID: "a", Body: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	sink := keeper{elsewhere}
	here.SetRegistryLookup(func(string) (sinks.Sink, bool) { return sink, true })
	if err := here.Replay(t.Context(), it.ID); fault.CodeOf(err) != fault.CodeDeadLettered {
		t.Errorf("Replay = %v, want %s", err, fault.CodeDeadLettered)
	}
	if it, err = here.Get(t.Context(), it.ID); err != nil || !it.DeliveredAt.IsZero() || !it.Held {
		t.Errorf("item %+v, %v; want it held", it, err)
	}
}

// keeper keeps every message as a dead letter, as a Retrier does whose sink is down.
type keeper struct{ queue dlq.DLQ }

func (keeper) Name() string { return "mail" }

func (k keeper) Send(ctx context.Context, _ sinks.Recipient, m sinks.Message) error {
	return k.queue.Push(ctx, dlq.Item{Sink: "mail", Message: m, LastError: "down"})
}
