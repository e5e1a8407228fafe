package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

// filterFlags select dead letters.
type filterFlags struct {
	client.Filter
	since, until string
	group        string // id of a group, or the beginning of one
}

var (
	filterNames = []string{"sink", "reason", "delivery", "q", "meta", "fingerprint", "group", "since", "until"}
	reasons     = words(client.Reasons)
	states      = words(client.States)
)

func words[W ~string](all []W) []string {
	out := make([]string, len(all))
	for i, w := range all {
		out[i] = string(w)
	}
	return out
}

func addFilter(c *cobra.Command, conn *connection) *filterFlags {
	o := &filterFlags{}
	f := c.Flags()
	addSink(c, conn, &o.Sink)
	f.StringVar((*string)(&o.Reason), "reason", "", "only failed for this reason: "+strings.Join(reasons, ", "))
	f.StringVar(&o.DeliveryID, "delivery", "", "only of this delivery id")
	f.StringVar(&o.Q, "q", "", "only with this text, in any case, in subject, body, recipient, delivery id or last error")
	addMeta(c, &o.Meta)
	f.StringVar(&o.group, "group", "", "only of this group, an id of 'dlq groups' (its beginning will do)")
	f.StringVar(&o.Fingerprint, "fingerprint", "", "only with this fingerprint of 'dlq groups -o json'; give --sink and --reason too")
	f.StringVar(&o.since, "since", "", "only stored since this time (2026-01-31T23:59:00Z) or this long ago (90m, 12h, 3d)")
	f.StringVar(&o.until, "until", "", "only stored before this time, or this long ago")
	_ = c.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasons, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("group", completeGroups(conn))
	return o
}

// addState adds --state. It is not for what acts on many: a state changes meanwhile.
func addState(c *cobra.Command, to *client.State) {
	c.Flags().StringVar((*string)(to), "state", "", "only in this state now: "+strings.Join(states, ", "))
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
}

// addSink adds --sink, which selects the dead letters of one.
func addSink(c *cobra.Command, conn *connection, to *string) {
	c.Flags().StringVar(to, "sink", "", "only of this sink")
	_ = c.RegisterFlagCompletionFunc("sink", completeSinks(conn))
}

// filter reads the times, and asks the API what a group's id stands for.
func (o *filterFlags) filter(ctx context.Context, api session, now time.Time) (client.Filter, error) {
	f, err := o.Filter, error(nil)
	if f.Since, err = readTime("--since", o.since, now); err != nil {
		return f, err
	}
	if f.Until, err = readTime("--until", o.until, now); err != nil || o.group == "" {
		return f, err
	}
	if f.Sink != "" || f.Reason != "" || f.Fingerprint != "" {
		return f, usage("--group says it all: --sink, --reason and --fingerprint do not go with it")
	}
	g, err := findGroup(ctx, api, o.group)
	f.Sink, f.Reason, f.Fingerprint = g.Sink, g.Reason, g.Fingerprint
	return f, err
}

// findGroup returns the group whose id begins with start.
func findGroup(ctx context.Context, api session, start string) (client.Group, error) {
	all, err := api.GroupsPage(ctx, client.Filter{}, "")
	if err != nil {
		return client.Group{}, err
	}
	var found []client.Group
	for _, g := range all.Groups {
		if strings.HasPrefix(g.ID, start) {
			found = append(found, g)
		}
	}
	switch len(found) {
	case 0:
		return client.Group{}, &exitError{
			code: exitNotFound, err: fmt.Errorf("no group %s: it has no dead letters any more, or never had", oneLine(start)),
			hint: "There are these:\n  backstop dlq groups" + api.conn.flags(),
		}
	case 1:
		return found[0], nil
	}
	return client.Group{}, usage("%d groups begin with %s: give more of its id", len(found), oneLine(start))
}

// readTime reads a time, or how long ago it was.
func readTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usage("%s %q: want a time such as 2026-01-31T23:59:00Z, or how long ago, such as 90m, 12h or 3d", flag, s)
}

// describe is the filter in words: " of ops-slack, reason exhausted".
func describe(f client.Filter) string {
	var parts []string
	for _, p := range []struct{ word, value string }{
		{"of sink", f.Sink},
		{"reason", string(f.Reason)},
		{"in state", string(f.State)},
		{"delivery", f.DeliveryID},
		{"with text", quoted(f.Q)},
		{"with metadata", quoted(metaText(f.Meta))},
		{"failed as", quoted(f.Fingerprint)},
		{"since", clock(f.Since)},
		{"before", clock(f.Until)},
	} {
		if p.value != "" {
			parts = append(parts, p.word+" "+p.value)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " " + oneLine(strings.Join(parts, ", "))
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", clipTo(s, 60))
}
