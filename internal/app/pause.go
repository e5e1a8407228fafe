package app

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"backstop/lib/dlq"
)

const (
	// pauseAge is how long a process goes on with what it knows of a sink's pause.
	pauseAge = 2 * time.Second
	// pauseWait bounds the question. Without an answer a sink counts as it did before.
	pauseWait = 250 * time.Millisecond
)

// pauses remembers which sinks are paused. It is safe for concurrent use.
type pauses struct {
	stats interface {
		Stats(ctx context.Context, sink string) (dlq.Stats, error)
	}

	asking singleflight.Group
	mu     sync.Mutex
	known  map[string]pause
}

type pause struct {
	paused bool
	asked  time.Time
}

func (p *pauses) paused(ctx context.Context, sink string) bool {
	for {
		last, ok := p.last(sink)
		if ok || ctx.Err() != nil {
			return last.paused
		}
		_, _, _ = p.asking.Do(sink, func() (any, error) {
			p.ask(ctx, sink)
			return nil, nil
		})
	}
}

// last returns what is known of a sink, and whether that is young enough. The clock is the
// wall's: a process that was frozen knows nothing of the time since by the other one.
func (p *pauses) last(sink string) (pause, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.known[sink]
	age := now().Sub(last.asked)
	return last, ok && age >= 0 && age < pauseAge
}

// ask asks the store. A question that its own caller ended is not noted: it says nothing,
// and others may be waiting for it.
func (p *pauses) ask(ctx context.Context, sink string) {
	question, cancel := context.WithTimeout(ctx, pauseWait)
	defer cancel()
	s, err := p.stats.Stats(question, sink)
	if err != nil && ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.known[sink]
	if err == nil {
		last.paused = s.Paused
	}
	if p.known == nil {
		p.known = map[string]pause{}
	}
	p.known[sink] = pause{last.paused, now()}
}

// now is the wall clock.
func now() time.Time { return time.Now().Round(0) }
