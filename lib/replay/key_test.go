package replay_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// chats is a receiver that limits each chat alone.
type chats struct {
	*receiver
	chat func(ctx context.Context, chat string) error
}

func (c chats) RateKey(to sinks.Recipient) string {
	chat, _ := to.(string)
	return chat
}

func (c chats) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	if err := c.receiver.Send(ctx, to, m); err != nil || c.chat == nil {
		return err
	}
	return c.chat(ctx, c.RateKey(to))
}

// holdsRed asks the red chat to wait.
func holdsRed(_ context.Context, chat string) error {
	if chat == `"red"` {
		return sinks.Hold(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "HTTP 429"}, 10*time.Minute)
	}
	return nil
}

func inChats(store dlq.Store, sink sinks.Sink, p flow.Policy) *replay.Engine {
	e := engine(store, targets{"a": {Sink: sink, Flow: p, Replay: replay.Policy{Concurrency: 4}}})
	e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: slog.New(slog.DiscardHandler)}
	return e
}

// Dead letters of a chat that is held are put off, uncharged, by the schedule; those of others go on, and so they
// do in a bulk replay, where they stay members.
func TestAChatThatIsHeldHoldsUpNoOther(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store, sink := dlq.NewMemory(), &chats{&receiver{name: "a"}, holdsRed}
			// Some before and some after, for the schedule begins with the oldest, and a bulk replay with the newest.
			push(t, store, "a", "before", 15, toReceiver("blue"))
			red := push(t, store, "a", "red", 300, toReceiver("red"))
			push(t, store, "a", "after", 15, toReceiver("blue"))
			e := inChats(store, sink, flow.Policy{})
			var op replay.Operation
			req := replay.Request{}
			if bulk {
				op = start(t, e, replay.OperationRequest{Action: replay.OperationReplay, All: true})
				req.Operation = op.ID
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, err := e.Run(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			blue, asked := 0, 0
			for _, c := range sink.calls() {
				if c.to == `"blue"` {
					blue++
				} else {
					asked++
				}
			}
			if blue != 30 || asked > 5 {
				t.Errorf("bulk %v: %d of 30 to the blue chat, %d to the red one; want all, and no more than go at once (%+v)", bulk, blue, asked, s.Counts)
			}
			if bulk {
				got := progress(t, e, op.ID).Sinks["a"]
				if got.Done || got.Waiting < int64(300-asked) || got.WaitingUntil.IsZero() {
					t.Errorf("%+v, want the others of the red chat to wait", got)
				}
				return
			}
			charged := 0
			for _, id := range red {
				it := get(t, store, id)
				charged += it.Replays
				if !it.State(time.Now()).Scheduled() || time.Until(it.NextReplayAt) < 9*time.Minute {
					t.Errorf("%s: %s, due in %s; want it due once the chat is", id, it.State(time.Now()), time.Until(it.NextReplayAt))
				}
			}
			if charged != asked || s.Sinks["a"].HeldBack != "" {
				t.Errorf("%d charged of %d attempts, held back %q", charged, asked, s.Sinks["a"].HeldBack)
			}
			sink.chat = nil
			time.Sleep(15 * time.Minute)
			if s := run(t, e, replay.Request{}); s.Remaining != 0 || s.Delivered != 300 {
				t.Errorf("later: %+v, want the rest delivered", s.Counts)
			}
		})
	}
}

// A backlog of one chat, at a message a second, holds up no other; and it drains at about that rate, within the
// run's time.
func TestABacklogOfOneChatHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), chats{&receiver{name: "a"}, nil}
		push(t, store, "a", "red", 100, toReceiver("red"))
		for _, chat := range []string{"blue", "green", "gray", "pink"} {
			push(t, store, "a", chat, 1, toReceiver(chat))
		}
		e := inChats(store, sink, flow.Policy{Rate: flow.Rate{PerSecond: 1}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		s, err := e.Run(ctx, replay.Request{})
		if err != nil {
			t.Fatal(err)
		}
		red := 0
		for _, c := range sink.calls() {
			if c.to == `"red"` {
				red++
			} else if after := c.at.Sub(start); after > 3*time.Second {
				t.Errorf("%s after %s, want it at once", c.id, after)
			}
		}
		if n := len(sink.calls()); red < 30 || red > 61 || n != red+4 || s.Failed+s.Parked > 0 {
			t.Errorf("%d to the red chat of %d in a minute, want about one a second (%+v)", red, n, s.Counts)
		}
	})
}

// A chat's 429 is no canary: the next letter is, alone, and where that fails nothing else goes.
func TestAChatsAnswerIsNoCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &chats{&receiver{name: "a"}, func(ctx context.Context, chat string) error {
			if err := holdsRed(ctx, chat); err != nil {
				return err
			}
			return errDown
		}}
		push(t, store, "a", "red", 1, toReceiver("red"))
		push(t, store, "a", "blue", 20, toReceiver("blue"))
		s := run(t, inChats(store, sink, flow.Policy{}), replay.Request{})
		if n := sink.counts(); len(n) != 2 || n["red0"] != 1 || n["blue0"] != 1 || s.Failed != 2 {
			t.Errorf("sent %v, want the red one and one blue one (%+v)", n, s.Counts)
		}
	})
}

// The breaker is the receiver's: while it is open nothing goes, to whatever chat.
func TestAnOpenBreakerHoldsAllChats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), chats{&receiver{name: "a"}, nil}
		shared := &flow.Memory{}
		open(t, shared, "a", "")
		push(t, store, "a", "red", 3, toReceiver("red"))
		e := engine(store, targets{"a": delivery.Target{Sink: sink}})
		e.Gate = &flow.Gate{Store: shared, Log: e.Log}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := e.Run(ctx, replay.Request{}); err != nil {
			t.Fatal(err)
		}
		if n := len(sink.calls()); n != 0 {
			t.Errorf("%d sent", n)
		}
	})
}
