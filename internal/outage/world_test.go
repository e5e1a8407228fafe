package outage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"backstop/internal/sim"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// plan is one scenario.
type plan struct {
	name string
	// Each process gets a batch each every, as long as traffic comes; then the schedule has
	// drain for what is left.
	processes, batch      int
	every, traffic, drain time.Duration
	engines               int // replay functions; 0: 1
	hosts                 int // receivers of the sink; 0: the sink is the receiver
	flow                  flow.Policy
	retry                 retry.Config
	replay                replay.Policy
	// answer is what the receiver does.
	answer func(a asked) answer
	// cut says whether a process is cut off from the store and the queue. Nil: none ever is.
	cut func(at time.Duration, process int) bool
	// visible is how long a queue hides what was handed back.
	visible time.Duration
}

// asked is an attempt that arrives at a receiver. chance, in [0, 1), is the seed's.
type asked struct {
	at     time.Duration
	host   string
	chance float64
}

// answer is what comes back, after took. One that hangs never comes.
type answer struct {
	took time.Duration
	err  error
	hang bool
}

// attempt is one that was made.
type attempt struct {
	at            time.Duration
	process       int
	host          string
	good, late    bool
	replayed, cut bool
}

// world is one run of a plan, with or without a gate. The seed says all of it: when batches come, where they go,
// what receivers answer, which replies of the store are late or lost, and how long waits are.
type world struct {
	plan    plan
	seed    uint64
	gated   bool
	start   time.Time
	line    sim.Line
	store   *flow.Memory
	queue   *dlq.Memory
	senders []*process
	engines []*process
	batches sync.WaitGroup

	mu          sync.Mutex
	rules       *rules
	receivers   map[string]*standing
	meter       meter
	accepted    map[string]bool
	taken       map[string]int // by delivery: how often its receiver took it
	tries       map[string]int
	attempts    []attempt
	paid        time.Duration // by invocations that send
	invocations []invocation
	replaying   time.Duration // by those that replay
	fates       map[string]int
	looks       int
	swaps       int
	takes       int
	late        int // attempts that could not know
	lost        int
	drained     time.Duration // since the start; 0: never
	faults      []error
}

func newWorld(p plan, seed uint64, gated bool) *world {
	p.flow = p.flow.Normalize()
	w := &world{
		plan: p, seed: seed, gated: gated, start: time.Now(), store: &flow.Memory{}, queue: dlq.NewMemory(dlq.WithMaxLen(0)),
		rules: newRules(), receivers: map[string]*standing{}, accepted: map[string]bool{}, taken: map[string]int{},
		tries: map[string]int{}, fates: map[string]int{},
	}
	for n := range p.processes {
		w.senders = append(w.senders, w.newProcess(n))
	}
	for n := range max(p.engines, 1) {
		w.engines = append(w.engines, w.newProcess(p.processes+n))
	}
	return w
}

func (w *world) at() time.Duration            { return time.Since(w.start).Round(time.Microsecond) }
func (w *world) since(ms int64) time.Duration { return time.UnixMilli(ms).Sub(w.start) }

// chance is in [0, 1) and the same for the same words in each run with the same seed.
func (w *world) chance(words ...any) float64 { return sim.Seed(w.seed).Chance(words...) }

// rand is for the jitter of a process: it depends on who asks and when, not on how often.
func (p *process) rand() float64 { return p.w.chance("rand", p.n, int64(p.w.at())) }

func (w *world) standing(name string) *standing {
	s := w.receivers[name]
	if s == nil {
		s = &standing{steps: map[int64]int{}}
		w.receivers[name] = s
	}
	return s
}

// run plays the plan to its end.
func (w *world) run(t *testing.T) {
	t.Helper()
	end := make(chan struct{})
	var schedules sync.WaitGroup
	for i, p := range w.engines {
		schedules.Go(func() {
			w.schedule(t.Context(), p, time.Duration(i+1)*time.Minute/time.Duration(len(w.engines)+1), end)
		})
	}
	for _, p := range w.senders {
		w.batches.Go(func() {
			w.pause(time.Duration(w.chance("phase", p.n) * float64(w.plan.every)))
			for i := 0; w.at() < w.plan.traffic; i++ {
				ids := make([]string, w.plan.batch)
				for k := range ids {
					ids[k] = fmt.Sprintf("%d-%d-%d", p.n, i, k)
				}
				w.batches.Go(func() { p.invoke(t.Context(), ids, 0) })
				w.pause(w.plan.every)
			}
		})
	}
	w.batches.Wait()
	for w.at() < w.plan.traffic+w.plan.drain {
		depth := w.depth()
		if w.notes(depth); depth == 0 {
			break
		}
		w.pause(time.Second)
	}
	close(end)
	schedules.Wait()
	queued := map[string]bool{}
	items, err := w.queue.Items(t.Context(), "", 1<<30)
	w.fail(err)
	for _, it := range items {
		queued[it.DeliveryID] = true
	}
	w.kept(queued)
}

