package functions_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/local"
)

// Ten records for a receiver that does not answer come first in a batch of 50, and the function
// makes ten deliveries at once. The other 40 are delivered before the first of those is answered.
func TestAReceiverThatHangsHoldsUpNoOtherOfItsBatch(t *testing.T) {
	t.Parallel()
	for key, share := range map[string]int32{"": 5, "concurrency: 3\n": 3} {
		t.Run(fmt.Sprint("share of ", share), func(t *testing.T) {
			t.Parallel()
			var took, hanging, most atomic.Int32
			all := make(chan struct{})
			well := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				if took.Add(1) == 40 {
					close(all)
				}
			}))
			t.Cleanup(well.Close)
			dead := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then it is seen when the client goes away
				n := hanging.Add(1)
				defer hanging.Add(-1)
				// Of the 40 at most five are under way beside the five that hang: before the 35th has come
				// one of them waits, and nobody has more than his share.
				if before := took.Load(); n > share && (key != "" || before < 35) {
					t.Errorf("%d at once at the one that hangs when %d of the 40 others had come, want at most %d", n, before, share)
				}
				for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
				}
				select {
				case <-all:
				case <-r.Context().Done():
					t.Errorf("an attempt ended after %d of the 40 others", took.Load())
				}
			}))
			t.Cleanup(dead.Close)
			dir := t.TempDir()
			for name, block := range map[string]string{
				"well": "kind: webhook\nurl: " + well.URL + "\n",
				"dead": "kind: webhook\nurl: " + dead.URL + "\nretry: {max_attempts: 1}\n" + key,
			} {
				if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(block), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o := onRedis(t)
			o.Sinks, o.Env["BACKSTOP_CONCURRENCY"] = "file:"+dir, "10"
			s := start(t, o)

			var e events.SQSEvent
			for i := range 50 {
				sink := "dead"
				if i >= 10 {
					sink = "well"
				}
				e.Records = append(e.Records, events.SQSMessage{
					MessageId: fmt.Sprintf("m%d", i), EventSource: "aws:sqs", EventSourceARN: "arn:aws:sqs:eu-central-1:1:q",
					Body: fmt.Sprintf(`{"sink":%q,"message":{"body":"x"}}`, sink),
				})
			}
			payload, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if res := invoke(t, s, local.Queue, payload); string(res.Payload) != `{"batchItemFailures":[]}` {
				t.Errorf("answered %s %s", res.FunctionError, res.Payload)
			}
			if took.Load() != 40 || most.Load() < share {
				t.Errorf("%d taken by the other, %d at once at the one that hangs; want 40 and at least %d", took.Load(), most.Load(), share)
			}
		})
	}
}
