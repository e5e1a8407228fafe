package sinktest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

var checks = []check{
	{"complete", "the kind's table covers every behaviour, or says why not", complete},
	{"name", "a sink has the name that it was given, and prints no secret", named},
	{"delivers", "a message that is accepted arrives once, in one attempt", delivers},
	{"ended_context", "nothing is sent when the context has ended before", endedContext},
	{"canceled_early", "a canceled context ends a Send that waits for the destination, at once", canceledEarly},
	{"canceled_late", "a context that ends after the message was sent leaves the outcome unknown", canceledLate},
	{"canceled_endless", "a canceled context ends a Send whose destination never ends, and its connection", canceledEndless},
	{"concurrent", "a sink is safe for concurrent use", concurrent},
	{"connections", "connections are reused, or closed by the Send that made them", connections},
	{"hostile", "no message breaks out of its fields: it arrives as it is, or it is refused as INVALID_ARGUMENT before anything is sent, by Validate too", hostile},
	{"previewed", "a sink that shows what it would send shows the message, and no secret, and sends nothing", previewed},
	{"recipients", "a recipient of another shape is refused as INVALID_ARGUMENT", recipients},
}

func background(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ample)
	tb.Cleanup(cancel)
	return ctx
}

// row checks one row of the kind's table. Only a destination that does not come to an
// answer holds a Send until its context ends: whatever else comes must be judged within a
// few seconds. Nothing of what never ends stays when the Send is over.
func row(tb testing.TB, h Harness, r Row) {
	tb.Helper()
	d := h.Open(tb, r.Does)
	ctx := background(tb)
	hangs := h.hangs(r.Does)
	if hangs {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, brief)
		defer cancel()
	}
	err := attempt(ctx, tb, h, d, h.to(d), message(h, "row-1"))
	if !hangs && ctx.Err() != nil {
		tb.Errorf("a destination that does %q held Send until its context ended", r.Does)
	}
	if got := outcome(err); got != r.Want {
		tb.Errorf("a destination that does %q: got %s (%v), want %s", r.Does, got, err, r.Want)
	}
	if err != nil {
		if !strings.Contains(err.Error(), r.Text) {
			tb.Errorf("the error %q does not say %q", err, r.Text)
		}
		if got := sinks.CodeOf(err); got != sinks.CodeSinkUnavailable {
			tb.Errorf("the error's code is %s, want %s: %v", got, sinks.CodeSinkUnavailable, err)
		}
	}
	if got := sinks.RetryAfterOf(err); got != r.RetryAfter {
		tb.Errorf("the error asks to wait %s, want %s", got, r.RetryAfter)
	}
	if got := d.Attempts(); got > 1 {
		tb.Errorf("one Send made %d attempts", got)
	}
	if d.Connections != nil && d.Connections() > 1 {
		tb.Errorf("one Send made %d connections", d.Connections())
	}
	if h.neverEnds(r.Does) {
		over(tb, d, r.Does)
	}
}

// over checks that an ended Send has left no connection to a destination that never ends.
func over(tb testing.TB, d *Destination, b Behaviour) {
	tb.Helper()
	if d.Open != nil && !eventually(tb.Context(), func() bool { return d.Open() == 0 }) {
		tb.Errorf("a destination that does %q: %d connections outlive the Send", b, d.Open())
	}
}

func named(tb testing.TB, h Harness) {
	tb.Helper()
	d := h.Open(tb, Accept)
	if got := d.Sink.Name(); got != h.Name {
		tb.Errorf("Name() = %q, want %q", got, h.Name)
	}
	if err := fault.CheckName(d.Sink.Name()); err != nil {
		tb.Errorf("Name() is no name: %v", err)
	}
	secret(tb, h, "the sink", d.Sink)
}

func previewed(tb testing.TB, h Harness) {
	tb.Helper()
	d := h.Open(tb, Accept)
	p, shown, err := sinks.PreviewOf(background(tb), d.Sink, h.to(d), message(h, "marker-1"))
	if err != nil {
		tb.Fatalf("Preview: %v", err)
	}
	if got := d.Attempts(); got != 0 {
		tb.Errorf("Preview made %d attempts", got)
	}
	if !shown {
		return
	}
	if !strings.Contains(p.Body, "marker-1") {
		tb.Errorf("Preview does not show the message: %.500q", p.Body)
	}
	text := fmt.Sprintf("%s %s %v %s", p.Method, p.URL, p.Header, p.Body)
	given, err := json.Marshal(h.to(d)) // whoever asks has it
	if err != nil {
		tb.Fatalf("the recipient is no JSON: %v", err)
	}
	for _, s := range h.Secrets {
		if strings.Contains(string(given), s) {
			continue
		}
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.Contains(text, form) {
				tb.Errorf("Preview shows a secret: %.500q", text)
			}
		}
	}
}

