package lambdahost_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/lambdahost"
)

func TestAScheduleTicksAtItsIntervalWithoutRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		s := &lambdahost.Schedule{
			Function: "replay", Every: time.Minute,
			Invoker: invoker(func(_ context.Context, in lambdahost.Invocation) (lambdahost.Result, error) {
				at = append(at, time.Since(start))
				want := `{"time":"` + time.Now().UTC().Format(time.RFC3339) + `","trigger":"schedule"}`
				if in.Function != "replay" || string(in.Payload) != want {
					t.Errorf("%s %s, want replay %s", in.Function, in.Payload, want)
				}
				return lambdahost.Result{FunctionError: "Unhandled"}, nil
			}),
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Second)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		if len(at) != 3 || at[0] != time.Minute || at[2] != 3*time.Minute {
			t.Errorf("ticks at %v, want every minute, three times", at)
		}
	})
}

func TestTicksOverlapOnlyWhenConfigured(t *testing.T) {
	t.Parallel()
	for overlap, want := range map[bool]int32{false: 2, true: 5} {
		var ticks atomic.Int32
		synctest.Test(t, func(t *testing.T) {
			s := &lambdahost.Schedule{
				Function: "f", Every: time.Minute, Overlap: overlap, Payload: func(time.Time) []byte { return []byte(`{}`) },
				Invoker: invoker(func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
					ticks.Add(1)
					time.Sleep(150 * time.Second)
					return lambdahost.Result{}, nil
				}),
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+time.Second)
			defer cancel()
			_ = s.Run(ctx) // waits for the running ticks
		})
		if got := ticks.Load(); got != want {
			t.Errorf("overlap %v: %d ticks in 5 minutes of 2.5-minute work, want %d", overlap, got, want)
		}
	}
}

func TestATickByHandWaitsAndReportsAnOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &lambdahost.Schedule{Function: "f", Invoker: invoker(func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
			time.Sleep(time.Second)
			return lambdahost.Result{Payload: []byte(`{"claimed":1}`)}, nil
		})}
		go func() {
			time.Sleep(time.Millisecond)
			if _, err := s.Tick(t.Context()); !errors.Is(err, lambdahost.ErrOverlap) {
				t.Errorf("error %v, want ErrOverlap", err)
			}
		}()
		res, err := s.Tick(t.Context())
		if err != nil || string(res.Payload) != `{"claimed":1}` {
			t.Errorf("%s, %v, want the function's answer", res.Payload, err)
		}
		if err := s.Run(t.Context()); err == nil {
			t.Error("an interval of zero was accepted")
		}
	})
}
