package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/await"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// world is an engine over a queue that may be wiped, beside a journal in a folder.
type world struct {
	*replay.Engine
	folder  string
	memory  *dlq.Memory
	records *delivery.Memory
	options []dlq.Option
	targets targets
	ops     replay.OperationStore
	// calls counts what is asked of queue, journal and operations; the call with the number dies, and all
	// after it. 0: none does.
	calls atomic.Int64
	dies  int64
}

var errKilled = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "the process is dead"}

func (w *world) alive() error {
	if n := w.calls.Add(1); w.dies > 0 && n >= w.dies {
		return errKilled
	}
	return nil
}

func newWorld(tb testing.TB, all targets, options ...dlq.Option) *world {
	tb.Helper()
	w := &world{
		folder: tb.TempDir(), records: delivery.NewMemory(1000 * time.Hour), options: append(options, dlq.WithJournal()),
		targets: all, ops: replay.NewMemoryOperations(),
	}
	w.wipe()
	return w
}

// wipe makes a new queue: nothing is in it.
func (w *world) wipe() {
	w.memory = dlq.NewMemory(w.options...)
	w.restart()
}

// restart makes a new process.
func (w *world) restart() {
	bucket := killedBucket{journal.NewFolder(w.folder), w}
	store := killedStore{w.memory, w}
	w.Engine = engine(journal.NewQueue(store, bucket, journal.Options{}), w.targets)
	w.Records, w.Operations = w.records, killedOperations{w.ops, w}
	w.Journal = &journal.Keeper{Queue: store, Bucket: bucket, Back: w.BringBack, Log: w.Log}
}

// everything is all that the folder has, in one.
func (w *world) everything(tb testing.TB) []byte {
	tb.Helper()
	var all bytes.Buffer
	err := filepath.WalkDir(w.folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s\n%s\n", path, b)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all.Bytes()
}

// aged makes all objects so old. (Their names may tell another time than the bubble's: they ascend in the whole
// process.)
func (w *world) aged(tb testing.TB, by time.Duration) {
	tb.Helper()
	at := time.Now().Add(-by)
	err := filepath.WalkDir(w.folder, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, at, at))
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// operate runs an operation until it is final, a tick a minute.
func (w *world) operate(tb testing.TB, r replay.OperationRequest) replay.Operation {
	tb.Helper()
	op := start(tb, w.Engine, r)
	for range 30 {
		run(tb, w.Engine, replay.Request{Operation: op.ID})
		if op = progress(tb, w.Engine, op.ID); op.Status.Final() {
			return op
		}
		time.Sleep(time.Minute)
	}
	tb.Fatalf("%s goes on and on: %s", r.Action, asJSON(tb, op))
	return op
}

// audited is what an audit finds once a tick has done what it does.
func (w *world) audited(tb testing.TB) replay.AuditCounts {
	tb.Helper()
	for range 3 {
		for _, name := range []string{"a", "b"} {
			if _, err := w.Journal.Tick(tb.Context(), name); err != nil {
				tb.Fatal(err)
			}
		}
		time.Sleep(20 * time.Minute)
	}
	op := w.operate(tb, replay.OperationRequest{Action: replay.OperationAudit})
	if op.Status != replay.OperationCompleted || op.Audit == nil {
		tb.Fatalf("audit: %s", asJSON(tb, op))
	}
	return *op.Audit
}

func (w *world) items(tb testing.TB) map[string]dlq.Item {
	tb.Helper()
	page, err := w.memory.Page(tb.Context(), dlq.Query{Limit: 1000})
	if err != nil {
		tb.Fatal(err)
	}
	items := map[string]dlq.Item{}
	for _, it := range page.Items {
		items[it.DeliveryID] = it
	}
	if len(items) != len(page.Items) {
		tb.Errorf("%d dead letters of %d deliveries", len(page.Items), len(items))
	}
	return items
}

type killedBucket struct {
	journal.Bucket
	w *world
}

func (m killedBucket) Put(ctx context.Context, name string, body []byte) error {
	return errors.Join(m.w.alive(), dead(m.w, func() error { return m.Bucket.Put(ctx, name, body) }))
}

func (m killedBucket) Replace(ctx context.Context, name, tag string, body []byte) error {
	return errors.Join(m.w.alive(), dead(m.w, func() error { return m.Bucket.Replace(ctx, name, tag, body) }))
}

func (m killedBucket) Delete(ctx context.Context, names ...string) error {
	return errors.Join(m.w.alive(), dead(m.w, func() error { return m.Bucket.Delete(ctx, names...) }))
}

func (m killedBucket) Get(ctx context.Context, name string) (o journal.Object, err error) {
	return o, errors.Join(m.w.alive(), dead(m.w, func() error { o, err = m.Bucket.Get(ctx, name); return err }))
}

// dead does what a process does that is not dead yet.
func dead(w *world, do func() error) error {
	if w.dies > 0 && w.calls.Load() >= w.dies {
		return errKilled
	}
	return do()
}

type killedStore struct {
	dlq.Store
	w *world
}

func (m killedStore) Page(ctx context.Context, q dlq.Query) (dlq.Page, error) {
	if err := m.w.alive(); err != nil {
		return dlq.Page{}, err
	}
	return m.Store.Page(ctx, q)
}

func (m killedStore) Claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	if err := m.w.alive(); err != nil {
		return nil, err
	}
	return m.Store.Claim(ctx, c)
}

