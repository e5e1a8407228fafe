package lambdahost

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// pool holds the processes of one function.
type pool struct {
	h     *Host
	fn    Function
	slots chan struct{} // one token per invocation that may run

	mu    sync.Mutex
	idle  []*process // the most recently used last
	busy  map[*process]struct{}
	stats Stats
}

func newPool(h *Host, fn Function) *pool {
	return &pool{h: h, fn: fn, slots: make(chan struct{}, fn.Concurrency), busy: map[*process]struct{}{}}
}

// acquire takes a slot, waiting at most wait for one.
func (p *pool) acquire(ctx context.Context, wait time.Duration) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(max(wait, 0))
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-timer.C:
		p.count(func(s *Stats) { s.Throttled++ })
		p.h.opts.Logger.WarnContext(ctx, "invocation throttled", slog.String("function", p.fn.Name))
		return throttled()
	case <-ctx.Done():
		return ctx.Err()
	case <-p.h.ctx.Done():
		return errClosed
	}
}

func (p *pool) release() { <-p.slots }

func (p *pool) count(f func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.stats)
}

// run executes one attempt to its end; the caller holds a slot.
func (p *pool) run(inv *invocation) Result {
	log := p.h.opts.Logger.With(slog.String("function", p.fn.Name), slog.String("request_id", inv.id))
	for {
		proc, cold, err := p.take()
		if err != nil {
			return p.ended(log, inv.fail("Runtime.InvalidEntrypoint", "%v", err))
		}
		if cold {
			if res, ok := p.awaitInit(proc, inv); !ok {
				p.put(proc, false)
				return p.ended(log, res)
			}
		}
		if !proc.hand(inv, p.fn.Timeout) {
			p.put(proc, false)
			if cold {
				return p.ended(log, p.crashed(proc, inv))
			}
			continue // it died while idle; the event was not handed over
		}
		start := time.Now()
		log.DebugContext(p.h.ctx, "invocation started", slog.Int("pid", proc.pid), slog.Bool("cold_start", cold))
		res := p.await(proc, inv, log)
		res.ColdStart, res.PID, res.Duration = cold, proc.pid, time.Since(start)
		proc.drain()
		res.LogTail = proc.logTail(inv.id, res.Duration)
		p.put(proc, true)
		return p.ended(log, res)
	}
}

// awaitInit waits for a new process's first request for work.
func (p *pool) awaitInit(proc *process, inv *invocation) (Result, bool) {
	timer := time.NewTimer(p.h.opts.InitTimeout)
	defer timer.Stop()
	select {
	case <-proc.ready:
		return Result{}, true
	case <-timer.C:
		proc.kill()
		<-proc.exited
		return inv.fail("Sandbox.Timedout", "Init timed out after %.2f seconds", p.h.opts.InitTimeout.Seconds()), false
	case <-proc.exited:
		if posted := proc.initError(); posted != nil {
			return inv.failWith(posted), false
		}
		return p.crashed(proc, inv), false
	}
}

// await waits until the runtime asks for more work, the process ends, or the deadline
// passes, whereupon the process is killed.
func (p *pool) await(proc *process, inv *invocation, log *slog.Logger) Result {
	timer := time.NewTimer(time.Until(inv.deadline))
	defer timer.Stop()
	late := false
	select {
	case <-inv.done:
	case <-proc.exited:
	case <-timer.C:
		late = true
		p.count(func(s *Stats) { s.Timeouts++ })
		log.WarnContext(p.h.ctx, "deadline passed, process killed", slog.Int("pid", proc.pid), slog.Duration("timeout", p.fn.Timeout))
		proc.kill()
		<-proc.exited
	}
	answer, failed, answered := proc.result(inv)
	switch {
	case answered && failed:
		return inv.failWith(answer)
	case answered:
		return Result{RequestID: inv.id, Payload: answer}
	case late:
		return inv.fail("Sandbox.Timedout", "Task timed out after %.2f seconds", p.fn.Timeout.Seconds())
	}
	return p.crashed(proc, inv)
}

func (p *pool) crashed(proc *process, inv *invocation) Result {
	p.count(func(s *Stats) { s.Crashes++ })
	return inv.fail("Runtime.ExitError", "%s", proc.cause())
}

func (p *pool) ended(log *slog.Logger, res Result) Result {
	p.count(func(s *Stats) {
		s.Invocations++
		if res.FunctionError != "" {
			s.Errors++
		}
	})
	if res.FunctionError != "" {
		log.WarnContext(p.h.ctx, "invocation failed", slog.String("error_type", res.ErrorType), slog.Duration("duration", res.Duration))
	} else {
		log.DebugContext(p.h.ctx, "invocation ended", slog.Duration("duration", res.Duration))
	}
	return res
}

// take returns an idle process or starts one.
func (p *pool) take() (proc *process, cold bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		proc = p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.busy[proc] = struct{}{}
		return proc, false, nil
	}
	proc, err = startProcess(p.h, p.fn)
	if err != nil {
		return nil, false, fmt.Errorf("start %s: %w", p.fn.Path, err)
	}
	p.stats.ColdStarts++
	p.busy[proc] = struct{}{}
	return proc, true, nil
}

// put gives a process back, to be used again if it lives.
func (p *pool) put(proc *process, reuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, proc)
	select {
	case <-proc.exited:
	default:
		if reuse {
			p.idle = append(p.idle, proc)
		}
	}
}

func (p *pool) killOne() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var serving []*process
	for proc := range p.busy {
		if proc.serving() {
			serving = append(serving, proc)
		}
	}
	if len(serving) == 0 {
		return false
	}
	p.stats.Kills++
	serving[rand.IntN(len(serving))].kill()
	return true
}
