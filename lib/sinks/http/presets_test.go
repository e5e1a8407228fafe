package http

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
)

// played is testdata/answers/<kind>.yaml: what a provider answers, by its documentation.
type played struct {
	Source     Source
	Parameters map[string]any
	Recipient  map[string]string
	Message    *struct {
		Subject, Body string
		Metadata      map[string]string
	}
	ExpiresIn time.Duration `yaml:"expires_in"`
	Group     string
	Request   struct {
		Path, Method string
		Headers      map[string]string
		Body         any
	}
	Answers []playedAnswer
}

type playedAnswer struct {
	Name       string
	Status     int
	Headers    map[string]string
	Body       any
	Want       string
	Text       string
	RetryAfter time.Duration `yaml:"retry_after"`
	Hold       bool
}

const (
	playedID   = "order-42"
	playedSink = "ops"
)

func (p *played) message() sinks.Message {
	m := sinks.Message{ID: playedID, Subject: "Order", Body: "hello"}
	if p.Message != nil {
		m.Subject, m.Body, m.Metadata = p.Message.Subject, p.Message.Body, p.Message.Metadata
	}
	return m
}

func (p *played) to() sinks.Recipient {
	if p.Recipient == nil {
		return nil
	}
	return Recipient(p.Recipient)
}

// accepted is when the message was accepted.
var accepted = time.Date(2026, 11, 27, 7, 0, 0, 0, time.UTC)

func (p *played) ctx(ctx context.Context) context.Context {
	d := sinks.Delivery{Group: p.Group, AcceptedAt: accepted}
	if p.ExpiresIn > 0 {
		d.ExpiresAt = time.Now().Add(p.ExpiresIn + 900*time.Millisecond)
	}
	return sinks.WithDelivery(ctx, d)
}

// open reads what is played for a kind, for a server at url.
func open(tb testing.TB, kind, url string) *played {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "answers", kind+".yaml"))
	if err != nil {
		tb.Fatalf("nothing is played for the preset: %v", err)
	}
	v := &values{sink: playedSink, m: sinks.Message{ID: playedID}}
	d := yaml.NewDecoder(strings.NewReader(strings.NewReplacer(
		"$(server)", url, "$(time)", accepted.Format(time.RFC3339), "$(id.hash)", v.id("hash"), "$(id.uuid)", v.id("uuid"), "$(id)", playedID).Replace(string(text))))
	d.KnownFields(true)
	var p played
	if err := d.Decode(&p); err != nil {
		tb.Fatalf("testdata/answers/%s.yaml: %v", kind, err)
	}
	return &p
}

// sink makes the preset's sink that sends to url.
func (p *played) sink(tb testing.TB, kind, url string) *Sink {
	tb.Helper()
	_, doc, err := Preset(kind)
	if err != nil {
		tb.Fatalf("the preset cannot be read: %v", err)
	}
	given := map[string]any{}
	if _, ok := doc.Parameters["base_url"]; ok {
		given["base_url"] = url
	}
	for name, value := range p.Parameters {
		given[name] = value
	}
	s, err := build(kind, playedSink, &doc, given, &Options{Sign: func(_ context.Context, r *nethttp.Request, _ []byte, service, region string) error {
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/"+region+"/"+service+"/aws4_request")
		return nil
	}})
	if err != nil {
		tb.Fatalf("the preset makes no sink: %v", err)
	}
	return s
}

func (a playedAnswer) text(tb testing.TB) string {
	tb.Helper()
	switch body := a.Body.(type) {
	case nil:
		return ""
	case string:
		return body
	default:
		b, err := json.Marshal(body)
		if err != nil {
			tb.Fatalf("answer %s: %v", a.Name, err)
		}
		return string(b)
	}
}

func (a playedAnswer) handler(tb testing.TB) nethttp.HandlerFunc {
	tb.Helper()
	body := a.text(tb)
	return func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		if _, isText := a.Body.(string); !isText && a.Body != nil {
			w.Header().Set("Content-Type", "application/json")
		}
		for name, value := range a.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(a.Status)
		_, _ = io.WriteString(w, body)
	}
}

var wanted = map[string]sinktest.Outcome{
	delivered: sinktest.Delivered, transient: sinktest.Transient, terminal: sinktest.Terminal, gone: sinktest.Terminal, ambiguous: sinktest.Ambiguous,
}