func (m killedStore) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	if err := m.w.alive(); err != nil {
		return nil, err
	}
	return m.Store.Settle(ctx, s)
}

func (m killedStore) Release(ctx context.Context, l []dlq.Lease) error {
	if err := m.w.alive(); err != nil {
		return err
	}
	return m.Store.Release(ctx, l)
}

func (m killedStore) Return(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error) {
	if err := m.w.alive(); err != nil {
		return nil, err
	}
	return m.Store.Return(ctx, sink, token, over, letters)
}

func (m killedStore) JournalLease(ctx context.Context, sink, token string, ttl time.Duration) (dlq.JournalView, bool, error) {
	if err := m.w.alive(); err != nil {
		return dlq.JournalView{}, false, err
	}
	return m.Store.JournalLease(ctx, sink, token, ttl)
}

func (m killedStore) NoteEnded(ctx context.Context, sink string, addresses []string) error {
	if err := m.w.alive(); err != nil {
		return err
	}
	return m.Store.NoteEnded(ctx, sink, addresses)
}

type killedOperations struct {
	replay.OperationStore
	w *world
}

func (m killedOperations) Save(ctx context.Context, id, owner string, c replay.OperationChange) (replay.OperationStatus, error) {
	if err := m.w.alive(); err != nil {
		return "", err
	}
	return m.OperationStore.Save(ctx, id, owner, c)
}

func to(address string) func(*dlq.Item) {
	return func(it *dlq.Item) { it.Recipient = []byte(`{"address":"` + address + `"}`) }
}

// settleAs settles a dead letter.
func settleAs(tb testing.TB, s dlq.Store, id string, a dlq.Action) {
	tb.Helper()
	parsed, err := dlq.ParseID(id)
	if err != nil {
		tb.Fatal(err)
	}
	leased, err := s.Claim(tb.Context(), dlq.Claim{Sink: parsed.Sink, IDs: []string{id}, TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		tb.Fatalf("Claim: %v, %v", leased, err)
	}
	if r, err := s.Settle(tb.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: a, Error: "x"}}); err != nil || r[0] != dlq.SettleApplied {
		tb.Fatalf("Settle: %v, %v", r, err)
	}
}

// queueOf is the world's whole store.
func (w *world) queueOf(tb testing.TB) dlq.Store {
	tb.Helper()
	s, ok := w.Store.(dlq.Store)
	if !ok {
		tb.Fatalf("the engine has %T", w.Store)
	}
	return s
}

