package conform_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/conform"
	"backstop/internal/faultproxy"
	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/journal"
	"backstop/lib/sinks"
)

const sink = "ops"

// entry is a call of Redis, or something else that happened.
type entry struct {
	call faultproxy.Call
	do   func(c *conform.Checker)
	name string
}

// stage is the library's stores on a real Redis whose calls are recorded.
type stage struct {
	t       *testing.T
	records *delivery.Redis
	queue   dlq.Store
	gate    *flow.Redis
	cancel  *delivery.Canceler
	past    redis.UniversalClient // the recording
	client  redis.UniversalClient
	bucket  *bucket // of the journal; nil: there is none
	spread  bool    // the sink has several shards
	ticks   *journal.Keeper

	mu   sync.Mutex
	tape []entry
}

func newStage(t *testing.T) *stage {
	t.Helper()
	server := redistest.Start(t)
	s := &stage{t: t, past: server.Client(t)}
	p, err := faultproxy.Record(context.Background(), server.Addr, 1, func(calls []faultproxy.Call) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range calls {
			s.tape = append(s.tape, entry{call: c})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	client := redis.NewUniversalClient(redistest.ClientOptions(p.Addr))
	t.Cleanup(func() { _ = client.Close() })
	s.client = client
	s.records, s.queue, s.gate = delivery.NewRedis(client, "", 0), dlq.NewRedis(client), flow.NewRedis(client, "")
	s.cancel = &delivery.Canceler{Records: s.records, Letters: s.queue}
	return s
}

// shards is over how many the scenes' letters are that have several.
const shards = 3

// spreads has a queue for each shard, and returns a delivery whose letters are in another than the first.
func (s *stage) spreads() (i int) {
	s.t.Helper()
	s.must(s.past.HSet(s.t.Context(), "backstop:dlq:~shards", sink, fmt.Sprintf("%d 0 1", shards)).Err()) // since long ago
	q := dlq.NewRedis(s.client, dlq.WithShards(func(string) int { return shards }))
	s.queue, s.cancel.Letters, s.spread = q, q, true
	for i = range deliveries {
		if dlq.Shard(key(i).ID, shards) > 0 {
			return i
		}
	}
	s.t.Fatal("all deliveries are in the first shard")
	return 0
}

// journals gives the queue, which takes so many letters, a journal; 0: no bound.
func (s *stage) journals(room int) {
	s.t.Helper()
	inner := dlq.NewRedis(s.client, dlq.WithJournal(), dlq.WithMaxLen(room), dlq.WithOverflow(dlq.OverflowReject))
	s.bucket = &bucket{Folder: journal.NewFolder(s.t.TempDir()), s: s}
	q := journal.NewQueue(inner, s.bucket, journal.Options{Log: slog.New(slog.DiscardHandler)})
	s.queue, s.ticks = q, &journal.Keeper{Queue: inner, Bucket: s.bucket, MaxLen: room}
	s.cancel.Letters = q
}

// tick has the journal do what is left to do.
func (s *stage) tick() {
	s.t.Helper()
	_, err := s.ticks.Tick(s.t.Context(), sink)
	s.must(err)
}

// bucket tells what its objects become.
type bucket struct {
	*journal.Folder

	s     *stage
	fails bool // whatever is put
}

var errBucket = errors.New("the bucket fails")

// changes makes a change of an object and has it recorded, as if it had been some time ago: nobody is at writing it any more.
func (b *bucket) changes(ctx context.Context, name string, do func() error) error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	body := func() []byte {
		o, err := b.Get(ctx, name)
		if err != nil {
			return nil
		}
		return o.Body
	}
	was := body()
	if err := do(); err != nil {
		return err
	}
	now, at := body(), time.Now().Add(-time.Minute)
	if !bytes.Equal(was, now) {
		what := "object"
		if now == nil {
			what = "object removed"
		}
		b.s.tape = append(b.s.tape, entry{name: what, do: func(c *conform.Checker) { c.Journal(at, name, was, now) }})
	}
	return nil
}

func (b *bucket) Put(ctx context.Context, name string, body []byte) error {
	if b.fails {
		return errBucket
	}
	return b.changes(ctx, name, func() error { return b.Folder.Put(ctx, name, body) })
}

func (b *bucket) Replace(ctx context.Context, name, tag string, body []byte) error {
	return b.changes(ctx, name, func() error { return b.Folder.Replace(ctx, name, tag, body) })
}

func (b *bucket) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := b.changes(ctx, name, func() error { return b.Folder.Delete(ctx, name) }); err != nil {
			return err
		}
	}
	return nil
}

