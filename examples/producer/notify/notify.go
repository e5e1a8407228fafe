// Package notify hands messages to Backstop: through its HTTP API, which says at once what
// became of each, or through its queue, which takes them while Backstop is busy or away.
//
// Each message has an id that names what happened ("order-7-shipped"), not the attempt to tell
// it. So a caller that does not know whether a message was taken hands it over again, and it
// is delivered once.
package notify

import (
	"context"
	"time"

	"backstop/client"
)

// Sender hands messages to Backstop. It returns those that were handed back; none means that
// all are safe: delivered, kept as dead letters, or in the queue. It is safe for concurrent use.
type Sender interface {
	Send(ctx context.Context, messages ...client.SendRequest) []HandedBack
}

// HandedBack is a message that Backstop did not take: whoever sent it still owns it.
type HandedBack struct {
	Message client.SendRequest
	// Again: the same message may be taken later. False: it is not, until its content, or
	// Backstop's configuration, is another.
	Again bool
	// After is how long Backstop asks to wait before that; zero when it does not say.
	After time.Duration
	// Err says why; fault.CodeOf(Err) is the code to branch on, empty where neither Backstop nor
	// the check of a message gave one.
	Err error
}
