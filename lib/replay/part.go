package replay

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
)

// MaxReplayers is the most runs that share a tick. Sixteen make 160 sends at once to a sink without a
// bound of its own; with more, a Redis that settles for all of them would wait for itself, not for receivers.
const MaxReplayers = 16

const (
	// lettersEach is how many due letters one send after the other gets done in a tick, where the
	// receiver takes a second. More than that for each send at once ask for another replayer.
	lettersEach = 50
	// mostPartSinks bounds what a part is told: an event of Lambda holds 256 KB.
	mostPartSinks = 1000
	// startsWithin bounds all starts of a tick, and what is asked before them.
	startsWithin = 5 * time.Second
	// longestPart is how long a part works whose tick has no deadline.
	longestPart = time.Minute
)

// Part is what a tick asks another process for: to replay what is due in the Request's Sinks,
// and nothing else that a tick does. It may come late, twice, or not at all: leases keep two replayers
// from one letter, and nothing begins after Until.
type Part struct {
	// Rank is 1 for the first that a tick starts, 2 for the next, up to MaxReplayers-1. The tick itself is 0. Of what a
	// sink bounds for all of them together (Policy.Concurrency, and who may wait for Flow.Rate), each takes what
	// those before it cannot use.
	Rank int `json:"rank"`
	// Until is when the tick ends. Required.
	Until time.Time `json:"until"`
}

func (r Request) validatePart() error {
	switch p := r.Part; {
	case p == nil:
		return nil
	case p.Rank < 1 || p.Rank >= MaxReplayers:
		return invalid("part.rank: want 1 to %d, got %d", MaxReplayers-1, p.Rank)
	case p.Until.IsZero():
		return invalid("part.until: required")
	case len(r.Sinks) == 0:
		return invalid("sinks: required with part")
	case r.Limit != 0 || r.OnSuccess != "" || r.Operation != "" || r.Scheduled:
		return invalid("part: goes with sinks alone")
	}
	return nil
}

// rank is 0 in a run that is no part.
func (r *run) rank() int {
	if r.request.Part == nil {
		return 0
	}
	return r.request.Part.Rank
}

// mine is what a run may use of n, which bounds all replayers of a tick together, where one uses each at most.
func (r *run) mine(n, each int) int {
	return min(max(n-r.rank()*each, 0), each)
}

// each is how many sends at once to a sink are one replayer's at most.
func (r *run) each(t shared) int {
	if t.bounded {
		return cap(r.slots)
	}
	return min(t.Replay.Concurrency, cap(r.slots))
}

// part replays what is due, beside the tick that asked for it.
func (r *run) part(ctx context.Context) {
	if !time.Now().Before(r.request.Part.Until) {
		r.log().InfoContext(ctx, "replayer left: the tick that started it is over", "rank", r.rank(), "until", r.request.Part.Until)
		return
	}
	names := slices.Clone(r.request.Sinks)
	slices.Sort(names)
	var lanes sync.WaitGroup
	for _, name := range slices.Compact(names) {
		lanes.Go(func() {
			t, err := r.shared(ctx, name)
			if err != nil {
				r.tally.fail(name, err)
				return
			}
			if !r.leftAlone(ctx, name, t) {
				r.replayDue(ctx, name, t, time.Time{})
			}
		})
	}
	lanes.Wait()
}

// help starts other replayers for what is due, where that is more than this run gets done. Whoever
// cannot be started is missing and nothing else: this run does all that it would do alone.
func (r *run) help(ctx context.Context, names []string) {
	most := min(r.Replayers, MaxReplayers)
	if r.Start == nil || most < 2 || !r.request.Scheduled {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, startsWithin)
	defer cancel()
	n, sinks := replayers(r.backlog(ctx, names), cap(r.slots))
	n = min(n, most)
	until := r.budget.Deadline
	if until.IsZero() {
		until = time.Now().Add(longestPart)
	}
	for rank := 1; rank < n; rank++ {
		err := r.Start(ctx, Request{Sinks: sinks, Part: &Part{Rank: rank, Until: until.UTC()}})
		if err != nil { // the next one would hardly fare better, and takes time
			r.tally.missing = n - rank
			r.log().WarnContext(ctx, "replayers not started; this run goes on without them", "started", rank-1, "missing", n-rank, "error", err.Error())
			return
		}
		r.tally.started = rank
	}
}

// backlog is what is due in one sink.
type backlog struct {
	sink   string
	due    float64 // that may be sent within the tick
	atOnce int     // sends of one replayer
	most   int     // replayers that the sink's bounds have work for
}

// backlog counts what is due in the sinks that can be sent to now.
func (r *run) backlog(ctx context.Context, names []string) []backlog {
	all := make([]backlog, len(names))
	var g errgroup.Group
	g.SetLimit(maxCalls)
	for i, name := range names {
		g.Go(func() error {
			all[i] = r.backlogOf(ctx, name)
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	return slices.DeleteFunc(all, func(b backlog) bool { return b.most < 2 || b.due == 0 })
}

// backlogOf is zero for a sink that this run may leave alone: whatever is wrong with it, its lane says so.
func (r *run) backlogOf(ctx context.Context, name string) backlog {
	st, err := r.Store.Stats(ctx, name)
	if err != nil || st.Paused || st.States[dlq.StateDue] == 0 {
		return backlog{}
	}
	t, err := r.shared(ctx, name)
	if err != nil {
		return backlog{}
	}
	if _, alone := r.shut(ctx, name, t); alone {
		return backlog{}
	}
	each := r.each(t)
	b := backlog{sink: name, due: float64(st.States[dlq.StateDue]), atOnce: min(t.Replay.Concurrency, each), most: MaxReplayers}
	left := longestPart
	if r.whole > 0 {
		left = time.Until(r.budget.Attempts)
	}
	for _, perSecond := range []float64{t.Replay.Rate, t.Flow.Rate.PerSecond} {
		if perSecond > 0 {
			b.due = min(b.due, perSecond*max(left, 0).Seconds())
		}
	}
	for _, n := range r.bounds(t) {
		b.most = min(b.most, (n+each-1)/each)
	}
	return b
}

// bounds are the numbers that a sink sets for all replayers of a tick together.
func (r *run) bounds(t shared) (n []int) {
	if t.bounded {
		n = append(n, t.Replay.Concurrency)
	}
	if r.paced(t.Target) {
		n = append(n, waiters(t.Target))
	}
	return n
}

// paced reports whether replays wait in turn for slots of the receiver's rate.
func (r *run) paced(t delivery.Target) bool { return t.Flow.Rate.PerSecond > 0 && r.Gate != nil }

// replayers is how many of them what is due asks for: enough for the largest backlog, and for all of them
// together. One sends so many at once. It also returns the sinks, those with the largest backlogs.
func replayers(all []backlog, atOnce int) (n int, sinks []string) {
	slices.SortFunc(all, func(a, b backlog) int { return cmp.Or(cmp.Compare(b.due, a.due), cmp.Compare(a.sink, b.sink)) })
	var sum float64
	for _, b := range all[:min(len(all), mostPartSinks)] {
		sinks = append(sinks, b.sink)
		letters := min(b.due, float64(b.most*b.atOnce*lettersEach))
		sum += letters
		n = max(n, int(math.Ceil(letters/float64(b.atOnce*lettersEach))))
	}
	return max(n, int(math.Ceil(sum/float64(atOnce*lettersEach)))), sinks
}
