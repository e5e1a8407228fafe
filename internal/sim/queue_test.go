package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/fault"
)

// queue is a queue like SQS: what was handed out and not deleted comes again, and now and then what
// was deleted too. World.mu guards it.
type queue struct {
	w        *world
	messages []*queued
	redrive  map[string]int // by delivery: what was handed out too often
}

type queued struct {
	request  delivery.Request
	visible  time.Duration // since the start
	receives int
}

const (
	visibility   = 90 * time.Second
	mostReceives = 5
	functionT    = 25 * time.Second
)

// put stores a message. w.mu is held.
func (q *queue) put(r delivery.Request, wait time.Duration) {
	q.messages = append(q.messages, &queued{request: r, visible: q.w.at() + wait})
}

// has reports whether a message of the delivery is there. w.mu is held.
func (q *queue) has(id string) bool {
	for _, m := range q.messages {
		if m.request.ID == id {
			return true
		}
	}
	return q.redrive[id] > 0
}

func (q *queue) remove(gone *queued) {
	for i, m := range q.messages {
		if m == gone {
			q.messages = append(q.messages[:i], q.messages[i+1:]...)
			return
		}
	}
}

// poll hands messages out until the end.
func (q *queue) poll(ctx context.Context) {
	w := q.w
	for w.at() < w.end-2*time.Minute {
		w.pause(500*time.Millisecond + time.Duration(w.Draw("poll", int64(w.at()))%500_000_000))
		for {
			w.mu.Lock()
			batch := q.receive()
			w.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			w.work.Go(func() { q.handle(ctx, batch) })
			w.pause(time.Millisecond)
		}
	}
}

// receive takes what is visible, at most ten. w.mu is held.
func (q *queue) receive() (batch []*queued) {
	now := q.w.at()
	for i := 0; i < len(q.messages) && len(batch) < 10; i++ {
		m := q.messages[i]
		switch {
		case m.visible > now:
			continue
		case m.receives == mostReceives:
			if q.redrive == nil {
				q.redrive = map[string]int{}
			}
			q.redrive[m.request.ID]++
			q.remove(m)
			i--
			continue
		}
		m.receives++
		m.visible = now + visibility
		batch = append(batch, m)
		if q.w.plant == "messages deleted when they are received" {
			q.remove(m)
			i--
		}
	}
	return batch
}

// handle has a batch delivered by a process, and deletes what is safe.
func (q *queue) handle(ctx context.Context, batch []*queued) {
	w := q.w
	var names []string
	for _, m := range batch {
		names = append(names, m.request.ID)
	}
	about := strings.Join(names, ",")
	p := w.take()
	w.mu.Lock()
	w.note(p.name, "receives", about, "")
	w.mu.Unlock()
	safe := make([]bool, len(batch))
	answered := p.invoke(ctx, functionT, func(ctx context.Context) {
		turns := delivery.NewBatch(6)
		for i, m := range batch {
			turns.Go(func(turn *delivery.Turn) {
				r := m.request
				r.Turn = turn
				_, err := p.carry(ctx, r)
				safe[i] = err == nil
			})
		}
		turns.Wait()
	})
	if !answered {
		return
	}
	w.give(p)
	w.pause(time.Millisecond + time.Duration(w.Draw("delete", about, int64(w.at()))%5_000_000))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, m := range batch {
		if !safe[i] {
			continue
		}
		chance := w.Chance("deleted", m.request.ID, m.receives)
		if !w.troubled() {
			chance = 1
		}
		switch {
		case chance < 0.01: // it was not deleted
		case chance < 0.03: // a copy comes all the same
			m.visible = w.at() + time.Duration(w.Draw("copy", m.request.ID)%uint64(visibility))
			m.receives = 1
		default:
			q.remove(m)
		}
	}
}

// putter is the way of a process into the queue.
type putter struct{ p *process }

func (putter) FIFO() bool { return false }

func (u putter) Put(ctx context.Context, r delivery.Queued) error {
	w := u.p.w
	_, err := call(ctx, u.p, "put", []string{r.ID}, nil, func(context.Context) (nothing, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		back := r.Request
		back.Queued, back.KeepUnsendable, back.SendAfter, back.Async, back.Turn = true, true, 0, false, nil
		back.Budget = delivery.Request{}.Budget
		w.queue.put(back, max(time.Until(r.NotBefore), 0))
		return nothing{}, nil
	})
	if err != nil {
		return &fault.Error{Code: fault.CodeQueueUnavailable, Msg: "queue", Cause: fmt.Errorf("%w", notQueued(err))}
	}
	return nil
}
