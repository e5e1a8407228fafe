package functions_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"backstop/internal/inbox"
	"backstop/internal/local"
)

// A dlq-api process that has never pushed anything works on what a send process stored
// before it started, in every sink.
func TestAColdAPIFindsWhatOthersStored(t *testing.T) {
	t.Parallel()
	s := start(t, onRedis(t))
	s.Inbox.Mail.Set(inbox.StageData, inbox.Always(inbox.Reply{Status: 550}))
	s.Inbox.HTTP.Set(local.PathSlack, inbox.Always(inbox.Reply{Status: 404, Body: "no_service"}))
	ids := map[string]string{}
	for _, sink := range []string{"webhook-gone", "webhook-down", "slack-demo"} {
		ids[sink] = send(t, s, sink, "m-"+sink, "x").text("item_id")
	}
	ids["email-demo"] = call(t, s, "POST", "/v1/messages", `{"id":"m-email-demo","sink":"email-demo","recipient":{"address":"a@example.com"},"message":{"body":"x"}}`).text("item_id")
	if cold := s.Host.Stats(local.DLQAPI).ColdStarts; cold != 0 {
		t.Fatalf("dlq-api started %d times before it was asked", cold)
	}

	list := call(t, s, "GET", "/v1/dlq/items", "")
	if items, ok := list.body["items"].([]any); !ok || len(items) != len(ids) {
		t.Errorf("the list has not all %d: %s", len(ids), list.raw)
	}
	if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != len(ids) {
		t.Errorf("count %d, want %d", n, len(ids))
	}
	s.Inbox.Mail.Heal()
	for _, path := range []string{local.PathSlack, local.PathGone, local.PathDown} {
		s.Inbox.HTTP.Heal(path)
	}
	for sink, id := range ids {
		item := call(t, s, "GET", "/v1/dlq/items/"+id, "")
		if item.status != 200 || item.text("sink") != sink || item.text("delivery_id") != "m-"+sink {
			t.Errorf("%s: get %s: %d %s", sink, id, item.status, item.raw)
		}
		if a := call(t, s, "POST", "/v1/dlq/items/"+id+"/replay", `{"on_success":"keep"}`); a.status != 200 || a.text("status") != "delivered" {
			t.Errorf("%s: replay: %d %s", sink, a.status, a.raw)
		}
		if a := call(t, s, "POST", "/v1/dlq/items/"+id+"/replay", ``); a.status != 409 {
			t.Errorf("%s: replay of a delivered one: %d %s, want 409", sink, a.status, a.raw)
		}
		if a := call(t, s, "GET", "/v1/deliveries?sink="+sink+"&id=m-"+sink, ""); a.text("status") != "delivered" {
			t.Errorf("%s: the delivery's record says %s", sink, a.raw)
		}
		for range 2 { // the second finds nothing and is no error
			if a := call(t, s, "DELETE", "/v1/dlq/items/"+id, ""); a.status != 204 {
				t.Errorf("%s: discard: %d %s", sink, a.status, a.raw)
			}
		}
	}
	if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
		t.Errorf("count %d after all were discarded", n)
	}
}

func TestAReplayRunTwiceAtOnceDeliversEachOnce(t *testing.T) {
	t.Parallel()
	o := onRedis(t)
	o.Timeout = 4 * time.Second
	s := start(t, o)
	const n = 40
	ids := map[string]bool{}
	for i := range n {
		id := fmt.Sprintf("m%d", i)
		a := send(t, s, "webhook-down", id, "x")
		if a.status != 202 {
			t.Fatalf("%s: %d %s", id, a.status, a.raw)
		}
		ids[id] = true
	}
	failing := send(t, s, "webhook-hang", "stays", "x").text("item_id")
	s.Inbox.HTTP.Heal(local.PathDown)

	var wg sync.WaitGroup
	var mu sync.Mutex
	total := struct{ Claimed, Delivered, Failed int }{}
	for range 2 {
		wg.Go(func() {
			res := invoke(t, s, local.Replay, []byte(`{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`))
			var sum struct{ Claimed, Delivered, Failed int }
			if err := json.Unmarshal(res.Payload, &sum); err != nil || res.FunctionError != "" {
				t.Errorf("replay: %s", res.Payload)
			}
			mu.Lock()
			defer mu.Unlock()
			total.Delivered += sum.Delivered
			total.Failed += sum.Failed
		})
	}
	wg.Wait()
	// The canary holds one of the two back for a tick; the schedule comes again.
	eventually(t, "all are replayed", func() error {
		if call(t, s, "GET", "/v1/dlq/count?sink=webhook-down", "").number("count") == 0 {
			return nil
		}
		invoke(t, s, local.Replay, []byte(`{"sinks":["webhook-down"]}`))
		return fmt.Errorf("some are left")
	})
	accepted := map[string]int{}
	for _, a := range s.Inbox.HTTP.Arrivals() {
		if a.Path == local.PathDown && a.Accepted() {
			accepted[a.ID()]++
		}
	}
	for id := range ids {
		if accepted[id] != 1 {
			t.Errorf("%s arrived %d times, want once", id, accepted[id])
		}
	}
	item := call(t, s, "GET", "/v1/dlq/items/"+failing, "")
	due, err := time.Parse(time.RFC3339Nano, item.text("next_replay_at"))
	if item.status != 200 || item.number("replays") != 1 || err != nil || time.Until(due) < 30*time.Second {
		t.Errorf("the failing one: %d %s; want replays 1 and a later due time", item.status, item.raw)
	}
}

// A paused sink is left alone: sends go straight to the queue, the schedule skips it,
// and everything goes out once it is resumed.
func TestAPausedSinkIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := start(t, onRedis(t))
	if a := call(t, s, "POST", "/v1/sinks/webhook-demo/pause", ""); a.status != 200 || a.body["paused"] != true {
		t.Fatalf("pause: %d %s", a.status, a.raw)
	}
	a := send(t, s, "webhook-demo", "m1", "x")
	if a.status != 202 || a.number("attempts") != 0 {
		t.Errorf("send to a paused sink: %d %s, want 202 without an attempt", a.status, a.raw)
	}
	if res := invoke(t, s, local.Replay, []byte(`{}`)); len(s.Inbox.HTTP.Arrivals()) != 0 {
		t.Errorf("the schedule sent to a paused sink: %s", res.Payload)
	}
	if a := call(t, s, "POST", "/v1/sinks/webhook-demo/resume", ""); a.status != 200 || a.body["paused"] != false {
		t.Errorf("resume: %d %s", a.status, a.raw)
	}
	if res := invoke(t, s, local.Replay, []byte(`{}`)); len(s.Inbox.HTTP.Arrivals()) != 1 {
		t.Errorf("after the resume %d arrived, want 1: %s", len(s.Inbox.HTTP.Arrivals()), res.Payload)
	}
	eventually(t, "sends go out again", func() error {
		if a := send(t, s, "webhook-demo", fmt.Sprint("m", time.Now().UnixNano()), "x"); a.status != 200 {
			return fmt.Errorf("%d %s", a.status, a.raw)
		}
		return nil
	})
	wantProblem(t, "a sink that nobody knows", call(t, s, "POST", "/v1/sinks/nobody/pause", ""), 404, "SINK_NOT_FOUND")
}
