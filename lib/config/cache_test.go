package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/fault"

	"github.com/aws/smithy-go"
)

// cached returns a cache over a fake SSM with the one sink "a".
func cached(t *testing.T, o Options) (*Cache, *fakeSSM) {
	t.Helper()
	client := &fakeSSM{params: map[string]string{"/sinks/a": oneSink}}
	o.SSM = client
	return NewCache(parsed(t, "ssm:/sinks/*"), o), client
}

const oneSink = "kind: fake\nurl: https://one"

func mustGet(t *testing.T, c *Cache) *Snapshot {
	t.Helper()
	s, err := c.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// settle lets a hanging refresh run into its time-out: a bubble must not end before.
func settle() {
	time.Sleep(DefaultFetchTimeout)
	synctest.Wait()
}

func TestAFreshConfigurationIsReadOnceAndCostsNoAllocation(t *testing.T) {
	c, client := cached(t, Options{})
	ctx := t.Context()
	mustGet(t, c)
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := c.Get(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Sink(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 || client.reads() != 1 {
		t.Errorf("%v allocations and %d reads, want 0 and 1", allocs, client.reads())
	}
}

func TestAConfigurationIsRefreshedAfter80To100PercentOfTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{TTL: 100 * time.Second})
		first := mustGet(t, c)
		time.Sleep(79 * time.Second)
		client.set(func(f *fakeSSM) { f.params["/sinks/a"] = "kind: fake\nurl: https://two" })
		if mustGet(t, c) != first || client.reads() != 1 {
			t.Fatal("refreshed before 80% of the TTL")
		}
		time.Sleep(21 * time.Second)
		second := mustGet(t, c) // stale: it waits
		if got := urlOf(t, second.sinks["a"]); got != "https://two" {
			t.Errorf("url %q after the TTL, want https://two", got)
		}
		if got := second.LoadedAt().Sub(first.LoadedAt()); got != 100*time.Second || c.Age() != 0 {
			t.Errorf("loaded %s later, age %s", got, c.Age())
		}
	})
}

// On a busy process, a call finds the configuration due before it is stale: the refresh
// runs beside the deliveries.
func TestARefreshAheadOfTheTTLKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{TTL: 100 * time.Second})
		first := mustGet(t, c)
		client.set(func(f *fakeSSM) { f.hang = true })
		for range 100 {
			time.Sleep(time.Second - time.Millisecond)
			began := time.Now()
			if s := mustGet(t, c); s != first {
				t.Fatal("a refresh that hangs gave a configuration")
			}
			if waited := time.Since(began); waited != 0 {
				t.Fatalf("waited %s, %s after the first reading", waited, time.Since(first.LoadedAt()))
			}
		}
		time.Sleep(99 * time.Millisecond) // a millisecond is left
		mustGet(t, c)
		synctest.Wait()
		if client.reads() < 2 {
			t.Error("nothing was refreshed before the TTL")
		}
		settle()
	})
}

// A process may be frozen in its refresh ahead. Who finds the configuration stale
// afterwards waits for it, as if it had been started then.
func TestAStaleConfigurationIsNotUsedBecauseARefreshAheadIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{TTL: 100 * time.Second, FetchTimeout: time.Minute})
		mustGet(t, c)
		client.set(func(f *fakeSSM) { f.delay = 500*time.Millisecond + 20*time.Second })
		time.Sleep(100*time.Second - time.Millisecond)
		mustGet(t, c) // starts it
		client.set(func(f *fakeSSM) { f.params["/sinks/a"] = "kind: fake\nurl: https://two" })
		time.Sleep(20 * time.Second) // stale by now
		if got := urlOf(t, mustGet(t, c).sinks["a"]); got != "https://two" {
			t.Errorf("url %q, want what the refresh under way reads", got)
		}
		settle()
	})
}

