package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"backstop/client"
)

// STATE and MORE say what holds a sink back and what comes: a receiver that is left alone never looks
// like a schedule that does nothing.
func TestTheStateOfASinkSaysWhatComes(t *testing.T) {
	now := time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	down := client.ReceiverState{Since: ago(4 * time.Minute), NextProbe: ago(-12 * time.Second), LastError: "SINK_UNAVAILABLE: HTTP 503", LastErrorAt: ago(18 * time.Second)}
	sink := func(state client.SinkState, r client.ReceiverState) client.Sink {
		return client.Sink{Name: "hook", Configured: true, State: state, ReceiverState: r}
	}
	with := func(s client.Sink, more int64, receivers ...client.Receiver) client.Sink {
		s.Receivers, s.MoreReceivers = receivers, more
		return s
	}
	unreadable, wrong, paused := sink("", client.ReceiverState{}), sink(client.SinkMisconfigured, down), sink(client.SinkPaused, down)
	unreadable.QueueError, wrong.ConfigError, paused.Paused = "its slot moves", "url: missing", true
	one := client.Receiver{Name: "https://one.example", State: client.SinkOpen, ReceiverState: down}
	two := client.Receiver{Name: "https://two.example", State: client.SinkFailing}
	for _, c := range []struct {
		sink client.Sink
		want string
	}{
		{sink(client.SinkOK, client.ReceiverState{LastError: "an old one"}), "ok"},
		{sink(client.SinkOpen, down), "open|since 4m: HTTP 503; next probe in 12s"},
		{sink(client.SinkOpen, client.ReceiverState{Since: ago(3 * time.Hour), NextProbe: ago(time.Second)}), "open|since 3h; the next delivery is the probe"},
		{sink(client.SinkOpen, client.ReceiverState{Since: ago(3 * time.Second), LastError: "HTTP 503"}), "open|since 3s: it answers again, and gets more step by step"},
		{sink(client.SinkHeld, down), "held|since 4m: it asked everybody to wait; next probe in 12s"},
		{sink(client.SinkFailing, client.ReceiverState{Since: ago(20 * time.Second), LastError: "HTTP 503"}), "failing|since 20s: HTTP 503"},
		{with(sink(client.SinkOK, client.ReceiverState{}), 0, one), "ok|1 receiver is not: https://one.example open since 4m: HTTP 503; next probe in 12s"},
		{with(sink(client.SinkOK, client.ReceiverState{}), 3, one, two), "ok|5 receivers are not: https://one.example open since 4m: HTTP 503; next probe in 12s; 4 more (-o json)"},
		{with(sink(client.SinkHeld, client.ReceiverState{}), 0, two), "held|it asked everybody to wait; 1 other receiver is not well: https://two.example failing"},
		{unreadable, "unreadable|its queue cannot be read: its slot moves"},
		{wrong, "misconfigured|url: missing"},
		{paused, "paused"},
		{client.Sink{}, "unknown|not configured"},
		{client.Sink{State: client.SinkOpen, ReceiverState: down}, "open|not configured, open since 4m: HTTP 503; next probe in 12s"},
	} {
		word, more := sinkState(now, c.sink)
		if got := strings.TrimSuffix(word+"|"+more, "|"); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
	if _, got := sinkState(now, sink(client.SinkFailing, client.ReceiverState{LastError: fmt.Sprintf("%0500d", 1)})); len([]rune(got)) > 100 {
		t.Errorf("a long error is shown in %d characters", len([]rune(got)))
	}
}

// What a journal adds is shown where there is any: most tables stay as narrow as they were.
func TestWhatWaitsInTheJournalIsShown(t *testing.T) {
	calm := client.Sink{Name: "calm", Kind: "slack", Configured: true, State: client.SinkOK, Depth: 3, Due: 3}
	spilled, lost := calm, calm
	spilled.Name, spilled.Spilled, spilled.Ending = "full", 1200, 7
	lost.Name, lost.QueueLostSince = "wiped", time.Now().Add(-5*time.Minute-time.Second)
	table := func(sinks ...client.Sink) (head, body string) {
		t.Helper()
		var b bytes.Buffer
		if err := printSinks(session{out: &b}, sinks); err != nil {
			t.Fatal(err)
		}
		head, body, _ = strings.Cut(b.String(), "\n")
		return strings.Join(strings.Fields(head), " "), body
	}
	if head, _ := table(calm); head != "SINK STATE DEPTH DUE WAITING PARKED OLDEST KIND MORE" {
		t.Errorf("of a sink that is well: %s", head)
	}
	head, body := table(calm, spilled, lost)
	if head != "SINK STATE DEPTH DUE WAITING PARKED SPILLED ENDING OLDEST KIND MORE" {
		t.Errorf("head %s", head)
	}
	for _, want := range []string{"calm ok 3 3 0 0 0 0 0s slack -", "full ok 3 3 0 0 1200 7 0s slack -", "wiped lost 3 3 0 0 0 0 0s slack its queue lost dead letters, found 5m ago: 'backstop dlq restore'; ok"} {
		if !strings.Contains(strings.Join(strings.Fields(body), " "), want) {
			t.Errorf("%s\nlacks %s", body, want)
		}
	}
}
