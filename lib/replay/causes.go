package replay

import (
	"context"

	"backstop/lib/dlq"
)

// tellCauses tells of the ways to fail that are new in a sink, in a quarter of the time: an event where
// its configuration has one, a line in the log, and a number. Whoever is not told now is told at a later
// tick.
func (r *run) tellCauses(ctx context.Context, name string) {
	fresh, err := r.Store.NewGroups(ctx, name)
	if err != nil {
		r.log().WarnContext(ctx, "new causes not read", "sink", name, "error", err.Error())
		return
	}
	share := r.budget.Share(4)
	var told []dlq.Group
	for _, g := range fresh {
		if !share.Fits(0) || ctx.Err() != nil {
			break
		}
		if err := r.Events.TellCause(ctx, share, g); err != nil {
			r.log().WarnContext(ctx, "new cause not told", "sink", name, "cause", g.ID(), "error", err.Error())
			continue
		}
		r.log().WarnContext(ctx, "new cause", "sink", name, "cause", g.ID(), "reason", string(g.Reason), "fingerprint", g.Fingerprint, "first_seen", g.FirstSeen, "item_id", g.Sample)
		told = append(told, g)
	}
	if len(told) == 0 {
		return
	}
	if o, ok := r.Observer.(CauseObserver); ok {
		o.NewCauses(ctx, name, len(told))
	}
	if err := r.Store.Told(ctx, told); err != nil {
		r.log().WarnContext(ctx, "new causes are told again at the next tick", "sink", name, "error", err.Error())
	}
}
