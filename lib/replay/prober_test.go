package replay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// hub is a sink whose recipients are receivers of their own.
type hub struct{ *receiver }

func (h hub) Receiver(to sinks.Recipient) string {
	name, _ := to.(string)
	return strings.Trim(name, `"`)
}

func hubs(p replay.Policy, r *receiver) targets {
	t := configured(p, r)
	target := t[r.name]
	target.Sink = hub{r}
	t[r.name] = target
	return t
}

func toReceiver(name string) func(*dlq.Item) {
	return func(it *dlq.Item) { it.Recipient = json.RawMessage(`"` + name + `"`) }
}

// atOnce returns how many sends began at each moment.
func atOnce(calls []sent) (sizes []int) {
	for i, c := range calls {
		if i == 0 || !c.at.Equal(calls[i-1].at) {
			sizes = append(sizes, 0)
		}
		sizes[len(sizes)-1]++
	}
	return sizes
}

func replayAll() replay.OperationRequest {
	return replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()}
}

func number(n int) *int { return &n }

func TestABulkReplaySendsOneThenFiveThenAll(t *testing.T) {
	down, gone := errDown, errGone
	for _, tt := range []struct {
		name    string
		answers []error // of the first sends, in order; nil after them
		want    []int
	}{
		{"all is well", nil, []int{1, 5, 24}},
		{"the first fails: another one", []error{down, down}, []int{1, 1, 1, 5, 22}},
		{"one of five is enough", []error{nil, down, down, down, down, nil}, []int{1, 5, 24}},
		{"without one: five more", []error{nil, down, down, down, down, down}, []int{1, 5, 5, 19}},
		{"what is refused for good is an answer", []error{gone, gone, gone, gone, gone, gone}, []int{1, 5, 24}},
		{"what may have arrived is a failure", []error{errMaybe}, []int{1, 1, 5, 23}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := dlq.NewMemory()
				var n atomic.Int64
				sink := &receiver{name: "a", answer: func(ctx context.Context, m sinks.Message) error {
					var err error
					if i := int(n.Add(1)) - 1; i < len(tt.answers) {
						err = tt.answers[i]
					}
					return takes(time.Second, err)(ctx, m)
				}}
				push(t, store, "a", "a", 30, idle)
				e := engine(store, configured(replay.Policy{Concurrency: 50, BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
				r := replayAll()
				r.StopAfter = number(0)
				op := start(t, e, r)
				run(t, e, replay.Request{})
				if got := atOnce(sink.calls()); !slices.Equal(got, tt.want) {
					t.Errorf("sent at once: %v, want %v", got, tt.want)
				}
				failed := 0
				for _, err := range tt.answers {
					if err != nil {
						failed++
					}
				}
				if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(30, int64(30-failed), int64(failed), 0, 0) {
					t.Errorf("operation %+v, want it completed with %d failed", got, failed)
				}
			})
		})
	}
}

// What cannot be sent says nothing of the receiver: it is neither an answer nor a failure.
func TestWhatCannotBeSentIsNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: takes(time.Second, nil)}
		push(t, store, "a", "good", 10, idle)
		push(t, store, "a", "bad", 8, idle, toReceiver("bad"))
		e := engine(store, configured(replay.Policy{Concurrency: 50}, sink))
		op := start(t, e, replayAll())
		run(t, e, replay.Request{})
		if got := atOnce(sink.calls()); !slices.Equal(got, []int{1, 5, 4}) {
			t.Errorf("sent at once: %v, want 1, 5 and the rest", got)
		}
		if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(18, 10, 8, 0, 0) {
			t.Errorf("operation %+v, want 10 delivered and 8 failed", got)
		}
	})
}