// A process may be frozen in a refresh that nobody waits for. When it goes on, that
// refresh ends by its own time-out, before or after somebody asks, which says nothing of
// the source: whoever asks gets what the source has now, and waits for it.
func TestARefreshThatAProcessWasFrozenInIsNoFailureOfItsSource(t *testing.T) {
	const frozen = time.Hour
	for name, tt := range map[string]struct {
		asleep time.Duration // until somebody asks
		sink   string
	}{
		"a stale one, asked for before it ends": {frozen - time.Millisecond, "a"},
		"a stale one, asked for after it ended": {frozen + time.Millisecond, "a"},
		"an unknown sink, before it ends":       {frozen - time.Millisecond, "new"},
		"an unknown sink, after it ended":       {frozen + time.Millisecond, "new"},
	} {
		for _, begin := range []string{"ahead", "by an unknown sink"} {
			t.Run(name+", begun "+begin, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var logged bytes.Buffer
					c, client := cached(t, Options{TTL: 100 * time.Second, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
					mustGet(t, c)
					time.Sleep(100*time.Second - time.Millisecond)
					client.set(func(f *fakeSSM) { f.frozen = frozen })
					if begin == "ahead" {
						mustGet(t, c)
					} else {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
						defer cancel()
						_, _ = c.Sink(ctx, "unknown") // who asked went away
					}
					synctest.Wait()
					client.set(func(f *fakeSSM) {
						f.params = map[string]string{"/sinks/a": "kind: fake\nurl: https://two", "/sinks/new": "kind: fake\nurl: https://two"}
					})
					time.Sleep(tt.asleep)
					s, err := c.Sink(t.Context(), tt.sink)
					if err != nil {
						t.Fatalf("refused: %v", err)
					}
					if got := urlOf(t, s); got != "https://two" {
						t.Errorf("url %q, want what the source has now", got)
					}
					time.Sleep(time.Second) // the frozen one ends, if it did not before
					synctest.Wait()
					if got := urlOf(t, mustGet(t, c).sinks["a"]); got != "https://two" || c.LastError() != nil || logged.Len() > 0 {
						t.Errorf("afterwards: url %q, last error %v, log %q; want no trace of it", got, c.LastError(), &logged)
					}
				})
			})
		}
	}
}

// The same for one that is over in time: where nobody waited, nobody knows whether the
// process was awake.
func TestARefreshThatNobodyWaitedForHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{TTL: 100 * time.Second})
		mustGet(t, c)
		time.Sleep(100*time.Second - time.Millisecond)
		client.set(func(f *fakeSSM) { f.hang = true })
		mustGet(t, c) // begins it
		synctest.Wait()
		client.set(func(f *fakeSSM) {
			f.hang, f.params = false, map[string]string{"/sinks/a": "kind: fake\nurl: https://two", "/sinks/new": oneSink}
		})
		var wg sync.WaitGroup
		time.Sleep(DefaultFetchTimeout - time.Millisecond)
		for range 10 { // all wait for it, and then for the next one
			wg.Go(func() {
				if s, err := c.Sink(t.Context(), "a"); err != nil || urlOf(t, s) != "https://two" {
					t.Errorf("got %v, %v; want what the source has now", s, err)
				}
				if _, err := c.Sink(t.Context(), "new"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := client.reads(); n != 3 {
			t.Errorf("%d reads, want 3", n)
		}
	})
}

func TestStaleTimesSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jitter(100 * time.Second)
		if d < 80*time.Second || d > 100*time.Second {
			t.Fatalf("jitter(100s) = %s, want 80 to 100s", d)
		}
		seen[d.Truncate(time.Second)] = true
	}
	if len(seen) < 10 {
		t.Errorf("100 stale times fall into %d seconds, want them spread", len(seen))
	}
}

func TestOneRefreshServesAllAndOnlyItsStarterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{TTL: time.Minute})
		first := mustGet(t, c)
		time.Sleep(time.Minute)
		client.set(func(f *fakeSSM) { f.hang = true })

		var waited [20]time.Duration
		var wg sync.WaitGroup
		for i := range waited {
			wg.Go(func() {
				began := time.Now()
				if s, err := c.Get(t.Context()); err != nil || s != first {
					t.Errorf("Get returned %v, %v, want the last good configuration", s, err)
				}
				waited[i] = time.Since(began)
			})
		}
		wg.Wait()
		counts := map[time.Duration]int{}
		for _, d := range waited {
			counts[d]++
		}
		if counts[0] != 19 || counts[time.Second] != 1 {
			t.Errorf("waits %v, want one call to wait a second and the others not at all", counts)
		}
		if got := client.reads(); got != 2 {
			t.Errorf("%d reads, want one refresh", got)
		}
		settle()
		if err := c.LastError(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("last error %v, want the fetch's time-out", err)
		}
	})
}

func TestTheStarterWaitsATenthOfItsTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{TTL: time.Minute})
		mustGet(t, c)
		time.Sleep(time.Minute)
		client.set(func(f *fakeSSM) { f.hang = true })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := c.Get(ctx); err != nil || time.Since(began) != 300*time.Millisecond {
			t.Errorf("waited %s, %v; want 300ms", time.Since(began), err)
		}
		settle()
	})
}

func TestARefreshOutlivesTheCallThatStartedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := cached(t, Options{TTL: time.Minute})
		first := mustGet(t, c)
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if mustGet(t, c) == first {
			t.Error("the refresh died with its caller")
		}
	})
}

func TestTheLastGoodConfigurationStaysInUse(t *testing.T) {
	faults := map[string]func(*fakeSSM){
		"throttled": func(f *fakeSSM) { f.fail = apiError("ThrottlingException", smithy.FaultClient) },
		"denied":    func(f *fakeSSM) { f.fail = apiError("AccessDeniedException", smithy.FaultClient) },
		"outage":    func(f *fakeSSM) { f.fail = errors.New("connection refused") },
		"time-out":  func(f *fakeSSM) { f.hang = true },
		"empty":     func(f *fakeSSM) { f.params = nil },
		"nonsense":  func(f *fakeSSM) { f.params = map[string]string{"/sinks/a": "<html>"} },
	}
	want := map[string]string{
		"throttled": "ThrottlingException", "denied": "AccessDeniedException", "outage": "connection refused",
		"time-out": "context deadline exceeded", "empty": "no parameters directly under /sinks", "nonsense": "not one sink is valid any more",
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logged bytes.Buffer
				c, client := cached(t, Options{TTL: time.Minute, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
				first := mustGet(t, c)
				client.set(fault)
				for range 60 { // half an hour of calls
					time.Sleep(30 * time.Second)
					if mustGet(t, c) != first {
						t.Fatal("the last good configuration was given up")
					}
				}
				settle()
				if err := c.LastError(); err == nil || !strings.Contains(err.Error(), want[name]) {
					t.Errorf("last error %v, want %q", err, want[name])
				}
				if got := c.Age(); got < 30*time.Minute {
					t.Errorf("age %s, want half an hour", got)
				}
				if n := strings.Count(logged.String(), "sink configuration not refreshed"); n < 20 || n > 60 {
					t.Errorf("%d warnings for 60 calls in 30 minutes", n)
				}

				client.set(func(f *fakeSSM) {
					f.fail, f.hang, f.params = nil, false, map[string]string{"/sinks/a": "kind: fake\nurl: https://two"}
				})
				time.Sleep(lastPause)
				if got := urlOf(t, mustGet(t, c).sinks["a"]); got != "https://two" || c.LastError() != nil {
					t.Errorf("after the fault: url %q, last error %v", got, c.LastError())
				}
			})
		})
	}
}

func TestWithoutAnyConfigurationCallsFailAndRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{})
		client.set(func(f *fakeSSM) { f.fail = errors.New("connection refused") })
		check := func() {
			t.Helper()
			for _, err := range []error{second(c.Get(t.Context())), second(c.Sink(t.Context(), "a"))} {
				if fault.CodeOf(err) != fault.CodeSinkConfigInvalid || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("error %v, want SINK_CONFIG_INVALID with its cause", err)
				}
			}
		}
		check()
		if c.Age() != -1 {
			t.Errorf("age %s, want -1", c.Age())
		}
		for range 1000 { // a flood within the pause asks nobody
			check()
		}
		if got := client.reads(); got != 1 {
			t.Errorf("%d reads, want 1", got)
		}
		for range 600 { // ten minutes: the pauses grow to a minute
			time.Sleep(time.Second)
			check()
		}
		if got := client.reads(); got < 12 || got > 22 {
			t.Errorf("%d reads in ten minutes, want a try about every minute in the end", got)
		}
		client.set(func(f *fakeSSM) { f.fail = nil })
		time.Sleep(lastPause)
		if s := mustGet(t, c); urlOf(t, s.sinks["a"]) != "https://one" || c.LastError() != nil {
			t.Errorf("after the outage: %v, %v", s.Names(), c.LastError())
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestTheFirstReadingEndsWithTheCallersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{})
		client.set(func(f *fakeSSM) { f.hang = true })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		_, err := c.Get(ctx)
		if got := time.Since(began); got != 2*time.Second || fault.CodeOf(err) != fault.CodeSinkConfigInvalid || !strings.Contains(err.Error(), "not read in time") {
			t.Errorf("after %s: %v; want SINK_CONFIG_INVALID after 2s", got, err)
		}
		// Without a deadline, the fetch's own time-out ends it.
		_, err = c.Get(t.Context())
		if got := time.Since(began); got != DefaultFetchTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v; want the time-out after %s", got, err, DefaultFetchTimeout)
		}
	})
}

func TestManyFirstCallsShareOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if s, err := c.Sink(t.Context(), "a"); err != nil || s.Name != "a" {
					t.Errorf("Sink returned %v, %v", s, err)
				}
			})
		}
		wg.Wait()
		if got := client.reads(); got != 1 {
			t.Errorf("%d reads, want 1", got)
		}
	})
}

func TestAnUnknownSinkForcesOneEarlyRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{})
		mustGet(t, c)
		time.Sleep(time.Second)
		client.set(func(f *fakeSSM) { f.params["/sinks/new"] = oneSink })
		if s, err := c.Sink(t.Context(), "new"); err != nil || s.Name != "new" {
			t.Errorf("a sink configured a moment ago: %v, %v", s, err)
		}
		if got := client.reads(); got != 2 {
			t.Errorf("%d reads, want 2", got)
		}
	})
}

func TestAFloodOfUnknownNamesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{TTL: time.Hour})
		mustGet(t, c)
		for i := range 60 {
			time.Sleep(time.Second)
			var wg sync.WaitGroup
			for j := range 20 {
				wg.Go(func() {
					_, err := c.Sink(t.Context(), fmt.Sprintf("bad-%d-%d", i, j))
					if fault.CodeOf(err) != fault.CodeSinkNotFound {
						t.Errorf("error %v, want SINK_NOT_FOUND", err)
					}
				})
			}
			wg.Wait()
		}
		if got := client.reads(); got != 1+6 {
			t.Errorf("%d reads in a minute of unknown names, want 1 and one per 10 s", got)
		}
	})
}

func TestANameThatNoSinkCanHaveForcesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{})
		mustGet(t, c)
		time.Sleep(time.Minute)
		for _, name := range []string{"", "Upper", "a b", "{x}", strings.Repeat("a", 65)} {
			if _, err := c.Sink(t.Context(), name); fault.CodeOf(err) != fault.CodeSinkNotFound {
				t.Errorf("%q: error %v, want SINK_NOT_FOUND", name, err)
			}
		}
		if got := client.reads(); got != 1 {
			t.Errorf("%d reads, want 1", got)
		}
	})
}

func TestWhetherASinkExistsIsNotKnownWhileTheSourceIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{})
		mustGet(t, c)
		time.Sleep(time.Minute)
		client.set(func(f *fakeSSM) { f.hang = true })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := c.Sink(ctx, "new")
		if fault.CodeOf(err) != fault.CodeSinkConfigInvalid || !strings.Contains(err.Error(), "1m5s old") {
			t.Errorf("error %v, want SINK_CONFIG_INVALID with the age", err)
		}
		if s, err := c.Sink(ctx, "a"); err != nil || s.Name != "a" {
			t.Errorf("the known sink: %v, %v", s, err)
		}
	})
}

func TestAnEarlyRefreshLeavesHalfOfTheCallersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := cached(t, Options{})
		mustGet(t, c)
		time.Sleep(time.Minute)
		client.set(func(f *fakeSSM) { f.hang = true })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := c.Sink(ctx, "new"); fault.CodeOf(err) != fault.CodeSinkConfigInvalid || time.Since(began) != time.Second {
			t.Errorf("after %s: %v, want SINK_CONFIG_INVALID after 1s", time.Since(began), err)
		}
		settle()
	})
}

func TestANewFindingIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		c, client := cached(t, Options{TTL: time.Minute, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		client.set(func(f *fakeSSM) { f.params["/sinks/b"] = "kind: fake\nurll: hunter2hunter2" })
		for range 10 {
			mustGet(t, c)
			time.Sleep(time.Minute)
		}
		if n := strings.Count(logged.String(), "sink=b"); n != 2 { // the unknown key and the missing one
			t.Errorf("logged %d findings, want 2:\n%s", n, &logged)
		}
		if strings.Contains(logged.String(), "hunter2") {
			t.Errorf("the log shows a value:\n%s", &logged)
		}
	})
}
