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
	seen.States, seen.Now = maps.Clone(m.sinks[sink]), time.Now().UnixMilli()
	return seen, nil
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
	k := receiver{sink, name}
	if m.meters[k] == nil {
		maps.DeleteFunc(m.meters, func(_ receiver, old *meter) bool { return old.idle(now) })
		m.meters[k] = &meter{}
	}
	return m.meters[k].take(s, now)
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
