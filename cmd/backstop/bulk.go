package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backstop/client"
	"backstop/internal/delay"
)

// bulk is a replay or discard of everything that a filter selects.
type bulk struct {
	action  client.Action
	filters *filterFlags

	all, dryRun, yes, wait bool
	why, toSink            string
	stopAfter              int
	flags                  *pflag.FlagSet
}

const bulkHelp = `Without ids, the filters select the dead letters: a dry run counts them first, then you are asked (--yes
answers, and is needed where there is no terminal), then an operation does the work in the background and its
progress is shown. Which dead letters belong to it is fixed when it begins: what fails later is not touched. An
operation is durable: Ctrl-C only stops watching ('dlq operations wait' goes on, 'dlq operations cancel' stops
it).`

const probingHelp = `Each receiver gets one dead letter first, then five, then all. What the breaker, a receiver's own wish or a rate
holds back waits and goes later. After --stop-after failures in a row of a receiver the operation is stopped, and says
why: 'dlq operations resume' begins again with one and tries again what failed. The question says when the dead
letters were last tried, and what came of it.

The exit code is 1 when one failed again, and when the operation was stopped.`

// bulkNames are the flags that go with a filter and not with ids. --yes does no harm there.
var bulkNames = append([]string{"all", "dry-run", "wait", "reason-text", "stop-after"}, filterNames...)

func addBulk(c *cobra.Command, conn *connection, action client.Action) *bulk {
	b := &bulk{action: action, filters: addFilter(c, conn)}
	f := c.Flags()
	f.BoolVar(&b.all, "all", false, "every dead letter of every sink; needed when there is no filter")
	f.BoolVar(&b.dryRun, "dry-run", false, "only say how many there are, and show the first")
	f.BoolVarP(&b.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&b.wait, "wait", true, "show progress until it is done; --wait=false only starts it")
	f.StringVar(&b.why, "reason-text", "", "why you do it, such as a ticket; it is kept with the operation")
	if b.flags = f; action == client.ActionReplay {
		f.IntVar(&b.stopAfter, "stop-after", 5, "stop after so many failures in a row of one receiver; 0: never")
	}
	return b
}

// request is what the flags ask for.
func (b *bulk) request(ctx context.Context, api session, now time.Time) (client.OperationRequest, error) {
	r := client.OperationRequest{Action: b.action, Reason: b.why, All: b.all, Sink: b.toSink}
	if b.flags.Changed("stop-after") {
		if b.stopAfter < 0 {
			return r, usage("--stop-after %d: want 0 (never) or more", b.stopAfter)
		}
		r.StopAfter = &b.stopAfter
	}
	f, err := b.filters.filter(ctx, api, now)
	if err != nil {
		return r, err
	}
	switch empty := reflect.ValueOf(f).IsZero(); {
	case empty && !b.all:
		return r, usage("name dead letters by id, or select them: --group, --sink, --reason, --q, ... ; --all means every one of every sink")
	case !empty && b.all:
		return r, usage("--all and a filter exclude each other")
	case !empty:
		r.Filter = &f
	}
	return r, nil
}

func (b *bulk) run(c *cobra.Command, conn *connection) error {
	api, err := conn.open(c)
	if err != nil {
		return err
	}
	r, err := b.request(c.Context(), api, time.Now())
	if err != nil {
		return err
	}
	preview, err := api.DryRun(c.Context(), r)
	if err != nil {
		return err
	}
	what := countOf(preview) + describe(filterOf(r)) + redirected(preview) + tooLate(preview)
	if b.dryRun {
		return b.show(api, preview, what)
	}
	if preview.Count == 0 && preview.Complete {
		note(c, "No dead letters%s: nothing to %s.", describe(filterOf(r)), b.action)
		return nil
	}
	if text := refusedThere(preview); text != "" && !b.yes {
		note(c, "%s", text)
	}
	if tried := lastTried(preview, time.Now()); !b.yes && tried != "" && b.action == client.ActionReplay {
		note(c, "%s", tried)
	}
	question := "Replay " + what + "?"
	if b.action == client.ActionDiscard {
		question = "Discard " + what + ", for good?"
	}
	if err := confirm(c, b.yes, question); err != nil {
		return err
	}
	r.UpTo = preview.UpTo // what was confirmed, and nothing that came since
	op, err := create(c.Context(), api, r)
	if err != nil {
		return err
	}
	note(c, "operation %s: %s %s", op.ID, b.action, what)
	if !b.wait {
		if api.json {
			return printJSON(api.out, op.JSON)
		}
		note(c, "%s", followUp(op.ID, conn))
		return printOperation(api.out, op)
	}
	return follow(c, api, op)
}

func filterOf(r client.OperationRequest) client.Filter {
	if r.Filter == nil {
		return client.Filter{}
	}
	return *r.Filter
}