// Every preset passes the whole contract, and judges its provider's answers as its documentation
// says.
func TestPresets(t *testing.T) {
	for _, kind := range Presets() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			described(t, kind)
			t.Run("request", func(t *testing.T) { requested(t, kind) })
			for i, a := range open(t, kind, "http://127.0.0.1").Answers {
				t.Run("answer/"+a.Name, func(t *testing.T) { answered(t, kind, i) })
			}
			conforms(t, kind)
		})
	}
}

// described checks that a preset says what it is, and where its facts are from.
func described(t *testing.T, kind string) {
	t.Helper()
	text, doc, err := Preset(kind)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines > 50 {
		t.Errorf("it has %d lines", lines)
	}
	p := open(t, kind, "http://127.0.0.1")
	for what, s := range map[string]Source{"the preset": doc.Source, "what is played": p.Source} {
		if _, err := time.Parse(time.DateOnly, s.Read); err != nil || !strings.HasPrefix(s.Page, "https://") {
			t.Errorf("%s names no page and day: %+v", what, s)
		}
	}
	if doc.About == "" {
		t.Error("it has no about")
	}
	for name, param := range doc.Parameters {
		if param.About == "" {
			t.Errorf("parameter %s has no about", name)
		}
		if param.Required && param.Example.Secret == "" {
			t.Errorf("parameter %s is required and has no example", name)
		}
	}
	names := map[string]bool{}
	for i, a := range p.Answers {
		if i == 0 && a.Want != delivered {
			t.Error("the first answer is no success")
		}
		if names[a.Name] {
			t.Errorf("two answers are called %s", a.Name)
		}
		names[a.Name] = true
	}
	for _, name := range []string{"ok", "throttled", "malformed", "unauthorized", "outage"} {
		if !names[name] {
			t.Errorf("no answer %q is played", name)
		}
	}
}

// requested checks the request that arrives.
func requested(t *testing.T, kind string) {
	t.Helper()
	p := open(t, kind, "http://127.0.0.1")
	server := sinktest.NewHTTPServer(t, "ok", "", map[sinktest.Behaviour]nethttp.HandlerFunc{"ok": p.Answers[0].handler(t)})
	p = open(t, kind, server.URL)
	s := p.sink(t, kind, server.URL)
	if err := sinks.Validate(s, p.to(), p.message()); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	if err := s.Send(p.ctx(t.Context()), p.to(), p.message()); err != nil {
		t.Fatalf("Send: %v", err)
	}
	got := server.Accepted()
	if len(got) != 1 {
		t.Fatalf("%d requests arrived", len(got))
	}
	r, err := nethttp.ReadRequest(bufio.NewReader(strings.NewReader(got[0])))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.RequestURI != p.Request.Path {
		t.Errorf("it went to %s, want %s", r.RequestURI, p.Request.Path)
	}
	if want := p.Request.Method; want != "" && r.Method != want || want == "" && r.Method != nethttp.MethodPost {
		t.Errorf("the method is %s", r.Method)
	}
	for name, want := range p.Request.Headers {
		if got := r.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if want, isText := p.Request.Body.(string); isText {
		if string(body) != want {
			t.Errorf("the body is %s, want %s", body, want)
		}
		return
	}
	var arrived, want any
	b, err := json.Marshal(p.Request.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &arrived); err != nil {
		t.Fatalf("the body is no JSON: %s", body)
	}
	if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(arrived, want) {
		t.Errorf("the body is %s, want %s", body, b)
	}
}

// answered checks what one answer is taken for.
func answered(t *testing.T, kind string, i int) {
	t.Helper()
	a := open(t, kind, "http://127.0.0.1").Answers[i]
	server := sinktest.NewHTTPServer(t, "it", "", map[sinktest.Behaviour]nethttp.HandlerFunc{"it": a.handler(t)})
	p := open(t, kind, server.URL)
	err := p.sink(t, kind, server.URL).Send(p.ctx(t.Context()), p.to(), p.message())
	outcome := terminal
	switch {
	case err == nil:
		outcome = delivered
	case sinks.IsAmbiguous(err):
		outcome = ambiguous
	case sinks.IsGone(err):
		outcome = gone
	case sinks.IsTransient(err):
		outcome = transient
	}
	if outcome != a.Want {
		t.Errorf("got %s (%v), want %s", outcome, err, a.Want)
	}
	if err != nil && !strings.Contains(err.Error(), a.Text) {
		t.Errorf("the error %q does not say %q", err, a.Text)
	}
	if wait := sinks.RetryAfterOf(err); wait != a.RetryAfter {
		t.Errorf("it asks to wait %s, want %s", wait, a.RetryAfter)
	}
	if hold := sinks.HoldOf(err) > 0; hold != a.Hold {
		t.Errorf("it holds everybody: %t, want %t", hold, a.Hold)
	}
	for _, s := range p.hidden(t, kind) {
		if err != nil && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), s) {
			t.Errorf("the error shows %q: %v", s, err)
		}
	}
}

