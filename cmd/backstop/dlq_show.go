package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
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

func printItem(w io.Writer, it client.Item, now time.Time) error {
	if err := itemTable(it, now).print(w); err != nil {
		return err
	}
	if err := printReplays(w, it.History); err != nil {
		return err
	}
	text := "\n" + strings.TrimSuffix(printable(it.Message.Body), "\n") + "\n"
	if it.DecodeError != "" {
		text = fmt.Sprintf("\nThe entry cannot be read: %s\n\n%s\n", printable(it.DecodeError), printable(it.RawEntry))
	}
	_, err := io.WriteString(w, text)
	return err
}

// itemTable has a line for each thing that is known of a dead letter but its body.
func itemTable(it client.Item, now time.Time) *table {
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
	line("group", it.Group)
	at("accepted", it.AcceptedAt)
	at("first failed", it.FirstFailedAt)
	t.add("dead since", clock(it.At)+" ("+age(now, it.At)+" ago)")
	t.add("state", stateOf(it, now))
	at("next replay", it.NextReplayAt)
	if !it.ExpiresAt.IsZero() {
		t.add("expires", moment(now, it.ExpiresAt))
	}
	if it.State == client.StateScheduled { // the schedule leaves others alone, or replays them now
		at("not before", it.NotBefore)
	}
	line("replays", it.Replays)
	at("delivered", it.DeliveredAt)
	line("origin", it.Origin)
	line("superseded by", it.SupersededBy)
	line("trace", it.Trace)
	if to := strings.TrimSpace(string(it.Recipient)); to != "null" {
		line("recipient", to)
	}
	line("subject", it.Message.Subject)
	for _, k := range slices.Sorted(maps.Keys(it.Message.Metadata)) {
		t.add("metadata "+k, it.Message.Metadata[k])
	}
	return t
}

// printReplays prints the replays that a dead letter remembers, if there are any.
func printReplays(w io.Writer, history []client.ReplayRecord) error {
	if len(history) == 0 {
		return nil
	}
	t := newTable("REPLAYED", "OUTCOME")
	for _, r := range history {
		t.add(clock(r.At), cmp.Or(r.Error, "delivered"))
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return t.print(w)
}
