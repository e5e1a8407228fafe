package journal

import (
	"context"
	"errors"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// Supersede implements dlq.Successions. The journal says first that the superseded dead letter waits: what comes
// back from there is not sent beside its successor, however this ends. Where that fails, the error is
// dlq.ErrJournal, and nothing was changed. The successor is written by a Keeper, as what the queue has without
// an address: an object that is written before would come back as a dead letter if this process died.
func (q *Queue) Supersede(ctx context.Context, s dlq.Succession) (dlq.Leased, error) {
	id, err := dlq.ParseID(s.ID)
	if err != nil {
		return dlq.Leased{}, err
	}
	s.By.Journal = ""
	address := spelled(s.Journal)
	if address == "" { // it has none that could be found
		return q.Store.Supersede(ctx, s)
	}
	k := Keeper{Bucket: q.bucket, Log: q.opts.Log}
	if err := k.writeState(ctx, id.Sink, address, state{Held: true, SupersededBy: s.By.Sink}); err != nil {
		return dlq.Leased{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "journal", Cause: errors.Join(dlq.ErrJournal, err)}
	}
	l, err := q.Store.Supersede(ctx, s)
	if err == nil {
		return l, nil // and the queue notes that the journal lacks the id
	}
	// It is what the queue says. Where that cannot be told, it waits after a loss, for an operator.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	it, unknown := q.Get(after, s.ID)
	if unknown == nil {
		unknown = k.writeState(after, id.Sink, address, state{it.Parked, it.Held, it.SupersededBy})
	}
	if unknown != nil {
		q.log().WarnContext(ctx, "the journal may say of a dead letter that it waits", "item_id", s.ID, "error", unknown.Error())
	}
	return dlq.Leased{}, err
}
