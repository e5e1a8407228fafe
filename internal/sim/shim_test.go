package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
)

var (
	errAway    = errors.New("no answer")
	errRefused = errors.New("refused")
	errOver    = errors.New("the process is dead")
)

// storeWait is how long a client waits for an answer.
const storeWait = time.Second

// alive returns when the process may go on, which one that died may not before the end.
func (p *process) alive() error {
	p.w.mu.Lock()
	dead := p.dead
	p.w.mu.Unlock()
	if dead {
		<-p.w.over
	}
	select {
	case <-p.w.over:
		return errOver
	default:
		return nil
	}
}

// turn lets the process go on alone: no two goroutines of the world come from it at the same instant.
func (p *process) turn(what, about string) {
	if p.alive() == nil {
		p.w.pause(time.Microsecond + time.Duration(p.w.Draw("turn", p.name, what, about, int64(p.w.at()))%10_000))
		_ = p.alive()
	}
}

// call makes a call of what all processes share, about some deliveries, and asks a second time when no
// answer comes. After an error it may have been done all the same.
func call[T any](ctx context.Context, p *process, op string, ids []string, show func(T) string, do func(context.Context) (T, error)) (v T, err error) {
	for range 2 {
		wait := storeWait
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(end)/2)
		}
		once, cancel := context.WithTimeout(ctx, wait)
		v, err = try(once, p, op, ids, show, do)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, errAway) {
			break
		}
	}
	return v, err
}

func try[T any](ctx context.Context, p *process, op string, ids []string, show func(T) string, do func(context.Context) (T, error)) (T, error) {
	var none T
	w, about := p.w, strings.Join(ids, ",")
	if err := p.alive(); err != nil {
		return none, err
	}
	// A gate's calls are quick: a slot that is told late is used late.
	shared := strings.HasPrefix(op, "flow")
	// fails notes that the caller does not know what became of the call.
	fails := func(why string) (T, error) {
		p.turn(op, about) // what ends at one instant goes on one by one
		w.mu.Lock()
		defer w.mu.Unlock()
		w.note(p.name, op, about, why)
		w.cause(ids, why+" "+op)
		if shared {
			p.unanswered = w.at()
		}
		return none, fmt.Errorf("%s: %w", op, errAway)
	}
	chance := func(what string) float64 { return w.Chance(what, p.name, op, about, int64(w.at())) }
	there := 300*time.Microsecond + time.Duration(1.2e6*chance("there"))
	back := 300*time.Microsecond + time.Duration(1.2e6*chance("back"))
	lost, refused, death := 1.0, 1.0, 1.0
	stalled := false
	if w.troubled() {
		lost, refused, death = chance("lost"), chance("refused"), chance("death")
		if chance("slow") < w.slow && !shared {
			there += time.Duration(4e8 * chance("slow there"))
			back += time.Duration(4e8 * chance("slow back"))
		}
		if p.away() {
			<-ctx.Done()
			return fails("cut off:")
		}
		stalled = chance("stall") < max(w.stall, w.late[op]) && !shared
	}
	if stalled { // it is on its way for long, and arrives whatever has become of the process
		go func() {
			w.pause(time.Second + time.Duration(9e10*chance("stalled")))
			_, err := do(context.WithoutCancel(ctx))
			w.mu.Lock()
			defer w.mu.Unlock()
			w.note(p.name, op, about, "arrives late "+string(fault.CodeOf(err)))
		}()
		<-ctx.Done()
		return fails("arrives late:")
	}
	if w.line.Wait(ctx, there) != nil {
		return fails("late:")
	}
	if err := p.alive(); err != nil {
		return none, err
	}
	if death < w.death/2 {
		p.die("before " + op)
		return none, p.alive()
	}
	if refused < w.refused {
		w.mu.Lock()
		w.note(p.name, op, about, "refused")
		w.cause(ids, "refused: "+op)
		w.mu.Unlock()
		return none, fmt.Errorf("%s: %w", op, errRefused)
	}
	v, err := do(context.WithoutCancel(ctx))
	w.mu.Lock()
	switch {
	case err != nil:
		w.note(p.name, op, about, string(fault.CodeOf(err)))
	case show != nil:
		w.note(p.name, op, about, show(v))
	default:
		w.note(p.name, op, about, "")
	}
	w.mu.Unlock()
	if death < w.death {
		p.die("after " + op)
		return none, p.alive()
	}
	if lost < w.lost {
		<-ctx.Done()
		return fails("lost reply:")
	}
	if w.line.Wait(ctx, back) != nil {
		return fails("late reply:")
	}
	if over := p.alive(); over != nil {
		return none, over
	}
	return v, err
}

