package flow

import (
	"context"
	"maps"
	"sync"
	"time"
)

// Memory is a Store for one process. It is safe for concurrent use; its zero value is empty.
type Memory struct {
	// Pause says whether an operator has paused a sink. Nil: none is.
	Pause func(ctx context.Context, sink string) (bool, error)

	mu     sync.Mutex
	sinks  map[string]map[string]string
	meters map[receiver]*meter
	swept  int // how many were left when those that say nothing were last removed
	holds  map[string]map[string]int64
}

// Look implements Store.
func (m *Memory) Look(ctx context.Context, sink string) (Seen, error) {
	var seen Seen
	if m.Pause != nil {
		var err error
		if seen.Paused, err = m.Pause(ctx, sink); err != nil {
			return Seen{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	seen.States, seen.Now, seen.Holds = maps.Clone(m.sinks[sink]), now.UnixMilli(), map[string]int64{}
	for key, until := range m.holds[sink] {
		if now.UnixMicro()-until <= aftermath.Microseconds() {
			seen.Holds[key] = until
		}
	}
	return seen, nil
}

// LookAll implements Store.
func (m *Memory) LookAll(ctx context.Context, sinks []string) ([]Seen, error) {
	all := make([]Seen, len(sinks))
	for i, sink := range sinks {
		var err error
		if all[i], err = m.Look(ctx, sink); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Hold implements Store.
func (m *Memory) Hold(_ context.Context, sink string, h Hold) (until, now int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now = time.Now().UnixMicro()
	holds := m.holds[sink]
	maps.DeleteFunc(holds, func(_ string, until int64) bool {
		return h.Change == HoldLift || now-until > aftermath.Microseconds()
	})
	until = h.apply(holds[h.Key], now)
	switch {
	case until == 0:
		delete(holds, h.Key)
	case holds == nil:
		if m.holds == nil {
			m.holds = map[string]map[string]int64{}
		}
		m.holds[sink] = map[string]int64{h.Key: until}
	default:
		holds[h.Key] = until
		makeRoom(holds, h.Key, mostHolds)
	}
	return until, now, nil
}

// Take implements Store.
func (m *Memory) Take(_ context.Context, sink, receiver string, s Slots) ([]Granted, error) {
	return m.take(sink, receiver, s), nil
}

func (m *Memory) take(sink, name string, s Slots) []Granted {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().UnixMicro()
	if m.meters == nil {
		m.meters = map[receiver]*meter{}
	}
	if len(m.meters) >= 2*m.swept+receivers { // seldom, for there may be one for each chat
		maps.DeleteFunc(m.meters, func(_ receiver, old *meter) bool { return old.idle(now) })
		m.swept = len(m.meters)
	}
	out := make([]Granted, len(s.Latest))
	for i, latest := range s.Latest {
		k := receiver{sink, s.meterOf(name, i)}
		if m.meters[k] == nil {
			m.meters[k] = &meter{}
		}
		one := s
		one.Latest = []int64{latest}
		out[i] = m.meters[k].take(one, now)[0]
	}
	return out
}

// Swap implements Store.
func (m *Memory) Swap(_ context.Context, sink, receiver string, s Swap) (Swapped, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	states := m.sinks[sink]
	out := Swapped{Current: states[receiver], Now: time.Now().UnixMilli()}
	switch {
	case out.Current == "" && s.New != "" && receiver != rest && len(states) >= receivers:
		out.Full, out.Current = true, states[rest]
	case out.Current == s.New:
		out.Swapped = true
	case out.Current != s.Old || max(out.Now-s.At, s.At-out.Now) > clockError:
	case s.New == "":
		delete(states, receiver)
		out.Swapped, out.Current = true, ""
	default:
		if states == nil {
			states = map[string]string{}
			if m.sinks == nil {
				m.sinks = map[string]map[string]string{}
			}
			m.sinks[sink] = states
		}
		states[receiver] = s.New
		out.Swapped, out.Current = true, s.New
	}
	return out, nil
}
