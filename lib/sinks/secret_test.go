package sinks_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
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
	for raw, want := range map[string]string{
		"https://user:tok3n@x.example:8443/tok3n?key=tok3n#tok3n": "https://x.example:8443",
		"https://tok3n@x.example":                                 "https://x.example",
		"http://[::1]:80/a":                                       "http://[::1]:80",
		"redis://:tok3n@cache.example:6379/0":                     "redis://cache.example:6379",
		"https://x.example:tok3n/":                                "[unreadable URL]",
		"mailto:tok3n":                                            "[unreadable URL]",
		"/tok3n":                                                  "[unreadable URL]",
		"tok3n":                                                   "[unreadable URL]",
		"":                                                        "[unreadable URL]",
		"https://x.example/%zz tok3n":                             "[unreadable URL]",
	} {
		if got := sinks.SafeURL(raw); got != want {
			t.Errorf("SafeURL(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestSafeTextCutsEveryURL(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"no URL: a/b c://":                 "no URL: a/b c://",
		"POST https://x.example: HTTP 404": "POST https://x.example: HTTP 404",
		"POST https://x.example:8443/services/tok3n: HTTP 404":    "POST https://x.example:8443: HTTP 404",
		`Post "https://u:tok3n@x.example/tok3n?k=tok3n": EOF`:     `Post "https://x.example": EOF`,
		"https://a.example/tok3n and http://[::1]:80/tok3n, end":  "https://a.example and http://[::1]:80, end",
		"(see https://a.example/tok3n).":                          "(see https://a.example).",
		"'https://a.example/tok3n' is bad":                        "'https://a.example' is bad",
		"<https://a.example?tok3n|here>":                          "<https://a.example|here>",
		"https://a.example#tok3n\nhttps://tok3n@b.example\\tok3n": "https://a.example\nhttps://b.example",
		"HTTPS://A.example/tok3n://tok3n/x":                       "HTTPS://A.example",
	} {
		if got := sinks.SafeText(text); got != want || strings.Contains(got, "tok3n") {
			t.Errorf("SafeText(%q) = %q, want %q", text, got, want)
		}
	}
}

// The errors of net/http show whole URLs. Cut, they are the same errors.
func TestSafeErrorKeepsTheErrorAndCutsItsText(t *testing.T) {
	cause := &url.Error{Op: "Post", URL: "https://hooks.example/tok3n", Err: io.ErrUnexpectedEOF}
	err := sinks.SafeError(sinks.Ambiguous(&sinks.Error{Code: sinks.CodeSinkUnavailable, Cause: cause}))
	if want := `SINK_UNAVAILABLE: Post "https://hooks.example": unexpected EOF`; err.Error() != want {
		t.Errorf("the text is %q, want %q", err, want)
	}
	if text := fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err); strings.Contains(text, "tok3n") {
		t.Errorf("it prints as %s", text)
	}
	if sinks.CodeOf(err) != sinks.CodeSinkUnavailable || !sinks.IsAmbiguous(err) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("code, mark or cause are lost in %v", err)
	}
	if got := sinks.SafeError(io.EOF); got != io.EOF { //nolint:errorlint // exactly this one
		t.Errorf("an error without a URL became %v", got)
	}
	if sinks.SafeError(nil) != nil {
		t.Error("SafeError(nil) is not nil")
	}
}
