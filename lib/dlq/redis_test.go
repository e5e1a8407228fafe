package dlq_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/dlq/dlqtest"
)

func TestRedisConformanceEmbedded(t *testing.T) {
	_, c := redistest.Mini(t)
	dlqtest.Run(t, backend(t, c))
}

func TestRedisConformanceSingleNode(t *testing.T) {
	dlqtest.Run(t, backend(t, redistest.Shared(t).Client(t)))
}

func TestRedisConformanceTLSAndACL(t *testing.T) {
	dlqtest.Run(t, backend(t, redistest.Start(t, redistest.WithTLS()).Client(t)))
}

func TestRedisConformanceCluster(t *testing.T) {
	dlqtest.Run(t, backend(t, redistest.StartCluster(t).Client(t)))
}

func TestRedisConformanceShards(t *testing.T) {
	for _, b := range []struct {
		shards int
		c      redis.UniversalClient
	}{{3, redistest.Shared(t).Client(t)}, {16, redistest.StartCluster(t).Client(t)}} {
		t.Run(fmt.Sprintf("%d of a %T", b.shards, b.c), func(t *testing.T) {
			dlqtest.Run(t, backend(t, b.c, dlq.WithShards(func(string) int { return b.shards }), dlq.ShardsAtOnce()))
		})
	}
}

// prefixed is a store that knows its prefix.
type prefixed struct {
	*dlq.Redis
	prefix string
	// apart makes each push one of its own millisecond: the order of dead letters in different shards is that of these.
	apart bool
}

func (p prefixed) Push(ctx context.Context, it dlq.Item) error {
	_, err := p.Add(ctx, it)
	return err
}

func (p prefixed) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	stored, errs := p.AddBatch(ctx, []dlq.Item{it})
	return stored[0], errs[0]
}

func (p prefixed) AddBatch(ctx context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	if !p.apart {
		return p.Redis.AddBatch(ctx, items)
	}
	stored, errs := make([]dlq.Item, len(items)), make([]error, len(items))
	for i, it := range items {
		stored[i], errs[i] = p.Redis.Add(ctx, it)
		nextMillisecond()
	}
	return stored, errs
}

// nextMillisecond waits until the clock tells another millisecond.
func nextMillisecond() {
	for now := time.Now().UnixMilli(); time.Now().UnixMilli() == now; {
		runtime.Gosched()
	}
}

// newStore returns a store with a prefix of its own, whose keys are audited at the end.
func newStore(t *testing.T, c redis.UniversalClient, opts ...dlq.Option) prefixed {
	t.Helper()
	prefix := redistest.Prefix()
	s := prefixed{Redis: dlq.NewRedis(c, append(opts, dlq.WithKeyPrefix(prefix))...), prefix: prefix}
	t.Cleanup(func() { audit(t, c, prefix) })
	return s
}

