package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"backstop/internal/delay"
	"backstop/lib/delivery"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// The sinks of every world. hosts has a receiver for each host, paced a rate that all processes
// share, kept keeps what replays delivered; mail's receiver recognises nothing that comes twice.
var sinkNames = []string{"hooks", "hosts", "kept", "mail", "paced"}

var pace = flow.Rate{PerSecond: 2, Burst: 3}

// targets are the configured sinks of a process.
type targets struct {
	p       *process
	replays bool
}

func (t targets) Names(context.Context) ([]string, error) { return sinkNames, nil }

func (t targets) Target(_ context.Context, name string) (delivery.Target, error) {
	p := t.p
	p.turn("target", name)
	one := sink{p: p, name: name, replays: t.replays}
	target := delivery.Target{
		Sink:   one,
		Retry:  retry.Config{MaxAttempts: 3, AttemptTimeout: 5 * time.Second, MaxBackoff: 10 * time.Second, Rand: p.rand},
		Replay: replay.Policy{MaxReplays: 6, BaseDelay: time.Minute, MaxDelay: 5 * time.Minute, Concurrency: 5},
	}
	switch name {
	case "hosts":
		target.Sink = hosts{one}
	case "kept":
		target.Replay.OnSuccess = replay.OnSuccessKeep
	case "mail":
		target.Sink = forgetful{one}
		target.Retention = 15 * time.Minute
	case "paced":
		target.Flow.Rate = pace
	}
	return target, nil
}

// sink is the way of a process to receivers, which recognise what comes twice.
type sink struct {
	p       *process
	name    string
	replays bool
}

func (s sink) Name() string               { return s.name }
func (s sink) DedupWindow() time.Duration { return -1 }
func (s sink) EndsWithContext(called sinks.Sink) bool {
	return called == sinks.Sink(s) || called == sinks.Sink(hosts{s}) || called == sinks.Sink(forgetful{s})
}

type forgetful struct{ sink }

func (forgetful) DedupWindow() time.Duration { return 0 }

type hosts struct{ sink }

func (hosts) Receiver(to sinks.Recipient) string { host, _ := to.(string); return host }

func (hosts) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	var host string
	err := json.Unmarshal(raw, &host)
	return host, err
}

// attempt is one that reached the world.
type attempt struct {
	by           *process
	at           time.Duration
	replayed     bool
	over, cutOff bool
	taken        bool
}

var errDown = &fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"}

// answer is what a receiver does with one attempt.
type answer struct {
	took  time.Duration
	err   error
	takes bool
	hangs bool
}

// answer draws what the receiver does: it has phases of a few minutes, and is well in the end.
func (w *world) answer(receiver, id string, n int) answer {
	well := answer{took: time.Duration(10+190*w.Chance("took", id, n)) * time.Millisecond, takes: true}
	if !w.troubled() {
		return well
	}
	const phase = 150 * time.Second
	now := w.at() + time.Duration(float64(phase)*w.Chance("phase", receiver))
	kind, chance := w.Chance("kind", receiver, int(now/phase)), w.Chance("answer", id, n)
	down := answer{took: well.took, err: sinks.Transient(errDown)}
	reset := answer{took: well.took, err: sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "connection reset"}), takes: w.Chance("reset", id, n) < 0.6}
	switch {
	case kind < 0.45:
	case kind < 0.6 && chance < 0.4, kind < 0.75 && kind >= 0.6:
		return down
	case kind < 0.6 && chance < 0.5:
		return reset
	case kind < 0.8 && kind >= 0.75:
		return answer{hangs: true, takes: chance < 0.5}
	case kind < 0.9 && kind >= 0.8:
		left := (phase - now%phase + time.Second).Truncate(time.Second)
		return answer{took: well.took, err: sinks.Hold(sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 429"}), left)}
	case kind >= 0.9 && chance < 0.5:
		return reset
	}
	if w.Chance("refuses", id) < 0.01 {
		return answer{took: well.took, err: sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 400"})}
	}
	return well
}

func (s sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	p, w := s.p, s.p.w
	if err := p.alive(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // nothing is written then
		return err
	}
	w.mu.Lock()
	f := w.fates[m.ID]
	a := &attempt{by: p, at: w.at(), replayed: s.replays}
	w.begins(f, a)
	n := len(f.attempts)
	f.attempts = append(f.attempts, a)
	host, _ := to.(string)
	ans := w.answer(s.name+host, m.ID, n)
	w.note(p.name, "attempt", m.ID, strconv.Itoa(n))
	w.mu.Unlock()
	ends := func(result string, err error) error {
		p.turn("ended", m.ID) // what ends at one instant goes on one by one
		w.mu.Lock()
		defer w.mu.Unlock()
		if a.over {
			return err
		}
		a.over = true
		if result != "taken" && a.taken {
			w.cause([]string{m.ID}, "taken and not answered so")
		}
		w.note(p.name, "attempt ends", m.ID, result)
		if err == nil || w.plant != "an answer that never came" || !sinks.IsAmbiguous(err) {
			return err
		}
		return nil
	}
	if w.line.Wait(ctx, ans.took/2+time.Duration(w.Draw("wire", m.ID, n)%1000)) != nil {
		return ends("not sent", ctx.Err())
	}
	if ans.takes { // it is on its way, whatever has become of the process
		w.mu.Lock()
		a.taken = true
		w.takes(f, a)
		w.mu.Unlock()
	}
	if ans.hangs {
		ans.took = time.Hour
	}
	if delay.Sleep(ctx, ans.took/2) != nil {
		return ends("no answer", sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer", Cause: ctx.Err()}))
	}
	if ans.err != nil {
		return ends(ans.err.Error(), ans.err)
	}
	return ends("taken", nil)
}

// hostOf is where a delivery through the sink hosts goes.
func (w *world) hostOf(id string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf("%q", fmt.Sprintf("h%d", int(w.Chance("host", id)*4))))
}
