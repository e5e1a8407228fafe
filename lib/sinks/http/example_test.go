package http_test

import (
	"context"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"

	"backstop/lib/sinks"
	"backstop/lib/sinks/http"
)

// A service that has no kind of its own needs a document, which is usually YAML in the sink's
// configuration.
func Example() {
	server := httptest.NewServer(nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Println(r.URL, string(body), err)
	}))
	defer server.Close()

	doc, err := http.Parse([]byte(`
parameters:
  base_url: {type: url, required: true}
  token: {type: secret, required: true}
recipient: {to: {required: true}}
url: $(base_url)/v1/messages/$(id)
auth: {bearer: $(token)}
body: {to: $(recipient.to), title: $(subject:opt), text: $(body)}
outcomes:
  - {status: 404, then: gone}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	sink, err := http.New("pager", doc, map[string]any{"base_url": server.URL, "token": "s3cret"}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = sink.Send(context.Background(), http.Recipient{"to": "ann"}, sinks.Message{ID: "order-42", Body: `the "disk" is full`})
	fmt.Println(err)
	// Output:
	// /v1/messages/order-42 {"text":"the \"disk\" is full","to":"ann"} <nil>
	// <nil>
}
