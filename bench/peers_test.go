package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/replay/policy"
	"backstop/lib/retry"
)

// A side works off dead letters: each round stores n of them, untimed, and then posts
// every one to the receiver once and removes it. What work started is stopped untimed.
type side interface {
	store(b *testing.B, round, n int)
	work(b *testing.B, n int) (stop func())
}

// postLetter is the peers' handler: it posts the message of a dead letter that they kept.
func postLetter(b *testing.B, r *receiver) func(raw []byte) error {
	b.Helper()
	post := poster(context.Background(), b, r, replayAt)
	return func(raw []byte) error {
		var it dlq.Item
		if err := json.Unmarshal(raw, &it); err != nil {
			return err
		}
		body, err := encode(it.Message)
		if err != nil {
			return err
		}
		return post(body)
	}
}

// replayAt is how many requests each side has under way: what a sink's schedule does by
// default.
const replayAt = policy.DefaultConcurrency

// BenchmarkReplay compares the scheduled replay with a loop that only posts, and with
// what the peers do to failed work, on the same payloads and the same Redis; river is on a
// PostgreSQL beside it, which persists as little.
func BenchmarkReplay(b *testing.B) {
	const rounds, n = 10, 1000 // 10,000 in all
	r := newReceiver(b, time.Millisecond)
	c := redistest.Start(b).Client(b)
	ours := newOurs(b, c, r)
	onPostgres := newRiver(b, postLetter(b, r))
	sides := map[string]side{
		"ours": ours, "bare": &bareLoop{again(context.Background(), b, r, replayAt)},
		"asynq": newAsynq(b, c, r), "watermill": newWatermill(b, c, r),
		"river": onPostgres,
	}
	names := []string{"ours", "bare", "asynq", "watermill", "river"}
	took := map[string][]float64{}
	for round := range rounds {
		for k := range names {
			name := names[(k+round)%len(names)]
			s := sides[name]
			s.store(b, round, n)
			before := r.requests.Load()
			start := time.Now()
			stop := s.work(b, n)
			took[name] = append(took[name], float64(time.Since(start).Microseconds())/n)
			stop()
			if got := r.requests.Load() - before; got != n {
				b.Fatalf("%s: %d requests arrived, want %d", name, got, n)
			}
			progress("round %d: %s took %.0f µs each", round+1, name, took[name][round])
		}
	}
	took["river, arrived"] = onPostgres.arrivedIn
	for _, than := range []struct {
		what, name string
		budget     float64
	}{
		{"scheduled replay of 10,000 to a receiver that takes 1 ms / bare POST loop", "bare", 0.6},
		{"the same / asynq running archived tasks", "asynq", 1},
		{"the same / watermill reading its poison queue", "watermill", 1},
		{"the same / river retrying discarded jobs", "river", none},
		{"the same / river until all have arrived, some not yet completed", "river, arrived", none},
	} {
		r := rate(than.what, "µs each", median(took["ours"]), median(took[than.name]), than.budget)
		// Within a round both sides met the same machine.
		r.figure = medianRatio(took[than.name], took["ours"])
		report(b, r)
	}
}

type ours struct {
	queue  dlq.Store
	redis  redis.UniversalClient
	engine *replay.Engine
}

func newOurs(b *testing.B, c redis.UniversalClient, r *receiver) *ours {
	b.Helper()
	sink := webhookTo(b, r.URL)
	queue := dlq.NewRedis(c, dlq.WithMaxLen(0))
	o := &ours{queue, c, &replay.Engine{
		Store: queue, Targets: to{delivery.Target{Sink: sink}}, Records: delivery.NewRedis(c, "", 0), Log: discard,
	}}
	// The others post what our sink posts.
	ok(b, retry.NewRetrier(sink, retry.Config{}, nil).Send(b.Context(), nil, letter("ops", 0).Message))
	return o
}