func TestABulkReplayStopsAfterFailuresInARow(t *testing.T) {
	for name, open := range backends {
		for _, tt := range []struct {
			name      string
			stopAfter *int
			good      int // sends that are accepted first
			sent      [2]int
		}{
			{"five unasked", nil, 0, [2]int{5, 5}},
			{"as many as asked for", number(2), 0, [2]int{2, 2}},
			{"in the second step", number(3), 1, [2]int{4, 6}},
			// Nine others are under way when the fifth failure in a row is known, and the last that was
			// accepted may be known only after nine failures, which it ends the row of.
			{"and in the last, with what is under way", nil, 20, [2]int{25, 43}},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				store, ops := open(t)
				var n atomic.Int64
				sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error {
					if int(n.Add(1)) <= tt.good {
						return nil
					}
					return errDown
				}}
				well := &receiver{name: "b"}
				e := engine(store, configured(replay.Policy{Concurrency: 10, BaseDelay: 10 * time.Hour}, sink, well))
				e.Operations = ops
				push(t, store, "a", "a", 150, idle)
				push(t, store, "b", "b", 150, idle)
				r := replayAll()
				r.StopAfter = tt.stopAfter
				op := start(t, e, r)
				for range 3 { // ticks leave what is stopped alone
					run(t, e, replay.Request{})
					run(t, e, replay.Request{Operation: op.ID})
				}
				sends := len(sink.calls())
				if sends < tt.sent[0] || sends > tt.sent[1] {
					t.Errorf("%d sends, want %d to %d", sends, tt.sent[0], tt.sent[1])
				}
				got := progress(t, e, op.ID)
				failed := int64(sends - tt.good)
				if got.Status != replay.OperationStopped || got.OperationCounts != counts(150+int64(sends), 150+int64(tt.good), failed, 0, 0) || got.FinishedAt.IsZero() {
					t.Errorf("operation %+v, want it stopped, %d failed and all of b delivered", got, failed)
				}
				p := got.Sinks["a"]
				if !p.Stopped || p.Done || !got.Sinks["b"].Done || got.Waiting != 0 {
					t.Errorf("sinks %+v, want a stopped and b done", got.Sinks)
				}
				want := fmt.Sprintf("sink a: stopped after %d failures in a row: SINK_UNAVAILABLE: HTTP 503", p.Receivers[""].InARow)
				if got.Error != want {
					t.Errorf("error %q, want %q", got.Error, want)
				}
				listed, err := e.ListOperations(t.Context(), 0)
				if err != nil || len(listed) != 1 || listed[0].Status != replay.OperationStopped {
					t.Errorf("listed %v, %v", listed, err)
				}
			})
		}
	}
}

