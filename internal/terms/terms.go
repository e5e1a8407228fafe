// Package terms reads what a request says about its time and its order: the fields
// expires_at, send_after and group. Whoever takes such a request reads them here, so that
// all of them take and refuse the same.
//
// The errors are INVALID_ARGUMENT and name the field, its bound and an example.
package terms

import (
	"fmt"
	"strings"
	"time"

	"backstop/lib/fault"
)

// The bounds of a request's terms. They are those of SQS.
const (
	// LongestDelay is the most that a delivery can be put off.
	LongestDelay = 15 * time.Minute
	// LongestGroup is the most bytes of a group.
	LongestGroup = 128
)

// What the fields take, as errors say it.
const (
	TimeForm  = "a time as in RFC 3339 with its zone, such as 2030-01-31T18:00:00Z or 2030-01-31T20:00:00+02:00"
	DelayForm = "a duration with its unit, more than 0, at most 15m, such as 30s or 2m"
	GroupForm = "1 to 128 ASCII letters, digits and punctuation, no space"
)

const punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// ExpiresAt reads the time from which a message is worthless, and returns it in UTC. The
// letters T and Z may be lower-case, as RFC 3339 allows. A leap second is refused, as is
// what a clock cannot tell: a year before 1970, or after 9999 in UTC. Whether the time is
// over is not asked.
func ExpiresAt(text string) (time.Time, error) {
	t, ok := parse(text)
	if !ok {
		return time.Time{}, invalid("expires_at", text, TimeForm, whyNoTime(text))
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, invalid("expires_at", text, TimeForm, "its year must be 1970 to 9999 in UTC")
	}
	return t, nil
}

// parse reads a time as RFC 3339 writes it. time.Parse takes more than that: an hour of one
// digit, a comma in the seconds, an offset of 24 hours.
func parse(text string) (t time.Time, ok bool) {
	text = strings.NewReplacer("t", "T", "z", "Z").Replace(text)
	rest, ok := strings.CutPrefix(strings.Map(digitsAsZero, text), "0000-00-00T00:00:00")
	if fraction, dot := strings.CutPrefix(rest, "."); dot {
		rest = strings.TrimLeft(fraction, "0")
		ok = ok && rest != fraction
	}
	switch offset := text[len(text)-min(len(text), len("00:00")):]; rest {
	case "Z":
	case "+00:00", "-00:00":
		ok = ok && offset[:2] < "24" && offset[3:] < "60"
	default:
		ok = false
	}
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil
}

func digitsAsZero(r rune) rune {
	if '0' <= r && r <= '9' {
		return '0'
	}
	return r
}

// whyNoTime names the mistakes that look right. Empty: another one.
func whyNoTime(text string) string {
	if len(text) < len(time.DateTime) {
		return ""
	}
	switch date, clock := text[:len(time.DateOnly)], text[len(time.DateOnly)+1:]; {
	case reads(date + "T" + clock + "Z"):
		return "the zone is missing"
	case text[len(time.DateOnly)] == ' ' && reads(date+"T"+clock):
		return "write a T between date and time"
	case strings.HasPrefix(clock[len("15:04"):], ":60"):
		return "leap seconds are not taken: write the second after it"
	}
	return ""
}

func reads(text string) bool {
	_, ok := parse(text)
	return ok
}

// SendAfter reads how long a delivery waits before it begins, and returns it in whole
// seconds, rounded up. It is never 0: who wants no delay leaves the field out.
func SendAfter(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, invalid("send_after", text, DelayForm, "")
	case d == 0:
		return 0, invalid("send_after", text, DelayForm, "leave the field out to send at once")
	case d < 0 || d > LongestDelay:
		return 0, invalid("send_after", text, DelayForm, "")
	}
	return (d + time.Second - 1).Truncate(time.Second), nil
}

// Group reads a message group, the MessageGroupId of SQS, and returns it as it is.
func Group(text string) (string, error) {
	if !fault.IsMadeOf(text, LongestGroup, fault.Alphanumeric+punctuation) {
		return "", invalid("group", text, GroupForm, "")
	}
	return text, nil
}

func invalid(field, text, want, why string) error {
	msg := fmt.Sprintf("%s: want %s; got %.160q", field, want, text)
	if why != "" {
		msg += ": " + why
	}
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: msg}
}