func (o *ours) store(b *testing.B, round, n int) {
	b.Helper()
	fill(b, o.queue, "ops", round*n, (round+1)*n)
	record(b, o.redis, round*n, (round+1)*n)
}

// record keeps what the send function keeps of deliveries that it has answered.
func record(b *testing.B, c redis.UniversalClient, first, last int) {
	b.Helper()
	records, fingerprint := delivery.NewRedis(c, "", 0), strings.Repeat("f", 43)
	for i := first; i < last; i++ {
		k := delivery.Key{Sink: "ops", ID: letter("ops", i).DeliveryID}
		_, _, err := records.Begin(context.Background(), delivery.Begin{Key: k, Fingerprint: fingerprint, Token: "token", Lease: time.Minute})
		ok(b, err)
		_, _, err = records.Finish(context.Background(), k, "token", delivery.Record{
			Sink: k.Sink, ID: k.ID, Status: delivery.StatusDeadLettered, Fingerprint: fingerprint,
			Answer: `{"status":"dead_lettered","delivery_id":"` + k.ID + `","item_id":"ops~1795458321196-0","reason":"exhausted","attempts":5}`,
		})
		ok(b, err)
	}
}

func (o *ours) work(b *testing.B, n int) func() {
	b.Helper()
	summary, err := o.engine.Run(context.Background(), replay.Request{})
	ok(b, err)
	if summary.Delivered != int64(n) {
		b.Fatalf("replayed %+v", summary)
	}
	return func() {}
}

type bareLoop struct{ post func(int) error }

func (*bareLoop) store(*testing.B, int, int) {}

func (l *bareLoop) work(b *testing.B, n int) func() {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range replayAt {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if err := l.post(0); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return func() {}
}

// asynqSide runs archived tasks: what asynq keeps of work that failed for good.
type asynqSide struct {
	redis     redis.UniversalClient
	client    *asynq.Client
	inspector *asynq.Inspector
	post      func(raw []byte) error
}

func newAsynq(b *testing.B, c redis.UniversalClient, r *receiver) *asynqSide {
	b.Helper()
	return &asynqSide{c, asynq.NewClientFromRedisClient(c), asynq.NewInspectorFromRedisClient(c), postLetter(b, r)}
}

func (a *asynqSide) store(b *testing.B, round, n int) {
	b.Helper()
	for i := range n {
		raw, err := json.Marshal(letter("ops", round*n+i))
		ok(b, err)
		_, err = a.client.Enqueue(asynq.NewTask("dead-letter", raw))
		ok(b, err)
	}
	archived, err := a.inspector.ArchiveAllPendingTasks("default")
	ok(b, err)
	if archived != n {
		b.Fatalf("archived %d", archived)
	}
}

func (a *asynqSide) work(b *testing.B, n int) func() {
	b.Helper()
	var handled atomic.Int64
	done := make(chan struct{})
	handler := asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		defer func() {
			if handled.Add(1) == int64(n) {
				close(done)
			}
		}()
		return a.post(t.Payload())
	})
	_, err := a.inspector.RunAllArchivedTasks("default")
	ok(b, err)
	// Started after the tasks are there: an idle server looks for them once a second.
	server := asynq.NewServerFromRedisClient(a.redis, asynq.Config{Concurrency: replayAt, LogLevel: asynq.FatalLevel})
	ok(b, server.Start(handler))
	<-done
	return server.Shutdown
}

// watermillSide reads a topic on Redis Streams, which is what its poison queue is.
type watermillSide struct {
	redis     redis.UniversalClient
	publisher *redisstream.Publisher
	post      func(raw []byte) error
	topic     string
}

func newWatermill(b *testing.B, c redis.UniversalClient, r *receiver) *watermillSide {
	b.Helper()
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: c}, watermill.NopLogger{})
	ok(b, err)
	return &watermillSide{redis: c, publisher: publisher, post: postLetter(b, r)}
}

