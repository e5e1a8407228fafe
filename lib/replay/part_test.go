package replay_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// tickTime is how long a tick has.
const tickTime = 55 * time.Second

// fleet are processes with an engine each, over one queue. Each has its own copy of what make returns.
type fleet struct {
	make func() *replay.Engine
	// start stands for what invokes another process. Nil: it comes at once.
	start func(ctx context.Context, r replay.Request, begin func()) error

	mu    sync.Mutex
	asked []replay.Request
	sums  []replay.Summary // of parts
	all   sync.WaitGroup
}

// engine returns another process, which asks for more as each does.
func (f *fleet) engine(tb testing.TB) *replay.Engine {
	tb.Helper()
	e := f.make()
	e.Start = func(ctx context.Context, r replay.Request) error {
		f.mu.Lock()
		f.asked = append(f.asked, r)
		f.mu.Unlock()
		begin := func() {
			f.all.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickTime)
				defer cancel()
				s, err := f.engine(tb).Run(ctx, r)
				if err != nil {
					tb.Error(err)
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				f.sums = append(f.sums, s)
			})
		}
		if f.start != nil {
			return f.start(ctx, r, begin)
		}
		begin()
		return nil
	}
	return e
}

// tick runs the schedule once, and waits for whomever it started.
func (f *fleet) tick(tb testing.TB) replay.Summary {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), tickTime)
	defer cancel()
	s, err := f.engine(tb).Run(ctx, replay.Request{Scheduled: true})
	if err != nil {
		tb.Errorf("tick: %v", err)
	}
	f.all.Wait()
	return s
}

// fleetOf returns a fleet of at most n over one queue and one gate.
func fleetOf(store dlq.Store, t delivery.Targets, n int) *fleet {
	gate := &flow.Memory{}
	return &fleet{make: func() *replay.Engine {
		e := engine(store, t)
		e.Gate, e.Replayers = &flow.Gate{Store: gate, Log: e.Log}, n
		return e
	}}
}

