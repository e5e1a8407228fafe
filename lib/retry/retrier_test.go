package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// script is a sink that plays its steps in turn and repeats the last one.
type script struct {
	mu      sync.Mutex
	steps   []step
	started []time.Time
	dedup   bool
	got     []sinks.Message
}

type step func(ctx context.Context) error

func (s *script) Name() string       { return "fake" }
func (s *script) Deduplicates() bool { return s.dedup }
func (s *script) Send(ctx context.Context, _ sinks.Recipient, m sinks.Message) error {
	s.mu.Lock()
	n := len(s.started)
	s.started = append(s.started, time.Now())
	s.got = append(s.got, m)
	s.mu.Unlock()
	return s.steps[min(n, len(s.steps)-1)](ctx)
}

func ok(context.Context) error { return nil }
func fails(err error) step     { return func(context.Context) error { return err } }
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// queue is a DLQ that records its pushes.
type queue struct {
	dlq.DLQ
	err    error
	takes  time.Duration
	mu     sync.Mutex
	items  []dlq.Item
	ctxErr error
}

func (q *queue) Push(ctx context.Context, it dlq.Item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ctxErr = ctx.Err()
	if q.takes > 0 {
		select {
		case <-time.After(q.takes):
		case <-ctx.Done():
			return &fault.Error{Code: fault.CodeDLQUnavailable, Cause: ctx.Err()}
		}
	}
	if q.err != nil {
		return q.err
	}
	q.items = append(q.items, it)
	return nil
}

var quiet = slog.New(slog.DiscardHandler)

var (
	errPasses  = sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	errFinal   = sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 404"})
	errUnknown = sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer"})
)

func exact(maxAttempts int) retry.Config {
	return retry.Config{MaxAttempts: maxAttempts, BaseBackoff: time.Second, NoJitter: true}
}

func TestDeliverMakesTheAttemptsItReports(t *testing.T) {
	tests := []struct {
		name     string
		steps    []step
		max      int
		status   retry.Status
		reason   dlq.Reason
		attempts int
		waited   time.Duration
	}{
		{"delivered at once", []step{ok}, 5, retry.StatusDelivered, "", 1, 0},
		{"recovers on the third", []step{fails(errPasses), fails(errPasses), ok}, 5, retry.StatusDelivered, "", 3, 3 * time.Second},
		{"terminal at once", []step{fails(errFinal)}, 5, retry.StatusDeadLettered, dlq.ReasonTerminal, 1, 0},
		{"terminal after transient", []step{fails(errPasses), fails(errFinal)}, 5, retry.StatusDeadLettered, dlq.ReasonTerminal, 2, time.Second},
		{"exhausted", []step{fails(errPasses)}, 4, retry.StatusDeadLettered, dlq.ReasonExhausted, 4, 7 * time.Second},
		{"one attempt disables retry", []step{fails(errPasses)}, 1, retry.StatusDeadLettered, dlq.ReasonExhausted, 1, 0},
		{"unmarked and unknown is terminal", []step{fails(errors.New("odd"))}, 5, retry.StatusDeadLettered, dlq.ReasonTerminal, 1, 0},
		{"bad configuration", []step{fails(sinks.Terminal(&fault.Error{Code: fault.CodeSinkConfigInvalid}))}, 5, retry.StatusDeadLettered, dlq.ReasonConfig, 1, 0},
		{"bad message", []step{fails(&fault.Error{Code: fault.CodeInvalidArgument})}, 5, retry.StatusDeadLettered, dlq.ReasonInvalid, 1, 0},
		{"panic", []step{func(context.Context) error { panic("boom") }}, 5, retry.StatusDeadLettered, dlq.ReasonTerminal, 1, 0},
		{"attempt time-out is transient", []step{hangs, ok}, 5, retry.StatusDelivered, "", 2, 11 * time.Second},
		{"every attempt times out", []step{hangs}, 2, retry.StatusDeadLettered, dlq.ReasonExhausted, 2, 21 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink, q := &script{steps: tt.steps}, &queue{}
				out := retry.NewRetrier(sink, exact(tt.max), q).Deliver(t.Context(), nil, sinks.Message{ID: "m1", Body: "x"})
				if out.Status != tt.status || out.Reason != tt.reason || out.Attempts != tt.attempts {
					t.Errorf("got %s %q after %d attempts, want %s %q after %d", out.Status, out.Reason, out.Attempts, tt.status, tt.reason, tt.attempts)
				}
				if out.Attempts != len(sink.started) {
					t.Errorf("reported %d attempts, made %d", out.Attempts, len(sink.started))
				}
				if out.Elapsed != tt.waited {
					t.Errorf("elapsed %s, want %s", out.Elapsed, tt.waited)
				}
				if tt.status == retry.StatusDelivered {
					if out.Err != nil || len(q.items) != 0 {
						t.Errorf("delivered, yet error %v and %d dead letters", out.Err, len(q.items))
					}
					return
				}
				if len(q.items) != 1 {
					t.Fatalf("%d dead letters, want 1", len(q.items))
				}
				it := q.items[0]
				if it.DeliveryID != "m1" || it.Sink != "fake" || it.Attempts != tt.attempts || it.Reason != tt.reason || it.LastError == "" || it.Message.Body != "x" {
					t.Errorf("dead letter %+v does not tell the failure", it)
				}
			})
		})
	}
}