// away reports whether the process is cut off from what all share. Partitions come and go by the minute.
func (p *process) away() bool {
	w := p.w
	minute := int(w.at() / time.Minute)
	return w.Chance("partition", minute/3) < 0.15 && w.Chance("cut", minute/3, p.name) < w.cut
}

// letter is the error of the queue of dead letters.
func letter(err error) error {
	if errors.Is(err, errAway) || errors.Is(err, errRefused) || errors.Is(err, errOver) {
		return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "queue", Cause: err}
	}
	return err
}

// one makes a call of the queue of dead letters.
func one[T any](ctx context.Context, s store, op string, ids []string, show func(T) string, do func(context.Context) (T, error)) (T, error) {
	v, err := call(ctx, s.p, op, ids, show, do)
	return v, letter(err)
}

type nothing = struct{}

func none(err error) (nothing, error) { return nothing{}, err }

// store is the queue of dead letters as a process reaches it. What is not here no process of the
// simulation asks for: it panics.
type store struct {
	dlq.Store
	p *process
}

func (s store) memory() *dlq.Memory { return s.p.w.letters }

func idsOf(items []dlq.Item) (ids []string) {
	for _, it := range items {
		ids = append(ids, it.DeliveryID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// deliveriesOf are those of dead letters that were handed out before.
func (s store) deliveriesOf(letters ...string) (ids []string) {
	s.p.w.mu.Lock()
	defer s.p.w.mu.Unlock()
	for _, id := range letters {
		if d := s.p.w.letterOf[id]; d != "" {
			ids = append(ids, d)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (s store) learn(it dlq.Item) {
	s.p.w.mu.Lock()
	defer s.p.w.mu.Unlock()
	s.p.w.knows(it)
}

type added struct {
	stored []dlq.Item
	errs   []error
}

func (s store) AddBatch(ctx context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	got, err := one(ctx, s, "add", idsOf(items), func(a added) string {
		var b strings.Builder
		for i, it := range a.stored {
			b.WriteString(it.ID + string(fault.CodeOf(a.errs[i])) + ",")
		}
		return b.String()
	}, func(ctx context.Context) (added, error) {
		stored, errs := s.memory().AddBatch(ctx, items)
		for i, err := range errs {
			if err == nil {
				s.learn(stored[i])
			}
		}
		return added{stored, errs}, nil
	})
	if err == nil {
		return got.stored, got.errs
	}
	errs := make([]error, len(items))
	if s.p.w.plant != "acknowledged before the push" {
		for i := range errs {
			errs[i] = err
		}
	}
	return items, errs
}

func (s store) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	return one(ctx, s, "add one", []string{it.DeliveryID}, nil, func(ctx context.Context) (dlq.Item, error) {
		it, err := s.memory().Add(ctx, it)
		if err == nil {
			s.learn(it)
		}
		return it, err
	})
}

func (s store) Find(ctx context.Context, sink, id, fingerprint string) (dlq.Item, error) {
	return one(ctx, s, "find", []string{id}, nil, func(ctx context.Context) (dlq.Item, error) { return s.memory().Find(ctx, sink, id, fingerprint) })
}

func (s store) Get(ctx context.Context, id string) (dlq.Item, error) {
	return one(ctx, s, "get", s.deliveriesOf(id), nil, func(ctx context.Context) (dlq.Item, error) { return s.memory().Get(ctx, id) })
}

func (s store) Discard(ctx context.Context, id string) error {
	_, err := one(ctx, s, "discard", s.deliveriesOf(id), nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Discard(ctx, id)) })
	return err
}

func (s store) Unpark(ctx context.Context, id string) error {
	_, err := one(ctx, s, "unpark", s.deliveriesOf(id), nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Unpark(ctx, id)) })
	return err
}

func (s store) Pause(ctx context.Context, sink string, paused bool) error {
	_, err := one(ctx, s, "pause "+sink+fmt.Sprint(paused), nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Pause(ctx, sink, paused)) })
	return err
}