// A tick asks for as many replayers as what is due needs and may use.
func TestATickStartsAsManyReplayersAsTheBacklogAsksFor(t *testing.T) {
	type sink struct {
		due    int
		target delivery.Target
	}
	for name, c := range map[string]struct {
		sinks     map[string]sink
		replayers int // default 16
		want      int // others
		names     string
	}{
		"nothing is due":          {sinks: map[string]sink{"a": {}}, want: 0},
		"one gets it done":        {sinks: map[string]sink{"a": {due: 500}}, want: 0},
		"one does not":            {sinks: map[string]sink{"a": {due: 501}}, want: 1, names: "a"},
		"a hot sink":              {sinks: map[string]sink{"a": {due: 2250}, "b": {due: 10}}, want: 4, names: "a b"},
		"a hotter one":            {sinks: map[string]sink{"a": {due: 10_000}}, want: 15, names: "a"},
		"no more than may be":     {sinks: map[string]sink{"a": {due: 10_000}}, replayers: 3, want: 2, names: "a"},
		"no others":               {sinks: map[string]sink{"a": {due: 10_000}}, replayers: 1, want: 0},
		"many sinks of one's own": {sinks: map[string]sink{"a": {due: 450}, "b": {due: 450}, "c": {due: 450}}, want: 0},
		"together too many": {sinks: map[string]sink{
			"a": {due: 500}, "b": {due: 500}, "c": {due: 500}, "d": {due: 500}, "e": {due: 500}, "f": {due: 1},
		}, want: 1, names: "a b c d e f"},
		"a rate that one keeps busy":     {sinks: map[string]sink{"a": {due: 9000, target: delivery.Target{Replay: replay.Policy{Rate: 5}}}}, want: 0},
		"a rate for three":               {sinks: map[string]sink{"a": {due: 9000, target: delivery.Target{Replay: replay.Policy{Rate: 25}}}}, want: 2, names: "a"},
		"a receiver's rate for one":      {sinks: map[string]sink{"a": {due: 9000, target: delivery.Target{Flow: flow.Policy{Rate: flow.Rate{PerSecond: 8}}}}}, want: 0},
		"a receiver's rate for several":  {sinks: map[string]sink{"a": {due: 9000, target: delivery.Target{Flow: flow.Policy{Rate: flow.Rate{PerSecond: 24}}}}}, want: 2, names: "a"},
		"few at once, whatever is due":   {sinks: map[string]sink{"a": {due: 9000, target: delivery.Target{Replay: replay.Policy{Concurrency: 5}}}}, want: 0},
		"many at once, of all together":  {sinks: map[string]sink{"a": {due: 10_000, target: delivery.Target{Replay: replay.Policy{Concurrency: 120}}}}, want: 2, names: "a"},
		"a sink that cannot be used":     {sinks: map[string]sink{"a": {due: 9000, target: delivery.Target{ConfigErr: errors.New("no url")}}}, want: 0},
		"a bounded one beside a hot one": {sinks: map[string]sink{"a": {due: 9000, target: delivery.Target{Replay: replay.Policy{Concurrency: 1}}}, "b": {due: 750}}, want: 1, names: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			store, all := &numbers{Store: dlq.NewMemory(), due: map[string]int{}}, targets{}
			for name, s := range c.sinks {
				store.due[name] = s.due
				s.target.Sink = &receiver{name: name}
				all[name] = s.target
			}
			f := fleetOf(store, all, cmp.Or(c.replayers, 16))
			f.start = func(context.Context, replay.Request, func()) error { return nil } // nobody comes
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			store.end = cancel
			e := f.engine(t)
			s, _ := e.Run(ctx, replay.Request{Scheduled: true})
			if s.Started != c.want || s.Missing != 0 || len(f.asked) != c.want {
				t.Fatalf("started %d (%d asked for), missing %d; want %d and 0", s.Started, len(f.asked), s.Missing, c.want)
			}
			deadline, _ := ctx.Deadline()
			for i, r := range f.asked {
				if r.Part == nil || r.Part.Rank != i+1 || !r.Part.Until.Equal(deadline) || strings.Join(slices.Sorted(slices.Values(r.Sinks)), " ") != c.names {
					t.Errorf("asked for %+v (%+v), want rank %d, sinks %s, until %s", r, r.Part, i+1, c.names, deadline)
				}
			}
		})
	}
}

// numbers is a queue that has so many due as it says, and ends a run that begins to send.
type numbers struct {
	dlq.Store
	due map[string]int
	end func()
}

func (c *numbers) Stats(_ context.Context, sink string) (dlq.Stats, error) {
	n := int64(c.due[sink])
	return dlq.Stats{Depth: n, Remaining: n, States: map[dlq.State]int64{dlq.StateDue: n}, OldestAt: time.Now()}, nil
}

func (c *numbers) Gate(ctx context.Context, _, _ string, _ time.Duration) (bool, error) {
	c.end()
	return false, ctx.Err()
}

// Only a tick starts others: whom it started would start others again.
func TestOnlyATickStartsReplayers(t *testing.T) {
	part := &replay.Part{Rank: 1, Until: time.Now().Add(time.Hour)}
	for name, r := range map[string]replay.Request{
		"an embedder's or an operator's run": {},
		"some sinks":                         {Sinks: []string{"a"}},
		"a limit":                            {Limit: 10},
		"a part":                             {Sinks: []string{"a"}, Part: part},
	} {
		store := dlq.NewMemory()
		push(t, store, "a", "a", 600)
		f := fleetOf(store, configured(replay.Policy{}, &receiver{name: "a"}), 16)
		if s := run(t, f.engine(t), r); s.Started+s.Missing+len(f.asked) != 0 || s.Delivered == 0 {
			t.Errorf("%s: %+v, asked for %d", name, s.Counts, len(f.asked))
		}
	}
}

