package flow

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// failing returns a receiver that five deliveries have made failing.
func failing(now int64) State {
	var s State
	for i := range suspects {
		s = s.report(Policy{}.Normalize(), event{now: now, outcome: Outcome{Result: Bad, Lost: true, Delivery: fmt.Sprint(i)}})
	}
	return s
}

// Only outcomes of attempts that began in this episode count, and both sides of them.
func TestOutcomesCountOfThisEpisodeAlone(t *testing.T) {
	p := Policy{}.Normalize()
	s := failing(1000)
	if s.Status != Failing {
		t.Fatalf("%+v, want it failing", s)
	}
	for _, mark := range []int64{0, s.Since - 1, s.Since + 1} {
		for range 100 {
			s = s.report(p, event{now: 1001, process: "a", outcome: Outcome{Result: Bad, Mark: mark, Row: true}})
		}
	}
	if s.Now != (Tally{}) || len(s.Rows) > 0 || s.Status != Failing {
		t.Errorf("%+v after outcomes of other episodes, want none counted", s)
	}
	s = s.report(p, event{now: 1002, outcome: Outcome{Result: Bad, Mark: s.Since}})
	s = s.report(p, event{now: 1002, outcome: Outcome{Result: Good, Mark: s.Since}})
	if s.Now != (Tally{Good: 1, Bad: 1}) {
		t.Errorf("%+v, want one of each", s.Now)
	}
}

// What opens a breaker, by the outcomes since it is failing.
func TestWhatOpens(t *testing.T) {
	for name, c := range map[string]struct {
		bad, good int
		rows      int
		opens     bool
	}{
		"too few":                           {19, 0, 0, false},
		"all of the least":                  {20, 0, 0, true},
		"half of the least, by chance":      {10, 10, 0, false},
		"three quarters of the least":       {15, 5, 0, true},
		"half of twice the least":           {20, 20, 0, true},
		"a fifth of many":                   {200, 800, 0, false},
		"just under half":                   {199, 201, 0, false},
		"two processes with a row":          {4, 0, 2, false},
		"three processes with a row":        {4, 0, 3, true},
		"three rows, and a success between": {4, 1, 2, false},
	} {
		s := failing(1000)
		report := func(o Outcome, process string) {
			o.Mark = s.Since
			if s.Status == Failing {
				s = s.report(Policy{}.Normalize(), event{now: 1500, process: process, outcome: o})
			}
		}
		// Good ones first: the order decides only when, not whether.
		for range c.good {
			report(Outcome{Result: Good}, "x")
		}
		for range c.bad {
			report(Outcome{Result: Bad}, "x")
		}
		for i := range c.rows {
			report(Outcome{Result: Bad, Row: true}, fmt.Sprint(i))
		}
		if got := s.Status == Open; got != c.opens {
			t.Errorf("%s: open %v, want %v (%+v)", name, got, c.opens, s)
		}
	}
}

// A success takes away what the rows of others said.
func TestASuccessEndsTheRows(t *testing.T) {
	p := Policy{}.Normalize()
	s := failing(1000)
	for _, o := range []Outcome{{Result: Bad, Row: true}, {Result: Bad, Row: true}, {Result: Good}, {Result: Bad, Row: true}} {
		o.Mark = s.Since
		s = s.report(p, event{now: 1500, process: fmt.Sprint(s.Now), outcome: o})
	}
	if len(s.Rows) != 1 || s.Status != Failing {
		t.Errorf("%+v, want one row since the success", s)
	}
}

// A receiver that begins to fail wholly, after hours in which a third failed, is open soon: old
// outcomes go.
func TestOldOutcomesGo(t *testing.T) {
	p := Policy{}.Normalize()
	s, now := failing(1000), int64(1000)
	for range 3600 { // an hour, one per second
		for i := range 3 {
			r := Good
			if i == 0 {
				r = Bad
			}
			s = s.report(p, event{now: now, outcome: Outcome{Result: r, Mark: s.Since}})
		}
		now += 1000
	}
	if s.Status != Failing {
		t.Fatalf("%+v at a third of failures, want it failing", s)
	}
	for n := 0; s.Status == Failing; n++ {
		if n > 200 {
			t.Fatalf("%d failures in a row have not opened it: %+v", n, s)
		}
		s = s.report(p, event{now: now, outcome: Outcome{Result: Bad, Mark: s.Since}})
		now += 300
	}
}

