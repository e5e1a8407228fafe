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
	p.mu.Lock()
	last, ok := p.known[sink]
	p.mu.Unlock()
	if ok && time.Since(last.asked) < pauseAge {
		return last.paused
	}
	_, _, _ = p.asking.Do(sink, func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, pauseWait)
		defer cancel()
		if s, err := p.stats.Stats(ctx, sink); err == nil {
			last.paused = s.Paused
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.known == nil {
			p.known = map[string]pause{}
		}
		p.known[sink] = pause{last.paused, time.Now()}
		return nil, nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[sink].paused
}
