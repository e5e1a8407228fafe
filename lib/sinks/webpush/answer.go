package webpush

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// The words by which Windows says in a header what it did with a message, whatever the status.
const (
	wnsDropped          = "dropped"
	wnsChannelThrottled = "channelthrottled" // this subscription gets too many
	wnsAppThrottled     = "appthrottled"     // the application sends too many
)

// verdict reads a push service's answer.
func verdict(resp *httpsend.Response, origin string) error {
	wns := strings.ToLower(cmp.Or(resp.Header.Get("X-Wns-Status"), resp.Header.Get("X-Wns-Notificationstatus")))
	success := resp.Status >= 200 && resp.Status <= 299
	throttled := success || resp.Status == http.StatusNotAcceptable
	switch {
	case throttled && wns == wnsChannelThrottled:
		return alone(resp.Error(origin, wns, true))
	case throttled && wns == wnsAppThrottled:
		err := resp.Error(origin, wns, true)
		if wait := sinks.RetryAfterOf(err); wait > 0 {
			return sinks.Hold(err, wait)
		}
		return err
	case success && wns == wnsDropped:
		return resp.Error(origin, "the push service dropped the message", false)
	case success:
		return nil
	case resp.Status == http.StatusNotFound, resp.Status == http.StatusGone:
		return sinks.Gone(resp.Error(origin, reason(resp), false))
	case resp.Status == http.StatusTooManyRequests:
		// It is this subscription that got too many (RFC 8030, section 8.4): those of others do not
		// wait for it.
		return alone(resp.Error(origin, reason(resp), true))
	default:
		return resp.Error(origin, reason(resp), resp.Passing())
	}
}

// alone makes the wait that a receiver asked for one of this message alone.
func alone(err error) error {
	return sinks.RetryAfter(err, sinks.RetryAfterOf(err))
}

// reasons are the words by which Apple says why it refused a message. Any other text of an answer is
// not shown: it may hold what was sent.
var reasons = map[string]bool{
	"BadJwtToken": true, "BadTtl": true, "BadUrgency": true, "BadVapidPublicKey": true, "BadWebPushRequest": true,
	"BadWebPushTopic": true, "ExpiredToken": true, "InternalServerError": true, "PayloadTooLarge": true,
	"ServiceUnavailable": true, "Shutdown": true, "TooManyRequests": true, "Unregistered": true, "VapidPkHashMismatch": true,
}

// reason says in a word why a message was refused, as Apple and Mozilla do; empty: nothing is known.
func reason(resp *httpsend.Response) string {
	var said struct {
		Reason string `json:"reason"` // Apple's
		Errno  int    `json:"errno"`  // Mozilla's
	}
	if err := json.Unmarshal(resp.Body, &said); err != nil {
		return ""
	}
	switch {
	case reasons[said.Reason]:
		return said.Reason
	case said.Errno > 0 && said.Errno <= 999:
		return fmt.Sprintf("errno %d", said.Errno)
	}
	return ""
}
