package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
)

// eachQueue runs check on both queues.
func eachQueue(t *testing.T, check func(t *testing.T, queue dlq.Store)) {
	t.Helper()
	t.Run("Memory", func(t *testing.T) { check(t, dlq.NewMemory()) })
	t.Run("Redis", func(t *testing.T) {
		_, client := openRedis(t)
		check(t, dlq.NewRedis(client))
	})
}

func openRedis(t *testing.T) (*miniredis.Miniredis, *redis.Client) {
	t.Helper()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	return server, client
}

func items(t *testing.T, queue dlq.DLQ, sink string) []dlq.Item {
	t.Helper()
	all, err := queue.Items(t.Context(), sink, 0)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var errDown = errors.New("down")

// A replay hands the sink a value of its own recipient type, whichever queue kept it, and
// finds the decoder below the Retrier.
func TestAReplayRebuildsTheRecipientsType(t *testing.T) {
	eachQueue(t, func(t *testing.T, queue dlq.Store) {
		var got []sinks.Recipient
		failing := errDown
		s := decoding{gateway{func(_ context.Context, to sinks.Recipient, _ sinks.Message) error {
			got = append(got, to)
			return failing
		}}, readBadge}
		registry := sinks.NewRegistry(retry.WrapSink(s, retry.Config{MaxAttempts: 1}, queue))
		queue.SetRegistryLookup(registry.Get)
		wrapped, _ := registry.Get("gateway")
		if err := wrapped.Send(t.Context(), badge{"7"}, sinks.Message{ID: "m", Body: "x"}); err != nil {
			t.Fatal(err)
		}
		failing = nil
		if err := queue.Replay(t.Context(), items(t, queue, "gateway")[0].ID); err != nil {
			t.Fatal(err)
		}
		if want := []sinks.Recipient{badge{"7"}, badge{"7"}}; !slices.Equal(got, want) {
			t.Errorf("sent to %#v, want %#v", got, want)
		}
	})
}

// A recipient of the wrong type is no reason to try again: the sink says INVALID_ARGUMENT,
// and the message waits for somebody to look at it.
func TestAForeignRecipientIsRefusedOnceAndKept(t *testing.T) {
	queue, calls := dlq.NewMemory(), 0
	s := gateway{func(_ context.Context, to sinks.Recipient, _ sinks.Message) error {
		calls++
		if _, ok := to.(badge); !ok {
			return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "recipient: want a badge"}
		}
		return nil
	}}
	err := retry.WrapSink(s, retry.Config{}, queue).Send(t.Context(), "somebody", sinks.Message{Body: "x"})
	kept := items(t, queue, "")
	if err != nil || calls != 1 || len(kept) != 1 || kept[0].Reason != dlq.ReasonInvalid || kept[0].State(time.Now()) != dlq.StateWaiting {
		t.Errorf("%v after %d calls, kept %+v; want it kept as invalid after one", err, calls, kept)
	}
}

// IsTransientFn stands in for the classification.
func TestAClassifierOfOnesOwnDecides(t *testing.T) {
	for _, again := range []bool{true, false} {
		calls := 0
		r := retry.NewRetrier(gateway{func(context.Context, sinks.Recipient, sinks.Message) error {
			calls++
			return errDown
		}}, retry.Config{MaxAttempts: 3, BaseBackoff: 1, MaxBackoff: 1}, dlq.NewMemory())
		r.IsTransientFn = func(err error) bool { return again && errors.Is(err, errDown) }
		want := map[bool]int{true: 3, false: 1}[again]
		if out := r.Deliver(t.Context(), nil, sinks.Message{}); out.Attempts != want || calls != want {
			t.Errorf("IsTransientFn says %v: %d attempts, %d calls; want %d", again, out.Attempts, calls, want)
		}
	}
}

// Callers cannot tell whether a sink is wrapped, unless they ask.
func TestARetrierIsASinkOfTheSameName(t *testing.T) {
	inner := gateway{}
	var s sinks.Sink = retry.NewRetrier(inner, retry.Config{}, nil)
	u, ok := s.(interface{ Unwrap() sinks.Sink })
	if s.Name() != inner.Name() || !sinks.Retries(s) || sinks.Retries(inner) || !ok || u.Unwrap().Name() != "gateway" {
		t.Errorf("%T is called %q, Unwrap %v", s, s.Name(), ok)
	}
}

// letterbox is a queue of the embedder's own: it only takes what is pushed.
type letterbox struct {
	dlq.DLQ
	err  error
	kept []dlq.Item
}

func (l *letterbox) Push(_ context.Context, it dlq.Item) error {
	if l.err == nil {
		l.kept = append(l.kept, it)
	}
	return l.err
}

