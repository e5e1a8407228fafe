package sinks

import (
	"context"
	"sync/atomic"
	"time"
)

// Delivery is what a sink may know of a message's delivery besides the message: the same in every
// attempt and replay. All of it may be zero, which means that it is not known.
type Delivery struct {
	// FirstAttempt is when the first attempt began: before this one, in another process, or now.
	FirstAttempt time.Time
	// AcceptedAt is when the message was accepted.
	AcceptedAt time.Time
	// ExpiresAt is when it is of no use any more. Zero: never.
	ExpiresAt time.Time
	// Group is its message group.
	Group string
	// Trace is the caller's trace header (W3C traceparent or X-Amzn-Trace-Id).
	Trace string
}

type deliveryKey struct{}

// WithDelivery returns a context for attempts to send the message of d.
func WithDelivery(ctx context.Context, d Delivery) context.Context {
	return &underway{Context: ctx, Delivery: d}
}

// DeliveryOf returns what is known of the delivery under ctx.
func DeliveryOf(ctx context.Context) Delivery {
	if u, ok := ctx.Value(deliveryKey{}).(*underway); ok {
		return u.Delivery
	}
	return Delivery{}
}

// underway is a context that knows its delivery: in one allocation, for there is one per delivery.
type underway struct {
	context.Context
	Delivery
	receipt atomic.Pointer[string]
}

// Value implements context.Context.
func (u *underway) Value(key any) any {
	if key == (deliveryKey{}) {
		return u
	}
	return u.Context.Value(key)
}

// NoteReceipt says under what name a receiver keeps the message that it took: its own id for it,
// which the logs show. It must hold no secret and no address.
func NoteReceipt(ctx context.Context, id string) {
	if u, ok := ctx.Value(deliveryKey{}).(*underway); ok {
		u.receipt.Store(&id)
	}
}

// Receipt returns what NoteReceipt said last under ctx, or a context derived from it; empty: nothing.
func Receipt(ctx context.Context) string {
	if u, ok := ctx.Value(deliveryKey{}).(*underway); ok {
		if id := u.receipt.Load(); id != nil {
			return *id
		}
	}
	return ""
}

// WithFirstAttempt returns a context for attempts to send one message, the first of which
// began at t: before this one, in another process, or now. Sinks that date what they send
// date it so, which makes every attempt and replay the same message to its receiver.
func WithFirstAttempt(ctx context.Context, t time.Time) context.Context {
	d := DeliveryOf(ctx)
	d.FirstAttempt = t
	return WithDelivery(ctx, d)
}

// FirstAttempt returns when the first attempt to send the message under way began: now,
// where nobody said.
func FirstAttempt(ctx context.Context) time.Time {
	if first := DeliveryOf(ctx).FirstAttempt; !first.IsZero() {
		return first
	}
	return time.Now()
}
