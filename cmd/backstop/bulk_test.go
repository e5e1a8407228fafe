package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/client"
)

func dryRun(n int) reply {
	return ok(fmt.Sprintf(`{"dry_run":true,"action":"replay","count":%d,"complete":true,"scanned":9,"sample":[%s]}`, n, oneRow))
}

func operation(status string, settled, failed int) reply {
	return ok(fmt.Sprintf(`{"id":"op-1","action":"replay","status":%q,"created_at":"2026-01-01T00:00:00Z","total":3,"total_complete":true,"settled":%d,"delivered":%d,"failed":%d,"discarded":0,"skipped":0,"sinks":{}}`,
		status, settled, settled-failed, failed))
}

func created() reply {
	r := operation("queued", 0, 0)
	r.status = 202
	return r
}

// with returns a reply with more members.
func with(r reply, members ...string) reply {
	r.body = strings.TrimSuffix(r.body, "}") + "," + strings.Join(members, ",") + "}"
	return r
}

func tried(ago time.Duration, what string) string {
	return fmt.Sprintf(`"last_tried":{"at":%q,%s}`, time.Now().Add(-ago-time.Second).UTC().Format(time.RFC3339), what)
}

const (
	askDry    = `POST /v1/dlq/operations {"action":"replay","filter":{"sink":"mail","reason":"exhausted"},"reason":"INC-42","dry_run":true}`
	askCreate = `POST /v1/dlq/operations {"action":"replay","filter":{"sink":"mail","reason":"exhausted"},"reason":"INC-42"}`
	askState  = `GET /v1/dlq/operations/op-1`
)

var bulkArgs = []string{"dlq", "replay", "--sink", "mail", "--reason", "exhausted", "--reason-text", "INC-42"}

