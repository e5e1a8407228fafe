package dlq

import (
	"context"
	"sync/atomic"
	"time"
)

// Origin describes the dead letter whose replay is under way, so that a failure of the
// replay becomes a new dead letter that is linked to it.
type Origin struct {
	// ItemID is the public id of the item that is replayed.
	ItemID string
	// FirstFailedAt is the item's, or its At when it has none.
	FirstFailedAt time.Time
	// Generation is what Item.Replays of a new dead letter starts with: the replays
	// charged so far, this one included.
	Generation int
	// Trace is the item's trace header.
	Trace string
}

type originKey struct{}

type originCarrier struct {
	Origin
	again atomic.Pointer[string] // id of the dead letter that was pushed under this context
}

// WithOrigin returns a context under which a message is replayed. Every store of this
// package links what is pushed under it to the origin: Item.Origin, Replays,
// FirstFailedAt and Trace are filled in where the item leaves them empty.
// DeadLetteredAgain tells afterwards whether that happened.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, &originCarrier{Origin: o})
}

// OriginFrom returns the origin of the replay under way; false when there is none.
func OriginFrom(ctx context.Context) (Origin, bool) {
	if c := carrierOf(ctx); c != nil {
		return c.Origin, true
	}
	return Origin{}, false
}

// DeadLetteredAgain returns the id of the item that a store of this package has taken
// under a context made by WithOrigin (or derived from it); false when none was pushed.
func DeadLetteredAgain(ctx context.Context) (id string, ok bool) {
	if c := carrierOf(ctx); c != nil {
		if p := c.again.Load(); p != nil {
			return *p, true
		}
	}
	return "", false
}

func carrierOf(ctx context.Context) *originCarrier {
	c, _ := ctx.Value(originKey{}).(*originCarrier)
	return c
}

// link fills in what a push under an origin owes to it.
func (c *originCarrier) link(it *Item) {
	if it.Origin != "" && it.Origin != c.ItemID {
		return
	}
	it.Origin = c.ItemID
	if it.Replays == 0 {
		it.Replays = c.Generation
	}
	if it.FirstFailedAt.IsZero() || !c.FirstFailedAt.IsZero() && c.FirstFailedAt.Before(it.FirstFailedAt) {
		it.FirstFailedAt = c.FirstFailedAt
	}
	if it.Trace == "" {
		it.Trace = c.Trace
	}
}
