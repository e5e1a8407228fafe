package replay

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"backstop/internal/delay"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/retry"
)

// leastBreak is the least number of failures in a row after which a sink is left
// alone, however few sends it takes at once.
const leastBreak = 3

// gatePoll is how often a replayer asks again for a gate that another one holds.
const gatePoll = 200 * time.Millisecond

// lane replays the items of one sink within a run: so many at once, so many per
// second.
type lane struct {
	run     *run
	sink    string
	attempt attempt
	prober  *prober       // of a bulk replay; nil: of anything else
	need    time.Duration // what a send must have left to start; 0: no deadline
	until   time.Time     // no send starts after it; zero: no such bound
	settler *settler
	sends   sync.WaitGroup
	apart   apart
	// turn is held by who starts the next item, and guards the three below. (A mutex would
	// hold up the clock of synctest.)
	turn    slots
	senders int               // goroutines that send one item after the other
	waiting []dlq.Leased      // to be started, in order
	started chan []dlq.Leased // gets those that could not be, once none is waiting
	// suspects are leased and sent later, each alone. Only the lane's own goroutine uses them.
	suspects []dlq.Leased
	inARow   atomic.Int64 // failures of the sink since its last success
	refused  atomic.Int64 // items in a row that the gate did not let go
	shut     atomic.Bool  // the sink's only receiver is left alone
	// recorded counts outcomes, unsettled those that could not be recorded, fenced those
	// that must not be.
	recorded, unsettled, fenced atomic.Int64
}

func (r *run) newLane(ctx context.Context, name string, t delivery.Target, b retry.Budget, operation string) *lane {
	l := &lane{
		run: r, sink: name,
		attempt: attempt{target: t, budget: b, onSuccess: t.Replay.OnSuccess, operation: operation},
		turn:    make(slots, 1),
	}
	if r.request.OnSuccess != "" {
		l.attempt.onSuccess = r.request.OnSuccess
	}
	if r.whole > 0 {
		// A send that is cut off by our own end may have arrived all the same, and would
		// be charged to the item: it is not started. An invocation shorter than a whole
		// attempt makes do with half of itself.
		l.need = min(t.Retry.AttemptTimeout, r.whole/2)
		l.attempt.budget.Least = max(b.Least, l.need)
	}
	if r.paced(t) {
		l.attempt.gate = newInTurn(r.Gate, t, waiters(t))
	}
	l.settler = newSettler(ctx, r.Engine, r.budget, func(rep replayed, err error) { l.settled(ctx, rep, err) })
	return l
}

// wait returns when every send that was started is settled.
func (l *lane) wait() { l.sends.Wait() }

// close waits, gives back what was not sent, and ends the lane.
func (l *lane) close(ctx context.Context) {
	l.wait()
	l.giveBack(ctx, l.suspects)
	l.settler.close()
}

// fits reports whether a send that starts after wait can end before the budget does.
func (l *lane) fits(wait time.Duration) bool {
	b := l.attempt.budget
	return b.Attempts.IsZero() || time.Until(b.Attempts)-wait >= max(l.need, b.Least)
}

// covers reports whether the lease outlives a send that starts now, settling included.
func (l *lane) covers(lease dlq.Lease) bool {
	need := l.attempt.target.Retry.AttemptTimeout
	if l.need > 0 {
		need = l.need
	}
	return time.Until(lease.SendUntil()) >= need
}

// canary sends one due item alone, alone in the whole system, and reports whether the
// sink may take more. It may not when nothing is due, or the failure is the sink's.
func (l *lane) canary(ctx context.Context) bool {
	token := uuid.NewString()
	if !l.gate(ctx, token) {
		return false
	}
	defer l.ungate(ctx, token)
	for {
		if !l.run.batches.take(ctx) {
			return false
		}
		item, ok := l.first(ctx)
		l.run.batches.give()
		if !ok {
			return false
		}
		var rep replayed
		if item.Item.Deaths > 0 {
			rep, ok = l.sendAlone(ctx, item)
		} else if ok = l.start(ctx, item); ok {
			rep = l.send(ctx, item)
		}
		if !ok {
			l.giveBack(ctx, []dlq.Leased{item})
		}
		if !ok || rep.learned() && (!rep.keyed || rep.attempts == 0) {
			return ok && !rep.sinkFailed
		}
	}
}

