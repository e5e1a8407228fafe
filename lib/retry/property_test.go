package retry_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// schedules is the number of random schedules that are tried against the promises.
const schedules = "10000"

func TestMain(m *testing.M) {
	flag.Parse()
	explicit := false
	flag.Visit(func(f *flag.Flag) { explicit = explicit || f.Name == "rapid.checks" })
	if !explicit {
		if err := flag.Set("rapid.checks", schedules); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// behaviour is what a sink does in one attempt.
type behaviour string

const (
	succeeds     behaviour = "succeeds"
	transient    behaviour = "transient"
	terminal     behaviour = "terminal"
	ambiguous    behaviour = "ambiguous"
	hangsOn      behaviour = "hangs"            // until its context ends; answers the context's error
	hangsSent    behaviour = "hangs after sent" // until its context ends; ambiguous
	ignores      behaviour = "ignores its context"
	panics       behaviour = "panics"
	retryLater   behaviour = "retry-after"
	rejectsInput behaviour = "invalid"
)

type turn struct {
	Does  behaviour
	After time.Duration // until it answers (or how long it ignores its context)
	Retry time.Duration // Retry-After
}

// schedule is one random history.
type schedule struct {
	Timeout  time.Duration // of the invocation; 0: none
	Cancel   time.Duration // when the caller goes away; 0: never
	Reserve  time.Duration
	Config   retry.Config
	Dedup    time.Duration // 0: never; negative: for ever
	Before   int           // attempts of before that may have arrived
	Since    time.Duration // since the first of them
	Prompt   bool          // says that it honours its context, and does
	Turns    []turn        // the last one repeats
	Store    time.Duration
	StoreErr bool // the DLQ refuses
	LostAck  bool // the DLQ stores and its answer is lost
}

func drawSchedule(t *rapid.T) schedule {
	ms := func(label string, lo, hi int) time.Duration {
		return time.Duration(rapid.IntRange(lo, hi).Draw(t, label)) * time.Millisecond
	}
	s := schedule{
		Timeout: rapid.SampledFrom([]time.Duration{0, 200 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 29 * time.Second, 2 * time.Minute}).Draw(t, "timeout"),
		Reserve: rapid.SampledFrom([]time.Duration{0, 100 * time.Millisecond, time.Second, 5 * time.Second}).Draw(t, "reserve"),
		Config: retry.Config{
			MaxAttempts: rapid.IntRange(1, 6).Draw(t, "max attempts"), BaseBackoff: ms("base", 1, 3000), MaxBackoff: ms("max", 3000, 10000),
			NoJitter: rapid.Bool().Draw(t, "no jitter"), JitterFraction: rapid.Float64Range(0.01, 1).Draw(t, "jitter"), AttemptTimeout: ms("attempt timeout", 1, 15000),
			OnAmbiguous: rapid.SampledFrom([]retry.AmbiguousPolicy{"", retry.AmbiguousPark, retry.AmbiguousResend}).Draw(t, "on ambiguous"),
		},
		Dedup: rapid.SampledFrom([]time.Duration{0, -1, time.Second, 30 * time.Second, 90 * time.Second, 5 * time.Minute}).Draw(t, "dedup"),
		Turns: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) turn {
			return turn{
				Does: rapid.SampledFrom([]behaviour{
					succeeds, transient, transient, terminal, ambiguous, hangsOn, hangsSent, ignores, panics, retryLater, rejectsInput,
				}).Draw(t, "does"),
				After: ms("after", 0, 20000),
				Retry: ms("retry after", 0, 60000),
			}
		}), 1, 6).Draw(t, "turns"),
		Store:    ms("store takes", 0, 1500),
		StoreErr: rapid.IntRange(0, 4).Draw(t, "store fails") == 0,
		LostAck:  rapid.IntRange(0, 4).Draw(t, "answer lost") == 0,
	}
	s.Prompt = !slices.ContainsFunc(s.Turns, func(t turn) bool { return t.Does == ignores }) && rapid.Bool().Draw(t, "prompt")
	if rapid.IntRange(0, 3).Draw(t, "taken over") == 0 {
		s.Before, s.Since = 1, ms("since", 0, 300000)
	}
	if rapid.IntRange(0, 3).Draw(t, "cancels") == 0 {
		s.Cancel = ms("cancel", 1, 20000)
	}
	return s
}

// world is what really happened, seen from outside the Retrier.
type world struct {
	schedule
	start time.Time

	mu       sync.Mutex
	sends    []sendRecord
	stored   int
	item     dlq.Item
	storeCtx context.Context
	storeErr error // of storeCtx when the write began
	storeAt  time.Time
}

type sendRecord struct {
	turn
	began, ended time.Time // ended is zero while it runs
	deadline     time.Time
	err          error
}