// Paused sinks, and those whose receiver is left alone, ask for nobody.
func TestWhatIsHeldBackAsksForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		until := time.Now().Add(10 * time.Minute)
		held := &receiver{name: "held", answer: func(context.Context, sinks.Message) error {
			if left := time.Until(until); left > 0 {
				return sinks.Hold(errDown, left)
			}
			return nil
		}}
		paused := &receiver{name: "paused"}
		push(t, store, "held", "h", 600)
		push(t, store, "paused", "p", 600)
		f := fleetOf(store, configured(replay.Policy{BaseDelay: time.Second, MaxDelay: time.Second}, held, paused), 16)
		if err := store.Pause(t.Context(), "paused", true); err != nil {
			t.Fatal(err)
		}
		run(t, f.make(), replay.Request{Sinks: []string{"held"}}) // meets the hold
		time.Sleep(time.Minute)
		if s := f.tick(t); s.Started != 0 || len(f.asked) != 0 || s.Delivered != 0 {
			t.Errorf("%+v, asked for %d", s, len(f.asked))
		}
		time.Sleep(time.Until(until) + time.Minute)
		if s := f.tick(t); s.Started != 1 || len(paused.calls()) != 0 || depth(t, store, "held") != 0 {
			t.Errorf("after the hold: %+v, want one started for it", s)
		}
	})
}

// A replayer that cannot be started is missing and nothing else; no more are asked for then.
func TestATickGoesOnWithoutThoseThatCannotBeStarted(t *testing.T) {
	for name, fails := range map[string]func(ctx context.Context) error{
		"refused": func(context.Context) error { return errors.New("TooManyRequestsException") },
		"hanging": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a"}
				push(t, store, "a", "a", 1600)
				f := fleetOf(store, configured(replay.Policy{}, sink), 16)
				f.start = func(ctx context.Context, r replay.Request, begin func()) error {
					if r.Part.Rank > 1 {
						return fails(ctx)
					}
					begin()
					return nil
				}
				s := f.tick(t)
				if s.Started != 1 || s.Missing != 2 || len(f.asked) != 2 {
					t.Errorf("started %d, missing %d of 3, asked for %d; want 1, 2 and 2", s.Started, s.Missing, len(f.asked))
				}
				if n := depth(t, store, "a"); n != 0 || len(sink.counts()) != 1600 || len(sink.calls()) != 1600 {
					t.Errorf("%d left, %d sends of %d letters", n, len(sink.calls()), len(sink.counts()))
				}
			})
		})
	}
}

// Started late, twice, or never: a part works until its tick ends, and sends nothing that another holds.
func TestAPartThatComesLateOrTwiceDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &receiver{name: "a", answer: takes(2*time.Second, nil)}
		push(t, store, "a", "a", 1600)
		f := fleetOf(store, configured(replay.Policy{}, sink), 16)
		var ends []time.Time
		f.start = func(_ context.Context, r replay.Request, begin func()) error {
			ends = append(ends, r.Part.Until)
			switch r.Part.Rank {
			case 1: // twice
				begin()
				begin()
			case 2: // a little later, and far too late
				for _, late := range []time.Duration{30 * time.Second, 56 * time.Second} {
					f.all.Go(func() {
						time.Sleep(late)
						begin()
					})
				}
			default: // lost
			}
			return nil
		}
		f.tick(t)
		if sink.double || len(sink.calls()) != len(sink.counts()) {
			t.Errorf("%d sends of %d letters, two at once: %v", len(sink.calls()), len(sink.counts()), sink.double)
		}
		for _, c := range sink.calls() {
			if c.at.After(ends[0]) {
				t.Fatalf("%s was sent at %s, after the tick's end at %s", c.id, c.at, ends[0])
			}
		}
		if len(f.sums) != 4 || int(depth(t, store, "a")) != 1600-len(sink.calls()) {
			t.Errorf("%d parts ran, %d are left after %d sends", len(f.sums), depth(t, store, "a"), len(sink.calls()))
		}
		if last := f.sums[3]; last.Claimed != 0 || len(last.Sinks) != 0 {
			t.Errorf("the late one: %+v, want nothing", last)
		}
	})
}

