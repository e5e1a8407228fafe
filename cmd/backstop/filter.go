package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/internal/apiclient"
)

// filterFlags select dead letters.
type filterFlags struct {
	apiclient.Filter
	since, until string
}

var (
	filterNames = []string{"sink", "reason", "delivery", "q", "fingerprint", "since", "until"}
	reasons     = []string{"terminal", "exhausted", "deadline", "canceled", "ambiguous", "config", "invalid"}
)

func addFilter(c *cobra.Command) *filterFlags {
	o := &filterFlags{}
	f := c.Flags()
	f.StringVar(&o.Sink, "sink", "", "only of this sink")
	f.StringVar(&o.Reason, "reason", "", "only failed for this reason: "+strings.Join(reasons, ", "))
	f.StringVar(&o.DeliveryID, "delivery", "", "only of this delivery id")
	f.StringVar(&o.Q, "q", "", "only with this text, in any case, in subject, body, recipient, delivery id or last error")
	f.StringVar(&o.Fingerprint, "fingerprint", "", "only of this group of 'dlq groups'; give its --sink and --reason too")
	f.StringVar(&o.since, "since", "", "only stored since this time (2026-01-31T23:59:00Z) or this long ago (90m, 12h, 3d)")
	f.StringVar(&o.until, "until", "", "only stored before this time, or this long ago")
	_ = c.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasons, cobra.ShellCompDirectiveNoFileComp))
	return o
}

// filter reads the times.
func (o *filterFlags) filter(now time.Time) (apiclient.Filter, error) {
	var err error
	if o.Since, err = readTime("--since", o.since, now); err != nil {
		return o.Filter, err
	}
	o.Until, err = readTime("--until", o.until, now)
	return o.Filter, err
}

// readTime reads a time, or how long ago it was.
func readTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usage("%s %q: want a time such as 2026-01-31T23:59:00Z, or how long ago, such as 90m, 12h or 3d", flag, s)
}

// describe is the filter in words: " of ops-slack, reason exhausted".
func describe(f apiclient.Filter) string {
	var parts []string
	for _, p := range []struct{ word, value string }{
		{"of sink", f.Sink},
		{"reason", f.Reason},
		{"delivery", f.DeliveryID},
		{"with text", quoted(f.Q)},
		{"failed as", quoted(f.Fingerprint)},
		{"since", clock(f.Since)},
		{"before", clock(f.Until)},
	} {
		if p.value != "" {
			parts = append(parts, p.word+" "+p.value)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " " + oneLine(strings.Join(parts, ", "))
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", clipTo(s, 60))
}