func (w *world) pause(d time.Duration) { _ = w.line.Wait(context.Background(), d) } //nolint:forbidigo // no context ends it

func (w *world) depth() int64 {
	n, err := w.queue.Count(context.Background(), "")
	w.fail(err)
	return n
}

// fail notes what cannot happen here.
func (w *world) fail(err error) {
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.faults = append(w.faults, err)
	}
}

// schedule runs the engine each minute, as the functions do.
func (w *world) schedule(ctx context.Context, p *process, phase time.Duration, end <-chan struct{}) {
	e := &replay.Engine{Store: w.queue, Targets: target{w, p}, Log: slog.New(slog.DiscardHandler), Rand: p.rand}
	if w.gated {
		e.Gate = guard{p.gate, p}
	}
	for w.pause(phase); ; {
		tick := time.Now()
		run, cancel := context.WithTimeout(ctx, 55*time.Second)
		_, err := e.Run(run, replay.Request{})
		if w.gated {
			p.gate.Flush(run)
		}
		cancel()
		w.fail(err)
		w.mu.Lock()
		w.replaying += time.Since(tick)
		w.mu.Unlock()
		w.notes(w.depth())
		select {
		case <-end:
			return
		case <-time.After(time.Until(tick.Add(time.Minute))):
		}
	}
}

// notes when the queue is empty.
func (w *world) notes(depth int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case depth > 0:
		w.drained = 0
	case w.drained == 0:
		w.drained = w.at()
	}
}

// target is the one sink, as a replayer's process sees it.
type target struct {
	w *world
	p *process
}

func (t target) Target(context.Context, string) (delivery.Target, error) {
	return delivery.Target{Sink: t.p.sink(true), Retry: t.p.retry(), Replay: t.w.plan.replay, Flow: t.w.plan.flow}, nil
}

func (target) Names(context.Context) ([]string, error) { return []string{sinkName}, nil }

const sinkName = "hooks"

// process is one function's: its gate, and its way to what all share.
type process struct {
	n       int
	w       *world
	gate    *flow.Gate
	retrier *retry.Retrier

	// World.mu guards these.
	calls  int
	cut    time.Time // since when it is cut off; zero: it is not
	own    int       // slots that it may have given itself
	lost   bool      // its last look was not answered
	looked time.Time // when its last look ended
	heard  map[string]*heard
	rows   map[string]*row
	leaves map[flow.Leave]string // which delivery's
	going  map[string]flow.Leave // by delivery: what it goes by
	under  map[string]begun
}

func (w *world) newProcess(n int) *process {
	p := &process{n: n, w: w, heard: map[string]*heard{}, rows: map[string]*row{}, leaves: map[flow.Leave]string{}, going: map[string]flow.Leave{}, under: map[string]begun{}}
	p.gate = &flow.Gate{Store: link{p}, Log: slog.New(slog.DiscardHandler), Rand: p.rand}
	p.retrier = retry.NewRetrier(p.sink(false), p.retry(), queue{w.queue, p})
	p.retrier.Flow, p.retrier.Logger = w.plan.flow, p.gate.Log
	if w.gated {
		p.retrier.Gate = guard{p.gate, p}
	}
	return p
}

// retry is the plan's, with the process's jitter.
func (p *process) retry() retry.Config {
	c := p.w.plan.retry
	c.Rand = p.rand
	return c
}

func (p *process) heardOf(receiver string) *heard {
	h := p.heard[receiver]
	if h == nil {
		h = &heard{version: -1, before: -1}
		p.heard[receiver] = h
	}
	return h
}

func (p *process) alone(receiver string) *row {
	r := p.rows[receiver]
	if r == nil {
		r = &row{ended: p.w.start.Add(-time.Hour)}
		p.rows[receiver] = r
	}
	return r
}

// away reports whether the process is cut off now. World.mu is held.
func (p *process) away() bool {
	cut := p.w.plan.cut != nil && p.n < p.w.plan.processes && p.w.plan.cut(p.w.at(), p.n)
	if !cut {
		p.cut = time.Time{}
	} else if p.cut.IsZero() {
		p.cut = time.Now()
	}
	return cut
}

// host is where a delivery goes; empty: the sink's own receiver.
func (w *world) host(id string) any {
	if w.plan.hosts == 0 {
		return nil
	}
	return fmt.Sprintf("https://h%d.example", int(w.chance("host", id)*float64(w.plan.hosts)))
}

