package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// notQueued marks an error after which the queue does not have the request.
func notQueued(err error) error {
	if errors.Is(err, errRefused) {
		return errors.Join(delivery.ErrNotQueued, err)
	}
	return err
}

// carry has a request delivered by the process, and notes the answer as the process sees it.
func (p *process) carry(ctx context.Context, r delivery.Request) (delivery.Answer, error) {
	w := p.w
	p.holds(r.ID)
	defer p.drops(r.ID)
	p.turn("carry", r.ID)
	a, err := p.sender.Deliver(ctx, r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.dead {
		w.note(p.name, "answers", r.ID, string(a.Status)+string(fault.CodeOf(err)))
	}
	return a, err
}

// deliver is one delivery's whole life, as its callers see it.
func (w *world) deliver(ctx context.Context, n int) {
	id := "d" + strconv.Itoa(n)
	f := &fate{id: id, sink: sinkNames[int(w.Chance("sink", id)*float64(len(sinkNames)))]}
	w.pause(time.Duration(w.Chance("comes", id) * float64(w.traffic)))
	r := delivery.Request{ID: id, Sink: f.sink, Message: sinks.Message{Body: "x"}, AcceptedAt: time.Now()}
	if f.sink == "hosts" {
		r.Recipient = w.hostOf(id)
	}
	if w.Chance("expires", id) < 0.25 {
		r.ExpiresAt = time.Now().Add(time.Minute + time.Duration(float64(15*time.Minute)*w.Chance("expiry", id)))
		f.expires = r.ExpiresAt.Sub(w.start)
	}
	way := w.Chance("way", id)
	if way < 0.3 {
		r.Async = true
		if way < 0.2 {
			r.SendAfter = time.Duration(1+w.Draw("after", id)%300) * time.Second
			f.notBefore = w.at() + r.SendAfter
		}
	}
	w.mu.Lock()
	w.fates[id] = f
	w.ids = append(w.ids, id)
	w.mu.Unlock()
	if w.Chance("cancels", id) < 0.2 {
		w.work.Go(func() {
			w.pause(time.Duration(float64(8*time.Minute) * w.Chance("cancel at", id) * w.Chance("cancel soon", id)))
			w.takeBack(ctx, f)
		})
	}
	if way >= 0.6 { // a producer puts it on the queue
		w.mu.Lock()
		f.accepted = true
		r.KeepUnsendable = true
		w.queue.put(r, 0)
		w.mu.Unlock()
		return
	}
	r.AcceptedAt = time.Time{}
	if w.Chance("twice", id) < 0.1 { // a second caller has the same id
		w.work.Go(func() {
			w.pause(time.Duration(float64(30*time.Second) * w.Chance("second", id)))
			w.call(ctx, f, r, "second")
		})
	}
	w.call(ctx, f, r, "first")
}

// call is a caller, who asks again until somebody says what became of it, a few times.
func (w *world) call(ctx context.Context, f *fate, r delivery.Request, who string) {
	for n := range 5 {
		var a delivery.Answer
		var err error
		p := w.take()
		limit := time.Duration(5+w.Draw("limit", r.ID, who, n)%24) * time.Second
		began := time.Now()
		answered := p.invoke(ctx, limit, func(ctx context.Context) { a, err = p.carry(ctx, r) })
		if answered {
			w.give(p)
			w.mu.Lock()
			if took := time.Since(began); took > limit {
				w.fault(f, "answered after %s, the limit is %s", took, limit)
			}
			if w.Chance("heard", r.ID, who, n) >= 0.02 || !w.troubled() {
				w.told(f, a, err)
				if err == nil || refusal(err) {
					w.mu.Unlock()
					return
				}
			}
			w.mu.Unlock()
		}
		w.pause(time.Second + time.Duration(float64(40*time.Second)*w.Chance("again", r.ID, who, n)))
	}
}

// refusal reports whether another try would get the same error.
func refusal(err error) bool {
	code := fault.CodeOf(err)
	return code == fault.CodeInvalidArgument || code == fault.CodeIDReused || code == fault.CodeBodyTooLarge
}

// takeBack is who cancels a delivery, until somebody says whether it is.
func (w *world) takeBack(ctx context.Context, f *fate) {
	w.mu.Lock()
	f.cancelTried = true
	w.mu.Unlock()
	for n := 0; w.at() < w.end-3*time.Minute; n++ {
		p := w.newProcess("api")
		var got delivery.Cancellation
		var err error
		answered := p.invoke(ctx, 10*time.Second, func(ctx context.Context) {
			p.turn("cancels", f.id)
			got, err = p.cancel.Cancel(ctx, delivery.Key{Sink: f.sink, ID: f.id})
		})
		if answered {
			w.mu.Lock()
			w.note(p.name, "told canceled", f.id, string(got.Status)+string(fault.CodeOf(err)))
			if err == nil && f.canceled == 0 {
				f.canceled = w.at()
				w.judgeCanceled(f, got)
			}
			w.mu.Unlock()
			if err == nil || fault.CodeOf(err) == fault.CodeAlreadyDelivered {
				return
			}
		}
		w.pause(time.Second + time.Duration(float64(time.Minute)*w.Chance("cancel again", f.id, n)))
	}
}

// schedule runs the engine each minute, each time in the process of before unless that died.
func (w *world) schedule(ctx context.Context, n int) {
	w.pause(time.Duration(float64(time.Minute) * w.Chance("phase", n)))
	engine := w.newProcess("replay")
	for w.at() < w.end-2*time.Minute {
		tick, p := w.at(), engine
		p.invoke(ctx, 55*time.Second, func(ctx context.Context) {
			p.turn("tick", "")
			_, err := p.engine.Run(ctx, replay.Request{})
			w.mu.Lock()
			defer w.mu.Unlock()
			if !p.dead {
				w.note(p.name, "ran", "", string(fault.CodeOf(err)))
				clear(p.hand)
			}
		})
		w.mu.Lock()
		dead := p.dead
		w.mu.Unlock()
		if dead {
			engine = w.newProcess("replay")
		}
		w.pause(tick + time.Minute - w.at())
	}
}

// operate is an operator, who now and then replays or discards a dead letter, makes one due, pauses a sink, or
// replays all that there are.
func (w *world) operate(ctx context.Context) {
	paused := ""
	for n := 0; w.at() < w.size.faults; n++ {
		w.pause(10*time.Second + time.Duration(float64(80*time.Second)*w.Chance("operator", n)))
		items, err := w.letters.Items(ctx, "", 100)
		if err != nil {
			panic(err)
		}
		slices.SortFunc(items, func(a, b dlq.Item) int { return a.At.Compare(b.At) })
		p := w.newProcess("operator")
		chance := w.Chance("does", n)
		p.invoke(ctx, 20*time.Second, func(ctx context.Context) {
			p.turn("operates", strconv.Itoa(n))
			st := store{p: p}
			switch {
			case paused != "":
				if st.Pause(ctx, paused, false) == nil {
					paused = ""
				}
			case chance < 0.1:
				paused = sinkNames[int(w.Chance("paused", n)*float64(len(sinkNames)))]
				_ = st.Pause(ctx, paused, true)
			case len(items) == 0:
			case chance < 0.2:
				_, _ = p.engine.CreateOperation(ctx, replay.OperationRequest{Action: replay.OperationReplay, All: true, IdempotencyKey: fmt.Sprint(n)})
			default:
				w.operateOn(ctx, p, items[int(w.Chance("letter", n)*float64(len(items)))], chance)
			}
		})
	}
	w.pause(2 * time.Minute) // whatever was on its way has arrived
	for _, sink := range sinkNames {
		if err := w.letters.Pause(ctx, sink, false); err != nil {
			panic(err)
		}
	}
}

func (w *world) operateOn(ctx context.Context, p *process, it dlq.Item, chance float64) {
	w.mu.Lock()
	w.knows(it)
	f := w.fates[it.DeliveryID]
	f.discarded = f.discarded || chance < 0.35 && it.DeliveredAt.IsZero()
	w.mu.Unlock()
	switch {
	case chance < 0.35:
		_ = p.engine.Discard(ctx, it)
	case chance < 0.7:
		p.holds(it.DeliveryID)
		_, _ = p.engine.ReplayOne(ctx, it.ID, replay.OneOptions{})
	default:
		_ = (store{p: p}).Unpark(ctx, it.ID)
	}
}
