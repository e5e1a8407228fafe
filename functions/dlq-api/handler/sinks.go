package handler

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"backstop/internal/version"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
)

// sinkView is one sink as the operator sees it.
type sinkView struct {
	Name             string              `json:"name"`
	Kind             string              `json:"kind,omitempty"`
	State            sinkState           `json:"state,omitempty"` // empty: not known, or not configured
	Configured       bool                `json:"configured"`
	ConfigError      string              `json:"config_error,omitempty"`
	QueueError       string              `json:"queue_error,omitempty"` // why Depth and Due are unknown
	Depth            int64               `json:"depth"`                 // -1: unknown
	Due              int64               `json:"due"`                   // -1: unknown
	Parked           int64               `json:"parked"`
	Kept             int64               `json:"kept"`
	Trimmed          int64               `json:"trimmed"`
	States           map[dlq.State]int64 `json:"states,omitempty"`
	Paused           bool                `json:"paused"`
	OldestAt         time.Time           `json:"oldest_at,omitzero"`
	OldestAgeSeconds int64               `json:"oldest_age_seconds"`
	// Waiting are those of Due that the schedule does not replay, for the receiver is open or
	// held.
	Waiting int64 `json:"waiting"`
	receiverView
	// Receivers are those of several that are not well, the worst first; MoreReceivers counts
	// those beyond mostReceivers.
	Receivers     []namedReceiver `json:"receivers,omitempty"`
	MoreReceivers int             `json:"more_receivers,omitempty"`
	Retired       int64           `json:"retired"`
	journalView

	policy flow.Policy
}

// journalView is what is known of a sink's journal, all zero where there is none.
type journalView struct {
	Spilled        int64     `json:"spilled"` // wait in the journal for room in the queue, as of SpilledAsOf
	SpilledAsOf    time.Time `json:"spilled_as_of,omitzero"`
	Unjournaled    int64     `json:"unjournaled"`
	Ending         int64     `json:"ending"`
	QueueLostSince time.Time `json:"queue_lost_since,omitzero"`
}

// sinkState is how a sink is. The first that holds is shown: misconfigured, paused, and then
// what its own receiver gets, in the words of flow.
type sinkState string

// The states that no receiver has.
const (
	sinkMisconfigured sinkState = "misconfigured"
	sinkPaused        sinkState = "paused"
)

// receiverView is what is known of a receiver.
type receiverView struct {
	Since         time.Time `json:"since,omitzero"`      // of the state
	NextProbe     time.Time `json:"next_probe,omitzero"` // while it is open or held
	LastError     string    `json:"last_error,omitempty"`
	LastErrorAt   time.Time `json:"last_error_at,omitzero"`
	LastSuccessAt time.Time `json:"last_success_at,omitzero"`
}

// namedReceiver is one receiver of several.
type namedReceiver struct {
	Name  string              `json:"name"`
	State flow.ReceiverStatus `json:"state"`
	receiverView
}

// The bounds of what is shown of receivers.
const (
	mostReceivers = 20
	mostError     = 300 // characters
)

// listSinks answers with every sink that is configured or has dead letters.
func (h *api) listSinks(w http.ResponseWriter, r *http.Request) error {
	if q := readQuery(r); q.err != nil {
		return q.err
	}
	body := struct {
		Sinks            []sinkView `json:"sinks"`
		ConfigAgeSeconds int64      `json:"config_age_seconds"` // -1: no configuration
		ConfigError      string     `json:"config_error,omitempty"`
		Journal          bool       `json:"journal"`
		Version          string     `json:"version"`
		Now              time.Time  `json:"now"`
		// ScheduleRanAt is when a run of the schedule ended well last. Missing: none that is known.
		ScheduleRanAt time.Time `json:"schedule_ran_at,omitzero"`
	}{
		Sinks: []sinkView{}, ConfigAgeSeconds: -1, Journal: h.engine.Journal != nil, Version: version.Read().Version,
		Now: time.Now().UTC().Truncate(time.Millisecond),
	}

	views := map[string]*sinkView{}
	snapshot, err := h.app.Config.Get(r.Context())
	if err == nil {
		body.ConfigAgeSeconds = int64(h.app.Config.Age().Seconds())
		for _, d := range snapshot.Describe() {
			v := &sinkView{Name: d.Name, Kind: d.Kind, ConfigError: d.Error, Configured: true}
			if s, ok := snapshot.Sink(d.Name); ok {
				v.policy = s.Flow
			}
			views[d.Name] = v
		}
	}
	if err = errors.Join(err, h.app.Config.LastError()); err != nil {
		body.ConfigError = err.Error()
	}
	names, err := h.queue.Sinks(r.Context())
	if err != nil {
		return err
	}
	for _, name := range names {
		if views[name] == nil {
			views[name] = &sinkView{Name: name}
		}
	}
	if err := h.fill(r.Context(), views); err != nil {
		return err
	}
	if body.ScheduleRanAt, err = h.queue.LastBeat(r.Context()); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		body.Sinks = append(body.Sinks, *views[name])
	}
	return answer(w, http.StatusOK, body)
}

