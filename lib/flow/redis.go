package flow

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

var (
	//go:embed look.lua
	lookSource string
	//go:embed swap.lua
	swapSource string
	//go:embed rate.lua
	rateSource string

	lookScript = redis.NewScript(lookSource)
	swapScript = redis.NewScript(swapSource)
	rateScript = redis.NewScript(rateSource)
)

// Redis is a Store that all processes share. A sink's receivers are one hash, in the slot of
// its dead letters. It is safe for concurrent use.
type Redis struct{ conn *redisconn.Conn }

// NewRedis returns a store on client, under the prefix of the queue's keys; empty: "backstop".
// It does no I/O. Its errors are SINK_DLQ_UNAVAILABLE.
func NewRedis(client redis.UniversalClient, prefix string) *Redis {
	return &Redis{redisconn.New(client, cmp.Or(prefix, redisconn.DefaultPrefix), fault.CodeDLQUnavailable)}
}

var errAnswer = errors.New("an answer that is none of the script's")

// Look implements Store.
func (r *Redis) Look(ctx context.Context, sink string) (Seen, error) {
	k := r.conn.Keys
	got, err := r.conn.Eval(ctx, "look at the receivers of "+sink, lookScript, []string{k.Companion(sink, "meta"), k.Companion(sink, "flow")})
	if err != nil {
		return Seen{}, err
	}
	answer, ok := got.([]any)
	if !ok || len(answer) < 2 || len(answer)%2 != 0 {
		return Seen{}, errAnswer
	}
	now, ok1 := answer[0].(int64)
	paused, ok2 := answer[1].(int64)
	if !ok1 || !ok2 {
		return Seen{}, errAnswer
	}
	seen := Seen{Paused: paused == 1, Now: now, States: make(map[string]string, len(answer)/2-1)}
	for i := 2; i < len(answer); i += 2 {
		name, ok1 := answer[i].(string)
		state, ok2 := answer[i+1].(string)
		if !ok1 || !ok2 {
			return Seen{}, errAnswer
		}
		seen.States[name] = state
	}
	return seen, nil
}

// Swap implements Store.
func (r *Redis) Swap(ctx context.Context, sink, receiver string, s Swap) (Swapped, error) {
	got, err := r.conn.Eval(ctx, "share the state of a receiver of "+sink, swapScript, []string{r.conn.Keys.Companion(sink, "flow")},
		receiver, s.Old, s.New, s.At, clockError, receivers, rest)
	if err != nil {
		return Swapped{}, err
	}
	answer, ok := got.([]any)
	if !ok || len(answer) != 3 {
		return Swapped{}, errAnswer
	}
	what, ok1 := answer[0].(int64)
	now, ok2 := answer[1].(int64)
	current, ok3 := answer[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return Swapped{}, errAnswer
	}
	return Swapped{Swapped: what == 1, Full: what == 2, Current: current, Now: now}, nil
}

// Take implements Store.
func (r *Redis) Take(ctx context.Context, sink, receiver string, s Slots) ([]Granted, error) {
	args := []any{s.Interval, s.Tolerance, furthest.Microseconds(), strconv.FormatFloat(s.Random, 'f', -1, 64)}
	for _, latest := range s.Latest {
		args = append(args, latest)
	}
	got, err := r.conn.Eval(ctx, "take slots of "+sink, rateScript, []string{r.conn.Keys.Rate(sink, receiver)}, args...)
	if err != nil {
		return nil, err
	}
	answer, ok := got.([]any)
	if !ok || len(answer) != 2*len(s.Latest) {
		return nil, errAnswer
	}
	out := make([]Granted, len(s.Latest))
	for i := range out {
		taken, ok1 := answer[2*i].(int64)
		at, ok2 := answer[2*i+1].(int64)
		if !ok1 || !ok2 {
			return nil, errAnswer
		}
		out[i] = Granted{taken == 1, at}
	}
	return out, nil
}
