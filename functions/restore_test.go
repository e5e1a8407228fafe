package functions_test

import (
	"fmt"
	"testing"

	"backstop/internal/local"
)

// A queue that is wiped is restored from its journal, through the real binaries, and every answer on
// the way is as documented.
func TestAWipedQueueIsRestored(t *testing.T) {
	s := start(t, local.Options{Journal: t.TempDir()})
	c := newClient(t, s.APIURL)
	for n := range 5 {
		c.want(202, "", "POST", "/v1/messages", fmt.Sprintf(`{"id":"m%d","sink":"webhook-gone","message":{"body":"x"}}`, n))
	}
	operate := func(action string) answer {
		t.Helper()
		id := c.want(202, "", "POST", "/v1/dlq/operations", `{"action":"`+action+`"}`).text("id")
		invoke(t, s, local.Replay, []byte(`{"operation":"`+id+`"}`))
		var a answer
		eventually(t, action+" to be completed", func() error {
			if a = c.want(200, "", "GET", "/v1/dlq/operations/"+id, ""); a.text("status") != "completed" {
				return fmt.Errorf("%s", a.raw)
			}
			return nil
		})
		return a
	}
	count := func(a answer, action, name string) int {
		t.Helper()
		counts, _ := a.body[action].(map[string]any)
		n, ok := counts[name].(float64)
		if !ok {
			t.Fatalf("no %s.%s in %s", action, name, a.raw)
		}
		return int(n)
	}
	if a := operate("audit"); count(a, "audit", "letters") != 5 || count(a, "audit", "queued") != 5 || count(a, "audit", "lost") != 0 {
		t.Errorf("audit: %s, want 5 in the queue", a.raw)
	}

	s.Redis.FlushAll()
	if a := c.want(200, "", "GET", "/v1/dlq/count", ""); a.number("count") != 0 {
		t.Fatalf("wiped: %s", a.raw)
	}
	if a := c.want(200, "", "POST", "/v1/dlq/operations", `{"action":"restore","dry_run":true}`); a.number("count") != 5 {
		t.Errorf("dry run: %s, want 5", a.raw)
	}
	if a := operate("restore"); count(a, "restore", "restored") != 5 || count(a, "restore", "damaged") != 0 {
		t.Errorf("restore: %s, want 5", a.raw)
	}
	if a := operate("audit"); count(a, "audit", "letters") != 5 || count(a, "audit", "queued") != 5 || count(a, "audit", "lost") != 0 {
		t.Errorf("audit: %s, want 5 in the queue again", a.raw)
	}
	if a := c.want(200, "", "GET", "/v1/sinks", ""); a.body["journal"] != true {
		t.Errorf("sinks: %s, want it said that there is a journal", a.raw)
	}

	// They are what they were: a replay delivers each, once.
	s.Inbox.HTTP.Heal(local.PathGone)
	id := c.want(202, "", "POST", "/v1/dlq/operations", `{"action":"replay","all":true}`).text("id")
	invoke(t, s, local.Replay, []byte(`{"operation":"`+id+`"}`))
	eventually(t, "the replay to be completed", func() error {
		if a := c.want(200, "", "GET", "/v1/dlq/operations/"+id, ""); a.text("status") != "completed" || a.number("delivered") != 5 {
			return fmt.Errorf("%s", a.raw)
		}
		return nil
	})
}

// A full queue spills: the answer says so, the delivery is found, and canceled.
func TestASpilledDeliveryIsFoundAndCanceled(t *testing.T) {
	s := start(t, local.Options{Journal: t.TempDir(), Env: map[string]string{"BACKSTOP_DLQ_MAX_LEN": "1"}})
	c := newClient(t, s.APIURL)
	c.want(202, "", "POST", "/v1/messages", `{"id":"first","sink":"webhook-gone","message":{"body":"x"}}`)
	if a := c.want(202, "", "POST", "/v1/messages", `{"id":"second","sink":"webhook-gone","message":{"body":"x"}}`); a.body["spilled"] != true || a.text("item_id") != "" {
		t.Errorf("the answer: %s, want it spilled", a.raw)
	}
	const way = "/v1/deliveries?sink=webhook-gone&id=second"
	a := c.want(200, "", "GET", way, "")
	next, _ := a.body["next"].(map[string]any)
	if a.body["spilled"] != true || a.text("status") != "dead_lettered" || next["event"] != "return" {
		t.Errorf("its way: %s, want it to return", a.raw)
	}
	a = c.want(200, "", "GET", "/v1/dlq/items?sink=webhook-gone", "")
	if items, _ := a.body["items"].([]any); len(items) != 1 {
		t.Errorf("the list: %s, want the first alone", a.raw)
	}
	if a := c.want(200, "", "DELETE", way, ""); a.text("status") != "canceled" || a.body["known"] != true {
		t.Errorf("canceled: %s", a.raw)
	}
	if a := c.want(200, "", "GET", way, ""); a.text("status") != "canceled" {
		t.Errorf("its way: %s, want it canceled", a.raw)
	}
}