// happens adds something that no store sees, by a name that plants find.
func (s *stage) happens(name string, do func(c *conform.Checker)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tape = append(s.tape, entry{name: name, do: do})
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func key(i int) delivery.Key { return delivery.Key{Sink: sink, ID: fmt.Sprintf("d-%d", i)} }

// fingerprint is that of a delivery's content.
func fingerprint(i, content int) string {
	return dlq.ContentFingerprint(nil, "", fmt.Sprintf("%d %d", i, content), nil)
}

const lease = time.Minute

func (s *stage) begin(i int, token string, change func(b *delivery.Begin)) (delivery.State, delivery.Record) {
	s.t.Helper()
	b := delivery.Begin{Key: key(i), Fingerprint: fingerprint(i, 0), Token: token, Lease: lease}
	if change != nil {
		change(&b)
	}
	state, found, err := s.records.Begin(s.t.Context(), b)
	s.must(err)
	return state, found
}

func (s *stage) finish(i int, token string, status delivery.Status, unanswered int) {
	s.t.Helper()
	r := delivery.Record{Sink: sink, ID: key(i).ID, Status: status, Fingerprint: fingerprint(i, 0), UpdatedAt: time.Now().UTC(), Unanswered: unanswered}
	_, _, err := s.records.Finish(s.t.Context(), key(i), token, r)
	s.must(err)
}

func (s *stage) push(i, content int) {
	s.t.Helper()
	s.must(s.queue.Push(s.t.Context(), dlq.Item{
		DeliveryID: key(i).ID, Sink: sink, At: time.Now(), Message: sinks.Message{ID: key(i).ID, Body: fmt.Sprintf("%d %d", i, content)},
		Attempts: 1, LastError: "x", Reason: dlq.ReasonExhausted,
	}))
}

func (s *stage) claim(token string) []dlq.Leased {
	s.t.Helper()
	leased, err := s.queue.Claim(s.t.Context(), dlq.Claim{Sink: sink, Token: token, TTL: lease, Limit: 10})
	s.must(err)
	return leased
}

func (s *stage) settle(l dlq.Leased, a dlq.Action) {
	s.t.Helper()
	_, err := s.queue.Settle(s.t.Context(), []dlq.Settlement{{Lease: l.Lease, Action: a}})
	s.must(err)
}

func (s *stage) tell(i int, status delivery.Status) {
	s.t.Helper()
	_, err := s.records.Update(s.t.Context(), delivery.Change{Key: key(i), Status: status, Fingerprint: fingerprint(i, 0)})
	s.must(err)
}

func (s *stage) arrives(i int, taken bool) {
	at := time.Now()
	s.happens("arrives", func(c *conform.Checker) { c.Arrived(i, 0, at, taken, taken) })
}

// evict has a cache forget the record of a delivery.
func (s *stage) evict(i int) {
	s.t.Helper()
	keys, _ := redisconn.New(nil, redisconn.DefaultPrefix, "").Keys.Record(sink, key(i).ID, delivery.DefaultTTL, "")
	from := time.Now()
	s.must(s.past.Del(s.t.Context(), keys[0]).Err())
	to := time.Now()
	s.happens("evicted", func(c *conform.Checker) { c.Evicted(i, from, to, true) })
}

func (s *stage) told(i int, what string) {
	s.happens("told", func(c *conform.Checker) { c.Told(i, 0, what) })
}

// canceled cancels a delivery by the library, and says that it was.
func (s *stage) canceled(i int) {
	s.t.Helper()
	s.happens("cancels", func(c *conform.Checker) { c.Canceling(i) })
	a, err := s.cancel.Cancel(s.t.Context(), key(i))
	s.must(err)
	s.happens("told canceled", func(c *conform.Checker) { c.CancelTold(i, true, a.MayHaveArrived, true) })
}

// isA reports whether a call is one of a script with this argument (of records: its event).
func isA(e entry, script, arg string) bool {
	return len(e.call.Args) > 3 && strings.HasPrefix(strings.ToLower(e.call.Args[0]), "eval") && scriptOf(e.call) == script &&
		(arg == "" || slices.Contains(e.call.Args[3:], arg))
}

var (
	namesMu sync.Mutex
	names   = map[string]string{}
)

// scriptOf names the script of a call.
func scriptOf(k faultproxy.Call) string {
	namesMu.Lock()
	defer namesMu.Unlock()
	if strings.EqualFold(k.Args[0], "eval") {
		hash, name := conform.ScriptName(k.Args[1])
		names[hash] = name
		return name
	}
	return names[k.Args[1]]
}

// check plays a tape to a checker, and returns what does not conform. spread: its sink has several shards.
func check(tape []entry, n int, spread bool) (failed []string) {
	records := map[string]int{}
	for i := range n {
		keys, _ := redisconn.New(nil, redisconn.DefaultPrefix, "").Keys.Record(sink, key(i).ID, delivery.DefaultTTL, "")
		records[keys[0]] = i
	}
	shard := func(i int) int { return dlq.Shard(key(i).ID, shards) }
	if !spread {
		shard = nil
	}
	c := conform.New(conform.Options{
		N: n, Shard: shard, Name: func(i int) string { return key(i).ID },
		Record: func(key string) (int, bool) { i, ok := records[key]; return i, ok },
		Delivery: func(_, id, body string) (i, content int, ok bool) {
			_, err := fmt.Sscanf(body, "%d %d", &i, &content)
			return i, content, err == nil && key(i).ID == id
		},
		Fingerprints: func(i int) []string { return []string{fingerprint(i, 0), fingerprint(i, 1)} },
		Failed:       func(text string) { failed = append(failed, text) },
	})
	for _, e := range tape {
		if e.do != nil {
			e.do(c)
		} else {
			c.Calls([]faultproxy.Call{e.call})
		}
	}
	c.Close()
	return failed
}

// encode writes a value as Redis does.
func encode(v any) string {
	switch v := v.(type) {
	case int64:
		return ":" + strconv.FormatInt(v, 10) + "\r\n"
	case string:
		return "$" + strconv.Itoa(len(v)) + "\r\n" + v + "\r\n"
	case []any:
		text := "*" + strconv.Itoa(len(v)) + "\r\n"
		for _, e := range v {
			text += encode(e)
		}
		return text
	}
	return "$-1\r\n"
}

// answers changes the answer of a call.
func answers(change func(v any) any) func(e entry) []entry {
	return func(e entry) []entry {
		v, err := faultproxy.Value(e.call.Reply)
		if err != nil {
			panic(err)
		}
		e.call.Reply = []byte(encode(change(v)))
		return []entry{e}
	}
}

// part changes one part of an answer.
func part(n int, to any) func(e entry) []entry {
	return answers(func(v any) any {
		list := slices.Clone(v.([]any)) //nolint:errcheck,forcetypeassert // it is the script's
		list[n] = to
		return list
	})
}

// is gives another answer.
func is(to any) func(e entry) []entry { return answers(func(any) any { return to }) }

// gone leaves it out.
func gone(entry) []entry { return nil }

// twice has it happen once more, with changes.
func twice(change func(e *entry)) func(e entry) []entry {
	return func(e entry) []entry {
		again := e
		again.call.Args = slices.Clone(e.call.Args)
		if change != nil {
			change(&again)
		}
		return []entry{e, again}
	}
}

// replaced puts an argument in place of another.
func replaced(was, now string) func(e entry) []entry {
	return func(e entry) []entry {
		e.call.Args = slices.Clone(e.call.Args)
		for i, a := range e.call.Args {
			if a == was {
				e.call.Args[i] = now
			}
		}
		return []entry{e}
	}
}

// silent has no answer of it come.
func silent(e entry) []entry {
	e.call.Reply = nil
	return []entry{e}
}