// longest is an invocation's deadline: that of the function that a queue calls.
const longest = 110 * time.Second

// invoke delivers a batch, as one invocation does, and again what was handed back.
func (p *process) invoke(ctx context.Context, ids []string, again int) {
	w, began := p.w, time.Now()
	within, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	var back []string
	var batch sync.WaitGroup
	for _, id := range ids {
		w.mu.Lock()
		w.accepted[id] = true
		w.mu.Unlock()
		batch.Go(func() {
			out := p.retrier.Deliver(within, w.host(id), sinks.Message{ID: id, Body: "x"})
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(p.going, id)
			w.ended(id, out, again)
			if out.Status == retry.StatusHandedBack {
				back = append(back, id)
			}
		})
	}
	batch.Wait()
	if w.gated {
		p.gate.Flush(within)
	}
	w.mu.Lock()
	w.paid += time.Since(began)
	w.invocations = append(w.invocations, invocation{began.Sub(w.start), time.Since(began), len(ids)})
	w.mu.Unlock()
	if len(back) == 0 {
		return
	}
	slices.Sort(back) // who was handed back first says nothing
	w.pause(w.plan.visible)
	next := w.senders[int(w.chance("again", back[0], again)*float64(len(w.senders)))]
	w.batches.Go(func() { next.invoke(ctx, back, again+1) })
}

// ended checks what a delivery's caller is told, at once. World.mu is held.
func (w *world) ended(id string, out retry.Outcome, again int) {
	switch out.Status {
	case retry.StatusDelivered:
		w.rules.check(ruleKept, w.taken[id] > 0, "%s is delivered, and its receiver has not got it", id)
		if again == 0 {
			w.fates["at once"]++
		}
	case retry.StatusDeadLettered:
		_, err := w.queue.Get(context.Background(), out.Item.ID)
		w.rules.check(ruleKept, err == nil || w.taken[id] > 0, "%s is dead-lettered, and not there: %v", id, err)
	default:
		w.rules.check(ruleKept, out.Error() != nil, "%s is handed back without an error", id)
		w.fates["handed back"]++
	}
	if out.Status != retry.StatusDelivered {
		w.fates[string(out.Reason)]++
	}
}

// guard is a process's gate, watched.
type guard struct {
	*flow.Gate
	p *process
}

func (g guard) Ask(ctx context.Context, t flow.Try) flow.Leave {
	l := g.Gate.Ask(ctx, t)
	w := g.p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return l
	}
	w.answered(g.p, t, l)
	if l.Verdict == flow.Go {
		g.p.leaves[l], g.p.going[t.Delivery] = t.Delivery, l
	}
	return l
}

func (g guard) Shut(ctx context.Context, t flow.Try) (flow.Leave, bool) {
	l, shut := g.Gate.Shut(ctx, t)
	w := g.p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if shut && ctx.Err() == nil {
		w.answered(g.p, t, l)
	}
	return l, shut
}

func (g guard) Tell(ctx context.Context, l flow.Leave, t flow.Told) {
	g.p.told(l, t.Result)
	g.Gate.Tell(ctx, l, t)
}

// told keeps the process's own row.
func (p *process) told(l flow.Leave, result flow.Result) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	id := p.leaves[l]
	delete(p.leaves, l)
	host, _ := w.host(id).(string)
	b := p.under[id]
	delete(p.under, id)
	p.alone(field(host)).told(id, result, b.trial, w.plan.flow.Breaker.ProbeEvery, time.Now())
}

// sink is the way of a process to the receivers.
type sink struct {
	p        *process
	replayed bool
}

func (sink) Name() string { return sinkName }

func (s sink) EndsWithContext(called sinks.Sink) bool {
	return called == sinks.Sink(s) || called == sinks.Sink(hosts{s})
}

// hosts is a sink with a receiver for each host.
type hosts struct{ sink }

func (hosts) Receiver(to sinks.Recipient) string { host, _ := to.(string); return host }

func (hosts) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	var host string
	err := json.Unmarshal(raw, &host)
	return host, err
}

func (p *process) sink(replayed bool) sinks.Sink {
	if p.w.plan.hosts == 0 {
		return sink{p, replayed}
	}
	return hosts{sink{p, replayed}}
}

