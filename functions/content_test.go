package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"backstop/internal/local"
	"backstop/internal/redistest"
)

// bodies returns the bodies of a sink's dead letters, as they stand in the stream.
func bodies(t *testing.T, c redis.UniversalClient, sink string) map[string]int {
	t.Helper()
	entries, err := c.XRange(context.Background(), "backstop:dlq:"+sink, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, e := range entries {
		var it struct{ Message struct{ Body string } }
		text, _ := e.Values["item"].(string)
		if err := json.Unmarshal([]byte(text), &it); err != nil {
			t.Fatal(err)
		}
		got[it.Message.Body]++
	}
	return got
}

// One id comes with two contents, and what remembers the first is gone: its time is over, it
// was evicted, or it was never readable. Both are kept, each once.
func TestOtherContentUnderAKnownIDIsNeverLost(t *testing.T) {
	t.Parallel()
	const sink = "webhook-gone"
	t.Run("the record is gone", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		client := server.Client(t)
		s := start(t, local.Options{RedisURL: server.URL()})
		items := map[string]string{}
		for _, body := range []string{"you owe 10", "you owe 9999", "you owe 10", "you owe 9999"} {
			a := send(t, s, sink, "x", body)
			if a.status != http.StatusAccepted || items[body] != "" && items[body] != a.text("item_id") {
				t.Errorf("%s: %d %s, after %s", body, a.status, a.raw, items[body])
			}
			items[body] = a.text("item_id")
			records, err := client.Keys(context.Background(), "backstop:delivery:*").Result()
			if err != nil || len(records) != 1 {
				t.Fatalf("records %v, %v", records, err)
			}
			if err := client.Del(context.Background(), records...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if got := bodies(t, client, sink); len(got) != 2 || got["you owe 10"] != 1 || got["you owe 9999"] != 1 {
			t.Errorf("stored %v, want each once", got)
		}
	})
	t.Run("no record can be read", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		client := server.Client(t)
		ctx := context.Background()
		err := client.Do(ctx, "ACL", "SETUSER", "blind", "on", ">secret", "+@all", "~backstop:dlq:*", "~backstop:sinks", "~backstop:op*", "~{backstop:dlq:*").Err()
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, local.Options{RedisURL: strings.Replace(server.URL(), "redis://", "redis://blind:secret@", 1)})
		var records []string
		for i, body := range []string{"ONE", "TWO", "THREE", "TWO"} {
			text, err := json.Marshal(fmt.Sprintf(`{"id":"x","sink":%q,"message":{"body":%q}}`, sink, body))
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, fmt.Sprintf(`{"messageId":"m%d","eventSource":"aws:sqs","body":%s}`, i, text))
		}
		failures()(t, invoke(t, s, local.Queue, []byte(`{"Records":[`+strings.Join(records, ",")+`]}`)).Payload)
		if got := bodies(t, client, sink); len(got) != 3 || got["ONE"] != 1 || got["TWO"] != 1 || got["THREE"] != 1 {
			t.Errorf("stored %v, want each once", got)
		}
	})
}
