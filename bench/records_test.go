package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
)

// BenchmarkRecords stores the records of a million deliveries that were delivered at once, through the scripts of the functions. The
// baseline is a key each, with the JSON that says the same, as they were kept before they shared buckets.
func BenchmarkRecords(b *testing.B) {
	const n = 1_000_000
	ctx := context.Background()
	c := redistest.Start(b).Client(b)
	ours := fillRecords(b, c, n)
	byKey := memoryUsage(b, c) / n

	bare := redistest.Start(b).Client(b)
	before := usedMemory(b, bare)
	for from := 0; from < n; from += 1000 {
		p := bare.Pipeline()
		for i := from; i < from+1000; i++ {
			k := recordKey(i)
			now := time.Now().UTC()
			text, err := json.Marshal(map[string]any{
				"sink": k.Sink, "delivery_id": k.ID, "status": "delivered", "updated_at": now, "began_at": now, "fingerprint": recordContent(i), "attempts": 1,
				"answer": `{"status":"delivered","delivery_id":"` + k.ID + `","attempts":1}`, "token": "0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001",
			})
			ok(b, err)
			p.Set(ctx, fmt.Sprintf("backstop:delivery:%032x", i), text, 24*time.Hour)
		}
		_, err := p.Exec(ctx)
		ok(b, err)
	}
	baseline := (usedMemory(b, bare) - before) / n

	report(b, row{"Redis memory of a record at a million (used_memory; baseline: a key each)", "bytes", ours, baseline, ours, 80, true})
	report(b, row{"the same by MEMORY USAGE of all keys", "bytes", byKey, baseline, byKey, 80, true})
	report(b, bound("server time of a delivery's two calls, beside a million records", "µs", recordTime(b, c), none, none))
	report(b, bound("the same, beside none", "µs", recordTime(b, redistest.Start(b).Client(b)), none, none))
	for _, d := range densities {
		c := redistest.Start(b).Client(b)
		c.AddHook(fold(d.slots))
		used := fillDensely(b, c, d)
		report(b, bound(fmt.Sprintf("Redis memory of a record at %g million a day (used_memory)", d.million), "bytes", used, baseline, none))
		report(b, bound("the same by MEMORY USAGE of all keys", "bytes", memoryUsage(b, c)/d.records(), baseline, none))
		report(b, bound("server time of a delivery's two calls beside these", "µs", recordTime(b, c), none, none))
	}
}

// recordTime is how long a Redis takes for the two scripts of a delivery, in us.
func recordTime(b *testing.B, c redis.UniversalClient) float64 {
	b.Helper()
	const deliveries = 4_000
	ctx := context.Background()
	s := delivery.NewRedis(c, "", 0)
	before := 0.0
	for i := range deliveries + 1 {
		if i == 1 { // the scripts are known
			before = scriptTime(b, c)
		}
		k := recordKey(int(ids.Add(1)) + 1_000_000_000)
		_, _, err := s.Begin(ctx, delivery.Begin{Key: k, Fingerprint: recordContent(i), Token: "t", Lease: time.Minute})
		ok(b, err)
		_, _, err = s.Finish(ctx, k, "t", delivery.Record{
			Sink: k.Sink, ID: k.ID, Status: delivery.StatusDelivered, UpdatedAt: time.Now().UTC(), Fingerprint: recordContent(i), Attempts: 1,
		})
		ok(b, err)
	}
	return (scriptTime(b, c) - before) / deliveries
}

// ids is how many deliveries were timed.
var ids atomic.Int64

// density is so many deliveries a day, of which some of the cluster's slots have their part.
type density struct {
	million float64
	slots   int
}

// densities have as many slots as make a hundred thousand records and more.
var densities = []density{{3, 1024}, {10, 256}, {30, 128}, {100, 32}, {300, 16}, {1000, 8}}

// inTurn is how many records come in a turn: two turns are a day.
func (d density) inTurn() int { return int(d.million * 1e6 / 2 / (1 << 14) * float64(d.slots)) }

func (d density) records() float64 { return float64(3 * d.inTurn()) }

// fillDensely stores three turns of records after one more, by which they know what to expect, and returns what one takes, in bytes.
func fillDensely(b *testing.B, c redis.UniversalClient, d density) float64 {
	b.Helper()
	before := usedMemory(b, c)
	for turn := range 4 {
		if turn > 0 {
			earlier(b, c)
		}
		fillTurn(b, c, turn*d.inTurn(), d.inTurn())
		progress("%g million a day, turn %d", d.million, turn)
	}
	return (usedMemory(b, c) - before) / d.records()
}

// fold is a hook that has all buckets of records in so many slots, as if the others were elsewhere.
type fold int

func (n fold) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		n.rename(cmd)
		return next(ctx, cmd)
	}
}

func (n fold) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			n.rename(cmd)
		}
		return next(ctx, cmds)
	}
}

func (n fold) DialHook(next redis.DialHook) redis.DialHook { return next }