// backend is the conformance suite's view of a Redis store. Every command is checked
// on its way, and every store's keys at the end.
func backend(t *testing.T, c redis.UniversalClient, always ...dlq.Option) dlqtest.Backend {
	t.Helper()
	c.AddHook(commandCheck{t})
	own := func(t *testing.T, s dlq.Store) prefixed {
		t.Helper()
		p, ok := s.(prefixed)
		if !ok {
			t.Fatalf("store is a %T", s)
		}
		return p
	}
	return dlqtest.Backend{
		New: func(t *testing.T, opts ...dlq.Option) dlq.Store {
			t.Helper()
			s := newStore(t, c, slices.Concat(always, opts)...)
			s.apart = len(always) > 0
			return s
		},
		Append: func(t *testing.T, s dlq.Store, sink string, fields ...string) {
			t.Helper()
			if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: own(t, s).prefix + ":dlq:" + sink, Values: fields}).Err(); err != nil {
				t.Fatal(err)
			}
			if len(always) > 0 {
				nextMillisecond()
			}
		},
		Expire: func(t *testing.T, s dlq.Store, id dlq.ID) {
			t.Helper()
			queue := "{" + own(t, s).prefix + ":dlq:" + id.Queue() + "}:"
			if leased, err := c.HExists(t.Context(), queue+"lease", id.Native).Result(); err != nil || !leased {
				t.Fatalf("%s is not leased: %v", id, err)
			}
			// A lease ends at its score in the due set.
			if err := c.ZAddXX(t.Context(), queue+"due", redis.Z{Score: float64(time.Now().UnixMilli() - 1), Member: id.Native}).Err(); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// audit recomputes from the entries of each queue everything that is kept beside them.
func audit(t *testing.T, c redis.UniversalClient, prefix string) {
	t.Helper()
	ctx := context.Background()
	names, err := c.SMembers(ctx, prefix+":sinks").Result()
	if err != nil {
		t.Errorf("audit: %v", err)
		return
	}
	spread, err := c.HGetAll(ctx, prefix+":dlq:~shards").Result()
	if err != nil {
		t.Errorf("audit: %v", err)
	}
	for _, sink := range append(names, "mail") {
		shards := 1
		if s := spread[sink]; s != "" {
			_, _ = fmt.Sscan(s, &shards)
		}
		for shard := range shards {
			for _, fault := range auditQueue(ctx, c, prefix, dlq.QueueOf(sink, shard)) {
				t.Errorf("audit of shard %d of %s: %s", shard, sink, fault)
			}
		}
	}
}

func auditQueue(ctx context.Context, c redis.UniversalClient, prefix, sink string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	stream := prefix + ":dlq:" + sink
	key := func(name string) string { return "{" + stream + "}:" + name }
	hash := func(name string) map[string]string {
		m, err := c.HGetAll(ctx, key(name)).Result()
		if err != nil {
			fault("%s: %v", name, err)
		}
		return m
	}
	zset := func(name string) map[string]float64 {
		all, err := c.ZRangeWithScores(ctx, key(name), 0, -1).Result()
		if err != nil {
			fault("%s: %v", name, err)
		}
		m := map[string]float64{}
		for _, z := range all {
			id, _ := z.Member.(string)
			m[id] = z.Score
		}
		return m
	}
	messages, err := c.XRange(ctx, stream, "-", "+").Result()
	if err != nil {
		fault("%v", err)
	}
	meta, states, leases, ids, groups := hash("meta"), hash("state"), hash("lease"), hash("ids"), hash("groups")
	due, kept, expires, generations := zset("due"), zset("kept"), zset("expires"), zset("generations")
	cursor := meta["cursor"]
	if cursor == "" {
		cursor = "0-0"
	}
	entries := map[string]map[string]any{}
	idle, parked, expired, wantGroups := 0, 0, 0, map[string]int{}
	for _, m := range messages {
		entries[m.ID] = m.Values
		if g, _ := m.Values["g"].(string); g != "" {
			wantGroups[g]++
		}
		var state struct {
			Parked      bool
			Expired     int64
			DeliveredAt int64 `json:"delivered_at"`
		}
		text, touched := states[m.ID]
		if touched {
			if err := json.Unmarshal([]byte(text), &state); err != nil {
				fault("state of %s: %v", m.ID, err)
			}
		}
		if state.Parked {
			parked++
		}
		if state.Expired > 0 {
			expired++
		}
		if state.Expired > 0 && (state.Parked || state.DeliveredAt > 0) {
			fault("%s: %s", m.ID, text)
		}
		over, inExpires := expires[m.ID]
		if x, ok := m.Values["x"].(string); inExpires != (ok && state.Expired == 0 && state.DeliveredAt == 0) || inExpires && fmt.Sprintf("%.0f", over) != x {
			fault("%s: expires at %q, in the set of those %v, at %.0f; %s", m.ID, x, inExpires, over, text)
		}
		if _, ok := kept[m.ID]; ok != (state.DeliveredAt > 0) {
			fault("%s: kept %v, delivered at %d", m.ID, ok, state.DeliveredAt)
		}
		_, inDue := due[m.ID]
		lease, leased := leases[m.ID]
		switch {
		case leased && !inDue:
			fault("%s is leased and not in the due set", m.ID)
		case leased:
			if strings.HasPrefix(lease, "-|") {
				idle++
			}
		case inDue:
		case touched || m.Values["n"] == "never":
			idle++
		case dlq.CompareNative(m.ID, cursor) <= 0:
			fault("%s is stranded: behind the cursor, not in the due set, not put aside", m.ID)
		}
	}
	for name, m := range map[string]map[string]string{"state": states, "lease": leases} {
		for id := range m {
			if entries[id] == nil {
				fault("%s holds %s, which is gone", name, id)
			}
		}
	}
	for name, m := range map[string]map[string]float64{"due": due, "kept": kept, "expires": expires} {
		for id := range m {
			if entries[id] == nil {
				fault("%s holds %s, which is gone", name, id)
			}
		}
	}
	under := map[string]int{}
	for k, all := range ids {
		for pair := range strings.FieldsSeq(all) {
			content, id, told := strings.Cut(pair, ":")
			if !told {
				content, id = "", pair
			}
			e := entries[id]
			if f, own := e["f"]; e == nil || e["k"] != k || own && told && f != content {
				fault("ids leads %s to %s, which is gone or another's", k, pair)
			}
			under[k]++
		}
	}
	for member := range generations {
		first, id, _ := strings.Cut(member, " ")
		k, _ := entries[id]["k"].(string)
		if _, delivered := kept[id]; delivered || !strings.HasSuffix(k, first) || k == first && lists(ids[k], id) {
			fault("generations holds %s, which is gone, delivered, another's, or in ids", member)
		}
	}
	for id, e := range entries {
		k, _ := e["k"].(string)
		if _, delivered := kept[id]; k != "" && !delivered && !lists(ids[k], id) && under[k] < 100 {
			fault("ids does not lead from %s to %s", k, id)
		}
		first := k[strings.Index(k, ",")+1:]
		if _, indexed := generations[first+" "+id]; k != "" && !indexed && (k != first || !lists(ids[k], id)) {
			if _, delivered := kept[id]; !delivered {
				fault("nothing leads from the delivery %s to %s", first, id)
			}
		}
	}
	gotGroups := map[string]int{}
	for field, value := range groups {
		if g, ok := strings.CutPrefix(field, "n:"); ok {
			gotGroups[g], _ = strconv.Atoi(value)
			if groups["t:"+g] == "" {
				fault("group %s has no text", g)
			}
		} else if groups["n:"+strings.TrimPrefix(field, "t:")] == "" {
			fault("group %s has no count", field)
		}
	}
	if !maps.Equal(gotGroups, wantGroups) {
		fault("groups are %v, want %v", gotGroups, wantGroups)
	}
	faults = append(faults, auditHistory(hash("history"), hash("causes"), messages, gotGroups)...)
	number := func(field string) int {
		n, _ := strconv.Atoi(meta[field])
		return n
	}
	if number("idle") != idle || number("parked") != parked || number("expired") != expired {
		fault("idle %s, parked %s, expired %s; want %d, %d, %d", meta["idle"], meta["parked"], meta["expired"], idle, parked, expired)
	}
	return faults
}

// commandCheck fails the test when a command has too many arguments or a script's keys
// are in several slots.
type commandCheck struct{ t *testing.T }

func (h commandCheck) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h commandCheck) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.check(cmd)
		return next(ctx, cmd)
	}
}