// A queue was wiped. A restore brings back what was open, as parked and held as it was, and nothing of
// what the records know as ended; nothing is lost after it, and a second one changes nothing.
func TestARestoreBringsBackWhatAWipedQueueHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{})
		q := w.queueOf(t)
		push(t, q, "a", "due", 60)
		push(t, q, "b", "other", 5, idle)
		parked, held := push(t, q, "a", "parked", 1), push(t, q, "a", "held", 1)
		settleAs(t, q, parked[0], dlq.ActionPark)
		settleAs(t, q, held[0], dlq.ActionHold)
		w.audited(t) // and a tick writes the states
		var ended []delivery.Change
		for name, s := range map[string]delivery.Status{"due7": delivery.StatusDelivered, "due8": delivery.StatusDiscarded} {
			ended = append(ended, delivery.ChangeOf(w.items(t)[name], s))
		}
		if _, err := w.records.Update(t.Context(), ended...); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.records.Cancel(t.Context(), delivery.Key{Sink: "a", ID: "due9"}, "t", delivery.Record{}); err != nil {
			t.Fatal(err)
		}
		before := w.items(t)
		w.wipe()

		dry := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationRestore, DryRun: true})
		if p := dry.Preview; p == nil || p.Count != 67 || !p.Complete || dry.Restore == nil || dry.Restore.Restored != 67 || len(w.items(t)) != 0 {
			t.Errorf("dry run: %s, and %d dead letters; want 67 counted, none stored", asJSON(t, dry), len(w.items(t)))
		}
		op := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if want := (replay.RestoreCounts{Restored: 64, Skipped: 3}); op.Status != replay.OperationCompleted || *op.Restore != want {
			t.Errorf("restore: %s with %+v; want %+v", op.Status, *op.Restore, want)
		}
		after := w.items(t)
		for id, was := range before {
			now, there := after[id]
			if gone := id == "due7" || id == "due8" || id == "due9"; gone == there {
				t.Errorf("%s is there: %t", id, there)
			} else if there && (now.State(time.Now()) != was.State(time.Now()) || delivery.FingerprintOf(now) != delivery.FingerprintOf(was) || now.Journal != was.Journal) {
				t.Errorf("%s is %s; it was %s", id, asJSON(t, now.Show(time.Now())), asJSON(t, was.Show(time.Now())))
			}
		}
		rec, known, err := w.records.Get(t.Context(), delivery.Key{Sink: "a", ID: "due1"})
		if err != nil || !known || rec.Status != delivery.StatusDeadLettered || rec.ItemID != after["due1"].ID {
			t.Errorf("the record of what came back is %+v, %v", rec, err)
		}
		// Lines that are over may stay as long as their neighbours in an object.
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 64 + got.Ending, Queued: 64, Ending: got.Ending}) || got.Ending > 3 {
			t.Errorf("audit after it: %+v", got)
		}
		again := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if got := *again.Restore; got != (replay.RestoreCounts{Present: 64, Skipped: got.Skipped}) || got.Skipped > 3 {
			t.Errorf("a second restore: %+v; want 64 that are there", got)
		}
		if now := w.items(t); asJSON(t, now) != asJSON(t, after) {
			t.Error("a second restore changed something")
		}
		if got := w.audited(t); got.Queued != 64 || got.Lost+got.Unjournaled+got.Damaged+got.Spilled != 0 {
			t.Errorf("audit after the second: %+v", got)
		}
	})
}

// Dead letters that others pushed, or that were there before the journal, have no address; they are in the
// journal once a tick has written them, and a restore leaves them there.
func TestARestoreIntoAQueueThatLivesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{})
		push(t, w.memory, "a", "native", 3, idle) // beside the journal
		push(t, w.queueOf(t), "a", "addressed", 3, idle)
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 6, Queued: 6}) {
			t.Fatalf("audit before: %+v", got)
		}
		before, objects := w.items(t), w.everything(t)
		op := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if want := (replay.RestoreCounts{Present: 6}); *op.Restore != want {
			t.Errorf("restore: %+v; want %+v", *op.Restore, want)
		}
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 6, Queued: 6}) {
			t.Errorf("audit after: %+v", got)
		}
		if now := w.items(t); asJSON(t, now) != asJSON(t, before) || !bytes.Equal(w.everything(t), objects) {
			t.Errorf("the restore changed something: journal before\n%s\nafter\n%s", objects, w.everything(t))
		}
		// Both come back when the queue is lost.
		w.wipe()
		op = w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if want := (replay.RestoreCounts{Restored: 6}); *op.Restore != want || len(w.items(t)) != 6 {
			t.Errorf("restore after a wipe: %+v, %d dead letters; want %+v", *op.Restore, len(w.items(t)), want)
		}
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 6, Queued: 6}) {
			t.Errorf("audit after that: %+v", got)
		}
	})
}

