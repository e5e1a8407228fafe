package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

func TestADeliveredItemIsDiscardedOrKept(t *testing.T) {
	tests := []struct {
		name    string
		policy  replay.OnSuccess
		request replay.OnSuccess
		kept    bool
	}{
		{"by default it is discarded", "", "", false},
		{"the policy keeps it", replay.OnSuccessKeep, "", true},
		{"the request overrides the policy", replay.OnSuccessKeep, replay.OnSuccessDiscard, false},
		{"the request keeps it", "", replay.OnSuccessKeep, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink, seen := dlq.NewMemory(), &receiver{name: "a"}, &records{}
				ids := push(t, store, "a", "m", 3)
				e := engine(store, configured(replay.Policy{OnSuccess: tt.policy}, sink))
				watch := &counter{}
				e.Observer, e.Records = watch, seen
				s := run(t, e, replay.Request{OnSuccess: tt.request})
				if want := (replay.Counts{Claimed: 3, Delivered: 3}); s.Counts != want || s.Sinks["a"].Counts != want {
					t.Errorf("summary %+v, want %+v", s, want)
				}
				if got := sink.counts(); !maps.Equal(got, map[string]int{"m0": 1, "m1": 1, "m2": 1}) {
					t.Errorf("sent %v, want each once under its own id", got)
				}
				if watch.delivered != 3 || watch.failed != 0 {
					t.Errorf("observed %+v, want 3 delivered", watch)
				}
				if got := seen.set[delivery.Key{Sink: "a", ID: "m1"}]; len(seen.set) != 3 || got != delivery.StatusDelivered {
					t.Errorf("records %v, want 3 delivered", seen.set)
				}
				if !tt.kept {
					if n := depth(t, store, "a"); n != 0 {
						t.Errorf("%d dead letters are left, want 0", n)
					}
					return
				}
				for _, id := range ids {
					if it := get(t, store, id); it.DeliveredAt.IsZero() || it.State(time.Now()).Scheduled() {
						t.Errorf("item %+v, want delivered and not due", it)
					}
				}
				if again := run(t, e, replay.Request{}); again.Claimed != 0 {
					t.Errorf("kept items were replayed again: %+v", again)
				}
			})
		})
	}
}

func TestAFailingItemComesBackLaterAndLaterUntilItIsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		id := push(t, store, "a", "m", 1)[0]
		e := engine(store, configured(replay.Policy{MaxReplays: 4, MaxDelay: 3 * time.Minute}, sink))
		watch := &counter{}
		e.Observer = watch
		for i, delay := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute} {
			now := time.Now()
			if s := run(t, e, replay.Request{}); s.Counts != (replay.Counts{Claimed: 1, Failed: 1, Remaining: 1}) {
				t.Fatalf("replay %d: summary %+v, want one failed and remaining", i+1, s)
			}
			it := get(t, store, id)
			if it.Replays != i+1 || it.NextReplayAt.Sub(now).Round(time.Millisecond) != delay || len(it.History) != i+1 {
				t.Fatalf("after replay %d: replays %d, due in %s, history %v; want %d, %s", i+1, it.Replays, it.NextReplayAt.Sub(now), it.History, i+1, delay)
			}
			time.Sleep(delay - time.Second)
			if s := run(t, e, replay.Request{}); s.Claimed != 0 {
				t.Fatalf("it was replayed before its time: %+v", s)
			}
			time.Sleep(time.Second + time.Millisecond)
		}
		if s := run(t, e, replay.Request{}); s.Counts != (replay.Counts{Claimed: 1, Parked: 1}) {
			t.Errorf("the fourth failure: summary %+v, want parked", s)
		}
		if it := get(t, store, id); !it.Parked || it.State(time.Now()).Scheduled() || it.ID != id {
			t.Errorf("item %+v, want parked under the same id", it)
		}
		if watch.failed != 4 || watch.parked != 1 {
			t.Errorf("observed %+v, want 4 failed, 1 of them parked", watch)
		}
		time.Sleep(100 * time.Hour)
		if s := run(t, e, replay.Request{}); s.Claimed != 0 || len(sink.calls()) != 4 {
			t.Errorf("a parked item was replayed: %+v", s)
		}
	})
}

