// Command dlq-api answers the operator's HTTP API over the dead-letter queue.
package main

import (
	"context"

	"backstop/lib/app"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
)

func main() {
	ctx := context.Background()
	a, err := app.New(ctx)
	a.Serve(newEvents(newAPI(a, err, newStarter(ctx, a))))
}
