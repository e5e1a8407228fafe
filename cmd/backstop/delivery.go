package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/internal/delay"
	"backstop/lib/fault"
)

func newDelivery() *cobra.Command {
	c := &cobra.Command{
		Use:   "delivery",
		Short: "Tell what became of a delivery; take one back",
		Long: `Delivery tells the way of one message, and takes it back while it was not sent. One id sent to two sinks is
two deliveries, so both are named. 'backstop delivery SINK ID' is short for show.

` + connectHelp,
		Example: `  backstop delivery show ops-slack 0198c2a4-5f0e-7c3a-9d43-0b6c1f1e2d3c
  backstop delivery cancel mail unread-17`,
	}
	conn := addConnection(c)
	show := newDeliveryShow(conn)
	c.AddCommand(show, newDeliveryCancel(conn))
	c.ValidArgsFunction = cobra.NoFileCompletions
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return c.Help()
		case 2:
			return show.RunE(c, args)
		}
		return usage("want a sink and an id, got %s\nUsage: %s SINK ID", plural(int64(len(args)), "argument"), show.CommandPath())
	}
	return c
}

func newDeliveryShow(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "show SINK ID",
		Short: "Tell what became of a delivery, and its whole way",
		Long: `Show tells what became of the delivery ID to SINK: accepting or accepted (it is on its way through the queue),
in_progress, delivered, dead_lettered, expired, discarded or canceled; then what happened to it, oldest
first, and what comes next.

The exit code is 3 when nothing is known of it: it was never accepted, or finished too long ago (24 hours
unless set otherwise; 15 days for what was accepted for later or canceled).`,
		Example: `  backstop delivery show ops-slack 0198c2a4-5f0e-7c3a-9d43-0b6c1f1e2d3c
  backstop delivery show mail order-1234 -o json | jq -r '.timeline[] | "\(.at) \(.event)"'`,
		Args: cobra.ExactArgs(2),
	}
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
		return printDelivery(api, d, time.Now())
	}
	return c
}

func printDelivery(api session, d client.Delivery, now time.Time) error {
	t := (&table{}).wrap(api.wide)
	t.add("status", d.Status)
	t.add("sink", d.Sink)
	t.add("delivery", d.DeliveryID)
	if d.ItemID != "" {
		t.add("dead letter", d.ItemID)
	}
	if d.Spilled {
		t.add("dead letter", spilledText)
	}
	for _, x := range []struct {
		label string
		at    time.Time
	}{{"since", d.UpdatedAt}, {"not before", d.NotBefore}, {"expires", d.ExpiresAt}} {
		if !x.at.IsZero() {
			t.add(x.label, moment(now, x.at))
		}
	}
	t.add("attempts", d.Attempts)
	if d.MayHaveArrived {
		t.add("may have arrived", mayHaveArrived)
	}
	if d.Event != "" {
		t.add("event", d.Event+": what became of it is not told yet")
	}
	if d.Next != nil {
		t.add("next", nextOf(*d.Next, now))
	}
	if err := t.print(api.out); err != nil || len(d.Timeline) == 0 {
		return err
	}
	t = newTable("WHEN", "AGO", "WHAT", "MORE").wrap(api.wide)
	for _, e := range d.Timeline {
		t.add(clock(e.At), age(now, e.At), e.Event, e.Detail)
	}
	if _, err := fmt.Fprintln(api.out); err != nil {
		return err
	}
	return t.print(api.out)
}

// spilledText tells of a dead letter that has no id yet.
const spilledText = "waits in the journal for room in the queue"

const mayHaveArrived = "yes: it was sent, and nobody answered"

// moment is a time for people, and how far it is from now.
func moment(now, t time.Time) string {
	if t.After(now) {
		return clock(t) + " (in " + span(t.Sub(now)) + ")"
	}
	return clock(t) + " (" + age(now, t) + " ago)"
}

// nextOf says what comes.
func nextOf(n client.DeliveryNext, now time.Time) string {
	when := func(asSoon string) string {
		if n.At.IsZero() {
			return asSoon
		}
		return moment(now, n.At)
	}
	switch n.Event {
	case client.NextAttempt:
		return "it is sent: " + when("as soon as the queue hands it out")
	case client.NextReplay:
		if n.State == client.StateReplaying {
			return "a replay sends it just now"
		}
		return "the schedule replays it: " + when("at its next tick")
	case client.NextExpiry:
		return "its time is over: " + when("now")
	case client.NextReturn:
		text := "it comes into the queue by itself, once there is room"
		switch n.State {
		case client.StateDue, client.StateScheduled:
			text += "; then the schedule replays it"
		case client.StateWaiting:
			text += "; then it waits for you"
		case client.StateExpired:
			text += "; its time is over, and nobody sends it"
		}
		return text
	case client.NextOperator:
		if n.State == client.StateExpired {
			return "nothing (expired): only 'backstop dlq replay --force' sends it still"
		}
		return "nothing by itself (" + string(n.State) + "): replay, discard or cancel it"
	}
	return strings.TrimSpace(string(n.Event) + " " + clock(n.At))
}