func (s store) Page(ctx context.Context, q dlq.Query) (dlq.Page, error) {
	return one(ctx, s, "page "+q.Sink, nil, func(p dlq.Page) string { return fmt.Sprint(len(p.Items)) }, func(ctx context.Context) (dlq.Page, error) { return s.memory().Page(ctx, q) })
}

func (s store) Sinks(ctx context.Context) ([]string, error) {
	return one(ctx, s, "sinks", nil, nil, s.memory().Sinks)
}

func (s store) Stats(ctx context.Context, sink string) (dlq.Stats, error) {
	return one(ctx, s, "stats "+sink, nil, func(st dlq.Stats) string { return fmt.Sprint(st.Depth, st.Remaining) }, func(ctx context.Context) (dlq.Stats, error) { return s.memory().Stats(ctx, sink) })
}

func (s store) Claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	w := s.p.w
	asked := c
	if w.plant == "leases that end early" {
		asked.TTL = min(c.TTL, 2*time.Second)
	}
	got, err := one(ctx, s, "claim "+c.Sink, s.deliveriesOf(c.IDs...), shown, func(ctx context.Context) ([]dlq.Leased, error) {
		got, err := s.memory().Claim(ctx, asked)
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, l := range got {
			w.knows(l.Item)
			w.leases[l.ID] = l.Lease
			if w.plant == "leases that end early" {
				got[i].Expires = l.Expires.Add(c.TTL - asked.TTL)
			}
		}
		return got, err
	})
	for i, l := range got {
		if !c.Quiet && !c.Expired {
			s.p.holds(l.Item.DeliveryID)
		}
		if w.plant == "replays forget the expiry" && !c.Expired {
			got[i].Item.ExpiresAt = time.Time{}
		}
		if w.plant == "replays forget the cancellation" {
			got[i].Canceled = false
		}
	}
	return got, err
}

func shown(all []dlq.Leased) string {
	var b strings.Builder
	for _, l := range all {
		b.WriteString(l.Item.DeliveryID + "," + l.ID + ",")
	}
	return b.String()
}

func letterIDs[T any](all []T, of func(T) dlq.Lease) []string {
	ids := make([]string, len(all))
	for i, v := range all {
		ids[i] = of(v).ID
	}
	return ids
}

func (s store) Settle(ctx context.Context, settlements []dlq.Settlement) ([]dlq.SettleResult, error) {
	w, asked := s.p.w, settlements
	ids := s.deliveriesOf(letterIDs(settlements, func(x dlq.Settlement) dlq.Lease { return x.Lease })...)
	got, err := one(ctx, s, "settle", ids, func(got []dlq.SettleResult) string {
		var b strings.Builder
		for i, r := range got {
			b.WriteString(string(settlements[i].Action) + "=" + string(r) + ",")
		}
		return b.String()
	}, func(ctx context.Context) ([]dlq.SettleResult, error) {
		if w.plant == "settled without a token" {
			settlements = slices.Clone(settlements)
			w.mu.Lock()
			for i := range settlements {
				settlements[i].Token = cmp.Or(w.leases[settlements[i].ID].Token, settlements[i].Token)
			}
			w.mu.Unlock()
		}
		got, err := s.memory().Settle(ctx, settlements)
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, r := range got {
			if r == dlq.SettleApplied {
				w.settles(asked[i].Lease, true)
			}
		}
		return got, err
	})
	if err == nil {
		s.p.drops(ids...)
	}
	return got, err
}

