package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"backstop/lib/flow"
)

// shared is what processes share of receivers.
type shared struct{ p *process }

func (s shared) LookAll(context.Context, []string) ([]flow.Seen, error) {
	return nil, errors.New("nobody asks for all")
}

func (s shared) Look(ctx context.Context, sink string) (flow.Seen, error) {
	return call(ctx, s.p, "flow look "+sink, nil, nil, func(ctx context.Context) (flow.Seen, error) { return s.p.w.flow.Look(ctx, sink) })
}

func (s shared) Swap(ctx context.Context, sink, receiver string, c flow.Swap) (flow.Swapped, error) {
	return call(ctx, s.p, "flow swap "+sink+receiver, nil, func(got flow.Swapped) string { return fmt.Sprint(got.Swapped, got.Full) },
		func(ctx context.Context) (flow.Swapped, error) { return s.p.w.flow.Swap(ctx, sink, receiver, c) })
}

type held struct{ until, now int64 }

func (s shared) Hold(ctx context.Context, sink string, h flow.Hold) (until, now int64, err error) {
	got, err := call(ctx, s.p, "flow hold "+sink, nil, func(h held) string { return fmt.Sprint(h.until) }, func(ctx context.Context) (held, error) {
		until, now, err := s.p.w.flow.Hold(ctx, sink, h)
		return held{until, now}, err
	})
	return got.until, got.now, err
}

func (s shared) Take(ctx context.Context, sink, receiver string, slots flow.Slots) ([]flow.Granted, error) {
	got, err := call(ctx, s.p, "flow take "+sink, nil, func(got []flow.Granted) string { return fmt.Sprint(got) },
		func(ctx context.Context) ([]flow.Granted, error) { return s.p.w.flow.Take(ctx, sink, receiver, slots) })
	w := s.p.w
	if err != nil { // then the process keeps the rate by itself
		w.mu.Lock()
		defer w.mu.Unlock()
		w.own[s.p] += len(slots.Latest)
	}
	if w.plant == "slots for everybody" {
		for i := range got {
			got[i] = flow.Granted{At: time.Now().UnixMicro(), Taken: true}
		}
	}
	return got, err
}

// guard is a process's gate. Whoever comes at the same moment asks one after the other.
type guard struct {
	*flow.Gate
	p *process
}

func (g guard) Paused(ctx context.Context, sink string) bool {
	g.p.turn("paused", sink)
	paused := g.Gate.Paused(ctx, sink)
	g.p.turn("paused?", sink)
	return paused
}

func (g guard) Ask(ctx context.Context, t flow.Try) flow.Leave {
	g.p.turn("ask", t.Delivery)
	l := g.Gate.Ask(ctx, t)
	g.p.says("ask", t.Delivery, l)
	g.p.w.mu.Lock()
	g.p.slots[t.Delivery] = l.At.Sub(g.p.w.start)
	g.p.w.mu.Unlock()
	if g.p.w.plant == "the gate is not asked" {
		l.Verdict, l.At = flow.Go, time.Time{}
	}
	return l
}

func (g guard) Shut(ctx context.Context, t flow.Try) (flow.Leave, bool) {
	g.p.turn("shut", t.Delivery)
	l, shut := g.Gate.Shut(ctx, t)
	if shut {
		g.p.says("shut", t.Delivery, l)
	}
	return l, shut
}

// says notes what a gate has said.
func (p *process) says(what, delivery string, l flow.Leave) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if !p.dead {
		p.w.note(p.name, what, delivery, [...]string{flow.Go: "go", flow.Wait: "wait", flow.Refused: "refused"}[l.Verdict]+" "+l.Why)
	}
}

func (g guard) Tell(ctx context.Context, l flow.Leave, t flow.Told) {
	g.p.turn("tell", t.Error)
	g.Gate.Tell(ctx, l, t)
}

func (g guard) Lost(ctx context.Context, t flow.Try, why string) {
	g.p.turn("lost", t.Delivery)
	g.Gate.Lost(ctx, t, why)
}

func (g guard) Slot(ctx context.Context, sink, name string, r flow.Rate, latest time.Time) (time.Time, bool) {
	g.p.turn("slot", sink+name)
	return g.Gate.Slot(ctx, sink, name, r, latest)
}
