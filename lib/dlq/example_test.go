package dlq_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// pager is a sink of the embedder's own. It must be safe for concurrent use.
type pager struct{ down bool }

func (p *pager) Name() string { return "pager" }

func (p *pager) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	if p.down {
		return sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	}
	fmt.Println("  paged:", m.Body)
	return nil
}

// An embedder registers sinks, wrapped once with retries and a queue. A message that could
// not be delivered is in the queue, from where it is listed, replayed and discarded. Memory
// and Redis behave alike.
func Example() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer client.Close()

	for _, store := range []dlq.Store{dlq.NewMemory(), dlq.NewRedis(client)} {
		fmt.Printf("%T\n", store)
		embed(store)
	}
	// Output:
	// *dlq.Memory
	//   sent: <nil>
	//   1 in pager: exhausted after 1 attempts
	//   replayed while it is down: SINK_DEAD_LETTERED
	//   2 in the queue, the newer one of generation 1
	//   paged: disk full
	//   replayed when it is up: <nil>
	//   discarded: 0 left
	// *dlq.Redis
	//   sent: <nil>
	//   1 in pager: exhausted after 1 attempts
	//   replayed while it is down: SINK_DEAD_LETTERED
	//   2 in the queue, the newer one of generation 1
	//   paged: disk full
	//   replayed when it is up: <nil>
	//   discarded: 0 left
}

func embed(store dlq.Store) {
	ctx := context.Background()
	inner := &pager{down: true}
	registry := sinks.NewRegistry()
	registry.Register(retry.WrapSink(inner, retry.Config{MaxAttempts: 1}, store))
	store.SetRegistryLookup(registry.Get)

	// A failure that was kept is no error: the message is safe.
	sink, _ := registry.Get("pager")
	fmt.Println("  sent:", sink.Send(ctx, nil, sinks.Message{ID: "alert-1", Body: "disk full"}))

	items, err := store.Items(ctx, "pager", 0)
	if err != nil {
		panic(err)
	}
	fmt.Printf("  %d in %s: %s after %d attempts\n", len(items), items[0].Sink, items[0].Reason, items[0].Attempts)

	// A replay goes through the registered sink: what fails again lands beside.
	fmt.Println("  replayed while it is down:", fault.CodeOf(store.Replay(ctx, items[0].ID)))
	if items, err = store.Items(ctx, "pager", 0); err != nil {
		panic(err)
	}
	fmt.Printf("  %d in the queue, the newer one of generation %d\n", len(items), items[0].Replays)

	inner.down = false
	fmt.Println("  replayed when it is up:", store.Replay(ctx, items[0].ID))

	// A replay removes nothing: the delivered item is kept, marked.
	for _, it := range items {
		if err := store.Discard(ctx, it.ID); err != nil {
			panic(err)
		}
	}
	n, err := store.Count(ctx, "")
	if err != nil {
		panic(err)
	}
	fmt.Printf("  discarded: %d left\n", n)
}
