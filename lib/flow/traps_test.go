package flow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// line is some processes, a receiver, and what they share.
type line struct {
	*receiver
	store flow.Store
	queue *dlq.Memory
	all   []*retry.Retrier
	n     int
}

func newLine(processes int, answer func(int64) error) *line {
	l := &line{receiver: &receiver{answer: answer}, store: &flow.Memory{}, queue: dlq.NewMemory()}
	for range processes {
		l.all = append(l.all, process(l.store, l.receiver, l.queue))
	}
	return l
}

// send delivers one message by one of the processes.
func (l *line) send(process int) retry.Outcome {
	l.n++
	return deliver(l.all[process], fmt.Sprint("m", l.n))
}

// breaks sends until the breaker is open, and returns how many attempts that took.
func (l *line) breaks(t *testing.T) int64 {
	t.Helper()
	before := l.receiver.n.Load()
	for i := 0; !opened(t, l.store); i++ {
		if i == 1000 {
			t.Fatal("1000 deliveries failed, and the breaker is closed")
		}
		l.send(i % len(l.all))
		time.Sleep(100 * time.Millisecond)
	}
	return l.receiver.n.Load() - before
}

func answers(err error) func(int64) error { return func(int64) error { return err } }

// What the breaker refuses is neither an attempt nor a failure: it is stored, and not due
// before the receiver is tried again.
func TestARefusalIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(3, answers(errDown))
		l.breaks(t)
		var before flow.Seen
		time.Sleep(3 * time.Second) // until all know
		l.send(0)                   // a probe
		before, _ = l.store.Look(t.Context(), "ops")
		attempts := l.receiver.n.Load()
		start := time.Now()
		for i := range 50 {
			out := l.send(i % 3)
			if out.Status != retry.StatusDeadLettered || out.Reason != dlq.ReasonOpen || out.Attempts != 0 || !out.NotBefore.After(start) {
				t.Fatalf("%+v, want a dead letter with reason open, no attempt, and not due at once", out)
			}
		}
		after, _ := l.store.Look(t.Context(), "ops")
		if l.receiver.n.Load() != attempts || before.States["sink"] != after.States["sink"] || time.Since(start) > 0 {
			t.Errorf("%d attempts in %s, and the state\n%s\n%s\nwant none, no time, and the same", l.receiver.n.Load()-attempts, time.Since(start), before.States["sink"], after.States["sink"])
		}
	})
}

// Without a queue what the breaker refuses is the caller's still: no limiter drops the only
// copy.
func TestARefusalWithoutAQueueIsHandedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(3, answers(errDown))
		l.breaks(t)
		l.all[0].DLQ = nil
		out := l.send(0)
		if out.Status != retry.StatusHandedBack || out.Error() == nil || fault.CodeOf(out.Err) != fault.CodeNotAttempted {
			t.Errorf("%+v, want it handed back, not attempted", out)
		}
	})
}

// Once a probe was answered, attempts go again in steps: one at once, two, four, in the whole
// system and not in each process.
func TestItClosesStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		l := newLine(20, func(int64) error {
			if down.Load() {
				return errDown
			}
			return nil
		})
		l.breaks(t)
		down.Store(false)
		l.took = 100 * time.Millisecond
		time.Sleep(3 * time.Second) // until all know
		var steps []int64
		for round := range 10 {
			l.most.Store(0)
			allowed := int64(50)
			switch s := shared(t, l.store); s.Status {
			case flow.Open:
				allowed = 1
			case flow.Closing:
				allowed = int64(s.Step)
			}
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					out := deliver(l.all[i%20], fmt.Sprint(round, "-", i))
					if out.Status != retry.StatusDelivered && (out.Reason != dlq.ReasonOpen || out.Attempts != 0 || out.Elapsed > 0) {
						t.Errorf("round %d: %+v, want it delivered, or refused at once", round, out)
					}
				})
			}
			wg.Wait()
			steps = append(steps, l.most.Load())
			if l.most.Load() != allowed {
				t.Errorf("round %d: %d attempts at once, want %d", round, l.most.Load(), allowed)
			}
			time.Sleep(30 * time.Second)
		}
		if !slices.Equal(steps[:5], []int64{1, 1, 2, 8, 50}) || opened(t, l.store) {
			t.Errorf("at once went %v, and it is open: %v", steps, opened(t, l.store))
		}
	})
}