// first claims the item that is tried alone: a suspect only when nothing else is due.
func (l *lane) first(ctx context.Context) (dlq.Leased, bool) {
	for len(l.suspects) < maxSuspects && l.goesOn(ctx) {
		leased := l.claimDue(ctx, 1)
		if len(leased) == 0 {
			break
		}
		if sound := l.screen(leased); len(sound) > 0 {
			return sound[0], true
		}
	}
	if len(l.suspects) == 0 {
		return dlq.Leased{}, false
	}
	item := l.suspects[0]
	l.suspects = l.suspects[1:]
	return item, true
}

// gate waits until no other replayer tries this sink alone.
func (l *lane) gate(ctx context.Context, token string) bool {
	cfg, p := l.attempt.target.Retry, l.attempt.target.Replay
	ttl := time.Duration(p.Attempts)*cfg.AttemptTimeout + time.Duration(p.Attempts-1)*2*cfg.MaxBackoff + 5*time.Second
	if l.run.Gate != nil {
		ttl += slotWait // or the end of a hold
	}
	if p.Rate > 0 {
		ttl += time.Duration(float64(time.Second) / p.Rate)
	}
	for l.fits(0) {
		held, err := l.run.Store.Gate(ctx, l.sink, token, ttl)
		if err != nil {
			l.run.tally.fail(l.sink, err)
			return false
		}
		if held {
			return true
		}
		if delay.Sleep(ctx, gatePoll) != nil {
			break
		}
	}
	return false
}

func (l *lane) ungate(ctx context.Context, token string) {
	ctx, cancel := l.run.budget.SettleContext(ctx)
	defer cancel()
	if err := l.run.Store.Ungate(ctx, l.sink, token); err != nil {
		l.run.log().WarnContext(ctx, "gate not given back", "sink", l.sink, "error", err.Error())
	}
}

// drain replays what is due until nothing is, or the sink fails too often in a row, the
// suspects last. A batch is claimed while the one before is being started: the sink does
// not wait for the store.
func (l *lane) drain(ctx context.Context) {
	next := l.claimAhead(ctx)
	for leased := <-next; len(leased) > 0; leased = <-next {
		next = l.claimAhead(ctx)
		all := l.sendAll(ctx, l.screen(leased))
		l.run.batches.give()
		if all && len(l.suspects) >= maxSuspects {
			all = l.sendSuspects(ctx)
		}
		if !all {
			if rest := <-next; len(rest) > 0 {
				l.giveBack(ctx, rest)
				l.run.batches.give()
			}
			return
		}
	}
	l.sendSuspects(ctx)
}

// claimAhead claims a batch of due items. Unless it is empty, it holds one of
// run.batches.
func (l *lane) claimAhead(ctx context.Context) <-chan []dlq.Leased {
	next := make(chan []dlq.Leased, 1)
	go func() {
		var leased []dlq.Leased
		if l.goesOn(ctx) && l.run.batches.take(ctx) {
			leased = l.claimDue(ctx, l.batchSize())
			if len(leased) == 0 {
				l.run.batches.give()
			}
		}
		next <- leased
	}()
	return next
}

// goesOn reports whether another send may be started.
func (l *lane) goesOn(ctx context.Context) bool {
	return ctx.Err() == nil && l.fits(0) && (l.until.IsZero() || time.Now().Before(l.until)) && !l.broken() && !l.shut.Load()
}

