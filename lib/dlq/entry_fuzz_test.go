package dlq

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
)

// Whatever others wrote into a stream becomes an item: one that can be shown, or one
// that says why it cannot, with the entry as it was found.
func FuzzEntry(f *testing.F) {
	const native = "1767225600000-7"
	for _, seed := range []struct{ item, state, notBefore string }{
		{`{"delivery_id":"a","sink":"orders","at":"2026-01-01T00:00:00Z","recipient":null,"message":{"id":"a","body":"b"},"attempts":5,"last_error":"HTTP 503","reason":"exhausted"}`, "", "0"},
		{`{"Sink":"x","Message":{"ID":"a","Body":"b","Metadata":{"k":"v"}},"Attempts":1,"LastError":"e"}`, `{"replays":3,"parked":true,"history":[{"at":1,"error":"x"}]}`, ""},
		{`{"message":{"body":1}}`, "{", "never"},
		{`{"message":null}`, "null", "-1"},
		{"", "", ""},
		{"[]", "[]", "x"},
		{"null", "0", "9223372036854775807"},
		{`{"message":{"body":"b"},"at":"nonsense"}`, `{"delivered_at":-1}`, "1"},
		{`{"message":{"body":"\ud800"},"recipient":"\u0000"}`, "", ""},
		{`{"message":{"body":"b"},"attempts":1e400}`, `{"replays":9999999999999999999}`, ""},
		{"{\"message\":{\"body\":\"\xff\"},\"recipient\":[1,{\"a\":2}]}", "", ""},
		{`{"message":{"body":"b"},"parked":true,"delivered_at":"2026-01-01T00:00:00Z","history":[{}],"raw":"r","decode_error":"d","id":"other~1-1"}`, "", "0"},
	} {
		f.Add(seed.item, seed.state, seed.notBefore)
	}
	f.Fuzz(func(t *testing.T, item, state, notBefore string) {
		e := entry{sink: "orders", native: native}
		e.setFields(map[string]string{"item": item, "n": notBefore, "k": item, "g": state})
		e.setState(state)
		got := e.decode()

		if got.ID != "orders~"+native || got.Sink != "orders" {
			t.Errorf("the item is %q of %q", got.ID, got.Sink)
		}
		if (got.DecodeError != "") != (got.Raw != "" || item == "") || got.DecodeError != "" && got.Raw != item {
			t.Errorf("decode error %q with raw %q", got.DecodeError, got.Raw)
		}
		if got.DecodeError != "" && got.State(time.Now()).Scheduled() {
			t.Errorf("an item that cannot be read is due: %+v", got)
		}
		b, err := encodeJSON(got)
		if err != nil || !json.Valid(b) {
			t.Fatalf("the item cannot be shown: %v: %q", err, b)
		}
		if got.DecodeError != "" {
			return
		}
		again := entry{sink: "orders", native: native}
		again.setFields(map[string]string{"item": string(b), "n": notBefore})
		again.setState(state)
		second := again.decode()
		second.Replays -= again.state.Replays // counted in the item already
		if diff := cmp.Diff(got, second); diff != "" {
			t.Errorf("an item changes when it is written and read again (-first +second)\n%s", diff)
		}
	})
}

// What is pushed comes back, and no filter's cheap test leaves out what its exact test
// selects.
func FuzzItem(f *testing.F) {
	for _, seed := range [][6]string{
		{"id-1", "Subject", "<p>Body & more</p>", "HTTP 503", `{"address":"a@b.example"}`, "body"},
		{"", "", "", "", "", ""},
		{"a", "İstanbul K", "\u2028 \\n \\ \x00 \x7f", "\"quoted\"", "[1, 2]", "\u2028"},
		{"a", "ſ", "line\nline", "tab\t", `"text"`, "\n"},
		{"\xff", "\xff", "\xffX", "\xff", "\xff", "\xffx"},
		{"a", "a", "ǅ Σς", "e", "nonsense", "ς"},
		{"a", "a", `C:\New`, "e", `{"url":"https://X.example/\u00E9"}`, `c:\n`},
		{"a", "a", "x", "e", `{"a":"\/"}`, "/"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5])
	}
	f.Fuzz(func(t *testing.T, id, subject, body, lastError, recipient, q string) {
		pushed, err := prepare(t.Context(), Item{
			DeliveryID: id, Sink: "orders", Message: sinks.Message{ID: id, Subject: subject, Body: body}, LastError: lastError,
			Recipient: json.RawMessage(recipient), Reason: ReasonExhausted, Attempts: 3,
		}, time.UnixMilli(1767225600000))
		if err != nil {
			t.Fatal(err)
		}
		e, err := newEntry(pushed, time.Now())
		if err != nil {
			t.Fatalf("a failed delivery could not be stored: %v", err)
		}
		e.native = "1767225600000-0"
		got := e.decode()
		if got.DecodeError != "" {
			t.Fatalf("what was stored cannot be read: %s", got.DecodeError)
		}
		for _, text := range []string{id, subject, body, lastError, recipient} {
			if !utf8.ValidString(text) {
				return // JSON replaces what is not UTF-8
			}
		}
		if !cmp.Equal(got.Message, pushed.Message) || got.LastError != lastError || got.DeliveryID != pushed.DeliveryID {
			t.Errorf("got %+v, pushed %+v", got, pushed)
		}
		for _, query := range []Query{{Q: q}, {DeliveryID: q}, {DeliveryID: id}, {Reason: ReasonExhausted, Q: q}, {Reason: ReasonExhausted, Fingerprint: Fingerprint(lastError)}} {
			filter, err := newFilter(query)
			if err != nil {
				t.Fatal(err)
			}
			if filter.match(e, got) && !filter.possible(e) {
				t.Errorf("%+v selects the item, and its cheap test leaves it out: %s", query, e.item)
			}
		}
	})
}
