package main

import (
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

const laterHelp = `With --async it answers once the message is in the stack's queue, and with --after the message waits there
before it is sent; both are safe then (accepted), and the message can be taken back ('backstop delivery
cancel'). With --expires-in or --expires-at it is not sent from then on: neither now nor in a replay.`

// mostAfter is the longest that the API lets a message wait.
const mostAfter = 15 * time.Minute

// laterOptions are the flags of send that say when, and in which order.
type laterOptions struct {
	async            bool
	after, expiresIn time.Duration
	expiresAt, group string
}

func (o *laterOptions) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.async, "async", false, "answer once the message is in the queue, without waiting for its delivery (where the stack has a queue)")
	f.DurationVar(&o.after, "after", 0, "send it after this time, such as 30s; at most 15m")
	f.DurationVar(&o.expiresIn, "expires-in", 0, "do not send it any more after this time, such as 5m or 24h")
	f.StringVar(&o.expiresAt, "expires-at", "", "do not send it any more at this time or later, such as 2026-01-31T18:00:00Z")
	f.StringVar(&o.group, "group", "", "what is kept in order where the queue is FIFO, such as a user's id (default: the sink)")
	for _, name := range []string{"after", "expires-in", "expires-at", "group"} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

// apply puts the flags into a request.
func (o *laterOptions) apply(c *cobra.Command, r *client.SendRequest, now time.Time) error {
	r.Async, r.Group = o.async, o.group
	if given(c, "after") {
		if o.after <= 0 || o.after > mostAfter {
			return usage("--after %s: want more than 0, and at most %s", o.after, span(mostAfter))
		}
		r.SendAfter = o.after.String()
	}
	if given(c, "expires-in") {
		if o.expiresIn <= o.after || o.expiresIn <= 0 {
			return usage("--expires-in %s: want more than 0, and more than --after", o.expiresIn)
		}
		r.ExpiresAt = now.Add(o.expiresIn).UTC()
	}
	if given(c, "expires-at") {
		if given(c, "expires-in") {
			return usage("--expires-in and --expires-at exclude each other")
		}
		t, err := time.Parse(time.RFC3339, o.expiresAt)
		if err != nil {
			return usage("--expires-at %q: want a time such as 2026-01-31T18:00:00Z", o.expiresAt)
		}
		r.ExpiresAt = t
	}
	return nil
}

// noteAccepted tells how to go on with a message that waits in the queue.
func noteAccepted(c *cobra.Command, r client.SendRequest, a client.SendAnswer, conn *connection) {
	if a.Status != client.DeliveryAccepted {
		return
	}
	note(c, "It is safe in the queue. What becomes of it, and how to take it back:\n  backstop delivery show %[1]s %[2]s%[3]s\n  backstop delivery cancel %[1]s %[2]s%[3]s",
		r.Sink, r.ID, conn.flags())
}
