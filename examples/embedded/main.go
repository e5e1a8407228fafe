// Command realtime shows Backstop's library in a server of one's own, without Lambda and
// without AWS: what nobody hears live goes out by SMS, what the carrier does not take is
// kept, and what is kept is replayed. It tells its story and ends.
//
// Dead letters are in memory, or in Redis when REDIS_URL is set.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/redisclient"
	"backstop/lib/retry"
	"backstop/lib/sinks"

	"example.org/realtime/hub"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tell(ctx, os.Stdout, os.Getenv("REDIS_URL")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		cancel()
		os.Exit(1)
	}
}

// openQueue returns the dead-letter queue, and what closes it.
func openQueue(redisURL string) (dlq.Store, func() error, error) {
	if redisURL == "" {
		return dlq.NewMemory(), func() error { return nil }, nil
	}
	client, _, err := redisclient.New(redisclient.Options{URL: redisURL})
	if err != nil {
		return nil, nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	return dlq.NewRedis(client, dlq.WithKeyPrefix("realtime")), client.Close, nil
}

// carrier takes text messages, unless it is down.
type carrier struct {
	down bool
	out  io.Writer
}

func (c *carrier) send(_ context.Context, phone, text string) error {
	if c.down {
		return errors.New("no route")
	}
	_, err := fmt.Fprintf(c.out, "   SMS to %s: %s\n", phone, text)
	return err
}

func tell(ctx context.Context, w io.Writer, redisURL string) (err error) {
	queue, closeQueue, err := openQueue(redisURL)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	defer func() { err = errors.Join(err, out.Flush(), closeQueue()) }()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) } // Flush has its error

	phones := &carrier{out: out}
	server := hub.New(queue)
	server.Register(hub.SMS{Carrier: phones.send}, retry.Config{MaxAttempts: 3, BaseBackoff: 10 * time.Millisecond})
	ada := hub.Phone{Number: "+44 20 7946 0000"}
	publish := func(id, text string) {
		route, err := server.PublishOrSink(ctx, "ada", []byte(text), "sms", ada, sinks.Message{ID: id, Body: text})
		say("   %q left %s, error %v", text, route, err)
	}
	kept := func() ([]dlq.Item, error) {
		items, err := queue.Items(ctx, "sms", 0)
		for _, it := range items {
			say("   kept: %q, %s after %d attempts, %s", it.Message.Body, it.Reason, it.Attempts, it.State(time.Now()))
		}
		return items, err
	}

	say("1. Ada listens")
	heard, leave := server.Subscribe("ada")
	publish("m-1", "The report is ready.")
	say("   Ada hears %q", <-heard)

	say("2. Ada has left")
	leave()
	publish("m-2", "The export is ready.")

	say("3. The carrier is down")
	phones.down = true
	publish("m-3", "The import failed.")
	publish("m-4", "The disk is full.")
	items, err := kept()
	if err != nil {
		return err
	}

	say("4. An operator replays one, too early")
	say("   code %s", fault.CodeOf(queue.Replay(ctx, items[0].ID)))
	if _, err = kept(); err != nil {
		return err
	}

	say("5. The carrier is back, and the schedule replays what is due")
	phones.down = false
	summary, err := server.ReplayDue(ctx)
	if err != nil {
		return err
	}
	say("   delivered %d, failed %d", summary.Delivered, summary.Failed)
	if items, err = kept(); err != nil {
		return err
	}

	say("6. The operator discards what was replayed under another id")
	for _, it := range items {
		if err := queue.Discard(ctx, it.ID); err != nil {
			return err
		}
	}
	left, err := queue.Count(ctx, "")
	say("   %d left", left)
	return err
}
