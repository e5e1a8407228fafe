package main

import (
	"bytes"
	"os"
	"slices"
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
	for _, name := range []string{"webhook-demo", "slack-demo", "email-demo", "webpush-demo"} {
		if !samples[name] {
			t.Errorf("no sample %s", name)
		}
	}
	findings, err := config.Check(t.Context(), source, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if !f.Note {
			t.Error(f)
		}
	}
}

// The schema and the decoder judge alike.
func TestTheSchemaAgreesWithTheDecoder(t *testing.T) {
	t.Chdir("../../..")
	schema := compile(t)
	sinks.RegisterFactory("own", func(string, map[string]any) (sinks.Sink, error) { return nopSink{}, nil })
	const (
		ok       = "kind: slack\nwebhook_url: https://hooks.slack.com/services/a/b/c\n"
		document = "kind: http\nurl: https://x.test/send\nbody: {text: $(body)}\n"
		chat     = "kind: telegram\ntoken: \"123456:AAsecret\"\n"
	)
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

		{document, true},
		{document + "retry: {max_attempts: 3}\non_ambiguous: park\n", true},
		{"kind: http\nurl: https://x.test\n", false},
		{"kind: http\nbody: {a: b}\n", false},
		{"kind: http\nurl: https://x.test\ncontent: text\n", true},
		{"kind: http\nurl: https://x.test\nbody: 5\n", false},
		{"kind: http\nurl: https://x.test\nbody: [1, {a: true}]\n", true},
		{document + "urll: x\n", false},
		{document + "token: x\n", false}, // declared nowhere
		{document + "parameters: {token: {type: secret, required: true}, n: 5, on: true}\ntoken: x\n", true},
		{document + "parameters: {token: {type: secret, required: true}}\ntoken: [x]\n", false},
		{document + "parameters: {token: {kind: secret}}\n", false},
		{document + "parameters: {token: [secret]}\n", false},
		{document + "parameters: {Token: secret}\n", false},
		{document + "recipient: {to: {required: true, pattern: \"[0-9]+\"}}\n", true},
		{document + "recipient: {to: text}\n", false},
		{document + "method: PUT\ncontent: form\n", true},
		{document + "method: GET\n", false},
		{document + "content: xml\n", false},
		{document + "headers: {X-A: 1}\n", false},
		{document + "auth: {bearer: x}\n", true},
		{document + "auth: {bearer: x, basic: {username: a}}\n", false},
		{document + "auth: {sigv4: {service: ses, region: eu-west-1}}\n", true},
		{document + "auth: {basic: {user: a}}\n", false},
		{document + "limits: [{characters: 10}, {of: $(body), bytes: 20}]\n", true},
		{document + "limits: [{of: $(body)}]\n", false},
		{document + "limits: [{bytes: -1}]\n", false},
		{"kind: http\nurl: https://x.test\nbody: {id: $(id)}\ndedup: forever\n", true},
		{"kind: http\nurl: https://x.test\nbody: {id: $(id)}\ndedup: 1h30m\n", true},
		{"kind: http\nurl: https://x.test\nbody: {id: $(id)}\ndedup: 30\n", false},
		{"kind: http\nurl: https://x.test\nbody: {id: $(id)}\ndedup: always\n", false},
		{document + "outcomes: [{status: 200, then: delivered}, {status: [4xx, 500, \"501\"], then: terminal}, {then: ambiguous}]\n", true},
		{document + "outcomes: [{status: 99, then: delivered}]\n", false},
		{document + "outcomes: [{status: 6xx, then: delivered}]\n", false},
		{document + "outcomes: [{status: [], then: delivered}]\n", false},
		{document + "outcomes: [{status: 200}]\n", false},
		{document + "outcomes: [{status: 200, then: lost}]\n", false},
		{document + "outcomes: [{json: {$.ok: true, $.n: [1, two], $.id: present}, header: {X-A: [a, b]}, then: gone}]\n", true},
		{document + "outcomes: [{json: {$.ok: []}, then: gone}]\n", false},
		{document + "outcomes: [{json: {$.ok: {a: 1}}, then: gone}]\n", false},
		{document + "outcomes: [{header: {X-A: 1}, then: gone}]\n", false},
		{document + "retry_after: {json: $.after, unit: ms}\nanswer: {id: $.id}\n", true},
		{document + "retry_after: {json: $.after, header: X-After}\n", false},
		{document + "retry_after: {json: $.after, unit: m}\n", false},
		{document + "retry_after: {unit: s}\n", false},
		{document + "allow_private_recipients: true\nallowed_hosts: [x.test]\n", true},

		{chat, true},
		{chat + "chat_id: \"-100\"\nparse_mode: HTML\nbase_url: http://127.0.0.1:8080\nretry: {max_attempts: 3}\n", true},
		{"kind: telegram\n", false},
		{"kind: telegram\ntoken: x\n", false},
		{"kind: telegram\ntoken: [x]\n", false},
		{chat + "chat_id: -100\n", true},
		{chat + "parse_mode: html\n", false},
		{chat + "base_url: ftp://x.test\n", false},
		{chat + "base_url: https://x.test/#a\n", false},
		{chat + "tokem: x\n", false},
		{chat + "url: https://x.test\n", false},
		{"kind: ntfy\n", true},
		{"kind: ntfy\npriority: 5\n", true},
		{"kind: ntfy\npriority: \"5\"\n", true},
		{"kind: ntfy\npriority: 6\n", false},
		{"kind: ntfy\npriority: high\n", false},
		{"kind: ntfy\npriority: 1.5\n", false},
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
		findings = slices.DeleteFunc(findings, func(f config.Finding) bool { return f.Note })
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
