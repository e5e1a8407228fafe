package dlq

import (
	"context"
	"sync"
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
	// Unanswered is the item's: a new dead letter counts on from there.
	Unanswered int
	// Trace is the item's trace header.
	Trace string
}

type originKey struct{}

// replayed is what the context of a replay says.
type replayed struct {
	Origin
	token string // of DLQ.Replay's lease; empty: another's replay
}

// WithOrigin returns a context under which a message is replayed. Every store of this
// package links what is pushed under it to the origin: Item.Origin, Replays,
// FirstFailedAt and Trace are filled in where the item leaves them empty, and Unanswered is added.
func WithOrigin(ctx context.Context, o Origin) context.Context { return withOrigin(ctx, o, "") }

func withOrigin(ctx context.Context, o Origin, token string) context.Context {
	return context.WithValue(ctx, originKey{}, replayed{o, token})
}

// OriginFrom returns the origin of the replay under way; false when there is none.
func OriginFrom(ctx context.Context) (Origin, bool) {
	r, ok := ctx.Value(originKey{}).(replayed)
	return r.Origin, ok
}

// replays are the calls of DLQ.Replay under way in this process, by their lease's token. A
// sink's Send has no other way to say that its Retrier kept the message, in this store or
// in another.
var replays underway

// underway is safe for concurrent use.
type underway struct {
	mu     sync.Mutex
	pushed map[string]string // the dead letter that a replay became
}

// begin returns what tells the dead letter that was pushed since; empty: none.
func (u *underway) begin(token string) (pushed func() string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pushed == nil {
		u.pushed = map[string]string{}
	}
	u.pushed[token] = ""
	return func() string {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.pushed[token]
	}
}

func (u *underway) end(token string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.pushed, token)
}

// note tells the replay under ctx, if there is one, that it became a dead letter.
func (u *underway) note(ctx context.Context, id string) {
	r, _ := ctx.Value(originKey{}).(replayed)
	if r.token == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pushed[r.token]; ok {
		u.pushed[r.token] = id
	}
}

// link fills in what a push under an origin owes to it.
func (o Origin) link(it *Item) {
	if it.Origin != "" && it.Origin != o.ItemID {
		return
	}
	if it.Origin == "" { // else it is linked
		it.Unanswered += o.Unanswered
	}
	it.Origin = o.ItemID
	if it.Replays == 0 {
		it.Replays = o.Generation
	}
	if it.FirstFailedAt.IsZero() || !o.FirstFailedAt.IsZero() && o.FirstFailedAt.Before(it.FirstFailedAt) {
		it.FirstFailedAt = o.FirstFailedAt
	}
	if it.Trace == "" {
		it.Trace = o.Trace
	}
}
