package sinks_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"backstop/lib/sinks"
)

const hidden = "tok3n"

type credentials struct {
	Pass sinks.Secret            `json:"pass" yaml:"pass"`
	Many []sinks.Secret          `json:"many" yaml:"many"`
	Keys map[string]sinks.Secret `json:"keys" yaml:"keys"`
}

func TestSecretPrintsRedactedInEveryFormat(t *testing.T) {
	c := credentials{Pass: hidden, Many: []sinks.Secret{hidden}, Keys: map[string]sinks.Secret{"k": hidden}}
	texts := map[string]string{}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%20s", "%-5v"} {
		texts["fmt "+format] = fmt.Sprintf(format, sinks.Secret(hidden))
		texts["fmt of a struct "+format] = fmt.Sprintf(format, c)
		texts["fmt of a pointer "+format] = fmt.Sprintf(format, &c)
	}
	texts["fmt.Errorf"] = fmt.Errorf("wrong password %s: %w", c.Pass, errors.New(c.Pass.String())).Error()
	texts["fmt.Sprint"] = fmt.Sprint(c.Pass, c)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).InfoContext(t.Context(), "x", slog.Any("pass", c.Pass), slog.Any("all", c), slog.Any("ptr", &c))
		texts[name] = b.String()
	}
	for name, encode := range map[string]func(any) ([]byte, error){"JSON": json.Marshal, "YAML": yaml.Marshal} {
		b, err := encode(c)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(b)
	}
	b, err := xml.Marshal(c.Pass)
	if err != nil {
		t.Fatal(err)
	}
	texts["XML"] = string(b)

	for name, text := range texts {
		if strings.Contains(text, hidden) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", hidden)) {
			t.Errorf("%s shows the secret: %s", name, text)
		}
		if !strings.Contains(text, "[redacted]") {
			t.Errorf("%s does not say [redacted]: %s", name, text)
		}
	}
}

func TestSecretDecodesAsAString(t *testing.T) {
	var fromJSON, fromYAML credentials
	if err := json.Unmarshal([]byte(`{"pass":"tok3n","many":["tok3n"],"keys":{"k":"tok3n"}}`), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte("pass: tok3n\nmany: [tok3n]\nkeys: {k: tok3n}\n"), &fromYAML); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]credentials{"JSON": fromJSON, "YAML": fromYAML} {
		if c.Pass.Reveal() != hidden || c.Many[0].Reveal() != hidden || c.Keys["k"].Reveal() != hidden {
			t.Errorf("%s decoded %q, %q, %q", name, c.Pass.Reveal(), c.Many[0].Reveal(), c.Keys["k"].Reveal())
		}
	}
}

func TestSafeURL(t *testing.T) {
	for _, c := range []struct {
		raw      string
		withPath bool
		want     string
	}{
		{"https://user:tok3n@x.example:8443/a/b?key=tok3n#tok3n", true, "https://x.example:8443/a/b"},
		{"https://user:tok3n@x.example:8443/tok3n?key=tok3n#tok3n", false, "https://x.example:8443"},
		{"https://tok3n@x.example", true, "https://x.example"},
		{"http://[::1]:80/a", true, "http://[::1]:80/a"},
		{"redis://:tok3n@cache.example:6379/0", false, "redis://cache.example:6379"},
		{"https://x.example:tok3n/", true, "[unreadable URL]"},
		{"mailto:tok3n", true, "[unreadable URL]"},
		{"/tok3n", true, "[unreadable URL]"},
		{"tok3n", true, "[unreadable URL]"},
		{"", true, "[unreadable URL]"},
		{"https://x.example/%zz tok3n", true, "[unreadable URL]"},
	} {
		if got := sinks.SafeURL(c.raw, c.withPath); got != c.want {
			t.Errorf("SafeURL(%q, %v) = %q, want %q", c.raw, c.withPath, got, c.want)
		}
	}
}
