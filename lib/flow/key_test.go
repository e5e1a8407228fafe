package flow_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/flow"
)

func newGate(store flow.Store) *flow.Gate {
	return &flow.Gate{Store: store, Log: slog.New(slog.DiscardHandler)}
}

// to is an attempt at a chat.
func to(chat string) flow.Try {
	return flow.Try{Sink: "ops", RateKey: chat, Delivery: chat, End: time.Now().Add(10 * time.Second)}
}

// later is when nobody goes by what he knew before.
func later() { time.Sleep(2 * time.Second) }

// A receiver that asks one chat to wait is left alone by everybody for that chat, and for no other. Then one
// attempt goes first, and what it says counts.
func TestAHoldOfARateKeyIsItsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &flow.Memory{}
		a, b := newGate(store), newGate(store)
		ctx, start := t.Context(), time.Now()
		until := start.Add(30 * time.Second)
		l := a.Ask(ctx, to("red"))
		a.Tell(ctx, l, flow.Told{Result: flow.Bad, Hold: 30 * time.Second, Error: "HTTP 429"})
		wait := func(g *flow.Gate, chat string, want time.Time) {
			t.Helper()
			l, refused := g.Shut(ctx, to(chat))
			if refused || l.Verdict != flow.Wait || l.Down {
				t.Errorf("after %s, %s: %+v, want it to wait", time.Since(start), chat, l)
			}
			if l := g.Ask(ctx, to(chat)); l.Verdict != flow.Wait || l.At.Sub(want).Abs() > 2*time.Millisecond {
				t.Errorf("after %s, %s: %+v, want it to wait until %s", time.Since(start), chat, l, want)
			}
		}
		goes := func(g *flow.Gate, chat string) flow.Leave {
			t.Helper()
			l := g.Ask(ctx, to(chat))
			if l.Verdict != flow.Go {
				t.Fatalf("after %s, %s: %+v, want it to go", time.Since(start), chat, l)
			}
			return l
		}
		wait(a, "red", until)
		b.Tell(ctx, goes(b, "blue"), flow.Told{Result: flow.Good})
		wait(b, "red", until)
		// Holds only grow.
		forced := to("red")
		forced.Force = true
		b.Tell(ctx, b.Ask(ctx, forced), flow.Told{Result: flow.Bad, Hold: time.Second})
		wait(b, "red", until)

		time.Sleep(time.Until(until) + time.Millisecond)
		probe := goes(a, "red")
		wait(a, "red", time.Now().Add(time.Second)) // for what the probe says
		wait(b, "red", time.Now().Add(time.Second))
		goes(b, "blue")
		a.Tell(ctx, probe, flow.Told{Result: flow.Bad, Hold: 5 * time.Second})
		wait(a, "red", time.Now().Add(5*time.Second))
		later()
		wait(b, "red", time.Now().Add(3*time.Second))

		time.Sleep(3*time.Second + time.Millisecond)
		probe = goes(b, "red")
		b.Tell(ctx, probe, flow.Told{Result: flow.NoAnswer}) // it never began: another one is to go
		goes(b, "red")
		wait(b, "red", time.Now().Add(time.Second))
		// Its process dies. The hold that it was ends with its attempt, a second later at most.
		time.Sleep(11 * time.Second)
		probe = goes(a, "red")
		a.Tell(ctx, probe, flow.Told{Result: flow.Bad, Error: "HTTP 500"}) // an answer
		for range 3 {
			goes(a, "red")
		}
		later()
		for range 3 {
			goes(b, "red")
		}
		if s := shared(t, store); !s.Well() || s.Held != 0 {
			t.Errorf("the receiver's state is %+v, want it well", s)
		}
	})
}

// Nothing waits for a probe once everybody who waited has come.
func TestAHoldIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(&flow.Memory{})
		g.Tell(t.Context(), g.Ask(t.Context(), to("red")), flow.Told{Hold: time.Second})
		time.Sleep(time.Second + 5*time.Minute + time.Millisecond)
		for range 2 {
			if l := g.Ask(t.Context(), to("red")); l.Verdict != flow.Go {
				t.Errorf("%+v, want it to go", l)
			}
		}
	})
}

// A hold of one chat is longer than max_hold for nobody, and an operator lifts it: by resuming the sink, or by
// a success.
func TestAnOperatorLiftsAHoldOfARateKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &flow.Memory{}
		a, b := newGate(store), newGate(store)
		ctx := t.Context()
		held := func() {
			t.Helper()
			try := to("red")
			try.Force, try.Policy.MaxHold = true, time.Minute
			a.Tell(ctx, a.Ask(ctx, try), flow.Told{Hold: time.Hour})
			if l := a.Ask(ctx, to("red")); l.Verdict != flow.Wait || time.Until(l.At) > time.Minute+time.Millisecond {
				t.Fatalf("%+v, want it to wait for a minute", l)
			}
			later()
		}
		free := func(what string, gates ...*flow.Gate) {
			t.Helper()
			later()
			for _, g := range gates {
				if l := g.Ask(ctx, to("red")); l.Verdict != flow.Go {
					t.Errorf("%s: %+v, want it to go", what, l)
				}
			}
		}
		held()
		if err := b.Lift(ctx, "ops", flow.Policy{}); err != nil {
			t.Fatal(err)
		}
		free("lifted", a, b)
		held()
		try := to("red")
		try.Force = true
		b.Ask(ctx, to("blue")) // it looks
		b.Tell(ctx, b.Ask(ctx, try), flow.Told{Result: flow.Good})
		free("after a success", a, b)
	})
}