// A restore that finds no room says so, and goes on when there is some.
func TestARestoreWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{}, dlq.WithMaxLen(60), dlq.WithOverflow(dlq.OverflowReject))
		push(t, w.queueOf(t), "a", "old", 60, idle)
		w.wipe()
		push(t, w.queueOf(t), "a", "new", 30, idle)
		op := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationRestore})
		for range 3 {
			run(t, w.Engine, replay.Request{})
			time.Sleep(time.Minute)
		}
		op = progress(t, w.Engine, op.ID)
		if op.Status != replay.OperationRunning || op.Restore.Restored != 30 || !op.Restore.Full || depth(t, w.memory, "a") != 60 {
			t.Fatalf("in a full queue: %s, %+v, %d dead letters; want it waiting after 30", op.Status, *op.Restore, depth(t, w.memory, "a"))
		}
		w.restart() // another process goes on
		discard := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationDiscard, Filter: &replay.Filter{Sink: "a", Reason: dlq.ReasonTerminal, Q: "secret-body"}})
		run(t, w.Engine, replay.Request{Operation: discard.ID})
		for range 3 {
			run(t, w.Engine, replay.Request{})
			time.Sleep(time.Minute)
		}
		op = progress(t, w.Engine, op.ID)
		if op.Status != replay.OperationCompleted || op.Restore.Restored != 60-op.Restore.Skipped-op.Restore.Present || op.Restore.Full {
			t.Errorf("with room: %s, %+v", op.Status, *op.Restore)
		}
		if got := w.audited(t); got.Lost != 0 || got.Unjournaled != 0 || got.Queued != depth(t, w.memory, "a") {
			t.Errorf("audit: %+v", got)
		}
	})
}

// In real time: the names of objects ascend, whatever a clock does.
func TestARestoreSince(t *testing.T) {
	w := newWorld(t, targets{})
	push(t, w.queueOf(t), "a", "old", 3, idle)
	began := time.Now()
	await.True(t, "a while later", func() bool { return time.Since(began) > 3*time.Millisecond })
	since := time.Now()
	push(t, w.queueOf(t), "a", "new", 2, idle)
	w.wipe()
	op := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore, Since: since})
	if want := (replay.RestoreCounts{Restored: 2}); *op.Restore != want || len(w.items(t)) != 2 {
		t.Errorf("%+v, %d dead letters; want the two new ones", *op.Restore, len(w.items(t)))
	}
}

// An audit that finds something lost says so.
func TestAnAuditTellsWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{})
		push(t, w.queueOf(t), "a", "m", 3, idle)
		w.aged(t, time.Hour)
		w.wipe()
		op := w.operate(t, replay.OperationRequest{Action: replay.OperationAudit})
		if want := (replay.AuditCounts{Letters: 3, Lost: 3}); op.Status != replay.OperationCompleted || *op.Audit != want {
			t.Errorf("%s, %+v; want %+v", op.Status, *op.Audit, want)
		}
	})
}

const ada = "ada@example.com"

// cap is the queue's of those that populate fills.
const cap = 8

func fullWorld(tb testing.TB) *world {
	tb.Helper()
	return newWorld(tb, targets{}, dlq.WithMaxLen(cap), dlq.WithOverflow(dlq.OverflowReject))
}