func TestBulkWork(t *testing.T) {
	for _, c := range []struct {
		name     string
		args     []string
		typed    string // at a terminal; empty: there is none
		replies  []reply
		calls    []string
		code     int
		out, err string
	}{
		{
			name: "a dry run shows the number and the first", args: []string{"--dry-run"}, replies: []reply{dryRun(812)}, calls: []string{askDry},
			out: "Would replay 812 dead letters of sink mail, reason exhausted.\n\nID ",
		},
		{
			name: "without a terminal it refuses, and says how", replies: []reply{dryRun(3)}, calls: []string{askDry}, code: exitUsage,
			err: "there is no terminal to ask: add --yes, or look first with --dry-run",
		},
		{
			name: "a no does nothing", typed: "n\n", replies: []reply{dryRun(3)}, calls: []string{askDry}, code: exitFailed,
			err: "Replay 3 dead letters of sink mail, reason exhausted? [y/N] backstop: not confirmed: nothing was done\n",
		},
		{name: "no answer is a no", typed: "\n", replies: []reply{dryRun(3)}, calls: []string{askDry}, code: exitFailed, err: "not confirmed"},
		{
			name: "a yes does it, with progress", typed: "yes\n", replies: []reply{dryRun(3), created(), operation("running", 1, 0), operation("completed", 3, 0)},
			calls: []string{askDry, askCreate, askState, askState},
			out:   "status     completed\ntotal      3\ndone       3\ndelivered  3\n",
			err:   "\rreplay [########................] 1/3 33%\rreplay [########################] 3/3 100%",
		},
		{
			name: "what another replay holds is waited for", typed: "y\n",
			replies: []reply{dryRun(3), created(), with(operation("running", 1, 0), `"waiting":2`), operation("completed", 1, 0)},
			calls:   []string{askDry, askCreate, askState, askState},
			out:     "gone       2 (settled meanwhile, by another replay or operator)",
			err:     "1/3 33%  2 held by another replay: they come with the schedule's next tick\rreplay [########################] 3/3 100%  2 settled by others",
		},
		{
			name: "--yes does not ask", args: []string{"--yes", "-o", "json"}, replies: []reply{dryRun(3), created(), operation("completed", 3, 0)},
			calls: []string{askDry, askCreate, askState}, out: operation("completed", 3, 0).body + "\n",
		},
		{
			name: "what failed again is exit code 1", args: []string{"-y"}, replies: []reply{dryRun(3), created(), operation("completed", 3, 2)},
			calls: []string{askDry, askCreate, askState}, code: exitFailed, out: "failed     2", err: "2 dead letters failed again and stay in the queue",
		},
		{
			name: "so is a canceled operation", args: []string{"-y"}, replies: []reply{dryRun(3), created(), operation("canceled", 1, 0)},
			calls: []string{askDry, askCreate, askState}, code: exitFailed, err: "operation op-1 was canceled; what it did stays done",
		},
		{
			name: "what the receiver makes wait is shown with its time", typed: "y\n",
			replies: []reply{dryRun(3), created(), with(operation("running", 1, 1), `"waiting":2,"waiting_until":"2026-01-01T02:03:04Z"`), operation("completed", 3, 0)},
			calls:   []string{askDry, askCreate, askState, askState},
			err:     "1/3 33%  1 failed, 2 waiting until 02:03:04Z",
		},
		{
			name: "a stopped one ends the watch, says why, and how to go on", args: []string{"-y"},
			replies: []reply{dryRun(3), created(), with(operation("stopped", 2, 2), `"error":"sink mail: stopped after 2 failures in a row: HTTP 503","finished_at":"2026-01-01T02:03:04Z"`)},
			calls:   []string{askDry, askCreate, askState}, code: exitFailed, out: "stopped    2026-01-01 02:03:04Z",
			err: "backstop: operation op-1 is stopped: sink mail: stopped after 2 failures in a row: HTTP 503\nOnce that is cured, go on with\n  backstop dlq operations resume op-1",
		},
		{
			name: "the progress line shows that it is stopped", typed: "y\n", replies: []reply{dryRun(3), created(), operation("stopped", 2, 2)},
			calls: []string{askDry, askCreate, askState}, code: exitFailed, err: "2/3 66%  2 failed, stopped\n",
		},
		{
			name: "--stop-after is passed on", args: []string{"-y", "--stop-after", "0"}, replies: []reply{dryRun(3), created(), operation("completed", 3, 0)},
			calls: []string{strings.Replace(askDry, `"reason":"INC`, `"stop_after":0,"reason":"INC`, 1), strings.Replace(askCreate, `"reason":"INC`, `"stop_after":0,"reason":"INC`, 1), askState},
		},
		{name: "--stop-after is checked", args: []string{"-y", "--stop-after", "-1"}, code: exitUsage, err: "--stop-after -1: want 0 (never) or more"},
		{
			name: "the question says that they were never tried again", typed: "n\n", replies: []reply{with(dryRun(3), `"looked":3`)}, calls: []string{askDry}, code: exitFailed,
			err: "None of them was ever tried again since it failed.\nReplay 3 dead letters of sink mail, reason exhausted? [y/N] ",
		},
		{
			name: "and how many it will not send", typed: "n\n", replies: []reply{with(dryRun(3), `"expired":2`)}, calls: []string{askDry}, code: exitFailed,
			err: "Replay 3 dead letters of sink mail, reason exhausted (2 expired: not sent)? [y/N] ",
		},
		{
			name: "the progress line shows what expired", typed: "y\n",
			replies: []reply{dryRun(3), created(), with(operation("running", 2, 0), `"expired":2`), with(operation("completed", 3, 0), `"expired":2`)},
			calls:   []string{askDry, askCreate, askState, askState}, err: "2 expired", out: "expired    2",
		},
		{
			name: "or when they were, and what came of it", typed: "n\n",
			replies: []reply{with(dryRun(3), tried(4*time.Minute, `"error":"HTTP 503\nfrom \u001bmail","operation":"op-0"`), `"looked":3`)}, calls: []string{askDry}, code: exitFailed,
			err: "Last tried 4m ago: failed: HTTP 503 from \ufffdmail (operation op-0).\nReplay 3 dead letters",
		},
		{
			name: "so does a dry run, which may not have looked at all", args: []string{"--dry-run"},
			replies: []reply{with(dryRun(812), tried(3*time.Hour, `"delivered":true`), `"looked":500`)}, calls: []string{askDry},
			out: "Would replay 812 dead letters of sink mail, reason exhausted.\nLast tried 3h ago: delivered, and kept; the newest 500 were looked at.\n\nID ",
		},
		{
			name: "and a failed one", args: []string{"-y"}, replies: []reply{dryRun(3), created(), ok(`{"id":"op-1","status":"failed","error":"mail: not configured"}`)},
			calls: []string{askDry, askCreate, askState}, code: exitFailed, err: "operation op-1 failed: mail: not configured",
		},
		{
			name: "without waiting it says how to watch", args: []string{"-y", "--wait=false"}, replies: []reply{dryRun(3), created()},
			calls: []string{askDry, askCreate}, out: "status     queued", err: "backstop dlq operations cancel op-1",
		},
		{name: "nothing matches", args: []string{"-y"}, replies: []reply{ok(`{"count":0,"complete":true,"sample":[]}`)}, calls: []string{askDry}, err: "nothing to replay"},
		{
			name: "a search that stopped early found at least so many", args: []string{"--dry-run"}, replies: []reply{ok(`{"count":5,"complete":false,"sample":[]}`)},
			calls: []string{askDry}, out: "Would replay at least 5 dead letters",
		},
		{
			name: "a lost answer asks again for the same operation", args: []string{"-y"}, replies: []reply{dryRun(3), problem(503, "SINK_DLQ_UNAVAILABLE"), created(), operation("completed", 3, 0)},
			calls: []string{askDry, askCreate, askCreate, askState}, out: "completed",
		},
		{
			name: "a poll that fails is repeated", args: []string{"-y"}, replies: []reply{dryRun(3), created(), problem(503, "SINK_DLQ_UNAVAILABLE"), operation("completed", 3, 0)},
			calls: []string{askDry, askCreate, askState, askState}, out: "completed",
		},
		{
			name: "a poll that is refused is not", args: []string{"-y"}, replies: []reply{dryRun(3), created(), problem(404, "SINK_DLQ_NOT_FOUND")},
			calls: []string{askDry, askCreate, askState}, code: exitNotFound, err: "The operation may go on all the same.",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.replies...)
			var r result
			if c.typed == "" {
				r = run(t, append(slices.Clone(bulkArgs), c.args...)...)
			} else {
				r = runWith(t, t.Context(), typed(c.typed), &terminal{}, append(slices.Clone(bulkArgs), c.args...)...)
			}
			r.want(t, c.code, c.out, c.err)
			if got := api.asked(); !slices.Equal(got, c.calls) {
				t.Errorf("calls\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(c.calls, "\n"))
			}
			keys := map[string]bool{}
			for i, call := range api.asked() {
				if strings.HasPrefix(call, "POST") && !strings.Contains(call, "dry_run") {
					keys[api.headers[i].Get("Idempotency-Key")] = true
				}
			}
			if keys[""] || len(keys) > 1 {
				t.Errorf("idempotency keys %v, want one", keys)
			}
			if c.typed == "" && strings.Contains(r.err, "\r") {
				t.Errorf("progress where there is no terminal: %q", r.err)
			}
		})
	}
}

