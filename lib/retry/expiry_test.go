package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// doorman is a gate that says the same to everybody, after a while, and counts who it let in and
// who told it what came of that.
type doorman struct {
	leave       func() flow.Leave
	takes       time.Duration
	asked, told int
}

func (g *doorman) Ask(context.Context, flow.Try) flow.Leave {
	time.Sleep(g.takes)
	l := flow.Leave{}
	if g.leave != nil {
		l = g.leave()
	}
	if l.Verdict == flow.Go {
		g.asked++
	}
	return l
}
func (*doorman) Shut(context.Context, flow.Try) (flow.Leave, bool) { return flow.Leave{}, false }
func (g *doorman) Tell(context.Context, flow.Leave, flow.Told)     { g.told++ }
func (*doorman) Lost(context.Context, flow.Try, string)            {}

// No attempt begins at a message's expiry or later, nothing waits for one that could not, and
// what is known of it counts in order: it may have arrived, its time is over, ours is.
func TestNothingBeginsOnceItsTimeIsOver(t *testing.T) {
	errDown := sinks.Transient(errors.New("HTTP 503"))
	errSilent := sinks.Ambiguous(errors.New("no answer"))
	later := func(d time.Duration, spaced bool) func() flow.Leave {
		return func() flow.Leave { return flow.Leave{Verdict: flow.Wait, At: time.Now().Add(d), Spaced: spaced} }
	}
	slot := func(d time.Duration) func() flow.Leave {
		return func() flow.Leave { return flow.Leave{Verdict: flow.Go, At: time.Now().Add(d)} }
	}
	for name, c := range map[string]struct {
		expires  time.Duration // from now
		deadline time.Duration // 0: none
		steps    []step
		resends  bool
		gate     *doorman
		// what comes of it
		attempts   int
		after      time.Duration
		reason     dlq.Reason // empty: delivered
		unanswered int
	}{
		"just in time":                        {expires: 1, steps: []step{ok}, attempts: 1},
		"at that very time":                   {expires: 0, steps: []step{ok}, reason: dlq.ReasonExpired},
		"long past":                           {expires: -time.Hour, steps: []step{ok}, reason: dlq.ReasonExpired},
		"a wait that ends before it":          {expires: time.Second + 1, steps: []step{fails(errDown), ok}, attempts: 2, after: time.Second},
		"a wait that ends with it":            {expires: time.Second, steps: []step{fails(errDown), ok}, attempts: 1, reason: dlq.ReasonExpired},
		"a Retry-After beyond it":             {expires: 5 * time.Second, steps: []step{fails(sinks.RetryAfter(errDown, 6*time.Second)), ok}, attempts: 1, reason: dlq.ReasonExpired},
		"no time of ours either":              {expires: time.Second, deadline: 1100 * time.Millisecond, steps: []step{fails(errDown), ok}, attempts: 1, reason: dlq.ReasonExpired},
		"it may have arrived":                 {expires: time.Second, steps: []step{fails(errSilent), ok}, resends: true, attempts: 1, reason: dlq.ReasonAmbiguous, unanswered: 1},
		"it may have arrived, at first":       {expires: 3 * time.Second, steps: []step{fails(errSilent), fails(errDown), ok}, resends: true, attempts: 2, after: time.Second, reason: dlq.ReasonExpired, unanswered: 1},
		"one that has begun runs to its end":  {expires: 1, steps: []step{hangs}, attempts: 1, after: 10 * time.Second, reason: dlq.ReasonExpired},
		"one that has begun is still in time": {expires: 1, steps: []step{takes(9 * time.Second)}, attempts: 1, after: 9 * time.Second},
		"a hold that ends before it":          {expires: 10 * time.Second, steps: []step{ok}, gate: &doorman{leave: slot(9 * time.Second)}, attempts: 1, after: 9 * time.Second},
		"a slot at that time":                 {expires: 2 * time.Second, steps: []step{ok}, gate: &doorman{leave: slot(2 * time.Second)}, reason: dlq.ReasonExpired},
		"a hold beyond it":                    {expires: 2 * time.Second, steps: []step{ok}, gate: &doorman{leave: later(3*time.Second, false)}, reason: dlq.ReasonExpired},
		"a rate whose next slot is beyond it": {expires: 2 * time.Second, steps: []step{ok}, gate: &doorman{leave: later(3*time.Second, true)}, reason: dlq.ReasonExpired},
		"a gate that takes its time":          {expires: 2 * time.Second, steps: []step{ok}, gate: &doorman{takes: 2 * time.Second}, after: 2 * time.Second, reason: dlq.ReasonExpired},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if c.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
				defer cancel()
			}
			q, s := &queue{}, &script{steps: c.steps, dedup: c.resends}
			r := retry.NewRetrier(s, exact(5), q)
			if c.gate != nil {
				r.Gate = c.gate
			}
			began := time.Now()
			end := began.Add(c.expires)
			out := r.Carry(ctx, retry.Delivery{Message: sinks.Message{ID: "d", Body: "x"}, ExpiresAt: end, Unanswered: 2})
			if out.Attempts != c.attempts || len(s.started) != c.attempts || out.Reason != c.reason {
				t.Errorf("%s: %d attempts (%d told), reason %q (%v); want %d, %q", name, len(s.started), out.Attempts, out.Reason, out.Err, c.attempts, c.reason)
			}
			for _, at := range s.started {
				if !at.Before(end) {
					t.Errorf("%s: an attempt began %v after its expiry", name, at.Sub(end))
				}
			}
			if took := time.Since(began); took != c.after {
				t.Errorf("%s: it took %v, want %v", name, took, c.after)
			}
			if g := c.gate; g != nil && g.asked != g.told {
				t.Errorf("%s: %d were let in, and %d told what came of it", name, g.asked, g.told)
			}
			if c.reason == "" {
				return
			}
			if len(q.items) != 1 || !q.items[0].ExpiresAt.Equal(end) || q.items[0].Unanswered != 2+c.unanswered || q.items[0].Reason != c.reason || out.Unanswered != c.unanswered {
				t.Errorf("%s: dead letters %+v; want one with expires_at, and %d unanswered", name, q.items, 2+c.unanswered)
			}
		})
	}
}

// takes answers well after d.
func takes(d time.Duration) step {
	return func(context.Context) error {
		time.Sleep(d)
		return nil
	}
}
