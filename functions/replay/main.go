// Command replay sends dead letters again, on a schedule or when it is asked to.
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