func TestAResumedOperationBeginsAnewAndItsCountersAreExact(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			var down atomic.Bool
			down.Store(true)
			var n atomic.Int64
			sink := &receiver{name: "a", answer: func(_ context.Context, m sinks.Message) error {
				switch {
				case m.ID == "a0":
					return errGone
				case n.Add(1) > 8 && down.Load():
					return errDown
				}
				return nil
			}}
			e := engine(store, configured(replay.Policy{Concurrency: 1, BaseDelay: 10 * time.Hour, OnSuccess: replay.OnSuccessKeep}, sink))
			e.Operations = ops
			push(t, store, "a", "a", 120, idle)
			op := start(t, e, replayAll())
			if _, err := e.ResumeOperation(t.Context(), op.ID); !isNotStopped(err, "queued and goes on by itself") {
				t.Errorf("resumed while queued: %v", err)
			}
			run(t, e, replay.Request{})
			if got := progress(t, e, op.ID); got.Status != replay.OperationStopped || got.OperationCounts != counts(13, 8, 5, 0, 0) || got.Round != 1 {
				t.Fatalf("operation %+v, want it stopped with 8 delivered and 5 failed", got)
			}
			// A second round that fails at once.
			resumed, err := e.ResumeOperation(t.Context(), op.ID)
			if err != nil || resumed.Status != replay.OperationQueued || resumed.Round != 2 || resumed.Error != "" || !resumed.FinishedAt.IsZero() ||
				resumed.OperationCounts != counts(8, 8, 0, 0, 0) {
				t.Fatalf("resumed: %+v, %v; want the second round queued, with 8 delivered", resumed, err)
			}
			if _, err := e.ResumeOperation(t.Context(), op.ID); !isNotStopped(err, "queued") {
				t.Errorf("resumed twice: %v", err)
			}
			run(t, e, replay.Request{})
			if got := progress(t, e, op.ID); got.Status != replay.OperationStopped || got.OperationCounts != counts(13, 8, 5, 0, 0) {
				t.Fatalf("second round: %+v, want it stopped with 8 delivered and 5 failed", got)
			}
			down.Store(false)
			if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
				t.Fatal(err)
			}
			run(t, e, replay.Request{})
			got := progress(t, e, op.ID)
			if got.Status != replay.OperationCompleted || got.Round != 3 || got.OperationCounts != counts(120, 119, 1, 0, 0) {
				t.Errorf("third round: %+v, want all but one delivered", got)
			}
			times := map[int]int{}
			for _, n := range sink.counts() {
				times[n]++
			}
			// The newest eight and those not reached were sent once; the next five failed twice.
			if want := map[int]int{1: 115, 3: 5}; !maps.Equal(times, want) {
				t.Errorf("messages by how often they were sent: %v, want %v", times, want)
			}
			if _, err := e.ResumeOperation(t.Context(), op.ID); !isNotStopped(err, "completed and is over") {
				t.Errorf("resumed when completed: %v", err)
			}
			if _, err := e.ResumeOperation(t.Context(), "op-00000000000000000000000000000000"); fault.CodeOf(err) != fault.CodeDLQNotFound {
				t.Errorf("resumed what is not there: %v", err)
			}
		})
	}
}

func isNotStopped(err error, text string) bool {
	return fault.CodeOf(err) == fault.CodeInvalidArgument && strings.Contains(fmt.Sprint(err), text) &&
		strings.Contains(fmt.Sprint(err), "only a stopped operation is resumed")
}

// What failed is tried again first with one, then five.
func TestARoundBeginsWithOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &receiver{name: "a", answer: takes(time.Second, errDown)}
		push(t, store, "a", "a", 20, idle)
		e := engine(store, configured(replay.Policy{Concurrency: 50, BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
		op := start(t, e, replayAll())
		run(t, e, replay.Request{})
		sink.set(takes(time.Second, nil))
		time.Sleep(time.Hour)
		if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		run(t, e, replay.Request{})
		if got := atOnce(sink.calls()); !slices.Equal(got, []int{1, 1, 1, 1, 1, 1, 5, 14}) {
			t.Errorf("sent at once: %v, want five ones, and then 1, 5 and the rest", got)
		}
		if got := progress(t, e, op.ID); got.OperationCounts != counts(20, 20, 0, 0, 0) {
			t.Errorf("operation %+v, want all delivered", got)
		}
	})
}

func TestStopAfterIsChecked(t *testing.T) {
	e := engine(dlq.NewMemory(), targets{})
	for _, tt := range []struct {
		r    replay.OperationRequest
		want string
	}{
		{replay.OperationRequest{Action: replay.OperationReplay, All: true, StopAfter: number(-1)}, "stop_after: want 0 (never) or more, got -1"},
		{replay.OperationRequest{Action: replay.OperationDiscard, All: true, StopAfter: number(1)}, "stop_after: a discard sends nothing that could fail"},
	} {
		if _, err := e.CreateOperation(t.Context(), tt.r); fault.CodeOf(err) != fault.CodeInvalidArgument || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want INVALID_ARGUMENT %s", err, tt.want)
		}
	}
	for want, r := range map[int]replay.OperationRequest{
		replay.DefaultStopAfter: {Action: replay.OperationReplay, All: true},
		0:                       {Action: replay.OperationReplay, All: true, StopAfter: number(0)},
		7:                       {Action: replay.OperationReplay, All: true, StopAfter: number(7)},
	} {
		if op := start(t, e, r); op.StopAfter != want || op.Round != 1 {
			t.Errorf("created %+v, want it to stop after %d", op, want)
		}
	}
}