// Holds of chats are neither good nor bad for the receiver: they open no breaker, and close none.
func TestHoldsOfRateKeysLeaveTheBreakerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &flow.Memory{}
		g, ctx := newGate(store), t.Context()
		for i := range 300 {
			l := g.Ask(ctx, to(fmt.Sprint(i)))
			if l.Verdict != flow.Go {
				t.Fatalf("chat %d: %+v, want it to go", i, l)
			}
			g.Tell(ctx, l, flow.Told{Result: flow.Bad, Hold: time.Minute, Error: "HTTP 429"})
		}
		if s := shared(t, store); !s.Well() || len(s.Seen)+len(s.Rows) > 0 {
			t.Errorf("after 300 holds: %+v, want it well", s)
		}
		// It goes down.
		for p := 0; !opened(t, store); p++ {
			if p > 100 {
				t.Fatal("it never opens")
			}
			process := newGate(store)
			for i := range 6 {
				try := to(fmt.Sprint("down", p, i))
				if l := process.Ask(ctx, try); l.Verdict == flow.Go {
					process.Tell(ctx, l, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
					process.Lost(ctx, try, "HTTP 503")
				}
			}
			process.Flush(ctx)
		}
		later()
		var probe flow.Leave
		for i := 0; probe.Verdict != flow.Go || i == 0; i++ {
			if i > 1000 {
				t.Fatalf("%+v, want a probe", probe)
			}
			time.Sleep(100 * time.Millisecond)
			probe = g.Ask(ctx, to("first"))
		}
		g.Tell(ctx, probe, flow.Told{Result: flow.Bad, Hold: time.Minute, Error: "HTTP 429"})
		if s := shared(t, store); s.Status != flow.Open || s.Held != 0 {
			t.Errorf("after a probe that was asked to wait: %+v, want it open still", s)
		}
		// An attempt that probes for both gives the chat's back where the receiver's is taken.
		time.Sleep(time.Minute + time.Second)
		other := newGate(store)
		g.Paused(ctx, "ops") // it knows of no probe
		one := other.Ask(ctx, to("other"))
		if one.Verdict != flow.Go {
			t.Fatalf("%+v, want it to probe", one)
		}
		if l := g.Ask(ctx, to("first")); l.Verdict != flow.Refused {
			t.Fatalf("%+v, want it refused beside a probe", l)
		}
		other.Tell(ctx, one, flow.Told{Result: flow.Good})
		later()
		if l := g.Ask(ctx, to("first")); l.Verdict != flow.Go {
			t.Errorf("%+v, want the chat's probe to be free", l)
		}
	})
}

// calls counts what a store is asked.
type calls struct {
	flow.Store
	mu                       sync.Mutex
	looks, takes, holds, all int
}

func (c *calls) count(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
	c.all++
}

func (c *calls) Look(ctx context.Context, sink string) (flow.Seen, error) {
	c.count(&c.looks)
	return c.Store.Look(ctx, sink)
}

func (c *calls) Take(ctx context.Context, sink, receiver string, s flow.Slots) ([]flow.Granted, error) {
	c.count(&c.takes)
	time.Sleep(time.Millisecond)
	return c.Store.Take(ctx, sink, receiver, s)
}

func (c *calls) Hold(ctx context.Context, sink string, h flow.Hold) (until, now int64, err error) {
	c.count(&c.holds)
	return c.Store.Hold(ctx, sink, h)
}

func (c *calls) Swap(ctx context.Context, sink, receiver string, s flow.Swap) (flow.Swapped, error) {
	c.count(new(int))
	return c.Store.Swap(ctx, sink, receiver, s)
}

// A batch costs the store what it costs without rate keys, however many there are: one look, and two questions
// for slots where there is a rate. Each chat has its own.
func TestRateKeysCostNoMoreCalls(t *testing.T) {
	for _, rate := range []float64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			store := &calls{Store: &flow.Memory{}}
			g, start := newGate(store), time.Now()
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					try := to(fmt.Sprint(i % 25))
					try.Policy.Rate.PerSecond = rate
					l := g.Ask(t.Context(), try)
					if l.Verdict != flow.Go || l.At.Sub(start) > 1100*time.Millisecond {
						t.Errorf("%d: %+v, want a slot within a second", i, l)
					}
					g.Tell(t.Context(), l, flow.Told{Result: flow.Good})
				})
			}
			all.Wait()
			if most := 2 * int(rate); store.looks != 1 || store.takes > most || store.all != 1+store.takes {
				t.Errorf("rate %v: %d looks, %d for slots, %d in all; want 1, at most %d, and nothing else", rate, store.looks, store.takes, store.all, most)
			}
		})
	}
}
