package main

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/lib/fault"
)

// A cancellation is asked for again while somebody sends the message, and not for longer than
// somebody wants to wait.
func TestACancellationWaitsForWhoeverSends(t *testing.T) {
	conflict := func(code fault.Code, after time.Duration) error {
		return &client.ProblemError{Status: 409, Code: code, RetryAfter: after}
	}
	for name, c := range map[string]struct {
		within time.Duration
		errs   []error // one for each try; then it is canceled
		tries  int
		took   time.Duration
		fails  bool
	}{
		"at once":                      {30 * time.Second, nil, 1, 0, false},
		"as the API asks for":          {30 * time.Second, []error{conflict(fault.CodeDeliveryInProgress, 5*time.Second), conflict(fault.CodeItemLeased, 5*time.Second)}, 3, 10 * time.Second, false},
		"not for longer than is asked": {8 * time.Second, []error{conflict(fault.CodeItemLeased, 5*time.Second), conflict(fault.CodeItemLeased, 5*time.Second)}, 2, 5 * time.Second, true},
		"once":                         {0, []error{conflict(fault.CodeItemLeased, 5*time.Second)}, 1, 0, true},
		"never after a delivery":       {time.Hour, []error{conflict(fault.CodeAlreadyDelivered, 0)}, 1, 0, true},
		"while the API is away":        {30 * time.Second, []error{&client.UnreachableError{Err: errors.New("refused")}}, 2, time.Second / 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cmd := &cobra.Command{}
				cmd.SetContext(t.Context())
				cmd.SetErr(io.Discard)
				start, tries := time.Now(), 0
				_, err := cancelWithin(cmd, c.within, func(context.Context) (client.Cancellation, error) {
					if tries++; tries <= len(c.errs) {
						return client.Cancellation{}, c.errs[tries-1]
					}
					return client.Cancellation{Status: client.DeliveryCanceled}, nil
				})
				if (err != nil) != c.fails || tries != c.tries || time.Since(start) != c.took {
					t.Errorf("%v after %d tries and %s, want an error %v after %d and %s", err, tries, time.Since(start), c.fails, c.tries, c.took)
				}
			})
		})
	}
}

func TestWhatComesIsTold(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		next client.DeliveryNext
		want string
	}{
		{client.DeliveryNext{Event: client.NextAttempt}, "it is sent: as soon as the queue hands it out"},
		{client.DeliveryNext{Event: client.NextAttempt, At: now.Add(30 * time.Second)}, "it is sent: 2026-01-01 00:00:30Z (in 30s)"},
		{client.DeliveryNext{Event: client.NextReplay, State: client.StateDue}, "the schedule replays it: at its next tick"},
		{client.DeliveryNext{Event: client.NextReplay, State: client.StateReplaying}, "a replay sends it just now"},
		{client.DeliveryNext{Event: client.NextExpiry, At: now.Add(-time.Minute)}, "its time is over: 2025-12-31 23:59:00Z (60s ago)"},
		{client.DeliveryNext{Event: client.NextOperator, State: client.StateParked}, "nothing by itself (parked): replay, discard or cancel it"},
		{client.DeliveryNext{Event: client.NextOperator, State: client.StateExpired}, "nothing (expired): only 'backstop dlq replay --force' sends it still"},
		{client.DeliveryNext{Event: client.NextReturn, State: client.StateDue}, "it comes into the queue by itself, once there is room; then the schedule replays it"},
		{client.DeliveryNext{Event: client.NextReturn, State: client.StateWaiting}, "it comes into the queue by itself, once there is room; then it waits for you"},
		{client.DeliveryNext{Event: client.NextReturn}, "it comes into the queue by itself, once there is room"},
		{client.DeliveryNext{Event: "later", At: now}, "later 2026-01-01 00:00:00Z"},
	} {
		if got := nextOf(c.next, now); got != c.want {
			t.Errorf("%+v: %q, want %q", c.next, got, c.want)
		}
	}
}
