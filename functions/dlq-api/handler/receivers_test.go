package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
)

// receiver sets what all processes know of a receiver of the sink hook; "sink" is its own.
func (f *fixture) receiver(t *testing.T, name string, change func(s *flow.State, now int64)) {
	t.Helper()
	seen, err := f.app.Gate.Store.Look(t.Context(), "hook")
	if err != nil {
		t.Fatal(err)
	}
	var s flow.State
	change(&s, seen.Now)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.app.Gate.Store.Swap(t.Context(), "hook", name, flow.Swap{Old: seen.States[name], New: string(b), At: seen.Now})
	if err != nil || !got.Swapped {
		t.Fatalf("the state was not set: %+v, %v", got, err)
	}
}

// shownSink is what the API shows of the receivers of a sink.
type shownSink struct {
	Name, State   string
	Paused        bool
	Due, Waiting  int64
	Since         time.Time
	NextProbe     time.Time `json:"next_probe"`
	LastError     string    `json:"last_error"`
	LastErrorAt   time.Time `json:"last_error_at"`
	LastSuccessAt time.Time `json:"last_success_at"`
	QueueError    string    `json:"queue_error"`
	Receivers     []struct {
		Name, State string
		Since       time.Time
	}
	MoreReceivers int `json:"more_receivers"`
}

// shown lists the sinks.
func (f *fixture) shown(t *testing.T) map[string]shownSink {
	t.Helper()
	var got struct{ Sinks []shownSink }
	f.ask(t, "GET", "/v1/sinks", "").want(200, "").into(&got)
	byName := map[string]shownSink{}
	for _, s := range got.Sinks {
		byName[s.Name] = s
	}
	return byName
}

func open(s *flow.State, now int64) {
	s.Status, s.Since, s.Next, s.Wait = flow.Open, now-240_000, now+12_000, 16_000
	s.Error, s.BadAt, s.GoodAt = "SINK_UNAVAILABLE: HTTP 503", now-18_000, now-300_000
}

func TestASinkShowsItsReceivers(t *testing.T) {
	for name, fresh := range backends {
		t.Run(name, func(t *testing.T) {
			f := fresh(t)
			f.add(t, item(1))
			f.add(t, item(2))
			later := item(3)
			later.NotBefore = time.Now().Add(time.Hour)
			f.add(t, later)
			if got := f.shown(t)["hook"]; got.State != "ok" || got.Due != 3 || got.Waiting != 0 || !got.Since.IsZero() || got.LastError != "" {
				t.Errorf("a sink that is well: %+v", got)
			}

			now := time.Now()
			f.receiver(t, "sink", open)
			near := func(what string, at time.Time, want time.Duration) {
				t.Helper()
				if d := at.Sub(now.Add(want)); d < -time.Second || d > 10*time.Second {
					t.Errorf("%s is %s off", what, d)
				}
			}
			got := f.shown(t)["hook"]
			if got.State != "open" || got.Due != 3 || got.Waiting != 3 || got.LastError != "SINK_UNAVAILABLE: HTTP 503" {
				t.Errorf("a sink that is down: %+v", got)
			}
			near("since", got.Since, -4*time.Minute)
			near("next_probe", got.NextProbe, 12*time.Second)
			near("last_error_at", got.LastErrorAt, -18*time.Second)
			near("last_success_at", got.LastSuccessAt, -5*time.Minute)
			if spare := f.shown(t)["spare"]; spare.State != "ok" || spare.Waiting != 0 {
				t.Errorf("the other sink: %+v", spare)
			}

			f.receiver(t, "sink", func(s *flow.State, now int64) { s.Held, s.HeldAt = now+60_000, now-1000 })
			if got := f.shown(t)["hook"]; got.State != "held" || got.Waiting != 3 {
				t.Errorf("a sink that asked to wait: %+v", got)
			}
			f.receiver(t, "sink", func(s *flow.State, now int64) {
				s.Status, s.Since, s.Turn, s.BadAt, s.Error = flow.Failing, now-1000, now-1000, now, strings.Repeat("é", 5000)
			})
			got = f.shown(t)["hook"]
			if got.State != "failing" || got.Waiting != 0 || !got.NextProbe.IsZero() || len([]rune(got.LastError)) != mostError {
				t.Errorf("a sink that is failing: %+v", got)
			}
		})
	}
}

func TestOfManyReceiversTheWorstAreShown(t *testing.T) {
	f := newFixture(t)
	for i := range 30 {
		f.receiver(t, fmt.Sprintf("https://%02d.example", i), func(s *flow.State, now int64) {
			if i < 10 {
				s.Status, s.Since, s.Turn, s.BadAt = flow.Failing, now, now, now
			} else {
				open(s, now)
			}
		})
	}
	f.receiver(t, "https://well.example", func(s *flow.State, now int64) { s.GoodAt = now })
	got := f.shown(t)["hook"]
	if got.State != "ok" || len(got.Receivers) != mostReceivers || got.MoreReceivers != 10 {
		t.Fatalf("%s, %d receivers and %d more, want ok, %d and 10", got.State, len(got.Receivers), got.MoreReceivers, mostReceivers)
	}
	for i, r := range got.Receivers {
		if r.State != "open" || r.Name != fmt.Sprintf("https://%02d.example", i+10) || r.Since.IsZero() {
			t.Errorf("receiver %d is %+v", i, r)
		}
	}
}

