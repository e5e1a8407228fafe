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
		Long: `List shows dead letters, newest first: with their reason, what will happen to them (STATE) and the last
error. Filters are combined. With -o json the API's pages are printed as they come, one JSON object
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
	t := newTable("ID", "AGE", "REASON", "ATTEMPTS", "REPLAYS", "STATE", "SUBJECT", "LAST ERROR")
	for _, it := range items {
		failure := it.LastError
		if it.DecodeError != "" {
			failure = "unreadable: " + it.DecodeError
		}
		t.add(it.ID, age(now, it.At), it.Reason, it.Attempts, it.Replays, stateOf(it, now), clipTo(it.Message.Subject, 24), clipTo(failure, 60))
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

func newDLQGroups(conn *connection) *cobra.Command {
	var f client.Filter
	c := &cobra.Command{
		Use:   "groups",
		Short: "Count dead letters by cause, largest first",
		Long: `Groups counts dead letters that failed alike: same sink, same reason, same error once numbers, ids and
addresses are masked (the fingerprint). The id in the first column selects a group in 'dlq list', 'dlq
replay', 'dlq discard' and 'dlq export'. Entries that were written by other programs count as (other), without
a reason. With --state or --meta the entries are searched, and all of them are grouped by their own errors.`,
		Example: `  backstop dlq groups
  backstop dlq replay --group 2f6a54c1d001 --dry-run
  backstop dlq groups --sink ops-slack -o json | jq -r '.groups[0].id'`,
		Args: cobra.NoArgs,
	}
	addSink(c, conn, &f.Sink)
	addState(c, &f.State)
	addMeta(c, &f.Meta)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		g, err := api.GroupsPage(c.Context(), f, "")
		if err != nil {
			return err
		}
		if api.json {
			return printJSON(api.out, g.JSON)
		}
		if g.NextCursor != "" {
			note(c, "The search stopped by its budget after %d entries: what it counted is not all.", g.Scanned)
		}
		if len(g.Groups) == 0 {
			note(c, "No dead letters%s.", describe(f))
			return nil
		}
		t := newTable("GROUP", "COUNT", "SINK", "REASON", "FINGERPRINT")
		for _, x := range g.Groups {
			t.add(x.ID, x.Count, x.Sink, x.Reason, x.Fingerprint)
		}
		if !g.Complete && g.NextCursor == "" {
			note(c, "There are more, smaller groups: ask sink by sink with --sink.")
		}
		return t.print(api.out)
	}
	return c
}
