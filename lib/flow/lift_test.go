package flow_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/flow"
)

// counts is an Observer.
type counts struct{ opened, held atomic.Int64 }

func (c *counts) BreakerOpened(context.Context, string) { c.opened.Add(1) }
func (c *counts) Held(context.Context, string)          { c.held.Add(1) }

func try(id string) flow.Try {
	return flow.Try{Sink: "ops", Delivery: id, End: time.Now().Add(10 * time.Second)}
}

// failUntilOpen lets deliveries of several processes fail until their receiver's breaker is open.
func failUntilOpen(t *testing.T, why string, processes ...*flow.Gate) {
	t.Helper()
	for n := range 20 {
		for _, g := range processes {
			one := try(fmt.Sprint("failing ", n))
			if l := g.Ask(t.Context(), one); l.Verdict == flow.Go {
				g.Tell(t.Context(), l, flow.Told{Result: flow.Bad, Error: why})
				g.Lost(t.Context(), one, why)
			}
			all, err := g.Receivers(t.Context(), "ops", flow.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			if all[0].Status == flow.ReceiverOpen {
				return
			}
		}
		time.Sleep(time.Second)
	}
	t.Fatal("never open")
}

// What an operator sees of a receiver through an outage, and what its end shows.
func TestReceiversShowWhatHoldsThemBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counts
		store := &flow.Memory{}
		several := []*flow.Gate{{Store: store, Observer: &c}, {Store: store, Observer: &c}, {Store: store, Observer: &c}}
		see := func() flow.Receiver {
			all, err := several[0].Receivers(t.Context(), "ops", flow.Policy{})
			if err != nil || len(all) != 1 {
				t.Fatalf("receivers %+v, %v", all, err)
			}
			return all[0]
		}
		if got := see(); got != (flow.Receiver{Status: flow.ReceiverOK}) {
			t.Errorf("at first %+v", got)
		}
		start := time.Now()
		failUntilOpen(t, "HTTP 503", several...)
		got := see()
		if got.Status != flow.ReceiverOpen || got.LastError != "HTTP 503" || got.Since.Before(start) || got.NextProbe.IsZero() || !got.LastSuccessAt.IsZero() {
			t.Errorf("while it is down: %+v", got)
		}
		if n := c.opened.Load(); n != 1 {
			t.Errorf("three processes counted %d openings, want 1", n)
		}

		for range 2 { // and still is: the probes become rare
			time.Sleep(2 * time.Second)
			l := several[1].Ask(t.Context(), try("p"))
			if l.Verdict != flow.Go || !l.Probe {
				t.Fatalf("the first probes: %+v", l)
			}
			several[1].Tell(t.Context(), l, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
		}

		// The operator knows that it is back, and waits for no probe.
		if l := several[1].Ask(t.Context(), try("x")); l.Verdict != flow.Refused {
			t.Errorf("before it is lifted: %+v", l)
		}
		if err := several[2].Lift(t.Context(), "ops", flow.Policy{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // the others look
		probe, other := several[1].Ask(t.Context(), try("x")), several[0].Ask(t.Context(), try("y"))
		if probe.Verdict != flow.Go || !probe.Probe || other.Verdict != flow.Refused {
			t.Errorf("after it is lifted: %+v and %+v, want a probe and no other", probe, other)
		}
		several[1].Tell(t.Context(), probe, flow.Told{Result: flow.Good})
		if got := see(); got.Status != flow.ReceiverOpen || got.LastSuccessAt.IsZero() {
			t.Errorf("after the probe was answered, step by step: %+v", got)
		}
		time.Sleep(2 * time.Second)
		for range 5 {
			l := several[0].Ask(t.Context(), try("z"))
			if l.Verdict != flow.Go {
				t.Fatalf("while it closes: %+v", l)
			}
			several[0].Tell(t.Context(), l, flow.Told{Result: flow.Good})
		}
		if got := see(); got.Status != flow.ReceiverOK || got.LastError != "HTTP 503" {
			t.Errorf("in the end %+v", got)
		}
	})
}

// A hold is shown with its end, counted once, and lifted.
func TestALiftedHoldLetsOneProbeGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counts
		g := &flow.Gate{Store: &flow.Memory{}, Observer: &c}
		first, second := g.Ask(t.Context(), try("a")), g.Ask(t.Context(), try("b"))
		start := time.Now().Truncate(time.Millisecond)
		g.Tell(t.Context(), first, flow.Told{Result: flow.Bad, Hold: time.Minute, Error: "HTTP 429"})
		g.Tell(t.Context(), second, flow.Told{Result: flow.Bad, Hold: 30 * time.Second, Error: "HTTP 429"})
		all, err := g.Receivers(t.Context(), "ops", flow.Policy{})
		if err != nil || len(all) != 1 || all[0].Status != flow.ReceiverHeld || !all[0].Since.Equal(start) || !all[0].NextProbe.Equal(start.Add(time.Minute)) {
			t.Errorf("held: %+v, %v", all, err)
		}
		if n := c.held.Load(); n != 1 {
			t.Errorf("one hold was counted %d times", n)
		}
		if l := g.Ask(t.Context(), try("c")); l.Verdict != flow.Wait {
			t.Errorf("while it lasts: %+v", l)
		}
		if err := g.Lift(t.Context(), "ops", flow.Policy{}); err != nil {
			t.Fatal(err)
		}
		probe, other := g.Ask(t.Context(), try("c")), g.Ask(t.Context(), try("d"))
		if probe.Verdict != flow.Go || other.Verdict != flow.Wait {
			t.Errorf("lifted: %+v and %+v, want a probe and no other", probe, other)
		}
		g.Tell(t.Context(), probe, flow.Told{Result: flow.Good})
		if l := g.Ask(t.Context(), try("e")); l.Verdict != flow.Go || l.Probe {
			t.Errorf("after the probe: %+v", l)
		}
	})
}

