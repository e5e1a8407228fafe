package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// journalOp is an operation on the journal of two sinks; counts are members of its JSON, of the whole
// and of the sink mail.
func journalOp(action, status, counts string) reply {
	return ok(fmt.Sprintf(`{"id":"op-1","action":%q,"status":%q,"created_at":"2026-01-01T00:00:00Z","total":0,"total_complete":false,"stop_after":0,"round":1,`+
		`"settled":0,"delivered":0,"failed":0,"discarded":0,"skipped":0,"waiting":0,%[3]s,"sinks":{"mail":{"done":true,%[3]s},"ops":{"done":%[4]v}}}`,
		action, status, counts, status == "completed"))
}

func journalCreated(action, counts string) reply {
	r := journalOp(action, "queued", counts)
	r.status = 202
	return r
}

func audited(letters, queued, spilled, ending, unjournaled, lost, damaged int) string {
	return fmt.Sprintf(`"audit":{"letters":%d,"queued":%d,"spilled":%d,"ending":%d,"unjournaled":%d,"lost":%d,"damaged":%d}`, letters, queued, spilled, ending, unjournaled, lost, damaged)
}

func TestAnAuditPrintsOneLine(t *testing.T) {
	none := audited(0, 0, 0, 0, 0, 0, 0)
	const asked = `POST /v1/dlq/operations {"action":"audit"}`
	for _, c := range []struct {
		name     string
		terminal bool
		replies  []reply
		code     int
		out, err string // out is the whole
	}{
		{
			name: "all is accounted for", replies: []reply{journalCreated("audit", none), journalOp("audit", "completed", audited(9, 5, 3, 1, 2, 0, 0))},
			out: "letters=9 queued=5 spilled=3 ending=1 unjournaled=2 lost=0\n", err: "operation op-1: audit\n",
		},
		{
			name: "progress is shown beside it", terminal: true,
			replies: []reply{journalCreated("audit", none), journalOp("audit", "running", audited(4, 4, 0, 0, 0, 0, 0)), journalOp("audit", "completed", audited(9, 9, 0, 0, 0, 0, 0))},
			out:     "letters=9 queued=9 spilled=0 ending=0 unjournaled=0 lost=0\n", err: "\raudit 4  1 of 2 sinks done\raudit 9 ",
		},
		{
			name: "lost dead letters are a finding", replies: []reply{journalCreated("audit", none), journalOp("audit", "completed", audited(9, 5, 0, 1, 0, 3, 0))},
			code: exitFailed, out: "letters=9 queued=5 spilled=0 ending=1 unjournaled=0 lost=3\n",
			err: "backstop: dead letters that the queue lost: 3 (mail 3)\nBring back what the queue lost with\n  backstop dlq restore\n",
		},
		{
			name: "so is what cannot be read", replies: []reply{journalCreated("audit", none), journalOp("audit", "completed", audited(9, 9, 0, 0, 0, 0, 2))},
			code: exitFailed, out: "letters=9 queued=9 spilled=0 ending=0 unjournaled=0 lost=0\n",
			err: "backstop: objects of the journal that cannot be read in full: 2 (mail 2)\nThey stay where they are, and the log of the replay function names them",
		},
		{
			name: "both are told", replies: []reply{journalCreated("audit", none), journalOp("audit", "completed", audited(9, 8, 0, 0, 0, 1, 2))},
			code: exitFailed, out: "letters=9 queued=8 spilled=0 ending=0 unjournaled=0 lost=1\n", err: "the queue lost: 1 (mail 1), and objects of the journal",
		},
		{
			name: "one that failed prints no line", replies: []reply{journalCreated("audit", none), with(journalOp("audit", "failed", audited(5, 5, 0, 0, 0, 0, 0)), `"error":"sink ops: the bucket denies"`)},
			code: exitFailed, out: "operation  op-1\naction     audit\nstatus     failed\nletters    5\nqueued     5\ncreated    2026-01-01 00:00:00Z\nerror      sink ops: the bucket denies\n",
			err: "operation op-1 failed: sink ops: the bucket denies",
		},
		{
			name: "without a journal it is refused", replies: []reply{problem(400, "INVALID_ARGUMENT")}, code: exitUsage, err: "the detail (INVALID_ARGUMENT)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.replies...)
			r := runAt(t, c.terminal, "dlq", "audit")
			r.want(t, c.code, c.out, c.err)
			if r.out != c.out {
				t.Errorf("output %q, want %q", r.out, c.out)
			}
			if got := api.asked(); got[0] != asked || slices.ContainsFunc(got[1:], func(s string) bool { return s != askState }) {
				t.Errorf("calls %q", got)
			}
		})
	}
}

// runAt runs a command, with a terminal for its progress or without.
func runAt(t *testing.T, atTerminal bool, args ...string) result {
	t.Helper()
	if atTerminal {
		return runWith(t, t.Context(), strings.NewReader(""), &terminal{}, args...)
	}
	return run(t, args...)
}

