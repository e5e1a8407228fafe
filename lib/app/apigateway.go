package app

import (
	"context"
	"time"
)

// apiLimit is how long a caller of an HTTP API is answered: the API waits 30 s, counted
// from the moment it got the request, and needs a margin for the way back.
const apiLimit = 29 * time.Second

// APIContext ends when API Gateway stops waiting for the answer, where the event says
// when it began (requestContext.timeEpoch, in ms). An event older than 30 s is a sample,
// or a clock is off: then only ctx counts.
func APIContext(ctx context.Context, epochMS int64) (context.Context, context.CancelFunc) {
	began := time.UnixMilli(epochMS)
	if age := time.Since(began); age < 0 || age > 30*time.Second {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, began.Add(apiLimit))
}