func (n fold) rename(cmd redis.Cmder) {
	if !strings.HasPrefix(cmd.Name(), "eval") {
		return
	}
	args := cmd.Args()
	for i, arg := range args {
		key, _ := arg.(string)
		before, rest, _ := strings.Cut(key, ":delivery:{")
		if tag, after, found := strings.Cut(rest, "}"); found {
			args[i] = fmt.Sprintf("%s:delivery:{%04d}%s", before, crc32.ChecksumIEEE([]byte(tag))%uint32(n), after) //nolint:gosec // a few
		}
	}
}

func recordKey(i int) delivery.Key {
	return delivery.Key{Sink: "orders-webhook", ID: fmt.Sprintf("0198f0c2-7d4e-7c3a-9b1e-%012x", i)}
}

func recordContent(i int) string { return dlq.ContentFingerprint(nil, "", strconv.Itoa(i), nil) }

// fillRecords stores the records of n deliveries that were delivered at once, a third of them in each turn, and returns what one
// takes, in bytes.
func fillRecords(b *testing.B, c redis.UniversalClient, n int) float64 {
	b.Helper()
	before := usedMemory(b, c)
	for turn := range 3 {
		if turn > 0 {
			earlier(b, c)
		}
		fillTurn(b, c, turn*(n/3), n/3)
		progress("%d records", (turn+1)*(n/3))
	}
	return (usedMemory(b, c) - before) / float64(n)
}

// fillTurn stores the records of n deliveries in this turn.
func fillTurn(b *testing.B, c redis.UniversalClient, from, n int) {
	b.Helper()
	const most = 1000
	s := delivery.NewRedis(c, "", 0)
	for at := from; at < from+n; at += most {
		changes := make([]delivery.Change, min(most, from+n-at))
		for i := range changes {
			changes[i] = delivery.Change{Key: recordKey(at + i), Status: delivery.StatusDelivered, Fingerprint: recordContent(at + i)}
		}
		_, err := s.Update(context.Background(), changes...)
		ok(b, err)
	}
}

// earlier makes the buckets of this turn those of the one before, and these those of the one before that, whose own are gone.
func earlier(b *testing.B, c redis.UniversalClient) {
	b.Helper()
	ctx := context.Background()
	keys, err := c.Keys(ctx, "backstop:delivery:{*").Result()
	ok(b, err)
	turn := redisconn.Turn(delivery.DefaultTTL)
	now := time.Now().UnixMilli() / turn.Milliseconds()
	length := fmt.Sprintf("}:%d:", turn.Milliseconds())
	p := c.Pipeline()
	for _, ago := range []int64{2, 1, 0} {
		of := strconv.FormatInt((now-ago+3)%3, 10)
		for _, k := range keys {
			slot, rest, _ := strings.Cut(k, length)
			after, found := strings.CutPrefix(rest, of)
			switch {
			case !found:
			case ago == 2:
				p.Del(ctx, k)
			default:
				p.Rename(ctx, k, fmt.Sprint(slot, length, (now-ago+2)%3, after))
			}
		}
	}
	_, err = p.Exec(ctx)
	ok(b, err)
}

// usedMemory is what a Redis takes in all, in bytes.
func usedMemory(b *testing.B, c redis.UniversalClient) float64 {
	b.Helper()
	return infoNumber(b, c, "memory", "used_memory:")
}

// scriptTime is how long a Redis has run scripts, in us.
func scriptTime(b *testing.B, c redis.UniversalClient) float64 {
	b.Helper()
	return infoNumber(b, c, "commandstats", "cmdstat_evalsha:calls=") // see infoNumber
}

// infoNumber is the number behind a name in INFO; of a command, its usec.
func infoNumber(b *testing.B, c redis.UniversalClient, section, name string) float64 {
	b.Helper()
	info, err := c.Info(context.Background(), section).Result()
	ok(b, err)
	_, after, found := strings.Cut(info, name)
	if section == "commandstats" && found {
		_, after, found = strings.Cut(after, "usec=")
	}
	number, _, _ := strings.Cut(after, ",")
	number, _, _ = strings.Cut(number, "\r")
	v, err := strconv.ParseFloat(number, 64)
	if !found || err != nil {
		b.Fatalf("no %s in %s: %v", name, info, err)
	}
	return v
}

// memoryUsage is MEMORY USAGE of all keys together, in bytes.
func memoryUsage(b *testing.B, c redis.UniversalClient) (sum float64) {
	b.Helper()
	ctx := context.Background()
	cursor := uint64(0)
	for {
		keys, next, err := c.Scan(ctx, cursor, "*", 1000).Result()
		ok(b, err)
		p := c.Pipeline()
		sizes := make([]*redis.IntCmd, len(keys))
		for i, k := range keys {
			sizes[i] = p.MemoryUsage(ctx, k, 0)
		}
		if len(keys) > 0 {
			_, err = p.Exec(ctx)
			ok(b, err)
		}
		for _, size := range sizes {
			sum += float64(size.Val())
		}
		if cursor = next; cursor == 0 {
			return sum
		}
	}
}
