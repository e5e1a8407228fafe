package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

// TestTheOperatorsStory runs the commands against the functions' real binaries.
func TestTheOperatorsStory(t *testing.T) {
	stack, err := local.Start(context.Background(), local.Options{Bin: built(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	schedule := &lambdahost.Schedule{Invoker: stack.Host, Function: local.Replay, Every: 300 * time.Millisecond}
	scheduled := false
	t.Cleanup(func() {
		stop()
		if scheduled {
			<-ended
		}
		if err := stack.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Setenv("BACKSTOP_API", stack.APIURL)
	out := func(want int, args ...string) string {
		t.Helper()
		r := run(t, args...)
		if r.code != want {
			t.Fatalf("backstop %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, want, r.out, r.err)
		}
		return r.out
	}
	has := func(what, text string, patterns ...string) {
		t.Helper()
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(text) {
				t.Errorf("%s lacks %s:\n%s", what, p, text)
			}
		}
	}

	// Failures with two causes, and one delivery that works.
	has("send", out(0, "send", "--sink", "webhook-demo", "--id", "ok-1", "--body", "hello"), `status +delivered`)
	has("the same send again", out(0, "send", "--sink", "webhook-demo", "--id", "ok-1", "--body", "hello"), `duplicate +yes`)
	out(4, "send", "--sink", "webhook-demo", "--id", "ok-1", "--body", "something else")
	for _, id := range []string{"down-1", "down-2", "down-3"} {
		has("send", out(0, "send", "--sink", "webhook-down", "--id", id, "--subject", "S "+id, "--body", "b"), `status +dead_lettered`, `reason +exhausted`)
	}
	out(0, "send", "--sink", "webhook-gone", "--id", "gone-1", "--body", "b")
	out(3, "send", "--sink", "nobody", "--body", "b")

	has("delivery", out(0, "delivery", "webhook-down", "down-1"), `status +dead_lettered`, `dead letter +webhook-down~`)
	out(3, "delivery", "webhook-down", "never-sent")
	has("sinks", out(0, "sinks"), `webhook-down +ok +3 +3 +0 .*webhook`, `email-demo +ok +0`)
	has("count", out(0, "dlq", "count"), `webhook-down +3\n`, `\(all\) +4\n`)
	has("groups", out(0, "dlq", "groups"), `\n[0-9a-f]{12} +3 +webhook-down +exhausted +.*503`, `\n[0-9a-f]{12} +1 +webhook-gone +terminal +.*404`)
	has("list", out(0, "dlq", "list"), `webhook-gone~\S+ +waiting +terminal +HTTP 404 Not Found +\d+s +1 +0`, `webhook-down~\S+ .*S down-2`)
	if n := strings.Count(out(0, "dlq", "list", "--sink", "webhook-down", "--q", "down-2"), "webhook-down~"); n != 1 {
		t.Errorf("a search found %d, want 1", n)
	}
	var page struct {
		Items []struct {
			ID         string `json:"id"`
			DeliveryID string `json:"delivery_id"`
		}
	}
	if err := json.Unmarshal([]byte(out(0, "dlq", "list", "-o", "json", "--sink", "webhook-down")), &page); err != nil || len(page.Items) != 3 {
		t.Fatalf("%d items (%v), want 3", len(page.Items), err)
	}
	newest := page.Items[0].ID
	has("show", out(0, "dlq", "show", newest), `delivery +down-3`, `last error +.*503`)
	out(3, "dlq", "show", "webhook-down~1-1")
	out(2, "dlq", "show", "nonsense")

	// Paused: still replayed by hand; the receiver is still down.
	has("pause", out(0, "sinks", "pause", "webhook-down"), `webhook-down .*paused`)
	has("a replay that fails", out(1, "dlq", "replay", newest), `failed +webhook-down~.*503`)
	has("show", out(0, "dlq", "show", newest), `replays +1`, `REPLAYED +OUTCOME`)
	out(0, "dlq", "unpark", newest)
	has("resume", out(0, "sinks", "resume", "webhook-down"), `webhook-down .* ok`)

	// Out and in again: everything is there already.
	file := filepath.Join(t.TempDir(), "dead.ndjson")
	exported := out(0, "dlq", "export")
	if n := strings.Count(exported, "\n"); n != 4 {
		t.Fatalf("%d lines exported, want 4", n)
	}
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	has("import", out(0, "dlq", "import", file), `\n0 +4 +0 +0 +0\n`)

	// The receiver is back: one by hand, the rest by an operation, one discarded.
	stack.Inbox.HTTP.Heal(local.PathDown)
	has("replay", out(0, "dlq", "replay", newest), `delivered +webhook-down~`)
	has("dry run", out(0, "dlq", "replay", "--sink", "webhook-down", "--dry-run"), `Would replay 2 dead letters of sink webhook-down`)
	out(2, "dlq", "replay", "--sink", "webhook-down")
	scheduled = true
	go func() {
		defer close(ended)
		_ = schedule.Run(ctx) // ends with the test
	}()
	has("operation", out(0, "dlq", "replay", "--sink", "webhook-down", "--reason", "exhausted", "--yes", "--reason-text", "it is back"), `status +completed`, `total +2\n`, `why +it is back`)
	has("operations", out(0, "dlq", "operations"), `op-\S+ +\d+s +replay +completed +2 +2`)
	has("discard", out(0, "dlq", "discard", "--sink", "webhook-gone", "--yes"), `status +completed`, `discarded +1\n`)
	has("count", out(0, "dlq", "count"), `\(all\) +0\n`)
	has("delivery", out(0, "delivery", "webhook-down", "down-1"), `status +delivered`)
	has("delivery", out(0, "delivery", "webhook-gone", "gone-1"), `status +discarded`)

	// Every delivery arrived once.
	arrived := map[string]int{}
	for _, a := range stack.Inbox.HTTP.Arrivals() {
		if a.Accepted() {
			arrived[a.ID()]++
		}
	}
	for _, id := range []string{"ok-1", "down-1", "down-2", "down-3"} {
		if arrived[id] != 1 {
			t.Errorf("%s arrived %d times, want once", id, arrived[id])
		}
	}
}

// A bulk replay to a receiver that is down is stopped after two failures, and resumed once it is
// back, against the functions' real binaries: no schedule runs, the operation starts by itself.
func TestAStoppedReplayIsResumedByItsOperator(t *testing.T) {
	stack, err := local.Start(context.Background(), local.Options{Bin: built(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Setenv("BACKSTOP_API", stack.APIURL)
	for _, id := range []string{"down-1", "down-2", "down-3", "down-4"} {
		run(t, "send", "--sink", "webhook-down", "--id", id, "--body", "b").want(t, 0, "dead_lettered", "")
	}
	run(t, "dlq", "replay", "--sink", "webhook-down", "--dry-run").want(t, 0, "Would replay 4 dead letters of sink webhook-down.\nNone of them was ever tried again since it failed.\n", "")
	r := run(t, "dlq", "replay", "--sink", "webhook-down", "--stop-after", "2", "--yes")
	id := regexp.MustCompile(`op-[0-9a-f-]{32,36}`).FindString(r.out)
	r.want(t, exitFailed, "status     stopped\ntotal      4\ndone       2\nfailed     2\n", "is stopped: sink webhook-down: stopped after 2 failures in a row: SINK_UNAVAILABLE: POST http")
	r.want(t, exitFailed, "", "go on with\n  backstop dlq operations resume "+id+"\n")
	tried := regexp.MustCompile(`Last tried \d+s ago: failed: SINK_UNAVAILABLE: .*HTTP 503.* \(operation ` + id + `\)\.\n`)
	if r := run(t, "dlq", "replay", "--sink", "webhook-down", "--dry-run"); !tried.MatchString(r.out) {
		t.Errorf("the dry run says %q, want when they were last tried", r.out)
	}
	stack.Inbox.HTTP.Heal(local.PathDown)
	run(t, "dlq", "operations", "resume", id).want(t, 0, "status     completed\nround      2\ntotal      4\ndone       4\ndelivered  4\n", "operation "+id+": round 2\n")
	run(t, "dlq", "count").want(t, 0, "(all)           0\n", "")
	run(t, "dlq", "operations", "resume", id).want(t, exitUsage, "", "operation "+id+" is completed and is over; start another one: INVALID_ARGUMENT: only a stopped operation is resumed")
}
