// Command send delivers messages: one from an HTTP API call or a direct invocation, or
// a batch from SQS.
package main

import (
	"context"

	"backstop/lib/app"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
)

func main() {
	a, err := app.New(context.Background())
	a.Serve(&handler{app: a, broken: err})
}