func (w *world) Name() string               { return "random" }
func (w *world) DedupWindow() time.Duration { return w.Dedup }

func (w *world) EndsWithContext(sinks.Sink) bool { return w.Prompt }

func (w *world) Send(ctx context.Context, _ sinks.Recipient, _ sinks.Message) error {
	deadline, _ := ctx.Deadline()
	w.mu.Lock()
	n := len(w.sends)
	act := w.Turns[min(n, len(w.Turns)-1)]
	w.sends = append(w.sends, sendRecord{turn: act, began: time.Now(), deadline: deadline})
	w.mu.Unlock()

	err := w.act(ctx, act)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sends[n].ended, w.sends[n].err = time.Now(), err
	if act.Does == panics && err == nil {
		panic("planned")
	}
	return err
}

func (w *world) act(ctx context.Context, act turn) error {
	switch act.Does {
	case hangsOn:
		<-ctx.Done()
		return ctx.Err()
	case hangsSent:
		<-ctx.Done()
		return errUnknown
	case ignores:
		time.Sleep(act.After)
		return errPasses
	}
	timer := time.NewTimer(act.After)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	switch act.Does {
	case transient:
		return errPasses
	case terminal:
		return errFinal
	case ambiguous:
		return errUnknown
	case retryLater:
		return sinks.RetryAfter(errPasses, act.Retry)
	case rejectsInput:
		return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "body"}
	}
	return nil // succeeds; and panics, above
}

// storing is the world's DLQ.
type storing struct {
	dlq.DLQ
	*world
}

func (s storing) Push(ctx context.Context, it dlq.Item) error {
	s.mu.Lock()
	s.storeCtx, s.storeAt, s.storeErr = ctx, time.Now(), ctx.Err()
	s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	unreachable := &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "no answer"}
	timer := time.NewTimer(s.Store)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return unreachable
	case <-timer.C:
	}
	if s.StoreErr {
		return &fault.Error{Code: fault.CodeDLQOverflow, Msg: "full"}
	}
	s.mu.Lock()
	s.stored++
	s.item = it
	s.mu.Unlock()
	if s.LostAck {
		return unreachable
	}
	return nil
}

// play runs a schedule and returns how it broke the promises.
func play(s schedule) (broken []string) {
	w := &world{schedule: s, start: time.Now()}
	ctx := context.Background()
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Timeout)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.Cancel > 0 {
		time.AfterFunc(s.Cancel, cancel)
	}
	r := retry.NewRetrier(w, s.Config, storing{world: w})
	r.Reserve, r.Logger = s.Reserve, quiet
	out := r.Carry(sinks.WithFirstAttempt(ctx, w.start.Add(-s.Since)), retry.Delivery{Message: sinks.Message{ID: "m"}, Unanswered: s.Before})
	elapsed := time.Since(w.start)
	canceled := s.Cancel > 0 && elapsed >= s.Cancel

	w.mu.Lock()
	broken = w.judge(out, elapsed, canceled)
	w.mu.Unlock()
	time.Sleep(time.Minute) // sinks that ignore their context end
	return broken
}