func (l *lane) broken() bool {
	return l.attempt.operation == "" && l.inARow.Load() >= int64(max(leastBreak, l.attempt.target.Replay.Concurrency))
}

// batchSize is how many items are claimed at once: what can be started soon.
func (l *lane) batchSize() int {
	p := l.attempt.target.Replay
	n := 2 * p.Concurrency
	if p.Rate > 0 {
		n = min(n, max(1, int(2*p.Rate)))
	}
	return n
}

// claim leases items.
func (l *lane) claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	c.Sink = l.sink
	return l.run.lease(ctx, c)
}

// lease claims items for this run.
func (r *run) lease(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	c.TTL = r.budget.Lease()
	leased, err := r.Store.Claim(ctx, c)
	r.tally.sink(c.Sink, func(s *SinkSummary) { s.Claimed += int64(len(leased)) })
	return leased, err
}

// claimDue leases up to n due items, within the run's quota.
func (l *lane) claimDue(ctx context.Context, n int) []dlq.Leased {
	if n = l.run.quota.borrow(n); n == 0 {
		return nil
	}
	leased, err := l.claim(ctx, dlq.Claim{Limit: n})
	l.run.quota.giveBack(n, len(leased))
	if err != nil && ctx.Err() == nil {
		l.run.tally.fail(l.sink, err)
	}
	return leased
}

// sendAll starts to send leased items, in order, and gives back those that can no
// longer be started; then it reports false.
func (l *lane) sendAll(ctx context.Context, leased []dlq.Leased) bool {
	if len(leased) == 0 {
		return true
	}
	started := make(chan []dlq.Leased, 1)
	l.turn <- struct{}{}
	l.waiting, l.started = leased, started
	for range min(l.attempt.target.Replay.Concurrency-l.senders, len(leased)) {
		l.senders++
		go l.sender(ctx)
	}
	l.turn.give()
	rest := <-started
	l.giveBack(ctx, rest)
	return len(rest) == 0
}

// sender sends what is waiting, one item after the other. Whoever is done takes the next
// one himself: handing it from goroutine to goroutine would cost more than what Backstop
// does to it.
func (l *lane) sender(ctx context.Context) {
	for {
		l.turn <- struct{}{}
		if len(l.waiting) == 0 {
			l.senders--
			l.turn.give()
			return
		}
		item := l.waiting[0]
		_, spared := l.spare(item)
		ok := spared || l.start(ctx, item)
		if ok {
			l.waiting = l.waiting[1:]
		}
		if !ok || len(l.waiting) == 0 {
			l.started <- l.waiting
			l.waiting = nil
		}
		l.turn.give()
		if ok && !spared {
			l.send(ctx, item)
		}
	}
}

// start waits for the sink's pace and for a free slot of the run, and reports whether the
// item may be sent then. send gives the slot back.
func (l *lane) start(ctx context.Context, item dlq.Leased) bool {
	if !l.goesOn(ctx) || !l.pace(ctx) || !l.run.slots.take(ctx) {
		return false
	}
	if !l.goesOn(ctx) || !l.covers(item.Lease) {
		l.run.slots.give()
		return false
	}
	l.sends.Add(1)
	return true
}

// pace waits for the sink's rate of replays; false when the wait does not fit.
func (l *lane) pace(ctx context.Context) bool {
	r := l.attempt.target.Replay.Rate
	if r == 0 {
		return true
	}
	latest := time.Now().Add(longestPace)
	if b := l.attempt.budget; !b.Attempts.IsZero() {
		latest = b.Attempts.Add(-max(l.need, b.Least))
	}
	at, taken := l.run.pacer().Slot(ctx, l.attempt.target.Sink.Name(), replaysSlot, flow.Rate{PerSecond: r}, latest)
	return taken && delay.Sleep(ctx, max(time.Until(at), 0)) == nil
}

