package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"backstop/lib/fault"
)

var (
	errAway    = errors.New("no answer")
	errRefused = errors.New("refused")
	errOver    = errors.New("the process is dead")
)

// storeWait is how long a client waits for an answer.
const storeWait = time.Second

// alive returns when the process may go on, which one that died may not before the end.
func (p *process) alive() error {
	p.w.mu.Lock()
	dead := p.dead
	p.w.mu.Unlock()
	if dead {
		<-p.w.over
	}
	select {
	case <-p.w.over:
		return errOver
	default:
		return nil
	}
}

// turn lets the process go on alone: no two goroutines of the world come from it at the same instant.
func (p *process) turn(what, about string) {
	if p.alive() == nil {
		p.w.pause(time.Microsecond + time.Duration(p.w.Draw("turn", p.name, what, about, int64(p.w.at()))%10_000))
		_ = p.alive()
	}
}

// call makes a call of what all processes share, about some deliveries, and asks a second time when no
// answer comes. After an error it may have been done all the same.
func call[T any](ctx context.Context, p *process, op string, ids []string, show func(T) string, do func(context.Context) (T, error)) (v T, err error) {
	for range 2 {
		wait := storeWait
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(end)/2)
		}
		once, cancel := context.WithTimeout(ctx, wait)
		v, err = try(once, p, op, ids, show, do)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, errAway) {
			break
		}
	}
	return v, err
}

func try[T any](ctx context.Context, p *process, op string, ids []string, show func(T) string, do func(context.Context) (T, error)) (T, error) {
	var none T
	w, about := p.w, strings.Join(ids, ",")
	if err := p.alive(); err != nil {
		return none, err
	}
	// A gate's calls are quick: a slot that is told late is used late.
	shared := strings.HasPrefix(op, "flow")
	// fails notes that the caller does not know what became of the call.
	fails := func(why string) (T, error) {
		p.turn(op, about) // what ends at one instant goes on one by one
		w.mu.Lock()
		defer w.mu.Unlock()
		w.note(p.name, op, about, why)
		w.cause(ids, why+" "+op)
		if shared {
			p.unanswered = w.at()
		}
		return none, fmt.Errorf("%s: %w", op, errAway)
	}
	chance := func(what string) float64 { return w.Chance(what, p.name, op, about, int64(w.at())) }
	there := 300*time.Microsecond + time.Duration(1.2e6*chance("there"))
	back := 300*time.Microsecond + time.Duration(1.2e6*chance("back"))
	lost, refused, death := 1.0, 1.0, 1.0
	stalled := false
	if w.troubled() {
		lost, refused, death = chance("lost"), chance("refused"), chance("death")
		if chance("slow") < w.slow && !shared {
			there += time.Duration(4e8 * chance("slow there"))
			back += time.Duration(4e8 * chance("slow back"))
		}
		if p.away() {
			<-ctx.Done()
			return fails("cut off:")
		}
		stalled = chance("stall") < max(w.stall, w.late[op]) && !shared
	}
	if stalled { // it is on its way for long, and arrives whatever has become of the process
		go func() {
			w.pause(time.Second + time.Duration(9e10*chance("stalled")))
			_, err := do(context.WithoutCancel(ctx))
			w.mu.Lock()
			defer w.mu.Unlock()
			w.note(p.name, op, about, "arrives late "+string(fault.CodeOf(err)))
		}()
		<-ctx.Done()
		return fails("arrives late:")
	}
	if w.line.Wait(ctx, there) != nil {
		return fails("late:")
	}
	if err := p.alive(); err != nil {
		return none, err
	}
	if death < w.death/2 {
		p.die("before " + op)
		return none, p.alive()
	}
	if refused < w.refused {
		w.mu.Lock()
		w.note(p.name, op, about, "refused")
		w.cause(ids, "refused: "+op)
		w.mu.Unlock()
		return none, fmt.Errorf("%s: %w", op, errRefused)
	}
	v, err := do(context.WithoutCancel(ctx))
	w.mu.Lock()
	switch {
	case err != nil:
		w.note(p.name, op, about, string(fault.CodeOf(err)))
	case show != nil:
		w.note(p.name, op, about, show(v))
	default:
		w.note(p.name, op, about, "")
	}
	w.mu.Unlock()
	if death < w.death {
		p.die("after " + op)
		return none, p.alive()
	}
	if lost < w.lost {
		<-ctx.Done()
		return fails("lost reply:")
	}
	if w.line.Wait(ctx, back) != nil {
		return fails("late reply:")
	}
	if over := p.alive(); over != nil {
		return none, over
	}
	return v, err
}

// away reports whether the process is cut off from what all share. Partitions come and go by the minute.
func (p *process) away() bool {
	w := p.w
	minute := int(w.at() / time.Minute)
	return w.Chance("partition", minute/3) < 0.15 && w.Chance("cut", minute/3, p.name) < w.cut
}

// letter is the error of the queue of dead letters.
func letter(err error) error {
	if errors.Is(err, errAway) || errors.Is(err, errRefused) || errors.Is(err, errOver) {
		return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "queue", Cause: err}
	}
	return err
}

// one makes a call of the queue of dead letters.
func one[T any](ctx context.Context, s store, op string, ids []string, show func(T) string, do func(context.Context) (T, error)) (T, error) {
	v, err := call(ctx, s.p, op, ids, show, do)
	return v, letter(err)
}

type nothing = struct{}

func none(err error) (nothing, error) { return nothing{}, err }
