package redisclient_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"backstop/lib/dlq"
	"backstop/lib/redisclient"
	"backstop/lib/sinks"
)

// A program that embeds the library keeps its dead letters on Redis.
func ExampleNew() {
	server, err := miniredis.Run() // your Redis or Valkey
	if err != nil {
		panic(err)
	}
	defer server.Close()
	server.RequireUserAuth("app", "rotated-often")

	client, connections, err := redisclient.New(redisclient.Options{
		URL: "redis://" + server.Addr(),
		// Asked for each new connection: read it where your secrets are.
		Credentials: func(context.Context) (user, password string, err error) {
			return "app", "rotated-often", nil
		},
	})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx := context.Background()
	queue := dlq.NewRedis(client)
	letter := dlq.Item{Sink: "mail", DeliveryID: "order-4711", Message: sinks.Message{ID: "order-4711", Body: "Paid."}}
	if err := queue.Push(ctx, letter); err != nil {
		panic(err)
	}
	connections.HangUp() // as at SIGTERM; what is asked later dials again
	n, err := queue.Count(ctx, "mail")
	fmt.Println(n, err)
	fmt.Println(connections.Redact("AUTH app rotated-often"))
	// Output:
	// 1 <nil>
	// AUTH app [redacted]
}
