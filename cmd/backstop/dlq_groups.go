package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newDLQGroups(conn *connection) *cobra.Command {
	var f client.Filter
	var newSince string
	c := &cobra.Command{
		Use:   "groups",
		Short: "Count dead letters by cause: why, since when, and whether it goes on",
		Long: `Groups counts dead letters that failed alike: same sink, same reason, same error once numbers, ids and
addresses are masked (CAUSE). FIRST and LAST are how long ago the first and the newest of them came; HOUR and DAY are how
many came in the last hour and day, those that are gone again included: a HOUR of 0 says that it is over. NOTE is what
somebody noted, with a tick where they care for it ('backstop dlq groups note').

The id in the first column selects a group in 'dlq list', 'dlq replay', 'dlq discard' and 'dlq export'; its beginning will do.
Entries that were written by other programs count as (other), without a reason. With --state or --meta the entries are
searched, and all of them are grouped by their own errors.`,
		Example: `  backstop dlq groups
  backstop dlq groups --new-since 24h
  backstop dlq groups note 2f6a54c1d001 "they move to another provider until Friday" --ack
  backstop dlq replay --group 2f6a54c1d001 --dry-run
  backstop dlq groups --sink ops-slack -o json | jq -r '.groups[0].id'`,
	}
	addSink(c, conn, &f.Sink)
	addState(c, &f.State)
	addMeta(c, &f.Meta)
	c.Flags().StringVar(&newSince, "new-since", "", "only causes whose first dead letter came since this time or this long ago (24h, 7d)")
	group(c, func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		since, err := readTime("--new-since", newSince, time.Now())
		if err != nil {
			return err
		}
		g, err := api.GroupsPage(c.Context(), f, "")
		if err != nil {
			return err
		}
		groups := g.Groups
		if !since.IsZero() {
			groups = slices.DeleteFunc(groups, func(x client.Group) bool { return x.FirstSeen.Before(since) })
		}
		if api.json && since.IsZero() {
			return printJSON(api.out, g.JSON)
		}
		if api.json {
			return marshalJSON(api.out, map[string]any{"groups": groups})
		}
		if g.NextCursor != "" {
			note(c, "The search stopped by its budget after %d entries: what it counted is not all.", g.Scanned)
		}
		if len(groups) == 0 && !since.IsZero() {
			note(c, "No cause is new since %s%s.", clock(since), describe(f))
			return nil
		}
		if len(groups) == 0 {
			note(c, "No dead letters%s.", describe(f))
			return nil
		}
		if !g.Complete && g.NextCursor == "" {
			note(c, "There are more, smaller groups: ask sink by sink with --sink.")
		}
		return printGroups(api, groups)
	})
	c.AddCommand(newDLQNote(conn))
	return c
}

func printGroups(api session, groups []client.Group) error {
	now := time.Now()
	t := newTable("GROUP", "COUNT", "SINK", "REASON", "CAUSE", "FIRST", "LAST", "HOUR", "DAY", "NOTE").
		cut(api.wide, "CAUSE", "NOTE").orLeaveOut("DAY", "FIRST", "REASON", "HOUR")
	for _, g := range groups {
		t.add(g.ID, g.Count, g.Sink, g.Reason, cause(g.Fingerprint), age(now, g.FirstSeen), age(now, g.LastSeen), g.LastHour, g.LastDay, noteOf(g))
	}
	return t.print(api.out)
}

// noteOf is what was noted about a group, in a line.
func noteOf(g client.Group) string {
	if g.Note == nil {
		return ""
	}
	text := g.Note.Note
	if g.Note.Acknowledged {
		text = strings.TrimSpace("✓ " + text)
	}
	if by := g.Note.By[strings.LastIndex(g.Note.By, "/")+1:]; by != "" { // of an ARN, the session
		text += " (" + by + ")"
	}
	return text
}

func newDLQNote(conn *connection) *cobra.Command {
	var ack, remove bool
	c := &cobra.Command{
		Use:   "note GROUP [TEXT]",
		Short: "Note what is known of a cause, for whoever looks next",
		Long: `Note keeps a text with a group of dead letters, with who wrote it and when. --ack says that somebody knows of the cause and
cares for it. A note replaces a former one, and stays while the group is empty: until a month after its newest dead letter.`,
		Example: `  backstop dlq groups note 2f6a54c1d001 "they move to another provider until Friday" --ack
  backstop dlq groups note 2f6a54c1d001 --remove`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: first(completeGroups(conn)),
	}
	c.Flags().BoolVar(&ack, "ack", false, "acknowledge: somebody cares for it")
	c.Flags().BoolVar(&remove, "remove", false, "take the note away")
	c.RunE = func(c *cobra.Command, args []string) error {
		n := client.NoteRequest{Acknowledged: ack}
		if len(args) > 1 {
			n.Note = args[1]
		}
		switch {
		case remove && (n.Note != "" || ack):
			return usage("--remove takes the note away: no text and no --ack go with it")
		case !remove && n == (client.NoteRequest{}):
			return usage("what is to be noted? Give a text, --ack or --remove")
		}
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		id := args[0]
		if len(id) < 12 {
			g, err := findGroup(c.Context(), api, id)
			if err != nil {
				return err
			}
			id = g.ID
		}
		g, err := api.NoteGroup(c.Context(), id, n)
		if err != nil {
			return err
		}
		if api.json {
			return marshalJSON(api.out, g)
		}
		return printGroups(api, []client.Group{g})
	}
	return c
}