// What an operator or the configuration says goes before what the receiver gets.
func TestTheStateOfASinkIsTheFirstThatHolds(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		sink sinkView
		own  flow.ReceiverStatus
		want sinkState
	}{
		{sinkView{Configured: true, ConfigError: "x", Paused: true}, flow.ReceiverOpen, sinkMisconfigured},
		{sinkView{Configured: true, Paused: true}, flow.ReceiverOpen, sinkPaused},
		{sinkView{Paused: true}, flow.ReceiverOK, sinkPaused},
		{sinkView{Configured: true}, flow.ReceiverOpen, "open"},
		{sinkView{Configured: true}, flow.ReceiverOK, "ok"},
		{sinkView{}, flow.ReceiverHeld, "held"},
		{sinkView{}, flow.ReceiverOK, ""}, // nothing is sent to it
	} {
		v := c.sink
		v.receive([]flow.Receiver{{Status: c.own, Since: at, NextProbe: at, LastErrorAt: at}})
		if v.State != c.want || v.Since.IsZero() != (c.want == sinkMisconfigured || c.want == sinkPaused || c.want == "") || v.LastErrorAt.IsZero() {
			t.Errorf("%+v with a receiver that is %s: %+v, want %s", c.sink, c.own, v, c.want)
		}
	}
}

// fragile is a gate that fails for some sinks.
type fragile struct {
	gate
	look, lift error // of the sink hook
}

func (g *fragile) Receivers(ctx context.Context, sink string, p flow.Policy) ([]flow.Receiver, error) {
	if g.look != nil && sink == "hook" {
		return nil, g.look
	}
	return g.gate.Receivers(ctx, sink, p)
}

func (g *fragile) ReceiversOf(ctx context.Context, sinks []string, policy func(string) flow.Policy) ([][]flow.Receiver, error) {
	if g.look != nil && slices.Contains(sinks, "hook") {
		return nil, g.look
	}
	return g.gate.ReceiversOf(ctx, sinks, policy)
}

func (g *fragile) Lift(ctx context.Context, sink string, p flow.Policy) error {
	if g.lift != nil && sink == "hook" {
		return g.lift
	}
	return g.gate.Lift(ctx, sink, p)
}

// fragile makes the API ask another gate.
func (f *fixture) fragile(t *testing.T) *fragile {
	t.Helper()
	h, ok := f.api.(*api)
	if !ok {
		t.Fatalf("the API is a %T", f.api)
	}
	g := &fragile{gate: h.gate}
	h.gate = g
	return g
}

func TestReceiversThatCannotBeReadAreNotOK(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	f.fragile(t).look = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "its slot moves"}
	got := f.shown(t)
	if s := got["hook"]; s.State != "" || !strings.Contains(s.QueueError, "its slot moves") || s.Due != -1 || s.Waiting != -1 {
		t.Errorf("a sink that cannot be read: %+v", s)
	}
	if s := got["spare"]; s.State != "ok" || s.QueueError != "" {
		t.Errorf("the other sink: %+v", s)
	}
}

// Resume lifts everything: the pause, a breaker and a hold, of each receiver. What fails in
// between can be asked for again.
func TestResumeLiftsEverything(t *testing.T) {
	for name, fresh := range backends {
		t.Run(name, func(t *testing.T) {
			f := fresh(t)
			var log bytes.Buffer
			f.app.Log = slog.New(slog.NewJSONHandler(&log, nil))
			f.add(t, item(1))
			f.receiver(t, "sink", open)
			f.receiver(t, "https://a.example", open)
			f.receiver(t, "https://b.example", func(s *flow.State, now int64) { s.Held, s.HeldAt = now+60_000, now })
			f.ask(t, "POST", "/v1/sinks/hook/pause", "").want(200, "")

			g := f.fragile(t)
			g.lift = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "its slot moves"}
			f.ask(t, "POST", "/v1/sinks/hook/resume", "").want(503, "SINK_DLQ_UNAVAILABLE")
			if got := f.shown(t)["hook"]; !got.Paused || strings.Contains(log.String(), "resumed") {
				t.Errorf("after a failure: %+v, log %s", got, &log)
			}
			g.lift = nil
			var got shownSink
			f.ask(t, "POST", "/v1/sinks/hook/resume", "").want(200, "").into(&got)
			if got.Paused || got.State != "open" || got.NextProbe.After(time.Now()) {
				t.Errorf("the answer is %+v", got)
			}
			if len(got.Receivers) != 1 || got.Receivers[0].Name != "https://a.example" {
				t.Errorf("receivers that are not well: %+v, want the one that is to be probed", got.Receivers)
			}
			l := f.app.Gate.Ask(t.Context(), flow.Try{Sink: "hook", Delivery: "d", End: time.Now().Add(time.Minute)})
			if l.Verdict != flow.Go || !l.Probe {
				t.Errorf("the next delivery: %+v, want the probe", l)
			}
			for _, want := range []string{`"msg":"sink paused","sink":"hook"`, `"msg":"sink resumed","sink":"hook"`} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log lacks %s: %s", want, &log)
				}
			}
		})
	}
}

// jammed is a queue that pauses nothing.
type jammed struct{ dlq.Store }

func (jammed) Pause(context.Context, string, bool) error {
	return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "its slot moves"}
}

func TestAResumeThatEndsHalfwayIsAnError(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	f.receiver(t, "sink", open)
	f.ask(t, "POST", "/v1/sinks/hook/pause", "").want(200, "")
	all := f.app.Queue
	f.read(t, jammed{all})
	f.ask(t, "POST", "/v1/sinks/hook/resume", "").want(503, "SINK_DLQ_UNAVAILABLE")
	if got := f.shown(t)["hook"]; got.State != "paused" {
		t.Errorf("it is %s, want paused", got.State)
	}
	f.read(t, all)
	var got shownSink
	f.ask(t, "POST", "/v1/sinks/hook/resume", "").want(200, "").into(&got)
	if got.Paused || got.State != "open" {
		t.Errorf("after another try: %+v", got)
	}
}
