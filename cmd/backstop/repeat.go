package main

import (
	"context"
	"errors"
	"time"

	"backstop/client"
	"backstop/internal/delay"
)

// maxPause bounds the wait between two tries: somebody sits in front of it. What the API asks
// for is not shortened: a command whose wait would be longer ends, and says so.
const maxPause = 15 * time.Second

// repeating makes a call that can be repeated, because it has a key of its own or stores
// nothing twice: until it succeeds, is refused for good, or the tries are used up.
func repeating[T any](ctx context.Context, tries int, call func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		answer, err := call()
		wait := pause(n, err)
		if err == nil || n == tries || !client.Repeatable(err) || wait > maxPause {
			return answer, err
		}
		if err := delay.Sleep(ctx, wait); err != nil {
			return answer, err
		}
	}
}

// pause is the wait after the nth try: what the API asks for, else doubling from half a
// second.
func pause(n int, err error) time.Duration {
	if p, ok := errors.AsType[*client.ProblemError](err); ok && p.RetryAfter > 0 {
		return p.RetryAfter
	}
	return delay.Exponential{Base: time.Second / 2, Max: maxPause}.Wait(n-1, nil)
}