// Only an answer closes it: not a refused connection, nor an attempt whose process died or ran
// out of time, nor an answer to an attempt from before.
func TestOnlyAnAnswerToAProbeCloses(t *testing.T) {
	refused := sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "connect", Cause: syscall.ECONNREFUSED})
	for name, c := range map[string]struct {
		answer error
		closes bool
	}{
		"delivered":            {nil, true},
		"refused for good":     {errGone, true},
		"connection refused":   {refused, false},
		"a failure of our own": {sinks.Ours(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no descriptor"}), false},
		"no request":           {sinks.Terminal(&fault.Error{Code: fault.CodeInvalidArgument, Msg: "no body"}), false},
		"time-out":             {context.DeadlineExceeded, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := errDown
				l := newLine(3, func(int64) error { return err })
				l.breaks(t)
				time.Sleep(time.Minute)
				err = c.answer
				l.send(0)
				if got := shared(t, l.store).Status; (got != flow.Open) != c.closes {
					t.Errorf("the breaker is %q, want it closing: %v", got, c.closes)
				}
			})
		})
	}
}

// Attempts that began before the breaker opened say nothing when they end after it.
func TestAttemptsFromBeforeSayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var slow atomic.Bool
		l := newLine(4, func(int64) error {
			if slow.Load() {
				<-release
				return nil
			}
			return errDown
		})
		slow.Store(true)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { deliver(l.all[3], fmt.Sprint("early", i)) })
		}
		synctest.Wait()
		slow.Store(false)
		l.all = l.all[:3]
		l.breaks(t)
		close(release)
		wg.Wait()
		if !opened(t, l.store) {
			t.Error("twenty late successes closed the breaker")
		}
	})
}

// A probe whose process dies is over when its attempt must be, and another one goes.
func TestAProbeThatDiesLeavesNothingStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := errDown
		l := newLine(3, func(int64) error { return err })
		l.breaks(t)
		time.Sleep(time.Minute)
		dead := &flow.Gate{Store: l.store}
		leave := dead.Ask(t.Context(), flow.Try{Sink: "ops", Delivery: "dies", End: time.Now().Add(10 * time.Second)})
		if leave.Verdict != flow.Go || !leave.Probe {
			t.Fatalf("%+v, want a probe", leave)
		}
		err = nil
		if out := l.send(0); out.Reason != dlq.ReasonOpen {
			t.Errorf("%+v while the probe may live, want it refused", out)
		}
		time.Sleep(31 * time.Second)
		if out := l.send(1); out.Status != retry.StatusDelivered {
			t.Errorf("%+v after the probe's time, want the next probe", out)
		}
		dead.Tell(t.Context(), leave, flow.Told{Result: flow.Bad}) // after all
		if out := l.send(2); out.Status != retry.StatusDelivered {
			t.Errorf("%+v after what a late probe said, want it to change nothing", out)
		}
	})
}

// Terminal answers are answers, however many there are.
func TestTerminalAnswersNeverTripIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(3, answers(errGone))
		for i := range 300 {
			if out := l.send(i % 3); out.Reason != dlq.ReasonTerminal || out.Attempts != 1 {
				t.Fatalf("%+v, want every one attempted", out)
			}
		}
		if opened(t, l.store) {
			t.Error("the breaker is open")
		}
	})
}

// hosts is a sink with one receiver per recipient.
type hosts struct {
	*receiver
	down string
}

func (h hosts) Receiver(to sinks.Recipient) string { s, _ := to.(string); return s }

func (h hosts) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	if to == h.down {
		return errDown
	}
	return h.receiver.Send(ctx, to, m)
}

const suspectsAndMore = 7 // without a success between

// One recipient's receiver that is down is nobody else's.
func TestReceiversOfOneSinkAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: answers(nil)}
		one := process(&flow.Memory{}, hosts{r, "https://bad.example"}, dlq.NewMemory())
		for i := range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 29*time.Minute)
			for n := range suspectsAndMore {
				one.Deliver(ctx, "https://bad.example", sinks.Message{ID: fmt.Sprint("bad", i, "-", n)})
			}
			if out := one.Deliver(ctx, "https://good.example", sinks.Message{ID: fmt.Sprint("good", i)}); out.Status != retry.StatusDelivered {
				t.Fatalf("%+v after %d failures of another receiver", out, (i+1)*suspectsAndMore)
			}
			cancel()
		}
	})
}

