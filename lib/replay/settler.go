package replay

import (
	"context"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/retry"
)

// maxGroup is the most outcomes that are settled in one call.
const maxGroup = 50

// settler records the outcomes of one sink, in groups: while one call is under way the
// next outcomes gather.
type settler struct {
	engine *Engine
	ctx    context.Context // of the run; ended or not
	budget retry.Budget
	// settled is called for each outcome, with what came of recording it.
	settled func(replayed, error)

	in   chan replayed
	done chan struct{}
}

func newSettler(ctx context.Context, e *Engine, b retry.Budget, settled func(replayed, error)) *settler {
	s := &settler{engine: e, ctx: ctx, budget: b, settled: settled, in: make(chan replayed, maxGroup), done: make(chan struct{})}
	go s.loop()
	return s
}

// close records what is left and returns when all of it is settled.
func (s *settler) close() {
	close(s.in)
	<-s.done
}

func (s *settler) loop() {
	defer close(s.done)
	for rep := range s.in {
		group := []replayed{rep}
	gather:
		for len(group) < maxGroup {
			select {
			case rep, ok := <-s.in:
				if !ok {
					break gather
				}
				group = append(group, rep)
			default:
				break gather
			}
		}
		s.settle(group)
	}
}

func (s *settler) settle(group []replayed) {
	if group = s.told(group); len(group) == 0 {
		return
	}
	ctx, cancel := s.budget.SettleContext(s.ctx)
	defer cancel()
	settlements := make([]dlq.Settlement, len(group))
	var dropped []fate
	for i, rep := range group {
		settlements[i] = rep.settlement
	}
	s.engine.noteBefore(ctx, group...)
	results, err := s.engine.settle(ctx, settlements)
	for i, rep := range group {
		switch {
		case err != nil:
			s.settled(rep, err)
		case results[i] == dlq.SettleFenced:
			s.settled(rep, errFenced)
		default:
			s.settled(rep, nil)
			if recordStatus(rep) == delivery.StatusDiscarded {
				dropped = append(dropped, fate{rep.leased.Item, delivery.StatusDiscarded})
			}
		}
	}
	s.engine.note(ctx, dropped...)
}

// told returns the outcomes whose events are safe. The others are not settled: what was sent stays
// leased, and is sent again; what was not is given back.
func (s *settler) told(group []replayed) []replayed {
	var unsent []dlq.Lease
	safe := make([]replayed, 0, len(group))
	for i, err := range s.engine.tell(s.ctx, s.budget, group...) {
		rep := group[i]
		if err == nil {
			safe = append(safe, rep)
			continue
		}
		if rep.attempts == 0 {
			unsent = append(unsent, rep.leased.Lease)
		}
		s.settled(rep, err)
	}
	if len(unsent) > 0 {
		s.engine.release(s.ctx, s.budget, unsent)
	}
	return safe
}

// recordStatus is what a settlement makes of the delivery; empty: nothing new.
func recordStatus(rep replayed) delivery.Status {
	delivered := rep.settlement.Action == dlq.ActionDiscard || rep.settlement.Action == dlq.ActionKeep
	if rep.leased.Item.SupersededBy != "" && !delivered {
		return "" // its delivery lives on in what superseded it
	}
	switch rep.settlement.Action {
	case dlq.ActionDiscard, dlq.ActionKeep:
		return delivery.StatusDelivered
	case dlq.ActionDrop:
		// Whoever canceled a delivery has told its record, and that may be gone by now.
		if rep.leased.Item.DeliveredAt.IsZero() && !rep.leased.Canceled {
			return delivery.StatusDiscarded
		}
	case dlq.ActionExpire:
		return delivery.StatusExpired
	case dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold:
	}
	return ""
}
