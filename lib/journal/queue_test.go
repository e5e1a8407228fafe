package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/delay"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal"
	"backstop/lib/sinks"
)

// shelf is a Bucket in memory, whose calls can be made to fail.
type shelf struct {
	mu      sync.Mutex
	objects map[string][]byte
	// before is asked before each call, after it has been carried out where it says so. Nil: all is well.
	before func(ctx context.Context, call, name string) (then error, done bool)
}

func newShelf() *shelf { return &shelf{objects: map[string][]byte{}} }

// trouble makes a call, unless there is trouble; its effect may be there all the same.
func (s *shelf) trouble(ctx context.Context, call, name string, do func() error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var then error
	done := true
	if s.before != nil {
		then, done = s.before(ctx, call, name)
	}
	var err error
	if done {
		s.mu.Lock()
		err = do()
		s.mu.Unlock()
	}
	if then != nil {
		return then
	}
	return err
}

func (s *shelf) Put(ctx context.Context, name string, body []byte) error {
	return s.trouble(ctx, "put", name, func() error {
		if _, ok := s.objects[name]; ok {
			return journal.ErrExists
		}
		s.objects[name] = body
		return nil
	})
}

func (s *shelf) Get(ctx context.Context, name string) (o journal.Object, err error) {
	err = s.trouble(ctx, "get", name, func() error {
		body, ok := s.objects[name]
		if !ok {
			return journal.ErrNotFound
		}
		o = journal.Object{Body: body, Tag: string(body)}
		return nil
	})
	return o, err
}

func (s *shelf) Replace(ctx context.Context, name, tag string, body []byte) error {
	return s.trouble(ctx, "replace", name, func() error {
		if now, ok := s.objects[name]; !ok || string(now) != tag {
			return journal.ErrChanged
		}
		s.objects[name] = body
		return nil
	})
}

func (s *shelf) Delete(ctx context.Context, names ...string) error {
	return s.trouble(ctx, "delete", strings.Join(names, " "), func() error {
		for _, name := range names {
			delete(s.objects, name)
		}
		return nil
	})
}

func (s *shelf) List(ctx context.Context, prefix, after string, limit int) (found []journal.Listed, more bool, err error) {
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	err = s.trouble(ctx, "list", prefix, func() error {
		for _, name := range s.names(prefix) {
			if name <= after {
				continue
			}
			if len(found) == limit {
				more = true
				break
			}
			found = append(found, journal.Listed{Name: name, Size: int64(len(s.objects[name]))})
		}
		return nil
	})
	return found, more, err
}

func (s *shelf) Folders(ctx context.Context, prefix string) (folders []string, err error) {
	err = s.trouble(ctx, "list", prefix, func() error {
		for _, name := range s.names(prefix) {
			folder, _, ok := strings.Cut(name[len(prefix):], "/")
			if folder = prefix + folder + "/"; ok && (len(folders) == 0 || folders[len(folders)-1] != folder) {
				folders = append(folders, folder)
			}
		}
		return nil
	})
	return folders, err
}

func (s *shelf) Purge(context.Context, string, string, func(string, []byte) bool) (int, string, error) {
	return 0, "", nil // it has no versions
}