// populate stores dead letters of ada in every place there is, and of others beside them. Ada has 6: in the queue,
// parked, kept after its delivery, spilled, lost from the queue, and one that a replay holds. It returns
// the lease of the last.
func populate(tb testing.TB, w *world) dlq.Lease {
	tb.Helper()
	push(tb, w.queueOf(tb), "a", "lost", 1, idle, to(ada))
	w.wipe()
	q := w.queueOf(tb)
	push(tb, q, "a", "x", 1, idle, to("Bob@example.com"))
	var ids []string
	stored, errs := q.AddBatch(tb.Context(), []dlq.Item{
		{Sink: "a", DeliveryID: "waits", Message: sinks.Message{ID: "waits"}, Recipient: []byte(`{"address":"Ada@Example.com"}`), Reason: dlq.ReasonTerminal},
		{Sink: "a", DeliveryID: "neighbour", Message: sinks.Message{ID: "neighbour"}, Recipient: []byte(`{"address":"ada@example.org"}`), Reason: dlq.ReasonTerminal},
		{Sink: "a", DeliveryID: "parked", Message: sinks.Message{ID: "parked"}, Recipient: []byte(`{"to":[" ada@example.com"]}`), Reason: dlq.ReasonExhausted},
		{Sink: "a", DeliveryID: "kept", Message: sinks.Message{ID: "kept"}, Recipient: []byte(`{"address":"ada@example.com"}`), Reason: dlq.ReasonExhausted},
		{Sink: "a", DeliveryID: "held", Message: sinks.Message{ID: "held"}, Recipient: []byte(`{"address":"ada@example.com"}`), Reason: dlq.ReasonExhausted},
	})
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	for _, it := range stored {
		ids = append(ids, it.ID)
	}
	settleAs(tb, q, ids[2], dlq.ActionPark)
	settleAs(tb, q, ids[3], dlq.ActionKeep)
	leased, err := w.memory.Claim(tb.Context(), dlq.Claim{Sink: "a", IDs: ids[4:], TTL: 3 * time.Minute})
	if err != nil || len(leased) != 1 {
		tb.Fatalf("Claim: %v, %v", leased, err)
	}
	push(tb, q, "b", "m", cap, idle, to("bob@example.com"))
	spilled, err := q.Add(tb.Context(), dlq.Item{Sink: "b", DeliveryID: "spilled", Message: sinks.Message{ID: "spilled"}, Recipient: []byte(`"ada@EXAMPLE.com"`), Reason: dlq.ReasonTerminal})
	if err != nil || !spilled.Spilled {
		tb.Fatalf("%+v, %v; want it spilled", spilled, err)
	}
	return leased[0].Lease
}

// erased checks that nothing of ada is left, and all of the others.
func erased(tb testing.TB, w *world, op replay.Operation) {
	tb.Helper()
	if op.Status != replay.OperationCompleted || op.Recipient != nil {
		tb.Errorf("%s: %s; want it completed, and the recipient forgotten", op.Status, asJSON(tb, op))
	}
	var left []string
	for id, it := range w.items(tb) {
		left = append(left, id)
		if strings.Contains(strings.ToLower(string(it.Recipient)), ada) {
			tb.Errorf("%s is in the queue", id)
		}
	}
	slices.Sort(left)
	want := []string{"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "neighbour", "x0"}
	if !slices.Equal(left, want) {
		tb.Errorf("the queue has %v; want what is of others", left)
	}
	if all := bytes.ToLower(w.everything(tb)); bytes.Contains(all, []byte(ada)) || !bytes.Contains(all, []byte("ada@example.org")) || !bytes.Contains(all, []byte("bob@example.com")) {
		tb.Errorf("the journal has\n%s", all)
	}
	if stored, err := w.ops.Get(tb.Context(), op.ID); err != nil || strings.Contains(strings.ToLower(fmt.Sprintf("%+v", stored)), "ada@") {
		tb.Errorf("the operation's record: %+v, %v", stored, err)
	}
	if got := w.audited(tb); got.Queued != int64(len(want)) || got.Lost != 0 || got.Unjournaled != 0 || got.Ending != 0 {
		tb.Errorf("audit: %+v", got)
	}
	w.wipe() // and what is restored
	w.operate(tb, replay.OperationRequest{Action: replay.OperationRestore})
	if items := w.items(tb); len(items) != len(want) {
		tb.Errorf("a restore brought back %d, want %d", len(items), len(want))
	}
}

func TestAnErasureRemovesWhatThereIsOfARecipient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fullWorld(t)
		log := logged(w.Engine)
		populate(t, w)
		ask := replay.OperationRequest{Action: replay.OperationErase, Recipient: " ADA@example.com", Reason: "asked for", Actor: "me", IdempotencyKey: "k"}
		dry := ask
		dry.DryRun = true
		if p := start(t, w.Engine, dry).Preview; p.Count != 4 || !p.Complete || p.Erase == nil || p.Erase.Erased < 6 {
			t.Errorf("dry run: %s; want 4 in the queue, and all of the journal", asJSON(t, p))
		}
		if len(w.items(t)) != 6+cap {
			t.Errorf("a dry run left %d", len(w.items(t)))
		}
		op := start(t, w.Engine, ask)
		if again := start(t, w.Engine, ask); again.ID != op.ID {
			t.Error("the same request again is another operation")
		}
		other := ask
		other.Recipient = "bob@example.com"
		if _, err := w.CreateOperation(t.Context(), other); fault.CodeOf(err) != fault.CodeIDReused {
			t.Errorf("its key for somebody else: %v, want ID_REUSED", err)
		}
		run(t, w.Engine, replay.Request{})
		if got := progress(t, w.Engine, op.ID); got.Status != replay.OperationRunning || got.Waiting != 1 {
			t.Errorf("while one is held: %s, %d waiting; want it to wait", got.Status, got.Waiting)
		}
		for range 8 {
			time.Sleep(time.Minute)
			run(t, w.Engine, replay.Request{})
		}
		op = progress(t, w.Engine, op.ID)
		// What was lost or spilled may have come back before the erasure came to it.
		if n := op.Discarded; n < 4 || n > 6 || op.OperationCounts != counts(n, 0, 0, n, 0) || n+op.Erase.Erased < 6 {
			t.Errorf("%+v, %+v; want all six removed", op.OperationCounts, op.Erase)
		}
		for _, id := range []string{"waits", "parked", "held"} {
			if rec, _, err := w.records.Get(t.Context(), delivery.Key{Sink: "a", ID: id}); err != nil || rec.Status != delivery.StatusDiscarded {
				t.Errorf("the record of %s: %s, %v; want discarded", id, rec.Status, err)
			}
		}
		if _, err := w.CreateOperation(t.Context(), ask); fault.CodeOf(err) != fault.CodeIDReused {
			t.Errorf("its key when it is over: %v; want ID_REUSED, for nobody can tell whose it was", err)
		}
		erased(t, w, op)
		if strings.Contains(log.String(), "ada") {
			t.Errorf("the log has it: %s", log)
		}
	})
}

