// Package redisconn is the one way to talk to Redis: its Conn owns second tries, scripts
// and coded errors, and its Keys hold every key of the system (keys.go). Stores build on it.
// Their callers repeat nothing.
package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"backstop/lib/fault"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// Bounds of a call whose context has no deadline, or a far one.
const (
	maxCall = 10 * time.Second
	maxTry  = 2 * time.Second
	maxWait = 200 * time.Millisecond
)

// minTry is how long a try lasts at least, where two of them fit into the call.
const minTry = 250 * time.Millisecond

// maxShared is the most time of a call that asks several slots at once. One that does not
// answer makes the whole call fail, and must not hold it up for as long as a call about it
// alone may last (maxCall).
const maxShared = 3 * time.Second

// Conn is a store's access to Redis. It is safe for concurrent use. Each try of a call has a
// context of its own, which the client must honour (ContextTimeoutEnabled). The client stays
// its owner's to close.
type Conn struct {
	Client redis.UniversalClient
	Keys   Keys

	code fault.Code
	bad  error // the prefix cannot work
}

// New returns a Conn whose keys begin with prefix (see CheckPrefix): with a bad one it
// answers every call with INVALID_ARGUMENT. code is that of its errors where Redis did not do
// what was asked; empty: they have none. New does no I/O.
func New(client redis.UniversalClient, prefix string, code fault.Code) *Conn {
	return &Conn{Client: client, Keys: Keys{prefix}, code: code, bad: CheckPrefix(prefix)}
}

// Do runs f until it succeeds, fails for good, or ctx ends: 10 s at most. Each try gets a
// quarter of the time that was left at the beginning, and at least 250 ms or half of it, so
// that a second one always fits. What f does can be repeated. An error with a code of f
// is returned as it is; every other one gets the code of c, op and its cause.
func (c *Conn) Do(ctx context.Context, op string, f func(context.Context) error) error {
	if c.bad != nil {
		return c.bad
	}
	start := time.Now()
	whole := wholeCall(ctx, start)
	end, length := start.Add(whole), tryOf(whole)
	wait := 5 * time.Millisecond
	var last error
	for now := start; ctx.Err() == nil && now.Before(end); now = time.Now() {
		try, cancel := context.WithTimeout(ctx, min(length, end.Sub(now)))
		err := f(try)
		cancel()
		if err == nil {
			return nil
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) {
			last = err // what the network said tells more than that time ran out
		}
		if !passing(err) {
			break
		}
		if reloader, ok := c.Client.(interface{ ReloadState(context.Context) }); ok {
			// A cluster client learns of a dead master's successor from redirects only.
			reloader.ReloadState(ctx)
		}
		timer := time.NewTimer(min(time.Duration(float64(wait)*(0.5+rand.Float64())), time.Until(end)))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, maxWait)
	}
	switch {
	case last == nil && ctx.Err() != nil:
		last = context.Cause(ctx)
	case last == nil:
		last = context.DeadlineExceeded
	case fault.CodeOf(last) != "":
		return last
	case strings.HasPrefix(last.Error(), "OOM ") || strings.Contains(last.Error(), "-OOM "):
		op += ": Redis is out of memory (maxmemory)"
	}
	return &fault.Error{Code: c.code, Msg: op, Cause: last}
}

// wholeCall is how long a call that begins at start may last.
func wholeCall(ctx context.Context, start time.Time) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(maxCall, deadline.Sub(start))
	}
	return maxCall
}

// tryOf is how long a try of a call may last.
func tryOf(whole time.Duration) time.Duration {
	return min(max(whole/4, min(whole/2, minTry)), maxTry)
}

// Ask is Do for an f that returns an answer.
func Ask[T any](ctx context.Context, c *Conn, op string, f func(context.Context) (T, error)) (answer T, err error) {
	err = c.Do(ctx, op, func(ctx context.Context) (err error) {
		answer, err = f(ctx)
		return err
	})
	return answer, err
}

// DoAll is Do for an f that asks n slots at once.
func (c *Conn) DoAll(ctx context.Context, op string, n int, f func(context.Context) error) error {
	if n > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxShared)
		defer cancel()
	}
	return c.Do(ctx, op, f)
}

// passing reports whether a failed call may succeed when it is repeated: whatever the
// network did, and what servers answer while they start, fail over or move slots.
func passing(err error) bool {
	if fault.CodeOf(err) != "" || errors.Is(err, redis.ErrClosed) {
		return false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	answer, ok := errors.AsType[redis.Error](err)
	if !ok {
		return true
	}
	for _, prefix := range []string{
		"LOADING ", "READONLY ", "CLUSTERDOWN ", "TRYAGAIN ", "MASTERDOWN ", "MOVED ", "ASK ",
		"NOREPLICAS ", "BUSY ", "ERR max number of clients reached",
	} {
		if strings.HasPrefix(answer.Error(), prefix) {
			return true
		}
	}
	return false
}

// Script returns a script that is put together and hashed when it is first asked for: a process runs a few of some fifty, and would
// start a millisecond later with all. It may be called by several goroutines at once.
type Script func() *redis.Script

// NewScript returns the script that source returns, which is called once, or never.
func NewScript(source func() string) Script {
	return sync.OnceValue(func() *redis.Script { return redis.NewScript(source()) })
}

// Source is NewScript of a text.
func Source(text string) Script { return NewScript(func() string { return text }) }

// Eval runs a script and returns its answer.
func (c *Conn) Eval(ctx context.Context, op string, s Script, keys []string, args ...any) (any, error) {
	return Ask(ctx, c, op, func(ctx context.Context) (any, error) { return s().Run(ctx, c.Client, keys, args...).Result() })
}

// Call is one call of a script among several.
type Call struct {
	Keys []string
	Args []any
}

// pipelined is the most script calls in one pipeline, and underWay how many of these are under way at once: while Redis works on one,
// the answers of another are read.
const (
	pipelined = 250
	underWay  = 2
)

// EvalAll makes several calls of a script, pipelined and in any order, and returns their answers in that of the calls.
func (c *Conn) EvalAll(ctx context.Context, op string, s Script, calls []Call) ([]any, error) {
	parts := slices.Collect(slices.Chunk(calls, pipelined))
	got := make([][]any, len(parts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(underWay)
	for i, part := range parts {
		g.Go(func() error {
			return c.DoAll(ctx, op, len(part), func(ctx context.Context) (err error) {
				got[i], err = c.pipeline(ctx, part, s().EvalSha)
				if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
					got[i], err = c.pipeline(ctx, part, s().Eval)
				}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(got...), nil
}

func (c *Conn) pipeline(ctx context.Context, calls []Call, run func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd) ([]any, error) {
	p := c.Client.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	for i, call := range calls {
		cmds[i] = run(ctx, p, call.Keys, call.Args...)
	}
	if _, err := p.Exec(ctx); err != nil {
		return nil, err
	}
	answers := make([]any, len(calls))
	for i, cmd := range cmds {
		answers[i] = cmd.Val()
	}
	return answers, nil
}

// Unexpected is the error of a reply that the script cannot have given.
func Unexpected(op string, answer any) error {
	return &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("%s: unexpected answer %.200v", op, answer)}
}