func TestWhatBecomesOfAFailure(t *testing.T) {
	panics := func(context.Context, sinks.Message) error { panic("boom") }
	tests := []struct {
		name    string
		answer  func(context.Context, sinks.Message) error
		dedup   bool
		change  func(*dlq.Item)
		due     time.Duration // 0: held
		replays int
	}{
		{name: "transient", answer: fails(errDown), due: time.Minute, replays: 1},
		{name: "Retry-After beyond the delay is respected", answer: fails(sinks.RetryAfter(errDown, time.Hour)), due: time.Hour, replays: 1},
		{name: "Retry-After within the delay changes nothing", answer: fails(sinks.RetryAfter(errDown, time.Second)), due: time.Minute, replays: 1},
		{name: "terminal", answer: fails(errGone), replays: 1},
		{name: "ambiguous, to a sink without deduplication", answer: fails(errMaybe), replays: 1},
		{name: "ambiguous, to a sink with deduplication", answer: fails(errMaybe), dedup: true, due: time.Minute, replays: 1},
		{name: "a sink that hangs", answer: takes(time.Hour, nil), due: time.Minute, replays: 1},
		{name: "a panic", answer: panics, replays: 1},
		{name: "a message that cannot be sent", answer: fails(&fault.Error{Code: fault.CodeInvalidArgument}), replays: 1},
		{name: "a recipient that cannot be decoded", change: func(it *dlq.Item) { it.Recipient = json.RawMessage(`"bad"`) }, replays: 1},
		{name: "a sink configured wrongly is not charged", answer: fails(&fault.Error{Code: fault.CodeSinkConfigInvalid}), due: time.Minute},
		{name: "what the process lacks is not charged", answer: fails(sinks.Ours(&fault.Error{Code: fault.CodeSinkUnavailable})), due: time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a", answer: tt.answer, dedup: tt.dedup}
				change := tt.change
				if change == nil {
					change = func(*dlq.Item) {}
				}
				id := push(t, store, "a", "m", 1, change)[0]
				s := run(t, engine(store, configured(replay.Policy{}, sink)), replay.Request{})
				if s.Failed != 1 || s.Claimed != 1 {
					t.Errorf("summary %+v, want one failed", s)
				}
				it := get(t, store, id)
				if it.Replays != tt.replays || len(it.History) != 1 || it.History[0].Error == "" {
					t.Errorf("replays %d, history %v; want %d and the failure", it.Replays, it.History, tt.replays)
				}
				if tt.due == 0 {
					if it.State(time.Now()).Scheduled() || it.Parked {
						t.Errorf("item %+v, want held: never due, not parked", it)
					}
					return
				}
				if got := time.Until(it.NextReplayAt).Round(10 * time.Millisecond); !it.State(time.Now()).Scheduled() || got != tt.due {
					t.Errorf("due in %s, want %s", got, tt.due)
				}
			})
		})
	}
}

func TestAReplayMakesTheAttemptsOfItsPolicyAndNeverDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		push(t, store, "a", "m", 1)
		wrapped := retry.NewRetrier(sink, retry.Config{MaxAttempts: 5}, store)
		e := engine(store, targets{"a": {Sink: wrapped, Retry: retry.Config{MaxAttempts: 7}, Replay: replay.Policy{Attempts: 2}}})
		run(t, e, replay.Request{})
		if got := len(sink.calls()); got != 2 {
			t.Errorf("%d Send calls, want 2", got)
		}
		if n := depth(t, store, "a"); n != 1 {
			t.Errorf("%d dead letters, want the one that was there", n)
		}
	})
}

func TestAMessageWithoutIDHasTheSameOneInEveryReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a.b", answer: fails(errDown)}
		push(t, store, "a.b", "m", 1, func(it *dlq.Item) { it.DeliveryID, it.Message.ID = "", "" })
		e := engine(store, configured(replay.Policy{}, sink))
		run(t, e, replay.Request{})
		time.Sleep(2 * time.Minute)
		run(t, e, replay.Request{})
		calls := sink.calls()
		if len(calls) != 2 || calls[0].id != calls[1].id || fault.CheckID(calls[0].id) != nil {
			t.Errorf("sent %v, want one valid id twice", calls)
		}
	})
}

