package sinks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"backstop/lib/sinks"
)

// What a sink knows of a failure it says by a mark, which decides whether and when the message
// is sent again.
func ExampleIsTransient() {
	failure := func(text string) error { return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: text} }
	for _, err := range []error{
		sinks.Transient(failure("no connection")),
		sinks.RetryAfter(failure("busy"), 30*time.Second),
		sinks.Terminal(failure("no such team")),
		sinks.Ambiguous(failure("sent, and not answered")),
		failure("HTTP 503"), // unmarked: the text says it
		errors.New("what?"),
	} {
		fmt.Printf("%s: transient %t, ambiguous %t, wait %s\n",
			err, sinks.IsTransient(err), sinks.IsAmbiguous(err), sinks.RetryAfterOf(err))
	}
	// Output:
	// SINK_UNAVAILABLE: no connection: transient true, ambiguous false, wait 0s
	// SINK_UNAVAILABLE: busy: transient true, ambiguous false, wait 30s
	// SINK_UNAVAILABLE: no such team: transient false, ambiguous false, wait 0s
	// SINK_UNAVAILABLE: sent, and not answered: transient false, ambiguous true, wait 0s
	// SINK_UNAVAILABLE: HTTP 503: transient true, ambiguous false, wait 0s
	// what?: transient false, ambiguous false, wait 0s
}

// A configured secret prints nowhere. Reveal returns it for its one proper use.
func ExampleSecret() {
	type config struct {
		User  string       `json:"user"`
		Token sinks.Secret `json:"token"`
	}
	var c config
	if err := json.Unmarshal([]byte(`{"user": "ann", "token": "t0p-s3cret"}`), &c); err != nil {
		panic(err)
	}
	fmt.Printf("%+v\n", c)
	shown, err := json.Marshal(c)
	fmt.Println(string(shown), err)
	fmt.Println("Authorization: Bearer " + c.Token.Reveal())
	// Output:
	// {User:ann Token:[redacted]}
	// {"user":"ann","token":"[redacted]"} <nil>
	// Authorization: Bearer t0p-s3cret
}
