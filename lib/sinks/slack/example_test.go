package slack_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"backstop/lib/sinks"
	"backstop/lib/sinks/slack"
)

// A message's subject is the bold first line of what the channel shows. Slack's answer decides
// whether another attempt makes sense.
func Example() {
	answers := []string{"ok", "channel_is_archived"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posted, err := io.ReadAll(r.Body)
		fmt.Print(string(posted))
		if err != nil || answers[0] != "ok" {
			w.WriteHeader(http.StatusGone)
		}
		_, _ = io.WriteString(w, answers[0])
		answers = answers[1:]
	}))
	defer server.Close()

	ops, err := slack.New("ops", slack.Config{
		WebhookURL: sinks.Secret(server.URL + "/services/T000/B000/token"), // from Slack
	}, nil)
	if err != nil {
		panic(err)
	}
	message := sinks.Message{Subject: "Disk full", Body: "`/var` on *db-1*"}
	fmt.Println(ops.Send(context.Background(), nil, message))

	err = ops.Send(context.Background(), nil, message)
	fmt.Println(sinks.CodeOf(err), "transient:", sinks.IsTransient(err))
	// Output:
	// {"text":"*Disk full*\n`/var` on *db-1*"}
	// <nil>
	// {"text":"*Disk full*\n`/var` on *db-1*"}
	// SINK_UNAVAILABLE transient: false
}
