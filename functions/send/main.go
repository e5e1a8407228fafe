// Command send delivers messages: one from an HTTP API call or a direct invocation, or
// a batch from SQS.
package main

import (
	"backstop/bundle"
	_ "backstop/lib/sinks/apns"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/fcm"
	_ "backstop/lib/sinks/http"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
	_ "backstop/lib/sinks/webpush"
)

func main() { bundle.Send() }
