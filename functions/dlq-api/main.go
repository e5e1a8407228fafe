// Command dlq-api answers the operator's HTTP API over the dead-letter queue.
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

func main() { bundle.DLQAPI() }
