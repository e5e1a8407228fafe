package sinks

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
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

// UnmarshalText sets the secret to b as it is. It never fails.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = Secret(b)
	return nil
}

// MarshalYAML returns "[redacted]".
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// SafeURL returns raw cut to scheme and host: never userinfo, path, query or fragment. The
// tokens of Slack, Discord and others are the path. A text that does not parse is shown as
// "[unreadable URL]".
func SafeURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "[unreadable URL]"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}

// SafeText returns text with each URL in it cut to scheme and host, as SafeURL does.
func SafeText(text string) string {
	const slashes = "://"
	var b strings.Builder
	for {
		i := strings.Index(text, slashes)
		if i < 0 {
			break
		}
		i += len(slashes)
		b.WriteString(text[:i])
		text = text[i:]
		end := strings.IndexFunc(text, endsURL)
		if end < 0 {
			end = len(text)
		}
		address := text[:end]
		host := address
		if i := strings.IndexAny(host, `/?#\`); i >= 0 {
			host = host[:i]
		}
		b.WriteString(host[strings.LastIndexByte(host, '@')+1:])
		// The sentence goes on after the URL.
		path := address[len(host):]
		b.WriteString(path[len(strings.TrimRight(path, `:,.;)]}'!?`)):])
		text = text[end:]
	}
	if b.Len() == 0 {
		return text
	}
	b.WriteString(text)
	return b.String()
}

// endsURL reports whether no URL goes on with r, as texts show URLs.
func endsURL(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("\"<>`|", r)
}

// SafeError returns err with the URLs in its text cut to scheme and host (see SafeText),
// and err itself where there are none. The errors of net/http show whole URLs; what a
// sink returns reaches dead letters, answers and logs. SafeError(nil) is nil.
func SafeError(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if safe := SafeText(text); safe != text {
		return &safeError{err, safe}
	}
	return err
}

type safeError struct {
	error
	text string
}

func (e *safeError) Error() string { return e.text }
func (e *safeError) Unwrap() error { return e.error }

// Format keeps %+v and %#v from showing what is hidden.
func (e *safeError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.text) }
