package http

import (
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
)

// promise is what a preset says besides outcomes, as its provider's page has it.
type promise struct {
	kind     string
	window   time.Duration // for how long duplicates are recognised
	rate     string        // what the rate of the played recipient is counted by
	subject  string
	of       string // what bodies are made of
	fits     int    // how many of these are taken
	tooMany  int    // and how many are not
	contains string // the refusal
}

func TestPresetsPromise(t *testing.T) {
	const wide, narrow = "é", "x" // characters are counted, not bytes; or the other way round
	for _, want := range []promise{
		{kind: "telegram", rate: "77", of: wide, fits: 4096, tooMany: 4097, contains: "4096 are taken"},
		{kind: "telegram", rate: "77", subject: "12345", of: wide, fits: 4090, tooMany: 4091, contains: "4096 are taken"},
		{kind: "slack-api", rate: "C0123ABC", of: wide, fits: 40_000, tooMany: 40_001, contains: "40000 are taken"},
		{kind: "twilio-sms", of: wide, fits: 1600, tooMany: 1601, contains: "1600 are taken"},
		{kind: "pagerduty", window: 15 * time.Minute, of: wide, fits: 1024, tooMany: 1025, contains: "1024 are taken"},
		{kind: "pagerduty", window: 15 * time.Minute, subject: "short", of: narrow, fits: 511_000, tooMany: 512_000, contains: "512000 are taken"},
		{kind: "matrix", window: 30 * time.Minute, of: narrow, fits: 59_900, tooMany: 60_000, contains: "60000 are taken"},
		{kind: "teams", of: narrow, fits: 20_700, tooMany: 21_000, contains: "21000 are taken"},
		{kind: "discord", of: wide, fits: 2000, tooMany: 2001, contains: "2000 are taken"},
		{kind: "opsgenie", window: 15 * time.Minute, of: wide, fits: 130, tooMany: 131, contains: "130 are taken"},
		{kind: "opsgenie", window: 15 * time.Minute, subject: "short", of: wide, fits: 15_000, tooMany: 15_001, contains: "15000 are taken"},
	} {
		t.Run(want.kind, func(t *testing.T) {
			const server = "http://127.0.0.1"
			p := open(t, want.kind, server)
			s := p.sink(t, want.kind, server)
			if got := s.DedupWindow(); got != want.window {
				t.Errorf("duplicates are recognised for %s, want %s", got, want.window)
			}
			if got := s.RateKey(p.to()); got != want.rate {
				t.Errorf("the rate is counted by %q, want %q", got, want.rate)
			}
			m := sinks.Message{ID: playedID, Subject: want.subject, Body: strings.Repeat(want.of, want.fits)}
			if err := s.Validate(p.to(), m); err != nil {
				t.Errorf("%d are refused: %v", want.fits, err)
			}
			m.Body = strings.Repeat(want.of, want.tooMany)
			if err := s.Validate(p.to(), m); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), want.contains) {
				t.Errorf("%d are not refused as too many: %v", want.tooMany, err)
			}
		})
	}
}

// What a message says of its alert goes before what the sink says.
func TestPagerDutyResolvesAnAlertOfItsOwn(t *testing.T) {
	const server = "http://127.0.0.1"
	p := open(t, "pagerduty", server)
	r, err := p.sink(t, "pagerduty", server).Render(p.ctx(t.Context()), nil, sinks.Message{
		ID: playedID, Subject: "Disk full", Metadata: map[string]string{"event_action": "resolve", "dedup_key": "disk-db-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"event_action":"resolve"`, `"dedup_key":"disk-db-1"`, `"summary":"Disk full"`, `"severity":"error"`, `"source":"backstop"`, `"custom_details":{}`} {
		if !strings.Contains(string(r.Body), want) {
			t.Errorf("the body lacks %s: %s", want, r.Body)
		}
	}
}
