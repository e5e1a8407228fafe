package dlq

import (
	"context"
	_ "embed" // the script
	"slices"
	"sync"
	"time"

	"backstop/internal/redisconn"
)

//go:embed shards.lua
var shardsSource string

var shardsScript = redisconn.NewScript(func() string { return join(clockSource, shardsSource) })

// A number of shards that is new holds once every process knows it: each reads the numbers again before it uses them after
// spreadFor, and the pushes of the new one begin after twice that. So whoever looks for a dead letter looks wherever it may be.
const spreadFor = time.Minute

// spread is over how many shards a sink's dead letters are: all that may have one, and what pushes go by now.
type spread struct{ most, now int }

// spreads are what a process knows of all sinks that have more than one shard. The zero value knows nothing.
type spreads struct {
	mu   sync.Mutex
	at   time.Time // when they were read, without a monotonic clock: that stands still while a function is frozen
	sink map[string]spread
}

// spread returns how a sink is spread, and, for who pushes, begins to spread it further where it is to have more shards. Among many
// sinks it does not wait long for Redis. Where the number was lost, dead letters are looked for where the configuration says.
func (r *Redis) spread(ctx context.Context, sink string, pushes bool, among int) (spread, error) {
	want := shards(r.opts.shards(sink))
	if s, ok := r.spreads.known(sink, want, pushes, spreadFor); ok {
		return s, nil
	}
	start := time.Now().Round(0)
	named := sink
	if !pushes || want == 1 {
		named = ""
	}
	var answer any
	err := r.conn.DoAll(ctx, "shards", among, func(ctx context.Context) (err error) {
		answer, err = shardsScript().Run(ctx, r.conn.Client, []string{r.conn.Keys.Shards()}, r.opts.shardsHold.Milliseconds(), named, want).Result()
		return err
	})
	if err != nil {
		return r.spreads.stillKnown(sink, want, err)
	}
	a, ok := answer.([]any)
	if !ok || len(a)%3 != 0 {
		return spread{}, redisconn.Unexpected("shards", answer)
	}
	all := make(map[string]spread, len(a)/3)
	for of := range slices.Chunk(a, 3) {
		all[text(of[0])] = spread{most: shards(number(of[1])), now: shards(number(of[2]))}
	}
	r.spreads.mu.Lock()
	r.spreads.at, r.spreads.sink = start, all
	r.spreads.mu.Unlock()
	s, _ := r.spreads.known(sink, want, pushes, spreadFor)
	return s, nil
}

// known returns what is known of a sink, and whether that was read within age and is all that is needed.
func (k *spreads) known(sink string, want int, pushes bool, within time.Duration) (spread, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.sink[sink]
	if !ok {
		s = spread{1, 1}
	}
	age := time.Since(k.at)
	enough := !pushes || want <= s.most
	s.most = max(s.most, want)
	return s, age >= 0 && age < within && enough
}

// stillKnown is known where the numbers cannot be read again: they are good until pushes of a newer one may begin, those of who wants
// more shards too.
func (k *spreads) stillKnown(sink string, want int, err error) (spread, error) {
	if s, ok := k.known(sink, want, false, spreadFor*3/2); ok {
		return s, nil
	}
	return spread{}, err
}

// shards is a number of shards within what there can be.
func shards[N int | int64](n N) int { return int(min(max(n, 1), MaxShards)) }

// queues returns the names of all queues that may have dead letters of a sink. The first is shard 0.
func (r *Redis) queues(ctx context.Context, sink string) ([]string, error) {
	return r.queuesAmong(ctx, sink, 1)
}

// queuesAmong is queues for one of several sinks.
func (r *Redis) queuesAmong(ctx context.Context, sink string, among int) ([]string, error) {
	s, err := r.spread(ctx, sink, false, among)
	if err != nil {
		return nil, err
	}
	names := make([]string, s.most)
	for i := range names {
		names[i] = queueOf(sink, i)
	}
	return names, nil
}

// queuesOf returns the queues of the sink asked for, or of all when sink is empty.
func (r *Redis) queuesOf(ctx context.Context, sink string) ([]string, error) {
	names, err := namesOf(ctx, r, sink)
	if err != nil {
		return nil, err
	}
	among := 1
	if sink == "" {
		among = 2 // or more, by and by
	}
	all := make([]string, 0, len(names))
	for _, name := range names {
		queues, err := r.queuesAmong(ctx, name, among)
		if err != nil {
			return nil, err
		}
		all = append(all, queues...)
	}
	return all, nil
}

// places returns the queues that may have dead letters of a delivery; the last one is the likeliest.
func (r *Redis) places(ctx context.Context, sink, deliveryKey string) ([]string, error) {
	s, err := r.spread(ctx, sink, false, 1)
	if err != nil {
		return nil, err
	}
	return placeNames(sink, deliveryKey, s.most), nil
}

func placeNames(sink, deliveryKey string, n int) []string {
	if n == 1 {
		return []string{sink}
	}
	at := placesOf(deliveryKey, n)
	names := make([]string, len(at))
	for i, shard := range at {
		names[i] = queueOf(sink, shard)
	}
	return names
}

// home returns the queue that a dead letter of a delivery is pushed to, and the others that may have one.
func (r *Redis) home(ctx context.Context, sink, deliveryKey string) (queue string, others []string, err error) {
	s, err := r.spread(ctx, sink, true, 1)
	if err != nil {
		return "", nil, err
	}
	if s.most == 1 {
		return sink, nil, nil
	}
	now := placesOf(deliveryKey, min(shards(r.opts.shards(sink)), s.now))
	queue = queueOf(sink, now[len(now)-1])
	others = slices.DeleteFunc(placeNames(sink, deliveryKey, s.most), func(name string) bool { return name == queue })
	return queue, others, nil
}

// each calls f for each queue, at once, and returns their first error by the order of the queues.
func each(queues []string, f func(i int, queue string) error) error {
	if len(queues) == 1 {
		return f(0, queues[0])
	}
	errs := make([]error, len(queues))
	var wg sync.WaitGroup
	for i, queue := range queues {
		wg.Go(func() { errs[i] = f(i, queue) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
