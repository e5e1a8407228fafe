// Package tokens keeps access tokens: what a sink shows its receiver, and fetches elsewhere
// before. A failed fetch is never ambiguous, for nothing was sent to the receiver.
package tokens

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"backstop/lib/sinks"
)

const (
	// maxMargin is how long before its end a token is renewed at most.
	maxMargin = 5 * time.Minute
	// fetchTime bounds one fetch. Nobody's attempt does, for others may wait for it too.
	fetchTime = 10 * time.Second
	// renewTime is how long a renewal may hold up whoever began it: the old token still
	// lives.
	renewTime = 2 * time.Second
	// unknownLife is how long a token is kept that does not say how long it lives.
	unknownLife = 5 * time.Minute
	// suspicion is for how long after a refused token the next one is not above suspicion.
	suspicion = time.Minute
)

// Token is an access token.
type Token struct {
	// Value is what the receiver is shown.
	Value string
	// Expires is when the token ends, by this process's clock. Zero: not known; it is kept for
	// five minutes.
	Expires time.Time
}

// Format writes "[redacted]" for every verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// Cache keeps one token, and renews it when a tenth of its life is left, or five minutes. It is
// safe for concurrent use. It runs nothing of its own: a fetch begins in a Get.
type Cache struct {
	fetch func(context.Context) (Token, error)

	mu      sync.Mutex
	token   Token     // its Value is empty where there is none
	renew   time.Time // when the next renewal may begin
	dropped time.Time // when a token was refused last
	under   *flight   // the fetch under way
}

// flight is a fetch. Its results are there when done is closed.
type flight struct {
	done  chan struct{}
	token Token
	err   error
}

// New returns an empty cache. fetch is called by one goroutine at a time, under a context that
// ends after ten seconds. Its errors reach those who wait, and should be coded and marked.
func New(fetch func(context.Context) (Token, error)) *Cache { return &Cache{fetch: fetch} }

// Format keeps the token out of any formatted output.
func (*Cache) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "token cache") }

// Get returns a token that lives, and fetches one where there is none. Callers that have to wait
// share one fetch, and its error; each leaves when its own ctx ends, and the fetch goes on. While a
// token that is to be renewed lives, it is returned: at once to all but one caller, who begins the
// renewal, and to that one too when the renewal fails or takes longer than two seconds.
//
// Errors are those of the fetch, transient where they would be ambiguous, and SINK_UNAVAILABLE
// around ctx's error, not marked, when ctx ended first.
func (c *Cache) Get(ctx context.Context) (string, error) {
	if sinks.ForwardOf(ctx) != nil {
		return "forwarded", nil
	}
	c.mu.Lock()
	old, now := c.token, time.Now()
	lives := old.lives(now)
	if lives && (c.under != nil || now.Before(c.renew)) {
		c.mu.Unlock()
		return old.Value, nil
	}
	if err := ctx.Err(); err != nil && !lives {
		c.mu.Unlock()
		return "", ended(err)
	}
	f := c.under
	if f == nil {
		f = &flight{done: make(chan struct{})}
		c.under = f
		go c.fly(context.WithoutCancel(ctx), f)
	}
	c.mu.Unlock()
	if lives {
		return f.renewed(ctx, old)
	}
	select {
	case <-f.done:
		return f.token.Value, f.err
	case <-ctx.Done():
		return "", ended(ctx.Err())
	}
}

// renewed waits for a renewal while old may be used in its place.
func (f *flight) renewed(ctx context.Context, old Token) (string, error) {
	patience := time.NewTimer(renewTime)
	defer patience.Stop()
	select {
	case <-f.done:
		if f.err == nil || !old.lives(time.Now()) {
			return f.token.Value, f.err
		}
	case <-patience.C:
	case <-ctx.Done():
	}
	return old.Value, nil
}

// Drop forgets the token that the receiver has refused, so that the next Get fetches another. It
// leaves any other token alone: that of a later fetch is not the one that was refused. again is
// false when the refused token had just replaced one that was refused too: what the receiver
// refuses then is not the token's age.
func (c *Cache) Drop(value string) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token.Value != value {
		return true
	}
	again = c.dropped.IsZero() || time.Since(c.dropped) > suspicion
	c.token, c.dropped = Token{}, time.Now()
	return again
}

// fly makes a fetch and keeps what comes of it.
func (c *Cache) fly(ctx context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	f.token, f.err = c.fetch(ctx)
	if f.err == nil && f.token.Value == "" {
		f.err = sinks.Transient(unavailable("no token came"))
	}
	f.err = settled(f.err)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	c.under = nil
	now := time.Now()
	if f.err != nil {
		// The receiver takes the old token until it ends: there is no hurry.
		f.token = Token{}
		c.renew = now.Add(max(c.token.Expires.Sub(now)/4, sinks.RetryAfterOf(f.err), time.Second))
		return
	}
	if f.token.Expires.IsZero() {
		f.token.Expires = now.Add(unknownLife)
	}
	c.token = f.token
	c.renew = f.token.Expires.Add(-min(f.token.Expires.Sub(now)/10, maxMargin))
}

func (t Token) lives(now time.Time) bool { return t.Value != "" && now.Before(t.Expires) }

// settled returns the error of a fetch as those who wait may have it. It is not ambiguous, as a
// request to the receiver may be, and the end of the fetch's own context is nobody else's.
func settled(err error) error {
	switch {
	case sinks.IsAmbiguous(err):
		return sinks.Transient(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return sinks.Transient(unavailable(fmt.Sprintf("no token came within %s", fetchTime)))
	}
	return err
}

func ended(err error) error {
	e := unavailable("the attempt ended before a token came")
	e.Cause = err
	return e
}

func unavailable(why string) *sinks.Error {
	return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "token endpoint: " + why}
}
