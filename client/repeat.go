package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"backstop/lib/fault"
)

// Repeatable reports whether the same request may succeed later: the API handed it back (429,
// any 5xx, the same delivery under way, a dead letter that a replay holds), or no answer came.
// Whether it is safe to repeat is another question: reads are, cancellations, and writes with an id
// or a key of their own.
func Repeatable(err error) bool {
	if e, ok := errors.AsType[*UnreachableError](err); ok {
		return !e.lasting
	}
	p, ok := errors.AsType[*ProblemError](err)
	return ok && (p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests ||
		p.Code == fault.CodeDeliveryInProgress || p.Code == fault.CodeItemLeased)
}

// passing reports whether a read is repeated: not after 500, which is a defect and stays.
func passing(err error) bool {
	p, ok := errors.AsType[*ProblemError](err)
	if !ok {
		return Repeatable(err)
	}
	return slices.Contains([]int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, p.Status)
}

// repeat makes a try, and further ones as Options say.
func (c *Client) repeat(ctx context.Context, again func(error) bool, try func() (http.Header, []byte, error)) (http.Header, []byte, error) {
	for n := 1; ; n++ {
		header, body, err := try()
		if err == nil || again == nil || n >= c.o.Tries || !again(err) {
			return header, body, err
		}
		wait := c.wait(n, err)
		if deadline, ok := ctx.Deadline(); wait < 0 || ok && time.Until(deadline) <= wait {
			return nil, nil, err
		}
		if c.o.OnRetry != nil {
			c.o.OnRetry(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, nil, fmt.Errorf("%w after %w", ctx.Err(), err)
		case <-timer.C:
		}
	}
}

// wait is how long to wait after the nth try; negative: longer than MaxWait. What the API
// asks for is never shortened. Jitter keeps clients apart that failed together.
func (c *Client) wait(n int, err error) time.Duration {
	if p, ok := errors.AsType[*ProblemError](err); ok && p.RetryAfter > 0 {
		if p.RetryAfter > c.o.MaxWait {
			return -1
		}
		return p.RetryAfter + rand.N(c.o.BaseWait)
	}
	longest := c.o.BaseWait
	for range n - 1 {
		if longest >= c.o.MaxWait/2 {
			longest = c.o.MaxWait
			break
		}
		longest *= 2
	}
	longest = min(longest, c.o.MaxWait)
	return longest/2 + rand.N(longest/2+1)
}

// paged yields the items of page after page. fetch returns the page at a cursor, and the
// next page's cursor, empty at the end.
func paged[T any](fetch func(cursor string) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			items, next, err := fetch(cursor)
			if err == nil && next != "" && next == cursor {
				err = errors.New("the API's list does not go on: it gave the same cursor again")
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
	}
}