// A broken sink costs one attempt per tick, whatever is due.
func TestTheFirstIsTriedAlone(t *testing.T) {
	tests := []struct {
		name  string
		first error
		sent  int
	}{
		{"a transient failure closes the sink until the next tick", errDown, 1},
		{"an ambiguous failure too", errMaybe, 1},
		{"a failure of that message alone does not", errGone, 8},
		{"a delivery opens it", nil, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a"}
				var once sync.Once
				alone := true
				sink.answer = func(ctx context.Context, m sinks.Message) error {
					err, first := error(nil), false
					once.Do(func() { err, first = tt.first, true })
					time.Sleep(time.Second)
					if first {
						alone = len(sink.calls()) == 1
					}
					return err
				}
				push(t, store, "a", "m", 8)
				start := time.Now()
				s := run(t, engine(store, configured(replay.Policy{Concurrency: 7}, sink)), replay.Request{})
				if int(s.Claimed) != tt.sent || len(sink.calls()) != tt.sent {
					t.Errorf("claimed %d, sent %d; want %d", s.Claimed, len(sink.calls()), tt.sent)
				}
				if !alone {
					t.Error("others were sent while the first was under way")
				}
				if tt.sent > 1 && time.Since(start) != 2*time.Second {
					t.Errorf("took %s, want 1s for the first and 1s for all others at once", time.Since(start))
				}
			})
		})
	}
}

func TestOnlyOneReplayerInTheSystemTriesASinkAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: takes(time.Second, nil)}
		push(t, store, "a", "m", 20)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { run(t, engine(store, configured(replay.Policy{Concurrency: 2}, sink)), replay.Request{}) })
		}
		time.Sleep(900 * time.Millisecond)
		if n := len(sink.calls()); n != 1 {
			t.Errorf("%d sends in the first second, want 1", n)
		}
		all.Wait()
		if got := sink.counts(); len(got) != 20 || len(sink.calls()) != 20 {
			t.Errorf("%d sends of %d messages, want each of 20 once", len(sink.calls()), len(got))
		}
	})
}

func TestASinkThatBreaksIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		sink.answer = func(context.Context, sinks.Message) error {
			if len(sink.calls()) > 5 {
				return errDown
			}
			return nil
		}
		push(t, store, "a", "m", 100)
		s := run(t, engine(store, configured(replay.Policy{Concurrency: 4}, sink)), replay.Request{})
		// A success that is noted late, among the first failures, lets the count of failures
		// begin again.
		if s.Delivered != 5 || s.Failed < 4 || s.Failed > 12 {
			t.Errorf("summary %+v, want 5 delivered and as many failed as are sent at once, or a few more", s)
		}
		if s.Remaining != 95 {
			t.Errorf("remaining %d, want 95", s.Remaining)
		}
	})
}

func TestSendsArePacedExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		push(t, store, "a", "m", 21)
		run(t, engine(store, configured(replay.Policy{Rate: 10}, sink)), replay.Request{})
		calls := sink.calls()
		if len(calls) != 21 {
			t.Fatalf("%d sends, want 21", len(calls))
		}
		for i := 1; i < len(calls); i++ {
			if gap := calls[i].at.Sub(calls[i-1].at).Round(time.Microsecond); gap != 100*time.Millisecond {
				t.Errorf("%s between sends %d and %d, want 100ms", gap, i-1, i)
			}
		}
	})
}

func TestConcurrencyIsBoundedPerSinkAndInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		a, b := &receiver{name: "a", answer: takes(time.Second, nil)}, &receiver{name: "b", answer: takes(time.Second, nil)}
		push(t, store, "a", "m", 31)
		push(t, store, "b", "m", 31)
		e := engine(store, configured(replay.Policy{Concurrency: 6}, a, b))
		e.Concurrency = 8
		run(t, e, replay.Request{})
		if a.most > 6 || b.most > 6 {
			t.Errorf("%d and %d sends at once, want at most 6 for each sink", a.most, b.most)
		}
		atOnce := map[time.Time]int{} // every send takes a second and starts on one
		for _, c := range slices.Concat(a.calls(), b.calls()) {
			atOnce[c.at]++
		}
		if most := slices.Max(slices.Collect(maps.Values(atOnce))); most != 8 {
			t.Errorf("%d sends at once in all, want 8", most)
		}
	})
}

func TestASlowOrBrokenSinkDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		slow := &receiver{name: "slow", answer: takes(9*time.Second, nil)}
		broken := &receiver{name: "broken", answer: fails(errDown)}
		fast := &receiver{name: "zfast"}
		push(t, store, "slow", "s", 50)
		push(t, store, "broken", "b", 50)
		push(t, store, "zfast", "f", 50)
		start := time.Now()
		s := run(t, engine(store, configured(replay.Policy{Concurrency: 5}, slow, broken, fast)), replay.Request{})
		calls := fast.calls()
		if len(calls) != 50 || calls[49].at.Sub(start) > time.Second {
			t.Errorf("the fast sink got %d, the last after %s; want 50 at once", len(calls), calls[len(calls)-1].at.Sub(start))
		}
		if s.Sinks["broken"].Claimed != 1 || s.Sinks["slow"].Delivered != 50 {
			t.Errorf("summary %+v, want one of broken tried and all of slow delivered", s)
		}
	})
}

// The sender of a sink that breaks meanwhile may be waiting for the run's slot; when it
// gets it, it passes it on.
func TestASinkThatBreaksGivesTheRunsSlotBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		broken, sound := &receiver{name: "broken"}, &receiver{name: "sound", answer: takes(time.Second, nil)}
		broken.answer = func(ctx context.Context, m sinks.Message) error {
			if len(broken.calls()) == 1 {
				return nil // the canary
			}
			return takes(time.Second, errDown)(ctx, m)
		}
		push(t, store, "broken", "b", 30)
		push(t, store, "sound", "s", 30)
		e := engine(store, configured(replay.Policy{Concurrency: 3}, broken, sound))
		e.Concurrency = 1
		s := run(t, e, replay.Request{})
		if got := s.Sinks["sound"]; got.Delivered != 30 {
			t.Errorf("the sound sink: %+v, want 30 delivered", got)
		}
		if got := s.Sinks["broken"]; got.Failed < 3 || got.Failed > 5 || got.Remaining != 29 {
			t.Errorf("the broken sink: %+v, want it left alone after 3 failures in a row, and 29 still waiting", got)
		}
	})
}

func TestPausedAndUnconfiguredSinksKeepTheirDeadLettersAndSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := dlq.NewMemory(), &receiver{name: "a"}
		push(t, store, "a", "m", 2)
		push(t, store, "gone", "m", 3)
		if err := store.Pause(t.Context(), "a", true); err != nil {
			t.Fatal(err)
		}
		s := run(t, engine(store, configured(replay.Policy{}, a)), replay.Request{})
		if got := s.Sinks["a"]; !got.Paused || got.Skipped != 2 || got.Remaining != 2 || got.Error != "" {
			t.Errorf("paused: %+v, want 2 skipped and remaining", got)
		}
		if got := s.Sinks["gone"]; !strings.Contains(got.Error, "SINK_NOT_FOUND") || got.Skipped != 3 || got.Remaining != 3 {
			t.Errorf("unconfigured: %+v, want the error, 3 skipped and remaining", got)
		}
		if s.Claimed != 0 || len(a.calls()) != 0 || s.Skipped != 5 || s.Remaining != 5 {
			t.Errorf("summary %+v, want nothing claimed", s)
		}
	})
}

func TestARequestNarrowsAndLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a, b := dlq.NewMemory(), &receiver{name: "a"}, &receiver{name: "b"}
		push(t, store, "a", "a", 4)
		push(t, store, "b", "b", 30)
		e := engine(store, configured(replay.Policy{}, a, b))
		if s := run(t, e, replay.Request{Sinks: []string{"b", "b"}, Limit: 7}); s.Delivered != 7 || s.Remaining != 23 || len(a.calls()) != 0 {
			t.Errorf("limit 7 of sink b: %+v", s)
		}
		if s := run(t, e, replay.Request{Limit: 20}); s.Delivered != 20 {
			t.Errorf("limit 20 over both sinks: %+v, want exactly 20", s)
		}
		if s := run(t, e, replay.Request{}); s.Delivered != 7 || s.Remaining != 0 {
			t.Errorf("no limit: %+v, want the rest", s)
		}
	})
}

