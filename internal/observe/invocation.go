package observe

import (
	"context"
	"sync/atomic"
	"time"
)

// started is when the process began, as near as it can tell itself.
var started = time.Now()

// invoked is set by the first invocation of the process.
var invoked atomic.Bool

// Begin notes the start of an invocation. The first one of a process is a cold start:
// it counts as ColdStarts, and InitTime is how long the process took to come here.
func (m *Metrics) Begin() {
	if invoked.CompareAndSwap(false, true) {
		m.Add(ColdStarts, "", 1)
		m.Add(InitTime, "", float64(time.Since(started).Microseconds())/1000)
	}
}

// End notes the end of an invocation: DeadlineMargin is what was left of ctx's time,
// negative when the deadline passed. Without a deadline it notes nothing.
func (m *Metrics) End(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok {
		m.Add(DeadlineMargin, "", float64(time.Until(deadline).Milliseconds()))
	}
}
