package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// Queue is a dlq.Store with a journal beside it. What is pushed is written to the bucket at the
// same time; what the queue does not take waits there until it does (dlq.Item.Spilled). It is safe
// for concurrent use.
//
// The queue decides. What it stored is stored, whatever the bucket did: the queue remembers what
// the journal lacks, and a Keeper writes it. The journal's part of a push ends within the push's
// time, and healthy deliveries never come here.
//
// What is given up (dlq.ActionDrop, Discard) goes from the journal first: see dlq.ErrJournal. What
// ends otherwise is noted by the queue, and a Keeper deletes it.
type Queue struct {
	dlq.Store
	bucket Bucket
	opts   Options
}

// Options are those of a Queue. The zero value is good.
type Options struct {
	// KeepFull leaves a push that a full queue refuses to its caller (SINK_DLQ_OVERFLOW).
	// Otherwise it is spilled, as is what a queue does not take that cannot be reached.
	KeepFull bool
	// OnSpill is told how many dead letters of a sink were spilled. It is called from the
	// goroutines of callers and must be safe for concurrent use. Nil: nobody is.
	OnSpill func(sink string, n int)
	// Log gets what no answer tells. Nil: slog.Default.
	Log *slog.Logger
}

// NewQueue puts a journal in bucket beside a queue, which must have been made with
// dlq.WithJournal.
func NewQueue(queue dlq.Store, bucket Bucket, o Options) *Queue {
	return &Queue{Store: queue, bucket: bucket, opts: o}
}

var _ dlq.Store = (*Queue)(nil)

// The time of a push whose context has no deadline, and what a queue makes of it: the first try of a
// call has a quarter of the time, and so much at least (see dlq.Redis).
const (
	pushTime = 5 * time.Second
	tryTime  = 250 * time.Millisecond
)

// A delivery that failed early leaves much time for its dead letter. While the cache or the bucket is away,
// each would cost as much: so the queue's tries are waited for no longer than this each, and the object
// beside a push. What nobody took yet may take longer.
const (
	mostTry  = 500 * time.Millisecond
	mostOpen = 2 * time.Second
	mostPush = 10 * time.Second
)

// times divide the time of a push.
type times struct {
	firstTry time.Time // when the queue's first try is over
	second   time.Time // and its second one
	open     time.Time // when writing beside the push must have ended: then is noted what was not written
	spill    time.Time // when the queue and spilling must have ended: what is handed back is taken back then
	back     time.Time // and when that must have: whoever waits for the push no longer than its time hears why
}

func divide(now, end time.Time) times {
	whole := min(max(end.Sub(now), 0), mostPush)
	try := min(max(whole/4, min(whole/2, tryTime)), mostTry)
	return times{
		firstTry: now.Add(try), second: now.Add(2 * try),
		open: now.Add(min(whole*7/10, mostOpen)), spill: now.Add(whole * 9 / 10),
		back: now.Add(whole * 97 / 100),
	}
}

// pushed is what is written together.
type pushed struct {
	sink    string
	group   group
	at      []int // of its letters, in the batch
	letters []*dlq.Letter
	body    []byte
	openErr error // of its object under open/

	spilled  map[int]bool // by index in the batch: what its object under spill/ has
	spillErr error
}

// Push implements dlq.DLQ.
func (q *Queue) Push(ctx context.Context, it dlq.Item) error {
	_, err := q.Add(ctx, it)
	return err
}

// Add implements dlq.Store.
func (q *Queue) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	stored, errs := q.AddBatch(ctx, []dlq.Item{it})
	return stored[0], errs[0]
}

// AddBatch implements dlq.Store.
func (q *Queue) AddBatch(ctx context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	now := time.Now()
	end, ok := ctx.Deadline()
	if !ok {
		end = now.Add(pushTime)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end)
		defer cancel()
	}
	b := &batch{Queue: q, times: divide(now, end), items: make([]dlq.Item, len(items)), refused: make([]error, len(items))}
	b.prepare(ctx, items, now)
	b.push(ctx)
	b.note(ctx)
	return b.stored, b.errs
}