func TestSendReturnsNilWhenTheFailureWasRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := retry.NewRetrier(&script{steps: []step{fails(errFinal)}}, exact(1), &queue{}).Send(t.Context(), nil, sinks.Message{}); err != nil {
			t.Errorf("Send with a working DLQ: %v, want nil", err)
		}
		err := retry.NewRetrier(&script{steps: []step{fails(errFinal)}}, exact(1), nil).Send(t.Context(), nil, sinks.Message{})
		if !errors.Is(err, errFinal) {
			t.Errorf("Send without a DLQ: %v, want the sink's error", err)
		}
		full := &fault.Error{Code: fault.CodeDLQOverflow, Msg: "full"}
		err = retry.NewRetrier(&script{steps: []step{fails(errFinal)}}, exact(1), &queue{err: full}).Send(t.Context(), nil, sinks.Message{})
		if fault.CodeOf(err) != fault.CodeDLQOverflow || !errors.Is(err, full) || !errors.Is(err, errFinal) {
			t.Errorf("Send with a full DLQ: %v, want SINK_DLQ_OVERFLOW wrapping both causes", err)
		}
	})
}

func TestAMessageWithoutIDKeepsOneThroughItsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, q := &script{steps: []step{fails(errPasses)}}, &queue{}
		out := retry.NewRetrier(sink, exact(3), q).Deliver(t.Context(), nil, sinks.Message{})
		if fault.CheckID(out.DeliveryID) != nil {
			t.Fatalf("delivery id %q is not a valid id", out.DeliveryID)
		}
		for _, m := range sink.got {
			if m.ID != out.DeliveryID {
				t.Errorf("an attempt carried id %q, want %q", m.ID, out.DeliveryID)
			}
		}
		if q.items[0].DeliveryID != out.DeliveryID || q.items[0].Message.ID != out.DeliveryID {
			t.Errorf("the dead letter carries %q, want %q", q.items[0].DeliveryID, out.DeliveryID)
		}
	})
}

// P2: the answer comes before the deadline, with the failure already persisted.
func TestAHangingSinkIsDeadLetteredBeforeTheDeadline(t *testing.T) {
	ambiguousHang := func(ctx context.Context) error { <-ctx.Done(); return errUnknown }
	careless := func(context.Context) error { time.Sleep(time.Hour); return nil }
	for _, timeout := range []time.Duration{400 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 29 * time.Second, 15 * time.Minute} {
		for name, tt := range map[string]struct {
			step   step
			dedup  bool
			reason dlq.Reason
		}{
			"honours its context":             {hangs, false, dlq.ReasonDeadline},
			"ambiguous, resent":               {ambiguousHang, true, dlq.ReasonDeadline},
			"ambiguous wins over deadline":    {ambiguousHang, false, dlq.ReasonAmbiguous},
			"ignores its context, no dedup":   {careless, false, dlq.ReasonAmbiguous},
			"ignores its context, with dedup": {careless, true, dlq.ReasonDeadline},
		} {
			t.Run(fmt.Sprintf("%s in %s", name, timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), timeout)
					defer cancel()
					sink, q := &script{steps: []step{tt.step}, dedup: tt.dedup}, &queue{}
					cfg := exact(1000)
					out := retry.NewRetrier(sink, cfg, q).Deliver(ctx, nil, sinks.Message{ID: "m"})
					if out.Elapsed >= timeout {
						t.Errorf("answered after %s of %s", out.Elapsed, timeout)
					}
					if out.Status != retry.StatusDeadLettered || out.Reason != tt.reason || len(q.items) != 1 {
						t.Errorf("got %s %q and %d dead letters, want dead_lettered %q and 1", out.Status, out.Reason, len(q.items), tt.reason)
					}
					if q.ctxErr != nil {
						t.Errorf("the dead-letter write began on an ended context: %v", q.ctxErr)
					}
					if out.Attempts < 1 {
						t.Errorf("no attempt was made in %s", timeout)
					}
					time.Sleep(2 * time.Hour) // a sink left behind ends at last
				})
			})
		}
	}
}

func TestNoAttemptStartsThatCannotEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 3 s: reserve 750 ms, so attempts end at 2.25 s; they start at 0 and 1 s, and
		// the third would start at 3 s.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		sink, q := &script{steps: []step{fails(errPasses)}}, &queue{}
		out := retry.NewRetrier(sink, exact(10), q).Deliver(ctx, nil, sinks.Message{ID: "m"})
		if out.Reason != dlq.ReasonDeadline || out.Attempts != 2 {
			t.Errorf("got %q after %d attempts, want deadline after 2", out.Reason, out.Attempts)
		}
		if out.Elapsed != time.Second {
			t.Errorf("waited %s for an attempt that cannot start, want to stop at 1s", out.Elapsed)
		}
		if !errors.Is(out.Err, errPasses) {
			t.Errorf("the last attempt's error was lost: %v", out.Err)
		}
		if last := sink.started[len(sink.started)-1].Sub(begin); last != time.Second {
			t.Errorf("the last attempt started at %s, want 1s", last)
		}
	})
}

func TestADeadlineTooShortForAnyAttemptStillStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		<-ctx.Done()
		sink, q := &script{steps: []step{ok}}, &queue{}
		out := retry.NewRetrier(sink, exact(3), q).Deliver(ctx, nil, sinks.Message{ID: "m"})
		if out.Attempts != 0 || len(sink.started) != 0 || out.Reason != dlq.ReasonDeadline || len(q.items) != 1 {
			t.Errorf("got %d attempts, reason %q, %d dead letters; want 0, deadline, 1", out.Attempts, out.Reason, len(q.items))
		}
		if fault.CodeOf(out.Err) != fault.CodeNotAttempted {
			t.Errorf("error %v, want NOT_ATTEMPTED", out.Err)
		}
	})
}

// The caller goes away while an attempt runs, and while waiting: stored all the same.
func TestACanceledCallerIsDeadLetteredOnALiveContext(t *testing.T) {
	for name, tt := range map[string]struct {
		step   step
		cancel time.Duration
	}{
		"during an attempt": {hangs, 500 * time.Millisecond},
		"during a wait":     {fails(errPasses), 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(tt.cancel, cancel)
				q := &queue{takes: 200 * time.Millisecond}
				out := retry.NewRetrier(&script{steps: []step{tt.step}}, exact(5), q).Deliver(ctx, nil, sinks.Message{ID: "m"})
				if out.Status != retry.StatusDeadLettered || out.Reason != dlq.ReasonCanceled || q.ctxErr != nil {
					t.Errorf("got %s %q, push context error %v; want dead_lettered, canceled, nil", out.Status, out.Reason, q.ctxErr)
				}
				if out.Elapsed != tt.cancel+q.takes {
					t.Errorf("took %s, want the cancellation to end it at once", out.Elapsed)
				}
			})
		})
	}
}

func TestAnAnswerThatCameIsNotOverruledByTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		late := func(ctx context.Context) error { <-ctx.Done(); return errFinal }
		out := retry.NewRetrier(&script{steps: []step{late}}, exact(5), &queue{}).Deliver(ctx, nil, sinks.Message{ID: "m"})
		if out.Reason != dlq.ReasonTerminal {
			t.Errorf("reason %q, want terminal", out.Reason)
		}
	})
}

