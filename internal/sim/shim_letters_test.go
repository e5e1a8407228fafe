package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

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
