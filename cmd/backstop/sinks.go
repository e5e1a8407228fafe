package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/internal/delay"
)

func newSinks() *cobra.Command {
	c := &cobra.Command{
		Use:   "sinks",
		Short: "List the sinks; pause and resume one",
		Long: `Sinks shows every sink that is configured or has dead letters: how many, how old, how many of them the
schedule will replay (due), how many of those wait because the receiver is down or asked for a wait (waiting;
what has the state waiting in 'dlq list' waits for you instead),
how many it gave up on (parked), and how the sink and its receivers are. With --watch it goes on showing them.

Of a stack with a journal, where there are any: how many wait in the journal for room in the queue (spilled),
how many the journal has not yet or not as they are (unjournaled), and how many are over and not deleted there
yet (ending). The schedule sees to all three by itself. A queue that lost dead letters says so in STATE: 'backstop
dlq restore' brings them back.

A receiver that is open is down: everybody leaves it alone but for one probe at a time, and what is sent to it
is dead-lettered at once. Once a probe is answered, the schedule replays by itself.

` + connectHelp,
		Example: `  backstop sinks
  backstop sinks --watch
  backstop sinks -o json | jq -r '.sinks[] | select(.depth > 0) | .name'
  backstop sinks -o json | jq '.sinks[] | select(.state == "open") | {name, since, next_probe, last_error}'
  backstop sinks pause ops-slack`,
	}
	conn := addConnection(c)
	var every time.Duration
	watch := func(c *cobra.Command) {
		c.Flags().DurationVar(&every, "watch", 0, "show them again and again, so often (2s where no time is given), until Ctrl-C")
		c.Flags().Lookup("watch").NoOptDefVal = "2s"
	}
	list := func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		switch {
		case err != nil:
			return err
		case every < 0 || every > 0 && every < leastWatch:
			return usage("--watch %s: want at least %s", every, leastWatch)
		case every > 0:
			return watchSinks(c, api, every)
		}
		return listSinks(c, api)
	}
	watch(c)
	group(c, list)
	below := &cobra.Command{
		Use: "list", Short: "List the sinks", Example: "  backstop sinks list -o json\n  backstop sinks list --watch=5s", Args: cobra.NoArgs, RunE: list,
	}
	watch(below)
	c.AddCommand(below, newPause(conn, true), newPause(conn, false))
	return c
}

// leastWatch is how often the sinks are shown at most.
const leastWatch = 500 * time.Millisecond

// watchSinks lists the sinks until somebody ends it. What fails is shown in their place, and tried again.
func watchSinks(c *cobra.Command, api session, every time.Duration) error {
	for {
		var b bytes.Buffer
		shown := api
		shown.out = screen{&b, api.out}
		if err := listSinks(c, shown); err != nil && c.Context().Err() == nil {
			report(&b, err)
		}
		var err error
		if isTerminal(api.out) && !api.json {
			_, err = fmt.Fprintf(api.out, "\x1b[H\x1b[2J%s  every %s, Ctrl-C ends it\n\n%s", time.Now().Format("15:04:05 MST"), every, &b)
		} else {
			_, err = b.WriteTo(api.out)
		}
		ended := delay.Sleep(c.Context(), every) != nil
		if err != nil || ended {
			return err
		}
	}
}

// screen collects what is to be shown at once. It is as wide as the terminal.
type screen struct {
	io.Writer
	terminal io.Writer
}

// IsTerminal reports whether it is shown on one.
func (s screen) IsTerminal() bool { return isTerminal(s.terminal) }

// Fd is the terminal's.
func (s screen) Fd() uintptr {
	if f, ok := s.terminal.(interface{ Fd() uintptr }); ok {
		return f.Fd()
	}
	return ^uintptr(0)
}

func listSinks(c *cobra.Command, api session) error {
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
	return printSinks(api, s.Sinks)
}

// column is a number of a sink, under its head.
type column struct {
	head string
	of   func(client.Sink) int64
}

// rare are the columns that are shown where some sink has any.
var rare = []column{
	{"SPILLED", func(s client.Sink) int64 { return s.Spilled }},
	{"UNJOURNALED", func(s client.Sink) int64 { return s.Unjournaled }},
	{"ENDING", func(s client.Sink) int64 { return s.Ending }},
}

func printSinks(api session, sinks []client.Sink) error {
	shown := slices.DeleteFunc(slices.Clone(rare), func(r column) bool {
		return !slices.ContainsFunc(sinks, func(s client.Sink) bool { return r.of(s) > 0 })
	})
	head := []string{"SINK", "STATE", "DEPTH", "DUE", "WAITING", "PARKED"}
	for _, r := range shown {
		head = append(head, r.head)
	}
	t := newTable(append(head, "OLDEST", "KIND", "MORE")...).
		cut(api.wide, "MORE").orLeaveOut("KIND", "PARKED", "OLDEST", "ENDING", "UNJOURNALED", "WAITING", "DUE")
	if colours(api.out) {
		t.paint = func(column int, cell string) string {
			if c := stateColours[client.SinkState(cell)]; column == 1 && c != "" {
				return c + cell + plain
			}
			return cell
		}
	}
	now := time.Now()
	for _, s := range sinks {
		word, more := sinkState(now, s)
		row := []any{s.Name, word, known(s.Depth), known(s.Due), known(s.Waiting), s.Parked}
		for _, r := range shown {
			row = append(row, r.of(s))
		}
		oldest := ""
		if s.Depth > 0 {
			oldest = span(time.Duration(s.OldestAgeSeconds) * time.Second)
		}
		t.add(append(row, oldest, s.Kind, more)...)
	}
	return t.print(api.out)
}

