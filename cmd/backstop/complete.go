package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

// completeWithin bounds what completion asks the API: a person waits with a finger on the
// Tab key.
const completeWithin = 2 * time.Second

// completing makes a completion of what ask returns. Where the API does not answer, there
// is nothing to choose from, and no error text in the middle of a command line.
func completing(conn *connection, ask func(context.Context, session) ([]cobra.Completion, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completeWithin)
		defer cancel()
		c.SetContext(ctx)
		api, err := conn.open(c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		choices, err := ask(ctx, api)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return choices, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeSinks offers the names of the sinks, each with its kind.
func completeSinks(conn *connection) cobra.CompletionFunc {
	return completing(conn, func(ctx context.Context, api session) ([]cobra.Completion, error) {
		s, err := api.Sinks(ctx)
		var names []cobra.Completion
		for _, x := range s.Sinks {
			names = append(names, choice(x.Name, "%s, %s", cmp.Or(x.Kind, "not configured"), plural(x.Depth, "dead letter")))
		}
		return names, err
	})
}

// completeItems offers the newest dead letters, with their cause.
func completeItems(conn *connection) cobra.CompletionFunc {
	return completing(conn, func(ctx context.Context, api session) ([]cobra.Completion, error) {
		p, err := api.ItemsPage(ctx, client.Filter{}, 50, "")
		var ids []cobra.Completion
		for _, it := range p.Items {
			ids = append(ids, choice(it.ID, "%s, %s", it.State, clipTo(cause(it.LastError), 60)))
		}
		return ids, err
	})
}

// completeGroups offers the ids of the groups, largest first, with their cause.
func completeGroups(conn *connection) cobra.CompletionFunc {
	return completing(conn, func(ctx context.Context, api session) ([]cobra.Completion, error) {
		g, err := api.GroupsPage(ctx, client.Filter{}, "")
		var ids []cobra.Completion
		for _, x := range g.Groups {
			ids = append(ids, choice(x.ID, "%d %s %s %s", x.Count, x.Sink, x.Reason, x.Fingerprint))
		}
		return ids, err
	})
}

// completeOperations offers the ids of bulk operations, newest first.
func completeOperations(conn *connection) cobra.CompletionFunc {
	return first(completing(conn, func(ctx context.Context, api session) ([]cobra.Completion, error) {
		o, err := api.Operations(ctx, 0)
		var ids []cobra.Completion
		for _, x := range o.Operations {
			ids = append(ids, choice(x.ID, "%s, %s, %s", x.Action, x.Status, clipTo(x.Reason, 40)))
		}
		return ids, err
	}))
}

// first completes a command's first argument only.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(c, args, toComplete)
	}
}

// choice is one line of a completion; text from outside stays on it.
func choice(value, format string, args ...any) cobra.Completion {
	return cobra.CompletionWithDesc(oneLine(value), oneLine(fmt.Sprintf(format, args...)))
}