// A sink that its configuration does not make is not sent to, whatever else the target
// holds, and its dead letters are charged nothing.
func TestASinkWithAFaultyConfigurationKeepsItsDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a, b := dlq.NewMemory(), &receiver{name: "a"}, &receiver{name: "b"}
		id := push(t, store, "a", "a", 1)[0]
		push(t, store, "b", "b", 1)
		to := configured(replay.Policy{}, a, b)
		to["a"] = delivery.Target{Sink: a, ConfigErr: errors.New("url: missing")}
		e := engine(store, to)
		s := run(t, e, replay.Request{})
		if got := s.Sinks["a"]; !strings.Contains(got.Error, "SINK_CONFIG_INVALID") || !strings.Contains(got.Error, "url: missing") || s.Sinks["b"].Delivered != 1 {
			t.Errorf("summary %+v, want SINK_CONFIG_INVALID with the fault, and the other sink replayed", s)
		}
		if _, err := e.ReplayOne(t.Context(), id, replay.OneOptions{Force: true}); fault.CodeOf(err) != fault.CodeSinkConfigInvalid {
			t.Errorf("replay of one: %v, want SINK_CONFIG_INVALID", err)
		}
		if it, err := store.Get(t.Context(), id); err != nil || it.Replays != 0 || len(a.calls()) != 0 {
			t.Errorf("the dead letter is %+v, %v after %d sends; want it as it was", it, err, len(a.calls()))
		}
	})
}

// A name that nobody knows is a typing error in the schedule's input: it is said, and the
// others are replayed.
func TestARequestForAnUnknownSinkSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a, empty := dlq.NewMemory(), &receiver{name: "a"}, &receiver{name: "empty"}
		push(t, store, "a", "a", 4)
		e := engine(store, configured(replay.Policy{}, a, empty))
		s := run(t, e, replay.Request{Sinks: []string{"typo", "a", "empty"}})
		if got := s.Sinks["typo"]; !strings.Contains(got.Error, "SINK_NOT_FOUND") || got.Counts != (replay.Counts{}) {
			t.Errorf("the unknown sink: %+v, want SINK_NOT_FOUND", got)
		}
		if s.Sinks["a"].Delivered != 4 || s.Delivered != 4 || s.Sinks["a"].Error != "" {
			t.Errorf("summary %+v, want the others replayed", s)
		}
		if got, ok := s.Sinks["empty"]; ok {
			t.Errorf("a sink without dead letters: %+v, want it left out", got)
		}
		if s := run(t, e, replay.Request{}); len(s.Sinks) != 0 {
			t.Errorf("unasked: %+v, want nothing", s.Sinks)
		}
	})
}

func TestAnUnreachableStoreIsTheRunsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := engine(down{Store: dlq.NewMemory(), all: true}, targets{}).Run(t.Context(), replay.Request{})
		if fault.CodeOf(err) != fault.CodeDLQUnavailable {
			t.Errorf("got %v, want SINK_DLQ_UNAVAILABLE", err)
		}
	})
}

func TestSettlingIsRepeatedUntilItSucceedsOrTimeIsUp(t *testing.T) {
	for name, tt := range map[string]struct {
		failures int
		ok       bool
	}{"it comes back": {5, true}, "it does not": {1 << 20, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a"}
				push(t, store, "a", "m", 1)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				start := time.Now()
				s, err := engine(down{Store: store, settle: &tt.failures}, configured(replay.Policy{}, sink)).Run(ctx, replay.Request{})
				if time.Since(start) >= 20*time.Second || len(sink.calls()) != 1 {
					t.Errorf("took %s and sent %d, want 1 before the deadline", time.Since(start), len(sink.calls()))
				}
				if tt.ok {
					if err != nil || s.Delivered != 1 || depth(t, store, "a") != 0 {
						t.Errorf("%+v, %v; want delivered", s, err)
					}
					return
				}
				if fault.CodeOf(err) != fault.CodeDLQUnavailable || s.Skipped != 1 || s.Sinks["a"].Error == "" {
					t.Errorf("%+v, %v; want the error, and the item not counted as delivered", s, err)
				}
			})
		})
	}
}

func TestARecordThatCannotBeUpdatedChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		push(t, store, "a", "m", 1)
		e := engine(store, configured(replay.Policy{}, &receiver{name: "a"}))
		e.Records = &records{err: errors.New("no")}
		log := logged(e)
		if s := run(t, e, replay.Request{}); s.Delivered != 1 {
			t.Errorf("summary %+v, want delivered", s)
		}
		if !strings.Contains(log.String(), "delivery records not updated") {
			t.Errorf("nothing in the log: %s", log)
		}
	})
}

func TestOneWideLinePerReplayWithoutContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		id := push(t, store, "a", "m", 1, func(it *dlq.Item) {
			it.Trace, it.Recipient = "trace-1", json.RawMessage(`"https://hidden.example/x"`)
		})[0]
		e := engine(store, configured(replay.Policy{}, &receiver{name: "a", answer: takes(250*time.Millisecond, errDown)}))
		log := logged(e)
		run(t, e, replay.Request{})
		lines := slices.DeleteFunc(slices.Collect(strings.Lines(log.String())), func(l string) bool { return strings.Contains(l, `"new cause"`) })
		if len(lines) != 1 {
			t.Fatalf("%d lines, want 1 beside that of the cause: %s", len(lines), log)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{
			"msg": "replay", "delivery_id": "m0", "item_id": id, "sink": "a", "status": "failed", "reason": "exhausted",
			"attempts": 1.0, "elapsed_ms": 250.0, "trace": "trace-1", "code": "SINK_UNAVAILABLE",
		} {
			if got[key] != want {
				t.Errorf("%s is %v, want %v", key, got[key], want)
			}
		}
		for _, secret := range []string{"secret-body", "hidden.example"} {
			if strings.Contains(lines[0], secret) {
				t.Errorf("the line shows %s: %s", secret, lines[0])
			}
		}
	})
}

func TestTheSummarysJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		push(t, store, "a", "m", 1)
		push(t, store, "b", "m", 1)
		s := run(t, engine(store, configured(replay.Policy{}, &receiver{name: "a"})), replay.Request{})
		want := `{"claimed":1,"delivered":1,"failed":0,"parked":0,"expired":0,"skipped":1,"remaining":1,"sinks":{` +
			`"a":{"claimed":1,"delivered":1,"failed":0,"parked":0,"expired":0,"skipped":0,"remaining":0},` +
			`"b":{"claimed":0,"delivered":0,"failed":0,"parked":0,"expired":0,"skipped":1,"remaining":1,"error":"SINK_NOT_FOUND: no sink b"}}}`
		if got := asJSON(t, s); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// partly is a store of which some queues cannot be read, and do not even answer.
type partly struct {
	dlq.Store
	dead func(sink string) bool
}

func (s partly) Stats(ctx context.Context, sink string) (dlq.Stats, error) {
	if s.dead(sink) {
		<-ctx.Done()
		return dlq.Stats{}, errRedis
	}
	return s.Store.Stats(ctx, sink)
}

func TestAQueueThatDoesNotAnswerHoldsUpNoOther(t *testing.T) {
	for name, tt := range map[string]struct {
		dead string
		code fault.Code
	}{"some of them": {"dead", ""}, "all of them": {"", fault.CodeDLQUnavailable}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a"}
				push(t, store, "a", "m", 30)
				for i := range 40 {
					push(t, store, "dead"+string(rune('a'+i%26))+string(rune('a'+i/26)), "m", 1)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				dead := func(sink string) bool { return strings.HasPrefix(sink, tt.dead) }
				start := time.Now()
				s, err := engine(partly{store, dead}, configured(replay.Policy{}, sink)).Run(ctx, replay.Request{})
				if fault.CodeOf(err) != tt.code || time.Since(start) >= 10*time.Second {
					t.Errorf("ended after %s with %v, want %q in time", time.Since(start), err, tt.code)
				}
				if tt.code == "" && (s.Sinks["a"].Delivered != 30 || s.Sinks["deadaa"].Error == "" || s.Remaining != -1) {
					t.Errorf("summary %+v, want a delivered, the others with their error, and an unknown rest", s.Counts)
				}
			})
		})
	}
}
