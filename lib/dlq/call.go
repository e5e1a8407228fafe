package dlq

import (
	"context"
	"crypto/tls"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"backstop/lib/fault"

	"github.com/redis/go-redis/v9"
)

// Bounds of a call whose context has no deadline, or a far one.
const (
	maxCall = 10 * time.Second
	maxTry  = 2 * time.Second
	maxWait = 200 * time.Millisecond
)

// call runs f until it succeeds, fails for good, or ctx ends. Each try gets a quarter
// of the time that was left at the beginning, so that a second one always fits. What f
// does can be repeated.
func (r *Redis) call(ctx context.Context, op string, f func(context.Context) error) error {
	if r.bad != nil {
		return r.bad
	}
	start := time.Now()
	whole := maxCall
	if deadline, ok := ctx.Deadline(); ok {
		whole = min(whole, deadline.Sub(start))
	}
	end := start.Add(whole)
	wait := 5 * time.Millisecond
	var last error
	for now := start; ctx.Err() == nil && now.Before(end); now = time.Now() {
		try, cancel := context.WithTimeout(ctx, min(whole/4, maxTry, end.Sub(now)))
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
		if reloader, ok := r.client.(interface{ ReloadState(context.Context) }); ok {
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
	return unavailable(op, last)
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

// invocation is one script call.
type invocation struct {
	keys []string
	args []any
}

// eval runs a script on one queue and returns its answer.
func (r *Redis) eval(ctx context.Context, op string, s *redis.Script, in invocation) (any, error) {
	var answer any
	err := r.call(ctx, op, func(ctx context.Context) error {
		var err error
		answer, err = s.Run(ctx, r.client, in.keys, in.args...).Result()
		return err
	})
	return answer, err
}

// pipelined is the most script calls in one pipeline.
const pipelined = 250

// evalAll runs a script on several queues, pipelined.
func (r *Redis) evalAll(ctx context.Context, op string, s *redis.Script, in []invocation) ([]any, error) {
	answers := make([]any, 0, len(in))
	for len(in) > 0 {
		part := in[:min(len(in), pipelined)]
		in = in[len(part):]
		err := r.callAll(ctx, op, len(part), func(ctx context.Context) error {
			got, err := r.pipeline(ctx, part, func(p redis.Pipeliner, i invocation) *redis.Cmd {
				return p.EvalSha(ctx, s.Hash(), i.keys, i.args...)
			})
			if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
				got, err = r.pipeline(ctx, part, func(p redis.Pipeliner, i invocation) *redis.Cmd {
					return s.Eval(ctx, p, i.keys, i.args...)
				})
			}
			if err == nil {
				answers = append(answers, got...)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func (r *Redis) pipeline(ctx context.Context, in []invocation, run func(redis.Pipeliner, invocation) *redis.Cmd) ([]any, error) {
	p := r.client.Pipeline()
	cmds := make([]*redis.Cmd, len(in))
	for i, c := range in {
		cmds[i] = run(p, c)
	}
	if _, err := p.Exec(ctx); err != nil {
		return nil, err
	}
	answers := make([]any, len(in))
	for i, c := range cmds {
		answers[i] = c.Val()
	}
	return answers, nil
}

// answerError is a reply that the script cannot have given.
func answerError(op string, answer any) error {
	return &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("%s: unexpected answer %.200v", op, answer)}
}

// The scripts: prelude.lua, the parts that they need, and their own text.
var (
	//go:embed prelude.lua
	preludeSource string
	//go:embed entry.lua
	entrySource string
	//go:embed death.lua
	deathSource string
	//go:embed begin.lua
	beginSource string
	//go:embed lease.lua
	leaseSource string
	//go:embed trim.lua
	trimSource string
	//go:embed find.lua
	findSource string
	//go:embed anew.lua
	anewSource string
	//go:embed push.lua
	pushSource string
	//go:embed claim.lua
	claimSource string
	//go:embed take.lua
	takeSource string
	//go:embed settle.lua
	settleSource string
	//go:embed release.lua
	releaseSource string
	//go:embed discard.lua
	discardSource string
	//go:embed unpark.lua
	unparkSource string
	//go:embed gate.lua
	gateSource string
	//go:embed pause.lua
	pauseSource string
	//go:embed stats.lua
	statsSource string
	//go:embed mend.lua
	mendSource string
	//go:embed groups.lua
	groupsSource string
	//go:embed newest.lua
	newestSource string

	pushScript    = script(wrapped("trimmer", entrySource, trimSource), wrapped("finder", findSource), wrapped("start_anew", anewSource), pushSource)
	claimScript   = script(entrySource, deathSource, leaseSource, claimSource)
	takeScript    = script(entrySource, deathSource, leaseSource, takeSource)
	beginScript   = script(entrySource, beginSource)
	settleScript  = script(entrySource, settleSource)
	releaseScript = script(entrySource, releaseSource)
	discardScript = script(entrySource, discardSource)
	unparkScript  = script(entrySource, unparkSource)
	gateScript    = script(gateSource)
	pauseScript   = script(pauseSource)
	statsScript   = script(entrySource, statsSource)
	mendScript    = script(entrySource, wrapped("start_anew", anewSource), mendSource)
	groupsScript  = script(groupsSource)
	newestScript  = redis.NewScript(newestSource)
)

// wrapped makes parts a function.
func wrapped(name string, parts ...string) string {
	return "local function " + name + "()\n" + strings.Join(parts, "\n") + "\nend"
}

func script(parts ...string) *redis.Script {
	return redis.NewScript(preludeSource + "\n" + strings.Join(parts, "\n"))
}