// What the gate refuses stays a member, untried, and goes at a later Run.
func TestMembersThatTheGateRefusesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Memory: dlq.NewMemory()}
		until := time.Now().Add(10 * time.Minute)
		sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error {
			if left := time.Until(until); left > 0 {
				return sinks.Hold(errDown, left)
			}
			return nil
		}}
		ids := push(t, store, "a", "a", 250, idle)
		e := engine(store, configured(replay.Policy{BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
		e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		op := start(t, e, replayAll())
		for range 9 {
			run(t, e, replay.Request{})
			got := progress(t, e, op.ID)
			if got.Status != replay.OperationRunning || got.OperationCounts != counts(1, 0, 1, 0, 0) || got.Waiting != 249 || got.WaitingUntil.Before(until) || got.Stalled > 0 {
				t.Fatalf("operation %+v, want one failed and 249 waiting until after %s", got, until)
			}
			time.Sleep(time.Minute)
		}
		if n := store.claims.Load(); n > 30 { // two visits a run, and the schedule
			t.Errorf("%d claims in nine runs: what is behind the first that waits need not be asked for", n)
		}
		tried := 0
		for _, id := range ids {
			it := get(t, store, id)
			if tried += len(it.History); it.State(time.Now()) != dlq.StateWaiting && len(it.History) == 0 {
				t.Fatalf("%+v: want it as it was", it)
			}
		}
		if tried != 1 || len(sink.calls()) != 1 {
			t.Errorf("%d tried, %d sends during the hold; want the first alone", tried, len(sink.calls()))
		}
		for range 5 {
			time.Sleep(time.Minute)
			run(t, e, replay.Request{})
		}
		if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(250, 249, 1, 0, 0) || got.Waiting != 0 || !got.WaitingUntil.IsZero() {
			t.Errorf("operation %+v, want the others delivered", got)
		}
	})
}

// A receiver that the breaker left alone is probed by the operation, gets more as it answers,
// within one Run once it is back, and stops the operation when it stays down.
func TestABulkReplayWorksWithinTheBreaker(t *testing.T) {
	for _, heals := range []bool{true, false} {
		t.Run(fmt.Sprint("it heals: ", heals), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := dlq.NewMemory()
				var down atomic.Bool
				down.Store(true)
				sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error {
					if down.Load() {
						return errDown
					}
					return nil
				}}
				e := engine(store, configured(replay.Policy{BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
				gate := &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
				e.Gate = gate
				for i := range 40 { // sends that fail open it
					try := flow.Try{Sink: "a", Delivery: fmt.Sprint("d", i), End: time.Now().Add(time.Second)}
					if leave := gate.Ask(t.Context(), try); leave.Verdict == flow.Go {
						gate.Tell(t.Context(), leave, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
						gate.Lost(t.Context(), try, "HTTP 503")
					}
					time.Sleep(100 * time.Millisecond)
				}
				push(t, store, "a", "a", 150, idle)
				op := start(t, e, replayAll())
				run(t, e, replay.Request{})
				if got := progress(t, e, op.ID); len(sink.calls()) > 1 || got.Waiting < 149 || got.WaitingUntil.IsZero() {
					t.Fatalf("%d sends, operation %+v; want at most a probe, and the others waiting", len(sink.calls()), got)
				}
				down.Store(!heals)
				runs := 0
				for ; runs < 20; runs++ {
					if s := progress(t, e, op.ID).Status; s != replay.OperationRunning {
						break
					}
					time.Sleep(time.Minute)
					run(t, e, replay.Request{})
				}
				got := progress(t, e, op.ID)
				if heals && (got.Status != replay.OperationCompleted || got.Delivered < 149 || runs > 2) {
					t.Errorf("after %d runs: %+v; want it completed within two", runs, got)
				}
				if !heals && (got.Status != replay.OperationStopped || got.Failed != replay.DefaultStopAfter || len(sink.calls()) != replay.DefaultStopAfter) {
					t.Errorf("after %d runs and %d sends: %+v; want it stopped after 5", runs, len(sink.calls()), got)
				}
			})
		})
	}
}

