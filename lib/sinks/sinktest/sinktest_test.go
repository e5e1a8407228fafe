package sinktest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/sinks"
)

// recorder is a testing.TB that keeps what it is told instead of failing.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// all runs every check and row of the suite against h and returns what they say. The
// destination is in memory, so that the suite's patience costs no time.
func all(t *testing.T, h Harness) string {
	t.Helper()
	r := &recorder{}
	synctest.Test(t, func(t *testing.T) {
		r.TB = t
		var wg sync.WaitGroup
		for _, c := range checks {
			wg.Go(func() { c.run(r, h) })
		}
		for _, row1 := range h.Rows {
			wg.Go(func() { row(r, h, row1) })
		}
		wg.Wait()
	})
	return strings.Join(r.failures, "\n")
}

// fake is a sink with a destination in memory. Its faults are what the suite must
// notice.
type fake struct {
	b     Behaviour
	fault string

	mu       sync.Mutex
	attempts int
	accepted []string
	dialled  int
	open     int
}

const fakeSecret = "s3cret"

func (f *fake) Name() string { return "fake" }

func (f *fake) Validate(_ sinks.Recipient, m sinks.Message) error {
	if f.fault == "validate accepts what send refuses" {
		return nil
	}
	return validate(m)
}

func validate(m sinks.Message) error {
	for _, s := range []string{m.ID, m.Subject, fmt.Sprint(m.Metadata)} {
		if strings.ContainsAny(s, "\r\n\x00") || len(s) > 1<<16 {
			return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: "message: no"})
		}
	}
	return nil
}

func (f *fake) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	if f.fault == "takes any recipient" {
		return string(raw), nil
	}
	if s := strings.TrimSpace(string(raw)); s == "" || s == "null" {
		return nil, nil
	}
	return nil, sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: "recipient: none is taken"})
}

func (f *fake) Preview(_ context.Context, _ sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	switch f.fault {
	case "previews a secret":
		return sinks.Preview{URL: "https://x.example/" + fakeSecret, Body: m.Body}, nil
	case "previews an encoded secret":
		return sinks.Preview{Header: map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(fakeSecret))}, Body: m.Body}, nil
	case "previews nothing":
		return sinks.Preview{}, nil
	case "previews by sending":
		f.take(m.Body, true)
	}
	return sinks.Preview{Body: m.Body}, validate(m)
}

func (f *fake) take(text string, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts++
	if whole {
		f.accepted = append(f.accepted, text)
	}
}

func (f *fake) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	unavailable := func(why string) error { return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: why} }
	switch f.fault {
	case "panics":
		panic("no")
	case "changes the message":
		m.Metadata["seen"] = "yes"
	case "hostile messages pass":
		f.take("Subject: "+m.Subject+"\r\n\r\n"+m.Body, true)
		return nil
	case "sends after the end":
	default:
		if ctx.Err() != nil {
			return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "ended", Cause: ctx.Err()}
		}
	}
	if to != nil {
		return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: "recipient: none is taken"})
	}
	if err := validate(m); err != nil {
		return err
	}
	text := "Subject: " + m.Subject + "\r\n\r\n" + m.Body
	f.mu.Lock()
	f.dialled++
	f.mu.Unlock()
	switch f.b {
	case Accept:
		f.take(text, true)
		if f.fault == "delivers twice" {
			f.take(text, true)
		}
		return nil
	case HangEarly:
		<-ctx.Done()
		return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "ended", Cause: ctx.Err()}
	case HangLate:
		f.take(text, true)
		<-ctx.Done()
		if f.fault == "calls an unknown outcome transient" {
			return sinks.Transient(unavailable("no answer"))
		}
		return sinks.Ambiguous(unavailable("no answer"))
	case "never end":
		f.take(text, true)
		if f.fault == "leaves a connection behind" {
			f.mu.Lock()
			f.open++
			f.mu.Unlock()
		}
		if f.fault != "takes what never ends for a delivery" {
			<-ctx.Done()
			return sinks.Ambiguous(unavailable("no answer"))
		}
		return nil
	case Endless:
		f.take(text, true)
		if f.fault == "listens to an endless answer" {
			<-ctx.Done()
		}
		return nil
	case "503":
		f.take(text, true)
		switch f.fault {
		case "no mark":
			return unavailable("HTTP 503")
		case "no code":
			return sinks.Transient(errors.New("HTTP 503"))
		case "another code":
			return sinks.Transient(&sinks.Error{Code: sinks.CodeInternal, Msg: "HTTP 503"})
		case "terminal instead of transient":
			return sinks.Terminal(unavailable("HTTP 503"))
		case "forgets Retry-After":
			return sinks.Transient(unavailable("HTTP 503"))
		case "shows a secret":
			return sinks.RetryAfter(unavailable("HTTP 503 from https://x.example/"+fakeSecret), time.Second)
		case "wraps a deadline of its own":
			return sinks.Transient(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "HTTP 503", Cause: context.DeadlineExceeded})
		case "retries by itself":
			f.take(text, true)
		}
		return sinks.RetryAfter(unavailable("HTTP 503"), time.Second)
	}
	return sinks.Terminal(unavailable("nothing known"))
}

