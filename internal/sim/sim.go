// Package sim makes simulations repeatable that run many goroutines in a testing/synctest bubble:
// a Seed draws by words instead of from one sequence, and a Line wakes one goroutine at a time.
//
// Its tests are the simulation of a whole fleet (`make sim`); internal/outage draws from it too.
package sim

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Seed draws numbers. The same words get the same number, whoever asks first, so that no order
// of goroutines decides what is drawn. It is safe for concurrent use.
type Seed uint64

// Chance returns a number in [0, 1) for the words.
func (s Seed) Chance(words ...any) float64 {
	return float64(s.Draw(words...)>>11) / (1 << 53)
}

// Draw returns 64 bits for the words.
func (s Seed) Draw(words ...any) uint64 {
	h := uint64(14695981039346656037) ^ mixed(uint64(s))
	for _, w := range words {
		switch w := w.(type) {
		case string:
			for i := range len(w) {
				h = (h ^ uint64(w[i])) * 1099511628211
			}
		case int:
			h = (h ^ mixed(uint64(w))) * 1099511628211 //nolint:gosec // bits are bits
		case int64:
			h = (h ^ mixed(uint64(w))) * 1099511628211 //nolint:gosec // bits are bits
		default:
			for _, c := range fmt.Sprint(w) {
				h = (h ^ uint64(c)) * 1099511628211 //nolint:gosec // bits are bits
			}
		}
		h = (h ^ 0xff) * 1099511628211
	}
	return mixed(h)
}

// mixed spreads what differs in a few bits over all of them (splitmix64).
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (s Seed) String() string { return strconv.FormatUint(uint64(s), 10) }

// Line lets goroutines wait so that no two of them go on at the same instant: with a synthetic
// clock, which stands still while anybody works, they go on one after the other. Its zero value
// is ready. It is safe for concurrent use.
type Line struct {
	mu    sync.Mutex
	taken map[int64]struct{}
}

// Wait waits for d, or some nanoseconds longer where that instant is taken. It returns ctx's error
// when ctx ends first, or has ended already.
func (l *Line) Wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	l.mu.Lock()
	if l.taken == nil {
		l.taken = map[int64]struct{}{}
	}
	at := now.Add(max(d, 1)).UnixNano()
	for l.isTaken(at) {
		at++
	}
	l.taken[at] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.taken, at)
	}()
	t := time.NewTimer(time.Duration(at - now.UnixNano()))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Line) isTaken(at int64) bool {
	_, ok := l.taken[at]
	return ok
}
