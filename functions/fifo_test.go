package functions_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

// receiver notes what it took, and refuses a message as often as it is told.
type receiver struct {
	mu     sync.Mutex
	refuse map[string]int // by webhook-id
	took   []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := req.Header.Get("webhook-id")
	if r.refuse[id] > 0 {
		r.refuse[id]--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.took = append(r.took, id)
}

func (r *receiver) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.took)
}

// fifoQueue is a FIFO queue with one reader: what was not deleted after a receive is
// visible again at the next one, and given up after so many receives. (The emulator hands
// out a group's second message while its first is in flight, which SQS never does.)
type fifoQueue struct {
	receives int
	mu       sync.Mutex
	messages []types.Message
	counts   map[string]int
	gaveUp   []string
	drained  chan struct{} // closed when nothing is left
}

func (q *fifoQueue) add(id, group, body string) {
	q.messages = append(q.messages, types.Message{
		MessageId: &id, ReceiptHandle: &id, Body: &body, Attributes: map[string]string{"MessageGroupId": group},
	})
}

func (q *fifoQueue) ReceiveMessage(ctx context.Context, _ *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = slices.DeleteFunc(q.messages, func(m types.Message) bool {
		if q.counts[*m.MessageId]++; q.counts[*m.MessageId] <= q.receives {
			m.Attributes["ApproximateReceiveCount"] = strconv.Itoa(q.counts[*m.MessageId])
			return false
		}
		q.gaveUp = append(q.gaveUp, *m.MessageId)
		return true
	})
	if len(q.messages) == 0 {
		close(q.drained)
		q.mu.Unlock()
		<-ctx.Done()
		q.mu.Lock()
		return nil, ctx.Err()
	}
	return &sqs.ReceiveMessageOutput{Messages: slices.Clone(q.messages)}, nil
}

func (q *fifoQueue) DeleteMessageBatch(_ context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range in.Entries {
		q.messages = slices.DeleteFunc(q.messages, func(m types.Message) bool { return *m.ReceiptHandle == aws.ToString(e.ReceiptHandle) })
	}
	return &sqs.DeleteMessageBatchOutput{}, nil
}

// The local host reads a FIFO queue with a redrive policy. With fifo: hold, a failure that
// passes keeps the order, and one that does not is dead-lettered at the last receive,
// before the queue gives it up. With fifo: continue its successors go first.
func TestWhatAFailureDoesToTheOrderOfAFIFOQueue(t *testing.T) {
	t.Parallel()
	const receives = 3
	for _, tt := range []struct {
		fifo  string
		took  []string // of the group ev
		stays []string // dead letters
	}{
		{"hold", []string{"ev-1", "ev-2"}, []string{"lost-1"}},
		{"continue", []string{"ev-2"}, []string{"ev-1", "lost-1"}},
	} {
		t.Run(tt.fifo, func(t *testing.T) {
			t.Parallel()
			hook := &receiver{refuse: map[string]int{"ev-1": receives - 1, "lost-1": 1000}}
			server := httptest.NewServer(hook)
			t.Cleanup(server.Close)
			dir := t.TempDir()
			block := "kind: webhook\nurl: " + server.URL + "\nretry: {max_attempts: 1}\nfifo: " + tt.fifo + "\n"
			if err := os.WriteFile(filepath.Join(dir, "orders.yaml"), []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			o := onRedis(t)
			o.Sinks, o.Env["BACKSTOP_QUEUE_MAX_RECEIVES"] = "file:"+dir, strconv.Itoa(receives)
			s := start(t, o)

			queue := &fifoQueue{receives: receives, counts: map[string]int{}, drained: make(chan struct{})}
			for _, id := range []string{"ev-1", "lost-1", "ev-2", "lost-2"} {
				queue.add(id, id[:len(id)-2], fmt.Sprintf(`{"id":%q,"sink":"orders","message":{"body":%q}}`, id, id))
			}
			ctx, cancel := context.WithCancel(t.Context())
			poller := &lambdahost.Poller{
				Invoker: s.Host, Function: local.Queue, Client: queue, QueueURL: "http://sqs.local/1/orders.fifo", MaxConcurrency: 1,
			}
			var polling sync.WaitGroup
			polling.Go(func() {
				if err := poller.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			<-queue.drained
			cancel()
			polling.Wait()

			took := slices.DeleteFunc(hook.taken(), func(id string) bool { return id == "lost-2" })
			if !slices.Equal(took, tt.took) || len(hook.taken()) != len(took)+1 {
				t.Errorf("the receiver took %v, want %v in this order, and lost-2", hook.taken(), tt.took)
			}
			list := call(t, s, http.MethodGet, "/v1/dlq/items", "")
			var stays []string
			for _, it := range list.body["items"].([]any) { //nolint:errcheck // the API's document says so
				stays = append(stays, fmt.Sprint(it.(map[string]any)["delivery_id"])) //nolint:errcheck // as above
			}
			slices.Sort(stays)
			if !slices.Equal(stays, tt.stays) || len(queue.gaveUp) != 0 {
				t.Errorf("dead letters %v, given up %v; want dead letters %v", stays, queue.gaveUp, tt.stays)
			}
		})
	}
}