// A process that dies at any of its calls leaves what the next one ends.
func TestAnErasureOutlivesItsProcesses(t *testing.T) {
	calls := int64(1 << 40)
	for n := int64(1); n < calls; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := fullWorld(t)
			populate(t, w)
			op := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationErase, Recipient: ada})
			w.calls.Store(0)
			w.dies = n
			for range 8 {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
				if _, err := w.Run(ctx, replay.Request{Operation: op.ID}); err != nil && !errors.Is(err, errKilled) {
					t.Errorf("dead at %d: %v", n, err)
				}
				cancel()
				time.Sleep(2 * time.Minute) // leases run out
				if done := w.calls.Load() < n; done {
					calls = n
				}
				w.dies = 0
				w.restart()
			}
			op = progress(t, w.Engine, op.ID)
			erased(t, w, op)
			if t.Failed() {
				t.Logf("dead at call %d", n)
				calls = 0
			}
		})
	}
	if calls < 10 && calls > 0 {
		t.Errorf("only %d calls were made", calls)
	}
}

// So does a restore.
func TestARestoreOutlivesItsProcesses(t *testing.T) {
	calls := int64(1 << 40)
	for n := int64(1); n < calls; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, targets{})
			push(t, w.queueOf(t), "a", "m", 60, idle)
			push(t, w.queueOf(t), "b", "n", 1, idle)
			w.wipe()
			op := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationRestore})
			w.calls.Store(0)
			w.dies = n
			for range 4 {
				if _, err := w.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil && !errors.Is(err, errKilled) {
					t.Errorf("dead at %d: %v", n, err)
				}
				time.Sleep(20 * time.Minute)
				if done := w.calls.Load() < n; done {
					calls = n
				}
				w.dies = 0
				w.restart()
			}
			op = progress(t, w.Engine, op.ID)
			if op.Status != replay.OperationCompleted || op.Restore.Restored+op.Restore.Present != 61 || len(w.items(t)) != 61 {
				t.Errorf("dead at call %d: %s, %+v, %d dead letters", n, op.Status, *op.Restore, len(w.items(t)))
				calls = 0
			}
			if got := w.audited(t); got != (replay.AuditCounts{Letters: 61, Queued: 61}) {
				t.Errorf("dead at call %d: audit %+v", n, got)
				calls = 0
			}
		})
	}
	if calls < 5 && calls > 0 {
		t.Errorf("only %d calls were made", calls)
	}
}
