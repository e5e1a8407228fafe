//go:build full

package races

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"text/tabwriter"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/delivery"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

type sqsName = types.QueueAttributeName

// recordKey is the record's own key: what waits or was canceled has one.
func recordKey(r *race) string {
	keys, _ := redisconn.New(nil, redisconn.DefaultPrefix, "").Keys.Record(r.sink, r.id, delivery.DefaultTTL, "")
	return keys[0]
}

// serve serves the receivers.
func serve(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + ln.Addr().String()
}

// account counts what became of races.
type account struct {
	canceled, unknown, already, undecided, never int
	mayHaveArrived                               int
	delivered, stored, givenUp, refused          int
	unguarded                                    int
	faults                                       []string
}

func (a *account) fault(r *race, format string, args ...any) {
	if len(a.faults) < 20 {
		a.faults = append(a.faults, fmt.Sprintf("%s to %s (%s): %s; requests %v, sends %v, cancellations %v", r.id, r.sink, r.way,
			fmt.Sprintf(format, args...), shown(r.requests), short(r.sent), short(r.canceled)))
	}
}

func shown(all []seen) (out []string) {
	for _, q := range all {
		out = append(out, fmt.Sprintf("%s %d", q.at.Format("05.000"), q.status))
	}
	return out
}

func short(all []told) (out []string) {
	for _, a := range all {
		out = append(out, fmt.Sprintf("%s-%s %d %s%s", a.asked.Format("05.000"), a.at.Format("05.000"), a.status, a.code, a.answer.Status))
	}
	return out
}

// judge holds each race against the promises.
func (w *world) judge(ctx context.Context, t *testing.T, took time.Duration, drops int) {
	t.Helper()
	letters, back := w.letters(ctx, t), w.givenUp(ctx, t)
	var a account
	for _, r := range w.list {
		r.mu.Lock()
		w.judgeOne(&a, r, letters[r.id], back[r.id])
		r.mu.Unlock()
	}
	tw := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	row := func(what string, n any) { _, _ = fmt.Fprintf(tw, "  %s\t%v\n", what, n) }
	_, _ = fmt.Fprintf(tw, "\nraces: %d, %s\n\n", len(w.list), took.Round(time.Second))
	row("canceled", a.canceled)
	row("  of unknown ids", a.unknown)
	row("  may have arrived", a.mayHaveArrived)
	row("  not judged: a record could not be read", a.unguarded)
	row("ALREADY_DELIVERED", a.already)
	row("cancellation never decided (under way, or held by a replay)", a.undecided)
	row("never canceled", a.never)
	row("delivered", a.delivered)
	row("in the dead-letter queue", a.stored)
	row("given up by the queue", a.givenUp)
	row("refused: their time was over", a.refused)
	row("records evicted", w.evicted.Load())
	row("processes killed", w.kills.Load())
	row("Redis replies dropped", drops)
	_ = tw.Flush()
	_, _ = fmt.Fprintf(os.Stdout, "\nraces: canceled=%d already_delivered=%d delivered=%d dead_lettered=%d handed_back=%d unexplained=%d\n",
		a.canceled, a.already, a.delivered, a.stored, a.givenUp+a.refused, len(a.faults))
	for _, f := range a.faults {
		t.Error(f)
	}
	if a.canceled == 0 || a.already == 0 || a.mayHaveArrived == 0 || a.delivered == 0 || a.stored == 0 || w.kills.Load() == 0 || drops == 0 {
		t.Error("the races were too few: one of these is 0 that must not be")
	}
}

func (w *world) judgeOne(a *account, r *race, letters int, back bool) {
	var canceled *told
	already := false
	for i, c := range r.canceled {
		switch {
		case c.status == http.StatusOK && canceled == nil:
			canceled = &r.canceled[i]
		case c.code == "ALREADY_DELIVERED":
			already = true
		}
	}
	answered, taken := 0, 0 // by 200; without an answer
	for _, q := range r.requests {
		switch q.status {
		case http.StatusOK:
			answered++
		case 0:
			taken++
		}
	}
	safe, refused := false, false // what senders were told
	for _, s := range r.sent {
		safe = safe || s.status == http.StatusOK || s.status == http.StatusAccepted
		refused = refused || s.status == http.StatusBadRequest
	}

	switch {
	case canceled != nil:
		a.canceled++
		if !canceled.answer.Known {
			a.unknown++
		}
		if canceled.answer.MayHaveArrived {
			a.mayHaveArrived++
		}
		// A message that its sender put on the queue, or posted, is sent although its record cannot
		// be read: the one case in which a cancellation may be missed (docs/guarantees.md).
		w.logMu.Lock()
		missed := w.unguarded[r.id]
		w.logMu.Unlock()
		if missed {
			a.unguarded++
			break
		}
		for _, q := range r.requests {
			if q.at.After(canceled.at) {
				a.fault(r, "sent at %s, after it was canceled at %s", q.at.Format("05.000"), canceled.at.Format("05.000"))
			}
		}
		if answered+taken > 0 && !canceled.answer.MayHaveArrived {
			a.fault(r, "canceled without may_have_arrived, and its receiver had taken it")
		}
		if letters > 0 {
			a.fault(r, "canceled, and a dead letter is left")
		}
		if already {
			a.fault(r, "canceled and ALREADY_DELIVERED")
		}
	case already:
		a.already++
		if answered == 0 {
			a.fault(r, "ALREADY_DELIVERED, and its receiver never answered so")
		}
	case r.trigger != never:
		a.undecided++
	default:
		a.never++
	}

	switch {
	case letters > 1:
		a.fault(r, "%d dead letters", letters)
	case letters == 1:
		a.stored++
	case canceled != nil:
	case answered > 0:
		a.delivered++
	case back:
		a.givenUp++
	case refused && !safe:
		a.refused++
	case taken > 0 && safe:
		a.fault(r, "LOST: accepted, sent without an answer, and not kept")
	case safe:
		a.fault(r, "LOST: accepted, and neither delivered, kept, handed back nor canceled")
	default:
		a.refused++ // no answer said that it is safe
	}
}
