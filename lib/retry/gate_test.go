package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// witness is a gate that lets everything through and notes what it is told.
type witness struct {
	told []flow.Result
	lost int
}

func (*witness) Ask(context.Context, flow.Try) flow.Leave          { return flow.Leave{} }
func (*witness) Shut(context.Context, flow.Try) (flow.Leave, bool) { return flow.Leave{}, false }
func (w *witness) Tell(_ context.Context, _ flow.Leave, t flow.Told) {
	w.told = append(w.told, t.Result)
}
func (w *witness) Lost(context.Context, flow.Try, string) { w.lost++ }

// What an attempt tells of its receiver: only what the receiver said, or failed to say.
func TestTheGateIsToldWhatTheReceiverDid(t *testing.T) {
	unavailable := &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "it"}
	for name, c := range map[string]struct {
		err  error
		want flow.Result
	}{
		"it took the message":                      {nil, flow.Good},
		"it refused the message for good":          {sinks.Terminal(unavailable), flow.Good},
		"a failure that may pass":                  {sinks.Transient(unavailable), flow.Bad},
		"silence":                                  {sinks.Ambiguous(unavailable), flow.Bad},
		"its certificate is not valid":             {sinks.Unreached(unavailable), flow.NoAnswer},
		"the message was refused here":             {sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: "it"}), flow.NoAnswer},
		"the process had no descriptor":            {sinks.Ours(unavailable), flow.NoAnswer},
		"an error without a code, of unknown kind": {errors.New("it"), flow.NoAnswer},
		"a connection that broke":                  {sinks.Transient(io.ErrUnexpectedEOF), flow.Bad},
	} {
		synctest.Test(t, func(t *testing.T) {
			var w witness
			r := retry.NewRetrier(&script{steps: []step{fails(c.err)}}, retry.Config{MaxAttempts: 1}, &queue{})
			r.Gate = &w
			r.Deliver(t.Context(), nil, sinks.Message{ID: "d", Body: "x"})
			if len(w.told) != 1 || w.told[0] != c.want {
				t.Errorf("%s: told %v, want %v", name, w.told, c.want)
			}
			if lost := c.want == flow.Bad; lost != (w.lost == 1) {
				t.Errorf("%s: lost %d times", name, w.lost)
			}
		})
	}
}

// chats is a sink whose receiver limits each chat alone, and asks the red one to wait.
type chats struct{ *script }

func (chats) RateKey(to sinks.Recipient) string {
	chat, _ := to.(string)
	return chat
}

func (c chats) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	if to == "red" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.started = append(c.started, time.Now())
		return sinks.Hold(errPasses, 10*time.Minute)
	}
	return c.script.Send(ctx, to, m)
}

// Of a sink whose rate is counted by chat, one that is asked to wait holds up no other, and is no failure of the
// receiver: however many messages go to it, one attempt is made, and the rest are due once it is over.
func TestARateKeyThatIsHeldHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := &queue{}, chats{&script{steps: []step{ok}}}
		r := retry.NewRetrier(s, exact(3), q)
		store := &flow.Memory{}
		r.Gate = &flow.Gate{Store: store, Log: quiet}
		for i := range 50 {
			out := r.Deliver(t.Context(), "red", sinks.Message{ID: fmt.Sprint("red", i), Body: "x"})
			if out.Reason != dlq.ReasonThrottled || time.Until(out.NotBefore) < 10*time.Minute-time.Second {
				t.Fatalf("%d to the red chat: %+v, want it throttled", i, out)
			}
			if out := r.Deliver(t.Context(), "blue", sinks.Message{ID: fmt.Sprint("blue", i), Body: "x"}); out.Status != retry.StatusDelivered {
				t.Fatalf("%d to the blue chat: %+v, want it delivered", i, out)
			}
		}
		if len(s.started) != 51 || len(q.items) != 50 {
			t.Errorf("%d attempts, %d dead letters; want one attempt at the red chat", len(s.started), len(q.items))
		}
		seen, err := store.Look(t.Context(), "fake")
		if err != nil || len(seen.States) != 0 || len(seen.Holds) != 1 {
			t.Errorf("%+v, %v; want one hold and nothing of the receiver", seen, err)
		}
	})
}

// A receiver with a rate comes back like any other: the attempt that finds it out waits for its slot, and is not
// refused for what it is itself about to find out.
func TestAReceiverWithARateComesBack(t *testing.T) {
	for name, failures := range map[string]int{"this process alone left it": 6, "its breaker is open": 40} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: []step{fails(errPasses)}}
				r := retry.NewRetrier(s, exact(1), &queue{})
				gate := &flow.Gate{Store: &flow.Memory{}, Log: quiet}
				r.Gate, r.Flow.Rate = gate, flow.Rate{PerSecond: 1, Burst: 1}
				for i := range failures {
					r.Deliver(t.Context(), nil, sinks.Message{ID: fmt.Sprint("bad", i), Body: "x"})
					gate.Flush(t.Context())
				}
				s.steps = []step{ok}
				for i := range 20 {
					time.Sleep(time.Minute)
					if out := r.Deliver(t.Context(), nil, sinks.Message{ID: fmt.Sprint("good", i), Body: "x"}); out.Status == retry.StatusDelivered {
						return
					}
				}
				t.Error("nothing is delivered in 20 minutes, and its receiver is well")
			})
		})
	}
}