// With MaxWait nothing waits longer in paid time: the schedule does, and knows until when.
func TestALongWaitIsLeftToTheSchedule(t *testing.T) {
	for name, tt := range map[string]struct {
		steps     []step
		attempts  int
		reason    dlq.Reason
		elapsed   time.Duration
		notBefore time.Duration // from the start
	}{
		"waits up to it":        {[]step{fails(errPasses), fails(errPasses), ok}, 3, "", 3 * time.Second, 0},
		"a longer backoff":      {[]step{fails(errPasses), fails(errPasses), fails(errPasses)}, 3, dlq.ReasonDeadline, 3 * time.Second, 7 * time.Second},
		"a longer Retry-After":  {[]step{fails(sinks.RetryAfter(errPasses, 3*time.Second))}, 1, dlq.ReasonThrottled, 0, 3 * time.Second},
		"a shorter Retry-After": {[]step{fails(sinks.RetryAfter(errPasses, 2*time.Second)), ok}, 2, "", 2 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				cfg := exact(5)
				cfg.MaxWait = 2 * time.Second
				q := &queue{}
				out := retry.NewRetrier(&script{steps: tt.steps}, cfg, q).Deliver(t.Context(), nil, sinks.Message{ID: "m"})
				if out.Attempts != tt.attempts || out.Reason != tt.reason || out.Elapsed != tt.elapsed {
					t.Errorf("%d attempts in %s, reason %q; want %d in %s, %q", out.Attempts, out.Elapsed, out.Reason, tt.attempts, tt.elapsed, tt.reason)
				}
				if tt.notBefore > 0 && (len(q.items) != 1 || !q.items[0].NotBefore.Equal(start.Add(tt.notBefore))) {
					t.Errorf("stored %+v, want one that is due at %s", q.items, start.Add(tt.notBefore))
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	after := func(d time.Duration) step { return fails(sinks.RetryAfter(errPasses, d)) }
	tests := []struct {
		name      string
		steps     []step
		timeout   time.Duration
		status    retry.Status
		reason    dlq.Reason
		attempts  int
		elapsed   time.Duration
		notBefore time.Duration // from the start; 0: none
	}{
		{"is waited for", []step{after(7 * time.Second), ok}, time.Minute, retry.StatusDelivered, "", 2, 7 * time.Second, 0},
		{"never shortens a backoff", []step{after(time.Millisecond), ok}, time.Minute, retry.StatusDelivered, "", 2, time.Second, 0},
		{"that does not fit dead-letters now", []step{after(20 * time.Second)}, 15 * time.Second, retry.StatusDeadLettered, dlq.ReasonThrottled, 1, 0, 20 * time.Second},
		{"longer than any backoff dead-letters now", []step{after(time.Hour)}, 2 * time.Hour, retry.StatusDeadLettered, dlq.ReasonThrottled, 1, 0, time.Hour},
		{"is capped at 24 h", []step{after(1000 * time.Hour)}, time.Minute, retry.StatusDeadLettered, dlq.ReasonThrottled, 1, 0, 24 * time.Hour},
		{"of the last attempt is kept", []step{fails(errPasses), after(5 * time.Second)}, time.Minute, retry.StatusDeadLettered, dlq.ReasonExhausted, 2, time.Second, 6 * time.Second},
		{"of an earlier attempt is not", []step{after(2 * time.Second), fails(errPasses)}, time.Minute, retry.StatusDeadLettered, dlq.ReasonExhausted, 2, 2 * time.Second, 0},
		{"that is negative is none", []step{after(-time.Second), ok}, time.Minute, retry.StatusDelivered, "", 2, time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				start := time.Now()
				q := &queue{}
				out := retry.NewRetrier(&script{steps: tt.steps}, exact(2), q).Deliver(ctx, nil, sinks.Message{ID: "m"})
				if out.Status != tt.status || out.Reason != tt.reason || out.Attempts != tt.attempts || out.Elapsed != tt.elapsed {
					t.Errorf("got %s %q, %d attempts in %s; want %s %q, %d in %s", out.Status, out.Reason, out.Attempts, out.Elapsed, tt.status, tt.reason, tt.attempts, tt.elapsed)
				}
				var want time.Time
				if tt.notBefore > 0 {
					want = start.Add(tt.notBefore)
				}
				if !out.NotBefore.Equal(want) || len(q.items) == 1 && !q.items[0].NotBefore.Equal(want) {
					t.Errorf("not before %v (stored %v), want %v", out.NotBefore, q.items, want)
				}
			})
		})
	}
}

