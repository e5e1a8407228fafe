package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newDLQRestore(conn *connection) *cobra.Command {
	var o journalFlags
	var since string
	c := &cobra.Command{
		Use:   "restore",
		Short: "Bring back from the journal what the queue lost",
		Long: `Restore brings back what the journal has and the queue lacks, after a cache was lost or wiped, or failed over to
a node that was behind. What is in the queue stays as it is: a restore too many does no harm. What was parked
or held stays that, and what was delivered, discarded or canceled does not come back, but for what ended in the
last minutes before a loss: its deletion may not have reached the journal, and its receivers may get it twice.

A dry run counts first, by sink, then you are asked (--yes answers, and is needed where there is no terminal).
Then a bulk operation does the work in the background, and its progress is shown. It is durable: Ctrl-C only
stops watching ('dlq operations wait' goes on, 'dlq operations cancel' stops it; what it brought back stays, and
another restore brings the rest). Where the queue is full it waits for room.

Afterwards 'backstop dlq audit' tells whether all is accounted for. The schedule replays what is due.

The exit code is 1 when an object of the journal cannot be read in full.`,
		Example: `  backstop dlq restore --dry-run
  backstop dlq restore --reason-text "the cache was lost, INC-44"
  backstop dlq restore --since 24h --yes`,
		Args: cobra.NoArgs,
	}
	o.add(c, "dry-run", "yes", "wait", "reason-text")
	c.Flags().StringVar(&since, "since", "", "only what became a dead letter since this time (2026-01-31T23:59:00Z) or this long ago (90m, 12h, 3d)")
	_ = c.RegisterFlagCompletionFunc("since", cobra.NoFileCompletions)
	c.RunE = func(c *cobra.Command, _ []string) error {
		r := client.OperationRequest{Action: client.ActionRestore, Reason: o.why}
		var err error
		if r.Since, err = readTime("--since", since, time.Now()); err != nil {
			return err
		}
		return o.previewed(c, conn, r, func(d client.DryRun) previewWords {
			what := countOf(d) + " that the queue lacks"
			if !r.Since.IsZero() {
				what += ", since " + clock(r.Since)
			}
			words := previewWords{would: "Would restore " + what + ".", question: "Restore " + what + "?"}
			if d.Count == 0 && d.Complete {
				words.nothing = fmt.Sprintf("The queue lacks nothing that the journal has%s: nothing to restore.", sinceText(r.Since))
			}
			return words
		})
	}
	return c
}

// previewWords are what a dry run is told with: what the operation would do, the question whether it
// shall, and, where it need not, why. Empty: it may be needed.
type previewWords struct{ would, question, nothing string }

// previewed makes a dry run of an operation on the journal, asks, and starts it.
func (o *journalFlags) previewed(c *cobra.Command, conn *connection, r client.OperationRequest, words func(client.DryRun) previewWords) error {
	api, err := conn.open(c)
	if err != nil {
		return err
	}
	d, err := api.DryRun(c.Context(), r)
	if err != nil {
		return err
	}
	w := words(d)
	switch {
	case o.dryRun && api.json:
		return printJSON(api.out, d.JSON)
	case o.dryRun:
		return printPreview(api.out, w.would, d)
	case w.nothing != "":
		note(c, "%s", w.nothing)
		return nil
	case !o.yes:
		if err := printPreview(c.ErrOrStderr(), "", d); err != nil {
			return err
		}
	}
	if err := confirm(c, o.yes, w.question); err != nil {
		return err
	}
	return o.start(c, api, r, printOperation)
}

func sinceText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + clock(t)
}

// printPreview prints what a dry run found, by sink.
func printPreview(w io.Writer, head string, d client.DryRun) error {
	if head != "" {
		if _, err := fmt.Fprintln(w, head); err != nil {
			return err
		}
	}
	if len(d.BySink) > 0 {
		t := newTable("SINK", "DEAD LETTERS")
		for _, name := range sorted(d.BySink) {
			t.add(name, d.BySink[name])
		}
		if err := t.print(w); err != nil {
			return err
		}
	}
	r, e := of(d.Restore), of(d.Erase)
	for _, n := range []struct {
		count int64
		what  string
	}{
		{r.Present, "in the queue already; they stay as they are"},
		{r.Spilled, "spilled: they come into the queue by themselves"},
		{r.Damaged, "objects of the journal that cannot be read in full; the log of the dlq-api function names them"},
		{e.Unreadable, "dead letters of the queue that cannot be read: whose they are nobody knows"},
	} {
		if n.count > 0 {
			if _, err := fmt.Fprintf(w, "%d %s\n", n.count, n.what); err != nil {
				return err
			}
		}
	}
	if !d.Complete {
		_, err := fmt.Fprintf(w, "Only %d were looked at: there may be more, and they are included.\n", d.Scanned)
		return err
	}
	return nil
}
