package dlq_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// TestAQueueThatOthersFilledIsKnownOnceItIsTouched: by its name, whatever is asked.
func TestAQueueThatOthersFilledIsKnownOnceItIsTouched(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	for name, touch := range map[string]func(ctx context.Context, s dlq.Store, id string) error{
		"Stats": func(ctx context.Context, s dlq.Store, _ string) error { _, err := s.Stats(ctx, "mail"); return err },
		"StatsOf": func(ctx context.Context, s dlq.Store, _ string) error {
			_, err := s.StatsOf(ctx, []string{"chat", "mail"})
			return err
		},
		"Count":  func(ctx context.Context, s dlq.Store, _ string) error { _, err := s.Count(ctx, "mail"); return err },
		"Items":  func(ctx context.Context, s dlq.Store, _ string) error { _, err := s.Items(ctx, "mail", 0); return err },
		"Groups": func(ctx context.Context, s dlq.Store, _ string) error { _, err := s.Groups(ctx, "mail"); return err },
		"Get":    func(ctx context.Context, s dlq.Store, id string) error { _, err := s.Get(ctx, id); return err },
		"Page": func(ctx context.Context, s dlq.Store, _ string) error {
			_, err := s.Page(ctx, dlq.Query{Sink: "mail", Q: "no such text"})
			return err
		},
		"Claim": func(ctx context.Context, s dlq.Store, _ string) error {
			_, err := s.Claim(ctx, dlq.Claim{Sink: "mail", TTL: time.Minute})
			return err
		},
		"Claim by id": func(ctx context.Context, s dlq.Store, id string) error {
			_, err := s.Claim(ctx, dlq.Claim{Sink: "mail", IDs: []string{id}, TTL: time.Minute})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, c)
			ctx := t.Context()
			if err := touch(ctx, s, "mail~1-1"); err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
				t.Fatal(err)
			}
			if names, err := s.Sinks(ctx); err != nil || len(names) != 0 {
				t.Errorf("Sinks = %v, %v; a name without dead letters is no queue", names, err)
			}
			id, err := c.XAdd(ctx, &redis.XAddArgs{Stream: s.prefix + ":dlq:mail", Values: []string{"item", `{"message":{"body":"b"}}`}}).Result()
			if err != nil {
				t.Fatal(err)
			}
			if err := touch(ctx, s, "mail~"+id); err != nil {
				t.Fatal(err)
			}
			if names, err := s.Sinks(ctx); err != nil || !slices.Equal(names, []string{"mail"}) {
				t.Errorf("Sinks = %v, %v; want mail", names, err)
			}
		})
	}
}

// TestQueuesThatOthersFilledAreKnownOnceTheyAreCounted: all of them, and not only those that the call mends.
func TestQueuesThatOthersFilledAreKnownOnceTheyAreCounted(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	var names []string
	for i := range 6 {
		names = append(names, fmt.Sprint("sink", i))
		err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: s.prefix + ":dlq:" + names[i], Values: []string{"item", `{"message":{"body":"b"}}`}}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.StatsOf(t.Context(), append(names, "empty")); err != nil {
		t.Fatal(err)
	}
	got, err := s.Sinks(t.Context())
	slices.Sort(got)
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("Sinks = %v, %v; want %v", got, err, names)
	}
}
