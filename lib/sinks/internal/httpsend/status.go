package httpsend

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"backstop/lib/sinks"
)

// Error returns the coded error of an answer that is not a delivery: SINK_UNAVAILABLE
// with the status, and with detail when it is not empty. A transient one carries the
// answer's Retry-After, if there is a valid one; any other is terminal.
func (r *Response) Error(label, detail string, transient bool) error {
	text := fmt.Sprintf("HTTP %d", r.Status)
	if name := http.StatusText(r.Status); name != "" {
		text += " " + name
	}
	if detail != "" {
		text += ": " + detail
	}
	err := unavailable(label, text)
	if !transient {
		return sinks.Terminal(err)
	}
	wait, ok := RetryAfter(r.Header, time.Now())
	if !ok {
		return sinks.Transient(err)
	}
	err.Msg += fmt.Sprintf(" (retry after %s)", min(wait, sinks.MaxRetryAfter))
	return sinks.RetryAfter(err, wait)
}

// RetryAfter reads the header Retry-After in both its forms, seconds and an HTTP
// date. A negative number and a date in the past are 0; a number too large for a
// duration is sinks.MaxRetryAfter. ok is false without a header or with a malformed
// one.
func RetryAfter(h http.Header, now time.Time) (wait time.Duration, ok bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if digits := strings.TrimPrefix(value, "-"); digits != "" && strings.Trim(digits, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		switch {
		case digits != value:
			return 0, true
		case err != nil || seconds > int64(sinks.MaxRetryAfter/time.Second):
			return sinks.MaxRetryAfter, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return max(date.Sub(now), 0), true
}