// hidden are the values that no text may show.
func (p *played) hidden(tb testing.TB, kind string) []string {
	tb.Helper()
	_, doc, err := Preset(kind)
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for name, value := range p.Parameters {
		text, isText := value.(string)
		if !isText {
			continue
		}
		switch doc.Parameters[name].Type {
		case typeSecret:
			all = append(all, text)
		case typeURL: // shown as scheme and host
			if _, path, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(text, "http://"), "https://"), "/"); ok {
				all = append(all, path)
			}
		}
	}
	for _, value := range p.Recipient {
		all = append(all, value)
	}
	all = append(all, p.message().Body)
	return slices.DeleteFunc(all, func(s string) bool { return len(s) < 5 })
}

// conforms runs the contract of every sink.
func conforms(t *testing.T, kind string) {
	t.Helper()
	first := open(t, kind, "http://127.0.0.1").Answers[0]
	ok := first.text(t)
	fromHead := ambiguous // what a success means whose body says nothing
	if s := open(t, kind, "http://127.0.0.1").sink(t, kind, "http://127.0.0.1"); !s.verdict.delivered ||
		slices.ContainsFunc(s.verdict.rules, func(r rule) bool { return r.then == delivered && r.json == nil }) {
		fromHead = delivered
	}
	message := open(t, kind, "http://127.0.0.1").message()
	var hidden []string
	for _, s := range open(t, kind, "http://127.0.0.1").hidden(t, kind) {
		if s != message.Body {
			hidden = append(hidden, s)
		}
	}
	sinktest.Run(t, sinktest.Harness{
		Name: playedSink,
		Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
			tb.Helper()
			server := sinktest.NewHTTPServerWith(tb, b, first.Status, ok, nil)
			return server.Destination(open(tb, kind, server.URL).sink(tb, kind, server.URL))
		},
		Recipient: open(t, kind, "http://127.0.0.1").to(),
		Message: func(marker string) sinks.Message {
			m := message
			m.ID, m.Body = "", strings.TrimSpace(m.Body+" "+marker)
			return m
		},
		Rows: []sinktest.Row{
			{Does: sinktest.Accept, Want: sinktest.Delivered},
			{Does: sinktest.Refuse, Want: sinktest.Transient, Text: "connection refused"},
			{Does: sinktest.ResetEarly, Want: sinktest.Transient},
			{Does: sinktest.ResetLate, Want: sinktest.Ambiguous, Text: "sent and not answered"},
			{Does: sinktest.HangEarly, Want: sinktest.Ended},
			{Does: sinktest.HangLate, Want: sinktest.Ambiguous, Text: "timed out"},
			{Does: sinktest.Garbage, Want: sinktest.Ambiguous},
			{Does: sinktest.Drip, Want: sinktest.Delivered},
			{Does: sinktest.Endless, Want: wanted[fromHead]},
			{Does: sinktest.Huge, Want: wanted[fromHead]},
			{Does: sinktest.Compressed, Want: wanted[fromHead]},
			{Does: sinktest.HangHandshake, Want: sinktest.Ended},
			{Does: sinktest.Switch, Want: sinktest.Terminal, Text: "HTTP 101"},
			{Does: sinktest.EndlessHead, Want: sinktest.Ambiguous},
			{Does: sinktest.EndlessInterim, Want: sinktest.Ambiguous},
		},
		Reuses:  true,
		Secrets: hidden,
	})
}