func TestAmbiguousOutcomesFollowThePolicy(t *testing.T) {
	tests := []struct {
		name     string
		dedup    bool
		policy   retry.AmbiguousPolicy
		attempts int
		reason   dlq.Reason
	}{
		{"by default a sink that deduplicates resends", true, "", 3, dlq.ReasonExhausted},
		{"by default any other parks", false, "", 1, dlq.ReasonAmbiguous},
		{"resend overrides", false, retry.AmbiguousResend, 3, dlq.ReasonExhausted},
		{"park overrides", true, retry.AmbiguousPark, 1, dlq.ReasonAmbiguous},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := exact(3)
				cfg.OnAmbiguous = tt.policy
				out := retry.NewRetrier(&script{steps: []step{fails(errUnknown)}, dedup: tt.dedup}, cfg, &queue{}).Deliver(t.Context(), nil, sinks.Message{ID: "m"})
				if out.Attempts != tt.attempts || out.Reason != tt.reason {
					t.Errorf("got %d attempts, %q; want %d, %q", out.Attempts, out.Reason, tt.attempts, tt.reason)
				}
			})
		})
	}
}

// A caller with a queue of its own keeps the failures that it picks, as they would have
// been stored; the others are dead letters.
func TestWhatTheCallerKeepsIsNotStored(t *testing.T) {
	for _, tt := range []struct {
		err    error
		reason dlq.Reason
		kept   bool
	}{
		{errPasses, dlq.ReasonExhausted, true},
		{errFinal, dlq.ReasonTerminal, false},
	} {
		q := &queue{}
		r := retry.NewRetrier(&script{steps: []step{fails(tt.err)}}, exact(1), q)
		r.HandBack = dlq.Reason.Due
		out := r.Deliver(t.Context(), nil, sinks.Message{ID: "m"})
		if out.Reason != tt.reason || (out.Status == retry.StatusHandedBack) != tt.kept || (len(q.items) == 0) != tt.kept || out.Item.DeliveryID != "m" {
			t.Errorf("%v: %+v with %d dead letters; want it kept by the caller: %v", tt.err, out, len(q.items), tt.kept)
		}
		if tt.kept != errors.Is(out.Error(), tt.err) {
			t.Errorf("%v: the outcome's error is %v", tt.err, out.Error())
		}
		paused := r.DeadLetter(t.Context(), retry.Delivery{Message: sinks.Message{ID: "p"}}, dlq.ReasonConfig, errPasses)
		if paused.Status != retry.StatusHandedBack || paused.Error() == nil {
			t.Errorf("not attempted: %+v, want it kept by the caller", paused)
		}
	}
}

// A DLQ that is slower than the reserve hands the message back before the deadline.
func TestASlowDLQHandsBackInTime(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 3 * time.Second, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			out := retry.NewRetrier(&script{steps: []step{hangs}}, exact(5), &queue{takes: time.Hour}).Deliver(ctx, nil, sinks.Message{ID: "m"})
			if out.Status != retry.StatusHandedBack || fault.CodeOf(out.Error()) != fault.CodeDLQUnavailable {
				t.Errorf("got %s, %v; want handed_back, SINK_DLQ_UNAVAILABLE", out.Status, out.Error())
			}
			if out.Elapsed >= timeout {
				t.Errorf("answered after %s of %s", out.Elapsed, timeout)
			}
			if !strings.Contains(out.Error().Error(), "m failed (deadline)") {
				t.Errorf("the error does not name the delivery: %v", out.Error())
			}
		})
	}
}

// What failed early has much time left: a store that is away must not cost all of it.
func TestAStoreThatIsAwayCostsTwiceTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 27*time.Second)
		defer cancel()
		out := retry.NewRetrier(&script{steps: []step{fails(errFinal)}}, exact(5), &queue{takes: time.Hour}).Deliver(ctx, nil, sinks.Message{ID: "m"})
		if out.Status != retry.StatusHandedBack || out.Elapsed > 2*retry.DefaultReserve {
			t.Errorf("%s after %s, want handed_back after %s at most", out.Status, out.Elapsed, 2*retry.DefaultReserve)
		}
	})
}