func (s store) Begin(ctx context.Context, l dlq.Lease) (bool, error) {
	return one(ctx, s, "begin letter", s.deliveriesOf(l.ID), nil, func(ctx context.Context) (bool, error) { return s.memory().Begin(ctx, l) })
}

func (s store) Release(ctx context.Context, l []dlq.Lease) error {
	ids := s.deliveriesOf(letterIDs(l, func(x dlq.Lease) dlq.Lease { return x })...)
	_, err := one(ctx, s, "release", ids, nil, func(ctx context.Context) (nothing, error) {
		err := s.memory().Release(ctx, l)
		s.p.w.mu.Lock()
		defer s.p.w.mu.Unlock()
		for _, l := range l {
			s.p.w.settles(l, false)
		}
		return none(err)
	})
	s.p.drops(ids...)
	return err
}

func (s store) ClaimDelivery(ctx context.Context, c dlq.DeliveryClaim) ([]dlq.Leased, error) {
	return one(ctx, s, "claim delivery", []string{c.DeliveryID}, shown, func(ctx context.Context) ([]dlq.Leased, error) {
		if s.p.w.plant == "canceled without a look at dead letters" {
			return nil, nil
		}
		got, err := s.memory().ClaimDelivery(ctx, c)
		s.p.w.mu.Lock()
		defer s.p.w.mu.Unlock()
		for _, l := range got {
			s.p.w.knows(l.Item)
			s.p.w.leases[l.ID] = l.Lease
		}
		return got, err
	})
}

func (s store) Canceled(ctx context.Context, sink, id string) (bool, error) {
	return one(ctx, s, "canceled", []string{id}, nil, func(ctx context.Context) (bool, error) { return s.memory().Canceled(ctx, sink, id) })
}

func (s store) Uncancel(ctx context.Context, sink, id string) error {
	_, err := one(ctx, s, "uncancel", []string{id}, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Uncancel(ctx, sink, id)) })
	return err
}

func (s store) PruneCanceled(ctx context.Context, sink string) (int64, error) {
	return one(ctx, s, "prune "+sink, nil, nil, func(ctx context.Context) (int64, error) { return s.memory().PruneCanceled(ctx, sink) })
}

func (s store) Present(ctx context.Context, sink string, of []dlq.Identity) ([]dlq.Present, error) {
	return one(ctx, s, "present "+sink, nil, nil, func(ctx context.Context) ([]dlq.Present, error) { return s.memory().Present(ctx, sink, of) })
}

func (s store) Beat(ctx context.Context) error {
	_, err := one(ctx, s, "beat", nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Beat(ctx)) })
	return err
}

func (s store) NewGroups(ctx context.Context, sink string) ([]dlq.Group, error) {
	return one(ctx, s, "new groups "+sink, nil, nil, func(ctx context.Context) ([]dlq.Group, error) { return s.memory().NewGroups(ctx, sink) })
}

func (s store) Told(ctx context.Context, told []dlq.Group) error {
	_, err := one(ctx, s, "told", nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Told(ctx, told)) })
	return err
}

func (s store) Gate(ctx context.Context, sink, token string, ttl time.Duration) (bool, error) {
	return one(ctx, s, "gate "+sink, nil, nil, func(ctx context.Context) (bool, error) { return s.memory().Gate(ctx, sink, token, ttl) })
}