// batch is one AddBatch.
type batch struct {
	*Queue
	times
	items   []dlq.Item // prepared, with their addresses
	refused []error    // those that cannot be pushed
	groups  []*pushed

	stored []dlq.Item
	errs   []error
}

// most is how many bytes of dead letters one object has, if it has more than one.
const most = 1 << 20

// prepare names the items and makes the objects. What cannot be prepared is refused by the
// queue as well; what cannot be encoded is pushed without an address.
func (b *batch) prepare(ctx context.Context, items []dlq.Item, now time.Time) {
	open := map[string]*pushed{}
	size := map[*pushed]int{}
	for i, it := range items {
		prepared, err := dlq.Prepare(ctx, it)
		if err != nil {
			b.items[i] = it
			continue
		}
		prepared.Journal = ""
		b.items[i] = prepared
		p := open[prepared.Sink]
		n := len(prepared.Message.Body) + len(prepared.Recipient)
		if p == nil || len(p.at) == MaxLines || size[p]+n > most {
			p = &pushed{sink: prepared.Sink}
			open[prepared.Sink] = p
			b.groups = append(b.groups, p)
		}
		size[p] += n
		p.at = append(p.at, i)
		p.letters = append(p.letters, &dlq.Letter{Item: prepared, Identity: dlq.IdentityOf(prepared)})
	}
	for _, p := range b.groups {
		body, err := encode(p.letters)
		if err != nil { // then the queue cannot encode them either
			p.openErr = err
			continue
		}
		p.group, p.body = newGroup(now, p.letters), body
		for line, i := range p.at {
			b.items[i].Journal = p.group.address(line)
		}
	}
}

// push writes to the queue and to the journal at the same time, and spills what the queue does
// not take at its first try beside its second one.
func (b *batch) push(ctx context.Context) {
	pctx, giveUp := context.WithDeadline(ctx, b.times.spill)
	defer giveUp()
	answered := make(chan struct{})
	var stored []dlq.Item
	var errs []error
	go func() {
		defer close(answered)
		stored, errs = b.Store.AddBatch(pctx, b.items)
	}()
	var opened sync.WaitGroup
	for _, p := range b.groups {
		if p.body != nil {
			opened.Go(func() { p.openErr = b.put(ctx, b.open, p.group.open(p.sink), p.body) })
		}
	}
	told := wait(answered, b.firstTry)
	var spilled sync.WaitGroup
	_, replay := dlq.OriginFrom(ctx) // its item is in the queue still: it stays there
	if !replay {
		for _, p := range b.groups {
			if !told {
				b.spill(ctx, &spilled, p, nil)
			} else if full, other := p.failed(errs); other || full && !b.opts.KeepFull {
				b.spill(ctx, &spilled, p, errs)
			}
		}
	}
	if !told {
		spilled.Wait()
		if b.safe() {
			// The second try has its chance; nobody waits for more of them.
			if !wait(answered, b.second) {
				giveUp()
			}
		}
		<-answered
	}
	spilled.Wait()
	opened.Wait()
	b.stored, b.errs = stored, errs
}