func restored(restored, present, skipped, spilled, damaged int, full bool) string {
	return fmt.Sprintf(`"restore":{"restored":%d,"present":%d,"skipped":%d,"spilled":%d,"damaged":%d,"full":%v}`, restored, present, skipped, spilled, damaged, full)
}

// journalDry is a dry run of an action on the journal.
func journalDry(action string, count int, complete bool, counts string) reply {
	sinks := `{}`
	if count > 0 {
		sinks = fmt.Sprintf(`{"ops":1,"mail":%d}`, count-1)
	}
	return ok(fmt.Sprintf(`{"dry_run":true,"action":%q,"count":%d,"expired":0,"complete":%v,"scanned":5000,"sample":[],"looked":0,"by_sink":%s,%s}`, action, count, complete, sinks, counts))
}

func TestRestoreLooksAsksAndShowsProgress(t *testing.T) {
	const (
		dry    = `POST /v1/dlq/operations {"action":"restore","dry_run":true}`
		create = `POST /v1/dlq/operations {"action":"restore"}`
	)
	some, begun := journalDry("restore", 4100, true, restored(4100, 900, 0, 3, 0, false)), journalCreated("restore", restored(0, 0, 0, 0, 0, false))
	done := journalOp("restore", "completed", restored(4100, 900, 20, 0, 0, false))
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
			name: "a dry run shows how many, by sink", args: []string{"--dry-run"}, replies: []reply{some}, calls: []string{dry},
			out: "Would restore 4100 dead letters that the queue lacks.\nSINK  DEAD LETTERS\nmail  4099\nops   1\n900 in the queue already; they stay as they are\n3 spilled: they come into the queue by themselves\n",
		},
		{
			name: "one that did not get to the end says so", args: []string{"--dry-run"}, replies: []reply{journalDry("restore", 2, false, restored(2, 0, 0, 0, 4, false))}, calls: []string{dry},
			out: "Would restore at least 2 dead letters that the queue lacks.\nSINK  DEAD LETTERS\nmail  1\nops   1\n4 objects of the journal that cannot be read in full; the log of the dlq-api function names them\nOnly 5000 were looked at: there may be more, and they are included.\n",
		},
		{
			name: "the question comes with the counts by sink", typed: "n\n", replies: []reply{some}, calls: []string{dry}, code: exitFailed,
			err: "SINK  DEAD LETTERS\nmail  4099\nops   1\n900 in the queue already; they stay as they are\n3 spilled: they come into the queue by themselves\nRestore 4100 dead letters that the queue lacks? [y/N] backstop: not confirmed: nothing was done\n",
		},
		{name: "without a terminal it refuses", replies: []reply{some}, calls: []string{dry}, code: exitUsage, err: "there is no terminal to ask: add --yes, or look first with --dry-run"},
		{
			name: "a yes does it, with progress", typed: "y\n", replies: []reply{some, begun, journalOp("restore", "running", restored(1000, 20, 0, 0, 0, true)), done},
			calls: []string{dry, create, askState, askState}, out: "status           completed\nrestored         4100\nin the queue     900\nended meanwhile  20\n",
			err: "\rrestore 1020  1000 restored, the queue is full: it goes on when there is room, 1 of 2 sinks done",
		},
		{
			name: "what cannot be read is a finding", args: []string{"-y"}, replies: []reply{some, begun, journalOp("restore", "completed", restored(4100, 900, 0, 0, 2, false))},
			calls: []string{dry, create, askState}, code: exitFailed, out: "damaged       2\n", err: "backstop: objects of the journal that cannot be read in full: 2 (mail 2)\n",
		},
		{
			name: "nothing is lacking", args: []string{"-y"}, replies: []reply{journalDry("restore", 0, true, restored(0, 5, 0, 0, 0, false))}, calls: []string{dry},
			err: "The queue lacks nothing that the journal has: nothing to restore.\n",
		},
		{
			name: "but who did not look at all asks", args: []string{"-y"}, replies: []reply{journalDry("restore", 0, false, restored(0, 5, 0, 0, 0, false)), begun, done},
			calls: []string{dry, create, askState}, out: "completed",
		},
		{
			name: "since and a reason are passed on", args: []string{"-y", "--since", "2026-01-01T00:00:00Z", "--reason-text", "INC-44"}, replies: []reply{some, begun, done},
			calls: []string{
				`POST /v1/dlq/operations {"action":"restore","since":"2026-01-01T00:00:00Z","reason":"INC-44","dry_run":true}`,
				`POST /v1/dlq/operations {"action":"restore","since":"2026-01-01T00:00:00Z","reason":"INC-44"}`, askState,
			}, out: "completed",
		},
		{name: "since is read", args: []string{"--since", "soon"}, code: exitUsage, err: `--since "soon": want a time such as`},
		{
			name: "without waiting it says how to watch", args: []string{"-y", "--wait=false"}, replies: []reply{some, begun}, calls: []string{dry, create},
			out: "status     queued", err: "Watch it with\n  backstop dlq operations wait op-1\nand stop it with\n  backstop dlq operations cancel op-1\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.replies...)
			args := append([]string{"dlq", "restore"}, c.args...)
			var r result
			if c.typed == "" {
				r = run(t, args...)
			} else {
				r = runWith(t, t.Context(), typed(c.typed), &terminal{}, args...)
			}
			r.want(t, c.code, c.out, c.err)
			if got := api.asked(); !slices.Equal(got, c.calls) {
				t.Errorf("calls\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(c.calls, "\n"))
			}
		})
	}
}

