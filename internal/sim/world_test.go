package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/journal"
	"backstop/lib/replay"
)

// size is how large a world is.
type size struct {
	deliveries int
	traffic    time.Duration // they come within it
	faults     time.Duration // how long faults go on; then everything works
	end        time.Duration // when it is judged
	engines    int
	keep       bool // the whole trace, to be printed
}

var (
	small = size{deliveries: 300, traffic: 12 * time.Minute, faults: 20 * time.Minute, end: 50 * time.Minute, engines: 2, keep: true}
	// day has hundreds of processes, for they die and are cut off by the minute.
	day = size{deliveries: 20_000, traffic: 23 * time.Hour, faults: 23 * time.Hour, end: 24 * time.Hour, engines: 3}
)

// rates are how often what goes wrong in one seed, per call.
type rates struct {
	lost, refused, slow, stall, death float64
	cut                               float64 // share of the processes, while there is a partition
	maxLen                            int
	late                              map[string]float64 // by call: how often it arrives long after nobody waits for it any more
}

// world is one run of a seed: everything that processes share, and what is known of deliveries.
type world struct {
	Seed
	size
	rates
	plant string // the planted fault; empty: none
	line  Line
	start time.Time
	over  chan struct{} // closed at the end: whoever died may go

	letters    *dlq.Memory
	records    *delivery.Memory
	flow       *flow.Memory
	operations *replay.MemoryOperations
	queue      queue
	journaled  bool // there is a bucket

	work sync.WaitGroup // callers, invocations, schedules

	mu        sync.Mutex
	bucket    bucket
	fates     map[string]*fate
	ids       []string // of the deliveries, in the order in which they came
	processes int
	deaths    int
	idle      []*process
	leases    map[string]dlq.Lease // by dead letter: the last one handed out
	letterOf  map[string]string    // by dead letter: its delivery
	own       map[*process]int     // slots that a process may have given itself
	paced     []time.Duration      // when the receiver with a rate was attempted
	instant   time.Duration        // of the last line of the trace
	of        uint64               // the lines of that instant, in any order: what happens at once has none
	sum       uint64               // of the trace before
	trace     []string
	events    int
	judged    bool
	faults    []string
	doubles   map[string]int // by cause
}

func newWorld(seed uint64, s size, plant string) *world {
	w := &world{
		Seed: Seed(seed), size: s, plant: plant, start: time.Now(), over: make(chan struct{}), fates: map[string]*fate{},
		leases: map[string]dlq.Lease{}, letterOf: map[string]string{}, own: map[*process]int{}, sum: fnv.New64a().Sum64(), doubles: map[string]int{},
		records: delivery.NewMemory(0), operations: replay.NewMemoryOperations(),
	}
	w.rates = rates{
		lost: 0.04 * w.Chance("lost"), refused: 0.02 * w.Chance("refused"), slow: 0.02 * w.Chance("slow"),
		stall: 0.004 * w.Chance("stall"), death: 0.006 * w.Chance("death"), cut: 0.6 * w.Chance("cut"),
	}
	switch plant { // what shows only where that is frequent
	case "settled without a token":
		w.late = map[string]float64{"settle": 0.4}
	case "replays forget the cancellation":
		w.late = map[string]float64{"add": 0.4}
	}
	if w.Chance("bounded") < 0.3 {
		w.maxLen = 5 + int(30*w.Chance("max len"))
	}
	options := []dlq.Option{dlq.WithMaxLen(w.maxLen), dlq.WithOverflow(dlq.OverflowReject), dlq.WithSinks(func() []string { return sinkNames })}
	if w.journaled = w.Chance("journaled") < 0.4; w.journaled {
		options = append(options, dlq.WithJournal())
		w.bucket.objects = map[string]object{}
	}
	w.letters = dlq.NewMemory(options...)
	w.flow = &flow.Memory{Pause: func(ctx context.Context, sink string) (bool, error) {
		st, err := w.letters.Stats(ctx, sink)
		return st.Paused, err
	}}
	w.queue.w = w
	return w
}

func (w *world) at() time.Duration { return time.Since(w.start) }

// troubled reports whether faults still happen.
func (w *world) troubled() bool { return w.at() < w.size.faults }

// pause waits, and goes on alone.
func (w *world) pause(d time.Duration) { _ = w.line.Wait(context.Background(), d) } //nolint:forbidigo // no context ends it

// note adds a line to the trace, which ends when the world is judged. w.mu is held.
func (w *world) note(who, what, about, result string) {
	if w.judged {
		return
	}
	w.events++
	line := strconv.FormatInt(int64(w.at()), 10) + " " + who + " " + what + " " + about + " " + result
	if now := w.at(); now != w.instant {
		w.sum, w.instant, w.of = w.hash(), now, 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(line))
	w.of += h.Sum64()
	if w.keep {
		w.trace = append(w.trace, line)
	}
}

// hash is that of the trace.
func (w *world) hash() uint64 { return (w.sum ^ w.of) * 1099511628211 }

