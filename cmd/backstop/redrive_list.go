package main

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/spf13/cobra"
)

func newRedriveList() *cobra.Command {
	var queue string
	var limit int
	c := &cobra.Command{
		Use:   "list --redrive-queue URL",
		Short: "Show messages of the redrive queue without taking them",
		Long: `List shows messages of the redrive queue. To see a message is to receive it: each is hidden from other
readers while the list is made, and given back at its end; its number of receives grows by one. A FIFO
queue shows only the first messages of each group.`,
		Example: `  backstop redrive list --redrive-queue https://sqs.eu-west-1.amazonaws.com/123456789012/backstop-redrive
  backstop redrive list --redrive-queue "$URL" --limit 200 -o json | jq -r '.messages[].sink' | sort | uniq -c`,
		Args: cobra.NoArgs,
	}
	addFormat(c)
	c.Flags().StringVar(&queue, "redrive-queue", "", "URL of the redrive queue")
	c.Flags().IntVar(&limit, "limit", 20, "most messages to show, up to 1000")
	c.RunE = func(c *cobra.Command, _ []string) error {
		asJSON, err := wantsJSON(c)
		if err != nil {
			return err
		}
		u, err := checkQueue("--redrive-queue", queue)
		if err != nil {
			return err
		}
		if limit < 1 || limit > 1000 {
			return usage("--limit %d: want 1 to 1000", limit)
		}
		client, err := openQueue(c.Context(), u)
		if err != nil {
			return err
		}
		total, err := waiting(c.Context(), client, queue)
		if err != nil {
			return err
		}
		found, err := peek(c.Context(), client, queue, limit)
		if err != nil {
			return err
		}
		if asJSON {
			return marshalJSON(c.OutOrStdout(), map[string]any{"approximate_total": total, "messages": found})
		}
		return printRedriven(c, found, total)
	}
	return c
}

func printRedriven(c *cobra.Command, found []redriven, total int64) error {
	if len(found) == 0 {
		note(c, "The redrive queue is empty.")
		return nil
	}
	t := newTable("MESSAGE ID", "AGE", "RECEIVES", "SINK", "DELIVERY", "BODY").
		cut(wantsWide(c), "DELIVERY", "BODY").orLeaveOut("RECEIVES", "DELIVERY")
	for _, r := range found {
		t.add(r.MessageID, age(time.Now(), r.SentAt), r.Receives, r.Sink, clipTo(r.DeliveryID, 40), clipTo(r.Body, 60))
	}
	if int64(len(found)) < total {
		note(c, "%d of about %d messages:", len(found), total)
	}
	return t.print(c.OutOrStdout())
}

// peek receives up to limit messages and gives them back.
func peek(ctx context.Context, q queues, queue string, limit int) ([]redriven, error) {
	found := []redriven{}
	var held []types.Message
	seen := map[string]bool{}
	err := func() error {
		for len(found) < limit {
			messages, err := receive(ctx, q, queue, limit-len(found))
			if err != nil || len(messages) == 0 {
				return err
			}
			held = append(held, messages...)
			fresh := false
			for _, m := range messages {
				if id := aws.ToString(m.MessageId); !seen[id] {
					seen[id], fresh = true, true
					found = append(found, readRedriven(m))
				}
			}
			if !fresh { // what was held has come back: this is all
				return nil
			}
		}
		return nil
	}()
	if back := giveBack(ctx, q, queue, held); err == nil {
		err = back
	}
	return found, err
}