// The recipient is asked for in the request alone: nothing that is printed has it.
func TestEraseNamesNobody(t *testing.T) {
	const (
		who    = "ann@example.com"
		dry    = `POST /v1/dlq/operations {"action":"erase","recipient":"` + who + `","dry_run":true}`
		create = `POST /v1/dlq/operations {"action":"erase","recipient":"` + who + `"}`
		none   = `"erase":{"erased":0,"versions":0,"unreadable":0,"damaged":0}`
	)
	some, begun := journalDry("erase", 3, true, none), journalCreated("erase", none)
	done := journalOp("erase", "completed", `"erase":{"erased":2,"versions":7,"unreadable":0,"damaged":0}`)
	long := strings.Repeat("x", mostRecipient+1)
	for _, c := range []struct {
		name     string
		args     []string
		stdin    string
		terminal bool
		replies  []reply
		calls    []string
		code     int
		out, err string
	}{
		{
			name: "a dry run shows how many", args: []string{"--recipient", who, "--dry-run"}, replies: []reply{some}, calls: []string{dry},
			out: "Would erase 3 dead letters of this recipient in the queue, and what the journal has.\nSINK  DEAD LETTERS\nmail  2\nops   1\n",
		},
		{
			name: "the question says what goes, from where", args: []string{"--recipient", who}, stdin: "n\n", terminal: true, replies: []reply{some}, calls: []string{dry}, code: exitFailed,
			err: "SINK  DEAD LETTERS\nmail  2\nops   1\nErase 3 dead letters of this recipient in the queue, and all that the journal has, for good? [y/N] backstop: not confirmed: nothing was done\n",
		},
		{
			name: "a yes does it", args: []string{"--recipient", who}, stdin: "y\n", terminal: true, replies: []reply{some, begun, done}, calls: []string{dry, create, askState},
			out: "action                         erase\nstatus                         completed\nerased from the journal alone  2\nold versions                   7\n",
		},
		{
			name: "the journal may have what the queue has not", args: []string{"--recipient", who, "--yes"}, replies: []reply{journalDry("erase", 0, true, none), begun, done}, calls: []string{dry, create, askState},
			out: "completed",
		},
		{
			name: "standard input is no shell history", args: []string{"--recipient", "-", "--yes"}, stdin: " " + who + "\n", replies: []reply{some, begun, done}, calls: []string{dry, create, askState},
			out: "completed",
		},
		{name: "and cannot answer a question", args: []string{"--recipient", "-"}, stdin: who + "\n", code: exitUsage, err: "standard input cannot answer a question too: add --yes"},
		{name: "it has one recipient", args: []string{"--recipient", "-", "--yes"}, stdin: who + "\nbob@example.com\n", code: exitUsage, err: "want one recipient, on one line"},
		{name: "and not more", args: []string{"--recipient", "-", "--yes"}, stdin: long, code: exitUsage, err: "standard input has more than a recipient"},
		{name: "somebody must be named", code: exitUsage, err: "--recipient is missing"},
		{
			name: "what cannot be read is a finding", args: []string{"--recipient", who, "--yes"},
			replies: []reply{some, begun, journalOp("erase", "completed", `"erase":{"erased":0,"versions":0,"unreadable":1,"damaged":2}`)}, calls: []string{dry, create, askState}, code: exitFailed,
			err: "backstop: dead letters of the queue that cannot be read: 1 (mail 1), and objects of the journal that cannot be read in full: 2 (mail 2)\n" +
				"Whose they are nobody knows. Look at them, and discard what is the recipient's:\n  backstop dlq list --state unreadable\n",
		},
		{
			name: "a refusal does not repeat it", args: []string{"--recipient", who, "--yes", "--reason-text", "x"}, replies: []reply{problem(400, "INVALID_ARGUMENT")}, code: exitUsage,
			calls: []string{strings.Replace(dry, `"dry_run"`, `"reason":"x","dry_run"`, 1)}, err: "the detail",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.replies...)
			args := append([]string{"dlq", "erase"}, c.args...)
			var r result
			if c.terminal {
				r = runWith(t, t.Context(), typed(c.stdin), &terminal{}, args...)
			} else {
				r = runWith(t, t.Context(), strings.NewReader(c.stdin), &bytes.Buffer{}, args...)
			}
			r.want(t, c.code, c.out, c.err)
			if got := api.asked(); !slices.Equal(got, c.calls) {
				t.Errorf("calls\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(c.calls, "\n"))
			}
			if strings.Contains(strings.ToLower(r.out+r.err), "ann@") {
				t.Errorf("it names the recipient:\n%s%s", r.out, r.err)
			}
		})
	}
}