func TestBulkDiscardAsksWithItsOwnWords(t *testing.T) {
	api := newAPI(t, dryRun(1), created(), operation("completed", 1, 0))
	r := runWith(t, t.Context(), typed("y\n"), &terminal{}, "dlq", "discard", "--all")
	r.want(t, 0, "completed", "Discard 1 dead letter, for good? [y/N] ")
	want := []string{`POST /v1/dlq/operations {"action":"discard","all":true,"dry_run":true}`, `POST /v1/dlq/operations {"action":"discard","all":true}`, askState}
	if got := api.asked(); !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

func TestInterruptedBulkWorkSaysHowToGoOn(t *testing.T) {
	api := newAPI(t, dryRun(3), created(), operation("running", 1, 0))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan result)
	go func() {
		done <- runWith(t, ctx, strings.NewReader(""), &bytes.Buffer{}, append(slices.Clone(bulkArgs), "-y", "--api", api.URL)...)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); len(api.asked()) < 4; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("no second poll within 20 s")
		}
	}
	cancel()
	r := <-done
	r.want(t, exitInterrupted, "", fmt.Sprintf("backstop: interrupted\nThe operation goes on without you. Watch it with\n  backstop dlq operations wait op-1 --api %[1]s\nand stop it with\n  backstop dlq operations cancel op-1 --api %[1]s\n", api.URL))
}

