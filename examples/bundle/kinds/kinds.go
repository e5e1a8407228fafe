// Package kinds lists the sink kinds of this bundle. All three functions import it, for
// each of them sends: send, replay on its schedule, and dlq-api for its replay button.
package kinds

import (
	_ "backstop/lib/sinks/apns"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/fcm"
	_ "backstop/lib/sinks/http"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
	_ "backstop/lib/sinks/webpush"

	_ "example.org/team/bundle/pager" // our own
)
