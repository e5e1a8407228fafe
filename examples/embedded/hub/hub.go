// Package hub is the heart of a small realtime server. Whoever listens to a channel gets
// its messages live; what nobody hears goes out-of-band, through a sink, and is kept when
// that fails, too.
package hub

import (
	"context"
	"fmt"
	"sync"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Route is how a message left the hub.
type Route string

// The routes.
const (
	Live      Route = "live"        // somebody listened and has it
	OutOfBand Route = "out-of-band" // a sink has it, or the dead-letter queue
)

// Hub is safe for concurrent use.
type Hub struct {
	queue  dlq.Store
	sinks  *sinks.Registry
	engine *replay.Engine

	mu        sync.Mutex
	listeners map[string]map[chan []byte]bool // by channel
}

// New returns a hub whose dead letters go to queue.
func New(queue dlq.Store) *Hub {
	registry := sinks.NewRegistry()
	queue.SetRegistryLookup(registry.Get)
	return &Hub{
		queue:     queue,
		sinks:     registry,
		engine:    &replay.Engine{Store: queue, Targets: delivery.Registered(registry)},
		listeners: map[string]map[chan []byte]bool{},
	}
}

// Register makes s available to PublishOrSink under its name; the last one of a name
// counts. It is wrapped once: one that retries by itself stays as it is.
func (h *Hub) Register(s sinks.Sink, cfg retry.Config) {
	h.sinks.Register(retry.WrapSink(s, cfg, h.queue))
}

// Subscribe returns what is published on channel from now on, until stop is called. A
// listener that does not keep up misses messages.
func (h *Hub) Subscribe(channel string) (messages <-chan []byte, stop func()) {
	listener := make(chan []byte, 16)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners[channel] == nil {
		h.listeners[channel] = map[chan []byte]bool{}
	}
	h.listeners[channel][listener] = true
	return listener, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners[channel], listener)
	}
}

// publish returns how many listeners took the message.
func (h *Hub) publish(channel string, data []byte) (taken int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for listener := range h.listeners[channel] {
		select {
		case listener <- data:
			taken++
		default:
		}
	}
	return taken
}

// PublishOrSink publishes data on channel; when no listener takes it, it sends m to to
// through the sink of that name. Without an error the message is safe: heard live,
// delivered out-of-band, or kept for a replay. With one it is still the caller's: its code
// is SINK_NOT_FOUND, or says why the queue did not take what the sink could not deliver.
func (h *Hub) PublishOrSink(ctx context.Context, channel string, data []byte, sink string, to sinks.Recipient, m sinks.Message) (Route, error) {
	if h.publish(channel, data) > 0 {
		return Live, nil
	}
	s, ok := h.sinks.Get(sink)
	if !ok {
		return "", &fault.Error{Code: fault.CodeSinkNotFound, Msg: fmt.Sprintf("no sink is registered as %q", sink)}
	}
	if err := s.Send(ctx, to, m); err != nil {
		return "", err
	}
	return OutOfBand, nil
}

// ReplayDue sends again what is due, each dead letter once; a server calls it every minute.
// Several servers may do so at once.
func (h *Hub) ReplayDue(ctx context.Context) (replay.Summary, error) {
	return h.engine.Run(ctx, replay.Request{})
}