func TestWaitingForAnOperationThatIsNotSaysJustThat(t *testing.T) {
	newAPI(t, problem(404, "SINK_DLQ_NOT_FOUND"))
	r := run(t, "dlq", "operations", "wait", "op-1")
	if want := "backstop: the detail (SINK_DLQ_NOT_FOUND)\n"; r.code != exitNotFound || r.err != want {
		t.Errorf("exit code %d, standard error %q; want %q", r.code, r.err, want)
	}
}

func TestWatchEndsWithTheOperationOrAfterHalfAMinuteOfFailures(t *testing.T) {
	away := &client.UnreachableError{Err: errors.New("refused")}
	synctest.Test(t, func(t *testing.T) {
		polls := 0
		start := time.Now()
		_, err := watch(t.Context(), func(context.Context) (client.Operation, error) {
			polls++
			if polls == 5 { // in between it works: the count begins anew
				return client.Operation{Status: "running"}, nil
			}
			return client.Operation{}, away
		}, func(client.Operation) {})
		if !errors.Is(err, away) || polls != 5+watchFailures+1 {
			t.Errorf("%v after %d polls, want %d", err, polls, 5+watchFailures+1)
		}
		if took := time.Since(start); took < 30*time.Second || took > 60*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		polls := 0
		start := time.Now()
		op, err := watch(t.Context(), func(context.Context) (client.Operation, error) {
			if polls++; time.Since(start) > time.Hour {
				return client.Operation{Status: "completed"}, nil
			}
			return client.Operation{Status: "queued"}, nil
		}, func(client.Operation) {})
		if err != nil || op.Status != "completed" || polls > 1300 {
			t.Errorf("%v, %v after %d polls, want the completed operation after about 1200", op.Status, err, polls)
		}
	})
}

// A resumption shows its progress, like the operation's first round.
func TestResumingAnOperation(t *testing.T) {
	const call = "POST /v1/dlq/operations/op-1/resume"
	for _, c := range []struct {
		name     string
		args     []string
		replies  []reply
		calls    []string
		code     int
		out, err string
	}{
		{
			name: "it is watched", replies: []reply{with(operation("queued", 1, 0), `"round":2`), operation("running", 1, 0), with(operation("completed", 3, 0), `"round":2`)},
			calls: []string{call, askState, askState}, out: "status     completed\nround      2\n", err: "operation op-1: round 2\n",
		},
		{
			name: "it is stopped again", replies: []reply{operation("queued", 1, 0), operation("stopped", 2, 1)},
			calls: []string{call, askState}, code: exitFailed, err: "operation op-1 is stopped",
		},
		{name: "without waiting", args: []string{"--wait=false"}, replies: []reply{operation("queued", 1, 0)}, calls: []string{call}, out: "status     queued"},
		{name: "one that is not stopped", replies: []reply{problem(400, "INVALID_ARGUMENT")}, calls: []string{call}, code: exitUsage, err: "the detail (INVALID_ARGUMENT)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.replies...)
			r := run(t, append([]string{"dlq", "operations", "resume", "op-1"}, c.args...)...)
			r.want(t, c.code, c.out, c.err)
			if got := api.asked(); !slices.Equal(got, c.calls) {
				t.Errorf("calls %q, want %q", got, c.calls)
			}
		})
	}
	r := run(t, "dlq", "operations", "resume", "op-1", "--api", "http://127.0.0.1:1")
	r.want(t, exitUnavailable, "", "Whether it was resumed is not known; its status tells:\n  backstop dlq operations show op-1")
}
