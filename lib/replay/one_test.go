package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

func TestReplayOne(t *testing.T) {
	tests := []struct {
		name   string
		answer func(context.Context, sinks.Message) error
		change func(*dlq.Item)
		opts   replay.OneOptions
		status replay.Status
		left   bool
		next   time.Duration // 0: none
	}{
		{name: "delivered and discarded", status: replay.StatusDelivered},
		{name: "delivered and kept", opts: replay.OneOptions{OnSuccess: replay.OnSuccessKeep}, status: replay.StatusDelivered, left: true},
		{name: "one that is never due", change: func(it *dlq.Item) { it.Reason = dlq.ReasonTerminal }, status: replay.StatusDelivered},
		{name: "one that is due later", change: func(it *dlq.Item) { it.NotBefore = time.Now().Add(time.Hour) }, status: replay.StatusDelivered},
		{name: "failed transiently", answer: fails(errDown), status: replay.StatusFailed, left: true, next: time.Minute},
		{name: "failed for good", answer: fails(errGone), status: replay.StatusFailed, left: true},
		{name: "a bad recipient", change: func(it *dlq.Item) { it.Recipient = json.RawMessage(`"bad"`) }, status: replay.StatusFailed, left: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a", answer: tt.answer}
				change := tt.change
				if change == nil {
					change = func(*dlq.Item) {}
				}
				id := push(t, store, "a", "m", 1, change)[0]
				// An operator overrides a pause, too.
				if err := store.Pause(t.Context(), "a", true); err != nil {
					t.Fatal(err)
				}
				r, err := engine(store, configured(replay.Policy{}, sink)).ReplayOne(t.Context(), id, tt.opts)
				if err != nil || r.Status != tt.status || r.ID != id || r.DeliveryID != "m0" || r.Sink != "a" {
					t.Fatalf("got %+v, %v; want %s", r, err, tt.status)
				}
				if (r.Error != "") != (tt.status != replay.StatusDelivered) || r.Attempts != len(sink.calls()) {
					t.Errorf("error %q, attempts %d of %d", r.Error, r.Attempts, len(sink.calls()))
				}
				if left := depth(t, store, "a") == 1; left != tt.left {
					t.Errorf("the item is left: %t, want %t", left, tt.left)
				}
				next := time.Duration(0)
				if !r.NextReplayAt.IsZero() {
					next = time.Until(r.NextReplayAt)
				}
				if next != tt.next {
					t.Errorf("next replay in %s, want %s", next, tt.next)
				}
			})
		})
	}
}

// What the receiver asked for at the first failure holds for the schedule, also after an
// operator tried in between and failed.
func TestAFailedReplayOfAnOperatorKeepsTheNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		notBefore := time.Now().Add(3 * time.Hour)
		id := push(t, store, "a", "m", 1, func(it *dlq.Item) { it.NotBefore = notBefore })[0]
		e := engine(store, configured(replay.Policy{}, sink))
		if r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{}); err != nil || !r.NextReplayAt.Equal(notBefore) {
			t.Errorf("got %+v, %v; want the next replay at %s", r, err, notBefore)
		}
		if it := get(t, store, id); !it.NextReplayAt.Equal(notBefore) {
			t.Errorf("due at %s, want %s", it.NextReplayAt, notBefore)
		}
		time.Sleep(3*time.Hour - time.Second)
		if s := run(t, e, replay.Request{}); s.Claimed != 0 {
			t.Errorf("summary %+v, want it left alone until then", s)
		}
	})
}

func TestReplayOneOfAParkedItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		id := push(t, store, "a", "m", 1)[0]
		e := engine(store, configured(replay.Policy{MaxReplays: 1}, sink))
		run(t, e, replay.Request{})
		r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{})
		if err != nil || r.Status != replay.StatusParked || r.Replays != 2 || !get(t, store, id).Parked {
			t.Errorf("failed again: %+v, %v; want parked, 2 replays", r, err)
		}
		sink.set(nil)
		if r, err = e.ReplayOne(t.Context(), id, replay.OneOptions{}); err != nil || r.Status != replay.StatusDelivered {
			t.Errorf("healed: %+v, %v; want delivered", r, err)
		}
	})
}

func TestReplayOneRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		ids := push(t, store, "a", "m", 3)
		other := push(t, store, "gone", "m", 1)[0]
		e := engine(store, configured(replay.Policy{}, sink))
		keep := replay.OneOptions{OnSuccess: replay.OnSuccessKeep}
		if _, err := e.ReplayOne(t.Context(), ids[0], keep); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", IDs: ids[1:2], TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		tests := []struct {
			name string
			id   string
			opts replay.OneOptions
			code fault.Code
			is   error
		}{
			{"an unknown item", "a~1-1", keep, fault.CodeDLQNotFound, nil},
			{"a bad id", "{}", keep, fault.CodeInvalidArgument, nil},
			{"a delivered item", ids[0], keep, fault.CodeInvalidArgument, replay.ErrAlreadyDelivered},
			{"a leased item", ids[1], keep, fault.CodeItemLeased, nil},
			{"an unconfigured sink", other, keep, fault.CodeSinkNotFound, nil},
			{"an unknown other sink", ids[2], replay.OneOptions{Sink: "zzz"}, fault.CodeSinkNotFound, nil},
			{"a bad choice", ids[2], replay.OneOptions{OnSuccess: "drop"}, fault.CodeInvalidArgument, nil},
		}
		for _, tt := range tests {
			_, err := e.ReplayOne(t.Context(), tt.id, tt.opts)
			if fault.CodeOf(err) != tt.code || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.code)
			}
		}
		if r, err := e.ReplayOne(t.Context(), ids[0], replay.OneOptions{Force: true}); err != nil || r.Status != replay.StatusDelivered {
			t.Errorf("forced: %+v, %v; want delivered again", r, err)
		}
		if got := sink.counts()["m0"]; got != 2 {
			t.Errorf("m0 was sent %d times, want 2", got)
		}
	})
}

func TestReplayOneWithoutTimeLeavesTheItemAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		id := push(t, store, "a", "m", 1)[0]
		ctx, cancel := context.WithCancel(t.Context())
		e := engine(canceling{store, cancel}, configured(replay.Policy{}, sink))
		if _, err := e.ReplayOne(ctx, id, replay.OneOptions{}); fault.CodeOf(err) != fault.CodeNotAttempted {
			t.Errorf("got %v, want NOT_ATTEMPTED", err)
		}
		if it := get(t, store, id); !it.State(time.Now()).Scheduled() || len(it.History) != 0 || len(sink.calls()) != 0 {
			t.Errorf("item %+v, want it as it was", it)
		}
		if left, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", TTL: time.Second}); len(left) != 1 {
			t.Errorf("the item is leased still (%v)", err)
		}
	})
}

// canceling ends the caller's context once an item is claimed.
type canceling struct {
	dlq.Store
	cancel context.CancelFunc
}

func (c canceling) Claim(ctx context.Context, claim dlq.Claim) ([]dlq.Leased, error) {
	defer c.cancel()
	return c.Store.Claim(ctx, claim)
}

func TestAForcedReplayThatFailsLeavesTheItemDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		id := push(t, store, "a", "m", 1)[0]
		e := engine(store, configured(replay.Policy{OnSuccess: replay.OnSuccessKeep}, sink))
		run(t, e, replay.Request{})
		sink.set(fails(errDown))
		r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{Force: true})
		if err != nil || r.Status != replay.StatusFailed || !r.NextReplayAt.IsZero() {
			t.Errorf("got %+v, %v; want failed, never due", r, err)
		}
		if it := get(t, store, id); it.DeliveredAt.IsZero() || it.State(time.Now()).Scheduled() {
			t.Errorf("item %+v, want delivered still", it)
		}
	})
}

func TestAnUndecodableItemCannotBeReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := engine(unreadable{}, targets{}).ReplayOne(t.Context(), "a~1-1", replay.OneOptions{})
		if fault.CodeOf(err) != fault.CodeInvalidArgument || !strings.Contains(err.Error(), "decoded") {
			t.Errorf("got %v, want INVALID_ARGUMENT saying why", err)
		}
	})
}

type unreadable struct{ dlq.Store }

func (unreadable) Get(context.Context, string) (dlq.Item, error) {
	return dlq.Item{ID: "a~1-1", Sink: "a", Raw: "{", DecodeError: "unexpected end of JSON input"}, nil
}
