package sinks

import (
	"fmt"
	"log/slog"
	"net/url"
)

const redacted = "[redacted]"

// Secret is a configured value that never reaches a log, an error text, a metric,
// the DLQ or an answer: it prints as "[redacted]" through fmt (every verb), slog,
// JSON, YAML and text encoders. The empty Secret prints the same. Decoding works as
// for a string; Reveal returns the value for its one proper use.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]"; JSON and other encoders use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText sets the secret.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = Secret(b)
	return nil
}

// MarshalYAML returns "[redacted]".
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// SafeURL returns raw cut to scheme, host and, for a URL that is not secret itself,
// its path: never userinfo, query or fragment. With withPath false only scheme and
// host remain. What does not parse is shown as "[unreadable URL]".
func SafeURL(raw string, withPath bool) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "[unreadable URL]"
	}
	out := url.URL{Scheme: u.Scheme, Host: u.Host}
	if withPath {
		out.Path = u.Path
	}
	return out.String()
}