// queueShare is how long one queue is asked about itself where all are: one that cannot be
// read, while its slot moves or its node is away, must not hide the others.
const queueShare = 2 * time.Second

// fill adds what the queue and the gate know: of all sinks at once, and where that fails, of each by itself.
// The error is that of a queue when none could be read.
func (h *api) fill(ctx context.Context, views map[string]*sinkView) error {
	if h.fillAtOnce(ctx, views) {
		return nil
	}
	return h.fillEach(ctx, views)
}

// fillAtOnce asks for all sinks in few round trips, and reports whether every queue could be read.
func (h *api) fillAtOnce(ctx context.Context, views map[string]*sinkView) bool {
	ctx, cancel := context.WithTimeout(ctx, queueShare)
	defer cancel()
	names := slices.Sorted(maps.Keys(views))
	var stats []dlq.Stats
	var receivers [][]flow.Receiver
	var g errgroup.Group
	g.Go(func() (err error) {
		stats, err = h.queue.StatsOf(ctx, names)
		return err
	})
	g.Go(func() (err error) {
		receivers, err = h.gate.ReceiversOf(ctx, names, func(sink string) flow.Policy { return views[sink].policy })
		return err
	})
	if g.Wait() != nil {
		return false // whose fault it is shows where each is asked
	}
	for i, name := range names {
		views[name].set(stats[i])
		views[name].receive(receivers[i])
	}
	return true
}

// fillEach asks for several sinks at a time, each by itself.
func (h *api) fillEach(ctx context.Context, views map[string]*sinkView) error {
	var g errgroup.Group
	g.SetLimit(16)
	var mu sync.Mutex
	var failed error
	read := 0
	for _, v := range views {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, queueShare)
			defer cancel()
			err := h.read(ctx, v)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				v.unknown(err)
				return nil
			}
			read++
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	if read == 0 {
		return failed
	}
	return nil
}

// read adds what the queue and the gate know of a sink: all of it or, with an error, nothing.
func (h *api) read(ctx context.Context, v *sinkView) error {
	stats, err := h.queue.Stats(ctx, v.Name)
	if err != nil {
		return err
	}
	receivers, err := h.gate.Receivers(ctx, v.Name, v.policy)
	if err != nil {
		return err
	}
	v.set(stats)
	v.receive(receivers)
	return nil
}

// unknown says why nothing is known of the sink's queue and receivers. Its state is not known
// either, unless the configuration says it.
func (v *sinkView) unknown(err error) {
	v.QueueError, v.Depth, v.Due, v.Waiting = problemOf(err).Detail, -1, -1, -1
	if v.ConfigError != "" {
		v.State = sinkMisconfigured
	}
}

func (v *sinkView) set(s dlq.Stats) {
	v.Depth, v.Due, v.Parked, v.Kept, v.Trimmed = s.Depth, s.Remaining, s.Parked, s.Kept, s.Trimmed
	v.States, v.Paused, v.OldestAt = s.States, s.Paused, s.OldestAt
	v.Retired = s.Retired
	j := s.Journal
	v.journalView = journalView{j.Spilled, j.SpilledAt, j.Unjournaled, j.Ending, j.LostAt}
	if !s.OldestAt.IsZero() {
		v.OldestAgeSeconds = max(0, int64(time.Since(s.OldestAt).Seconds()))
	}
}

