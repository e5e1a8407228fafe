package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newDLQAudit(conn *connection) *cobra.Command {
	var o journalFlags
	c := &cobra.Command{
		Use:   "audit",
		Short: "Compare queue and journal, letter by letter: is anything lost?",
		Long: `Audit compares the queue with the journal, letter by letter, and changes nothing. It prints one line:

  letters=N queued=N spilled=N ending=N unjournaled=N lost=0

letters are all dead letters, each once: those in the queue (queued), those that wait in the journal for room in
the queue (spilled), those that are over and not deleted there yet (ending), and lost ones: the journal has them
for longer than 15 minutes, and the queue has them not, looked at twice. 'backstop dlq restore' brings those
back. The journal has unjournaled ones, which are among the queued, not yet. The schedule sees to what is
spilled, ending or unjournaled.

The work is done in the background, as a bulk operation; a million dead letters take minutes. Ctrl-C only stops
watching ('dlq operations wait' goes on).

The exit code is 1 when something is unaccounted for: a lost dead letter, or an object of the journal that
cannot be read.`,
		Example: `  backstop dlq audit
  backstop dlq audit -o json | jq '.sinks | map_values(.audit.lost)'`,
		Args: cobra.NoArgs,
	}
	o.add(c, "reason-text", "wait")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		return o.start(c, api, client.OperationRequest{Action: client.ActionAudit, Reason: o.why}, printAudit)
	}
	return c
}

// printAudit prints the one line of an audit. What did not get to its end has none: it would look as if
// all were accounted for.
func printAudit(w io.Writer, op client.Operation) error {
	a := op.Audit
	if op.Status != client.OperationCompleted || a == nil {
		return printOperation(w, op)
	}
	_, err := fmt.Fprintf(w, "letters=%d queued=%d spilled=%d ending=%d unjournaled=%d lost=%d\n",
		a.Letters, a.Queued, a.Spilled, a.Ending, a.Unjournaled, a.Lost)
	return err
}
