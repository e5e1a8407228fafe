// Package bundle runs the functions. A main of one's own imports the kinds of sinks that
// it wants, its own among them, and calls one of these; examples/bundle shows it. The
// environment configures the rest (docs/configuration.md). A process that is no Lambda
// function uses the packages of lib instead, delivery.Sender and replay.Engine first.
//
//	import (
//		"backstop/bundle"
//		_ "backstop/lib/sinks/webhook"
//
//		_ "example.org/team/bundle/pager" // registers its kind in init
//	)
//
//	func main() { bundle.Send() }
//
// Each function serves the platform's invocations and does not return. A bad environment
// does not end the process: every invocation then answers with all that is wrong.
package bundle

import (
	"context"

	api "backstop/functions/dlq-api/handler"
	replay "backstop/functions/replay/handler"
	send "backstop/functions/send/handler"
	"backstop/internal/app"
)

// Send delivers messages: one from an HTTP API call or a direct invocation, or a batch from
// SQS.
func Send() {
	a, err := app.New(context.Background())
	a.Serve(send.New(a, err))
}

// Replay sends dead letters again, on a schedule or when it is asked to.
func Replay() {
	ctx := context.Background()
	a, err := app.New(ctx)
	a.Serve(replay.New(ctx, a, err))
}

// DLQAPI answers the operator's HTTP API over the dead-letter queue.
func DLQAPI() {
	ctx := context.Background()
	a, err := app.New(ctx)
	a.Serve(api.New(ctx, a, err))
}