const (
	// replaysSlot names the rate of a sink's replays among those of its receivers.
	replaysSlot = "replays of "
	// longestPace bounds the wait for a slot where nothing else does.
	longestPace = 24 * time.Hour
	// soon is how long an item whose receiver is left alone may be waited for, under its lease:
	// a breaker that closes step by step lets more go within a second.
	soon = 2 * time.Second
	// mostRefused is how many items in a row, of receivers that are left alone, a lane puts off
	// before it leaves the rest to the next run.
	mostRefused = 1000
)

// slotWait is how long a replay waits for a slot of its receiver's rate: longer than a fresh
// delivery (retry.DefaultSlotWait), or it would find none where those take all that are near.
const slotWait = 30 * time.Second

// waiters is how many replays of a sink may wait for slots at once. Of the slots for which
// fresh deliveries wait, the replayers of a tick have a quarter, so that a backlog drains and they go on.
func waiters(t delivery.Target) int {
	near := min(retry.DefaultSlotWait, t.Retry.MaxBackoff)
	if t.Retry.MaxWait > 0 {
		near = min(near, t.Retry.MaxWait)
	}
	return max(1, int(math.Ceil(t.Flow.Rate.PerSecond*near.Seconds()/4)))
}

// inTurn lets so many wait for a slot at once.
type inTurn struct {
	Gate
	waiting slots

	most  int // of a rate key, half of the sink's sends at most
	mu    sync.Mutex
	keyed map[string]int // who waits for a slot of a rate key
}

func newInTurn(g Gate, t delivery.Target, n int) *inTurn {
	return &inTurn{Gate: g, waiting: make(slots, n), most: min(n, max(1, t.Replay.Concurrency/2)), keyed: map[string]int{}}
}

// near is how far ahead a slot may be for those that do not wait.
const near = 100 * time.Millisecond

// Ask implements retry.Gate. It returns when the slot is there. Where many wait for slots of one rate key the
// next one does not, and comes back when it is told to: others go on meanwhile.
func (g *inTurn) Ask(ctx context.Context, t flow.Try) flow.Leave {
	switch {
	case t.RateKey != "":
		if !g.enter(t.RateKey) {
			t.Latest = time.Now().Add(near)
			return g.Gate.Ask(ctx, t)
		}
		defer g.leave(t.RateKey)
	case !g.waiting.take(ctx):
		return g.Gate.Ask(ctx, t) // it ends by itself
	default:
		defer g.waiting.give()
	}
	l := g.Gate.Ask(ctx, t)
	if l.Verdict == flow.Go && !l.At.IsZero() {
		_ = delay.Sleep(ctx, max(time.Until(l.At), 0)) // whoever ended it sees so himself
	}
	return l
}

func (g *inTurn) enter(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.keyed[key] >= g.most {
		return false
	}
	g.keyed[key]++
	return true
}

func (g *inTurn) leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.keyed[key]--; g.keyed[key] == 0 {
		delete(g.keyed, key)
	}
}

// send replays a started item and hands its outcome to the settler.
func (l *lane) send(ctx context.Context, item dlq.Leased) replayed {
	// The slot is held until the settler takes the outcome: a store that does not
	// settle is not given more to settle.
	defer l.run.slots.give()
	replay := func() replayed { return l.run.replay(ctx, l.attempt, item) }
	var rep replayed
	if l.prober == nil {
		rep = replay()
	} else {
		rep = l.prober.replay(item, replay)
	}
	for rep.status == "" && rep.refused && l.again(ctx, item, time.Until(rep.notBefore)) {
		rep = replay()
	}
	l.count(ctx, rep)
	if rep.status == "" {
		if l.prober == nil { // else it knows
			l.giveBack(ctx, []dlq.Leased{item})
		}
		l.sends.Done()
		rep.sinkFailed = true // nothing was learned: nobody follows
		return rep
	}
	l.settler.in <- rep
	return rep
}

