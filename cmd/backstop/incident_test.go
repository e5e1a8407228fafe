package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/client"
	"backstop/internal/incident"
)

// startDev starts `backstop dev` as a process of its own, without a schedule.
func startDev(t *testing.T, args ...string) *incident.Dev {
	t.Helper()
	return incident.StartDev(t, commandContext(context.WithoutCancel(t.Context()), incident.DevArgs(built(t), args...)...))
}

// The operator's night, from a terminal: 1,000 failures, three causes, two sinks. One cause
// is replayed in bulk by two operators at the same time.
func TestAThousandFailuresAndOneCauseReplayedByTwoOperators(t *testing.T) {
	// 100 messages a second: the replays last long enough to meet.
	in := incident.Start(t, 100)
	dev := startDev(t, "--sinks", in.Sinks)
	t.Setenv("BACKSTOP_API", dev.API)
	if err := in.Strike(t.Context(), dev.Invoke); err != nil {
		t.Fatal(err)
	}

	// What failed, and why: exactly the three.
	var ids []string
	rows := strings.Split(strings.TrimSpace(run(t, "dlq", "groups").out), "\n")[1:]
	for i, cause := range incident.Causes {
		want := fmt.Sprintf(`^([0-9a-f]{12})  %d +%s +%s +.*%s`, cause.Count, cause.Sink, cause.Reason, cause.Error)
		m := regexp.MustCompile(want).FindStringSubmatch(rows[min(i, len(rows)-1)])
		if m == nil {
			t.Fatalf("the groups are\n%s\nwant row %d like %s", strings.Join(rows, "\n"), i, want)
		}
		ids = append(ids, m[1])
	}
	if len(rows) != len(incident.Causes) {
		t.Fatalf("%d groups, want %d:\n%s", len(rows), len(incident.Causes), strings.Join(rows, "\n"))
	}
	run(t, "dlq", "count").want(t, 0, fmt.Sprintf("(all)   %d\n", incident.Total), "")
	// Stop the bleeding: from here on, the schedule works on operations only.
	for _, sink := range []string{"orders", "alerts"} {
		run(t, "sinks", "pause", sink).want(t, 0, "paused", "")
	}
	tick(t, dev.Invoke)
	before := export(t)

	// How many would it be? Nothing is sent for the answer.
	attempted := in.Attempted()
	r := run(t, "dlq", "replay", "--group", ids[0][:6], "--dry-run")
	r.want(t, 0, fmt.Sprintf("Would replay %d dead letters of sink orders, reason exhausted, failed as ", incident.Down.Count), "")
	for i, cause := range incident.Causes[1:] {
		run(t, "dlq", "replay", "--group", ids[i+1], "--dry-run").want(t, 0, fmt.Sprintf("Would replay %d dead letters", cause.Count), "")
	}
	if n := len(in.Attempted()); n != len(attempted) || len(export(t)) != incident.Total {
		t.Errorf("the dry runs changed something: %d reached the receiver, before %d", n, len(attempted))
	}

	// The receiver is back. One operator sits at a terminal, another runs a script.
	in.Heal()
	first := make(chan result)
	var screen terminal
	go func() {
		first <- runWith(t, t.Context(), typed("y\n"), &screen, "dlq", "replay", "--group", ids[0], "--reason-text", "INC-42")
	}()
	var script, complaints bytes.Buffer
	second := command(t, "dlq", "replay", "--group", ids[0], "--yes", "-o", "json")
	second.Stdout, second.Stderr = &script, &complaints
	if err := second.Run(); err != nil {
		t.Errorf("the second operator: %v\n%s", err, complaints.String())
	}
	got := <-first
	got.want(t, 0, "status     completed", fmt.Sprintf("Replay %d dead letters of sink orders", incident.Down.Count))
	wantProgress(t, got.err)

	var theirs client.Operation
	if err := json.Unmarshal(script.Bytes(), &theirs); err != nil {
		t.Fatalf("%v: %s", err, script.String())
	}
	var all client.Operations
	if err := json.Unmarshal([]byte(run(t, "dlq", "operations", "-o", "json").out), &all); err != nil {
		t.Fatal(err)
	}
	delivered := int64(0)
	for _, op := range all.Operations {
		delivered += op.Delivered
		if op.Status != "completed" || op.Failed > 0 {
			t.Errorf("operation %s: %s, %d failed", op.ID, op.Status, op.Failed)
		}
	}
	if len(all.Operations) != 2 || theirs.Status != "completed" || delivered != int64(incident.Down.Count) {
		t.Errorf("%d operations (want two replays) delivered %d, want %d", len(all.Operations), delivered, incident.Down.Count)
	}
	if theirs.Delivered == 0 || theirs.Delivered == delivered {
		t.Errorf("one operator delivered %d of %d: the two did not meet", theirs.Delivered, delivered)
	}

	// Each arrived once; of the others nothing moved.
	arrived := in.Arrived()
	for n := range incident.Down.Count {
		if id := fmt.Sprintf("down-%04d", n+1); arrived[id] != 1 {
			t.Errorf("%s arrived %d times, want once", id, arrived[id])
		}
	}
	if len(arrived) != incident.Down.Count {
		t.Errorf("%d deliveries arrived, want %d", len(arrived), incident.Down.Count)
	}
	after := export(t)
	before = slices.DeleteFunc(before, func(line string) bool { return strings.Contains(line, `"delivery_id":"down-`) })
	if !slices.Equal(after, before) {
		t.Errorf("the other causes are not as they were: %d lines, before %d", len(after), len(before))
	}
	run(t, "dlq", "replay", "--group", ids[0], "--dry-run").want(t, exitNotFound, "", "no group "+ids[0])
}

// tick is the schedule, until the test ends: it invokes the replay function again and again.
func tick(t *testing.T, invokeURL string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	go func() {
		defer close(ended)
		for every := time.NewTicker(300 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
				r := runWith(t, ctx, strings.NewReader(""), &bytes.Buffer{}, "invoke", "replay", "--endpoint", invokeURL, "-e", "../../events/replay-schedule.json")
				if r.code != 0 && ctx.Err() == nil {
					t.Errorf("the schedule: %s%s", r.out, r.err)
				}
			}
		}
	}()
}

// export is all dead letters, a line each.
func export(t *testing.T) []string {
	t.Helper()
	r := run(t, "dlq", "export")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	return strings.Split(strings.TrimSpace(r.out), "\n")
}

// wantProgress checks that a bar moved from its beginning to its end.
func wantProgress(t *testing.T, screen string) {
	t.Helper()
	bar := regexp.MustCompile(`\rreplay \[#*\.*\] (\d+)/520 (\d+)%`)
	last, steps := -1, 0
	for _, m := range bar.FindAllStringSubmatch(screen, -1) {
		var done int
		if _, err := fmt.Sscan(m[1], &done); err != nil || done < last {
			t.Errorf("progress goes from %d to %s", last, m[1])
		}
		if done > last {
			steps++
		}
		last = done
	}
	if last != incident.Down.Count || steps < 3 {
		t.Errorf("progress ends at %d after %d steps:\n%q", last, steps, screen)
	}
}