func (s store) Ungate(ctx context.Context, sink, token string) error {
	_, err := one(ctx, s, "ungate "+sink, nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Ungate(ctx, sink, token)) })
	return err
}

func (s store) Progress(ctx context.Context, operation, sink string) (dlq.OperationCounts, error) {
	return one(ctx, s, "progress "+sink, nil, nil, func(ctx context.Context) (dlq.OperationCounts, error) {
		return s.memory().Progress(ctx, operation, sink)
	})
}

func (s store) EndOperation(ctx context.Context, operation, sink string) error {
	_, err := one(ctx, s, "end operation "+sink, nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().EndOperation(ctx, operation, sink)) })
	return err
}

type retired struct {
	n    int64
	more bool
}

// Retire notes which deliveries' dead letters are removed for their age.
func (s store) Retire(ctx context.Context, sink string, before time.Time) (int64, bool, error) {
	got, err := one(ctx, s, "retire "+sink, nil, func(r retired) string { return fmt.Sprint(r.n) }, func(ctx context.Context) (retired, error) {
		old, _ := s.memory().Items(ctx, sink, 1<<30)
		n, more, err := s.memory().Retire(ctx, sink, before)
		left, _ := s.memory().Items(ctx, sink, 1<<30)
		s.p.w.mu.Lock()
		defer s.p.w.mu.Unlock()
		for _, it := range old {
			if !slices.ContainsFunc(left, func(l dlq.Item) bool { return l.ID == it.ID }) && it.At.Before(before) {
				s.p.w.fates[it.DeliveryID].retired = true
			}
		}
		return retired{n, more}, err
	})
	return got.n, got.more, err
}

// gathering is the queue that a sender pushes to, which gathers what comes together.
type gathering struct {
	*dlq.Batcher
	p *process
}

func (g gathering) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	g.p.turn("gather", it.DeliveryID)
	return g.Batcher.Add(ctx, it)
}

// records are the records of deliveries as a process reaches them.
type records struct {
	delivery.Store
	p *process
}

func (r records) memory() *delivery.Memory { return r.p.w.records }

func (r records) Retention() time.Duration { return r.memory().Retention() }

type recordState struct {
	state delivery.State
	rec   delivery.Record
}

func (s recordState) String() string { return string(s.state) + "/" + string(s.rec.Status) }

func (r records) Begin(ctx context.Context, b delivery.Begin) (delivery.State, delivery.Record, error) {
	got, err := call(ctx, r.p, "begin", []string{b.ID}, recordState.String, func(ctx context.Context) (recordState, error) {
		state, rec, err := r.memory().Begin(ctx, b)
		return recordState{state, rec}, err
	})
	if err != nil && !b.Queued {
		// The delivery goes out without its record: the one case in which a cancellation may be missed.
		r.p.w.mu.Lock()
		r.p.w.fates[b.ID].unguarded = true
		r.p.w.mu.Unlock()
	}
	return got.state, got.rec, err
}

type finished struct {
	found   delivery.Record
	written bool
}

func (r records) Finish(ctx context.Context, k delivery.Key, token string, rec delivery.Record) (delivery.Record, bool, error) {
	if r.p.w.plant == "records that are not written" && rec.Status == delivery.StatusDelivered {
		err := r.memory().HandBack(ctx, k, token, delivery.BackForget, rec)
		return delivery.Record{}, true, err
	}
	got, err := call(ctx, r.p, "finish "+string(rec.Status), []string{k.ID}, func(f finished) string { return fmt.Sprint(f.found.Status, f.written) },
		func(ctx context.Context) (finished, error) {
			found, written, err := r.memory().Finish(ctx, k, token, rec)
			return finished{found, written}, err
		})
	return got.found, got.written, err
}

func (r records) HandBack(ctx context.Context, k delivery.Key, token string, how delivery.Back, rec delivery.Record) error {
	_, err := call(ctx, r.p, "hand back "+string(how), []string{k.ID}, nil, func(ctx context.Context) (nothing, error) {
		return none(r.memory().HandBack(ctx, k, token, how, rec))
	})
	return err
}

