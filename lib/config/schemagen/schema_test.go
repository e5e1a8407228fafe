package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"backstop/lib/config"
	"backstop/lib/sinks"
)

const published = "config/sinks/schema.json"

func TestThePublishedSchemaIsTheGeneratedOne(t *testing.T) {
	t.Chdir("../../..")
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(published)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is out of date (%v): go run ./lib/config/schemagen >%s", published, err, published)
	}
}

func TestTheSamplesAreValid(t *testing.T) {
	t.Chdir("../../..")
	schema := compile(t)
	source, err := config.ParseSource("file:config/sinks")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := source.Documents(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string]bool{}
	for _, doc := range docs {
		samples[doc.Name] = true
		if err := schema.Validate(decoded(t, doc.Text.Reveal())); err != nil {
			t.Errorf("by the schema, %s: %v", doc.Source, err)
		}
	}
	for _, name := range []string{"webhook-demo", "slack-demo", "email-demo"} {
		if !samples[name] {
			t.Errorf("no sample %s", name)
		}
	}
	findings, err := config.Check(t.Context(), source, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// The schema and the decoder judge alike.
func TestTheSchemaAgreesWithTheDecoder(t *testing.T) {
	t.Chdir("../../..")
	schema := compile(t)
	sinks.RegisterFactory("own", func(string, map[string]any) (sinks.Sink, error) { return nopSink{}, nil })
	const ok = "kind: slack\nwebhook_url: https://hooks.slack.com/services/a/b/c\n"
	for _, c := range []struct {
		text  string
		valid bool
	}{
		{ok, true},
		{ok + "retry: {max_attempts: 3, base_backoff: 1m30s, jitter_fraction: 0}\nreplay: {on_success: keep, rate: 0.5}\non_ambiguous: park\n", true},
		{ok + "breaker: {failure_percent: 1, least: 1, window: 1s, probe_every: 24h}\nmax_hold: 1m\nrate: {per_second: 0.5, burst: 2}\nconcurrency: 1\n", true},
		{ok + "max_age: 1s\n", true},
		{ok + "max_age: 8760h\n", true},
		{ok + "max_age: 300\n", false},
		{ok + "max_age: -5m\n", false},
		{ok + "max_age: 30d\n", false},
		{ok + "max_age: [5m]\n", false},
		{ok + "retention: 30d\n", true},
		{ok + "retention: 1h30m\n", true},
		{ok + "retention: 30\n", false},
		{ok + "retention: -30d\n", false},
		{ok + "retention: 1d12h\n", false},
		{ok + "breaker: off\n", true},
		{ok + "breaker: \"off\"\n", true},
		{ok + "breaker: false\n", true},
		{ok + "breaker: on\n", false},
		{ok + "breaker: true\n", false},
		{ok + "breaker: {failure_percent: 101}\n", false},
		{ok + "breaker: {percent: 10}\n", false},
		{ok + "rate: {per_second: 0}\n", false},
		{ok + "rate: {burst: 2}\n", false},
		{ok + "rate: {per_second: 2, burst: 0}\n", false},
		{ok + "concurrency: 0\n", false},
		{"kind: own\nanything: {at: [all]}\n", true},
		{"kind: slack\n", false},
		{"webhook_url: https://hooks.slack.com/services/a/b/c\n", false},
		{ok + "webhookurl: x\n", false},
		{ok + "retry: {max_attempts: 0}\n", false},
		{ok + "retry: {max_attempts: three}\n", false},
		{ok + "retry: {max_attemps: 3}\n", false},
		{ok + "retry: {base_backoff: 5}\n", false},
		{ok + "retry: {base_backoff: 5 seconds}\n", false},
		{ok + "retry: {jitter_fraction: 1.5}\n", false},
		{ok + "replay: {on_success: forget}\n", false},
		{ok + "replay: {rate: -1}\n", false},
		{ok + "on_ambiguous: maybe\n", false},
		{"kind: slack\nwebhook_url: {ssm: no-slash}\n", false},
		{"kind: webhook\nurl: https://example.org\nheaders: {X-A: 1}\n", false},
		{"kind: webhook\nurl: https://example.org\nheaders: {X-A: '1'}\nsigning_secrets: [whsec_cmVwbGFjZSB0aGlzIGV4YW1wbGUgc2VjcmV0]\n", true},
		{"kind: email\nsmtp_addr: localhost:25\nfrom: a@example.org\ntls: none\n", true},
		{"kind: email\nsmtp_addr: localhost:25\n", false},
	} {
		file := t.TempDir() + "/s.yaml"
		if err := os.WriteFile(file, []byte("sinks:\n  s: "+flow(t, c.text)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		source, err := config.ParseSource("file:" + file)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := config.Check(t.Context(), source, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(findings) == 0; got != c.valid {
			t.Errorf("the decoder accepts %q: %t, want %t (%v)", c.text, got, c.valid, findings)
		}
		block := decoded(t, c.text)
		for _, doc := range []any{block, map[string]any{"sinks": map[string]any{"s": block}}} {
			if err := schema.Validate(doc); (err == nil) != c.valid {
				t.Errorf("the schema accepts %v: %t, want %t (%v)", doc, err == nil, c.valid, err)
			}
		}
	}
}

type nopSink struct{ sinks.Sink }

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// flow returns the document in one line.
func flow(t *testing.T, text string) string {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	n.Content[0].Style = yaml.FlowStyle
	out, err := yaml.Marshal(&n)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}
