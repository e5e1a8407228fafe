package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newSinks() *cobra.Command {
	c := &cobra.Command{
		Use:   "sinks",
		Short: "List the sinks; pause and resume one",
		Long: `Sinks shows every sink that is configured or has dead letters: how many, how old, how many of them the
schedule will replay (due), how many it gave up on (parked), and what is wrong with its configuration.

` + connectHelp,
		Example: `  backstop sinks
  backstop sinks -o json | jq -r '.sinks[] | select(.depth > 0) | .name'
  backstop sinks pause ops-slack`,
	}
	conn := addConnection(c)
	list := func(c *cobra.Command, _ []string) error { return listSinks(c, conn) }
	group(c, list)
	c.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the sinks", Example: "  backstop sinks list -o json", Args: cobra.NoArgs, RunE: list,
		},
		newPause(conn, true), newPause(conn, false),
	)
	return c
}

func listSinks(c *cobra.Command, conn *connection) error {
	api, err := conn.open(c)
	if err != nil {
		return err
	}
	s, err := api.Sinks(c.Context())
	if err != nil {
		return err
	}
	if api.json {
		return printJSON(api.out, s.JSON)
	}
	if s.ConfigError != "" {
		note(c, "The sinks' configuration cannot be refreshed: %s", printable(s.ConfigError))
		if s.ConfigAgeSeconds >= 0 {
			note(c, "The one in use was read %s ago.", span(time.Duration(s.ConfigAgeSeconds)*time.Second))
		}
	}
	return printSinks(api.out, s.Sinks)
}

func printSinks(w io.Writer, sinks []client.Sink) error {
	t := newTable("SINK", "KIND", "DEPTH", "DUE", "PARKED", "OLDEST", "STATE")
	for _, s := range sinks {
		oldest := ""
		if s.Depth > 0 {
			oldest = span(time.Duration(s.OldestAgeSeconds) * time.Second)
		}
		t.add(s.Name, s.Kind, known(s.Depth), known(s.Due), s.Parked, oldest, sinkState(s))
	}
	return t.print(w)
}

// known shows a number, and one that is unknown (-1) as a question mark.
func known(n int64) any {
	if n < 0 {
		return "?"
	}
	return n
}

func sinkState(s client.Sink) string {
	switch {
	case s.QueueError != "":
		return clipTo("its queue cannot be read: "+s.QueueError, 120)
	case s.ConfigError != "":
		return clipTo("misconfigured: "+s.ConfigError, 120)
	case s.Paused:
		return "paused"
	case !s.Configured:
		return "not configured"
	}
	return "ok"
}

func newPause(conn *connection, paused bool) *cobra.Command {
	c := &cobra.Command{
		Use:   "pause NAME",
		Short: "Pause a sink: sends go straight to the dead-letter queue, the schedule leaves it alone",
		Long: `Pause a sink that is known to be broken. Nothing is lost: what is sent to it is dead-lettered without an
attempt, and the schedule replays nothing until it is resumed. A replay that you ask for still goes out.`,
		Example: "  backstop sinks pause ops-slack",
	}
	done := "paused: sends are dead-lettered at once, the schedule skips it. Resume it with\n  backstop sinks resume "
	if !paused {
		c.Use, c.Short = "resume NAME", "Resume a paused sink: the schedule replays what has gathered"
		c.Long = "Resume a paused sink. Sends are attempted again, and the next tick of the schedule begins to replay what has gathered."
		c.Example = "  backstop sinks resume ops-slack"
	}
	c.Args = cobra.ExactArgs(1)
	c.ValidArgsFunction = first(completeSinks(conn))
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		change := api.ResumeSink
		if paused {
			change = api.PauseSink
		}
		s, err := change(c.Context(), args[0])
		if err != nil {
			return err
		}
		if api.json {
			return printJSON(api.out, s.JSON)
		}
		if paused {
			note(c, "%s is %s%s%s", s.Name, done, s.Name, conn.flags())
		} else {
			note(c, "%s is resumed: the schedule replays %s.", s.Name, plural(s.Due, "dead letter"))
		}
		return printSinks(api.out, []client.Sink{s})
	}
	return c
}
