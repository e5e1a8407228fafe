package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

const mail = "mail"

// held is a Bucket in memory, with versions.
type held struct {
	mu      sync.Mutex
	objects map[string]Object
	at      map[string]time.Time
	older   map[string][][]byte
	tags    int
	// fault is asked before each call, by the call and its name, and may let it fail.
	fault func(op, name string) error
	// count is how often each call was made.
	count map[string]int
}

func newKept() *held {
	return &held{objects: map[string]Object{}, at: map[string]time.Time{}, older: map[string][][]byte{}, count: map[string]int{}}
}

func (b *held) enter(ctx context.Context, op, name string) error {
	b.mu.Lock()
	b.count[op]++
	fault := b.fault
	b.mu.Unlock()
	if fault != nil {
		if err := fault(op, name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *held) set(name string, body []byte) {
	if old, ok := b.objects[name]; ok {
		b.older[name] = append(b.older[name], old.Body)
	}
	b.tags++
	b.objects[name] = Object{slices.Clone(body), strconv.Itoa(b.tags)}
	b.at[name] = time.Now()
}

func (b *held) Put(ctx context.Context, name string, body []byte) error {
	if err := b.enter(ctx, "put", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[name]; ok {
		return ErrExists
	}
	b.set(name, body)
	return nil
}

func (b *held) Get(ctx context.Context, name string) (Object, error) {
	if err := b.enter(ctx, "get", name); err != nil {
		return Object{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[name]
	if !ok {
		return Object{}, ErrNotFound
	}
	if len(o.Body) > 1<<20 {
		return Object{}, ErrTooLarge
	}
	return Object{slices.Clone(o.Body), o.Tag}, nil
}

func (b *held) Replace(ctx context.Context, name, tag string, body []byte) error {
	if err := b.enter(ctx, "replace", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.objects[name]; !ok || o.Tag != tag {
		return ErrChanged
	}
	b.set(name, body)
	return nil
}

func (b *held) Delete(ctx context.Context, names ...string) error {
	if len(names) > 1000 {
		return fmt.Errorf("%d names", len(names))
	}
	if err := b.enter(ctx, "delete", strings.Join(names, " ")); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		if old, ok := b.objects[name]; ok {
			b.older[name] = append(b.older[name], old.Body)
			delete(b.objects, name)
		}
	}
	return nil
}

func (b *held) List(ctx context.Context, prefix, after string, limit int) ([]Listed, bool, error) {
	if err := b.enter(ctx, "list", prefix); err != nil {
		return nil, false, err
	}
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Listed
	for name, o := range b.objects {
		if strings.HasPrefix(name, prefix) && name > after {
			all = append(all, Listed{name, int64(len(o.Body)), b.at[name]})
		}
	}
	slices.SortFunc(all, func(x, y Listed) int { return cmp.Compare(x.Name, y.Name) })
	return all[:min(limit, len(all))], len(all) > limit, nil
}

func (b *held) Folders(ctx context.Context, prefix string) ([]string, error) {
	if err := b.enter(ctx, "folders", prefix); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[string]bool{}
	for name := range b.objects {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if i := strings.IndexByte(rest, '/'); i >= 0 {
				found[prefix+rest[:i+1]] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func (b *held) Purge(ctx context.Context, prefix, after string, match func(string, []byte) bool) (int, string, error) {
	if err := b.enter(ctx, "purge", prefix); err != nil {
		return 0, "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	removed := 0
	for _, name := range slices.Sorted(maps.Keys(b.older)) {
		if !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		var rest [][]byte
		for _, body := range b.older[name] {
			if match(name, body) {
				removed++
				continue
			}
			rest = append(rest, body)
		}
		b.older[name] = rest
	}
	return removed, "", nil
}

// names are those of all objects.
func (b *held) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.objects))
}

// put stores an object, whatever is there.
func (b *held) put(name, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(name, []byte(body))
}

// queue is a queue that can be wiped. Each call about the journal goes through call, where that is set.
type queue struct {
	*dlq.Memory
	call func(do func() error) error
}

func (q *queue) do(f func() error) error {
	if q.call == nil {
		return f()
	}
	return q.call(f)
}

func (q *queue) JournalLease(ctx context.Context, sink, token string, ttl time.Duration) (v dlq.JournalView, ok bool, err error) {
	err = q.do(func() error { v, ok, err = q.Memory.JournalLease(ctx, sink, token, ttl); return err })
	return v, ok, err
}

func (q *queue) SaveJournal(ctx context.Context, sink, token string, n dlq.JournalNotes) error {
	return q.do(func() error { return q.Memory.SaveJournal(ctx, sink, token, n) })
}

func (q *queue) NoteUnjournaled(ctx context.Context, sink string, ids []string) error {
	return q.do(func() error { return q.Memory.NoteUnjournaled(ctx, sink, ids) })
}

func (q *queue) NoteEnded(ctx context.Context, sink string, addresses []string) error {
	return q.do(func() error { return q.Memory.NoteEnded(ctx, sink, addresses) })
}

func (q *queue) Unjournaled(ctx context.Context, sink string, limit int) (u []dlq.Unjournaled, err error) {
	err = q.do(func() error { u, err = q.Memory.Unjournaled(ctx, sink, limit); return err })
	return u, err
}

func (q *queue) Ended(ctx context.Context, sink, cursor string, limit int) (a []string, next string, err error) {
	err = q.do(func() error { a, next, err = q.Memory.Ended(ctx, sink, cursor, limit); return err })
	return a, next, err
}

func (q *queue) AreEnded(ctx context.Context, sink string, addresses []string) (yes []bool, err error) {
	err = q.do(func() error { yes, err = q.Memory.AreEnded(ctx, sink, addresses); return err })
	return yes, err
}

func (q *queue) Journaled(ctx context.Context, sink, token string, d dlq.JournalDone) error {
	return q.do(func() error { return q.Memory.Journaled(ctx, sink, token, d) })
}

func (q *queue) Present(ctx context.Context, sink string, of []dlq.Identity) (p []dlq.Present, err error) {
	err = q.do(func() error { p, err = q.Memory.Present(ctx, sink, of); return err })
	return p, err
}

func (q *queue) Return(ctx context.Context, sink, token string, over int, letters []dlq.Letter) (r []dlq.Returned, err error) {
	err = q.do(func() error { r, err = q.Memory.Return(ctx, sink, token, over, letters); return err })
	return r, err
}

// life ends with a process: at a call, before or after it did what it does. No later call does anything.
type life struct {
	mu    sync.Mutex
	n, at int
	after bool
}

var errKilled = errors.New("the process was killed")

func (l *life) call(do func() error) error {
	l.mu.Lock()
	l.n++
	n := l.n
	l.mu.Unlock()
	if n > l.at || n == l.at && !l.after {
		return errKilled
	}
	err := do()
	if n == l.at {
		return errKilled
	}
	return err
}

// over reports whether it ended.
func (l *life) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n >= l.at
}

// mortal is a Bucket of a process.
type mortal struct {
	Bucket
	life *life
}

func (m mortal) Put(ctx context.Context, name string, body []byte) error {
	return m.life.call(func() error { return m.Bucket.Put(ctx, name, body) })
}

func (m mortal) Get(ctx context.Context, name string) (o Object, err error) {
	err = m.life.call(func() error { o, err = m.Bucket.Get(ctx, name); return err })
	return o, err
}

func (m mortal) Replace(ctx context.Context, name, tag string, body []byte) error {
	return m.life.call(func() error { return m.Bucket.Replace(ctx, name, tag, body) })
}

func (m mortal) Delete(ctx context.Context, names ...string) error {
	return m.life.call(func() error { return m.Bucket.Delete(ctx, names...) })
}

func (m mortal) List(ctx context.Context, prefix, after string, limit int) (found []Listed, more bool, err error) {
	err = m.life.call(func() error { found, more, err = m.Bucket.List(ctx, prefix, after, limit); return err })
	return found, more, err
}

// world is a journal with its queue, and what was accepted.
type world struct {
	t      *testing.T
	ctx    context.Context
	bucket *held
	queue  *queue
	keeper *Keeper
	cap    int
	log    *locked
	seq    int
}

// newWorld has a queue with a cap (0: none).
func newWorld(t *testing.T, limit int) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), bucket: newKept(), cap: limit, log: &locked{}}
	w.queue = &queue{}
	w.wipe()
	w.keeper = &Keeper{
		Queue: w.queue, Bucket: w.bucket, MaxLen: limit,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	return w
}

// locked is a writer for concurrent use.
type locked struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// mortal gives the keeper a process that is killed at a call.
func (w *world) mortal(at int, after bool) *life {
	l := &life{at: at, after: after}
	w.queue.call = l.call
	w.keeper.Bucket = mortal{w.bucket, l}
	return l
}

// reborn gives it another one, when leases of the one before are over.
func (w *world) reborn() {
	w.queue.call, w.keeper.Bucket = nil, w.bucket
	later(longest + outlives)
}

// wipe loses all that the queue holds.
func (w *world) wipe() {
	w.queue.Memory = dlq.NewMemory(dlq.WithMaxLen(w.cap), dlq.WithOverflow(dlq.OverflowReject), dlq.WithJournal())
}

// letter is the dead letter of a delivery.
func (w *world) letter(id string) *dlq.Letter {
	w.t.Helper()
	it, err := dlq.Prepare(w.ctx, dlq.Item{
		Sink: mail, DeliveryID: id, Message: sinks.Message{ID: id, Body: "body of " + id}, Recipient: json.RawMessage(`{"address":"` + id + `@example.com"}`),
		Attempts: 1, LastError: "HTTP 503", Reason: dlq.ReasonExhausted,
	})
	w.check(err)
	return &dlq.Letter{Item: it, Identity: dlq.IdentityOf(it)}
}

func (w *world) letters(ids ...string) []*dlq.Letter {
	var all []*dlq.Letter
	for _, id := range ids {
		all = append(all, w.letter(id))
	}
	return all
}

// group names letters that are pushed now, by the bubble's clock: the library that makes the nonces never goes back.
func (w *world) group(letters []*dlq.Letter) group {
	w.seq++
	return groupAt(time.Now(), w.seq, letters)
}

func groupAt(at time.Time, seq int, letters []*dlq.Letter) group {
	id := [16]byte{6: 0x70, 8: 0x80, 14: byte(seq >> 8), 15: byte(seq)}
	for i, ms := 5, at.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	like := newGroup(at, letters) // its form
	nonce := string(like[strings.LastIndexByte(string(like), '/')+1:])
	return group(fmt.Sprintf("%x/%s/%s%s", id[15]&15, at.UTC().Format(hourLayout), nonces.EncodeToString(id[:]), nonce[26:]))
}

// push stores letters in the queue and puts them into the journal, as a Queue does.
func (w *world) push(ids ...string) group {
	w.t.Helper()
	letters := w.letters(ids...)
	g := w.group(letters)
	w.store(g, letters)
	w.object(g.open(mail), letters)
	return g
}

// store stores letters in the queue alone, under a group's addresses.
func (w *world) store(g group, letters []*dlq.Letter) []dlq.Item {
	w.t.Helper()
	items := make([]dlq.Item, len(letters))
	for i, l := range letters {
		items[i] = l.Item
		if g != "" {
			items[i].Journal = g.address(i)
		}
	}
	stored, errs := w.queue.AddBatch(w.ctx, items)
	w.check(errors.Join(errs...))
	return stored
}

// object puts letters into the journal. Nil is a line that is over.
func (w *world) object(name string, letters []*dlq.Letter) {
	w.t.Helper()
	body, err := encode(letters)
	w.check(err)
	w.bucket.put(name, string(body))
}

// spill puts letters into spill/ and open/, as when the queue is full.
func (w *world) spill(ids ...string) group {
	w.t.Helper()
	letters := w.letters(ids...)
	g := w.group(letters)
	w.object(g.open(mail), letters)
	w.object(g.spill(mail), letters)
	return g
}

// deliver replays the dead letter of a delivery.
func (w *world) deliver(id string) {
	w.t.Helper()
	it, err := w.queue.Find(w.ctx, mail, id, "")
	w.check(err)
	leased, err := w.queue.Claim(w.ctx, dlq.Claim{Sink: mail, IDs: []string{it.ID}, TTL: time.Minute})
	w.check(err)
	w.settle(leased, dlq.ActionDiscard)
}

func (w *world) settle(leased []dlq.Leased, a dlq.Action) {
	w.t.Helper()
	if len(leased) != 1 {
		w.t.Fatalf("%d leases; want 1", len(leased))
	}
	r, err := w.queue.Settle(w.ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: a, Charge: true}})
	w.check(err)
	if r[0] != dlq.SettleApplied {
		w.t.Fatalf("settled: %s", r[0])
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tick() Report {
	w.t.Helper()
	r, err := w.keeper.Tick(w.ctx, mail)
	w.check(err)
	return r
}

// restore restores in steps until all was looked at, or there is no room.
func (w *world) restore(s RestoreStep) RestoreProgress {
	w.t.Helper()
	var sum RestoreProgress
	for {
		p, err := w.keeper.Restore(w.ctx, mail, s)
		w.check(err)
		sum = RestoreProgress{
			After: p.After, Done: p.Done, Full: p.Full, Looked: sum.Looked + p.Looked, Restored: sum.Restored + p.Restored,
			Present: sum.Present + p.Present, Over: sum.Over + p.Over, Spilled: sum.Spilled + p.Spilled, Damaged: sum.Damaged + p.Damaged,
		}
		if p.Done || p.Full {
			return sum
		}
		if p.After == s.After {
			w.t.Fatalf("a step of a restore did nothing after %q", s.After)
		}
		s.After = p.After
	}
}

func (w *world) audit() Audit {
	w.t.Helper()
	a, err := w.keeper.Audit(w.ctx, mail)
	w.check(err)
	return a
}

func (w *world) view() dlq.JournalView {
	w.t.Helper()
	st, err := w.queue.Stats(w.ctx, mail)
	w.check(err)
	return st.Journal
}

// waiting are the deliveries whose dead letters wait in the queue, in its order.
func (w *world) waiting() []string {
	w.t.Helper()
	items, err := w.queue.Items(w.ctx, mail, 0)
	w.check(err)
	slices.Reverse(items)
	var ids []string
	for _, it := range items {
		ids = append(ids, it.DeliveryID)
	}
	return ids
}

func (w *world) wantWaiting(want ...string) {
	w.t.Helper()
	if got := w.waiting(); !slices.Equal(got, want) {
		w.t.Errorf("the queue has %v, want %v", got, want)
	}
}

func (w *world) wantObjects(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.bucket.names(); !slices.Equal(got, want) {
		w.t.Errorf("the bucket has\n %s\nwant\n %s", strings.Join(got, "\n "), strings.Join(want, "\n "))
	}
}

// inBubble runs a test where time is its own.
func inBubble(t *testing.T, limit int, do func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { do(newWorld(t, limit)) })
}

// later lets time go by.
func later(d time.Duration) { time.Sleep(d) }
