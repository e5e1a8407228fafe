package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"backstop/internal/delay"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// MaxSendAfter is the longest that a request may ask to wait: what a message of SQS can.
const MaxSendAfter = 15 * time.Minute

// mostEarly is how much too early a queued request may come and be waited for: what clocks
// differ.
const mostEarly = 2 * time.Second

// RequestQueue takes requests that are accepted for later. Each comes back to Sender.Deliver
// as a Request with Queued set, once its time has come, until that says that it is safe. It is
// safe for concurrent use.
type RequestQueue interface {
	// Put stores a request, by ctx's end. Errors are BODY_TOO_LARGE for one that it can never
	// take, and QUEUE_UNAVAILABLE, with ErrNotQueued in its tree where the queue has said that it
	// does not have it: else it may.
	Put(ctx context.Context, q Queued) error
	// FIFO reports whether requests keep their order within a group: then none can be delayed.
	FIFO() bool
}

// Queued is a request on its way into a RequestQueue. Its AcceptedAt, NotBefore and ExpiresAt
// come back with it; SendAfter is the delay, in whole seconds.
type Queued struct {
	Request
	Fingerprint string // of its content (dlq.ContentFingerprint)
}

// ErrNotQueued is in the tree of a RequestQueue's error when the queue does not have the
// request.
var ErrNotQueued = errors.New("the queue did not take it")

// dated returns r with its times made absolute, once, by the sink's and its own bounds.
func (r Request) dated(t Target, now time.Time) Request {
	if r.AcceptedAt.IsZero() {
		r.AcceptedAt = now
	}
	if r.Queued {
		return r
	}
	r.SendAfter = (r.SendAfter + time.Second - 1).Truncate(time.Second)
	if r.SendAfter > 0 {
		r.NotBefore = now.Add(r.SendAfter)
	}
	if t.MaxAge > 0 {
		if end := r.AcceptedAt.Add(t.MaxAge); r.ExpiresAt.IsZero() || end.Before(r.ExpiresAt) {
			r.ExpiresAt = end
		}
	}
	return r
}

// expired says why r comes too late; nil when it does not.
func (r Request) expired(now time.Time) error {
	switch end := r.ExpiresAt.UTC().Format(time.RFC3339Nano); {
	case r.ExpiresAt.IsZero():
	case !now.Before(r.ExpiresAt):
		return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("expires_at: %s is past", end)}
	case !r.Queued && !r.NotBefore.Before(r.ExpiresAt):
		return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("expires_at: %s is over before send_after (%s) is", end, r.SendAfter)}
	}
	return nil
}

// awaitTurn waits for a queued request that comes a little too early, and hands back one that
// comes much too early, as a message does that was moved between queues.
func (r Request) awaitTurn(ctx context.Context) error {
	if !r.Queued {
		return nil
	}
	wait := time.Until(r.NotBefore)
	if wait <= mostEarly && r.Budget.Fits(max(wait, 0)) && delay.Sleep(ctx, max(wait, 0)) == nil {
		return nil
	}
	return &fault.Error{Code: fault.CodeNotAttempted, Msg: fmt.Sprintf("it is not to be sent before %s", r.NotBefore.UTC().Format(time.RFC3339))}
}

// later reports whether r is put into Requests. An error says why it must be, and cannot.
func (s *Sender) later(r Request) (bool, error) {
	no := func(format string, args ...any) error {
		return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "send_after: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Queued:
		return false, nil
	case r.SendAfter <= 0:
		return r.Async && s.Requests != nil, nil
	case r.SendAfter > MaxSendAfter:
		return false, no("%s is longer than %s", r.SendAfter, MaxSendAfter)
	case s.Requests == nil:
		return false, no("nothing can be sent later here, for there is no queue")
	case s.Requests.FIFO():
		return false, no("nothing can be sent later here, for the queue is FIFO and keeps its order")
	}
	return true, nil
}

// accept puts r into Requests. It reports decided unless it does not fit there and may be sent at
// once instead.
func (s *Sender) accept(ctx context.Context, r *Request, g *guard, p *plan) (a Answer, decided bool, err error) {
	pctx, cancel := ctx, context.CancelFunc(func() {})
	if end := r.Budget.Attempts; !end.IsZero() {
		pctx, cancel = context.WithDeadline(ctx, end)
	}
	defer cancel()
	err = s.Requests.Put(pctx, Queued{Request: *r, Fingerprint: g.fingerprint})
	actx, cancelAnswer := r.Budget.AnswerContext(ctx)
	defer cancelAnswer()
	switch {
	case err == nil:
		// Its message may be here already: then the record has gone further.
		rec := g.record(Answer{})
		rec.Status = StatusAccepted
		_, _, err = s.Records.Finish(actx, g.key, g.token, rec)
		s.unguarded(actx, g.key, err)
		return Answer{Status: StatusAccepted, DeliveryID: g.key.ID, NotBefore: r.NotBefore}, true, nil
	case fault.CodeOf(err) == fault.CodeBodyTooLarge && r.SendAfter == 0:
		g.accepting, p.later = false, false
		return s.begin(ctx, r, g, p)
	}
	how := BackLeave
	if !g.again && (errors.Is(err, ErrNotQueued) || fault.CodeOf(err) == fault.CodeBodyTooLarge) {
		how = BackForget
	}
	s.unguarded(actx, g.key, s.Records.HandBack(actx, g.key, g.token, g.back(how), g.record(Answer{})))
	return Answer{}, true, err
}

// unknown decides about a queued delivery whose record is gone. Of one that is older than notes
// of cancellations live nobody knows whether there was one: an operator decides.
func (s *Sender) unknown(ctx context.Context, r Request, g *guard, p *plan) (a Answer, decided bool, err error) {
	if a, decided, err = s.noted(ctx, g, BackLeave); decided {
		return a, true, err
	}
	if age := time.Since(r.AcceptedAt); age > s.Records.Retention() {
		*p = p.unsendable(dlq.ReasonInvalid, &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf(
			"accepted %s ago, and it may have been canceled since: that is known for %s only", age.Round(time.Second), s.Records.Retention())})
	}
	return Answer{}, false, nil
}

// noted decides about a delivery without a record that a note says to be canceled. Where nobody
// can tell, it goes back as unread says.
func (s *Sender) noted(ctx context.Context, g *guard, unread Back) (a Answer, decided bool, err error) {
	canceled, err := s.Queue.Canceled(ctx, g.key.Sink, g.key.ID)
	if err == nil && !canceled {
		return Answer{}, false, nil
	}
	how := BackForget
	if err != nil {
		how = unread
		err = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "whether the delivery was canceled cannot be read", Cause: err}
	}
	s.unguarded(ctx, g.key, s.Records.HandBack(ctx, g.key, g.token, g.back(how), g.record(Answer{})))
	return Answer{Status: StatusCanceled, DeliveryID: g.key.ID, Duplicate: true}, true, err
}