// counting counts what is asked of a store.
type counting struct {
	*dlq.Memory
	pages, claims atomic.Int64
}

func (c *counting) Page(ctx context.Context, q dlq.Query) (dlq.Page, error) {
	c.pages.Add(1)
	return c.Memory.Page(ctx, q)
}

func (c *counting) Claim(ctx context.Context, q dlq.Claim) ([]dlq.Leased, error) {
	c.claims.Add(1)
	return c.Memory.Claim(ctx, q)
}

// A process may die after any call: the operation stops all the same, no member is tried twice
// that was settled, and what a probe costs more is bounded by the deaths.
func TestAProbingOperationStopsWhereverItsProcessesDie(t *testing.T) {
	for life := range int64(30) {
		for _, last := range []bool{false, true} {
			t.Run(fmt.Sprintf("after %d calls, the last happens %t", life, last), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { stopWithDeaths(t, life+1, last) })
			})
		}
	}
}

func stopWithDeaths(t *testing.T, life int64, last bool) {
	t.Helper()
	store, ops := dlq.NewMemory(), replay.NewMemoryOperations()
	sink := &receiver{name: "a", answer: takes(10*time.Millisecond, errDown)}
	push(t, store, "a", "a", 60, idle)
	policy := replay.Policy{BaseDelay: 100 * time.Hour, MaxDelay: 100 * time.Hour}
	healthy := engine(store, configured(policy, sink))
	healthy.Operations = ops
	op := start(t, healthy, replayAll())
	const deaths = 3
	for range deaths {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		m := mortal{Store: store, OperationStore: ops, life: &atomic.Int64{}, kill: cancel, last: last}
		m.life.Store(life)
		e := engine(m, configured(policy, sink))
		e.Operations = mortalOperations{m}
		_, _ = e.Run(ctx, replay.Request{}) // a dead process has no answer
		cancel()
		time.Sleep(time.Minute)
	}
	for tick := 0; progress(t, healthy, op.ID).Status != replay.OperationStopped; tick++ {
		if tick == 20 {
			t.Fatalf("not stopped: %+v", progress(t, healthy, op.ID))
		}
		run(t, healthy, replay.Request{})
		time.Sleep(time.Minute)
	}
	got, sends := progress(t, healthy, op.ID), sink.counts()
	if most := replay.DefaultStopAfter + deaths; len(sink.calls()) > most {
		t.Errorf("%d sends, want at most %d: one more for each death", len(sink.calls()), most)
	}
	if got.Failed != got.Settled || got.Failed > int64(len(sends)) || got.Failed < replay.DefaultStopAfter-deaths {
		t.Errorf("counted %+v of %d messages that were sent", got.OperationCounts, len(sends))
	}
	page, err := store.Page(t.Context(), dlq.Query{Sink: "a", Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	failed := int64(0)
	for _, it := range page.Items {
		for _, r := range it.History {
			if r.Error != dlq.DiedUnder {
				failed++
			}
		}
	}
	if failed != got.Failed {
		t.Errorf("%d failures are in the items' histories, %d are counted", failed, got.Failed)
	}
	if _, err := healthy.ResumeOperation(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	sink.set(nil)
	for tick := 0; !progress(t, healthy, op.ID).Status.Final(); tick++ {
		if tick == 30 {
			t.Fatalf("not completed: %+v", progress(t, healthy, op.ID))
		}
		run(t, healthy, replay.Request{})
		time.Sleep(time.Minute)
	}
	if got := progress(t, healthy, op.ID); got.OperationCounts != counts(60, 60, 0, 0, 0) {
		t.Errorf("resumed: %+v, want all 60 delivered", got.OperationCounts)
	}
}

// An operation that an earlier version left has neither a number of failures nor rounds.
func TestARecordOfAnEarlierVersionGoesOn(t *testing.T) {
	client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
	store, ops := dlq.NewRedis(client, dlq.WithKeyPrefix(prefix)), replay.NewRedisOperations(client, prefix)
	sink := &receiver{name: "a", answer: fails(errDown)}
	e := engine(store, configured(replay.Policy{BaseDelay: 10 * time.Hour}, sink))
	e.Operations = ops
	push(t, store, "a", "a", 30, idle)
	op := start(t, e, replayAll())
	key := prefix + ":op:" + op.ID
	var doc map[string]any
	if err := json.Unmarshal([]byte(client.HGet(t.Context(), key, "doc").Val()), &doc); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"stop_after", "round", "waiting", "waiting_until"} {
		delete(doc, field)
	}
	newest := op.Sinks["a"].NewestID
	doc["sinks"] = map[string]any{"a": map[string]any{"newest_id": newest}}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.HSet(t.Context(), key, "doc", text, "status", "running", "sink:a", `{"newest_id":"`+newest+`","done":false,"settled":0}`).Err(); err != nil {
		t.Fatal(err)
	}
	run(t, e, replay.Request{})
	if got := progress(t, e, op.ID); got.Status != replay.OperationStopped || got.StopAfter != replay.DefaultStopAfter || got.Round != 1 || got.Failed != 5 {
		t.Fatalf("operation %+v, want it stopped after 5 failures", got)
	}
	// That version takes what is stopped for final, and off the lists.
	for _, list := range []string{":ops", ":ops:open"} {
		if err := client.ZRem(t.Context(), prefix+list, op.ID).Err(); err != nil {
			t.Fatal(err)
		}
	}
	sink.set(nil)
	if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	run(t, e, replay.Request{})
	if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(30, 30, 0, 0, 0) {
		t.Errorf("resumed: %+v, want all delivered", got)
	}
	if listed, err := e.ListOperations(t.Context(), 0); err != nil || len(listed) != 1 {
		t.Errorf("listed %v, %v", listed, err)
	}
}

// Ids are worked on by the same rules.
func TestABulkReplayByIDsProbesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: takes(time.Second, nil)}
		ids := push(t, store, "a", "a", 20, idle, toReceiver("x.example"))
		e := engine(store, hubs(replay.Policy{Concurrency: 50}, sink))
		op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, IDs: ids})
		run(t, e, replay.Request{})
		if got := atOnce(sink.calls()); !slices.Equal(got, []int{1, 5, 14}) {
			t.Errorf("sent at once: %v, want 1, 5 and the rest", got)
		}
		if got := progress(t, e, op.ID); got.OperationCounts != counts(20, 20, 0, 0, 0) {
			t.Errorf("operation %+v", got)
		}
	})
}

