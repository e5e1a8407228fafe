package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"backstop/client"
	"backstop/lib/fault"
)

// backstop stands for a deployed API, which answers with one status and body.
func backstop(status int, body string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if status >= http.StatusBadRequest {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "60")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
}

// The API's own URL is signed for with AWS credentials; an API with a JWT authorizer takes a
// token.
func ExampleNew() {
	const url = "https://abc123.execute-api.eu-west-1.amazonaws.com"
	region, _ := client.GatewayRegion(url)
	signed, err := client.New(url, &client.Options{
		Transport: &client.Signer{
			Region:      region, // in a program: config.LoadDefaultConfig(ctx) finds the credentials
			Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		},
		Tries: 5,
		OnRetry: func(err error, wait time.Duration) {
			fmt.Println("again in", wait, "after", err)
		},
	})
	fmt.Println(signed.URL(), err)

	_, err = client.New("https://api.example.org/backstop", &client.Options{Transport: &client.Bearer{Token: "..."}})
	fmt.Println(err)
	// Output:
	// https://abc123.execute-api.eu-west-1.amazonaws.com <nil>
	// <nil>
}

// An answer means that the message is safe, one way or the other.
func ExampleClient_Send() {
	s := backstop(202, `{"status":"dead_lettered","delivery_id":"welcome-17","item_id":"mail~1767225600000-0","reason":"exhausted","attempts":5}`)
	defer s.Close()
	c, err := client.New(s.URL, nil)
	if err != nil {
		panic(err)
	}
	answer, err := c.Send(context.Background(), client.SendRequest{
		ID:        "welcome-17", // the event's: sent again, it is one delivery
		Sink:      "mail",
		Recipient: map[string]string{"address": "ann@example.com"},
		Message:   client.SendMessage{Subject: "Welcome", Body: "<p>Good to see you.</p>"},
	})
	if err != nil {
		panic(err) // the message is still yours
	}
	fmt.Println(answer.Status, answer.ItemID, answer.Reason)
	// Output: dead_lettered mail~1767225600000-0 exhausted
}

// What waits for later is taken back when it is not needed after all.
func ExampleClient_Cancel() {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body := `{"status":"accepted","delivery_id":"unread-17","attempts":0,"not_before":"2026-01-01T00:00:30Z"}`
		if r.Method == http.MethodDelete {
			body = `{"status":"canceled","delivery_id":"unread-17","known":true,"attempts":0}`
		}
		_, _ = io.WriteString(w, body)
	}))
	defer s.Close()
	c, err := client.New(s.URL, nil)
	if err != nil {
		panic(err)
	}
	answer, err := c.Send(context.Background(), client.SendRequest{
		ID:        "unread-17",
		Sink:      "mail",
		Message:   client.SendMessage{Subject: "You have a message", Body: "<p>Ann wrote to you.</p>"},
		SendAfter: "30s", // if nobody has read it until then
		ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.Status, "until", answer.NotBefore.Format(time.TimeOnly))

	gone, err := c.Cancel(context.Background(), "mail", "unread-17") // it was read
	switch {
	case fault.CodeOf(err) == fault.CodeAlreadyDelivered:
		fmt.Println("too late")
	case err != nil:
		panic(err) // it is not canceled, or nobody said so: ask again
	default:
		fmt.Println(gone.Status, "- may have arrived:", gone.MayHaveArrived)
	}
	// Output:
	// accepted until 00:00:30
	// canceled - may have arrived: false
}

// Errors have a code to branch on, and the problem's details.
func ExampleProblemError() {
	s := backstop(503, `{"type":"urn:backstop:problem:SINK_DLQ_OVERFLOW","title":"The dead-letter queue is full","status":503,
		"detail":"sink mail holds 100000 dead letters, its limit","code":"SINK_DLQ_OVERFLOW","delivery_id":"welcome-17"}`)
	defer s.Close()
	c, err := client.New(s.URL, nil)
	if err != nil {
		panic(err)
	}
	_, err = c.Send(context.Background(), client.SendRequest{ID: "welcome-17", Sink: "mail", Message: client.SendMessage{Body: "Hello"}})
	switch fault.CodeOf(err) {
	case fault.CodeDLQOverflow, fault.CodeDLQUnavailable:
		if p, ok := errors.AsType[*client.ProblemError](err); ok {
			fmt.Printf("handed back: %s; send %s again in %s\n", p.Detail, p.DeliveryID, p.RetryAfter)
		}
	case fault.CodeInvalidArgument:
		fmt.Println("never:", err)
	}
	// Output: handed back: sink mail holds 100000 dead letters, its limit; send welcome-17 again in 1m0s
}

// Dead letters are read page by page while they are ranged over.
func ExampleClient_Items() {
	s := backstop(200, `{"items":[
		{"id":"mail~1767225600001-0","sink":"mail","state":"waiting","reason":"terminal","last_error":"SMTP 550 unknown user"},
		{"id":"mail~1767225600000-0","sink":"mail","state":"waiting","reason":"ambiguous","last_error":"no answer after the final dot"}
	],"next_cursor":null,"complete":true,"scanned":2}`)
	defer s.Close()
	c, err := client.New(s.URL, nil)
	if err != nil {
		panic(err)
	}
	for it, err := range c.Items(context.Background(), client.Filter{Sink: "mail", State: client.StateWaiting}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(it.ID, it.Reason, strings.ToLower(it.LastError))
	}
	// Output:
	// mail~1767225600001-0 terminal smtp 550 unknown user
	// mail~1767225600000-0 ambiguous no answer after the final dot
}