// Any DLQ will do. One that fails hands the message back, with its own code or with
// SINK_DLQ_UNAVAILABLE, and with what the sink said.
func TestAQueueOfOnesOwnKeepsOrHandsBack(t *testing.T) {
	down := gateway{func(context.Context, sinks.Recipient, sinks.Message) error { return errDown }}
	box := &letterbox{}
	if err := retry.NewRetrier(down, retry.Config{}, box).Send(t.Context(), badge{"7"}, sinks.Message{ID: "m", Body: "x"}); err != nil || len(box.kept) != 1 {
		t.Fatalf("%v, %d kept", err, len(box.kept))
	}
	if it := box.kept[0]; it.Sink != "gateway" || string(it.Recipient) != `{"Number":"7"}` || it.Message.Body != "x" || it.Attempts != 1 || it.LastError != "down" {
		t.Errorf("kept %+v", it)
	}
	full := errors.New("no paper")
	for _, tt := range []struct {
		err  error
		code fault.Code
	}{
		{full, fault.CodeDLQUnavailable},
		{&fault.Error{Code: fault.CodeDLQOverflow, Cause: full}, fault.CodeDLQOverflow},
	} {
		err := retry.NewRetrier(down, retry.Config{}, &letterbox{err: tt.err}).Send(t.Context(), nil, sinks.Message{Body: "x"})
		if fault.CodeOf(err) != tt.code || !errors.Is(err, full) || !errors.Is(err, errDown) {
			t.Errorf("%v: got %v, want %s with both causes", tt.err, err, tt.code)
		}
	}
}