// Ten replayers get ten times as much done of a receiver that takes its time, and what bounds a sink
// bounds all of them together.
func TestReplayersShareWhatBoundsASink(t *testing.T) {
	for name, c := range map[string]struct {
		target    delivery.Target
		due       int
		delivered [2]int
		most      int // at once
	}{
		"no bound: ten at once in each": {due: 5000, delivered: [2]int{3500, 4400}, most: 100},
		"five at once":                  {target: delivery.Target{Replay: replay.Policy{Concurrency: 5}}, due: 600, delivered: [2]int{200, 221}, most: 5},
		"120 at once":                   {target: delivery.Target{Replay: replay.Policy{Concurrency: 120}}, due: 5500, delivered: [2]int{4700, 5300}, most: 120},
		"a rate of replays":             {target: delivery.Target{Replay: replay.Policy{Rate: 50}}, due: 3000, delivered: [2]int{1900, 2250}, most: 100},
		"a receiver's rate":             {target: delivery.Target{Flow: flow.Policy{Rate: flow.Rate{PerSecond: 100}}}, due: 5000, delivered: [2]int{2800, 4450}, most: 120},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := dlq.NewMemory()
				sink := &receiver{name: "a", answer: takes(time.Second, nil)}
				push(t, store, "a", "a", c.due)
				c.target.Sink = sink
				f := fleetOf(store, targets{"a": c.target}, 10)
				f.tick(t)
				n := len(sink.calls())
				if n < c.delivered[0] || n > c.delivered[1] || len(sink.counts()) != n || sink.double {
					t.Errorf("%d sends of %d letters, want %v, each once", n, len(sink.counts()), c.delivered)
				}
				if sink.most > c.most {
					t.Errorf("%d at once, want %d at most", sink.most, c.most)
				}
				if left := depth(t, store, "a"); int(left) != c.due-n {
					t.Errorf("%d left of %d after %d", left, c.due, n)
				}
				perSecond := cmp.Or(c.target.Replay.Rate, c.target.Flow.Rate.PerSecond)
				if perSecond == 0 {
					return
				}
				calls := sink.calls()
				slices.SortFunc(calls, func(a, b sent) int { return a.at.Compare(b.at) })
				for i := int(perSecond); i < len(calls); i++ {
					if calls[i].at.Sub(calls[i-int(perSecond)].at) < time.Second-time.Millisecond {
						t.Fatalf("more than %v in the second before %s", perSecond, calls[i].at)
					}
				}
			})
		})
	}
}

// A receiver that hangs holds up its own sink: whoever waits to try that goes on with the others.
func TestReplayersAreFairOverSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		all := targets{"hangs": {Sink: &receiver{name: "hangs", answer: takes(time.Hour, nil)}}}
		push(t, store, "hangs", "hangs", 1100)
		var others []*receiver
		for i := range 20 {
			r := &receiver{name: fmt.Sprintf("s%02d", i), answer: takes(100*time.Millisecond, nil)}
			others = append(others, r)
			all[r.name] = delivery.Target{Sink: r}
			push(t, store, r.name, r.name, 200)
		}
		f := fleetOf(store, all, 4)
		var fewest, most int
		first := time.AfterFunc(2*time.Second, func() {
			for i, r := range others {
				n := len(r.calls())
				if i == 0 {
					fewest, most = n, n
				}
				fewest, most = min(fewest, n), max(most, n)
			}
		})
		defer first.Stop()
		s := f.tick(t)
		if s.Started != 2 {
			t.Errorf("started %d, want 2", s.Started)
		}
		for _, r := range others {
			if n := len(r.calls()); n != 200 || depth(t, store, r.name) != 0 {
				t.Errorf("%s: %d sends, %d left; want all", r.name, n, depth(t, store, r.name))
			}
		}
		if fewest == 0 || most > 4*fewest {
			t.Errorf("after two seconds one sink had %d sends and another %d", fewest, most)
		}
	})
}

