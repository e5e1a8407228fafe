package dlq

import (
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"

	"github.com/redis/go-redis/v9"
)

// Redis is a Store on Redis or Valkey Streams, one stream per sink (the keys
// stand in internal/redisconn). It is safe for concurrent use, across processes too, and
// keeps nothing that a cold process would miss.
//
// Every call can be repeated after a lost reply and repeats itself after network
// errors and passing answers until its context ends; each try gets a quarter of the
// time, which the client must honour (ContextTimeoutEnabled).
type Redis struct {
	conn *redisconn.Conn
	opts options

	mu     sync.Mutex
	lookup RegistryLookup
	known  map[string]time.Time // when a sink was last added to the set of sinks
	means  map[string]int       // bytes of a queue's entry, in the mean of what was read last

	spreads spreads
	rooms   map[string]room // of sinks with several queues
}

// NewRedis returns a store on client: a single node, failover or cluster client. It
// does no I/O. The client stays the caller's to close.
func NewRedis(client redis.UniversalClient, opts ...Option) *Redis {
	o := newOptions(opts)
	return &Redis{
		conn: redisconn.New(client, o.prefix, fault.CodeDLQUnavailable), opts: o, known: map[string]time.Time{}, means: map[string]int{}, rooms: map[string]room{},
	}
}

var _ Store = (*Redis)(nil)

// SetRegistryLookup implements Store.
func (r *Redis) SetRegistryLookup(l RegistryLookup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lookup = l
}

// rememberEvery is how often a process that pushes repeats that a sink exists.
const rememberEvery = 5 * time.Minute

// touched remembers a sink that was found to have dead letters: others may have written
// them under a name that nobody pushed to. What was asked for does not fail when that does:
// whoever asks next tries again.
func (r *Redis) touched(ctx context.Context, sinks ...string) { _ = r.remember(ctx, sinks...) }