// Without a failure for a window nothing is left of it.
func TestAQuietWindowEndsAnEpisode(t *testing.T) {
	p := Policy{}.Normalize()
	s := failing(1000)
	s.tidy(p, 1000+p.Breaker.Window.Milliseconds())
	if s.Status != Failing {
		t.Errorf("%+v within the window, want it failing", s)
	}
	s.tidy(p, 1001+p.Breaker.Window.Milliseconds())
	if !s.Well() || len(s.Seen) > 0 {
		t.Errorf("%+v after the window, want nothing left", s)
	}
	// Five failures over more than a window are five single ones.
	s = State{}
	for i := range 20 {
		s = s.report(p, event{now: int64(1000 + i*8000), outcome: Outcome{Result: Bad, Lost: true, Delivery: fmt.Sprint(i)}})
	}
	if s.Status != OK {
		t.Errorf("%+v, want single failures", s)
	}
	// So are five of one delivery.
	s = State{}
	for range 20 {
		s = s.report(p, event{now: 1000, outcome: Outcome{Result: Bad, Lost: true, Delivery: "the same"}})
	}
	if s.Status != OK {
		t.Errorf("%+v, want one delivery's failures to be one", s)
	}
}

// Probes come after 1, 2, 4 ... seconds, up to ProbeEvery.
func TestProbesComeLaterAndLater(t *testing.T) {
	p := Policy{}.Normalize()
	s, now := failing(1000), int64(1000)
	s.open(now)
	var waits []time.Duration
	last := now
	for i := 0; len(waits) < 8; i++ {
		token := fmt.Sprint(i)
		var g grant
		if s, g = s.ask(p, event{now: now, token: token, until: now + 100}); g.verdict != Go {
			if g.at <= now {
				t.Fatalf("told to ask again at %d, now is %d", g.at, now)
			}
			now = g.at
			continue
		}
		waits = append(waits, time.Duration(now-last)*time.Millisecond)
		last = now
		s = s.end(p, event{now: now + 10, token: token, result: Bad})
	}
	const s1 = time.Second
	if want := []time.Duration{s1, 2 * s1, 4 * s1, 8 * s1, 16 * s1, 30 * s1, 30 * s1, 30 * s1}; !slices.Equal(waits, want) {
		t.Fatalf("waits %v, want %v", waits, want)
	}
}

// Holds only grow, up to the most.
func TestHoldsOnlyGrow(t *testing.T) {
	p := Policy{MaxHold: time.Minute}.Normalize()
	var s State
	for _, c := range []struct{ until, want int64 }{{5000, 5000}, {3000, 5000}, {9000, 9000}, {1 << 40, 61_000}, {10_000, 61_000}} {
		if s = s.hold(p, event{now: 1000, until: c.until}); s.Held != c.want {
			t.Errorf("held until %d after %d, want %d", s.Held, c.until, c.want)
		}
	}
}

func TestPolicyNamesItsFaults(t *testing.T) {
	if err := (Policy{}).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	bad := Policy{
		MaxHold: 48 * time.Hour, Rate: Rate{Burst: -1}, Concurrency: -1,
		Breaker: Breaker{FailurePercent: 101, Least: -1, Window: 10 * time.Millisecond, ProbeEvery: 48 * time.Hour},
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		"breaker.failure_percent: want 1 to 100, got 101", "breaker.least: want at least 1, got -1", "breaker.window: want 1s to 24h, got 10ms",
		"breaker.probe_every: want 1s to 24h, got 48h0m0s", "max_hold: want more than 0, at most 24h, got 48h0m0s",
		"rate.per_second: want more than 0 (0.00001 to 1000000), got 0", "rate.burst: want 1 to 1000000, got -1", "concurrency: want at least 1, got -1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nsays nothing of %q", err, want)
		}
	}
}