func (s sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	p, w := s.p, s.p.w
	host, _ := to.(string)
	w.mu.Lock()
	w.tries[m.ID]++
	a := w.plan.answer(asked{w.at(), host, w.chance("answer", m.ID, w.tries[m.ID])})
	var b begun
	late := w.late
	if w.gated {
		p.away()
		b = w.begins(p, field(host), p.going[m.ID].Probe)
		p.under[m.ID] = b
	}
	w.attempts = append(w.attempts, attempt{
		at: w.at(), process: p.n, host: host, good: a.err == nil && !a.hang, late: w.late > late, replayed: s.replayed, cut: p.away(),
	})
	w.mu.Unlock()
	if a.hang {
		a.took = time.Hour
	}
	err := w.line.Wait(ctx, a.took)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gated {
		w.ends(p, field(host), b)
	}
	if err != nil {
		return err
	}
	if a.err == nil {
		w.taken[m.ID]++
		w.rules.check(ruleOnce, w.taken[m.ID] == 1, "%s, %d times", m.ID, w.taken[m.ID])
	}
	if hold := sinks.HoldOf(a.err); hold > 0 {
		st := w.standing(field(host))
		if until := time.Now().Add(hold); until.After(st.asked) {
			st.asked = until
		}
	}
	return a.err
}

// link is the way of a process to the store. It takes a moment each way, may be cut, and
// loses one reply in a hundred. It asks twice, as the store on Redis does.
type link struct{ p *process }

var errAway = errors.New("no answer from the store")

// call returns when the store has answered, or has not twice. served is called when the
// question has arrived, arrived when the answer is back, both with World.mu held.
func (l link) call(ctx context.Context, served, arrived func()) (err error) {
	for range 2 {
		wait := storeWait
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(end)/2)
		}
		once, cancel := context.WithTimeout(ctx, wait)
		err = l.try(once, served, arrived)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return errAway
}

func (l link) try(ctx context.Context, served, arrived func()) error {
	p, w := l.p, l.p.w
	w.mu.Lock()
	p.calls++
	there := time.Duration(300+1200*w.chance("there", p.n, p.calls)) * time.Microsecond
	back := time.Duration(300+1200*w.chance("back", p.n, p.calls)) * time.Microsecond
	if w.chance("lost", p.n, p.calls) < 0.01 {
		back = time.Hour
	}
	if p.away() {
		there = time.Hour
	}
	w.mu.Unlock()
	if err := w.line.Wait(ctx, there); err != nil {
		return err
	}
	w.mu.Lock()
	served()
	w.mu.Unlock()
	if err := w.line.Wait(ctx, back); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	arrived()
	return nil
}

// LookAll is for who shows receivers: no process of the simulation does.
func (l link) LookAll(context.Context, []string) ([]flow.Seen, error) {
	return nil, errors.New("nobody asks for all")
}

func (l link) Look(ctx context.Context, name string) (seen flow.Seen, err error) {
	p, w := l.p, l.p.w
	versions := map[string]int{}
	var failed error
	err = l.call(ctx, func() {
		w.looks++
		seen, failed = w.store.Look(ctx, name)
		for receiver, s := range w.receivers {
			versions[receiver] = s.version
		}
	}, func() {
		for receiver, version := range versions {
			p.heardOf(receiver).reply(version, time.Now())
		}
		p.lost = false
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	p.looked = time.Now()
	p.lost = p.lost || err != nil
	return seen, errors.Join(err, failed)
}

func (l link) Swap(ctx context.Context, name, receiver string, s flow.Swap) (got flow.Swapped, err error) {
	p, w := l.p, l.p.w
	version := 0
	var failed error
	err = l.call(ctx, func() {
		w.swaps++
		got, failed = w.store.Swap(ctx, name, receiver, s)
		st := w.standing(receiver)
		if got.Swapped {
			w.changed(st, got.Current, time.Now())
		}
		version = st.version
	}, func() { p.heardOf(receiver).reply(version, time.Now()) })
	return got, errors.Join(err, failed)
}

// Hold is not asked: no receiver of the simulation counts by keys.
func (l link) Hold(ctx context.Context, name string, h flow.Hold) (until, now int64, err error) {
	return l.p.w.store.Hold(ctx, name, h)
}

func (l link) Take(ctx context.Context, name, receiver string, s flow.Slots) (got []flow.Granted, err error) {
	var failed error
	err = l.call(ctx, func() {
		l.p.w.takes++
		got, failed = l.p.w.store.Take(ctx, name, receiver, s)
	}, func() {})
	if err != nil { // then the process keeps the rate by itself
		l.p.w.mu.Lock()
		defer l.p.w.mu.Unlock()
		l.p.own += len(s.Latest)
	}
	return got, errors.Join(err, failed)
}

// queue is the way of a process to the dead letters.
type queue struct {
	*dlq.Memory
	p *process
}

func (q queue) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	q.p.w.mu.Lock()
	away := q.p.away()
	q.p.w.mu.Unlock()
	if away {
		err := q.p.w.line.Wait(ctx, storeWait)
		return dlq.Item{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "push", Cause: errors.Join(err, errAway)}
	}
	return q.Memory.Add(ctx, it)
}