func (w *watermillSide) store(b *testing.B, round, n int) {
	b.Helper()
	w.topic = fmt.Sprint("poison-", round)
	for i := range n {
		raw, err := json.Marshal(letter("ops", round*n+i))
		ok(b, err)
		ok(b, w.publisher.Publish(w.topic, message.NewMessage(watermill.NewUUID(), raw)))
	}
}

func (w *watermillSide) work(b *testing.B, n int) func() {
	b.Helper()
	var handled atomic.Int64
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	// One subscriber hands out one message at a time.
	for range replayAt {
		subscriber, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
			Client: w.redis, ConsumerGroup: "replay", OldestId: "0", DisableIndefiniteInitialBlock: true,
		}, watermill.NopLogger{})
		ok(b, err)
		messages, err := subscriber.Subscribe(ctx, w.topic)
		ok(b, err)
		wg.Go(func() {
			for m := range messages {
				if err := w.post(m.Payload); err != nil {
					b.Error(err)
				}
				m.Ack()
				if handled.Add(1) == int64(n) {
					close(done)
				}
			}
		})
	}
	<-done
	return func() {
		cancel()
		wg.Wait()
	}
}

// BenchmarkPeers compares keeping a failed message, and reading a page of them.
func BenchmarkPeers(b *testing.B) {
	c := redistest.Start(b).Client(b)
	queue := dlq.NewRedis(c, dlq.WithMaxLen(0))
	client, inspector := asynq.NewClientFromRedisClient(c), asynq.NewInspectorFromRedisClient(c)
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: c}, watermill.NopLogger{})
	ok(b, err)
	onPostgres := newRiver(b, nil)
	encoded := func(i int) []byte {
		raw, err := json.Marshal(letter("ops", i))
		ok(b, err)
		return raw
	}
	const n = 3000
	stored := interleave(b, n,
		func(i int) error { return queue.Push(context.Background(), letter("ops", i)) },
		func(i int) error {
			_, err := client.Enqueue(asynq.NewTask("dead-letter", encoded(i)))
			return err
		},
		func(i int) error {
			return publisher.Publish("poison", message.NewMessage(watermill.NewUUID(), encoded(i)))
		},
		func(i int) error {
			_, err := onPostgres.insert.Insert(context.Background(), riverLetter{encoded(i)}, once)
			return err
		})
	report(b, rate("push of a dead letter / asynq enqueueing a task", "µs", stored[0], stored[1], none))
	report(b, rate("push of a dead letter / watermill publishing a message", "µs", stored[0], stored[2], none))
	report(b, rate("push of a dead letter / river inserting a job", "µs", stored[0], stored[3], none))
	_, err = inspector.ArchiveAllPendingTasks("default")
	ok(b, err)
	onPostgres.discard(b, n)
	onPostgres.stop(b) // it would look for jobs all the time
	newest := river.NewJobListParams().States(rivertype.JobStateDiscarded).OrderBy(river.JobListOrderByTime, river.SortOrderDesc).First(50)
	listed := interleave(b, 200,
		func(int) error {
			page, err := queue.Page(context.Background(), dlq.Query{Sink: "ops", Limit: 50})
			if err == nil && len(page.Items) != 50 {
				err = fmt.Errorf("%d items", len(page.Items))
			}
			return err
		},
		func(int) error {
			tasks, err := inspector.ListArchivedTasks("default", asynq.PageSize(50))
			if err == nil && len(tasks) != 50 {
				err = errors.New("not a page")
			}
			return err
		},
		func(int) error {
			jobs, err := onPostgres.insert.JobList(context.Background(), newest)
			if err == nil && len(jobs.Jobs) != 50 {
				err = errors.New("not a page")
			}
			return err
		})
	report(b, rate("page of 50 dead letters / asynq listing 50 archived tasks", "µs", listed[0], listed[1], none))
	report(b, rate("page of 50 dead letters / river listing 50 discarded jobs", "µs", listed[0], listed[2], none))
}
