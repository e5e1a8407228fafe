package main

import (
	"time"

	"github.com/spf13/cobra"
)

func newDelivery() *cobra.Command {
	c := &cobra.Command{
		Use:   "delivery SINK ID",
		Short: "Tell what became of a delivery",
		Long: `Delivery tells what became of the delivery ID to SINK: in_progress, delivered, dead_lettered (then the
dead letter's id is shown too) or discarded. One id sent to two sinks is two deliveries. The exit code is 3
when nothing is known of it: it was never accepted, or finished too long ago (24 hours unless set
otherwise).

` + connectHelp,
		Example: `  backstop delivery ops-slack 0198c2a4-5f0e-7c3a-9d43-0b6c1f1e2d3c
  backstop delivery mail order-1234 -o json | jq -r .status`,
		Args: cobra.ExactArgs(2),
	}
	conn := addConnection(c)
	c.ValidArgsFunction = first(completeSinks(conn))
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		d, err := api.Delivery(c.Context(), args[0], args[1])
		if err != nil {
			return err
		}
		if api.json {
			return printJSON(api.out, d.JSON)
		}
		t := &table{}
		t.add("status", d.Status)
		t.add("sink", d.Sink)
		t.add("delivery", d.DeliveryID)
		if d.ItemID != "" {
			t.add("dead letter", d.ItemID)
		}
		if !d.UpdatedAt.IsZero() {
			t.add("since", clock(d.UpdatedAt)+" ("+age(time.Now(), d.UpdatedAt)+" ago)")
		}
		return t.print(api.out)
	}
	return c
}
