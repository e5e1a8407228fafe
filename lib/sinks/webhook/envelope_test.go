package webhook

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"backstop/lib/sinks"
)

// encoded is the envelope as encoding/json writes it, and as it has been posted from the first version on.
func encoded(m sinks.Message) ([]byte, error) {
	metadata := m.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		Subject  string            `json:"subject"`
		Body     string            `json:"body"`
		Metadata map[string]string `json:"metadata"`
	}{m.Subject, m.Body, metadata})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// What is posted stays the same byte for byte: an attempt after an upgrade repeats the one before it.
func FuzzEnvelopeIsWhatEncodingJSONWrites(f *testing.F) {
	var all strings.Builder
	for r := rune(0); r < 0x300; r++ {
		all.WriteRune(r)
	}
	for _, seed := range [][6]string{
		{"", "", "", "", "", ""},
		{"Order <1> & \"two\"", "<p class=\"x\">a\\b</p>\r\n", "b", "2", "a", "1"},
		{all.String(), all.String(), "x", "\t", "x", "y"},
		{"\u2028\u2029\u2027\u202a", `\u2028 \u2029` + "\u2028a\u2029\u2029", "X-A", "\u2028", "x-b", "\u2029"},
		{"日本語 🎉 \ufffd \ufeff", "\x7f\x80\xff", "Ä", "ä", "a", "\xff"},
		{"\b\f\v\x00\x1f", "/ ' ` \uffff \U0010ffff", "a", "", "A", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5])
	}
	s, err := New("hook", Config{URL: "https://hook.example/"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, subject, body, name1, value1, name2, value2 string) {
		for _, m := range []sinks.Message{
			{Subject: subject, Body: body},
			{Subject: subject, Body: body, Metadata: map[string]string{name1: value1, name2: value2}},
		} {
			_, _, got, err := s.request(nil, m)
			if s.Validate(nil, m) != nil {
				if err == nil {
					t.Errorf("what Validate refuses is posted: %q", got)
				}
				continue
			}
			want, encErr := encoded(m)
			if err != nil || encErr != nil || !bytes.Equal(got, want) {
				t.Errorf("%v: posted\n%q, want (%v)\n%q", err, got, encErr, want)
			}
		}
	})
}

// BenchmarkValidate judges a message of 190 KB.
func BenchmarkValidate(b *testing.B) {
	for _, format := range []string{"envelope", "raw"} {
		b.Run(format, func(b *testing.B) {
			s, err := New("hook", Config{URL: "https://hook.example/", Format: format}, nil)
			if err != nil {
				b.Fatal(err)
			}
			m := sinks.Message{ID: "m-1", Subject: "Invoice", Body: `["` + strings.Repeat("Dear reader, this is a line of text.", 190<<10/36) + `"]`}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Validate(nil, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEnvelope writes envelopes of several sizes.
func BenchmarkEnvelope(b *testing.B) {
	s, err := New("hook", Config{URL: "https://hook.example/"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, m := range map[string]sinks.Message{
		"small": {ID: "m-1", Subject: "Order 1", Body: "<p>Your order is on its way.</p>", Metadata: map[string]string{"tenant": "t3", "priority": "1"}},
		"2KB":   {ID: "m-1", Subject: "Order 1", Body: strings.Repeat("<p class=\"x\">Your order is on its way.</p>\n", 48)},
		"190KB": {ID: "m-1", Subject: "Order 1", Body: strings.Repeat("<p class=\"x\">Your order is on its way.</p>\n", 190<<10/43)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.body(m)
			}
		})
	}
}
