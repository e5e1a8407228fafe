package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

// maxList is the most dead letters that one `dlq list` shows, and maxPage the API's.
const (
	maxList = 100_000
	maxPage = 1000
)

func newDLQList(conn *connection) *cobra.Command {
	var limit int
	var cursor string
	c := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, newest first",
		Long: `List shows dead letters, newest first: what will happen to them (STATE), why they failed (REASON), and the last
error without what is the same in all lines (CAUSE). Filters are combined. With -o json the API's pages are printed as they come, one JSON object
each; next_cursor of the last one continues with --cursor.`,
		Example: `  backstop dlq list
  backstop dlq list --sink ops-slack --reason exhausted --since 12h
  backstop dlq list --state waiting
  backstop dlq list --q "order 4711"
  backstop dlq list --limit 1000 -o json | jq -r '.items[].id'`,
		Args: cobra.NoArgs,
	}
	filters := addFilter(c, conn)
	addState(c, &filters.State)
	c.Flags().IntVar(&limit, "limit", 50, "most dead letters to list")
	c.Flags().StringVar(&cursor, "cursor", "", "continue an earlier list here")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		f, err := filters.filter(c.Context(), api, time.Now())
		if err != nil {
			return err
		}
		if limit < 1 || limit > maxList {
			return usage("--limit %d: want 1 to %d", limit, maxList)
		}
		items, next, err := listItems(c.Context(), api, f, limit, cursor)
		switch {
		case err != nil || api.json:
			return err
		case len(items) == 0:
			note(c, "No dead letters%s.", describe(f))
			return nil
		}
		if err := printItems(api, items); err != nil {
			return err
		}
		if next != "" {
			note(c, "There are more: add --cursor %s, or a larger --limit.", next)
		}
		return nil
	}
	return c
}

// listItems reads up to limit dead letters from cursor on, and returns where the rest
// begins. With -o json it prints the pages as they come, and returns no items.
func listItems(ctx context.Context, api session, f client.Filter, limit int, cursor string) (items []client.Item, next string, err error) {
	for n := 0; ; {
		page, err := api.ItemsPage(ctx, f, min(limit-n, maxPage), cursor)
		if err != nil {
			return nil, "", err
		}
		n += len(page.Items)
		cursor = page.NextCursor
		if api.json {
			if err := printJSON(api.out, page.JSON); err != nil {
				return nil, "", err
			}
		} else {
			items = append(items, page.Items...)
		}
		if cursor == "" || n >= limit {
			return items, cursor, nil
		}
	}
}

func printItems(api session, items []client.Item) error {
	now := time.Now()
	t := newTable("ID", "STATE", "REASON", "CAUSE", "AGE", "TRIES", "REPLAYS", "SUBJECT").
		cut(api.wide, "CAUSE", "SUBJECT").orLeaveOut("REPLAYS", "TRIES", "SUBJECT", "AGE", "REASON")
	for _, it := range items {
		failure := it.LastError
		if it.DecodeError != "" {
			failure = "unreadable: " + it.DecodeError
		}
		t.add(it.ID, stateOf(it, now), it.Reason, cause(failure), age(now, it.At), it.Attempts, it.Replays, it.Message.Subject)
	}
	return t.print(api.out)
}

// stateOf is a dead letter's state, and of a scheduled one the time until then.
func stateOf(it client.Item, now time.Time) string {
	if it.State == client.StateScheduled && it.NextReplayAt.After(now) {
		return string(it.State) + " in " + span(it.NextReplayAt.Sub(now))
	}
	return string(it.State)
}

func newDLQCount(conn *connection) *cobra.Command {
	var sink string
	c := &cobra.Command{
		Use:   "count",
		Short: "Count dead letters by sink",
		Example: `  backstop dlq count
  backstop dlq count --sink ops-slack -o json | jq .count`,
		Args: cobra.NoArgs,
	}
	addSink(c, conn, &sink)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		n, err := api.Count(c.Context(), sink)
		if err != nil {
			return err
		}
		if api.json {
			return printJSON(api.out, n.JSON)
		}
		t := newTable("SINK", "DEAD LETTERS")
		for _, name := range slices.Sorted(maps.Keys(n.Sinks)) {
			t.add(name, n.Sinks[name])
		}
		t.add("(all)", n.Count)
		return t.print(api.out)
	}
	return c
}