func (h commandCheck) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			h.check(cmd)
		}
		return next(ctx, cmds)
	}
}

func (h commandCheck) check(cmd redis.Cmder) {
	args := cmd.Args()
	if len(args) >= 3999 {
		h.t.Errorf("%s has %d arguments", cmd.Name(), len(args))
	}
	if cmd.Name() != "eval" && cmd.Name() != "evalsha" {
		return
	}
	n, err := strconv.Atoi(fmt.Sprint(args[2]))
	if err != nil {
		h.t.Errorf("number of keys: %v", err)
		return
	}
	slots := map[uint16]bool{}
	for _, k := range args[3 : 3+n] {
		slots[slot(fmt.Sprint(k))] = true
	}
	if len(slots) != 1 {
		h.t.Errorf("keys %v are in %d slots", args[3:3+n], len(slots))
	}
}

// slot is the cluster slot of a key, by the specification: CRC16 (XMODEM) of what is
// between the first { and the next }, if anything, modulo 16384.
func slot(key string) uint16 {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if j := strings.IndexByte(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	var crc uint16
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

// faults is a hook between a store and Redis: its function decides the fate of every
// command and pipeline.
type faults struct {
	mu    sync.Mutex
	calls []string // names of the commands sent, pipelined ones joined by +
	fate  func(ctx context.Context, name string, send func() error) error
}

func (f *faults) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := f.apply(ctx, cmd.Name(), func() error { return next(ctx, cmd) })
		cmd.SetErr(err)
		return err
	}
}