// again waits for a receiver that may be attempted soon; false when nobody should.
func (l *lane) again(ctx context.Context, item dlq.Leased, wait time.Duration) bool {
	return l.attempt.operation == "" && wait <= soon && l.fits(wait) && delay.Sleep(ctx, wait) == nil && l.goesOn(ctx) && l.covers(item.Lease)
}

// count notes what a replay says of the sink, for those that follow.
func (l *lane) count(ctx context.Context, rep replayed) {
	switch {
	case !rep.learned(), rep.keyed && rep.attempts > 0:
		return
	case rep.refused:
		if o := l.run.Observer; o != nil {
			o.ReplayRefused(ctx, l.sink, rep.reason)
		}
		if l.prober != nil { // others may go
			return
		}
		if rep.keyed {
			l.apart.add(rep.notBefore)
		}
		leave := rep.status == "" || l.refused.Add(1) >= mostRefused
		if leave {
			l.shut.Store(true)
		}
		if leave || !rep.keyed && time.Until(rep.notBefore) > soon {
			l.run.tally.heldBack(l.sink, rep.err, rep.notBefore)
		}
		return
	case rep.sinkFailed:
		l.inARow.Add(1)
	case rep.status != "":
		l.inARow.Store(0)
	}
	l.refused.Store(0)
}

// apart is when those may go that their rate keys put off.
type apart struct {
	mu    sync.Mutex
	times []time.Time
}

func (a *apart) add(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, t)
}

// next takes the first time, and all that are past; zero: there is none.
func (a *apart) next() (first time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.times) == 0 {
		return time.Time{}
	}
	first = slices.MinFunc(a.times, time.Time.Compare)
	now := time.Now()
	a.times = slices.DeleteFunc(a.times, func(t time.Time) bool { return t.Equal(first) || t.Before(now) })
	return first
}

// awaitApart waits for the next of those that their rate keys put off, as it waits for slots; false where
// there is none, or that is too long: the next run has them.
func (l *lane) awaitApart(ctx context.Context) bool {
	l.wait()
	at := l.apart.next()
	wait := max(time.Until(at), 0) + near // what is settled counts from when it was recorded
	return !at.IsZero() && wait <= slotWait && l.fits(wait) && l.goesOn(ctx) && delay.Sleep(ctx, wait) == nil
}

// settled counts an outcome. It is called by the settler, once for every send.
func (l *lane) settled(ctx context.Context, rep replayed, err error) {
	defer l.sends.Done()
	l.run.settled(ctx, rep, err)
	if errors.Is(err, errFenced) {
		l.fenced.Add(1)
	} else if err != nil {
		l.unsettled.Add(1)
	} else {
		l.recorded.Add(1)
	}
	l.run.tallied(l.sink, rep, err)
}

// tallied counts an outcome in the summary, and notes why it could not be recorded.
func (r *run) tallied(sink string, rep replayed, err error) {
	if err != nil && !errors.Is(err, errFenced) {
		r.tally.fail(sink, err)
		r.lost(err)
	}
	r.tally.sink(sink, func(s *SinkSummary) {
		switch {
		case err != nil, rep.status == statusPutOff, rep.status == statusCanceled, rep.status == statusHeld:
			s.Skipped++
		case rep.status == statusExpired:
			s.Expired++
		case rep.status == StatusDelivered:
			s.Delivered++
		case rep.status == StatusParked:
			s.Parked++
		case rep.status == StatusFailed:
			s.Failed++
		}
	})
}

// giveBack releases items that were not sent.
func (l *lane) giveBack(ctx context.Context, leased []dlq.Leased) {
	if len(leased) == 0 {
		return
	}
	leases := make([]dlq.Lease, len(leased))
	for i, item := range leased {
		leases[i] = item.Lease
	}
	l.run.release(ctx, l.run.budget, leases)
	l.run.tally.sink(l.sink, func(s *SinkSummary) { s.Skipped += int64(len(leased)) })
}