// receive adds what is known of the sink's receivers, its own first. The sink's queue is known.
func (v *sinkView) receive(all []flow.Receiver) {
	own, others := all[0], all[1:]
	v.receiverView = viewOf(own)
	if own.Status == flow.ReceiverOpen || own.Status == flow.ReceiverHeld {
		v.Waiting = v.Due
	}
	switch {
	case v.ConfigError != "":
		v.State = sinkMisconfigured
	case v.Paused:
		v.State = sinkPaused
	case v.Configured || own.Status != flow.ReceiverOK:
		v.State = sinkState(own.Status)
	}
	if v.State != sinkState(own.Status) {
		v.Since, v.NextProbe = time.Time{}, time.Time{} // they are of another state
	}
	worst := []flow.ReceiverStatus{flow.ReceiverOpen, flow.ReceiverHeld, flow.ReceiverFailing}
	slices.SortStableFunc(others, func(a, b flow.Receiver) int {
		return cmp.Compare(slices.Index(worst, a.Status), slices.Index(worst, b.Status))
	})
	v.MoreReceivers = max(0, len(others)-mostReceivers)
	for _, r := range others[:len(others)-v.MoreReceivers] {
		v.Receivers = append(v.Receivers, namedReceiver{r.Name, r.Status, viewOf(r)})
	}
}

func viewOf(r flow.Receiver) receiverView {
	text := r.LastError
	if runes := []rune(text); len(runes) > mostError {
		text = string(runes[:mostError-1]) + "…"
	}
	return receiverView{Since: r.Since, NextProbe: r.NextProbe, LastError: text, LastErrorAt: r.LastErrorAt, LastSuccessAt: r.LastSuccessAt}
}

// pauseSink pauses a sink that is configured or has dead letters.
func (h *api) pauseSink(w http.ResponseWriter, r *http.Request) error {
	return h.change(w, r, "sink paused", func(ctx context.Context, v *sinkView) error {
		return h.queue.Pause(ctx, v.Name, true)
	})
}

// resumeSink ends the pause of a sink and lifts what holds back its receivers: the next
// delivery to each is the probe. After an error some may be lifted and the sink still be
// paused; it can be asked for again.
func (h *api) resumeSink(w http.ResponseWriter, r *http.Request) error {
	return h.change(w, r, "sink resumed", func(ctx context.Context, v *sinkView) error {
		if err := h.gate.Lift(ctx, v.Name, v.policy); err != nil {
			return err
		}
		return h.queue.Pause(ctx, v.Name, false)
	})
}

// change changes a sink by f, and answers with the sink as it is then.
func (h *api) change(w http.ResponseWriter, r *http.Request, what string, f func(context.Context, *sinkView) error) error {
	v := sinkView{Name: r.PathValue("name")}
	if err := fault.CheckName(v.Name); err != nil {
		return err
	}
	if err := h.known(r.Context(), &v); err != nil {
		return err
	}
	if err := f(r.Context(), &v); err != nil {
		return err
	}
	h.audit(r.Context(), what, "sink", v.Name)
	if err := h.read(r.Context(), &v); err != nil {
		return err
	}
	return answer(w, http.StatusOK, v)
}

// known fills in v's configuration; SINK_NOT_FOUND when the sink is neither configured
// nor has dead letters.
func (h *api) known(ctx context.Context, v *sinkView) error {
	s, err := h.app.Config.Sink(ctx, v.Name)
	if err == nil {
		v.Configured, v.Kind, v.policy = true, s.Kind, s.Flow
		if s.Err != nil {
			v.ConfigError = s.Err.Error()
		}
		return nil
	}
	names, qerr := h.queue.Sinks(ctx)
	if qerr != nil {
		return qerr
	}
	if slices.Contains(names, v.Name) {
		return nil
	}
	return err
}