// names returns the names with a prefix, in order. The caller holds mu.
func (s *shelf) names(prefix string) []string {
	var names []string
	for name := range s.objects {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// under returns the names of the objects in a folder.
func (s *shelf) under(folder string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names(folder + "/")
}

// moody is a queue whose pushes end as its mood says.
type moody struct {
	dlq.Store
	mood string
}

var errLost = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "no answer"}

// AddBatch is as that of Redis: a call that fails is made again until ctx ends.
func (m *moody) AddBatch(ctx context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	fail := func(err error) ([]dlq.Item, []error) {
		errs := make([]error, len(items))
		for i := range errs {
			errs[i] = err
		}
		return make([]dlq.Item, len(items)), errs
	}
	switch m.mood {
	case "full":
		return fail(&fault.Error{Code: fault.CodeDLQOverflow, Msg: "full"})
	case "full at last":
		if delay.Sleep(ctx, 300*time.Millisecond) != nil {
			return fail(errLost)
		}
		return fail(&fault.Error{Code: fault.CodeDLQOverflow, Msg: "full"})
	case "bad":
		return fail(&fault.Error{Code: fault.CodeInvalidArgument, Msg: "it can never be stored"})
	case "failed":
		<-ctx.Done()
		return fail(errLost)
	case "unknown": // it is stored, and its answers are lost
		_, _ = m.Store.AddBatch(context.WithoutCancel(ctx), items)
		<-ctx.Done()
		return fail(errLost)
	case "second": // the first try was lost
		if delay.Sleep(ctx, 260*time.Millisecond) != nil {
			return fail(errLost)
		}
	}
	return m.Store.AddBatch(ctx, items)
}

// moods are those of a journal.
var moods = map[string]func(ctx context.Context, call, name string) (error, bool){
	"stored": nil,
	"failed": func(context.Context, string, string) (error, bool) { return errors.New("denied"), false },
	"slow": func(ctx context.Context, _, _ string) (error, bool) {
		<-ctx.Done()
		return ctx.Err(), false
	},
	"unknown": func(context.Context, string, string) (error, bool) { return errors.New("connection reset"), true },
	"no spills": func(_ context.Context, call, name string) (error, bool) {
		if call == "put" && strings.HasPrefix(name, "spill/") {
			return errors.New("denied"), false
		}
		return nil, true
	},
}

// The outcome of a push by what the queue and the journal make of it. Never past its time; what is
// told to be kept is kept, and what the journal lacks of it the queue knows.
func TestWhatBecomesOfAPush(t *testing.T) {
	const time750 = 750 * time.Millisecond // what a reserve of one second has for it
	for _, c := range []struct {
		queue, journal string
		want           string // kept, spilled, or the code
		unjournaled    int64
	}{
		{"stored", "stored", "kept", 0},
		{"stored", "failed", "kept", 1},
		{"stored", "slow", "kept", 1},
		{"stored", "unknown", "kept", 1},
		{"second", "stored", "kept", 0},
		{"second", "failed", "kept", 1},
		{"second", "slow", "kept", 1},
		{"second", "unknown", "kept", 1},
		{"full", "stored", "spilled", 0},
		{"full", "failed", "SINK_DLQ_OVERFLOW", 0},
		{"full", "slow", "SINK_DLQ_OVERFLOW", 0},
		{"full", "unknown", "SINK_DLQ_OVERFLOW", 0},
		{"failed", "stored", "spilled", 0},
		{"failed", "failed", "SINK_DLQ_UNAVAILABLE", 0},
		{"failed", "slow", "SINK_DLQ_UNAVAILABLE", 0},
		{"failed", "unknown", "SINK_DLQ_UNAVAILABLE", 0},
		{"unknown", "stored", "spilled", 0},
		{"unknown", "failed", "SINK_DLQ_UNAVAILABLE", 0},
		{"unknown", "slow", "SINK_DLQ_UNAVAILABLE", 0},
		{"unknown", "unknown", "SINK_DLQ_UNAVAILABLE", 0},
		// What is handed back does not come back from the journal as well.
		{"full", "no spills", "SINK_DLQ_OVERFLOW", 0},
		{"failed", "no spills", "SINK_DLQ_UNAVAILABLE", 0},
		{"bad", "stored", "INVALID_ARGUMENT", 0},
		{"full at last", "stored", "spilled", 0},
	} {
		t.Run(c.queue+" "+c.journal, func(t *testing.T) {
			var faults []string
			synctest.Test(t, func(t *testing.T) {
				faults = outcome(t.Context(), c.queue, c.journal, c.want, c.unjournaled, time750)
			})
			for _, f := range faults {
				t.Error(f)
			}
		})
	}
}

// A delivery that failed at once leaves most of an invocation for its dead letter. A cache or a bucket that
// is away takes little of it.
func TestAPushThatHasMuchTimeTakesLittle(t *testing.T) {
	for _, c := range []struct {
		queue, journal string
		most           time.Duration
	}{
		{"stored", "stored", 0},
		{"failed", "stored", time.Second},
		{"unknown", "stored", time.Second},
		{"stored", "slow", 2 * time.Second},
		{"failed", "slow", 10 * time.Second},
	} {
		t.Run(c.queue+" "+c.journal, func(t *testing.T) {
			var took time.Duration
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				s.before = moods[c.journal]
				q := journal.NewQueue(&moody{dlq.NewMemory(dlq.WithJournal()), c.queue}, s, journal.Options{Log: slog.New(slog.DiscardHandler)})
				ctx, cancel := context.WithTimeout(t.Context(), 27*time.Second)
				defer cancel()
				began := time.Now()
				_, _ = q.Add(ctx, letter("ops", "m-1")) // TestWhatBecomesOfAPush says what
				took = time.Since(began)
			})
			if took > c.most {
				t.Errorf("it took %s, want %s at most", took, c.most)
			}
		})
	}
}

func outcome(ctx context.Context, queue, bucket, want string, unjournaled int64, within time.Duration) (faults []string) {
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	inner, s := dlq.NewMemory(dlq.WithJournal()), newShelf()
	s.before = moods[bucket]
	spills := 0
	q := journal.NewQueue(&moody{inner, queue}, s, journal.Options{OnSpill: func(_ string, n int) { spills += n }, Log: slog.New(slog.DiscardHandler)})
	pctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	it, err := q.Add(pctx, dlq.Item{Sink: "ops", DeliveryID: "m-1", Reason: dlq.ReasonExhausted, LastError: "x", Message: sinks.Message{ID: "m-1", Body: "hello"}})
	took := time.Since(began)
	if took >= within {
		wrong("it took %s", took)
	}
	got := "kept"
	switch {
	case err != nil:
		got = string(fault.CodeOf(err))
	case it.Spilled:
		got = "spilled"
	}
	if got != want {
		wrong("it was %s (%v), want %s", got, err, want)
	}
	n, countErr := inner.Count(ctx, "ops")
	if want := int64(0); countErr != nil || (queue == "stored" || queue == "second" || queue == "unknown") != (n == 1) && n != want {
		wrong("the queue has %d, %v", n, countErr)
	}
	open, spilled := len(s.under("open")), len(s.under("spill"))
	switch got {
	case "kept":
		if it.ID == "" || n != 1 {
			wrong("kept as %q, and the queue has %d", it.ID, n)
		}
		if bucket == "stored" && open != 1 {
			wrong("%d objects", open)
		}
	case "spilled":
		if it.ID != "" || spilled != 1 || spills != 1 {
			wrong("spilled with id %q, in %d objects, told %d times", it.ID, spilled, spills)
		}
		if took > within*3/4 { // the queue had its second try
			wrong("it took %s", took)
		}
	default:
		if (bucket == "stored" || bucket == "no spills") && open+spilled > 0 {
			wrong("handed back, and the journal has %d and %d objects", open, spilled)
		}
	}
	stats, err := inner.Stats(ctx, "ops")
	if err != nil || stats.Journal.Unjournaled != unjournaled {
		wrong("%d unjournaled, %v; want %d", stats.Journal.Unjournaled, err, unjournaled)
	}
	return faults
}

