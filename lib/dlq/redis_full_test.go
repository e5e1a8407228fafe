package dlq_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

func TestAFullRedisIsDrained(t *testing.T) {
	c := redistest.Start(t, redistest.WithMaxMemory("6mb")).Client(t)
	s := newStore(t, c, dlq.WithMaxLen(0))
	ctx := t.Context()
	over := message("mail", "over")
	over.ExpiresAt = time.Now().Add(-time.Hour)
	mustAdd(t, s, over)
	mustAdd(t, s, message("mail", "canceled"))
	var full error
	pushed := 2
	for ; full == nil && pushed < 5000; pushed++ {
		it := message("mail", fmt.Sprint(pushed))
		it.Message.Body = strings.Repeat("x", 8<<10)
		full = s.Push(ctx, it)
	}
	pushed--
	if fault.CodeOf(full) != fault.CodeDLQUnavailable || !strings.Contains(full.Error(), "out of memory") {
		t.Fatalf("Push into a full Redis = %v, want SINK_DLQ_UNAVAILABLE, out of memory", full)
	}
	if n := depth(t, s, "mail"); n != int64(pushed) {
		t.Fatalf("%d stored, want %d", n, pushed)
	}
	if ok, err := s.Gate(ctx, "mail", "t", time.Minute); !ok || err != nil {
		t.Errorf("Gate = %v, %v", ok, err)
	}
	if err := s.Pause(ctx, "mail", true); err != nil {
		t.Error(err)
	}
	if err := s.Pause(ctx, "mail", false); err != nil {
		t.Error(err)
	}
	expired, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Expired: true, TTL: time.Minute})
	if err != nil || len(expired) != 1 {
		t.Fatalf("Claim of what expired = %d, %v; want 1", len(expired), err)
	}
	if got, err := s.Settle(ctx, []dlq.Settlement{{Lease: expired[0].Lease, Action: dlq.ActionExpire, Operation: "op"}}); err != nil || got[0] != dlq.SettleApplied {
		t.Errorf("Settle = %v, %v", got, err)
	}
	for _, id := range []string{"over", "canceled", "nothing of it"} {
		of, err := s.ClaimDelivery(ctx, dlq.DeliveryClaim{Sink: "mail", DeliveryID: id, TTL: time.Minute, Note: time.Millisecond})
		if err != nil {
			t.Errorf("ClaimDelivery: %v", err)
		}
		for _, l := range of {
			if _, err := s.Settle(ctx, []dlq.Settlement{{Lease: l.Lease, Action: dlq.ActionHold}}); err != nil {
				t.Errorf("Settle: %v", err)
			}
		}
	}
	if _, err := s.PruneCanceled(ctx, "mail"); err != nil {
		t.Errorf("PruneCanceled: %v", err)
	}
	if err := s.Uncancel(ctx, "mail", "canceled"); err != nil {
		t.Errorf("Uncancel: %v", err)
	}
	// Held items stay in memory: everything below works although nothing is freed yet.
	held, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Limit: 20, TTL: time.Minute})
	if err != nil || len(held) != 20 {
		t.Fatalf("Claim = %d, %v; want 20", len(held), err)
	}
	for _, l := range held {
		if _, err := s.Settle(ctx, []dlq.Settlement{{Lease: l.Lease, Action: dlq.ActionPark, Error: "no", Operation: "op"}}); err != nil {
			t.Fatalf("Settle: %v", err)
		}
	}
	if err := s.Unpark(ctx, held[0].ID); err != nil {
		t.Errorf("Unpark: %v", err)
	}
	if err := s.Discard(ctx, held[0].ID); err != nil {
		t.Errorf("Discard: %v", err)
	}
	for {
		leased, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Limit: 50, TTL: time.Minute})
		if err != nil {
			t.Fatalf("Claim: %v", err)
		}
		if len(leased) == 0 {
			break
		}
		var settlements []dlq.Settlement
		for _, l := range leased {
			settlements = append(settlements, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard})
		}
		if _, err := s.Settle(ctx, settlements); err != nil {
			t.Fatalf("Settle: %v", err)
		}
	}
	if n := depth(t, s, "mail"); n != 21 {
		t.Errorf("%d left, want the 19 parked, the expired and the canceled one", n)
	}
	mustAdd(t, s, message("mail", "there is room again"))
}

