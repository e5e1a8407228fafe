package httpsend

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"backstop/lib/sinks"
)

// Developer judges the answer of where a request was forwarded to, which knows nothing of the receiver's own words: a
// 2xx is a success, anything else what it would be of any receiver.
func (r *Response) Developer(label string) error {
	if r.Status >= 200 && r.Status <= 299 {
		return nil
	}
	return r.Error(label, "", r.Passing())
}

// Passing reports whether the answer says that the request may be taken later: 408, 421,
// 425, 429, 5xx, and a 403 or 413 that says when to come again, however it spells that.
func (r *Response) Passing() bool {
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusForbidden, http.StatusRequestEntityTooLarge:
		return strings.Join(r.Header.Values("Retry-After"), "") != ""
	}
	return r.Status >= 500
}

// Error returns the coded error of an answer that is not a delivery: SINK_UNAVAILABLE
// with the status, and with detail when it is not empty. A transient one carries the
// answer's Retry-After, if there is a valid one; any other is terminal.
func (r *Response) Error(label, detail string, transient bool) error {
	if !transient {
		return sinks.Terminal(r.Unavailable(label, detail))
	}
	wait, ok := RetryAfter(r.Header, time.Now())
	return r.Later(label, detail, wait, ok)
}

// Unavailable is Error without a mark.
func (r *Response) Unavailable(label, detail string) *sinks.Error {
	text := fmt.Sprintf("HTTP %d", r.Status)
	if name := http.StatusText(r.Status); name != "" {
		text += " " + name
	}
	if detail != "" {
		text += ": " + detail
	}
	return unavailable(cmp.Or(r.method, http.MethodPost)+" "+label, text)
}

// Later is the transient Error of an answer that asks to come again after wait; asked is false for one
// that does not.
func (r *Response) Later(label, detail string, wait time.Duration, asked bool) error {
	err := r.Unavailable(label, detail)
	if !asked {
		return sinks.Transient(err)
	}
	err.Msg += fmt.Sprintf(" (retry after %s)", min(wait, sinks.MaxRetryAfter))
	if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
		return sinks.Hold(err, wait)
	}
	return sinks.RetryAfter(err, wait) // of this message alone
}

// RetryAfter reads the header Retry-After: seconds, rounded up, or a date, also in the
// forms that HTTP does not know. Of several values the longest counts. A negative number
// and a date in the past are 0; a number too large for a duration is
// sinks.MaxRetryAfter. ok is false without a value that can be read.
func RetryAfter(h http.Header, now time.Time) (wait time.Duration, ok bool) {
	for _, value := range h.Values("Retry-After") {
		parts := []string{value}
		if numbers := strings.Split(value, ","); len(numbers) > 1 && strings.Trim(value, "-0123456789., \t") == "" {
			parts = numbers // which a proxy has joined
		}
		for _, part := range parts {
			if d, read := retryAfter(strings.TrimSpace(part), now); read {
				wait, ok = max(wait, d), true
			}
		}
	}
	return wait, ok
}

func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if whole, fraction, _ := strings.Cut(strings.TrimPrefix(value, "-"), "."); digits(whole) && (fraction == "" || digits(fraction)) {
		seconds, err := strconv.ParseInt(whole, 10, 64)
		if strings.Trim(fraction, "0") != "" {
			seconds++
		}
		switch {
		case value[0] == '-':
			return 0, true
		case err != nil || seconds > int64(sinks.MaxRetryAfter/time.Second):
			return sinks.MaxRetryAfter, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	for _, layout := range dates {
		if date, err := time.Parse(layout, offsets.Replace(value)); err == nil {
			return max(date.Sub(now), 0), true
		}
	}
	return 0, false
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// dates are the forms of dates that are understood: HTTP's three, and those of mail,
// cookies, JSON and databases. All may name another zone; one without is in UTC.
var dates = []string{
	"Mon, 2 Jan 2006 15:04:05 -0700", // HTTP's own, its zone replaced
	"Monday, 2-Jan-06 15:04:05 -0700",
	time.ANSIC,
	"2 Jan 2006 15:04:05 -0700",
	"Mon, 2 Jan 06 15:04:05 -0700",
	"Mon, 2-Jan-2006 15:04:05 -0700",
	"Mon, 2-Jan-06 15:04:05 -0700",
	"Mon, 2 Jan 2006 15:04:05",
	"Mon Jan _2 15:04:05 -0700 2006",
	time.RFC3339,
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05 -0700",
	"2006-01-02 15:04:05",
}

// offsets replaces the names of zones: time.Parse takes those that it does not know for
// UTC.
var offsets = strings.NewReplacer(
	" GMT", " +0000", " UTC", " +0000", " UT", " +0000", " EST", " -0500", " EDT", " -0400", " CST", " -0600", " CDT", " -0500",
	" MST", " -0700", " MDT", " -0600", " PST", " -0800", " PDT", " -0700", " CET", " +0100", " CEST", " +0200",
)
