package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newDLQReplay(conn *connection) *cobra.Command {
	var o client.ReplayOptions
	var edits bool
	var file string
	c := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Send dead letters again, now: by id, or all that filters select",
		Long: `Replay sends dead letters again at once, whether they are due or not, parked ones too. One that is delivered
is removed (or kept, with --on-success keep); one that fails stays and is due again later. Nobody else
replays it meanwhile. One that has expired is not sent, unless by id and with --force.

With ids, each is sent in turn and its outcome printed; the exit code is 1 when one failed again.

With --edit an editor ($VISUAL, $EDITOR) opens with the message of one: its subject, body, metadata and recipient. You see
what changed, and are asked (--yes answers); without a change nothing is sent. --file takes the text from a file instead, or
from standard input (-), YAML or JSON, in which only what changes needs to stand. A new dead letter is made of what
changed, and sent; the old one waits from then on, superseded by it, and only --force sends that. So nothing is sent twice:
where an answer is missing, do the same again. --to-sink does this with another sink, for ids; with filters each
is sent through the other sink, and what fails there stays in its own, as it was.

` + bulkHelp + "\n\n" + probingHelp,
		Example: `  backstop dlq replay ops-slack~1767225600000-0
  backstop dlq replay ops-slack~1767225600000-0 --to-sink ops-mail --on-success keep
  backstop dlq replay --edit ops-slack~1767225600000-0
  backstop dlq replay --edit --file fixed.yaml --yes ops-slack~1767225600000-0
  backstop dlq replay --group 2f6a54c1d001 --dry-run
  backstop dlq replay --sink ops-slack --meta tenant=t3 --to-sink ops-mail
  backstop dlq replay --sink ops-slack --reason exhausted --reason-text "Slack is back, INC-42"
  backstop dlq replay --sink orders-hook --stop-after 20
  backstop dlq replay --all --yes --wait=false -o json | jq -r .id`,
	}
	c.ValidArgsFunction = completeItems(conn)
	b := addBulk(c, conn, client.ActionReplay)
	f := c.Flags()
	f.StringVar((*string)(&o.OnSuccess), "on-success", "", "discard (default) or keep a dead letter that was delivered; with ids")
	f.BoolVar(&o.Force, "force", false, "also send a dead letter whose time is over, that is superseded, or that was delivered already and kept; with ids")
	f.StringVar(&o.Sink, "to-sink", "", "send through another sink, of a kind that understands the recipient")
	f.BoolVar(&edits, "edit", false, "change the message or its recipient before, in an editor or with --file; with one id")
	f.StringVar(&file, "file", "", "with --edit: what to change, YAML or JSON; - for standard input")
	_ = c.MarkFlagFilename("file", "yaml", "yml", "json")
	_ = c.RegisterFlagCompletionFunc("on-success", cobra.FixedCompletions([]string{"discard", "keep"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("to-sink", completeSinks(conn))
	c.RunE = func(c *cobra.Command, ids []string) error {
		if len(ids) == 0 {
			if given(c, "on-success", "force", "edit", "file") {
				return usage("--on-success, --force, --edit and --file go with ids; an operation replays each dead letter as it is and removes it once it is delivered")
			}
			b.toSink = o.Sink
			return b.run(c, conn)
		}
		switch {
		case file != "" && !edits:
			return usage("--file goes with --edit")
		case edits && len(ids) > 1:
			return usage("--edit goes with one id")
		case edits:
			return eachID(c, conn, ids, func(_ context.Context, api session, id string) error {
				return replayEdited(c, api, id, file, b.yes, o)
			})
		}
		return eachID(c, conn, ids, func(ctx context.Context, api session, id string) error {
			return replayOne(ctx, api, id, o)
		})
	}
	return c
}

func replayOne(ctx context.Context, api session, id string, o client.ReplayOptions) error {
	r, err := api.Replay(ctx, id, &o)
	_, unreachable := errors.AsType[*client.UnreachableError](err)
	switch unsure := unreachable || errors.Is(err, context.Canceled); {
	case unsure && (o.Message != nil || o.Recipient != nil || o.Sink != ""):
		return hinted(err, "Whether it was sent is not known. Do the same again: it goes on with what was made, and nothing is sent twice.")
	case unsure:
		return hinted(err, "Whether it was sent is not known; its replays, or its absence, tell:\n  backstop dlq show %s%s", id, api.conn.flags())
	}
	if err != nil {
		return err
	}
	if api.json {
		err = printJSON(api.out, r.JSON)
	} else {
		err = printReplayed(api, id, r)
	}
	if err == nil && r.Status != client.ReplayDelivered {
		err = &exitError{code: exitFailed, err: fmt.Errorf("%s was not delivered", r.ID)}
	}
	return err
}

func printReplayed(api session, id string, r client.ReplayResult) error {
	text := ""
	if r.Error != "" {
		text = "  " + clipTo(r.Error, 120)
	}
	switch {
	case r.Status == client.ReplayParked:
		text += "  (parked: the schedule gives up on it)"
	case !r.NextReplayAt.IsZero():
		text += fmt.Sprintf("  (again in %s)", span(time.Until(r.NextReplayAt).Round(time.Second)))
	}
	if r.SupersededBy != "" {
		text = "  (in place of " + oneLine(id) + ")" + text
	}
	_, err := fmt.Fprintf(api.out, "%-9s  %s%s\n", oneLine(string(r.Status)), oneLine(r.ID), text)
	return err
}

func newDLQDiscard(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "discard [ID...]",
		Short: "Give dead letters up for good: by id, or all that filters select",
		Long: `Discard removes dead letters for good. What may be needed again is exported first ('backstop dlq export').

With ids there is no question: they were named one by one. One that is gone already counts as discarded.

` + bulkHelp,
		Example: `  backstop dlq discard ops-slack~1767225600000-0
  backstop dlq export --sink test > test.ndjson && backstop dlq discard --sink test
  backstop dlq discard --sink mail --reason invalid --yes --reason-text "bad addresses, INC-43"`,
	}
	c.ValidArgsFunction = completeItems(conn)
	b := addBulk(c, conn, client.ActionDiscard)
	c.RunE = func(c *cobra.Command, ids []string) error {
		if len(ids) == 0 {
			return b.run(c, conn)
		}
		return eachID(c, conn, ids, func(ctx context.Context, api session, id string) error {
			if err := api.Discard(ctx, id, nil); err != nil || api.json { // the API answers with nothing
				return err
			}
			_, err := fmt.Fprintf(api.out, "discarded  %s\n", oneLine(id))
			return err
		})
	}
	return c
}

func newDLQUnpark(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "unpark ID...",
		Short: "Let the schedule replay dead letters that it would leave alone",
		Long: `Unpark makes dead letters due now: those that are parked (replayed too often), waiting (their reason, or how a
replay failed, leaves them to you) or scheduled. The schedule's next tick replays them.`,
		Example: `  backstop dlq unpark ops-slack~1767225600000-0`,
		Args:    cobra.MinimumNArgs(1),

		ValidArgsFunction: completeItems(conn),
	}
	c.RunE = func(c *cobra.Command, ids []string) error {
		return eachID(c, conn, ids, func(ctx context.Context, api session, id string) error {
			it, err := api.Unpark(ctx, id, nil)
			if err != nil {
				return err
			}
			if api.json {
				return printJSON(api.out, it.JSON)
			}
			_, err = fmt.Fprintf(api.out, "%-9s  %s\n", stateOf(it, time.Now()), oneLine(it.ID))
			return err
		})
	}
	return c
}

// eachID does something to dead letters, one after the other. With several, a failure of
// one does not keep it from the next, unless the next must fail too.
func eachID(c *cobra.Command, conn *connection, ids []string, do func(context.Context, session, string) error) error {
	if given(c, bulkNames...) {
		return usage("give either ids or filters (and --all, --dry-run, --wait, --reason-text, --stop-after, which go with filters)")
	}
	api, err := conn.open(c)
	if err != nil {
		return err
	}
	if len(ids) == 1 {
		return do(c.Context(), api, ids[0])
	}
	failed := 0
	for _, id := range ids {
		err := do(c.Context(), api, id)
		switch code := exitCode(err); {
		case err == nil:
		case code == exitFailed || code == exitNotFound || code == exitConflict || code == exitUsage:
			failed++
			note(c, "%s: %s", oneLine(id), message(err))
		default:
			return err
		}
	}
	if failed > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("%d of %d failed", failed, len(ids))}
	}
	return nil
}
