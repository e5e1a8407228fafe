package flow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/fault"
)

// stores are the stores, each with a way to pause a sink.
func stores(t *testing.T) map[string]struct {
	Store
	pause func(t *testing.T, sink string)
} {
	t.Helper()
	paused := map[string]bool{}
	memory := &Memory{Pause: func(_ context.Context, sink string) (bool, error) { return paused[sink], nil }}
	client := redistest.Shared(t).Client(t)
	prefix, lossy := redistest.Prefix(), redistest.Prefix()
	pauseIn := func(prefix string) func(*testing.T, string) {
		return func(t *testing.T, sink string) {
			t.Helper()
			if err := client.HSet(t.Context(), "{"+prefix+":dlq:"+sink+"}:meta", "paused", 1).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return map[string]struct {
		Store
		pause func(t *testing.T, sink string)
	}{
		"memory":                   {memory, func(_ *testing.T, sink string) { paused[sink] = true }},
		"redis":                    {NewRedis(client, prefix), pauseIn(prefix)},
		"redis that loses replies": {NewRedis(redistest.LoseReplies(redistest.Shared(t).Client(t)), lossy), pauseIn(lossy)},
	}
}

func swap(t *testing.T, s Store, receiver, old, to string, at int64) Swapped {
	t.Helper()
	got, err := s.Swap(t.Context(), "ops", receiver, Swap{Old: old, New: to, At: at})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func seen(t *testing.T, s Store, sink string) Seen {
	t.Helper()
	got, err := s.Look(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestStores(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			now := seen(t, s, "ops").Now
			if off := time.Now().UnixMilli() - now; off > 1000 || off < -1000 {
				t.Fatalf("the clock is off by %d ms", off)
			}
			if got := swap(t, s, "sink", "", "one", now); !got.Swapped || got.Current != "one" {
				t.Errorf("the first state: %+v", got)
			}
			if got := swap(t, s, "sink", "", "two", clock(t, s)); got.Swapped || got.Current != "one" || got.Now == 0 {
				t.Errorf("somebody else was quicker: %+v, want what is there", got)
			}
			if got := swap(t, s, "sink", "", "one", clock(t, s)); !got.Swapped {
				t.Errorf("repeated after a lost reply: %+v, want it to find its own", got)
			}
			if got := swap(t, s, "sink", "one", "two", clock(t, s)-10_000); got.Swapped || got.Current != "one" {
				t.Errorf("by a clock that is off: %+v, want the right time and nothing changed", got)
			}
			if got := swap(t, s, "https://x.example", "", "other", clock(t, s)); !got.Swapped {
				t.Errorf("another receiver: %+v", got)
			}
			if got := seen(t, s, "ops"); got.Paused || len(got.States) != 2 || got.States["sink"] != "one" {
				t.Errorf("seen %+v", got)
			}
			if got := seen(t, s, "another"); got.Paused || len(got.States) != 0 {
				t.Errorf("of another sink: %+v", got)
			}
			if got := swap(t, s, "sink", "one", "", clock(t, s)); !got.Swapped || got.Current != "" {
				t.Errorf("forgotten: %+v", got)
			}
			s.pause(t, "ops")
			if got := seen(t, s, "ops"); !got.Paused || len(got.States) != 1 {
				t.Errorf("paused: %+v", got)
			}
		})
	}
}

func clock(t *testing.T, s Store) int64 { t.Helper(); return seen(t, s, "ops").Now }

// more counts one more success.
func more(s State, now int64) State {
	s.Now.Good++
	s.GoodAt = now
	return s
}

func changes(t *testing.T, s Store) int {
	t.Helper()
	return decode(seen(t, s, "ops").States[own]).state.Now.Good
}

// However many change one state at once, each change is made on top of another, and none is
// lost. Once, too, where replies come.
func TestNoChangeIsLost(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			const writers, each = 6, 20
			var wg sync.WaitGroup
			for range writers {
				g := &Gate{Store: s}
				wg.Go(func() {
					for done := 0; done < each; {
						err := g.update(t.Context(), Try{Sink: "ops"}, false, more)
						switch {
						case err == nil:
							done++
						case !errors.Is(err, errBusy):
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := changes(t, s); n < writers*each || n > writers*each && name != "redis that loses replies" {
				t.Errorf("%d changes, want %d", n, writers*each)
			}
		})
	}
}

// losing loses the reply to the first Swap that changes something. Until it is repeated, others
// make changes.
type losing struct {
	Store
	meanwhile func()
}

func (l *losing) Swap(ctx context.Context, sink, receiver string, s Swap) (Swapped, error) {
	got, err := l.Store.Swap(ctx, sink, receiver, s)
	if f := l.meanwhile; got.Swapped && f != nil {
		l.meanwhile = nil
		f()
		return l.Store.Swap(ctx, sink, receiver, s)
	}
	return got, err
}

// A change whose reply was lost is found below those that others made since, and not made
// twice.
func TestAChangeIsFoundBelowThoseOfOthers(t *testing.T) {
	for _, others := range []int{0, 1, remembered - 1} {
		memory := &Memory{}
		another := &Gate{Store: memory}
		change := func(g *Gate) {
			t.Helper()
			if err := g.update(t.Context(), Try{Sink: "ops"}, false, more); err != nil {
				t.Fatal(err)
			}
		}
		change(another)
		change(&Gate{Store: &losing{memory, func() {
			for range others {
				change(another)
			}
		}}})
		if n := changes(t, memory); n != others+2 {
			t.Errorf("%d changes after %d of others, want %d", n, others, others+2)
		}
	}
}

// Receivers that callers make up fill nothing: those beyond the first thousand share one state.
func TestReceiversAreBounded(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			now := clock(t, s)
			for i := range receivers {
				r := swap(t, s, fmt.Sprint("r", i), "", "x", now)
				if !r.Swapped { // it took so long that the time is off
					r = swap(t, s, fmt.Sprint("r", i), "", "x", r.Now)
				}
				if now = r.Now; !r.Swapped {
					t.Fatalf("receiver %d: %+v", i, r)
				}
			}
			if r := swap(t, s, "one more", "", "x", now); r.Swapped || !r.Full {
				t.Errorf("one more: %+v, want it full", r)
			}
			if r := swap(t, s, rest, "", "shared", clock(t, s)); !r.Swapped {
				t.Errorf("the shared one: %+v", r)
			}
			if r := swap(t, s, "one more", "", "x", clock(t, s)); !r.Full || r.Current != "shared" {
				t.Errorf("one more: %+v, want the shared state", r)
			}
			if n := len(seen(t, s, "ops").States); n != receivers+1 {
				t.Errorf("%d states, want %d", n, receivers+1)
			}
		})
	}
}

func TestAStoreThatIsAwaySaysSo(t *testing.T) {
	server := redistest.Start(t)
	s := NewRedis(server.Client(t), "")
	server.Kill(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.LookAll(ctx, []string{"ops"}); fault.CodeOf(err) != fault.CodeDLQUnavailable {
		t.Errorf("LookAll = %v, want SINK_DLQ_UNAVAILABLE", err)
	}
	if _, err := s.Look(ctx, "ops"); fault.CodeOf(err) != fault.CodeDLQUnavailable {
		t.Errorf("got %v, want SINK_DLQ_UNAVAILABLE", err)
	}
}
