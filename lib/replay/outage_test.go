package replay_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// A receiver is down for eight hours, while 2,000 dead letters that are of use for a minute to
// twelve hours wait for it and ticks come every minute: none is delivered at or after its expiry,
// each that expires is marked and counted once, by the next tick, and the others are delivered.
func TestAnOutageDeliversNothingTooLate(t *testing.T) {
	synctest.Test(t, outage)
}

func outage(t *testing.T) {
	const letters, down, longest = 2000, 8 * time.Hour, 12 * time.Hour
	began := time.Now()
	sink := &receiver{name: "a", answer: func(ctx context.Context, m sinks.Message) error {
		if time.Since(began) < down {
			return takes(50*time.Millisecond, errDown)(ctx, m)
		}
		return takes(50*time.Millisecond, nil)(ctx, m)
	}}
	store, told, seen := dlq.NewMemory(), delivery.NewMemory(48*time.Hour), &counter{}
	expiry := map[string]time.Time{}
	for i := range letters {
		in := time.Minute + time.Duration(i)*(longest-time.Minute)/(letters-1)
		push(t, store, "a", fmt.Sprintf("m%d-", i), 1, expires(in))
		expiry[fmt.Sprintf("m%d-0", i)] = began.Add(in)
	}
	e := engine(store, configured(replay.Policy{}, sink))
	e.Records, e.Observer = told, seen
	e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
	log := logged(e)
	var all replay.Counts
	for tick := began; time.Since(began) < longest+time.Hour; time.Sleep(time.Until(tick)) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
		s, err := e.Run(ctx, replay.Request{})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		all.Expired += s.Expired
		all.Delivered += s.Delivered
		over := 0
		for _, at := range expiry {
			if !at.After(tick) {
				over++
			}
		}
		st, err := store.Stats(t.Context(), "a")
		var states int64
		for _, n := range st.States {
			states += n
		}
		switch marked := st.States[dlq.StateExpired]; {
		case err != nil || states != st.Depth || st.Depth+all.Delivered != letters || marked != all.Expired || marked+st.Remaining != st.Depth:
			t.Fatalf("after %s: %+v, %v; it does not add up with %+v", time.Since(began), st, err, all)
		case marked+all.Delivered < int64(over):
			t.Fatalf("after %s: %d marked and %d delivered, but %d have expired when the tick began", time.Since(began), marked, all.Delivered, over)
		}
		tick = tick.Add(time.Minute)
	}
	for _, s := range sink.calls() {
		if !s.at.Before(expiry[s.id]) {
			t.Errorf("an attempt of %s began at %s, %s after its expiry", s.id, s.at, s.at.Sub(expiry[s.id]))
		}
	}
	var delivered, expired int
	for id, at := range expiry {
		rec, _, err := told.Get(t.Context(), delivery.Key{Sink: "a", ID: id})
		switch {
		case err == nil && rec.Status == delivery.StatusDelivered:
			delivered++
		case err == nil && rec.Status == delivery.StatusExpired:
			if expired++; at.After(began.Add(down + 15*time.Minute)) {
				t.Errorf("%s, of use for %s after the outage, was not delivered", id, at.Sub(began.Add(down)))
			}
		default:
			t.Errorf("the record of %s: %+v, %v", id, rec, err)
		}
	}
	if delivered+expired != letters || all.Expired != int64(expired) || seen.expired != expired || strings.Count(log.String(), `"msg":"expired"`) != expired || seen.delivered != delivered {
		t.Errorf("%d delivered, %d expired; counted %+v, observed %d and %d", delivered, expired, all, seen.delivered, seen.expired)
	}
	if n := len(sink.calls()) - delivered; n > 2000 {
		t.Errorf("%d attempts in vain, want few", n)
	}
	t.Logf("%d delivered, %d expired, %d attempts in vain", delivered, expired, len(sink.calls())-delivered)
}
