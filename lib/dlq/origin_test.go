package dlq_test

import (
	"context"
	"testing"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

func TestOriginTravelsWithTheContext(t *testing.T) {
	if o, ok := dlq.OriginFrom(t.Context()); ok {
		t.Errorf("a plain context has the origin %+v", o)
	}
	if id, ok := dlq.DeadLetteredAgain(t.Context()); ok {
		t.Errorf("a plain context was dead-lettered again as %s", id)
	}
	want := dlq.Origin{ItemID: "mail~1-1", FirstFailedAt: time.UnixMilli(1).UTC(), Generation: 2, Trace: "t"}
	ctx := context.WithoutCancel(dlq.WithOrigin(t.Context(), want))
	if o, ok := dlq.OriginFrom(ctx); !ok || o != want {
		t.Errorf("OriginFrom = %+v, %v; want %+v", o, ok, want)
	}
	if id, ok := dlq.DeadLetteredAgain(ctx); ok {
		t.Errorf("dead-lettered again as %s before any push", id)
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
			if id, ok := dlq.DeadLetteredAgain(ctx); !ok || id != got.ID {
				t.Errorf("DeadLetteredAgain = %q, %v; want %q", id, ok, got.ID)
			}
		})
	}
}
