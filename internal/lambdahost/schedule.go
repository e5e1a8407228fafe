package lambdahost

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrOverlap is returned by a tick that was left out because the one before still
// runs.
var ErrOverlap = errors.New("lambdahost: the last tick is still running")

// Schedule invokes a function at an interval, as EventBridge Scheduler does without
// retries: a tick's failure is logged and the next tick comes as planned.
type Schedule struct {
	Invoker  Invoker
	Function string
	// Every is the interval; it must be positive. The first tick comes after one
	// interval.
	Every time.Duration
	// Payload makes the event of a tick. Nil: {"trigger":"schedule","time":"..."}.
	Payload func(tick time.Time) []byte
	// Overlap lets ticks run side by side. The default leaves out ticks while one
	// runs.
	Overlap bool
	// Logger reports ticks that failed or were left out. Nil discards.
	Logger *slog.Logger

	mu      sync.Mutex
	running int
	wg      sync.WaitGroup
}

// Run ticks until ctx ends, then waits for running invocations and returns nil.
func (s *Schedule) Run(ctx context.Context) error {
	if s.Every <= 0 {
		return errors.New("lambdahost: a schedule's interval must be positive")
	}
	defer s.wg.Wait()
	ticker := time.NewTicker(s.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-ticker.C:
			s.wg.Go(func() { _, _ = s.tick(ctx, t) })
		}
	}
}

// Tick fires once, now, and waits for the result. Its errors are those of Invoke, and
// ErrOverlap.
func (s *Schedule) Tick(ctx context.Context) (Result, error) { return s.tick(ctx, time.Now()) }

func (s *Schedule) tick(ctx context.Context, t time.Time) (Result, error) {
	log := s.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With(slog.String("function", s.Function), slog.Time("tick", t))
	if !s.enter() {
		log.InfoContext(ctx, "tick left out, the last one is still running")
		return Result{}, ErrOverlap
	}
	defer s.leave()
	payload := s.Payload
	if payload == nil {
		payload = func(t time.Time) []byte {
			return encode(map[string]string{"trigger": "schedule", "time": t.UTC().Format(time.RFC3339)})
		}
	}
	res, err := s.Invoker.Invoke(ctx, Invocation{Function: s.Function, Payload: payload(t)})
	if err != nil {
		log.WarnContext(ctx, "tick failed", slog.Any("error", err))
	} else if res.FunctionError != "" {
		log.WarnContext(ctx, "tick failed", slog.String("error_type", res.ErrorType))
	}
	return res, err
}

func (s *Schedule) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running > 0 && !s.Overlap {
		return false
	}
	s.running++
	return true
}

func (s *Schedule) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}