func delivers(tb testing.TB, h Harness) {
	tb.Helper()
	d := h.Open(tb, Accept)
	m := message(h, "marker-1")
	if err := sinks.Validate(d.Sink, h.to(d), m); err != nil {
		tb.Errorf("Validate: %v", err)
	}
	if got := d.Attempts(); got != 0 {
		tb.Errorf("Validate made %d attempts", got)
	}
	if err := attempt(background(tb), tb, h, d, h.to(d), m); err != nil {
		tb.Fatalf("Send: %v", err)
	}
	if a, got := d.Attempts(), d.Accepted(); a != 1 || len(got) != 1 || !strings.Contains(got[0], "marker-1") {
		tb.Errorf("%d attempts, %d messages arrived, want one with the marker: %.500q", a, len(got), got)
	}
}

func endedContext(tb testing.TB, h Harness) {
	tb.Helper()
	d := h.Open(tb, Accept)
	ctx, cancel := context.WithCancel(background(tb))
	cancel()
	err := attempt(ctx, tb, h, d, h.to(d), message(h, "ended-1"))
	if !errors.Is(err, context.Canceled) || sinks.IsAmbiguous(err) {
		tb.Errorf("got %v, want an error that wraps context.Canceled", err)
	}
	if got := d.Attempts(); got != 0 {
		tb.Errorf("%d attempts were made", got)
	}
}

func canceledEarly(tb testing.TB, h Harness) {
	tb.Helper()
	if h.Without[HangEarly] != "" {
		return
	}
	d := h.Open(tb, HangEarly)
	ctx, cancel := context.WithCancel(background(tb))
	defer cancel()
	go func() {
		defer cancel()
		if d.Connections != nil {
			eventually(ctx, func() bool { return d.Connections() > 0 })
		}
	}()
	err := attempt(ctx, tb, h, d, h.to(d), message(h, "early-1"))
	if !errors.Is(err, context.Canceled) {
		tb.Errorf("got %v, want an error that wraps context.Canceled", err)
	}
}

func canceledLate(tb testing.TB, h Harness) {
	tb.Helper()
	if h.Without[HangLate] != "" {
		return
	}
	d := h.Open(tb, HangLate)
	ctx, cancel := context.WithCancel(background(tb))
	defer cancel()
	go func() {
		defer cancel()
		eventually(ctx, func() bool { return len(d.Accepted()) > 0 })
	}()
	if err := attempt(ctx, tb, h, d, h.to(d), message(h, "late-1")); !sinks.IsAmbiguous(err) {
		tb.Errorf("got %v, want an ambiguous error", err)
	}
}

func canceledEndless(tb testing.TB, h Harness) {
	tb.Helper()
	for _, r := range h.Rows {
		if !h.hangs(r.Does) {
			continue
		}
		d := h.Open(tb, r.Does)
		ctx, cancel := context.WithCancel(background(tb))
		go func() {
			defer cancel()
			if d.Connections != nil {
				eventually(ctx, func() bool { return d.Connections() > 0 })
			}
			if slices.Contains(fixed[r.Does], Ambiguous) {
				eventually(ctx, func() bool { return len(d.Accepted()) > 0 })
			}
		}()
		err := attempt(ctx, tb, h, d, h.to(d), message(h, "endless-1"))
		cancel()
		if err == nil {
			tb.Errorf("a destination that does %q: got nil, want an error", r.Does)
		}
		over(tb, d, r.Does)
	}
}

