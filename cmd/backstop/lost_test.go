package main

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"backstop/internal/local"
)

// A cache is lost at 3 a.m.: the commands of docs/operating.md against the functions' real binaries.
func TestALostCacheIsRestored(t *testing.T) {
	stack, err := local.Start(context.Background(), local.Options{
		Bin: built(t), Journal: local.TemporaryJournal, Env: map[string]string{"BACKSTOP_DLQ_MAX_LEN": "3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Setenv("BACKSTOP_API", stack.APIURL)
	says := func(want int, pattern string, args ...string) {
		t.Helper()
		r := run(t, args...)
		if r.code != want || !regexp.MustCompile(pattern).MatchString(r.out+r.err) {
			t.Errorf("backstop %s: exit code %d, want %d and %s\n%s%s", strings.Join(args, " "), r.code, want, pattern, r.out, r.err)
		}
	}
	for _, id := range []string{"a", "b", "c"} {
		says(0, `dead letter +webhook-gone~`, "send", "--sink", "webhook-gone", "--id", id, "--body", "x")
	}
	says(0, `dead letter +waits in the journal for room in the queue`, "send", "--sink", "webhook-gone", "--id", "d", "--body", "x")
	says(0, `next +it comes into the queue by itself, once there is room; then it waits for you`, "delivery", "webhook-gone", "d")
	says(0, `^letters=4 queued=3 spilled=1 ending=0 unjournaled=0 lost=0\n`, "dlq", "audit")
	says(0, `nothing to restore`, "dlq", "restore", "--yes")

	stack.Redis.FlushAll()
	says(0, `No dead letters|\(all\) +0`, "dlq", "count")
	says(0, `Would restore 3 dead letters that the queue lacks\.\nSINK +DEAD LETTERS\nwebhook-gone +3\n`, "dlq", "restore", "--dry-run")
	says(0, `restored +3`, "dlq", "restore", "--yes", "--reason-text", "INC-44")
	says(0, `^letters=4 queued=3 spilled=1 ending=0 unjournaled=0 lost=0\n`, "dlq", "audit")
	says(0, `restore +completed +- +\d+`, "dlq", "operations")

	// What waits in the journal alone is a person's, too.
	const person = "https://nosuch.invalid/ann"
	for _, id := range []string{"e", "f", "g", "h"} {
		says(0, `status +dead_lettered`, "send", "--sink", "webhook-down", "--id", id, "--to", person, "--body", "x")
	}
	says(0, `^letters=8 queued=6 spilled=2 ending=0 unjournaled=0 lost=0\n`, "dlq", "audit")
	says(0, `Would erase 3 dead letters of this recipient in the queue, and what the journal has\.\nSINK +DEAD LETTERS\nwebhook-down +3\n$`, "dlq", "erase", "--recipient", person, "--dry-run")
	says(0, `discarded +3\nerased from the journal alone +2\n`, "dlq", "erase", "--recipient", person, "--yes")
	says(0, `^letters=4 queued=3 spilled=1 ending=0 unjournaled=0 lost=0\n`, "dlq", "audit")
}