// bars are eighths of a line's height.
var bars = []rune("·▁▂▃▄▅▆▇█")

func newDLQChart(conn *connection) *cobra.Command {
	var q client.HistogramQuery
	var by, since, until, groupID string
	c := &cobra.Command{
		Use:   "chart",
		Short: "Show when dead letters came: since when it fails, in one look",
		Long: `Chart draws a line for each sink (or cause, or reason): how many dead letters came, bucket by bucket, those that are gone again
included. It is made of counters, so that it costs the same for a hundred and for a million. CAME is how many came in the
time shown, LEFT how many of them are still there. FIRST and LAST are of the sink or cause itself, whatever time is shown.

Counts by 5 minutes go back 13 hours, by hours 9 days, by days 92 days.`,
		Example: `  backstop dlq chart
  backstop dlq chart --by cause --since 3h
  backstop dlq chart --sink ops-slack --since 30d --interval 1d
  backstop dlq chart --group 2f6a54c1d001 -o json | jq '.series[0].arrived'`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&by, "by", "sink", "a line for each: sink, cause or reason")
	f.StringVar(&since, "since", "24h", "from this time, or this long ago")
	f.StringVar(&until, "until", "", "to this time, or this long ago")
	f.StringVar(&q.Interval, "interval", "", "how long a bucket is: 5m, 10m, 15m, 30m, 1h, 2h, 3h, 6h, 12h or 1d")
	f.StringVar((*string)(&q.Reason), "reason", "", "only failed for this reason: "+strings.Join(reasons, ", "))
	f.StringVar(&groupID, "group", "", "only of this group, an id of 'dlq groups' (its beginning will do)")
	addSink(c, conn, &q.Sink)
	_ = c.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"sink", "cause", "reason"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasons, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("group", completeGroups(conn))
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		now := time.Now()
		if q.Since, err = readTime("--since", since, now); err != nil {
			return err
		}
		if q.Until, err = readTime("--until", until, now); err != nil {
			return err
		}
		rows := map[string]client.HistogramBy{"sink": client.BySink, "cause": client.ByGroup, "group": client.ByGroup, "reason": client.ByReason}
		q.By = rows[by]
		if q.By == "" {
			return usage("--by %q: want sink, cause or reason", by)
		}
		if groupID != "" {
			g, err := findGroup(c.Context(), api, groupID)
			if err != nil {
				return err
			}
			q.Sink, q.Reason, q.Fingerprint = g.Sink, g.Reason, g.Fingerprint
		}
		h, err := api.Histogram(c.Context(), q)
		if err != nil {
			return err
		}
		if api.json {
			return printJSON(api.out, h.JSON)
		}
		if len(h.Series) == 0 {
			note(c, "No dead letters came from %s to %s.", clock(h.Since), clock(h.Until))
			return nil
		}
		note(c, "%s to %s, in buckets of %s:", clock(h.Since), clock(h.Until), h.Interval)
		return printChart(api, h, now)
	}
	return c
}

func printChart(api session, h client.Histogram, now time.Time) error {
	var t *table
	if h.By == client.ByGroup {
		t = newTable("SINK", "REASON", "CHART", "CAME", "LEFT", "FIRST", "LAST", "CAUSE").
			cut(api.wide, "CAUSE").orLeaveOut("FIRST", "LAST", "REASON", "LEFT", "CAME")
	} else {
		t = newTable(strings.ToUpper(string(h.By)), "CHART", "CAME", "LEFT", "FIRST", "LAST").cut(api.wide).orLeaveOut("FIRST", "LAST", "LEFT", "CAME")
	}
	for _, s := range h.Series {
		name := []any{cmp.Or(s.Sink, string(s.Reason), s.Fingerprint)}
		if s.Other {
			name[0] = "(others)"
		}
		if h.By == client.ByGroup {
			name = append(name, s.Reason)
		}
		row := append(name, spark(s.Arrived), s.ArrivedTotal, s.Count, age(now, s.FirstSeen), age(now, s.LastSeen))
		if h.By == client.ByGroup {
			row = append(row, cause(s.Fingerprint))
		}
		t.add(row...)
	}
	return t.print(api.out)
}

// spark draws numbers as a line of bars: the highest fills it, and what is not 0 is seen.
func spark(counts []int64) string {
	most := slices.Max(append([]int64{1}, counts...))
	var b strings.Builder
	b.WriteRune('│')
	for _, n := range counts {
		height := n * int64(len(bars)-1) / most
		if n > 0 {
			height = max(height, 1)
		}
		b.WriteRune(bars[height])
	}
	b.WriteRune('│')
	return b.String()
}
