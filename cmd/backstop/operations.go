package main

import (
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newOperations(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "operations",
		Short: "List, watch and cancel bulk operations",
		Long: `Operations are the replays and discards by filter: they are recorded, go on after a crash, and are kept for
30 days. Without a command, the newest are listed.`,
		Example: `  backstop dlq operations
  backstop dlq operations show op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001
  backstop dlq operations wait op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001
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
	c.AddCommand(listing,
		newOperation(conn, "show", "Show one bulk operation as it is now", "", func(c *cobra.Command, api session, id string) error {
			op, err := api.Operation(c.Context(), id)
			return answerOperation(api, op, err)
		}),
		newOperation(conn, "wait", "Show a bulk operation's progress until it is over",
			"The exit code is 1 when a dead letter failed again, and when the operation failed or was canceled.",
			func(c *cobra.Command, api session, id string) error {
				return follow(c, api, client.Operation{ID: id})
			}),
		newOperation(conn, "cancel", "Stop a bulk operation; what it did stays done",
			"It stops before its next slice of 100 dead letters. One that is over stays as it is.",
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
	t := newTable("OPERATION", "AGE", "ACTION", "STATUS", "TOTAL", "DONE", "FAILED", "WHO", "WHY")
	for _, op := range list.Operations {
		t.add(op.ID, age(time.Now(), op.CreatedAt), op.Action, op.Status, op.Total, op.Settled+op.Skipped, op.Failed, clipTo(op.Actor, 40), clipTo(op.Reason, 40))
	}
	return t.print(api.out)
}
