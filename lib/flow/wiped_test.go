package flow

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"backstop/internal/redistest"
)

// opened stores an open breaker whose next probe may go, and returns its text.
func opened(t *testing.T, s Store) string {
	t.Helper()
	now := clock(t, s)
	before := seen(t, s, "ops").States[own]
	open := State{GoodAt: now, Changes: decode(before).state.Changes}
	open.open(now)
	open.Next = now
	text, err := encode(open, "opened", now)
	if err != nil {
		t.Fatal(err)
	}
	if got := swap(t, s, own, before, text, now); !got.Swapped {
		t.Fatalf("not opened: %+v", got)
	}
	return text
}

// What is known of receivers may be evicted or wiped at any time, and so may a breaker that is
// open: then nothing holds anybody up once they have asked again, and what the probe of before
// says changes nothing, neither there nor in a breaker that was opened since.
func TestAStateThatIsWipedHoldsNothingUp(t *testing.T) {
	client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
	memory := &Memory{}
	for name, c := range map[string]struct {
		store Store
		wipe  func(context.Context) error
	}{
		"memory": {memory, func(context.Context) error {
			memory.mu.Lock()
			defer memory.mu.Unlock()
			clear(memory.sinks)
			return nil
		}},
		"redis": {NewRedis(client, prefix), func(ctx context.Context) error {
			return client.Del(ctx, "{"+prefix+":dlq:ops}:flow").Err()
		}},
	} {
		for _, result := range []Result{Good, Bad, NoAnswer} {
			t.Run(name+", "+map[Result]string{Good: "good", Bad: "bad", NoAnswer: "no answer"}[result], func(t *testing.T) {
				try := Try{Sink: "ops", Delivery: "probe", End: time.Now().Add(time.Minute)}
				gate := func() *Gate { return &Gate{Store: c.store, Log: slog.New(slog.DiscardHandler)} }
				prober, other := gate(), gate()
				opened(t, c.store)
				probe := prober.Ask(t.Context(), try)
				if probe.Verdict != Go || !probe.Probe {
					t.Fatalf("%+v, want the probe", probe)
				}
				if l, shut := other.Shut(t.Context(), try); !shut {
					t.Fatalf("%+v, want it shut while the probe is under way", l)
				}
				if err := c.wipe(t.Context()); err != nil {
					t.Fatal(err)
				}
				if states := seen(t, c.store, "ops").States; len(states) != 0 {
					t.Fatalf("not wiped: %v", states)
				}

				for who, g := range map[string]*Gate{"one that has heard of it": other, "a new one": gate()} {
					g.mu.Lock()
					if v, ok := g.sinks["ops"]; ok {
						v.asked = v.asked.Add(-viewAge)
						g.sinks["ops"] = v
					}
					g.mu.Unlock()
					if l := g.Ask(t.Context(), try); l.Verdict != Go || l.Probe || l.token != "" {
						t.Errorf("%s: %+v, want it to go as if nothing had been", who, l)
					}
				}
				prober.Tell(t.Context(), probe, Told{Result: result, Error: "late"})
				if states := seen(t, c.store, "ops").States; len(states) != 0 {
					t.Errorf("the late probe brought back %v", states)
				}

				again := opened(t, c.store)
				prober.Tell(t.Context(), probe, Told{Result: result, Error: "late"})
				if got := seen(t, c.store, "ops").States[own]; got != again {
					t.Errorf("the late probe changed a breaker that was opened since:\n%s\nto\n%s", again, got)
				}
				if err := c.wipe(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}
