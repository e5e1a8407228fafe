package redisconn

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long a call waits for those under way, to go with others in one round trip. It is longer
// than a round trip within a data center; where they take longer, or hang, each call goes by itself.
const patience = 10 * time.Millisecond

// Shared makes calls of one script, which can be repeated. Those that come while others are under way share a
// pipeline. A call that comes alone is not held up, and none is held up by one that hangs for longer than
// patience and a first try. What fails in a pipeline is repeated by itself, so that each call
// fails for its own reasons alone. It is safe for concurrent use.
type Shared struct {
	conn   *Conn
	script Script

	mu      sync.Mutex
	busy    bool // calls are under way, and whoever makes them looks for what waits
	waiting []*sharedCall
}

// sharedCall is a call that waits to be made with others.
type sharedCall struct {
	Call
	ctx    context.Context
	length time.Duration // of its first try
	done   chan struct{} // closed once the answer is there
	answer any           // nil: it failed, or was not made
}

// NewShared returns a Shared that calls s through c.
func NewShared(c *Conn, s Script) *Shared { return &Shared{conn: c, script: s} }

// Eval is Conn.Eval of the script.
func (s *Shared) Eval(ctx context.Context, op string, call Call) (any, error) {
	alone := func() (any, error) { return s.conn.Eval(ctx, op, s.script, call.Keys, call.Args...) }
	if s.conn.bad != nil || ctx.Err() != nil {
		return alone()
	}
	s.mu.Lock()
	if !s.busy {
		s.busy = true
		s.mu.Unlock()
		defer s.next()
		return alone()
	}
	c := &sharedCall{Call: call, ctx: ctx, length: tryOf(wholeCall(ctx, time.Now())), done: make(chan struct{})}
	s.waiting = append(s.waiting, c)
	s.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		if s.leave(c) {
			return alone()
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			return alone() // says so
		}
	case <-ctx.Done():
		s.leave(c)
		return alone() // likewise
	}
	if c.answer == nil {
		return alone()
	}
	return c.answer, nil
}

// leave takes a call back, and reports whether it was in time: nobody has begun to make it.
func (s *Shared) leave(c *sharedCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.waiting)
	s.waiting = slices.DeleteFunc(s.waiting, func(other *sharedCall) bool { return other == c })
	return len(s.waiting) < before
}

// next makes what waits, if anything does.
func (s *Shared) next() {
	if part := s.take(); part != nil {
		go s.run(part)
	}
}

// take returns the calls of the next pipeline. Nil: none waits, and the next one to come goes by itself.
func (s *Shared) take() []*sharedCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.waiting), pipelined)
	if n == 0 {
		s.busy = false
		return nil
	}
	part := s.waiting[:n:n]
	s.waiting = s.waiting[n:]
	return part
}

// run makes calls until none waits.
func (s *Shared) run(part []*sharedCall) {
	for ; part != nil; part = s.take() {
		s.make(part)
	}
}

// make makes calls in one pipeline, on a context that ends with the shortest of their first tries.
func (s *Shared) make(part []*sharedCall) {
	length := part[0].length
	for _, c := range part {
		length = min(length, c.length)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(part[0].ctx), length)
	defer cancel()
	p := s.conn.Client.Pipeline()
	cmds := make([]*redis.Cmd, len(part))
	for i, c := range part {
		cmds[i] = s.script().EvalSha(ctx, p, c.Keys, c.Args...)
	}
	_, _ = p.Exec(ctx) // each call has its own error
	for i, c := range part {
		if cmds[i].Err() == nil {
			c.answer = cmds[i].Val()
		}
		close(c.done)
	}
}
