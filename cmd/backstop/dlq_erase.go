package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"backstop/client"
)

// mostRecipient bounds what is read of a recipient from standard input, in bytes.
const mostRecipient = 64 << 10

func newDLQErase(conn *connection) *cobra.Command {
	var o journalFlags
	var recipient string
	c := &cobra.Command{
		Use:   "erase --recipient WHO",
		Short: "Remove a person's dead letters for good, from queue and journal",
		Long: `Erase removes all dead letters of one recipient for good, whatever their sink, reason or state: from the queue, kept
ones too, from the journal, and from old versions of the journal's objects.

WHO is an email address, a URL, a device's token: a dead letter is the recipient's when any text in its recipient
is WHO, whatever its case. With --recipient - it is read from standard input, so that it is in no shell history
and no list of processes. No log and no answer has it; the operation keeps a keyed hash of it until it is over.
--reason-text is kept: do not name the person there.

A dry run counts first, in the queue, by sink, then you are asked (--yes answers, and is needed where there is no
terminal, or where WHO comes from standard input). Then a bulk operation does the work in the background, and its
progress is shown. It is durable: Ctrl-C only stops watching ('dlq operations wait' goes on, 'dlq operations
cancel' stops it). What arrives later is not erased: run it again.

Messages that are not dead letters are not looked at: those in queues of SQS, and records of deliveries, which
hold no recipient. docs/privacy.md says how each copy ends.

The exit code is 1 when something could not be read, so that nobody knows whose it is.`,
		Example: `  backstop dlq erase --recipient ann@example.com --dry-run
  pass show gdpr/request-17 | backstop dlq erase --recipient - --yes --reason-text "request 17"`,
		Args: cobra.NoArgs,
	}
	o.add(c, "dry-run", "yes", "wait", "reason-text")
	c.Flags().StringVar(&recipient, "recipient", "", "whose dead letters; - reads it from standard input")
	_ = c.RegisterFlagCompletionFunc("recipient", cobra.NoFileCompletions)
	c.RunE = func(c *cobra.Command, _ []string) error {
		r := client.OperationRequest{Action: client.ActionErase, Reason: o.why}
		var err error
		if r.Recipient, err = readRecipient(recipient, c.InOrStdin()); err != nil {
			return err
		}
		if recipient == "-" && !o.yes && !o.dryRun {
			return usage("--recipient -: standard input cannot answer a question too: add --yes, or look first with --dry-run")
		}
		return o.previewed(c, conn, r, func(d client.DryRun) previewWords {
			what := countOf(d) + " of this recipient in the queue"
			return previewWords{
				would: "Would erase " + what + ", and what the journal has.", question: "Erase " + what + ", and all that the journal has, for good?",
			}
		})
	}
	return c
}

// readRecipient reads whose dead letters are erased. No error shows it.
func readRecipient(flag string, stdin io.Reader) (string, error) {
	if flag == "-" {
		b, err := io.ReadAll(io.LimitReader(stdin, mostRecipient+1))
		if err != nil {
			return "", usage("--recipient -: %w", err)
		}
		if len(b) > mostRecipient {
			return "", usage("--recipient -: standard input has more than a recipient")
		}
		flag = string(b)
	}
	who := strings.TrimSpace(flag)
	switch {
	case who == "":
		return "", usage("--recipient is missing: say whose dead letters are to be erased, or - for standard input")
	case strings.ContainsAny(who, "\r\n"):
		return "", usage("--recipient: want one recipient, on one line")
	}
	return who, nil
}