// A Run that ends in the middle of a step, or of a slice, has its part counted.
func TestFailuresInARowOutlastShortInvocations(t *testing.T) {
	for _, good := range []int{0, 10} {
		t.Run(fmt.Sprint("after ", good, " good ones"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := dlq.NewMemory()
				var n atomic.Int64
				sink := &receiver{name: "a", answer: func(ctx context.Context, m sinks.Message) error {
					if int(n.Add(1)) <= good {
						return nil
					}
					return takes(4*time.Second, errDown)(ctx, m)
				}}
				push(t, store, "a", "a", 50, idle)
				e := engine(store, configured(replay.Policy{Concurrency: 1, BaseDelay: 100 * time.Hour, MaxDelay: 100 * time.Hour}, sink))
				op := start(t, e, replayAll())
				runs := 0
				for ; runs < 10 && progress(t, e, op.ID).Status != replay.OperationStopped; runs++ {
					ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
					if _, err := e.Run(ctx, replay.Request{}); err != nil {
						t.Fatal(err)
					}
					cancel()
					time.Sleep(time.Minute)
				}
				if got := progress(t, e, op.ID); got.Status != replay.OperationStopped || got.OperationCounts != counts(int64(good)+5, int64(good), 5, 0, 0) || runs < 2 {
					t.Errorf("after %d runs: %+v, want it stopped after 5 failures, over several runs", runs, got)
				}
			})
		})
	}
}