// countOf is the dry run's number in words.
func countOf(d client.DryRun) string {
	s := plural(d.Count, "dead letter")
	if !d.Complete {
		return "at least " + s
	}
	return s
}

// tooLate says how many of a replay's dead letters it will not send; empty: none.
func tooLate(d client.DryRun) string {
	if d.Expired == 0 || d.Action != client.ActionReplay {
		return ""
	}
	return fmt.Sprintf(" (%d expired: not sent)", d.Expired)
}

// redirected says through which other sink a replay goes; empty: none.
func redirected(d client.DryRun) string {
	if d.Sink == "" {
		return ""
	}
	return " through " + oneLine(d.Sink)
}

// refusedThere says how many the sink of a redirect could not send; empty: it could all, as far as is known.
func refusedThere(d client.DryRun) string {
	switch {
	case d.Sink == "":
		return ""
	case d.Refused == 0 && d.Looked < d.Count:
		return fmt.Sprintf("%s takes the recipients of the newest %d; no others were looked at.", oneLine(d.Sink), d.Looked)
	case d.Refused == 0:
		return oneLine(d.Sink) + " takes all of their recipients."
	}
	return fmt.Sprintf("%s could never send %d of the %d that were looked at, which stay: %s", oneLine(d.Sink), d.Refused, d.Looked, clipTo(d.Refusal, 160))
}

// lastTried says when one of the dead letters was last tried, and what came of it; empty where
// nothing is known.
func lastTried(d client.DryRun, now time.Time) string {
	whole := d.Complete && d.Looked >= d.Count
	last := d.LastTried
	switch {
	case d.Looked == 0:
		return ""
	case last == nil && whole && d.Count == 1:
		return "It was never tried again since it failed."
	case last == nil && whole:
		return "None of them was ever tried again since it failed."
	case last == nil:
		return fmt.Sprintf("None of the newest %d was ever tried again since it failed.", d.Looked)
	}
	text := "Last tried " + age(now, last.At) + " ago: "
	if last.Delivered {
		text += "delivered, and kept"
	} else {
		text += "failed: " + clipTo(last.Error, 160)
	}
	if last.Operation != "" {
		text += " (operation " + oneLine(last.Operation) + ")"
	}
	if !whole {
		text += fmt.Sprintf("; the newest %d were looked at", d.Looked)
	}
	return text + "."
}

func (b *bulk) show(api session, d client.DryRun, what string) error {
	if api.json {
		return printJSON(api.out, d.JSON)
	}
	text := fmt.Sprintf("Would %s %s.\n", b.action, what)
	if tried := lastTried(d, time.Now()); tried != "" && b.action == client.ActionReplay {
		text += tried + "\n"
	}
	if refused := refusedThere(d); refused != "" {
		text += refused + "\n"
	}
	if _, err := fmt.Fprint(api.out, text); err != nil || len(d.Sample) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(api.out); err != nil {
		return err
	}
	return printItems(api, d.Sample)
}

// createTries bounds how often an operation is asked for.
const createTries = 3

// create starts an operation. The idempotency key makes it one, however often it is asked for.
func create(ctx context.Context, api session, r client.OperationRequest) (client.Operation, error) {
	key := uuid.NewString()
	return repeating(ctx, createTries, func() (client.Operation, error) { return api.CreateOperation(ctx, key, r) })
}

func followUp(id string, conn *connection) string {
	return fmt.Sprintf("Watch it with\n  backstop dlq operations wait %[1]s%[2]s\nand stop it with\n  backstop dlq operations cancel %[1]s%[2]s", id, conn.flags())
}

// follow shows an operation's progress until it is over, prints it, and fails if it did. Of one that
// was only named, without a status, it is not known yet that it exists.
func follow(c *cobra.Command, api session, op client.Operation) error {
	return followTo(c, api, op, printOperation)
}

// followTo is follow, with another way to print what came of it.
func followTo(c *cobra.Command, api session, op client.Operation, printed func(io.Writer, client.Operation) error) error {
	id, exists := op.ID, op.Status != ""
	line := newProgress(c, id)
	op, err := watch(c.Context(), func(ctx context.Context) (client.Operation, error) {
		return api.Operation(ctx, id)
	}, func(op client.Operation) {
		line.what, exists = string(op.Action), true
		line.show(doneWith(op), op.Total, remark(op))
	})
	line.end()
	if errors.Is(err, context.Canceled) {
		return hinted(err, "The operation goes on without you. %s", followUp(id, api.conn))
	}
	if code := exitCode(err); !exists && (code == exitUsage || code == exitNotFound) {
		return err
	}
	if err != nil {
		return hinted(err, "The operation may go on all the same. %s", followUp(id, api.conn))
	}
	if api.json {
		err = printJSON(api.out, op.JSON)
	} else {
		err = printed(api.out, op)
	}
	if err != nil {
		return err
	}
	return outcome(op, api.conn)
}

