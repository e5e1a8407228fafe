package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// windowed is a script whose receiver recognises a message for a while.
type windowed struct {
	*script
	window time.Duration
}

func (s windowed) DedupWindow() time.Duration { return s.window }

// A minute before its window ends nothing more is sent that may have arrived, and of a window below two
// minutes after half of it. So it is exactly, whatever failed in between, and whoever made the attempt that
// may have arrived.
func TestWhatMayHaveArrivedIsSentAgainOnlyWhileItIsRecognised(t *testing.T) {
	maybe, down := sinks.Ambiguous(errors.New("no answer")), sinks.Transient(errors.New("HTTP 503"))
	after := func(d time.Duration, err error) step {
		return func(context.Context) error {
			time.Sleep(d)
			return err
		}
	}
	slot := func(d time.Duration) *doorman {
		return &doorman{leave: func() flow.Leave { return flow.Leave{Verdict: flow.Go, At: time.Now().Add(d)} }}
	}
	spaced := func(d time.Duration) *doorman {
		return &doorman{leave: func() flow.Leave { return flow.Leave{Verdict: flow.Wait, At: time.Now().Add(d), Spaced: true} }}
	}
	for name, c := range map[string]struct {
		window   time.Duration
		policy   retry.AmbiguousPolicy
		before   int           // unanswered attempts of before
		since    time.Duration // since the first attempt of all
		force    bool
		steps    []step
		max      int           // attempts; 0: 5
		deadline time.Duration // 0: none
		gate     *doorman
		// what comes of it
		attempts int
		reason   dlq.Reason // empty: delivered
		atOnce   bool       // nothing is waited for
	}{
		"a second copy a nanosecond before":       {window: 20 * time.Second, steps: []step{after(9*time.Second-1, maybe), ok}, attempts: 2},
		"a second copy at the end":                {window: 20 * time.Second, steps: []step{after(9*time.Second, maybe), ok}, attempts: 1, reason: dlq.ReasonAmbiguous},
		"after a failure, a nanosecond before":    {window: 24 * time.Second, steps: []step{after(9*time.Second-1, maybe), fails(down), ok}, attempts: 3},
		"after a failure, at the end":             {window: 24 * time.Second, steps: []step{after(9*time.Second, maybe), fails(down), ok}, attempts: 2, reason: dlq.ReasonAmbiguous},
		"failures alone count for nothing":        {window: 2, steps: []step{after(9*time.Second, down), ok}, attempts: 2},
		"a Retry-After beyond it":                 {window: time.Hour, steps: []step{fails(maybe), fails(sinks.RetryAfter(down, 59*time.Minute)), ok}, attempts: 2, reason: dlq.ReasonAmbiguous},
		"a Retry-After within it":                 {window: time.Hour, steps: []step{fails(maybe), fails(sinks.RetryAfter(down, 58*time.Minute)), ok}, attempts: 2, reason: dlq.ReasonThrottled},
		"it wins over the deadline":               {window: 20 * time.Second, deadline: 12 * time.Second, steps: []step{after(9*time.Second, maybe), ok}, attempts: 1, reason: dlq.ReasonAmbiguous},
		"the deadline comes first":                {window: time.Hour, deadline: 12 * time.Second, steps: []step{after(10*time.Second, maybe), ok}, attempts: 1, reason: dlq.ReasonDeadline},
		"the last attempt, recognised":            {window: 20 * time.Second, max: 1, steps: []step{after(10*time.Second-1, maybe)}, attempts: 1, reason: dlq.ReasonExhausted},
		"the last attempt, at the end":            {window: 20 * time.Second, max: 1, steps: []step{after(10*time.Second, maybe)}, attempts: 1, reason: dlq.ReasonAmbiguous},
		"the last attempt fails, at the end":      {window: 20 * time.Second, max: 2, steps: []step{fails(maybe), after(9*time.Second, down)}, attempts: 2, reason: dlq.ReasonAmbiguous},
		"terminal after it counts for itself":     {window: 20 * time.Second, steps: []step{fails(maybe), after(9*time.Second, errFinal)}, attempts: 2, reason: dlq.ReasonTerminal},
		"taken over, a nanosecond before":         {window: 10 * time.Minute, before: 1, since: 9*time.Minute - 1, steps: []step{ok}, attempts: 1},
		"taken over, at the end":                  {window: 10 * time.Minute, before: 1, since: 9 * time.Minute, steps: []step{ok}, reason: dlq.ReasonAmbiguous},
		"taken over, none before unanswered":      {window: 10 * time.Minute, since: time.Hour, steps: []step{ok}, attempts: 1},
		"two minutes are one":                     {window: 2 * time.Minute, before: 1, since: time.Minute - 1, steps: []step{ok}, attempts: 1},
		"two minutes are not more":                {window: 2 * time.Minute, before: 1, since: time.Minute, steps: []step{ok}, reason: dlq.ReasonAmbiguous},
		"90 s are 45 s":                           {window: 90 * time.Second, before: 1, since: 45*time.Second - 1, steps: []step{ok}, attempts: 1},
		"90 s are not more":                       {window: 90 * time.Second, before: 1, since: 45 * time.Second, steps: []step{ok}, reason: dlq.ReasonAmbiguous},
		"for ever":                                {window: -1, before: 1, since: 10000 * time.Hour, steps: []step{fails(maybe), ok}, attempts: 2},
		"never":                                   {steps: []step{fails(maybe), ok}, attempts: 1, reason: dlq.ReasonAmbiguous},
		"never, and somebody died with it":        {before: 1, since: time.Hour, steps: []step{fails(down), ok}, attempts: 2},
		"resend sends all the same":               {policy: retry.AmbiguousResend, window: 2, before: 1, since: time.Hour, steps: []step{fails(maybe), ok}, attempts: 2},
		"park parks all the same":                 {policy: retry.AmbiguousPark, window: time.Hour, steps: []step{fails(maybe), ok}, attempts: 1, reason: dlq.ReasonAmbiguous},
		"an operator insists":                     {window: 10 * time.Minute, before: 1, since: time.Hour, force: true, steps: []step{fails(down), ok}, attempts: 2},
		"an operator's is not sent twice":         {window: 10 * time.Minute, before: 1, since: time.Hour, force: true, steps: []step{fails(maybe), ok}, attempts: 1, reason: dlq.ReasonAmbiguous},
		"a slot a nanosecond before":              {window: 10 * time.Minute, before: 1, since: 8 * time.Minute, gate: slot(time.Minute - 1), steps: []step{ok}, attempts: 1},
		"a slot at the end":                       {window: 10 * time.Minute, before: 1, since: 8 * time.Minute, gate: slot(time.Minute), steps: []step{ok}, reason: dlq.ReasonAmbiguous, atOnce: true},
		"a rate whose next slot is at the end":    {window: 10 * time.Minute, before: 1, since: 8 * time.Minute, gate: spaced(time.Minute), steps: []step{ok}, reason: dlq.ReasonAmbiguous, atOnce: true},
		"a rate whose next slot is before it":     {window: 10 * time.Minute, before: 1, since: 8 * time.Minute, gate: spaced(time.Minute - 1), steps: []step{ok}, reason: dlq.ReasonThrottled, atOnce: true},
		"a gate that takes until a moment before": {window: 10 * time.Minute, before: 1, since: 8 * time.Minute, gate: &doorman{takes: time.Minute - 1}, steps: []step{ok}, attempts: 1},
		"a gate that takes until the end":         {window: 10 * time.Minute, before: 1, since: 8 * time.Minute, gate: &doorman{takes: time.Minute}, steps: []step{ok}, reason: dlq.ReasonAmbiguous},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if c.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
				defer cancel()
			}
			first := time.Now().Add(-c.since)
			if c.since > 0 {
				ctx = sinks.WithFirstAttempt(ctx, first)
			}
			cfg := exact(c.max)
			cfg.OnAmbiguous = c.policy
			q, s := &queue{}, windowed{&script{steps: c.steps}, c.window}
			r := retry.NewRetrier(s, cfg, q)
			if c.gate != nil {
				r.Gate = c.gate
			}
			out := r.Carry(ctx, retry.Delivery{Message: sinks.Message{ID: "d", Body: "x"}, Unanswered: c.before, Force: c.force})
			if out.Attempts != c.attempts || len(s.started) != c.attempts || out.Reason != c.reason {
				t.Errorf("%s: %d attempts (%d told), reason %q (%v); want %d, %q", name, len(s.started), out.Attempts, out.Reason, out.Err, c.attempts, c.reason)
			}
			if c.atOnce && out.Elapsed > 0 {
				t.Errorf("%s: it took %v", name, out.Elapsed)
			}
			if g := c.gate; g != nil && g.asked != g.told {
				t.Errorf("%s: %d were let in, and %d told what came of it", name, g.asked, g.told)
			}
			if c.reason == "" {
				return
			}
			if len(q.items) != 1 || q.items[0].Reason != c.reason || q.items[0].Unanswered != c.before+out.Unanswered {
				t.Fatalf("%s: dead letters %+v", name, q.items)
			}
			if got := q.items[0].FirstAttempt(); !got.Equal(first) {
				t.Errorf("%s: its first attempt is kept as %s, want %s", name, got, first)
			}
			if c.attempts == 0 && fault.CodeOf(out.Err) != fault.CodeNotAttempted {
				t.Errorf("%s: %v, want it not attempted", name, out.Err)
			}
		})
	}
}

// What is kept without an attempt, as for a paused sink, was first attempted when it was.
func TestADeadLetterWithoutAnAttemptKeepsTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := time.Now().Add(-time.Hour)
		for name, c := range map[string]struct {
			ctx  context.Context
			want time.Time
		}{
			"there was one": {sinks.WithFirstAttempt(t.Context(), first), first},
			"there was not": {t.Context(), time.Now()},
		} {
			q := &queue{}
			r := retry.NewRetrier(&script{}, exact(1), q)
			r.DeadLetter(c.ctx, retry.Delivery{Message: sinks.Message{ID: "d", Body: "x"}, Unanswered: 1}, dlq.ReasonConfig, errFinal)
			if len(q.items) != 1 || !q.items[0].FirstAttempt().Equal(c.want) {
				t.Errorf("%s: %+v, want it first attempted at %s", name, q.items, c.want)
			}
		}
	})
}