func (r records) Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	var ids []string
	for _, c := range changes {
		ids = append(ids, c.ID)
	}
	return call(ctx, r.p, "update", ids, func(s []delivery.Status) string { return fmt.Sprint(s) },
		func(ctx context.Context) ([]delivery.Status, error) { return r.memory().Update(ctx, changes...) })
}

func (r records) Cancel(ctx context.Context, k delivery.Key, token string, seen delivery.Record) (delivery.State, delivery.Record, error) {
	got, err := call(ctx, r.p, "cancel", []string{k.ID}, recordState.String, func(ctx context.Context) (recordState, error) {
		state, rec, err := r.memory().Cancel(ctx, k, token, seen)
		if state == delivery.StateInProgress && r.p.w.plant == "canceled while it is sent" {
			state = delivery.StateCanceled
		}
		return recordState{state, rec}, err
	})
	return got.state, got.rec, err
}

func (r records) Uncancel(ctx context.Context, k delivery.Key, token string) error {
	_, err := call(ctx, r.p, "uncancel record", []string{k.ID}, nil, func(ctx context.Context) (nothing, error) { return none(r.memory().Uncancel(ctx, k, token)) })
	return err
}

type read struct {
	rec   delivery.Record
	known bool
}

func (r records) Get(ctx context.Context, k delivery.Key) (delivery.Record, bool, error) {
	got, err := call(ctx, r.p, "record", []string{k.ID}, nil, func(ctx context.Context) (read, error) {
		rec, known, err := r.memory().Get(ctx, k)
		return read{rec, known}, err
	})
	return got.rec, got.known, err
}

// shared is what processes share of receivers.
type shared struct{ p *process }

func (s shared) LookAll(context.Context, []string) ([]flow.Seen, error) {
	return nil, errors.New("nobody asks for all")
}

func (s shared) Look(ctx context.Context, sink string) (flow.Seen, error) {
	return call(ctx, s.p, "flow look "+sink, nil, nil, func(ctx context.Context) (flow.Seen, error) { return s.p.w.flow.Look(ctx, sink) })
}

func (s shared) Swap(ctx context.Context, sink, receiver string, c flow.Swap) (flow.Swapped, error) {
	return call(ctx, s.p, "flow swap "+sink+receiver, nil, func(got flow.Swapped) string { return fmt.Sprint(got.Swapped, got.Full) },
		func(ctx context.Context) (flow.Swapped, error) { return s.p.w.flow.Swap(ctx, sink, receiver, c) })
}

type held struct{ until, now int64 }

func (s shared) Hold(ctx context.Context, sink string, h flow.Hold) (until, now int64, err error) {
	got, err := call(ctx, s.p, "flow hold "+sink, nil, func(h held) string { return fmt.Sprint(h.until) }, func(ctx context.Context) (held, error) {
		until, now, err := s.p.w.flow.Hold(ctx, sink, h)
		return held{until, now}, err
	})
	return got.until, got.now, err
}

func (s shared) Take(ctx context.Context, sink, receiver string, slots flow.Slots) ([]flow.Granted, error) {
	got, err := call(ctx, s.p, "flow take "+sink, nil, func(got []flow.Granted) string { return fmt.Sprint(got) },
		func(ctx context.Context) ([]flow.Granted, error) { return s.p.w.flow.Take(ctx, sink, receiver, slots) })
	w := s.p.w
	if err != nil { // then the process keeps the rate by itself
		w.mu.Lock()
		defer w.mu.Unlock()
		w.own[s.p] += len(slots.Latest)
	}
	if w.plant == "slots for everybody" {
		for i := range got {
			got[i] = flow.Granted{At: time.Now().UnixMicro(), Taken: true}
		}
	}
	return got, err
}

