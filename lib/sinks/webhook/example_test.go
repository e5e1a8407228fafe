package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"backstop/lib/sinks"
	"backstop/lib/sinks/webhook"
)

// The receiver knows by the signature who calls, and by webhook-id a message that arrives twice.
// Its answer decides whether and when the message is sent again.
func Example() {
	const secret = "whsec_cmVwbGFjZSB0aGlzIGV4YW1wbGUgc2VjcmV0"
	known, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		panic(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = known.Verify(body, r.Header)
		}
		fmt.Println(r.Header.Get("webhook-id"), string(body), "verified:", err == nil)
		if r.Header.Get("webhook-id") != "order:1042/shipped" {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer receiver.Close()

	orders, err := webhook.New("orders", webhook.Config{
		URL:            sinks.Secret(receiver.URL),
		SigningSecrets: []sinks.Secret{secret},
		Format:         webhook.FormatRaw,
	}, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(orders.Send(context.Background(), nil, sinks.Message{ID: "order:1042/shipped", Body: `{"order": 1042}`}))

	err = orders.Send(context.Background(), nil, sinks.Message{ID: "order:1043/shipped", Body: `{"order": 1043}`})
	fmt.Println(sinks.CodeOf(err), "transient:", sinks.IsTransient(err), "not before:", sinks.RetryAfterOf(err))
	// Output:
	// order:1042/shipped {"order": 1042} verified: true
	// <nil>
	// order:1043/shipped {"order": 1043} verified: true
	// SINK_UNAVAILABLE transient: true not before: 30s
}

// A message may bring a URL of its own, if the sink's operator allows its host. It never gets the
// sink's headers, and never leads into a private network.
func ExampleRecipient() {
	orders, err := webhook.New("orders", webhook.Config{
		URL:          "https://receiver.example.org/orders",
		AllowedHosts: []string{"*.example.org"},
	}, nil)
	if err != nil {
		panic(err)
	}
	for _, to := range []webhook.Recipient{
		{}, // the sink's own URL
		{URL: "https://shop.example.org/hooks/17"},
		{URL: "https://example.com/hooks"},
		{URL: "http://169.254.169.254/latest/meta-data"},
	} {
		fmt.Printf("%q: %v\n", to.URL, orders.Validate(to, sinks.Message{Body: "hello"}))
	}
	// Output:
	// "": <nil>
	// "https://shop.example.org/hooks/17": <nil>
	// "https://example.com/hooks": INVALID_ARGUMENT: recipient.url: the host is not among the sink's allowed_hosts
	// "http://169.254.169.254/latest/meta-data": INVALID_ARGUMENT: recipient.url: the address is not public
}