// judge holds what happened against the promises. It knows nothing of the Retrier's
// code: only of what was sent, stored and answered.
func (w *world) judge(out retry.Outcome, elapsed time.Duration, canceled bool) (broken []string) {
	fail := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	cfg := w.Config.Normalize()
	sent := len(w.sends)
	var last sendRecord
	if sent > 0 {
		last = w.sends[sent-1]
	}

	// P1: every delivery has a fate, and it is the true one.
	arrived := sent > 0 && last.Does == succeeds && !last.ended.IsZero() && last.err == nil
	switch out.Status {
	case retry.StatusDelivered:
		if !arrived {
			fail("delivered, though no attempt succeeded")
		}
		if w.stored > 0 {
			fail("delivered and stored")
		}
	case retry.StatusDeadLettered:
		if w.stored != 1 {
			fail("dead-lettered, but stored %d times: acknowledged too early", w.stored)
		}
		if w.item.DeliveryID != "m" || w.item.Attempts != sent || w.item.Reason != out.Reason || w.item.LastError == "" {
			fail("the dead letter does not tell what happened: %+v", w.item)
		}
		if out.Error() != nil {
			fail("dead-lettered with an error: %v", out.Error())
		}
	case retry.StatusHandedBack:
		if out.Error() == nil {
			fail("handed back without an error: lost")
		}
		if w.stored > 0 && !w.LostAck {
			fail("handed back and stored without a lost answer")
		}
	default:
		fail("status %q", out.Status)
	}
	if arrived && out.Status != retry.StatusDelivered {
		fail("an attempt succeeded, but the status is %s", out.Status)
	}

	// Attempts are what was really made, and never more than allowed.
	if out.Attempts != sent {
		fail("reported %d attempts, made %d", out.Attempts, sent)
	}
	if sent > cfg.MaxAttempts {
		fail("%d attempts, %d are allowed", sent, cfg.MaxAttempts)
	}

	// Nothing final is tried again; waits keep to the backoff and to Retry-After.
	for i, a := range w.sends[:max(sent-1, 0)] {
		resend := cfg.OnAmbiguous == retry.AmbiguousResend || cfg.OnAmbiguous == "" && w.Dedup != 0
		unknown := a.Does == ambiguous && errors.Is(a.err, errUnknown) || a.Does == hangsSent ||
			a.Does == ignores && (a.ended.IsZero() || a.ended.After(w.sends[i+1].began))
		switch {
		case (a.Does == terminal || a.Does == panics || a.Does == rejectsInput || a.Does == succeeds) && !errors.Is(a.err, context.DeadlineExceeded):
			fail("tried again after %q", a.Does)
		case unknown && !resend:
			fail("tried again after an ambiguous outcome that must be parked")
		}
		if a.Does == ignores {
			continue // it may have been left behind before it ended
		}
		wait := w.sends[i+1].began.Sub(a.ended)
		base := min(cfg.BaseBackoff<<i, cfg.MaxBackoff)
		lo, hi := float64(base)*(1-cfg.JitterFraction), float64(cfg.MaxBackoff)*(1+cfg.JitterFraction)
		if float64(wait) < lo-2 || float64(wait) > hi+2 {
			fail("waited %s before attempt %d, want %s to %s", wait, i+2, time.Duration(lo), time.Duration(hi))
		}
		if a.Does == retryLater && !errors.Is(a.err, context.DeadlineExceeded) && wait < a.Retry {
			fail("waited %s where the receiver asked for %s", wait, a.Retry)
		}
	}

	// What may have arrived is sent while its receiver surely recognises it, and is an operator's then.
	recognised := w.start.Add(-w.Since).Add(max(w.Dedup-time.Minute, w.Dedup/2))
	maybe := w.Before
	for i, a := range w.sends {
		if maybe > 0 && cfg.OnAmbiguous == "" && w.Dedup > 0 && !a.began.Before(recognised) {
			fail("attempt %d began %s after its receiver may have forgotten it", i+1, a.began.Sub(recognised))
		}
		if errors.Is(a.err, errUnknown) || a.ended.IsZero() {
			maybe++
		}
	}
	if out.Status == retry.StatusDeadLettered && w.item.Unanswered != w.Before+out.Unanswered {
		fail("%d unanswered are kept, want %d of before and %d", w.item.Unanswered, w.Before, out.Unanswered)
	}

	// A receiver's Retry-After reaches the dead letter.
	if w.stored == 1 && last.Does == retryLater && !last.ended.IsZero() && sinks.RetryAfterOf(last.err) > 0 {
		if want := last.ended.Add(last.Retry); !w.item.NotBefore.Equal(want) {
			fail("not before %s, the receiver asked for %s", w.item.NotBefore, want)
		}
	}

	// The dead-letter write has a live context and time of its own.
	if out.Status != retry.StatusDelivered {
		if w.storeCtx == nil {
			fail("no dead-letter write was tried")
			return broken
		}
		if end, ok := w.storeCtx.Deadline(); !ok || end.Sub(w.storeAt) <= 0 || w.storeErr != nil {
			fail("the dead-letter write began on an ended or endless context")
		}
	}

	// P2: the answer comes in time, and no attempt starts that cannot end in time.
	if w.Timeout == 0 {
		return broken
	}
	deadline := w.start.Add(w.Timeout)
	if elapsed >= w.Timeout {
		fail("answered after %s of %s", elapsed, w.Timeout)
	}
	if out.Status != retry.StatusDelivered && !canceled {
		reserve := w.Reserve
		if reserve == 0 {
			reserve = retry.DefaultReserve
		}
		reserve = min(reserve, w.Timeout/4)
		if left := deadline.Sub(w.storeAt); left < reserve*3/4 {
			fail("only %s of the reserve %s were left for the dead-letter write", left, reserve)
		}
	}
	for i, a := range w.sends {
		if !a.deadline.Before(deadline) {
			fail("attempt %d may run to the deadline", i+1)
		}
		if !a.began.Before(a.deadline) {
			fail("attempt %d started after its own end", i+1)
		}
	}
	return broken
}

func TestNoScheduleBreaksThePromises(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSchedule(rt)
		var broken []string
		synctest.Test(t, func(*testing.T) { broken = play(s) })
		for _, b := range broken {
			rt.Errorf("%s", b)
		}
	})
}