// remember adds sinks to the set of sinks, before the first push of each by this process and
// now and then, so that every process finds their dead letters.
func (r *Redis) remember(ctx context.Context, sinks ...string) error {
	now := time.Now()
	r.mu.Lock()
	var fresh []any
	for _, sink := range sinks {
		if at, ok := r.known[sink]; !ok || now.Sub(at) >= rememberEvery {
			fresh = append(fresh, sink)
		}
	}
	r.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	err := r.conn.Do(ctx, "push", func(ctx context.Context) error {
		return r.conn.Client.SAdd(ctx, r.conn.Keys.Sinks(), fresh...).Err()
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sink := range sinks {
		r.known[sink] = now
	}
	return nil
}

// Sinks implements Store.
func (r *Redis) Sinks(ctx context.Context) ([]string, error) {
	names, err := redisconn.Ask(ctx, r.conn, "sinks", func(ctx context.Context) ([]string, error) {
		return r.conn.Client.SMembers(ctx, r.conn.Keys.Sinks()).Result()
	})
	if err != nil {
		return nil, err
	}
	return unite(names, r.opts.sinks()), nil
}

// Count implements DLQ.
func (r *Redis) Count(ctx context.Context, sink string) (int64, error) {
	names, err := r.queuesOf(ctx, sink)
	if err != nil {
		return -1, err
	}
	var sum int64
	err = r.conn.DoAll(ctx, "count", len(names), func(ctx context.Context) error {
		cmds := make([]*redis.IntCmd, len(names))
		p := r.conn.Client.Pipeline()
		for i, name := range names {
			cmds[i] = p.XLen(ctx, r.conn.Keys.Stream(name))
		}
		if _, err := p.Exec(ctx); err != nil {
			return err
		}
		sum = 0
		for _, c := range cmds {
			sum += c.Val()
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	if sink != "" && sum > 0 {
		r.touched(ctx, sink)
	}
	return sum, nil
}

// Discard implements DLQ.
func (r *Redis) Discard(ctx context.Context, id string) error {
	parsed, err := r.resolve(ctx, id)
	if fault.CodeOf(err) == fault.CodeDLQNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return r.change(ctx, "discard", discardScript, parsed, false)
}

// Unpark implements Store.
func (r *Redis) Unpark(ctx context.Context, id string) error {
	parsed, err := r.resolve(ctx, id)
	if err != nil {
		return err
	}
	return r.change(ctx, "unpark", unparkScript, parsed, true)
}

// change runs a script on one item that nobody may lease.
func (r *Redis) change(ctx context.Context, op string, s redisconn.Script, id ID, mustExist bool) error {
	answer, err := r.conn.Eval(ctx, op, s, r.conn.Keys.Queue(id.queue()), id.Native)
	switch {
	case err != nil:
		return err
	case answer == int64(-1):
		return leasedError(id)
	case answer == int64(0) && mustExist:
		return notFoundError(id)
	}
	return nil
}

// Replay implements DLQ.
func (r *Redis) Replay(ctx context.Context, id string) error {
	parsed, err := r.resolve(ctx, id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	lookup := r.lookup
	r.mu.Unlock()
	return replay(ctx, r, lookup, parsed)
}

// Pause implements Store.
func (r *Redis) Pause(ctx context.Context, sink string, paused bool) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	flag := "0"
	if paused {
		flag = "1"
	}
	_, err := r.conn.Eval(ctx, "pause", pauseScript, r.conn.Keys.Queue(sink), flag)
	return err
}

// Gate implements Store.
func (r *Redis) Gate(ctx context.Context, sink, token string, ttl time.Duration) (bool, error) {
	if err := checkGate(sink, token, ttl); err != nil {
		return false, err
	}
	answer, err := r.conn.Eval(ctx, "gate", gateScript, r.conn.Keys.Queue(sink), token, ttl.Milliseconds())
	return answer == int64(1), err
}

// Ungate implements Store.
func (r *Redis) Ungate(ctx context.Context, sink, token string) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	_, err := r.conn.Eval(ctx, "ungate", gateScript, r.conn.Keys.Queue(sink), token, 0)
	return err
}

// Progress implements Store.
func (r *Redis) Progress(ctx context.Context, operation, sink string) (OperationCounts, error) {
	if err := checkProgress(operation, sink); err != nil {
		return OperationCounts{}, err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return OperationCounts{}, err
	}
	var sum OperationCounts
	err = r.conn.DoAll(ctx, "progress", len(queues), func(ctx context.Context) error {
		p := r.conn.Client.Pipeline()
		all := make([]*redis.MapStringStringCmd, len(queues))
		for i, queue := range queues {
			all[i] = p.HGetAll(ctx, r.conn.Keys.Counts(queue, operation))
		}
		if _, err := p.Exec(ctx); err != nil {
			return err
		}
		sum = OperationCounts{}
		for _, c := range all {
			fields := c.Val()
			sum.Settled += number(fields["settled"])
			sum.Delivered += number(fields["delivered"])
			sum.Failed += number(fields["failed"])
			sum.Discarded += number(fields["discarded"])
			sum.Expired += number(fields["expired"])
		}
		return nil
	})
	return sum, err
}

// What is kept beside the streams is put in order in steps (mend.lua): Stats, which shows
// it and which every tick asks for every queue, drives them. A pass begins every mendEvery,
// and at once where there is more beside a stream than entries in it.
const (
	mendEvery  = time.Hour
	mendPause  = time.Second // between two calls that go on with a pass
	mendSteps  = 4           // of one call
	mendLooks  = 100         // entries that one step looks at
	mendBytes  = 256 << 10   // and how much of them
	mendQueues = 4           // of one call about several

	// journalUnused is how long nobody has worked on a journal that is given up, by stores that know of none.
	journalUnused = 7 * 24 * time.Hour
)

// mend goes on with a queue's pass and reports whether it did anything. It may fail: what
// was read before stands, and whoever asks next goes on.
func (r *Redis) mend(ctx context.Context, queue string) bool {
	for range mendSteps {
		answer, err := r.conn.Eval(ctx, "mend", mendScript, r.conn.Keys.Queue(queue), mendLooks, mendBytes, flags[r.opts.journal], journalUnused.Milliseconds())
		if err != nil {
			return false
		}
		if answer != int64(1) {
			break
		}
	}
	return true
}

// statsLeases is how many leases a count of the states looks at.
const statsLeases = 1000

// Stats implements Store.
func (r *Redis) Stats(ctx context.Context, sink string) (Stats, error) {
	all, err := r.statsOf(ctx, []string{sink}, MaxShards)
	if err != nil {
		return Stats{}, err
	}
	return all[0], nil
}

// StatsOf implements Store.
func (r *Redis) StatsOf(ctx context.Context, sinks []string) ([]Stats, error) {
	return r.statsOf(ctx, sinks, mendQueues)
}

// statsOf goes on with mending some queues that need it; where that fails, what is known of them stands.
func (r *Redis) statsOf(ctx context.Context, sinks []string, mends int) ([]Stats, error) {
	var queues []string
	ends := make([]int, len(sinks)) // of each sink's queues
	for i, sink := range sinks {
		if err := fault.CheckName(sink); err != nil {
			return nil, err
		}
		its, err := r.queuesAmong(ctx, sink, len(sinks))
		if err != nil {
			return nil, err
		}
		queues = append(queues, its...)
		ends[i] = len(queues)
	}
	parts, wrong, err := r.stats(ctx, queues)
	if err != nil {
		return nil, err
	}
	all := make([]Stats, len(sinks))
	var filled []string
	for i, at := 0, 0; i < len(sinks); at, i = ends[i], i+1 {
		all[i] = together(parts[at:ends[i]])
		if all[i].Depth > 0 {
			filled = append(filled, sinks[i])
		}
	}
	r.touched(ctx, filled...)
	for _, q := range wrong[:min(len(wrong), mends)] {
		if !r.mend(ctx, queues[q]) {
			continue
		}
		if mended, _, err := r.stats(ctx, queues[q:q+1]); err == nil {
			parts[q] = mended[0]
			i, _ := slices.BinarySearch(ends, q+1)
			from := 0
			if i > 0 {
				from = ends[i-1]
			}
			all[i] = together(parts[from:ends[i]])
		}
	}
	return all, nil
}

// stats also returns the indexes of those that have something to mend.
func (r *Redis) stats(ctx context.Context, queues []string) (parts []Stats, wrong []int, err error) {
	calls := make([]redisconn.Call, len(queues))
	for i, queue := range queues {
		calls[i] = redisconn.Call{Keys: r.conn.Keys.Queue(queue), Args: []any{mendEvery.Milliseconds(), mendPause.Milliseconds(), statsLeases, flags[r.opts.journal]}}
	}
	answers, err := r.conn.EvalAll(ctx, "stats", statsScript, calls)
	if err != nil {
		return nil, nil, err
	}
	parts = make([]Stats, len(queues))
	for i, answer := range answers {
		var isWrong bool
		if parts[i], isWrong, err = r.readStats(answer); err != nil {
			return nil, nil, err
		}
		if isWrong {
			wrong = append(wrong, i)
		}
	}
	return parts, wrong, nil
}

// together is what is known of a sink, by its queues. What is of the whole sink stands with shard 0, and each
// delivery's cancellation is noted there too.
func together(parts []Stats) Stats {
	all := parts[0]
	all.States = maps.Clone(all.States)
	for _, p := range parts[1:] {
		all.Depth += p.Depth
		all.Remaining += p.Remaining
		all.Overdue += p.Overdue
		all.Kept += p.Kept
		all.Parked += p.Parked
		all.Trimmed += p.Trimmed
		all.Retired += p.Retired
		all.New += p.New
		for state, n := range p.States {
			all.States[state] += n
		}
		if !p.OldestAt.IsZero() && (all.OldestAt.IsZero() || p.OldestAt.Before(all.OldestAt)) {
			all.OldestAt = p.OldestAt
		}
		if p.NewestID != "" && (all.NewestID == "" || CompareNative(p.NewestID, all.NewestID) > 0) {
			all.NewestID = p.NewestID
		}
		all.Journal = all.Journal.with(p.Journal)
	}
	return all
}

// readStats reads the script's answer.
func (r *Redis) readStats(answer any) (st Stats, wrong bool, err error) {
	a, ok := answer.([]any)
	if want := map[bool]int{false: 19, true: 23}; !ok || len(a) != want[r.opts.journal] {
		return st, false, redisconn.Unexpected("stats", answer)
	}
	depth := number(a[0])
	within := func(v any) int64 { return min(max(number(v), 0), depth) } // until it is mended
	idle := within(a[4])                                                 // delivered, expired, parked or waiting, leased ones included
	expired := within(a[13])
	st = Stats{
		Depth: depth, NewestID: text(a[2]), Kept: within(a[3]), Parked: within(a[5]), Remaining: depth - idle,
		Overdue: within(a[15]), Canceled: number(a[16]),
		Trimmed: number(a[6]), Retired: number(a[17]), New: number(a[18]), Paused: text(a[7]) != "", States: map[State]int64{},
	}
	rest := depth
	for _, c := range []struct {
		state State
		n     int64
	}{
		{StateDelivered, st.Kept},
		{StateReplaying, number(a[9])},
		{StateExpired, expired - number(a[14])},
		{StateParked, st.Parked - number(a[10])},
		{StateWaiting, idle - st.Kept - expired - st.Parked - number(a[11])},
		{StateScheduled, number(a[12])},
		{StateDue, depth},
	} {
		if n := min(max(c.n, 0), rest); n > 0 {
			st.States[c.state] = n
			rest -= n
		}
	}
	if oldest := text(a[1]); oldest != "" {
		st.OldestAt = entry{native: oldest}.pushedAt()
	}
	if r.opts.journal {
		st.Journal, err = journalView(a[19:])
	}
	return st, a[8] == int64(1), err
}

// number reads a number of a script's answer; absent ones are 0.
func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsInf(f, 0) {
			return 0
		}
		return int64(f)
	}
	return 0
}

// text reads a string of a script's answer; absent ones are empty.
func text(v any) string {
	s, _ := v.(string)
	return s
}
