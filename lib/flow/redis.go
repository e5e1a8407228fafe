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
	//go:embed hold.lua
	holdSource string

	lookScript = redisconn.Source(lookSource)
	swapScript = redisconn.Source(swapSource)
	rateScript = redisconn.Source(rateSource)
	holdScript = redisconn.Source(holdSource)
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
	got, err := r.conn.Eval(ctx, "look at the receivers of "+sink, lookScript,
		[]string{k.Companion(sink, "meta"), k.Companion(sink, "flow"), k.Companion(sink, "holds")}, aftermath.Microseconds())
	if err != nil {
		return Seen{}, err
	}
	return readSeen(got)
}

// LookAll implements Store.
func (r *Redis) LookAll(ctx context.Context, sinks []string) ([]Seen, error) {
	k := r.conn.Keys
	calls := make([]redisconn.Call, len(sinks))
	for i, sink := range sinks {
		calls[i] = redisconn.Call{
			Keys: []string{k.Companion(sink, "meta"), k.Companion(sink, "flow"), k.Companion(sink, "holds")}, Args: []any{aftermath.Microseconds()},
		}
	}
	answers, err := r.conn.EvalAll(ctx, "look at all receivers", lookScript, calls)
	if err != nil {
		return nil, err
	}
	all := make([]Seen, len(sinks))
	for i, answer := range answers {
		if all[i], err = readSeen(answer); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readSeen reads the script's answer.
func readSeen(got any) (Seen, error) {
	answer, ok := got.([]any)
	if !ok || len(answer) < 3 || len(answer)%2 == 0 {
		return Seen{}, errAnswer
	}
	now, ok1 := answer[0].(int64)
	paused, ok2 := answer[1].(int64)
	holds, ok3 := answer[2].([]any)
	if !ok1 || !ok2 || !ok3 || len(holds)%2 != 0 {
		return Seen{}, errAnswer
	}
	out := Seen{Paused: paused == 1, Now: now, States: make(map[string]string, len(answer)/2-1), Holds: make(map[string]int64, len(holds)/2)}
	for i := 0; i < len(holds); i += 2 {
		key, ok1 := holds[i].(string)
		score, ok2 := holds[i+1].(string)
		until, err := strconv.ParseFloat(score, 64)
		if !ok1 || !ok2 || err != nil {
			return Seen{}, errAnswer
		}
		out.Holds[key] = int64(until)
	}
	for i := 3; i < len(answer); i += 2 {
		name, ok1 := answer[i].(string)
		state, ok2 := answer[i+1].(string)
		if !ok1 || !ok2 {
			return Seen{}, errAnswer
		}
		out.States[name] = state
	}
	return out, nil
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

// Hold implements Store.
func (r *Redis) Hold(ctx context.Context, sink string, h Hold) (until, now int64, err error) {
	got, err := r.conn.Eval(ctx, "share a hold of "+sink, holdScript, []string{r.conn.Keys.Companion(sink, "holds")},
		string(h.Change), h.Key, h.At, h.Probe, aftermath.Microseconds(), mostHolds)
	if err != nil {
		return 0, 0, err
	}
	answer, ok := got.([]any)
	if !ok || len(answer) != 2 {
		return 0, 0, errAnswer
	}
	until, ok1 := answer[0].(int64)
	now, ok2 := answer[1].(int64)
	if !ok1 || !ok2 {
		return 0, 0, errAnswer
	}
	return until, now, nil
}

// Take implements Store.
func (r *Redis) Take(ctx context.Context, sink, receiver string, s Slots) ([]Granted, error) {
	args := []any{s.Interval, s.Tolerance, furthest.Microseconds(), strconv.FormatFloat(s.Random, 'f', -1, 64)}
	var keys []string
	numbers := map[string]int{} // in keys
	for i, latest := range s.Latest {
		meter := s.meterOf(receiver, i)
		if numbers[meter] == 0 {
			keys = append(keys, r.conn.Keys.Rate(sink, meter))
			numbers[meter] = len(keys)
		}
		args = append(args, latest, numbers[meter])
	}
	got, err := r.conn.Eval(ctx, "take slots of "+sink, rateScript, keys, args...)
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
