package notify

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"backstop/client"
)

// atOnce is how many messages API hands over at a time.
const atOnce = 10

// API sends through the HTTP API.
type API struct {
	Client *client.Client
	Log    *slog.Logger
}

// Send implements Sender. Each message is one call, which lasts as long as the delivery's
// attempts do.
func (a *API) Send(ctx context.Context, messages ...client.SendRequest) (back []HandedBack) {
	fates := make([]*HandedBack, len(messages))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, m := range messages {
		g.Go(func() error {
			fates[i] = a.one(ctx, m)
			return nil
		})
	}
	_ = g.Wait() // the goroutines return no error
	for _, h := range fates {
		if h != nil {
			back = append(back, *h)
		}
	}
	return back
}

// one sends one message and returns nil when it is safe.
func (a *API) one(ctx context.Context, m client.SendRequest) *HandedBack {
	answer, err := a.Client.Send(ctx, m)
	if err != nil {
		// Without an answer nobody knows; the id makes it safe to ask again.
		h := &HandedBack{Message: m, Err: err, Again: client.Repeatable(err) || ctx.Err() != nil}
		if p, ok := errors.AsType[*client.ProblemError](err); ok {
			h.After = p.RetryAfter
		}
		return h
	}
	// 202: kept as a dead letter. Backstop owns it now and replays it, by itself or when an
	// operator says so. To send it again would deliver it twice.
	if answer.Status == "dead_lettered" {
		a.Log.WarnContext(ctx, "not delivered yet", "id", m.ID, "sink", m.Sink, "item", answer.ItemID, "reason", answer.Reason)
	}
	return nil
}