// Before an operator replays, a preview says when one of the items was last tried, and what
// came of it.
func TestAPreviewSaysWhenItsItemsWereLastTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		ids := push(t, store, "a", "a", 1200, idle)
		push(t, store, "b", "b", 3, idle)
		e := engine(store, configured(replay.Policy{BaseDelay: 100 * time.Hour, MaxDelay: 100 * time.Hour}, sink))
		preview := func(f *replay.Filter) replay.Preview {
			t.Helper()
			p, err := e.Preview(t.Context(), replay.OperationRequest{Action: replay.OperationReplay, Filter: f, All: f == nil})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if p := preview(terminal()); p.LastTried != nil || p.Looked != 1203 || p.Count != 1203 {
			t.Errorf("nothing tried: %+v, %d looked at", p.LastTried, p.Looked)
		}
		// The oldest item, far behind the sample.
		if _, err := e.ReplayOne(t.Context(), ids[0], replay.OneOptions{}); err != nil {
			t.Fatal(err)
		}
		first := time.Now().UTC()
		if p := preview(terminal()); p.LastTried == nil || *p.LastTried != (replay.LastTried{At: first, Error: "SINK_UNAVAILABLE: HTTP 503"}) {
			t.Errorf("one tried by hand: %+v", p.LastTried)
		}
		if p := preview(&replay.Filter{Sink: "b"}); p.LastTried != nil || p.Looked != 3 {
			t.Errorf("another sink: %+v, %d looked at", p.LastTried, p.Looked)
		}
		// Whole queues are counted without reading them.
		if p := preview(nil); p.LastTried != nil || p.Looked != 1000 || p.Count != 1203 || !p.Complete {
			t.Errorf("whole queues: %+v, %d looked at of %d; want the newest 1000", p.LastTried, p.Looked, p.Count)
		}
		time.Sleep(time.Hour)
		op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, Filter: &replay.Filter{Sink: "a"}, StopAfter: number(1)})
		run(t, e, replay.Request{})
		want := replay.LastTried{At: time.Now().UTC(), Error: "SINK_UNAVAILABLE: HTTP 503", Operation: op.ID}
		for range 2 { // and of its second round
			if p := preview(terminal()); p.LastTried == nil || *p.LastTried != want {
				t.Errorf("tried by an operation: %+v, want %+v", p.LastTried, want)
			}
			time.Sleep(time.Hour)
			if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
				t.Fatal(err)
			}
			run(t, e, replay.Request{})
			want.At = time.Now().UTC()
		}
		time.Sleep(time.Hour)
		sink.set(nil)
		if _, err := e.ReplayOne(t.Context(), ids[7], replay.OneOptions{OnSuccess: replay.OnSuccessKeep}); err != nil {
			t.Fatal(err)
		}
		p, err := e.Preview(t.Context(), replay.OperationRequest{Action: replay.OperationReplay, IDs: ids[:20]})
		if err != nil || p.LastTried == nil || *p.LastTried != (replay.LastTried{At: time.Now().UTC(), Delivered: true}) {
			t.Errorf("by ids, one delivered and kept: %+v, %v", p.LastTried, err)
		}
	})
}

// Who resumes at once need not wait for a tick: the second for which this process leaves the
// receiver alone by itself is waited for.
func TestAnOperationThatIsResumedAtOnceGoesOnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		push(t, store, "a", "a", 30, idle)
		e := engine(store, configured(replay.Policy{BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
		e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		op := start(t, e, replayAll())
		run(t, e, replay.Request{Operation: op.ID})
		sink.set(nil)
		if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		run(t, e, replay.Request{Operation: op.ID})
		if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.Delivered != 30 {
			t.Errorf("operation %+v, want it completed in one run", got)
		}
	})
}