// fault notes what must not be, with the history of the delivery. w.mu is held.
func (w *world) fault(f *fate, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if f != nil {
		text = "delivery " + f.id + " through " + f.sink + ": " + text
		var history []string
		for _, line := range w.trace {
			if mentions(line, f.id) {
				history = append(history, "    "+line)
			}
		}
		text += "\n" + strings.Join(history, "\n")
	}
	if len(w.faults) < 5 {
		w.faults = append(w.faults, text)
	}
}

func mentions(line, id string) bool {
	return slices.Contains(strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' }), id)
}

// run plays the seed to its end and judges it.
func (w *world) run(t *testing.T) account {
	t.Helper()
	ctx := t.Context()
	for n := range w.engines {
		w.work.Go(func() { w.schedule(ctx, n) })
	}
	w.work.Go(func() { w.queue.poll(ctx) })
	w.work.Go(func() { w.operate(ctx) })
	for n := range w.deliveries {
		w.work.Go(func() { w.deliver(ctx, n) })
	}
	w.work.Wait()
	a := w.judge(ctx)
	close(w.over)
	<-time.After(time.Hour) // those who died end
	return a
}

// discard takes log lines.
var discard = slog.New(slog.DiscardHandler)

// process is a function's: its own gate, and its own ways to what all share. It has one
// invocation at a time.
type process struct {
	w      *world
	name   string
	sender *delivery.Sender
	cancel *delivery.Canceler
	engine *replay.Engine
	gate   *flow.Gate
	guard  guard

	died chan struct{}
	// w.mu guards these.
	dead       bool
	hand       map[string]int
	slots      map[string]time.Duration // by delivery: when it may go
	unanswered time.Duration            // when a call about receivers last was not
}

func (w *world) newProcess(kind string) *process {
	w.mu.Lock()
	w.processes++
	p := &process{w: w, name: kind + strconv.Itoa(w.processes), died: make(chan struct{}), hand: map[string]int{}, slots: map[string]time.Duration{}}
	w.mu.Unlock()
	p.gate = &flow.Gate{Store: shared{p}, Log: discard, Rand: p.rand}
	p.guard = guard{p.gate, p}
	rec, letters := records{p: p}, dlq.Store(store{p: p})
	if w.journaled {
		letters = journal.NewQueue(letters, shelf{p}, journal.Options{KeepFull: w.Chance("keep full") < 0.3, Log: discard})
	}
	p.sender = &delivery.Sender{
		Targets: targets{p: p}, Queue: gathering{dlq.NewBatcher(letters), p}, Records: rec, Requests: putter{p}, Gate: p.guard, Paused: p.guard.Paused,
		Log: discard,
	}
	p.cancel = &delivery.Canceler{Records: rec, Letters: letters, Spills: w.journaled, Log: discard}
	p.engine = &replay.Engine{
		Store: letters, Targets: targets{p: p, replays: true}, Operations: operations{p: p}, Gate: p.guard, Records: rec, Log: discard, Rand: p.rand,
	}
	if w.journaled {
		p.engine.Journal = &journal.Keeper{Queue: store{p: p}, Bucket: shelf{p}, Back: p.engine.BringBack, MaxLen: w.maxLen, Log: discard}
	}
	return p
}

// rand is for jitter: it depends on who asks and when, not on how often.
func (p *process) rand() float64 { return p.w.Chance("rand", p.name, int64(p.w.at())) }

// take returns an idle process that sends, or a new one.
func (w *world) take() *process {
	w.mu.Lock()
	for len(w.idle) > 0 {
		i := int(w.Chance("idle", int64(w.at())) * float64(len(w.idle)))
		p := w.idle[i]
		w.idle = slices.Delete(w.idle, i, i+1)
		if !p.dead {
			w.mu.Unlock()
			return p
		}
	}
	w.mu.Unlock()
	return w.newProcess("send")
}

func (w *world) give(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.dead {
		w.idle = append(w.idle, p)
	}
}

// invoke runs f with a deadline, and reports whether it answered: the platform stops a process at its
// deadline, and one that died says nothing.
func (p *process) invoke(ctx context.Context, limit time.Duration, f func(context.Context)) bool {
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(ctx, limit)
	go func() { // that of a process which died ends at the end
		defer cancel()
		f(ctx)
		p.gate.Flush(ctx)
		close(done)
	}()
	end := time.NewTimer(limit + time.Millisecond)
	defer end.Stop()
	select {
	case <-done:
		return true
	case <-p.died:
	case <-end.C:
		p.die("deadline")
	}
	return false
}

// die ends the process: nothing that it does from now on is seen by anybody.
func (p *process) die(why string) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead {
		return
	}
	p.dead = true
	w.deaths++
	close(p.died)
	var held []string
	for id := range p.hand {
		held = append(held, id)
	}
	slices.Sort(held)
	w.note(p.name, "dies", strings.Join(held, ","), why)
	w.cause(held, "death")
	for _, id := range held {
		for _, a := range w.fates[id].attempts {
			if a.by == p && !a.over {
				a.over, a.cutOff = true, true
			}
		}
	}
}

// holds notes that the process is at work on a delivery.
func (p *process) holds(ids ...string) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, id := range ids {
		p.hand[id]++
	}
}

func (p *process) drops(ids ...string) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, id := range ids {
		if p.hand[id]--; p.hand[id] <= 0 {
			delete(p.hand, id)
		}
	}
}