func concurrent(tb testing.TB, h Harness) {
	tb.Helper()
	const n = 16
	d := h.Open(tb, Accept)
	ctx := background(tb)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := attempt(ctx, tb, h, d, h.to(d), message(h, fmt.Sprintf("many-%d-", i))); err != nil {
				tb.Errorf("message %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	got := d.Accepted()
	for i := range n {
		marker, found := fmt.Sprintf("many-%d-", i), 0
		for _, text := range got {
			if strings.Contains(text, marker) {
				found++
			}
		}
		if found != 1 {
			tb.Errorf("message %d arrived %d times", i, found)
		}
	}
}

func connections(tb testing.TB, h Harness) {
	tb.Helper()
	const n = 5
	d := h.Open(tb, Accept)
	if d.Connections == nil {
		return
	}
	for i := range n {
		if err := attempt(background(tb), tb, h, d, h.to(d), message(h, fmt.Sprintf("next-%d", i))); err != nil {
			tb.Fatalf("message %d: %v", i, err)
		}
	}
	switch got := d.Connections(); {
	case h.Reuses && got != 1:
		tb.Errorf("%d messages in a row took %d connections, want 1", n, got)
	case !h.Reuses && got != n:
		tb.Errorf("%d messages took %d connections, want one each", n, got)
	case !h.Reuses && !eventually(tb.Context(), func() bool { return d.Open() == 0 }):
		tb.Errorf("%d connections stay open", d.Open())
	}
}

// hostileCase is a message that tries to break out of its fields.
type hostileCase struct {
	name   string
	change func(*sinks.Message)
}

func hostileCases() []hostileCase {
	const inject = "\r\nInjected: yes\r\n\r\nInjected: yes"
	big := strings.Repeat("x", 1<<20)
	meta := func(k, v string) func(*sinks.Message) {
		return func(m *sinks.Message) { m.Metadata = map[string]string{k: v} }
	}
	return []hostileCase{
		{"CR LF in the id", func(m *sinks.Message) { m.ID = "a" + inject }},
		{"NUL in the id", func(m *sinks.Message) { m.ID = "a\x00b" }},
		{"a dot in the id", func(m *sinks.Message) { m.ID = "a.b" }},
		{"a huge id", func(m *sinks.Message) { m.ID = big }},
		{"no id", func(m *sinks.Message) { m.ID = "" }},
		{"CR LF in the subject", func(m *sinks.Message) { m.Subject = "a" + inject }},
		{"LF in the subject", func(m *sinks.Message) { m.Subject = "a\nInjected: yes" }},
		{"CR in the subject", func(m *sinks.Message) { m.Subject = "a\rInjected: yes" }},
		{"NUL in the subject", func(m *sinks.Message) { m.Subject = "a\x00b" }},
		{"invalid UTF-8 in the subject", func(m *sinks.Message) { m.Subject = "a\xff\xfe" }},
		{"an encoded word in the subject", func(m *sinks.Message) { m.Subject = "=?utf-8?q?a=0D=0AInjected:_yes?=" }},
		{"a subject of 1 MiB", func(m *sinks.Message) { m.Subject = big }},
		{"invalid UTF-8 in the body", func(m *sinks.Message) { m.Body += "\xff\xfe" }},
		{"NUL in the body", func(m *sinks.Message) { m.Body += "\x00" }},
		{"an SMTP end in the body", func(m *sinks.Message) { m.Body += "\r\n.\r\nMAIL FROM:<a@example.org>\r\n" }},
		{"a body of 1 MiB", func(m *sinks.Message) { m.Body += big }},
		{"an empty body", func(m *sinks.Message) { m.Body = "" }},
		{"CR LF in a metadata value", meta("x-note", "a"+inject)},
		{"LF in a metadata value", meta("x-note", "a\nInjected: yes")},
		{"NUL in a metadata value", meta("x-note", "a\x00b")},
		{"invalid UTF-8 in a metadata value", meta("x-note", "a\xff")},
		{"a metadata value of 1 MiB", meta("x-note", big)},
		{"CR LF in a metadata key", meta("x-note: a\r\nInjected", "yes")},
		{"a colon in a metadata key", meta("x-note: a", "b")},
		{"an empty metadata key", meta("", "b")},
		{"a metadata key of 1 MiB", meta(big, "b")},
		{"metadata keys that differ in case", func(m *sinks.Message) { m.Metadata = map[string]string{"x-note": "a", "X-Note": "b"} }},
		{"metadata that frames the request", meta("Content-Length", "1")},
		{"metadata that chunks the request", meta("Transfer-Encoding", "chunked")},
		{"blocks that are not JSON", meta("blocks", "[{")},
	}
}

// hostile messages are delivered or refused, and none becomes a line of its own on the wire.
func hostile(tb testing.TB, h Harness) {
	tb.Helper()
	for i, c := range hostileCases() {
		m := message(h, fmt.Sprintf("hostile-%d", i))
		c.change(&m)
		d := h.Open(tb, Accept)
		valid := sinks.Validate(d.Sink, h.to(d), m)
		sound(tb, valid)
		secret(tb, h, "the validation error", valid)
		err := attempt(background(tb), tb, h, d, h.to(d), m)
		deliveredOrRefused(tb, c.name, d, valid, err)
		for _, text := range d.Accepted() {
			for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\r' || r == '\n' }) {
				if strings.HasPrefix(strings.ToLower(line), "injected") {
					tb.Errorf("%s: a line of its own arrived: %.100q", c.name, line)
				}
			}
		}
	}
}

// deliveredOrRefused checks that Send (err) and Validate (valid) agree about a message.
func deliveredOrRefused(tb testing.TB, name string, d *Destination, valid, err error) {
	tb.Helper()
	switch {
	case err == nil:
		if valid != nil {
			tb.Errorf("%s: Validate refused it (%v), Send delivered it", name, valid)
		}
		if a, got := d.Attempts(), d.Accepted(); a != 1 || len(got) != 1 {
			tb.Errorf("%s: %d attempts, %d messages arrived, want 1", name, a, len(got))
		}
	case sinks.CodeOf(err) != sinks.CodeInvalidArgument || outcome(err) != Terminal:
		tb.Errorf("%s: got %.300q, want a delivery or a terminal %s", name, err.Error(), sinks.CodeInvalidArgument)
	case d.Attempts() != 0:
		tb.Errorf("%s: refused after something was sent: %v", name, err)
	case valid == nil:
		if _, ok := sinkAs[sinks.Validator](d.Sink); ok {
			tb.Errorf("%s: Send refused it (%v), Validate did not", name, err)
		}
	}
	if err != nil && len(err.Error()) > 1000 {
		tb.Errorf("%s: the error's text has %d bytes", name, len(err.Error()))
	}
}

func recipients(tb testing.TB, h Harness) {
	tb.Helper()
	d := h.Open(tb, Accept)
	for _, raw := range []string{
		"{", "[]", "1", `"text"`, "true", `{"nope":1}`, `{"nope":null}`, "[1,{}]", "\xff", "{}{}",
		`{"url":1,"address":1}`, `{"url":"","address":"","nope":""}`, `{"x":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		to, err := sinks.DecodeRecipient(d.Sink, []byte(raw))
		if err == nil && to != nil {
			tb.Errorf("DecodeRecipient(%.60q) = %v, want an error", raw, to)
		}
		if err != nil && sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			tb.Errorf("DecodeRecipient(%.60q): %v, want %s", raw, err, sinks.CodeInvalidArgument)
		}
		secret(tb, h, "the error", err)
	}
	for _, raw := range []string{"", "null", " null "} {
		if to, err := sinks.DecodeRecipient(d.Sink, []byte(raw)); to != nil || err != nil {
			tb.Errorf("DecodeRecipient(%q) = %v, %v, want nil, nil", raw, to, err)
		}
	}
	storedRecipients(tb, h, d)
	type stranger struct{}
	before := d.Attempts()
	err := attempt(background(tb), tb, h, d, stranger{}, message(h, "stranger-1"))
	if err != nil && sinks.CodeOf(err) != sinks.CodeInvalidArgument {
		tb.Errorf("Send to a foreign recipient: %v, want %s", err, sinks.CodeInvalidArgument)
	}
	if err != nil && d.Attempts() != before {
		tb.Errorf("Send to a foreign recipient sent something: %v", err)
	}
}

// storedRecipients reads the harness's recipient as other programs store one: from a
// struct without tags, whose names begin with a capital.
func storedRecipients(tb testing.TB, h Harness, d *Destination) {
	tb.Helper()
	s := d.Sink
	b, err := json.Marshal(h.to(d))
	if err != nil {
		tb.Errorf("the recipient cannot be stored: %v", err)
		return
	}
	want, err := sinks.DecodeRecipient(s, b)
	if err != nil {
		tb.Errorf("the recipient, stored as %s, is refused: %v", b, err)
		return
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil || len(fields) == 0 {
		return // no object: it has no names
	}
	for what, spell := range map[string]func(string) string{
		"capitalized": func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
		"in capitals": strings.ToUpper,
	} {
		other, both := map[string]json.RawMessage{}, maps.Clone(fields)
		for name, value := range fields {
			other[spell(name)], both[spell(name)] = value, value
		}
		got, err := sinks.DecodeStoredRecipient(s, encoded(tb, other))
		if err != nil || !reflect.DeepEqual(got, want) {
			tb.Errorf("a stored recipient with names %s: %v, %v; want %v", what, got, err, want)
		}
		if want == nil {
			continue // the sink reads nothing of it
		}
		if got, err := sinks.DecodeStoredRecipient(s, encoded(tb, both)); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			tb.Errorf("a stored recipient with names twice, %s too: %v, %v; want %s", what, got, err, sinks.CodeInvalidArgument)
		}
	}
}

func encoded(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// sinkAs looks through the wrappers of s.
func sinkAs[T any](s sinks.Sink) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		u, ok := s.(interface{ Unwrap() sinks.Sink })
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	var zero T
	return zero, false
}
