package sim

import (
	"context"
	"fmt"
	"time"

	"backstop/lib/delivery"
)

// records are the records of deliveries as a process reaches them.
type records struct {
	delivery.Store
	p *process
}

func (r records) memory() *delivery.Memory { return r.p.w.records }

func (r records) Retention() time.Duration { return r.memory().Retention() }

type recordState struct {
	state delivery.State
	rec   delivery.Record
}

func (s recordState) String() string { return string(s.state) + "/" + string(s.rec.Status) }

func (r records) Begin(ctx context.Context, b delivery.Begin) (delivery.State, delivery.Record, error) {
	got, err := call(ctx, r.p, "begin", []string{b.ID}, recordState.String, func(ctx context.Context) (recordState, error) {
		state, rec, err := r.memory().Begin(ctx, b)
		return recordState{state, rec}, err
	})
	if err != nil && !b.Queued {
		// The delivery goes out without its record: the one case in which a cancellation may be missed.
		r.p.w.mu.Lock()
		r.p.w.fates[b.ID].unguarded = true
		r.p.w.mu.Unlock()
	}
	return got.state, got.rec, err
}

type finished struct {
	found   delivery.Record
	written bool
}

func (r records) Finish(ctx context.Context, k delivery.Key, token string, rec delivery.Record) (delivery.Record, bool, error) {
	if r.p.w.plant == "records that are not written" && rec.Status == delivery.StatusDelivered {
		err := r.memory().HandBack(ctx, k, token, delivery.BackForget, rec)
		return delivery.Record{}, true, err
	}
	got, err := call(ctx, r.p, "finish "+string(rec.Status), []string{k.ID}, func(f finished) string { return fmt.Sprint(f.found.Status, f.written) },
		func(ctx context.Context) (finished, error) {
			found, written, err := r.memory().Finish(ctx, k, token, rec)
			return finished{found, written}, err
		})
	return got.found, got.written, err
}

func (r records) HandBack(ctx context.Context, k delivery.Key, token string, how delivery.Back, rec delivery.Record) error {
	_, err := call(ctx, r.p, "hand back "+string(how), []string{k.ID}, nil, func(ctx context.Context) (nothing, error) {
		return none(r.memory().HandBack(ctx, k, token, how, rec))
	})
	return err
}

func (r records) Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	var ids []string
	for _, c := range changes {
		ids = append(ids, c.ID)
	}
	return call(ctx, r.p, "update", ids, func(s []delivery.Status) string { return fmt.Sprint(s) },
		func(ctx context.Context) ([]delivery.Status, error) { return r.memory().Update(ctx, changes...) })
}

func (r records) Cancel(ctx context.Context, k delivery.Key, token string, seen delivery.Record) (delivery.State, delivery.Record, error) {
	got, err := call(ctx, r.p, "cancel", []string{k.ID}, recordState.String, func(ctx context.Context) (recordState, error) {
		state, rec, err := r.memory().Cancel(ctx, k, token, seen)
		if state == delivery.StateInProgress && r.p.w.plant == "canceled while it is sent" {
			state = delivery.StateCanceled
		}
		return recordState{state, rec}, err
	})
	return got.state, got.rec, err
}

func (r records) Uncancel(ctx context.Context, k delivery.Key, token string) error {
	_, err := call(ctx, r.p, "uncancel record", []string{k.ID}, nil, func(ctx context.Context) (nothing, error) { return none(r.memory().Uncancel(ctx, k, token)) })
	return err
}

type read struct {
	rec   delivery.Record
	known bool
}

func (r records) Get(ctx context.Context, k delivery.Key) (delivery.Record, bool, error) {
	got, err := call(ctx, r.p, "record", []string{k.ID}, nil, func(ctx context.Context) (read, error) {
		rec, known, err := r.memory().Get(ctx, k)
		return read{rec, known}, err
	})
	return got.rec, got.known, err
}