// A receiver that asks to wait is left alone by all, and comes back with one attempt first.
func TestAHoldIsEverybodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var until time.Time
		var early atomic.Int64
		l := newLine(10, func(n int64) error {
			if n == 1 {
				until = time.Now().Add(5 * time.Second)
				return sinks.Hold(errDown, 5*time.Second)
			}
			if time.Now().Before(until) {
				early.Add(1)
			}
			return nil
		})
		l.took = 300 * time.Millisecond
		deliverAll := func() {
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() {
					if out := deliver(l.all[i%10], fmt.Sprint("h", i)); out.Status != retry.StatusDelivered {
						t.Errorf("%+v, want it delivered after the hold", out)
					}
				})
				if i == 0 {
					time.Sleep(400 * time.Millisecond)
				}
			}
			wg.Wait()
		}
		deliverAll()
		if early.Load() > 0 {
			t.Errorf("%d attempts during the hold", early.Load())
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		after := 0
		for _, at := range l.at[1:] {
			if at.Before(until.Add(300 * time.Millisecond)) {
				after++
			}
		}
		if after != 1 {
			t.Errorf("%d attempts before the first after the hold was answered, want 1", after)
		}
	})
}

// A wait that does not fit makes a dead letter that is due when it is over, and not all of them
// at the same moment.
func TestALongHoldIsWaitedForByTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(1, answers(sinks.Hold(errDown, 10*time.Minute)))
		start := time.Now()
		due := map[time.Time]bool{}
		for range 20 {
			out := l.send(0)
			if out.Status != retry.StatusDeadLettered || out.Reason != dlq.ReasonThrottled || out.NotBefore.Before(start.Add(10*time.Minute)) {
				t.Fatalf("%+v, want it throttled until the hold is over", out)
			}
			due[out.NotBefore] = true
		}
		if l.receiver.n.Load() != 1 || len(due) < 15 {
			t.Errorf("%d attempts, due at %d different times; want 1, and spread", l.receiver.n.Load(), len(due))
		}
	})
}

// away is a store that cannot be asked.
type away struct{ flow.Store }

var errAway = errors.New("away")

func (away) Look(context.Context, string) (flow.Seen, error) { return flow.Seen{}, errAway }
func (away) Swap(context.Context, string, string, flow.Swap) (flow.Swapped, error) {
	return flow.Swapped{}, errAway
}

func (away) Take(context.Context, string, string, flow.Slots) ([]flow.Granted, error) {
	return nil, errAway
}

// Without the store each process stops by itself, and lets one through from time to time.
func TestAProcessStopsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := errDown
		r := &receiver{answer: func(int64) error { return err }}
		one := process(away{}, r, dlq.NewMemory())
		for i := range 600 {
			deliver(one, fmt.Sprint("m", i))
			time.Sleep(time.Second)
		}
		if n := r.n.Load(); n < 20 || n > 60 {
			t.Errorf("%d attempts in ten minutes, want some at the beginning and one each 30 s", n)
		}
		err = nil
		start := time.Now()
		for i := 0; deliver(one, fmt.Sprint("back", i)).Status != retry.StatusDelivered; i++ {
			time.Sleep(time.Second)
		}
		if time.Since(start) > 31*time.Second {
			t.Errorf("the first success after %s", time.Since(start))
		}
		if out := deliver(one, "next"); out.Status != retry.StatusDelivered {
			t.Errorf("%+v after a success, want it to go", out)
		}
	})
}

// An operator's attempt passes everything, and its success lifts what held the receiver back.
func TestAnOperatorPassesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := errDown
		l := newLine(3, func(int64) error { return err })
		l.breaks(t)
		err = nil
		ctx, cancel := context.WithTimeout(t.Context(), 29*time.Second)
		defer cancel()
		out := l.all[0].Carry(ctx, retry.Delivery{Message: sinks.Message{ID: "forced"}, Force: true})
		if out.Status != retry.StatusDelivered {
			t.Fatalf("%+v, want it sent", out)
		}
		time.Sleep(3 * time.Second)
		for i := range 3 {
			if out := l.send(i); out.Status != retry.StatusDelivered {
				t.Errorf("process %d afterwards: %+v", i, out)
			}
		}
	})
}
