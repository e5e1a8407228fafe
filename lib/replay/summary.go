package replay

import (
	"errors"
	"sync"
	"time"
)

// Counts are the numbers of a Run, in all or of one sink.
type Counts struct {
	// Claimed items were leased, those of bulk operations included.
	Claimed int64 `json:"claimed"`
	// Delivered, Failed and Parked items were replayed; Parked ones failed too, and
	// are not in Failed.
	Delivered int64 `json:"delivered"`
	Failed    int64 `json:"failed"`
	Parked    int64 `json:"parked"`
	// Expired items were not delivered before their time was over, and are marked, whatever
	// else is with their sink.
	Expired int64 `json:"expired"`
	// Skipped items were claimed and given back, or put off, or lost to another replayer, or
	// removed because their delivery was canceled, or left to an operator because they may have
	// arrived and their receiver recognises them no more, or are due in a sink that is paused, not
	// configured, or left alone (see HeldBack).
	Skipped int64 `json:"skipped"`
	// Remaining items will be replayed by the schedule, now or later. -1: unknown.
	Remaining int64 `json:"remaining"`
}

// SinkSummary is the part of one sink.
type SinkSummary struct {
	Counts
	Paused bool `json:"paused,omitempty"`
	// HeldBack says why the sink's receiver is left alone: it is down, or asked everybody to
	// wait. An attempt may find out at NextProbe whether it still holds.
	HeldBack  string    `json:"held_back,omitempty"`
	NextProbe time.Time `json:"next_probe,omitzero"`
	// Retired is how many dead letters were removed for their age.
	Retired int64 `json:"retired,omitempty"`
	// Journal is about the sink's journal, JournalError why that could not be kept.
	Journal      JournalSummary `json:"journal,omitzero"`
	JournalError string         `json:"journal_error,omitempty"`
	// Error says why the sink was left out or left early.
	Error string `json:"error,omitempty"`
}

// Summary is what a Run did. Sinks are left out without dead letters and
// without anything in the journal.
type Summary struct {
	Counts
	// Started is how many other replayers were asked to help, Missing how many more there should have been and could not
	// be started, with one that may be on its way all the same.
	Started int                    `json:"started,omitempty"`
	Missing int                    `json:"missing,omitempty"`
	Sinks   map[string]SinkSummary `json:"sinks"`
}

// tally collects a Summary. It is safe for concurrent use.
type tally struct {
	started, missing int // only the run's own goroutine uses them

	mu    sync.Mutex
	sinks map[string]*SinkSummary
}

// sink changes the part of a sink.
func (t *tally) sink(name string, change func(*SinkSummary)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sinks[name]
	if s == nil {
		s = &SinkSummary{}
		t.sinks[name] = s
	}
	change(s)
}

// fail notes the first error of a sink.
func (t *tally) fail(name string, err error) {
	t.sink(name, func(s *SinkSummary) {
		if s.Error == "" {
			s.Error = err.Error()
		}
	})
}

// heldBack notes why a sink's receiver is left alone, and until when.
func (t *tally) heldBack(name string, why error, next time.Time) {
	text := why.Error()
	if cause := errors.Unwrap(why); cause != nil { // below "not attempted"
		text = cause.Error()
	}
	t.sink(name, func(s *SinkSummary) {
		s.HeldBack, s.NextProbe = text, next.UTC().Truncate(time.Millisecond)
	})
}

// names returns the sinks with a part.
func (t *tally) names() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make([]string, 0, len(t.sinks))
	for name := range t.sinks {
		names = append(names, name)
	}
	return names
}

func (t *tally) summary() Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Summary{Started: t.started, Missing: t.missing, Sinks: make(map[string]SinkSummary, len(t.sinks))}
	for name, s := range t.sinks {
		out.Sinks[name] = *s
		out.Claimed += s.Claimed
		out.Delivered += s.Delivered
		out.Failed += s.Failed
		out.Parked += s.Parked
		out.Expired += s.Expired
		out.Skipped += s.Skipped
		if s.Remaining < 0 || out.Remaining < 0 {
			out.Remaining = -1
		} else {
			out.Remaining += s.Remaining
		}
	}
	return out
}