// wait waits for done until a time, and reports whether it came.
func wait(done <-chan struct{}, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// failed reports what the queue said of the group's letters: that it is full, or something else.
func (p *pushed) failed(errs []error) (full, other bool) {
	for _, i := range p.at {
		switch fault.CodeOf(errs[i]) {
		case "":
			other = other || errs[i] != nil
		case fault.CodeDLQOverflow:
			full = true
		case fault.CodeInvalidArgument: // it is never stored
		default:
			other = true
		}
	}
	return full, other
}

// spillable reports whether what was refused so may be stored later.
func (b *batch) spillable(err error) bool {
	switch fault.CodeOf(err) {
	case fault.CodeDLQOverflow:
		return !b.opts.KeepFull
	case fault.CodeInvalidArgument:
		return false
	}
	return err != nil
}

// spill writes those of the group's letters that errs says the queue did not take; all of them
// where nothing is known yet (nil).
func (b *batch) spill(ctx context.Context, under *sync.WaitGroup, p *pushed, errs []error) {
	if p.body == nil || p.spilled != nil {
		return
	}
	p.spilled = map[int]bool{}
	lines := make([]*dlq.Letter, len(p.letters))
	for line, i := range p.at {
		if errs == nil || b.spillable(errs[i]) {
			lines[line], p.spilled[i] = p.letters[line], true
		}
	}
	under.Go(func() {
		body, err := p.body, error(nil)
		if len(p.spilled) < len(lines) {
			body, err = encode(lines)
		}
		if err == nil {
			err = b.put(ctx, b.times.spill, p.group.spill(p.sink), body)
		}
		p.spillErr = err
	})
}

// safe reports whether every letter of the batch is in the journal's hands.
func (b *batch) safe() bool {
	for _, p := range b.groups {
		if p.spilled == nil || p.spillErr != nil {
			return false
		}
	}
	return true
}

func (q *Queue) put(ctx context.Context, end time.Time, name string, body []byte) error {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	err := q.bucket.Put(ctx, name, body)
	if errors.Is(err, ErrExists) { // the name is this push's alone: an earlier try of it
		return nil
	}
	return err
}

// note decides what became of each letter, and tells the queue what the journal lacks, or has too
// much of.
func (b *batch) note(ctx context.Context) {
	lacks, over, spilled := map[string][]string{}, map[string][]string{}, map[string]int{}
	for _, p := range b.groups {
		kept := false // a line of it is somebody's
		var back []int
		for line, i := range p.at {
			switch {
			case b.errs[i] == nil:
				kept = true
				if p.openErr != nil {
					lacks[p.sink] = append(lacks[p.sink], b.stored[i].ID)
				}
			case p.spilled[i] && p.spillErr == nil && b.spillable(b.errs[i]):
				kept = true
				it := b.items[i]
				it.Spilled = true
				b.stored[i], b.errs[i] = it, nil
				spilled[p.sink]++
			default:
				back = append(back, line)
				b.errs[i] = handedBack(b.errs[i], p.spillErr)
			}
		}
		switch {
		case len(back) == 0 || p.body == nil:
		case !kept:
			b.takeBack(ctx, p)
		default:
			for _, line := range back {
				over[p.sink] = append(over[p.sink], p.group.address(line))
			}
		}
		if p.openErr != nil {
			b.log().WarnContext(ctx, "dead letters not journaled yet", "sink", p.sink, "dead_letters", len(p.at)-len(back), "error", p.openErr.Error())
		}
	}
	for sink, ids := range lacks {
		if err := b.NoteUnjournaled(ctx, sink, ids); err != nil {
			b.log().ErrorContext(ctx, "that dead letters are not journaled could not be noted; an audit finds them", "sink", sink, "item_ids", ids, "error", err.Error())
		}
	}
	for sink, addresses := range over {
		if err := b.NoteEnded(ctx, sink, addresses); err != nil {
			b.log().WarnContext(ctx, "what was handed back is in the journal still", "sink", sink, "dead_letters", len(addresses), "error", err.Error())
		}
	}
	if b.opts.OnSpill != nil {
		for sink, n := range spilled {
			b.opts.OnSpill(sink, n)
		}
	}
}

// handedBack is the error of a letter that neither took.
func handedBack(queue, journal error) error {
	if journal == nil {
		return queue
	}
	return &fault.Error{Code: fault.CodeOf(queue), Msg: "neither the queue nor the journal took it", Cause: errors.Join(queue, fmt.Errorf("journal: %w", journal))}
}

// takeBack removes the objects of what the caller keeps: it would come back from there. Where that
// fails it may, under its delivery id.
func (b *batch) takeBack(ctx context.Context, p *pushed) {
	ctx, cancel := context.WithDeadline(ctx, b.back)
	defer cancel()
	err := b.bucket.Delete(ctx, p.group.open(p.sink), p.group.spill(p.sink))
	if err != nil {
		b.log().WarnContext(ctx, "what was handed back may be in the journal still", "sink", p.sink, "dead_letters", len(p.at), "error", err.Error())
	}
}

func (q *Queue) log() *slog.Logger {
	if q.opts.Log != nil {
		return q.opts.Log
	}
	return slog.Default()
}