func TestDeliveriesOfOneBudgetKeepItsReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		budget := retry.NewBudget(ctx, 2*time.Second)
		time.Sleep(17 * time.Second)
		out := retry.NewRetrier(&script{steps: []step{hangs}}, exact(5), &queue{}).Carry(ctx, retry.Delivery{Message: sinks.Message{ID: "m"}, Budget: budget})
		if out.Elapsed != time.Second {
			t.Errorf("a late delivery ran for %s, want 1s: the reserve is the invocation's", out.Elapsed)
		}
	})
}

func TestWrapSinkNeverWrapsTwice(t *testing.T) {
	if s := retry.WrapSink(nil, retry.Config{}, nil); s != nil {
		t.Errorf("WrapSink of nil is %v, want nil: Register refuses it", s)
	}
	once := retry.WrapSink(&script{}, retry.Config{}, nil)
	if once.Name() != "fake" {
		t.Errorf("name %q, want the inner one", once.Name())
	}
	if twice := retry.WrapSink(once, retry.Config{}, nil); twice != once {
		t.Error("WrapSink wrapped a Retrier")
	}
	if twice := retry.WrapSink(outer{once}, retry.Config{}, nil); twice != (outer{once}) {
		t.Error("WrapSink wrapped a sink that contains a Retrier")
	}
}

type outer struct{ sinks.Sink }

func (o outer) Unwrap() sinks.Sink { return o.Sink }

func TestARecipientThatCannotBeStoredIsNeverReplayedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{}
		out := retry.NewRetrier(&script{steps: []step{fails(errPasses)}}, exact(1), q).Deliver(t.Context(), make(chan int), sinks.Message{ID: "m"})
		if out.Status != retry.StatusDeadLettered || q.items[0].Reason != dlq.ReasonInvalid {
			t.Errorf("got %s %q, want dead_lettered invalid", out.Status, q.items[0].Reason)
		}
	})
}

// loud is a recipient that cannot be stored: it panics.
type loud struct{}

func (loud) MarshalJSON() ([]byte, error) { panic("T0K3N") }

// moody is an error that panics when it is asked whether it passes.
type moody struct{ error }

func (moody) Transient() bool { panic("T0K3N") }

// Whatever of a sink's panics, or ends its goroutine, the message is kept.
func TestWhatPanicsBesideSendCostsNoMessage(t *testing.T) {
	var none *fault.Error // as an error it is not nil, and its text panics
	for name, tt := range map[string]struct {
		step   step
		to     sinks.Recipient
		judge  func(error) bool
		reason dlq.Reason
	}{
		"an error that is a nil pointer":           {step: fails(none), reason: dlq.ReasonTerminal},
		"an error that panics when it is asked":    {step: fails(moody{errors.New("odd")}), reason: dlq.ReasonTerminal},
		"IsTransientFn":                            {step: fails(errPasses), judge: func(error) bool { panic("T0K3N") }, reason: dlq.ReasonTerminal},
		"a recipient's MarshalJSON":                {step: fails(errPasses), to: loud{}, reason: dlq.ReasonInvalid},
		"Send ends its goroutine, as FailNow does": {step: func(context.Context) error { runtime.Goexit(); return nil }, reason: dlq.ReasonTerminal},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &queue{}
				r := retry.NewRetrier(&script{steps: []step{tt.step}}, exact(1), q)
				r.IsTransientFn, r.Logger = tt.judge, quiet
				out := r.Deliver(t.Context(), tt.to, sinks.Message{ID: "m", Body: "x"})
				if out.Status != retry.StatusDeadLettered || out.Reason != tt.reason || out.Attempts != 1 || len(q.items) != 1 {
					t.Fatalf("got %s %q after %d attempts, %d dead letters; want one, %q, after 1", out.Status, out.Reason, out.Attempts, len(q.items), tt.reason)
				}
				if it := q.items[0]; it.Message.Body != "x" || it.Attempts != 1 || strings.Contains(it.LastError, "T0K3N") {
					t.Errorf("dead letter %+v", it)
				}
			})
		})
	}
}