func remark(op client.Operation) string {
	var parts []string
	switch {
	case op.Status == client.OperationQueued:
		return "queued: begins with the schedule's next tick"
	case op.Gone() > 0:
		return fmt.Sprintf("%d settled by others", op.Gone())
	}
	if op.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", op.Failed))
	}
	if op.Expired > 0 {
		parts = append(parts, fmt.Sprintf("%d expired", op.Expired))
	}
	if text := waits(op); text != "" {
		parts = append(parts, text)
	}
	parts = append(parts, journalRemarks(op)...)
	if op.Status == client.OperationStopped {
		parts = append(parts, "stopped")
	}
	return strings.Join(parts, ", ")
}

// waits says what waits, and for what; empty: nothing does.
func waits(op client.Operation) string {
	switch {
	case op.Waiting == 0:
		return ""
	case op.WaitingUntil.IsZero():
		return fmt.Sprintf("%d held by another replay: they come with the schedule's next tick", op.Waiting)
	}
	return fmt.Sprintf("%d waiting until %s", op.Waiting, op.WaitingUntil.UTC().Format("15:04:05Z"))
}

const (
	watchFirst = 250 * time.Millisecond
	watchMost  = 3 * time.Second
	// watchFailures is how many polls in a row may fail: half a minute's.
	watchFailures = 12
)

// watch polls an operation until it is over, or stopped. Polls that fail and may be repeated are, for
// a while.
func watch(ctx context.Context, get func(context.Context) (client.Operation, error), show func(client.Operation)) (client.Operation, error) {
	failures := 0
	for wait := watchFirst; ; wait = min(wait*3/2, watchMost) {
		op, err := get(ctx)
		switch {
		case err == nil:
			failures = 0
			show(op)
			if op.Final() || op.Status == client.OperationStopped {
				return op, nil
			}
		case !client.Repeatable(err) || failures == watchFailures:
			return op, err
		default:
			failures++
		}
		if err := delay.Sleep(ctx, wait); err != nil {
			return op, err
		}
	}
}

// outcome is the error that an operation's end stands for; nil when all went well.
func outcome(op client.Operation, conn *connection) error {
	failed := func(format string, args ...any) error {
		return &exitError{code: exitFailed, err: fmt.Errorf(format, args...)}
	}
	switch {
	case op.Status == "failed":
		return failed("operation %s failed: %s", op.ID, op.Error)
	case op.Status == client.OperationStopped:
		return &exitError{
			code: exitFailed,
			err:  fmt.Errorf("operation %s is stopped: %s", op.ID, op.Error),
			hint: fmt.Sprintf("Once that is cured, go on with\n  backstop dlq operations resume %[1]s%[2]s\nor give it up with\n  backstop dlq operations cancel %[1]s%[2]s", op.ID, conn.flags()),
		}
	case op.Status == "canceled":
		return failed("operation %s was canceled; what it did stays done", op.ID)
	case op.Failed > 0:
		return &exitError{
			code: exitFailed,
			err:  fmt.Errorf("%s failed again and stay in the queue", plural(op.Failed, "dead letter")),
			hint: "Why is in 'backstop dlq show ID" + conn.flags() + "', under its replays.",
		}
	}
	return journalOutcome(op, conn)
}

func printOperation(w io.Writer, op client.Operation) error {
	t := &table{}
	t.add("operation", op.ID)
	t.add("action", string(op.Action)+describe(filterOf(client.OperationRequest{Filter: op.Filter})))
	if !op.Since.IsZero() {
		t.add("since", clock(op.Since))
	}
	if len(op.IDs) > 0 {
		t.add("ids", len(op.IDs))
	}
	if op.Reason != "" {
		t.add("why", op.Reason)
	}
	if op.Actor != "" {
		t.add("who", op.Actor)
	}
	t.add("status", op.Status)
	if op.Round > 1 {
		t.add("round", op.Round)
	}
	if !op.OnJournal() {
		total := fmt.Sprint(op.Total)
		if !op.TotalComplete {
			total = "at least " + total
		}
		t.add("total", total)
		t.add("done", doneWith(op)-op.Gone())
	}
	for _, n := range append([]counted{
		{"delivered", op.Delivered}, {"failed", op.Failed}, {"discarded", op.Discarded}, {"expired", op.Expired}, {"skipped", op.Skipped},
	}, journalCounts(op)...) {
		if n.count > 0 {
			t.add(n.what, n.count)
		}
	}
	if text := waits(op); text != "" {
		t.add("waiting", text)
	}
	if n := op.Gone(); n > 0 {
		t.add("gone", fmt.Sprintf("%d (settled meanwhile, by another replay or operator)", n))
	}
	t.add("created", clock(op.CreatedAt))
	if at := clock(op.FinishedAt); op.Status == client.OperationStopped {
		t.add("stopped", at)
	} else if at != "" {
		t.add("finished", at)
	}
	if op.Error != "" {
		t.add("error", op.Error)
	}
	return t.print(w)
}
