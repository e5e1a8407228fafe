package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
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
	tables := fillRecords(b, redistest.Start(b, hashTables).Client(b), n)

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

	report(b, row{"the same where buckets are hash tables", "bytes", tables, baseline, tables, none, true})

	const deliveries = 20_000
	s := delivery.NewRedis(c, "", 0)
	time0 := scriptTime(b, c)
	for i := range deliveries {
		k := recordKey(n + i)
		_, _, err := s.Begin(ctx, delivery.Begin{Key: k, Fingerprint: recordContent(i), Token: "t", Lease: time.Minute})
		ok(b, err)
		_, _, err = s.Finish(ctx, k, "t", delivery.Record{
			Sink: k.Sink, ID: k.ID, Status: delivery.StatusDelivered, UpdatedAt: time.Now().UTC(), Fingerprint: recordContent(i), Attempts: 1,
		})
		ok(b, err)
	}
	report(b, row{"server time of a delivery's two calls, beside a million records", "us", (scriptTime(b, c) - time0) / deliveries, none, none, none, true})
}

// hashTables is a Redis that has a hash table for each bucket, as others have for a large one.
var hashTables = redistest.WithConfig("hash-max-listpack-entries", "8")

func recordKey(i int) delivery.Key {
	return delivery.Key{Sink: "orders-webhook", ID: fmt.Sprintf("0198f0c2-7d4e-7c3a-9b1e-%012x", i)}
}

func recordContent(i int) string { return dlq.ContentFingerprint(nil, "", strconv.Itoa(i), nil) }

// fillRecords stores the records of n deliveries that were delivered at once, a third of them in each turn, and returns what one
// takes, in bytes.
func fillRecords(b *testing.B, c redis.UniversalClient, n int) float64 {
	b.Helper()
	const at = 1000
	s := delivery.NewRedis(c, "", 0)
	before := usedMemory(b, c)
	for from := 0; from < n; from += at {
		changes := make([]delivery.Change, at)
		for i := range changes {
			changes[i] = delivery.Change{Key: recordKey(from + i), Status: delivery.StatusDelivered, Fingerprint: recordContent(from + i)}
		}
		_, err := s.Update(context.Background(), changes...)
		ok(b, err)
		if done := from + at; done%(n/3) < at && done < n {
			earlier(b, c)
			progress("%d records", done)
		}
	}
	return (usedMemory(b, c) - before) / float64(n)
}

// earlier makes the buckets of this turn those of the one before, and these those of the one before that.
func earlier(b *testing.B, c redis.UniversalClient) {
	b.Helper()
	ctx := context.Background()
	keys, err := c.Keys(ctx, "backstop:delivery:{*").Result()
	ok(b, err)
	turn := redisconn.Turn(delivery.DefaultTTL)
	now := time.Now().UnixMilli() / turn.Milliseconds()
	for _, ago := range []int64{1, 0} {
		p := c.Pipeline()
		for _, k := range keys {
			if base, found := strings.CutSuffix(k, fmt.Sprint(":", (now-ago+3)%3)); found {
				p.Rename(ctx, k, fmt.Sprint(base, ":", (now-ago+2)%3))
			}
		}
		_, err := p.Exec(ctx)
		ok(b, err)
	}
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