func newDeliveryCancel(conn *connection) *cobra.Command {
	wait := 30 * time.Second
	c := &cobra.Command{
		Use:   "cancel SINK ID",
		Short: "Take a delivery back that was not sent yet",
		Long: `Cancel takes the delivery ID to SINK back, wherever it waits: in the queue for later, as a dead letter, or on
its way in a queue of yours. After exit code 0 no attempt of it begins any more, and whatever comes under
its id is answered as canceled. It can be repeated. There is no way back: send the message under another id.

Canceled is not the same as never arrived: where an attempt was made to which nobody answered, the answer
says so (may have arrived). An id of which nothing is known is canceled too, for the message may be on its
way; look twice at how it is spelled.

It is not canceled, with exit code 4, when a receiver has it already; or when somebody is sending it just
now, for longer than --wait. With exit code 5 that is not known: run it again.`,
		Example: `  backstop delivery cancel mail unread-17
  backstop delivery cancel mail unread-17 --wait 5m
  backstop delivery cancel mail unread-17 -o json | jq -e '.may_have_arrived | not'`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().DurationVar(&wait, "wait", wait, "how long to try again while it is being sent or the API is away; 0 tries once")
	c.ValidArgsFunction = first(completeSinks(conn))
	c.RunE = func(c *cobra.Command, args []string) error {
		if wait < 0 {
			return usage("--wait %s: want 0 or more", wait)
		}
		api, err := conn.openWith(c, client.Options{Tries: 1})
		if err != nil {
			return err
		}
		a, err := cancelWithin(c, wait, func(ctx context.Context) (client.Cancellation, error) {
			return api.Cancel(ctx, args[0], args[1])
		})
		if err != nil {
			return notCanceled(err, args[0], args[1], conn)
		}
		if api.json {
			return printJSON(api.out, a.JSON)
		}
		return printCanceled(api.out, args[0], a)
	}
	return c
}

// cancelWithin asks for a cancellation, again while that may help and a wait ends in time.
func cancelWithin(c *cobra.Command, within time.Duration, call func(context.Context) (client.Cancellation, error)) (client.Cancellation, error) {
	ctx, start := c.Context(), time.Now()
	for n := 1; ; n++ {
		a, err := call(ctx)
		wait := pause(n, err)
		if err == nil || !client.Repeatable(err) || time.Since(start)+wait > within {
			return a, err
		}
		note(c, "%s; asking again in %s", message(err), wait.Round(time.Second/10))
		if err := delay.Sleep(ctx, wait); err != nil {
			return a, err
		}
	}
}

// notCanceled adds to an error what it means for the message, and what to do.
func notCanceled(err error, sink, id string, conn *connection) error {
	again := fmt.Sprintf("\n  backstop delivery cancel %s %s --wait 5m%s", sink, id, conn.flags())
	look := fmt.Sprintf("\n  backstop delivery show %s %s%s", sink, id, conn.flags())
	switch code := fault.CodeOf(err); {
	case code == fault.CodeAlreadyDelivered:
		return hinted(err, "It cannot be taken back: a receiver has answered that it has it. Its way:%s", look)
	case code == fault.CodeDeliveryInProgress:
		return hinted(err, "It is not canceled: it is being sent just now, and that decides. If it fails it can be canceled still:%s", again)
	case code == fault.CodeItemLeased:
		return hinted(err, "It is not canceled: if that replay fails it can be canceled still:%s", again)
	case client.Repeatable(err), errors.Is(err, context.Canceled):
		return hinted(err, "Whether it is canceled is not known. Ask again:%s", again)
	}
	return err
}

func printCanceled(w io.Writer, sink string, a client.Cancellation) error {
	t := &table{}
	t.add("status", a.Status)
	t.add("sink", sink)
	t.add("delivery", a.DeliveryID)
	if a.Known {
		t.add("attempts", a.Attempts)
	} else {
		t.add("known", "no: nothing was known of it. If it is on its way it will not be sent; is its id right?")
	}
	if a.MayHaveArrived {
		t.add("may have arrived", mayHaveArrived)
	}
	return t.print(w)
}
