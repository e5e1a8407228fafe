package dlq_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// unanswering is a Redis that knows three sinks and answers nothing about their queues. It
// needs no network.
type unanswering struct{}

func (unanswering) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { panic("dialed") }
}

func (unanswering) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if c, ok := cmd.(*redis.StringSliceCmd); ok {
			c.SetVal([]string{"a", "b", "c"})
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

func (unanswering) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, _ []redis.Cmder) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// One slot that does not answer makes whatever goes over all sinks fail; that must not take
// as long as a call about that sink alone may.
func TestWhatGoesOverAllSinksDoesNotWaitLongForOne(t *testing.T) {
	for name, list := range map[string]func(ctx context.Context, s *dlq.Redis) error{
		"a page":                 func(ctx context.Context, s *dlq.Redis) error { _, err := s.Page(ctx, dlq.Query{}); return err },
		"groups":                 func(ctx context.Context, s *dlq.Redis) error { _, err := s.Groups(ctx, ""); return err },
		"a count":                func(ctx context.Context, s *dlq.Redis) error { _, err := s.Count(ctx, ""); return err },
		"an item by its bare id": func(ctx context.Context, s *dlq.Redis) error { _, err := s.Get(ctx, "1-1"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}})
				client.AddHook(unanswering{})
				defer client.Close()
				start := time.Now()
				err := list(t.Context(), dlq.NewRedis(client))
				if took := time.Since(start); fault.CodeOf(err) != fault.CodeDLQUnavailable || took > 3*time.Second {
					t.Errorf("ended after %s with %v, want SINK_DLQ_UNAVAILABLE within 3s", took, err)
				}
			})
		})
	}
}

// mute is a Redis that answers everything but, when it is told so, scripts.
type mute struct {
	unanswering
	scripts *bool
}

func (m mute) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		if c, ok := cmd.(*redis.Cmd); ok {
			if *m.scripts {
				return errors.New("no answer") // it is asked again, for ten seconds
			}
			c.SetVal([]any{})
		}
		return nil
	}
}

func (mute) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return nil }
}

// Where the numbers of shards cannot be read, what was read is used for as long as pushes of a newer one cannot have begun.
func TestWhatIsKnownOfShardsHoldsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}})
		var fails bool
		client.AddHook(mute{scripts: &fails})
		defer client.Close()
		s := dlq.NewRedis(client)
		for _, step := range []struct {
			after time.Duration
			fails bool
			code  fault.Code
		}{{0, false, ""}, {59 * time.Second, true, ""}, {15 * time.Second, true, ""}, {15 * time.Second, true, fault.CodeDLQUnavailable}, {0, false, ""}} {
			time.Sleep(step.after)
			fails = step.fails
			if _, err := s.Count(t.Context(), "mail"); fault.CodeOf(err) != step.code {
				t.Errorf("%s later, while scripts fail: %v: %v", step.after, step.fails, err)
			}
		}
	})
}

// vague is a Redis that knows a sink and answers each push with a status of its own.
type vague struct{ unanswering }

func (vague) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		switch c := cmd.(type) {
		case *redis.Cmd:
			c.SetVal([]any{int64(0), "received", "1-1", ""})
		case *redis.IntCmd:
			c.SetVal(1)
		}
		return nil
	}
}

// What Redis does not call stored is not: the caller keeps it.
func TestAnAnswerThatDoesNotSayStoredStoresNothing(t *testing.T) {
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}})
	client.AddHook(vague{})
	defer client.Close()
	it, err := dlq.NewRedis(client).Add(t.Context(), dlq.Item{DeliveryID: "m", Sink: "a"})
	if fault.CodeOf(err) != fault.CodeInternal || it.ID != "" {
		t.Errorf("stored as %q, %v; want INTERNAL", it.ID, err)
	}
}