// A part replays. All else that a tick does is the tick's: two of it at once would tell, count and mark twice.
func TestAPartDoesNothingElseThatATickDoes(t *testing.T) {
	store := &housekeeping{Store: dlq.NewMemory()}
	sink := &receiver{name: "a"}
	push(t, store, "a", "a", 10)
	push(t, store, "a", "over", 1, func(it *dlq.Item) { it.ExpiresAt = time.Now().Add(-time.Second).UTC() })
	e := engine(store, configured(replay.Policy{}, sink))
	op, err := e.CreateOperation(t.Context(), replay.OperationRequest{Action: replay.OperationDiscard, Filter: &replay.Filter{Sink: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	store.did = nil
	s := run(t, e, replay.Request{Sinks: []string{"a", "a", "gone"}, Part: &replay.Part{Rank: 1, Until: time.Now().Add(time.Minute)}})
	if s.Sinks["a"].Delivered != 10 || s.Sinks["a"].Remaining != -1 || s.Sinks["gone"].Error == "" {
		t.Errorf("%+v, want ten delivered, and what is wrong with the other sink", s)
	}
	if len(store.did) > 0 {
		t.Errorf("it did %q besides", store.did)
	}
	if op, err = e.Operation(t.Context(), op.ID); err != nil || op.Status != replay.OperationQueued {
		t.Errorf("the operation is %s, %v; want it untouched", op.Status, err)
	}
}

// housekeeping notes what a run does that is no replay.
type housekeeping struct {
	dlq.Store
	mu  sync.Mutex
	did []string
}

func (h *housekeeping) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, what)
}

func (h *housekeeping) Sinks(ctx context.Context) ([]string, error) {
	h.note("Sinks")
	return h.Store.Sinks(ctx)
}

func (h *housekeeping) Stats(ctx context.Context, sink string) (dlq.Stats, error) {
	h.note("Stats") // it mends
	return h.Store.Stats(ctx, sink)
}

func (h *housekeeping) Beat(ctx context.Context) error {
	h.note("Beat")
	return h.Store.Beat(ctx)
}

func (h *housekeeping) PruneCanceled(ctx context.Context, sink string) (int64, error) {
	h.note("PruneCanceled")
	return h.Store.PruneCanceled(ctx, sink)
}

func (h *housekeeping) NewGroups(ctx context.Context, sink string) ([]dlq.Group, error) {
	h.note("NewGroups")
	return h.Store.NewGroups(ctx, sink)
}

func (h *housekeeping) Retire(ctx context.Context, sink string, before time.Time) (int64, bool, error) {
	h.note("Retire")
	return h.Store.Retire(ctx, sink, before)
}

// Processes of a tick and of the next one over a real Redis: each letter is sent once.
func TestReplayersOfTwoTicksSendEachLetterOnce(t *testing.T) {
	const letters = 1500
	store, sink := redisStore(t), &receiver{name: "a", answer: func(context.Context, sinks.Message) error { return nil }}
	push(t, store, "a", "a", letters)
	f := fleetOf(store, configured(replay.Policy{}, sink), 5)
	var ticks sync.WaitGroup
	for range 2 {
		ticks.Go(func() { f.tick(t) })
	}
	ticks.Wait()
	if len(sink.calls()) != letters || len(sink.counts()) != letters || depth(t, store, "a") != 0 {
		t.Errorf("%d sends of %d letters, %d left", len(sink.calls()), len(sink.counts()), depth(t, store, "a"))
	}
	if len(f.asked) == 0 {
		t.Error("nobody was started")
	}
}
