package sinks

import (
	"context"
	"net/url"
)

type forwardKey struct{}

// WithForward returns a context under which the built-in kinds send everything to a URL, whatever they are
// configured to send to: for development, to see what would be sent. What they post over HTTP is posted there, with its
// own method, headers and body, but for what authenticates it; the header Backstop-Forwarded-For says where it would have
// gone, by scheme and host. A mail is posted as message/rfc822. No tokens are fetched, and nothing is signed for AWS. A 2xx
// counts as delivered, and any other answer as it would of any receiver.
//
// Kinds of your own ask ForwardOf; those that do not send as ever.
func WithForward(ctx context.Context, to *url.URL) context.Context {
	return context.WithValue(ctx, forwardKey{}, to)
}

// ForwardOf returns where everything is to be sent; nil: where it is configured to be sent.
func ForwardOf(ctx context.Context) *url.URL {
	to, _ := ctx.Value(forwardKey{}).(*url.URL)
	return to
}
