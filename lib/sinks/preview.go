package sinks

import (
	"context"
	"fmt"
	"net/url"
)

// Preview is what a sink would send, for the eyes of whoever sets it up: Redacted stands in the place
// of each configured value, token and secret. What comes from the message is there in full.
type Preview struct {
	// Method is the request's; empty where there is none.
	Method string `json:"method,omitempty"`
	// URL is where it goes: scheme and host, and of the rest what is not configured.
	URL string `json:"url"`
	// Header holds the headers by name.
	Header map[string]string `json:"header,omitempty"`
	// Body is the body as it goes out, before any encryption.
	Body string `json:"body"`
}

// Redacted stands for what is not shown.
const Redacted = redacted

// Previewer is implemented by sinks that can show what they would send.
type Previewer interface {
	// Preview returns what Send would send of m under ctx. It does no I/O, and gets no token. Errors
	// are those of Validate.
	Preview(ctx context.Context, to Recipient, m Message) (Preview, error)
}

// PreviewOf returns the Preview of s, or of the sink that s wraps; false for sinks that show none.
// A panic is an error, INTERNAL.
func PreviewOf(ctx context.Context, s Sink, to Recipient, m Message) (p Preview, shown bool, err error) {
	previewer, ok := as[Previewer](s)
	if !ok {
		return Preview{}, false, nil
	}
	p, err = guarded(s, "Preview", func() (Preview, error) { return previewer.Preview(ctx, to, m) })
	return p, true, SafeError(err)
}

// RedactedURL returns a URL that is configured: scheme and host, and Redacted for what follows.
func RedactedURL(raw string) string {
	u, err := url.Parse(raw)
	safe := SafeURL(raw)
	if err == nil && (len(u.EscapedPath()) > 1 || u.RawQuery != "") {
		return fmt.Sprintf("%s/%s", safe, redacted)
	}
	return safe
}