// TestAFullRedisNeverAcknowledgesWhatItDidNotStore: not under a known id, where the cache
// evicts, nor in a queue that is empty.
func TestAFullRedisNeverAcknowledgesWhatItDidNotStore(t *testing.T) {
	c := redistest.Start(t, redistest.WithMaxMemory("6mb"), redistest.WithConfig("maxmemory-policy", "volatile-lru")).Client(t)
	s := newStore(t, c, dlq.WithMaxLen(0))
	ctx := t.Context()
	owe := func(body string) dlq.Item {
		it := message("mail", "x")
		it.Message.Body = body
		return it
	}
	first := mustAdd(t, s, owe("you owe 10"))
	if err := c.Set(ctx, s.prefix+":delivery:record", strings.Repeat("x", 1000), time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	// A large push that was refused leaves room for small ones: its own arguments took it.
	var full error
	for _, size := range []int{8 << 10, 1} {
		full = nil
		for i := 0; full == nil && i < 5000; i++ {
			it := message("other", fmt.Sprintf("%d-%d", size, i))
			it.Message.Body = strings.Repeat("x", size)
			full = s.Push(ctx, it)
		}
	}
	if fault.CodeOf(full) != fault.CodeDLQUnavailable {
		t.Fatalf("Push into a full Redis = %v, want SINK_DLQ_UNAVAILABLE", full)
	}
	if n, err := c.Exists(ctx, s.prefix+":delivery:record").Result(); err != nil || n != 0 {
		t.Fatalf("the record is there: %d, %v; want it evicted", n, err)
	}
	stored, errs := s.AddBatch(ctx, []dlq.Item{owe("you owe 9999"), owe("you owe 10")})
	for i, err := range errs {
		if err == nil {
			got, err := s.Get(ctx, stored[i].ID)
			if want := []string{"you owe 9999", "you owe 10"}[i]; err != nil || got.Message.Body != want {
				t.Errorf("acknowledged as %s: %q, %v; want %q", stored[i].ID, got.Message.Body, err, want)
			}
		}
	}
	if it := mustAdd(t, s, owe("you owe 10")); it.ID != first.ID {
		t.Errorf("what is stored got id %s, want %s", it.ID, first.ID)
	}
	if err := s.Push(ctx, owe("you owe 9999")); fault.CodeOf(err) != fault.CodeDLQUnavailable {
		t.Errorf("other content = %v, want SINK_DLQ_UNAVAILABLE", err)
	}
	if err := s.Push(ctx, dlq.Item{Sink: "empty", DeliveryID: "x", Message: sinks.Message{Body: "b"}}); fault.CodeOf(err) != fault.CodeDLQUnavailable {
		t.Errorf("Push into an empty queue = %v, want SINK_DLQ_UNAVAILABLE", err)
	}
	if n := depth(t, s, "mail") + depth(t, s, "empty"); n != 1 {
		t.Errorf("%d stored, want 1", n)
	}
	// It is mended all the same.
	if err := c.XTrimMaxLen(ctx, s.prefix+":dlq:other", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Stats(ctx, "other"); err != nil || !reflect.DeepEqual(st, dlq.Stats{New: 1, States: map[dlq.State]int64{}}) {
		t.Errorf("Stats = %+v, %v; want nothing but a new group", st, err)
	}
	if it := mustAdd(t, s, owe("you owe 9999")); it.ID == first.ID {
		t.Error("other content was taken for what is stored")
	}
}
