package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal"
	"backstop/lib/replay"
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

// cap is the queue's of those that populate fills.
const cap = 8
