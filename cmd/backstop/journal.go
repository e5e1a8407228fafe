package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"backstop/client"
)

// counted is a number of an operation and its word.
type counted struct {
	what  string
	count int64
}

// doneWith is how many dead letters an operation is done with.
func doneWith(op client.Operation) int64 {
	switch {
	case op.Restore != nil:
		r := op.Restore
		return r.Restored + r.Present + r.Skipped + r.Spilled
	case op.Audit != nil:
		return op.Audit.Letters
	case op.Erase != nil:
		return op.Settled + op.Erase.Erased
	}
	return op.Settled + op.Skipped + op.Gone()
}

// totalOf is how many dead letters an operation has, for a table.
func totalOf(op client.Operation) any {
	if op.OnJournal() {
		return "" // nobody counted them before
	}
	return op.Total
}

// journalCounts are the counts of an action on the journal.
func journalCounts(op client.Operation) []counted {
	switch {
	case op.Restore != nil:
		r := op.Restore
		return []counted{{"restored", r.Restored}, {"in the queue", r.Present}, {"ended meanwhile", r.Skipped}, {"spilled", r.Spilled}, {"damaged", r.Damaged}}
	case op.Audit != nil:
		a := op.Audit
		return []counted{
			{"letters", a.Letters},
			{"queued", a.Queued},
			{"spilled", a.Spilled},
			{"ending", a.Ending},
			{"unjournaled", a.Unjournaled},
			{"lost", a.Lost},
			{"damaged", a.Damaged},
		}
	case op.Erase != nil:
		e := op.Erase
		return []counted{{"erased from the journal alone", e.Erased}, {"old versions", e.Versions}, {"unreadable", e.Unreadable}, {"damaged", e.Damaged}}
	}
	return nil
}

// journalRemarks are what an action on the journal has to say while it is at work.
func journalRemarks(op client.Operation) []string {
	var parts []string
	if r := op.Restore; r != nil {
		parts = append(parts, fmt.Sprintf("%d restored", r.Restored))
		if r.Full {
			parts = append(parts, "the queue is full: it goes on when there is room")
		}
	}
	for _, n := range journalCounts(op) {
		if (n.what == "lost" || n.what == "damaged") && n.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	if op.OnJournal() && len(op.Sinks) > 1 && !op.Final() {
		done := 0
		for _, s := range op.Sinks {
			if s.Done {
				done++
			}
		}
		parts = append(parts, fmt.Sprintf("%d of %d sinks done", done, len(op.Sinks)))
	}
	return parts
}

// journalOutcome is the error that the end of an action on the journal stands for; nil when all is
// accounted for.
func journalOutcome(op client.Operation, conn *connection) error {
	var wrong, next []string
	say := func(n int64, what string, of func(client.OperationSink) int64, hint string) {
		if n == 0 {
			return
		}
		wrong = append(wrong, fmt.Sprintf("%s: %d (%s)", what, n, bySink(op, of)))
		next = append(next, hint)
	}
	const log = "They stay where they are, and the log of the replay function names them: look for the level WARN and\n\"journal\"."
	switch {
	case op.Restore != nil:
		say(op.Restore.Damaged, "objects of the journal that cannot be read in full", func(s client.OperationSink) int64 { return of(s.Restore).Damaged }, log)
	case op.Audit != nil:
		say(op.Audit.Lost, "dead letters that the queue lost", func(s client.OperationSink) int64 { return of(s.Audit).Lost },
			"Bring back what the queue lost with\n  backstop dlq restore"+conn.flags())
		say(op.Audit.Damaged, "objects of the journal that cannot be read in full", func(s client.OperationSink) int64 { return of(s.Audit).Damaged }, log)
	case op.Erase != nil:
		say(op.Erase.Unreadable, "dead letters of the queue that cannot be read", func(s client.OperationSink) int64 { return of(s.Erase).Unreadable },
			"Whose they are nobody knows. Look at them, and discard what is the recipient's:\n  backstop dlq list --state unreadable"+conn.flags())
		say(op.Erase.Damaged, "objects of the journal that cannot be read in full", func(s client.OperationSink) int64 { return of(s.Erase).Damaged }, log)
	}
	if len(wrong) == 0 {
		return nil
	}
	return &exitError{code: exitFailed, err: fmt.Errorf("%s", strings.Join(wrong, ", and ")), hint: strings.Join(next, "\n")}
}

// bySink is a number of each sink that has any: "mail 3, ops-slack 1".
func bySink(op client.Operation, of func(client.OperationSink) int64) string {
	var parts []string
	for _, name := range sorted(op.Sinks) {
		if n := of(op.Sinks[name]); n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", oneLine(name), n))
		}
	}
	return strings.Join(parts, ", ")
}

// sorted are the names of a map.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// of returns what p points to; zero where that is nothing.
func of[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// journalFlags are those of commands that work on the journal.
type journalFlags struct {
	dryRun, yes, wait bool
	why               string
}

// add adds those that are named.
func (o *journalFlags) add(c *cobra.Command, names ...string) {
	c.ValidArgsFunction = cobra.NoFileCompletions
	f := c.Flags()
	for _, name := range names {
		switch name {
		case "dry-run":
			f.BoolVar(&o.dryRun, name, false, "only say how many there are")
		case "yes":
			f.BoolVarP(&o.yes, name, "y", false, "do not ask")
		case "wait":
			f.BoolVar(&o.wait, name, true, "show progress until it is done; --wait=false only starts it")
		case "reason-text":
			f.StringVar(&o.why, name, "", "why you do it, such as a ticket; it is kept with the operation")
		}
	}
}

// start starts an operation on the journal, and shows its progress until it is over.
func (o *journalFlags) start(c *cobra.Command, api session, r client.OperationRequest, printed func(io.Writer, client.Operation) error) error {
	op, err := create(c.Context(), api, r)
	if err != nil {
		return err
	}
	note(c, "operation %s: %s", op.ID, r.Action)
	if o.wait {
		return followTo(c, api, op, printed)
	}
	if !api.json {
		note(c, "%s", followUp(op.ID, api.conn))
	}
	return answerOperation(api, op, nil)
}
