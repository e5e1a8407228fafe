package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newOperations(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "operations",
		Short: "List, watch, resume and cancel bulk operations",
		Long: `Operations are the replays and discards by filter, and what restores, audits and erases: they are recorded, go on after a crash, and are kept until
they are over, and then for 30 days. One that is stopped waits to be resumed or canceled. Without a command, the
newest are listed.`,
		Example: `  backstop dlq operations
  backstop dlq operations show op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001
  backstop dlq operations wait op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001
  backstop dlq operations resume op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001
  backstop dlq operations cancel op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001`,
	}
	var limit int
	list := func(c *cobra.Command, _ []string) error { return listOperations(c, conn, limit) }
	group(c, list)
	listing := &cobra.Command{
		Use: "list", Short: "List the newest bulk operations", Example: "  backstop dlq operations list --limit 5", Args: cobra.NoArgs, RunE: list,
	}
	for _, x := range []*cobra.Command{c, listing} {
		x.Flags().IntVar(&limit, "limit", 20, "most operations to list, up to 100")
	}
	wait := true
	resume := newOperation(conn, "resume", "Go on with a stopped bulk operation",
		`It begins its next round: each receiver gets one dead letter first, then five, then all; what failed in the round
before is tried again, and what was not reached follows. Only a stopped operation is resumed.

The exit code is 1 when a dead letter failed again, and when the operation is stopped again, failed or was canceled.`,
		func(c *cobra.Command, api session, id string) error { return resumeOperation(c, api, id, wait) })
	resume.Flags().BoolVar(&wait, "wait", true, "show progress until it is done; --wait=false only resumes it")
	c.AddCommand(listing, resume,
		newOperation(conn, "show", "Show one bulk operation as it is now", "", func(c *cobra.Command, api session, id string) error {
			op, err := api.Operation(c.Context(), id)
			return answerOperation(api, op, err)
		}),
		newOperation(conn, "wait", "Show a bulk operation's progress until it is over or stopped",
			"The exit code is 1 when a dead letter failed again, and when the operation was stopped, failed or was canceled.",
			func(c *cobra.Command, api session, id string) error {
				return follow(c, api, client.Operation{ID: id})
			}),
		newOperation(conn, "cancel", "End a bulk operation; what it did stays done",
			"It ends before its next slice of 100 dead letters, and cannot be resumed. One that is over stays as it is.",
			func(c *cobra.Command, api session, id string) error {
				op, err := api.CancelOperation(c.Context(), id)
				return answerOperation(api, op, err)
			}),
	)
	return c
}

func newOperation(conn *connection, name, short, long string, do func(*cobra.Command, session, string) error) *cobra.Command {
	c := &cobra.Command{
		Use: name + " OPERATION", Short: short, Args: cobra.ExactArgs(1),
		Example: "  backstop dlq operations " + name + " op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001",
	}
	c.ValidArgsFunction = completeOperations(conn)
	if long != "" {
		c.Long = short + ".\n\n" + long
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		return do(c, api, args[0])
	}
	return c
}

// resumeOperation resumes an operation, and shows its progress when it is to wait.
func resumeOperation(c *cobra.Command, api session, id string, wait bool) error {
	op, err := api.ResumeOperation(c.Context(), id)
	if _, unreachable := errors.AsType[*client.UnreachableError](err); unreachable || errors.Is(err, context.Canceled) {
		return hinted(err, "Whether it was resumed is not known; its status tells:\n  backstop dlq operations show %s%s", id, api.conn.flags())
	}
	if err != nil || !wait {
		return answerOperation(api, op, err)
	}
	note(c, "operation %s: round %d", op.ID, op.Round)
	return follow(c, api, op)
}

func answerOperation(api session, op client.Operation, err error) error {
	switch {
	case err != nil:
		return err
	case api.json:
		return printJSON(api.out, op.JSON)
	}
	return printOperation(api.out, op)
}

func listOperations(c *cobra.Command, conn *connection, limit int) error {
	if limit < 1 || limit > 100 {
		return usage("--limit %d: want 1 to 100", limit)
	}
	api, err := conn.open(c)
	if err != nil {
		return err
	}
	list, err := api.Operations(c.Context(), limit)
	if err != nil {
		return err
	}
	if api.json {
		return printJSON(api.out, list.JSON)
	}
	if len(list.Operations) == 0 {
		note(c, "No bulk operations in the last 30 days.")
		return nil
	}
	t := newTable("OPERATION", "AGE", "ACTION", "STATUS", "TOTAL", "DONE", "FAILED", "WHO", "WHY").
		cut(api.wide, "WHO", "WHY").orLeaveOut("WHO", "AGE", "WHY", "TOTAL")
	for _, op := range list.Operations {
		t.add(op.ID, age(time.Now(), op.CreatedAt), op.Action, op.Status, totalOf(op), doneWith(op)-op.Gone(), op.Failed, clipTo(op.Actor, 40), clipTo(op.Reason, 40))
	}
	return t.print(api.out)
}
