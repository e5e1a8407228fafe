package dlq

import (
	"context"
	"math"
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
	means  map[string]int       // bytes of a sink's entry, in the mean of what was read last
}

// NewRedis returns a store on client: a single node, failover or cluster client. It
// does no I/O. The client stays the caller's to close.
func NewRedis(client redis.UniversalClient, opts ...Option) *Redis {
	o := newOptions(opts)
	return &Redis{
		conn: redisconn.New(client, o.prefix, fault.CodeDLQUnavailable), opts: o, known: map[string]time.Time{}, means: map[string]int{},
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
	names, err := namesOf(ctx, r, sink)
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
func (r *Redis) change(ctx context.Context, op string, s *redis.Script, id ID, mustExist bool) error {
	answer, err := r.conn.Eval(ctx, op, s, r.conn.Keys.Queue(id.Sink), id.Native)
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
	fields, err := redisconn.Ask(ctx, r.conn, "progress", func(ctx context.Context) (map[string]string, error) {
		return r.conn.Client.HGetAll(ctx, r.conn.Keys.Counts(sink, operation)).Result()
	})
	return OperationCounts{
		Settled: number(fields["settled"]), Delivered: number(fields["delivered"]),
		Failed: number(fields["failed"]), Discarded: number(fields["discarded"]), Expired: number(fields["expired"]),
	}, err
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
func (r *Redis) mend(ctx context.Context, sink string) bool {
	for range mendSteps {
		answer, err := r.conn.Eval(ctx, "mend", mendScript, r.conn.Keys.Queue(sink), mendLooks, mendBytes, flags[r.opts.journal], journalUnused.Milliseconds())
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
	if err := fault.CheckName(sink); err != nil {
		return Stats{}, err
	}
	st, wrong, err := r.stats(ctx, sink)
	if err != nil {
		return Stats{}, err
	}
	if st.Depth > 0 {
		r.touched(ctx, sink)
	}
	if wrong {
		st = r.mendedStats(ctx, sink, st)
	}
	return st, nil
}

// mendedStats goes on with mending a queue; where that fails, st is what is known of it.
func (r *Redis) mendedStats(ctx context.Context, sink string, st Stats) Stats {
	if r.mend(ctx, sink) {
		if mended, _, err := r.stats(ctx, sink); err == nil {
			return mended
		}
	}
	return st
}

// stats also reports whether there is something to mend.
func (r *Redis) stats(ctx context.Context, sink string) (st Stats, wrong bool, err error) {
	answer, err := r.conn.Eval(ctx, "stats", statsScript, r.conn.Keys.Queue(sink), r.statsArgs()...)
	if err != nil {
		return st, false, err
	}
	return r.readStats(answer)
}

func (r *Redis) statsArgs() []any {
	return []any{mendEvery.Milliseconds(), mendPause.Milliseconds(), statsLeases, flags[r.opts.journal]}
}

// StatsOf implements Store.
func (r *Redis) StatsOf(ctx context.Context, sinks []string) ([]Stats, error) {
	calls := make([]redisconn.Call, len(sinks))
	for i, sink := range sinks {
		if err := fault.CheckName(sink); err != nil {
			return nil, err
		}
		calls[i] = redisconn.Call{Keys: r.conn.Keys.Queue(sink), Args: r.statsArgs()}
	}
	answers, err := r.conn.EvalAll(ctx, "stats", statsScript, calls)
	if err != nil {
		return nil, err
	}
	all := make([]Stats, len(sinks))
	var filled []string
	var wrong []int
	for i, answer := range answers {
		var isWrong bool
		if all[i], isWrong, err = r.readStats(answer); err != nil {
			return nil, err
		}
		if all[i].Depth > 0 {
			filled = append(filled, sinks[i])
		}
		if isWrong {
			wrong = append(wrong, i)
		}
	}
	r.touched(ctx, filled...)
	for _, i := range wrong[:min(len(wrong), mendQueues)] {
		all[i] = r.mendedStats(ctx, sinks[i], all[i])
	}
	return all, nil
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
