package dlq_test

import (
	"slices"
	"testing"
	"time"

	"backstop/lib/dlq"
)

func TestTheFirstStateThatHoldsCounts(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	later, earlier := now.Add(time.Millisecond), now.Add(-time.Millisecond)
	all := dlq.Item{
		Reason: dlq.ReasonTerminal, DecodeError: "x", DeliveredAt: earlier, LeasedUntil: later, ExpiresAt: now, ExpiredAt: earlier, Parked: true, Held: true, NextReplayAt: later,
	}
	without := func(clear ...func(*dlq.Item)) dlq.Item {
		it := all
		for _, c := range clear {
			c(&it)
		}
		return it
	}
	readable := func(it *dlq.Item) { it.DecodeError = "" }
	undelivered := func(it *dlq.Item) { it.DeliveredAt = time.Time{} }
	unleased := func(it *dlq.Item) { it.LeasedUntil = now } // a lease ends at its end
	unmarked := func(it *dlq.Item) { it.ExpiredAt = time.Time{} }
	inTime := func(it *dlq.Item) { it.ExpiredAt, it.ExpiresAt = time.Time{}, later }
	early := func(it *dlq.Item) { it.ExpiresAt = later }
	late := func(it *dlq.Item) {
		it.Reason, it.ExpiredAt, it.ExpiresAt = dlq.ReasonExpired, time.Time{}, time.Time{}
	}
	unparked := func(it *dlq.Item) { it.Parked = false }
	unheld := func(it *dlq.Item) { it.Held = false }
	unscheduled := func(it *dlq.Item) { it.NextReplayAt = time.Time{} }
	arrived := func(it *dlq.Item) { it.NextReplayAt = now }
	transient := func(it *dlq.Item) { it.Reason = dlq.ReasonExhausted }
	for _, tt := range []struct {
		want dlq.State
		it   dlq.Item
	}{
		{dlq.StateUnreadable, all},
		{dlq.StateDelivered, without(readable)},
		{dlq.StateReplaying, without(readable, undelivered)},
		{dlq.StateExpired, without(readable, undelivered, unleased)},
		{dlq.StateExpired, without(readable, undelivered, unleased, unmarked)}, // no attempt begins at its end
		{dlq.StateExpired, without(readable, undelivered, unleased, early)},    // marked by another clock
		{dlq.StateExpired, without(readable, undelivered, unleased, late)},
		{dlq.StateParked, without(readable, undelivered, unleased, inTime)},
		{dlq.StateWaiting, without(readable, undelivered, unleased, inTime, unparked)},
		{dlq.StateWaiting, without(readable, undelivered, unleased, inTime, unparked, unheld, unscheduled)},
		{dlq.StateScheduled, without(readable, undelivered, unleased, inTime, unparked, unheld)}, // unparked by an operator
		{dlq.StateScheduled, without(readable, undelivered, unleased, inTime, unparked, unheld, transient)},
		{dlq.StateDue, without(readable, undelivered, unleased, inTime, unparked, unheld, arrived)},
		{dlq.StateDue, without(readable, undelivered, unleased, inTime, unparked, unheld, transient, unscheduled)},
		{dlq.StateDue, dlq.Item{Reason: "unheard-of"}},
	} {
		if got := tt.it.State(now); got != tt.want {
			t.Errorf("%+v is %s, want %s", tt.it, got, tt.want)
		}
		if !slices.Contains(dlq.States, tt.want) {
			t.Errorf("States lacks %s", tt.want)
		}
	}
	for _, r := range dlq.Reasons {
		want := dlq.StateDue
		if !r.Due() {
			want = dlq.StateWaiting
		}
		if r == dlq.ReasonExpired {
			want = dlq.StateExpired
		}
		if got := (dlq.Item{Reason: r}).State(now); got != want {
			t.Errorf("a fresh item with reason %s is %s, want %s", r, got, want)
		}
	}
}