// guard is a process's gate. Whoever comes at the same moment asks one after the other.
type guard struct {
	*flow.Gate
	p *process
}

func (g guard) Paused(ctx context.Context, sink string) bool {
	g.p.turn("paused", sink)
	paused := g.Gate.Paused(ctx, sink)
	g.p.turn("paused?", sink)
	return paused
}

func (g guard) Ask(ctx context.Context, t flow.Try) flow.Leave {
	g.p.turn("ask", t.Delivery)
	l := g.Gate.Ask(ctx, t)
	g.p.says("ask", t.Delivery, l)
	g.p.w.mu.Lock()
	g.p.slots[t.Delivery] = l.At.Sub(g.p.w.start)
	g.p.w.mu.Unlock()
	if g.p.w.plant == "the gate is not asked" {
		l.Verdict, l.At = flow.Go, time.Time{}
	}
	return l
}

func (g guard) Shut(ctx context.Context, t flow.Try) (flow.Leave, bool) {
	g.p.turn("shut", t.Delivery)
	l, shut := g.Gate.Shut(ctx, t)
	if shut {
		g.p.says("shut", t.Delivery, l)
	}
	return l, shut
}

// says notes what a gate has said.
func (p *process) says(what, delivery string, l flow.Leave) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if !p.dead {
		p.w.note(p.name, what, delivery, [...]string{flow.Go: "go", flow.Wait: "wait", flow.Refused: "refused"}[l.Verdict]+" "+l.Why)
	}
}

func (g guard) Tell(ctx context.Context, l flow.Leave, t flow.Told) {
	g.p.turn("tell", t.Error)
	g.Gate.Tell(ctx, l, t)
}

func (g guard) Lost(ctx context.Context, t flow.Try, why string) {
	g.p.turn("lost", t.Delivery)
	g.Gate.Lost(ctx, t, why)
}

func (g guard) Slot(ctx context.Context, sink, name string, r flow.Rate, latest time.Time) (time.Time, bool) {
	g.p.turn("slot", sink+name)
	return g.Gate.Slot(ctx, sink, name, r, latest)
}

// operations are bulk operations as a process reaches them.
type operations struct {
	replay.OperationStore
	p *process
}

func operation[T any](ctx context.Context, o operations, op string, do func(context.Context) (T, error)) (T, error) {
	v, err := call(ctx, o.p, "operation "+op, nil, nil, do)
	return v, letter(err)
}

func (o operations) memory() *replay.MemoryOperations { return o.p.w.operations }

func (o operations) Create(ctx context.Context, op replay.Operation) (replay.Operation, error) {
	return operation(ctx, o, "create", func(ctx context.Context) (replay.Operation, error) { return o.memory().Create(ctx, op) })
}

func (o operations) Get(ctx context.Context, id string) (replay.Operation, error) {
	return operation(ctx, o, "get", func(ctx context.Context) (replay.Operation, error) { return o.memory().Get(ctx, id) })
}

func (o operations) Unfinished(ctx context.Context) ([]string, error) {
	return operation(ctx, o, "unfinished", func(ctx context.Context) ([]string, error) { return o.memory().Unfinished(ctx) })
}

type takenOver struct {
	op replay.Operation
	ok bool
}

func (o operations) Take(ctx context.Context, id, owner string, ttl time.Duration) (replay.Operation, bool, error) {
	got, err := operation(ctx, o, "take", func(ctx context.Context) (takenOver, error) {
		op, ok, err := o.memory().Take(ctx, id, owner, ttl)
		return takenOver{op, ok}, err
	})
	return got.op, got.ok, err
}

func (o operations) Save(ctx context.Context, id, owner string, c replay.OperationChange) (replay.OperationStatus, error) {
	return operation(ctx, o, "save "+c.Sink, func(ctx context.Context) (replay.OperationStatus, error) { return o.memory().Save(ctx, id, owner, c) })
}