// known shows a number, and one that is unknown (-1) as a question mark.
func known(n int64) any {
	if n < 0 {
		return "?"
	}
	return n
}

// stateColours are those of the words in STATE.
var stateColours = map[client.SinkState]string{
	client.SinkOK: green, client.SinkFailing: yellow, client.SinkHeld: yellow, client.SinkPaused: yellow, client.SinkOpen: red,
	client.SinkMisconfigured: red, "lost": red, "unreadable": red,
}

// sinkState tells in a word how a sink is, and what comes; first of all that its queue lost dead letters.
func sinkState(now time.Time, s client.Sink) (word, more string) {
	more = conditionOf(now, s)
	switch {
	case !s.QueueLostSince.IsZero():
		return "lost", "its queue lost dead letters, found " + age(now, s.QueueLostSince) + " ago: 'backstop dlq restore'; " + more
	case s.QueueError != "":
		return "unreadable", more
	case s.ConfigError != "":
		word = string(client.SinkMisconfigured)
	case s.Paused:
		word = string(client.SinkPaused)
	case !s.Configured && s.State == "":
		return "unknown", more
	default:
		word = string(cmp.Or(s.State, client.SinkOK))
	}
	return word, strings.TrimLeft(strings.TrimPrefix(more, word), " :,;")
}

func conditionOf(now time.Time, s client.Sink) string {
	switch {
	case s.QueueError != "":
		return clipTo("its queue cannot be read: "+s.QueueError, 120)
	case s.ConfigError != "":
		return clipTo("misconfigured: "+s.ConfigError, 120)
	case s.Paused:
		return string(client.SinkPaused)
	case !s.Configured && s.State == "":
		return "not configured"
	}
	text := receiverState(now, cmp.Or(s.State, client.SinkOK), s.ReceiverState)
	if !s.Configured {
		text = "not configured, " + text
	}
	if n := int64(len(s.Receivers)) + s.MoreReceivers; n > 0 {
		verb := "receivers are not"
		if n == 1 {
			verb = "receiver is not"
		}
		if s.State == client.SinkOK {
			text += fmt.Sprintf(", %d %s: ", n, verb)
		} else {
			text += fmt.Sprintf("; %d other %s well: ", n, verb)
		}
		first := s.Receivers[0]
		text += first.Name + " " + receiverState(now, first.State, first.ReceiverState)
		if n > 1 {
			text += fmt.Sprintf("; %d more (-o json)", n-1)
		}
	}
	return text
}

// receiverState tells how a receiver is.
func receiverState(now time.Time, state client.SinkState, r client.ReceiverState) string {
	if state == client.SinkOK {
		return string(state)
	}
	text := string(state)
	if !r.Since.IsZero() {
		text += " since " + age(now, r.Since)
	}
	switch {
	case state == client.SinkOpen && r.NextProbe.IsZero():
		return text + ": it answers again, and gets more step by step"
	case state == client.SinkHeld:
		text += ": it asked everybody to wait"
	case r.LastError != "":
		text += ": " + clipTo(cause(r.LastError), 80)
	}
	switch {
	case r.NextProbe.IsZero():
		return text
	case r.NextProbe.After(now):
		return text + "; next probe in " + span(r.NextProbe.Sub(now).Round(time.Second))
	}
	return text + "; the next delivery is the probe"
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
		c.Use, c.Short = "resume NAME", "Resume a sink that is paused, open or held: the schedule replays what has gathered"
		c.Long = `Resume a sink: its pause ends, and what holds back its receivers is lifted, a wait that they asked for and a breaker
that is open. Sends are attempted again, and the next tick of the schedule begins to replay what has gathered.

The next delivery to a receiver that was down is the probe, and nobody waits for its time. If it is answered, the others follow
step by step; if it fails, the receiver is left alone as before. It does no harm where nothing is held back.`
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
			note(c, "%s is resumed: %s.", s.Name, resumed(s))
		}
		return printSinks(api, []client.Sink{s})
	}
	return c
}

// resumed says what comes first at a sink that was resumed.
func resumed(s client.Sink) string {
	replays := "the schedule replays " + plural(s.Due, "dead letter")
	switch {
	case s.State != client.SinkOpen:
		return replays
	case s.NextProbe.IsZero():
		return "its receiver answers again, and gets more step by step; " + replays
	}
	return "the next delivery to its receiver is the probe. If it is answered, " + replays
}