// Of many receivers the sink's own comes first, then those that are not well.
func TestReceiversThatAreWellAreNotListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &flow.Gate{Store: &flow.Memory{}}
		for _, name := range []string{"https://b.example", "https://a.example", "https://c.example"} {
			one := try("x")
			one.Receiver = name
			l := g.Ask(t.Context(), one)
			told := flow.Told{Result: flow.Bad, Hold: time.Minute}
			if name == "https://c.example" {
				told = flow.Told{Result: flow.Good}
			}
			g.Tell(t.Context(), l, told)
		}
		all, err := g.Receivers(t.Context(), "ops", flow.Policy{})
		if err != nil || len(all) != 3 || all[0] != (flow.Receiver{Status: flow.ReceiverOK}) || all[1].Name != "https://a.example" || all[2].Name != "https://b.example" {
			t.Errorf("receivers %+v, %v", all, err)
		}
	})
}

// What an operator lifts ends a process's own stop too, also for a receiver of which the
// others know nothing bad.
func TestALiftEndsAProcesssOwnStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &flow.Gate{Store: &flow.Memory{}}
		to := func(id string) flow.Try {
			one := try(id)
			one.Receiver = "https://a.example"
			return one
		}
		for i := range 5 {
			g.Tell(t.Context(), g.Ask(t.Context(), to(fmt.Sprint(i))), flow.Told{Result: flow.Bad, Error: "HTTP 503"})
		}
		if l := g.Ask(t.Context(), to("next")); l.Verdict != flow.Refused {
			t.Fatalf("after five failures in a row %+v", l)
		}
		if err := g.Lift(t.Context(), "ops", flow.Policy{}); err != nil {
			t.Fatal(err)
		}
		if l := g.Ask(t.Context(), to("next")); l.Verdict != flow.Go {
			t.Errorf("lifted: %+v", l)
		}
	})
}