// The item's JSON is a contract: these names are what others read and write.
func TestAnItemsJSON(t *testing.T) {
	b, err := json.Marshal(dlq.Item{
		ID: "gateway~1-0", Sink: "gateway", At: time.Unix(0, 0).UTC(), Recipient: json.RawMessage(`{"Number":"7"}`),
		Message: sinks.Message{ID: "m", Subject: "s", Body: "b", Metadata: map[string]string{"k": "v"}}, Attempts: 5, LastError: "HTTP 503",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"id":"gateway~1-0"`, `"sink":"gateway"`, `"at":"1970-01-01T00:00:00Z"`, `"recipient":{"Number":"7"}`,
		`"message":{"id":"m","subject":"s","body":"b","metadata":{"k":"v"}}`, `"attempts":5`, `"last_error":"HTTP 503"`,
	} {
		if !strings.Contains(string(b), part) {
			t.Errorf("%s is not in %s", part, b)
		}
	}
}

// One stream for each sink, under a prefix of one's own, and a bound on its length.
func TestTheStreamOfASinkInRedis(t *testing.T) {
	_, client := openRedis(t)
	for name, tt := range map[string]struct {
		opts []dlq.Option
		key  string
		want int64
	}{
		"as it comes": {nil, "backstop:dlq:gateway", 5},
		"a prefix":    {[]dlq.Option{dlq.WithKeyPrefix("mine")}, "mine:dlq:gateway", 5},
		"bounded":     {[]dlq.Option{dlq.WithKeyPrefix("short"), dlq.WithMaxLen(3)}, "short:dlq:gateway", 3},
		"unbounded":   {[]dlq.Option{dlq.WithKeyPrefix("long"), dlq.WithMaxLen(3), dlq.WithMaxLen(0)}, "long:dlq:gateway", 5},
	} {
		queue := dlq.NewRedis(client, tt.opts...)
		for i := range 5 {
			if err := queue.Push(t.Context(), dlq.Item{Sink: "gateway", DeliveryID: fmt.Sprint("m", i), Message: sinks.Message{Body: "x"}, LastError: "down"}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := client.XLen(t.Context(), tt.key).Result(); err != nil || n != tt.want {
			t.Errorf("%s: %d entries in %s (%v), want %d", name, n, tt.key, err, tt.want)
		}
	}
	if dlq.DefaultMaxLen != 10_000 {
		t.Errorf("the bound is %d, want 10,000", dlq.DefaultMaxLen)
	}
}

// What parsec left in Redis goes on here: it is listed, counted, replayed by an operator or
// by the schedule, and discarded.
func TestDeadLettersOfParsecGoOn(t *testing.T) {
	_, client := openRedis(t)
	for i := range 3 {
		err := client.XAdd(t.Context(), &redis.XAddArgs{
			Stream: "parsec:dlq:gateway", ID: fmt.Sprintf("174131022101%d-0", i),
			Values: []any{"item", fmt.Sprintf(`{"sink":"gateway","at":"2026-05-22T18:30:21Z","recipient":{"Number":"7"},`+
				`"message":{"Subject":"Shipped","Body":"door %d","Metadata":{"k":"v"}},"attempts":5,"last_error":"451 4.4.5"}`, i)},
		}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	var sent []string
	s := decoding{gateway{func(_ context.Context, to sinks.Recipient, m sinks.Message) error {
		sent = append(sent, fmt.Sprint(to, " ", m.Subject, " ", m.Body, " ", m.Metadata["k"]))
		return nil
	}}, readBadge}
	registry := sinks.NewRegistry()
	queue := dlq.NewRedis(client, dlq.WithKeyPrefix("parsec"), dlq.WithSinks(registry.Names))
	registry.Register(retry.WrapSink(s, retry.Config{}, queue))
	queue.SetRegistryLookup(registry.Get)

	kept := items(t, queue, "")
	if len(kept) != 3 || kept[0].Message.Body != "door 2" || kept[0].Attempts != 5 || kept[0].LastError != "451 4.4.5" {
		t.Fatalf("listed %+v", kept)
	}
	if n, err := queue.Count(t.Context(), ""); err != nil || n != 3 {
		t.Errorf("counted %d, %v", n, err)
	}
	if err := queue.Discard(t.Context(), "1741310221010-0"); err != nil { // parsec's id
		t.Error(err)
	}
	if err := queue.Replay(t.Context(), "1741310221011-0"); err != nil {
		t.Error(err)
	}
	e := &replay.Engine{Store: queue, Targets: delivery.Registered(registry), Log: slog.New(slog.DiscardHandler)}
	if s, err := e.Run(t.Context(), replay.Request{}); err != nil || s.Delivered != 1 {
		t.Errorf("%+v, %v; want the third one delivered", s, err)
	}
	if want := []string{"{7} Shipped door 1 v", "{7} Shipped door 2 v"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
	if left := items(t, queue, ""); len(left) != 1 || left[0].DeliveredAt.IsZero() {
		t.Errorf("left %+v, want the one that an operator replayed, marked", left)
	}
}

// Importing a kind is enough, and the recipients of the built-in ones are these.
func TestTheBuiltInKinds(t *testing.T) {
	for kind, tt := range map[string]struct {
		raw       map[string]any
		recipient string
		want      string
	}{
		"email":   {map[string]any{"smtp_addr": "mail.example.org:587", "from": "a@example.org"}, `{"address":"ann@example.org"}`, `{"address":"ann@example.org"}`},
		"slack":   {map[string]any{"webhook_url": "https://hooks.example.org/x"}, `{"anything":1}`, "null"},
		"webhook": {map[string]any{"url": "https://example.org/x"}, `{"url":"https://example.com/y"}`, `{"url":"https://example.com/y"}`},
	} {
		if !slices.Contains(sinks.FactoryKinds(), kind) {
			t.Errorf("%s is not registered", kind)
			continue
		}
		s, err := sinks.BuildSink(kind, "mine", tt.raw)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		to, err := sinks.DecodeRecipient(s, []byte(tt.recipient))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if b, err := json.Marshal(to); err != nil || string(b) != tt.want {
			t.Errorf("%s: recipient %s, %v; want %s", kind, b, err, tt.want)
		}
	}
}

// A recipient that parsec stored, from a struct without tags, is read as one of these kinds.
func TestStoredRecipientsOfParsecAreRead(t *testing.T) {
	for _, tt := range []struct {
		kind            string
		raw             map[string]any
		recipient, want string
	}{
		{"email", map[string]any{"smtp_addr": "mail.example.org:587", "from": "a@example.org"}, `{"Address":"ann@example.org"}`, `{"address":"ann@example.org"}`},
		{"slack", map[string]any{"webhook_url": "https://hooks.example.org/x"}, `{}`, "null"},
		{"webhook", map[string]any{"url": "https://example.org/x"}, `{"URL":"https://example.com/y"}`, `{"url":"https://example.com/y"}`},
		{"webhook", map[string]any{"url": "https://example.org/x"}, `{"URL":""}`, "{}"}, // the sink's URL
	} {
		s, err := sinks.BuildSink(tt.kind, "mine", tt.raw)
		if err != nil {
			t.Errorf("%s: %v", tt.kind, err)
			continue
		}
		to, err := sinks.DecodeStoredRecipient(s, []byte(tt.recipient))
		if err != nil {
			t.Errorf("%s: %s: %v", tt.kind, tt.recipient, err)
		}
		if b, err := json.Marshal(to); err != nil || string(b) != tt.want {
			t.Errorf("%s: %s is read as %s (%v), want %s", tt.kind, tt.recipient, b, err, tt.want)
		}
	}
}