func TestWhatIsHandedBackHasACode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		odd := errors.New("odd")
		out := retry.NewRetrier(&script{steps: []step{fails(odd)}}, exact(1), nil).Deliver(t.Context(), nil, sinks.Message{ID: "m"})
		if err := out.Error(); fault.CodeOf(err) != fault.CodeSinkUnavailable || !errors.Is(err, odd) {
			t.Errorf("got %v, want %s wrapping the sink's error", err, fault.CodeSinkUnavailable)
		}
		if out.Err.Error() != "odd" {
			t.Errorf("the outcome says %q, want the sink's own words", out.Err)
		}
	})
}

// embedding is an embedder's sink: by embedding it has all methods of another one, and a
// Send of its own.
type embedding struct{ *prompt }

func (embedding) Send(context.Context, sinks.Recipient, sinks.Message) error {
	time.Sleep(time.Hour)
	return nil
}

// prompt is a sink that returns when its context ends.
type prompt struct{ *script }

func (p *prompt) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(p) }

// A sink that breaks its promise uses up the reserve: the write has a chance all the same.
func TestADeadLetterIsWrittenHoweverLateItsSinkReturns(t *testing.T) {
	for name, tt := range map[string]struct{ returns, write time.Duration }{
		"within the reserve's last quarter": {19800 * time.Millisecond, 100 * time.Millisecond},
		"at the deadline":                   {20 * time.Second, 80 * time.Millisecond},
		"after the deadline":                {time.Minute, 80 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				late := func(context.Context) error { time.Sleep(tt.returns); return errFinal }
				q := &queue{takes: tt.write}
				out := retry.NewRetrier(&prompt{&script{steps: []step{late}}}, exact(1), q).Deliver(ctx, nil, sinks.Message{ID: "m"})
				if out.Status != retry.StatusDeadLettered || len(q.items) != 1 {
					t.Errorf("got %s, %v and %d dead letters; want it stored", out.Status, out.StoreErr, len(q.items))
				}
			})
		})
	}
}

func TestEndsWithContextIsNotInherited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		q := &queue{}
		out := retry.NewRetrier(embedding{&prompt{&script{steps: []step{ok}}}}, exact(5), q).Deliver(ctx, nil, sinks.Message{ID: "m"})
		if out.Elapsed >= 10*time.Second || out.Status != retry.StatusDeadLettered || out.Reason != dlq.ReasonAmbiguous {
			t.Errorf("got %s %q after %s, want dead_lettered ambiguous before the deadline", out.Status, out.Reason, out.Elapsed)
		}
		time.Sleep(2 * time.Hour) // the sink left behind ends at last
	})
	synctest.Test(t, func(t *testing.T) {
		out := retry.NewRetrier(&prompt{&script{steps: []step{hangs, ok}}}, exact(5), &queue{}).Deliver(t.Context(), nil, sinks.Message{ID: "m"})
		if out.Status != retry.StatusDelivered || out.Attempts != 2 {
			t.Errorf("got %s after %d attempts, want delivered after 2", out.Status, out.Attempts)
		}
	})
}

// The errors of net/http show whole URLs, and a caller's may be a secret: a kind that
// passes them on shows scheme and host alone, in the outcome and in the dead letter.
func TestURLsInASinksErrorsAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := &url.Error{Op: "Post", URL: "https://hooks.example/services/T0K3N?key=T0K3N", Err: io.ErrUnexpectedEOF}
		q := &queue{}
		r := retry.NewRetrier(&script{steps: []step{fails(cause)}}, retry.Config{MaxAttempts: 2}, q)
		out := r.Deliver(t.Context(), nil, sinks.Message{ID: "d", Body: "x"})
		if out.Attempts != 2 || out.Reason != dlq.ReasonExhausted {
			t.Errorf("%d attempts, reason %s, want 2, exhausted: the error is still the sink's", out.Attempts, out.Reason)
		}
		const want = `Post "https://hooks.example": unexpected EOF`
		if out.Err.Error() != want || len(q.items) != 1 || q.items[0].LastError != want {
			t.Errorf("the outcome says %q, the dead letters are %+v, want %q", out.Err, q.items, want)
		}
	})
}
