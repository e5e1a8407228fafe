package main

import (
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
