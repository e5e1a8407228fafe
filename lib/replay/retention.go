package replay

import (
	"context"
	"time"
)

// mostRetire bounds the calls that remove old dead letters of one sink in a Run, of 1,000 each: the
// next one goes on.
const mostRetire = 10

// retireOld removes dead letters of a sink that are older than it keeps them and that nothing is due to
// happen to, in a paused sink too, and reports whether it removed any. A sink whose configuration cannot be
// used keeps all: how long it keeps them is not known.
func (r *run) retireOld(ctx context.Context, name string, oldest time.Time) (removed bool) {
	t, err := r.Targets.Target(ctx, name)
	if err != nil || t.ConfigErr != nil || t.Retention <= 0 {
		return false
	}
	share := r.budget.Share(4)
	before := time.Now().Add(-t.Retention)
	if !oldest.Before(before) {
		return false
	}
	var sum int64
	for range mostRetire {
		if !share.Fits(0) || ctx.Err() != nil {
			break
		}
		n, more, err := r.Store.Retire(ctx, name, before)
		sum += n
		if err != nil && ctx.Err() == nil {
			r.tally.fail(name, err)
		}
		if err != nil || !more {
			break
		}
	}
	if sum == 0 {
		return false
	}
	r.log().InfoContext(ctx, "retired", "sink", name, "dead_letters", sum, "older_than", t.Retention.String())
	r.tally.sink(name, func(s *SinkSummary) { s.Retired += sum })
	if o, ok := r.Observer.(RetentionObserver); ok {
		o.Retired(ctx, name, sum)
	}
	return true
}