func harness(fault string) Harness {
	without := map[Behaviour]string{}
	for b := range fixed {
		if b != Accept && b != HangEarly && b != HangLate && b != Endless {
			without[b] = "a fake in memory has no connection"
		}
	}
	return Harness{
		Name: "fake",
		Open: func(_ testing.TB, b Behaviour) *Destination {
			f := &fake{b: b, fault: fault}
			return &Destination{
				Sink:        f,
				Attempts:    func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.attempts },
				Accepted:    func() []string { f.mu.Lock(); defer f.mu.Unlock(); return f.accepted },
				Connections: func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.dialled },
				Open:        func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.open },
			}
		},
		Message: func(marker string) sinks.Message {
			return sinks.Message{Subject: "s", Body: marker, Metadata: map[string]string{"k": "v"}}
		},
		Rows: []Row{
			{Does: Accept, Want: Delivered},
			{Does: HangEarly, Want: Ended},
			{Does: HangLate, Want: Ambiguous},
			{Does: Endless, Want: Delivered},
			{Does: "never end", Want: Ambiguous},
			{Does: "503", Want: Transient, Text: "HTTP 503", RetryAfter: time.Second},
		},
		Without:     without,
		NeverEnding: []Behaviour{"never end"},
		Secrets:     []string{fakeSecret},
	}
}

func TestSuitePassesASoundSink(t *testing.T) {
	if got := all(t, harness("")); got != "" {
		t.Errorf("the suite found:\n%s", got)
	}
	Run(t, harness(""))
}

func TestSuiteNoticesEveryFault(t *testing.T) {
	for fault, want := range map[string]string{
		"panics":                               "Send panicked",
		"changes the message":                  "Send changed the message",
		"hostile messages pass":                "a line of its own arrived",
		"validate accepts what send refuses":   "Validate did not",
		"takes any recipient":                  "want an error",
		"sends after the end":                  "wraps context.Canceled",
		"delivers twice":                       "want one with the marker",
		"calls an unknown outcome transient":   "want ambiguous",
		"no mark":                              "has no mark",
		"no code":                              "has no code",
		"another code":                         "want SINK_UNAVAILABLE",
		"terminal instead of transient":        "got terminal",
		"forgets Retry-After":                  "asks to wait 0s, want 1s",
		"shows a secret":                       "shows a secret",
		"wraps a deadline of its own":          "hides the mark",
		"listens to an endless answer":         "held Send until its context ended",
		"takes what never ends for a delivery": "got nil, want an error",
		"leaves a connection behind":           "outlive the Send",
		"retries by itself":                    "one Send made 2 attempts",
		"previews a secret":                    "Preview shows a secret",
		"previews an encoded secret":           "Preview shows a secret",
		"previews nothing":                     "Preview does not show the message",
		"previews by sending":                  "Preview made 1 attempts",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			if got := all(t, harness(fault)); !strings.Contains(got, want) {
				t.Errorf("the suite does not say %q:\n%s", want, got)
			}
		})
	}
}

func TestSuiteWantsEveryBehaviourOrAReason(t *testing.T) {
	h := harness("")
	delete(h.Without, Refuse)
	h.Without[Accept] = "no"
	h.Rows[2].Want = Transient
	h.NeverEnding = append(h.NeverEnding, "never end either")
	got := all(t, h)
	for _, want := range []string{
		`no row for "refuse connections"`, `"accept" has a row and is in Without`, `the contract allows [ambiguous]`,
		`"never end either" is in NeverEnding, and the table has no row`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the suite does not say %q:\n%s", want, got)
		}
	}
}