func (f *faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var names []string
		for _, cmd := range cmds {
			names = append(names, cmd.Name())
		}
		names = slices.Compact(names)
		err := f.apply(ctx, strings.Join(names, "+"), func() error { return next(ctx, cmds) })
		for _, cmd := range cmds {
			if err != nil && cmd.Err() == nil {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

func (f *faults) apply(ctx context.Context, name string, send func() error) error {
	f.mu.Lock()
	f.calls = append(f.calls, name)
	fate := f.fate
	f.mu.Unlock()
	if fate == nil || name == "hello" || name == "client" || name == "cluster" || name == "command" {
		return send()
	}
	return fate(ctx, name, send)
}

// sent returns the commands since the last call.
func (f *faults) sent() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := slices.DeleteFunc(f.calls, func(s string) bool { return s == "hello" || strings.HasPrefix(s, "client") })
	f.calls = nil
	return calls
}

// lists reports whether a field of ids leads to an entry.
func lists(pairs, id string) bool {
	return slices.ContainsFunc(strings.Fields(pairs), func(pair string) bool { return pair == id || strings.HasSuffix(pair, ":"+id) })
}

// auditHistory compares what the history counts, and what is known of the groups, with the entries. What
// others wrote is counted by a pass of mend alone.
func auditHistory(history, causes map[string]string, entries []redis.XMessage, groups map[string]int) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	now := time.Now()
	want, foreign := map[string]int64{}, map[string]int64{}
	for _, e := range entries {
		ms, err := strconv.ParseInt(e.ID[:strings.Index(e.ID, "-")], 10, 64)
		if err != nil {
			fault("%v", err)
		}
		g, _ := e.Values["g"].(string)
		if _, own := e.Values["k"]; !own {
			g = ""
		}
		for _, r := range []struct {
			name        string
			width, kept time.Duration
		}{{"m", 5 * time.Minute, 13 * time.Hour}, {"h", time.Hour, 9 * 24 * time.Hour}, {"d", 24 * time.Hour, 92 * 24 * time.Hour}} {
			field := fmt.Sprintf("%s%d:%s", r.name, ms/r.width.Milliseconds(), g)
			if time.UnixMilli(ms).After(now.Add(-r.kept)) {
				want[field]++
			}
			if _, own := e.Values["k"]; !own {
				foreign[field]++
			}
		}
	}
	for field, n := range want {
		v, _ := strconv.ParseInt(history[field], 10, 64)
		if came, there := v>>26, v&(1<<26-1); there != n && there != n-foreign[field] || came < there {
			fault("the history says of %s that %d of %d are there, want %d", field, there, came, n)
		}
	}
	for field, value := range history {
		v, _ := strconv.ParseInt(value, 10, 64)
		if v <= 0 || v&(1<<26-1) != 0 && want[field] == 0 {
			fault("the history says %s of %s, of which there is nothing", value, field)
		}
	}
	for g := range groups {
		for _, what := range []string{"f:", "l:", "t:"} {
			if causes[what+g] == "" {
				fault("group %s has no %s", g, what)
			}
		}
	}
	return faults
}
