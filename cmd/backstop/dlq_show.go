package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/internal/apiclient"
)

func newDLQShow(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one dead letter in full",
		Long: `Show prints everything that is known of one dead letter: recipient, message, failures, replays. What a
terminal would act on is replaced; -o json has it unchanged, in a terminal as escapes.`,
		Example: `  backstop dlq show ops-slack~1767225600000-0
  backstop dlq show ops-slack~1767225600000-0 -o json | jq -r .message.body`,
		Args: cobra.ExactArgs(1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		it, err := api.Item(c.Context(), args[0])
		if err != nil {
			return err
		}
		if api.json {
			return printJSON(api.out, it.JSON)
		}
		return printItem(api.out, it, time.Now())
	}
	return c
}

func printItem(w io.Writer, it apiclient.Item, now time.Time) error {
	t := &table{}
	line := func(label string, value any) {
		if s := fmt.Sprint(value); s != "" && s != "0" {
			t.add(label, s)
		}
	}
	at := func(label string, tm time.Time) {
		if !tm.IsZero() {
			t.add(label, clock(tm))
		}
	}
	line("id", it.ID)
	line("sink", it.Sink)
	line("delivery", it.DeliveryID)
	line("reason", it.Reason)
	t.add("last error", it.LastError)
	t.add("attempts", it.Attempts)
	at("first failed", it.FirstFailedAt)
	t.add("dead since", clock(it.At)+" ("+age(now, it.At)+" ago)")
	t.add("state", stateOf(it, now))
	at("next replay", it.NextReplayAt)
	if it.State == "scheduled" { // the schedule leaves others alone, or replays them now
		at("not before", it.NotBefore)
	}
	line("replays", it.Replays)
	at("delivered", it.DeliveredAt)
	line("origin", it.Origin)
	line("trace", it.Trace)
	if to := strings.TrimSpace(string(it.Recipient)); to != "null" {
		line("recipient", to)
	}
	line("subject", it.Message.Subject)
	for _, k := range slices.Sorted(maps.Keys(it.Message.Metadata)) {
		t.add("metadata "+k, it.Message.Metadata[k])
	}
	if err := t.print(w); err != nil {
		return err
	}
	if len(it.History) > 0 {
		h := newTable("REPLAYED", "OUTCOME")
		for _, r := range it.History {
			outcome := r.Error
			if outcome == "" {
				outcome = "delivered"
			}
			h.add(clock(r.At), outcome)
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := h.print(w); err != nil {
			return err
		}
	}
	if it.DecodeError != "" {
		_, err := fmt.Fprintf(w, "\nThe entry cannot be read: %s\n\n%s\n", printable(it.DecodeError), printable(it.RawEntry))
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.TrimSuffix(printable(it.Message.Body), "\n"))
	return err
}