// Of a queue that refuses what it has no room for, the caller keeps it: nothing stays in the journal.
func TestAFullQueueThatKeepsNothing(t *testing.T) {
	inner, s := dlq.NewMemory(dlq.WithJournal(), dlq.WithMaxLen(1), dlq.WithOverflow(dlq.OverflowReject)), newShelf()
	q := journal.NewQueue(inner, s, journal.Options{KeepFull: true, Log: slog.New(slog.DiscardHandler)})
	stored, errs := q.AddBatch(t.Context(), []dlq.Item{letter("ops", "m-1"), letter("ops", "m-2"), letter("other", "m-3")})
	if errs[0] != nil || fault.CodeOf(errs[1]) != fault.CodeDLQOverflow || errs[2] != nil || stored[1].Spilled {
		t.Fatalf("%+v, %v", stored, errs)
	}
	if err := q.Push(t.Context(), letter("ops", "m-4")); fault.CodeOf(err) != fault.CodeDLQOverflow {
		t.Fatal(err)
	}
	if got := s.under("open"); len(got) != 2 || len(s.under("spill")) != 0 {
		t.Errorf("objects %q", got)
	}
	// m-2 has a line beside that of m-1, and must not come back from there.
	address := stored[0].Journal[:len(stored[0].Journal)-1] + "1"
	over, err := inner.AreEnded(t.Context(), "ops", []string{stored[0].Journal, address})
	if err != nil || over[0] || !over[1] {
		t.Errorf("over: %v, %v", over, err)
	}
}

func letter(sink, id string) dlq.Item {
	return dlq.Item{Sink: sink, DeliveryID: id, Reason: dlq.ReasonExhausted, LastError: "x", Message: sinks.Message{ID: id, Body: "hello"}}
}

// A replay of an item keeps it in the queue: a push under it is not spilled, for the replay would be
// taken for a delivery.
func TestWhatAReplayPushesIsNotSpilled(t *testing.T) {
	inner, s := dlq.NewMemory(dlq.WithJournal(), dlq.WithMaxLen(1), dlq.WithOverflow(dlq.OverflowReject)), newShelf()
	q := journal.NewQueue(inner, s, journal.Options{Log: slog.New(slog.DiscardHandler)})
	it, err := q.Add(t.Context(), letter("ops", "m-1"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := q.Add(dlq.WithOrigin(t.Context(), dlq.Origin{ItemID: it.ID, Generation: 1}), letter("ops", "m-1"))
	if fault.CodeOf(err) != fault.CodeDLQOverflow || again.Spilled || len(s.under("spill")) != 0 {
		t.Errorf("%+v, %v, spilled %q", again, err, s.under("spill"))
	}
}

// What is pushed at once is one object for each sink; its lines tell the letters, and the queue their
// addresses.
func TestOneObjectPerGroupAndSink(t *testing.T) {
	inner, s := dlq.NewMemory(dlq.WithJournal()), newShelf()
	q := journal.NewQueue(inner, s, journal.Options{})
	var items []dlq.Item
	for i := range 2 * (journal.MaxLines + 1) {
		items = append(items, letter([]string{"ops", "mail"}[i%2], fmt.Sprintf("m-%d", i)))
	}
	stored, errs := q.AddBatch(t.Context(), items)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, sink := range []string{"ops", "mail"} {
		if got := s.under("open/" + sink); len(got) != 2 {
			t.Errorf("%s has objects %q, want two: %d lines are the most", sink, got, journal.MaxLines)
		}
	}
	for i, it := range stored {
		g, line, ok := strings.Cut(it.Journal, ":")
		if !ok {
			t.Fatalf("address %q", it.Journal)
		}
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Get(t.Context(), "open/"+it.Sink+"/"+g+".ndjson")
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Split(string(o.Body), "\n")[n]; !strings.Contains(text, fmt.Sprintf(`"delivery_id":"m-%d"`, i)) {
			t.Errorf("m-%d is at %s, where is %s", i, it.Journal, text)
		}
	}
}
