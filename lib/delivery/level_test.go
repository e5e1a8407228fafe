package delivery_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
)

// full is how many records a bucket takes.
const full = 112

// crowdIn adds so many others to a bucket.
func crowdIn(t *testing.T, c redis.UniversalClient, bucket string, n int) {
	t.Helper()
	fields := make([]any, 0, 2*n)
	for i := range n {
		fields = append(fields, fmt.Sprintf("other%07d", i), "fingerpri1234123")
	}
	if err := c.HSet(t.Context(), bucket, fields...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expire(t.Context(), bucket, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
}

// thisTurn is which of the three turns it is by the clock of Redis.
func thisTurn(t *testing.T, c redis.UniversalClient) int {
	t.Helper()
	now, err := c.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(now.UnixNano() / int64(turn) % 3)
}

// where tells where a record is, its own key or a bucket's level and turn, and checks that it is nowhere else.
func where(t *testing.T, c redis.UniversalClient, prefix string, k delivery.Key) string {
	t.Helper()
	_, there, _ := bucketsOf(t, c, prefix, k)
	var found []string
	for i, is := range there {
		switch {
		case is && i == 0:
			found = append(found, "own")
		case is:
			found = append(found, fmt.Sprintf("level %d, %d ago", (i-1)/3, (thisTurn(t, c)-(i-1)%3+3)%3))
		}
	}
	if len(found) > 1 {
		t.Errorf("%s is in %q, want one place", k.ID, found)
	}
	return strings.Join(found, ", ")
}

// later is what a turn's end makes of all buckets. What is two turns old goes.
func later(t *testing.T, c redis.UniversalClient, prefix string) {
	t.Helper()
	keys, err := c.Keys(t.Context(), prefix+":delivery:{*").Result()
	if err != nil {
		t.Fatal(err)
	}
	this, length := thisTurn(t, c), fmt.Sprintf("}:%d:", turn.Milliseconds())
	for ago := 2; ago >= 0; ago-- {
		of := fmt.Sprint((this - ago + 3) % 3)
		for _, k := range keys {
			slot, rest, _ := strings.Cut(k, length)
			after, found := strings.CutPrefix(rest, of)
			if !found {
				continue
			}
			if ago == 2 {
				err = c.Del(t.Context(), k).Err()
			} else {
				err = c.Rename(t.Context(), k, fmt.Sprint(slot, length, (this-ago+2)%3, after)).Err()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// oneSlot is a hook that has all buckets of records in one slot of a cluster, as if there were so many more.
type oneSlot struct{}

func (oneSlot) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o oneSlot) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		o.rename(cmd)
		return next(ctx, cmd)
	}
}

func (o oneSlot) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			o.rename(cmd)
		}
		return next(ctx, cmds)
	}
}

func (oneSlot) rename(cmd redis.Cmder) {
	for i, arg := range cmd.Args() {
		key, _ := arg.(string)
		before, rest, _ := strings.Cut(key, ":delivery:{")
		if _, after, found := strings.Cut(rest, "}:"); found {
			cmd.Args()[i] = before + ":delivery:{slot}:" + after
		}
	}
}

// However many are delivered in a turn, each is found, by who has seen none of them too, and no bucket has more than Redis packs. The next
// turn begins where the one before it was.
func TestManyRecordsStayPacked(t *testing.T) {
	c := redistest.Start(t, redistest.WithConfig("hash-max-listpack-entries", "128")).Client(t)
	c.AddHook(oneSlot{})
	s := delivery.NewRedis(c, "", 0)
	k := func(turn, i int) delivery.Key { return delivery.Key{Sink: "ops", ID: fmt.Sprintf("d%d-%d", turn, i)} }
	turns := []int{3000, 3000, 20} // records
	deepest := []string{"12", "2", "2"}
	for turn, n := range turns {
		if turn > 0 {
			later(t, c, redisconn.DefaultPrefix)
		}
		changes := make([]delivery.Change, n)
		for i := range changes {
			changes[i] = delivery.Change{Key: k(turn, i), Status: delivery.StatusDelivered, Fingerprint: content}
		}
		for part := range slices.Chunk(changes, 10) { // few that do not know yet of a level that is new
			if _, err := s.Update(t.Context(), part...); err != nil {
				t.Fatal(err)
			}
		}
		first := fmt.Sprintf("backstop:delivery:{slot}:%d:%d", (12 * time.Hour).Milliseconds(), thisTurn(t, c))
		if got, err := c.HGet(t.Context(), first, "levels").Result(); err != nil || got != deepest[turn] {
			t.Errorf("turn %d is on levels %q, want %q, %v", turn, got, deepest[turn], err)
		}
	}
	for turn, n := range turns {
		for i := range n {
			if r := recordOf(t, delivery.NewRedis(c, "", 0), k(turn, i)); r.Status != delivery.StatusDelivered || !r.IsOf(content) {
				t.Fatalf("%v: %+v", k(turn, i), r)
			}
		}
	}
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) < 40 {
		t.Fatalf("there are %d keys, %v", len(keys), err)
	}
	for _, bucket := range keys {
		encoding, err := c.ObjectEncoding(t.Context(), bucket).Result()
		ttl := c.TTL(t.Context(), bucket).Val()
		if err != nil || encoding != "listpack" || ttl < delivery.DefaultTTL-time.Minute {
			t.Errorf("%s is a %s of %d for %s, %v", bucket, encoding, c.HLen(t.Context(), bucket).Val(), ttl, err)
		}
	}
	// After a turn of few, it is the first level again.
	later(t, c, redisconn.DefaultPrefix)
	deliver(t, s, delivery.Begin{Key: key, Fingerprint: content}, 1)
	if levels := c.HGet(t.Context(), fmt.Sprintf("backstop:delivery:{slot}:%d:%d", turn.Milliseconds(), thisTurn(t, c)), "levels").Val(); levels != "" {
		t.Errorf("after a turn of few: levels %q", levels)
	}
}

// On each level a record is found, since each turn, and moves when it is told again: it is in one place.
func TestARecordIsInOnePlaceOnAnyLevel(t *testing.T) {
	for name, c := range map[string]redis.UniversalClient{"redis-server": redistest.Shared(t).Client(t), "a cluster": redistest.StartCluster(t).Client(t)} {
		t.Run(name, func(t *testing.T) {
			prefix := redistest.Prefix()
			s := delivery.NewRedis(c, prefix, 0)
			for level := range 1 + len(levels) {
				k := delivery.Key{Sink: "ops", ID: fmt.Sprint("on level ", level)}
				keys, _, _ := bucketsOf(t, c, prefix, k)
				this := thisTurn(t, c)
				for i := range level {
					crowdIn(t, c, keys[1+3*i+this], full)
				}
				if level > 0 {
					if err := c.HSet(t.Context(), keys[1+this], "levels", levels[:level]).Err(); err != nil {
						t.Fatal(err)
					}
				}
				deliver(t, s, delivery.Begin{Key: k, Fingerprint: content}, 3)
				want := fmt.Sprintf("level %d, 0 ago", level)
				if got := where(t, c, prefix, k); got != want {
					t.Fatalf("delivered: in %q, want %q", got, want)
				}
				tell := func(s *delivery.Redis) {
					t.Helper()
					if got, err := s.Update(t.Context(), delivery.Change{Key: k, Status: delivery.StatusDelivered, Fingerprint: content}); err != nil || got[0] != delivery.StatusDelivered {
						t.Errorf("Update: %q, %v", got, err)
					}
				}
				tell(delivery.NewRedis(c, prefix, 0))
				if got := where(t, c, prefix, k); got != want {
					t.Errorf("told again: in %q, want %q", got, want)
				}
				owed := delivery.Record{Sink: k.Sink, ID: k.ID, Status: delivery.StatusDelivered, Fingerprint: content, Pending: []delivery.PendingEvent{{ID: "e1"}}}
				if err := delivery.NewRedis(c, prefix, 0).Owe(t.Context(), owed); err != nil {
					t.Fatal(err)
				}
				if got := where(t, c, prefix, k); got != "own" {
					t.Errorf("owed: in %q, want its own key", got)
				}
				if err := s.Told(t.Context(), k, "e1"); err != nil {
					t.Fatal(err)
				}
				if got := where(t, c, prefix, k); got != want {
					t.Errorf("events told: in %q, want %q", got, want)
				}
				if name == "a cluster" { // in which no bucket is renamed across slots, and turns are as ever
					continue
				}
				for ago := 1; ago < 3; ago++ {
					later(t, c, prefix)
					if r := recordOf(t, delivery.NewRedis(c, prefix, 0), k); r.Status != delivery.StatusDelivered || r.Attempts != 3 {
						t.Errorf("level %d, %d turns ago: %+v", level, ago, r)
					}
				}
				tell(s) // that took a day: more than a bucket tells
				if got := where(t, c, prefix, k); got != "own" {
					t.Errorf("told again two turns later: in %q, want its own key", got)
				}
			}
		})
	}
}

// What is told again in a later turn, and took no longer than a bucket tells, moves there.
func TestWhatIsToldAgainLeavesItsTurn(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	prefix := redistest.Prefix()
	s := delivery.NewRedis(c, prefix, 0)
	tellDelivered(t, s, key) // nobody knows when that began
	later(t, c, prefix)
	if got := where(t, c, prefix, key); got != "level 0, 1 ago" {
		t.Fatalf("a turn later: in %q", got)
	}
	tellDelivered(t, s, key)
	if got := where(t, c, prefix, key); got != "level 0, 0 ago" {
		t.Errorf("told again: in %q, want this turn", got)
	}
}

// The note of a turn's levels may be evicted with its bucket. What is on these is found by what another turn notes.
func TestANoteThatIsGoneHidesNothingThatAnotherTells(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	prefix := redistest.Prefix()
	s := delivery.NewRedis(c, prefix, 0)
	keys, _, _ := bucketsOf(t, c, prefix, key)
	this := thisTurn(t, c)
	for ago := range 2 {
		if err := c.HSet(t.Context(), keys[1+(this-ago+3)%3], "levels", "2").Err(); err != nil {
			t.Fatal(err)
		}
	}
	deliver(t, s, delivery.Begin{Key: key, Fingerprint: content}, 1)
	if got := where(t, c, prefix, key); got != "level 2, 0 ago" {
		t.Fatalf("it is in %q", got)
	}
	if err := c.Del(t.Context(), keys[1+this]).Err(); err != nil {
		t.Fatal(err)
	}
	if r := recordOf(t, delivery.NewRedis(c, prefix, 0), key); r.Status != delivery.StatusDelivered {
		t.Errorf("%+v", r)
	}
}

// A bucket in which an earlier version kept more than Redis packs counts as ever, and takes no more.
func TestABucketOfAnEarlierVersionIsFull(t *testing.T) {
	c := redistest.Start(t, redistest.WithConfig("hash-max-listpack-entries", "128")).Client(t)
	s := delivery.NewRedis(c, "", 0)
	deliver(t, s, delivery.Begin{Key: key, Fingerprint: content}, 2)
	keys, _, _ := bucketsOf(t, c, redisconn.DefaultPrefix, key)
	bucket := keys[1+thisTurn(t, c)]
	crowdIn(t, c, bucket, 30_000)
	if r := recordOf(t, s, key); r.Attempts != 2 {
		t.Errorf("%+v", r)
	}
	if err := c.Del(t.Context(), keys[0]).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.HDel(t.Context(), bucket, field(t, c, key)).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // who comes first notes the level
		tellDelivered(t, s, key)
	}
	if levels := c.HGet(t.Context(), bucket, "levels").Val(); levels != "1" {
		t.Errorf("levels %q", levels)
	}
	// The turn after it begins with as many buckets as that takes.
	later(t, c, redisconn.DefaultPrefix)
	next := delivery.Key{Sink: key.Sink, ID: key.ID}
	if err := c.HDel(t.Context(), keys[1+(thisTurn(t, c)+2)%3], field(t, c, key)).Err(); err != nil {
		t.Fatal(err)
	}
	tellDelivered(t, s, next)
	if levels := c.HGet(t.Context(), bucket, "levels").Val(); levels != "3" {
		t.Errorf("levels of the next turn %q", levels)
	}
}

func field(t *testing.T, c redis.UniversalClient, k delivery.Key) string {
	t.Helper()
	_, _, field := bucketsOf(t, c, redisconn.DefaultPrefix, k)
	return field
}

func tellDelivered(t *testing.T, s *delivery.Redis, k delivery.Key) {
	t.Helper()
	if got, err := s.Update(t.Context(), delivery.Change{Key: k, Status: delivery.StatusDelivered, Fingerprint: content}); err != nil || got[0] != delivery.StatusDelivered {
		t.Fatalf("Update: %q, %v", got, err)
	}
}

// A Redis that is full takes what was delivered also where that needs a bucket that is new.
func TestAFullRedisTakesABucket(t *testing.T) {
	c := redistest.Start(t, redistest.WithMaxMemory("4mb")).Client(t)
	s := delivery.NewRedis(c, "", 0)
	if _, _, err := s.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: content, Token: "t", Lease: lease}); err != nil {
		t.Fatal(err)
	}
	keys, _, _ := bucketsOf(t, c, redisconn.DefaultPrefix, key)
	bucket := keys[1+thisTurn(t, c)]
	crowdIn(t, c, bucket, full)
	for i := 0; ; i++ {
		if err := c.Set(t.Context(), fmt.Sprint("filler", i), strings.Repeat("x", 4096), 0).Err(); err != nil {
			break
		}
	}
	rec := delivery.Record{Sink: key.Sink, ID: key.ID, Status: delivery.StatusDelivered, UpdatedAt: time.Now(), Fingerprint: content, Attempts: 1}
	if _, written, err := s.Finish(t.Context(), key, "t", rec); err != nil || !written {
		t.Fatalf("Finish: %v, %v", written, err)
	}
	if levels := c.HGet(t.Context(), bucket, "levels").Val(); levels != "1" {
		t.Errorf("levels %q", levels)
	}
	if r := recordOf(t, s, key); r.Status != delivery.StatusDelivered {
		t.Errorf("%+v", r)
	}
}

// recorder is what both are.
type recorder interface {
	delivery.Store
	delivery.Outbox
}

// TestMemoryAndRedisAgreeOnRecords runs random histories of some deliveries on both, while others fill their buckets, turns pass and
// processes come that know no level yet. Memory is the model.
func TestMemoryAndRedisAgreeOnRecords(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("60"); err != nil { // each is some 30 steps of several round trips
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		prefix := redistest.Prefix()
		model, real := delivery.NewMemory(0), delivery.NewRedis(c, prefix, 0)
		turns := 0
		aKey := func() delivery.Key {
			return delivery.Key{Sink: "ops", ID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "id")}
		}
		seen := func(what string, do func(s recorder) string) {
			if got, want := do(real), do(model); got != want {
				rt.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"begin": func(rt *rapid.T) {
				k, token, of := aKey(), rapid.SampledFrom([]string{"t", "u"}).Draw(rt, "token"), rapid.SampledFrom([]string{content, "Zm9vYmFyYmF6cXV4cXV1eD"}).Draw(rt, "content")
				seen("begin", func(s recorder) string {
					state, r, err := s.Begin(t.Context(), delivery.Begin{Key: k, Fingerprint: of, Token: token, Lease: lease})
					return fmt.Sprint(state, r.Status, err)
				})
			},
			"finish": func(rt *rapid.T) {
				k, token := aKey(), rapid.SampledFrom([]string{"t", "u"}).Draw(rt, "token")
				r := delivery.Record{
					Sink: k.Sink, ID: k.ID, UpdatedAt: time.Now().UTC(), Fingerprint: content, Attempts: rapid.SampledFrom([]int{1, 2, 40}).Draw(rt, "attempts"),
					Status: rapid.SampledFrom([]delivery.Status{delivery.StatusDelivered, delivery.StatusDelivered, delivery.StatusDeadLettered}).Draw(rt, "status"),
				}
				seen("finish", func(s recorder) string {
					before, written, err := s.Finish(t.Context(), k, token, r)
					return fmt.Sprint(before.Status, written, err)
				})
			},
			"tell": func(*rapid.T) {
				k := aKey()
				seen("tell", func(s recorder) string {
					got, err := s.Update(t.Context(), delivery.Change{Key: k, Status: delivery.StatusDelivered, Fingerprint: content})
					return fmt.Sprint(got, err)
				})
			},
			"cancel": func(*rapid.T) {
				k := aKey()
				seen("cancel", func(s recorder) string {
					state, r, err := s.Cancel(t.Context(), k, "c", delivery.Record{})
					return fmt.Sprint(state, r.Status, err)
				})
			},
			"owe": func(rt *rapid.T) {
				k := aKey()
				r := delivery.Record{Sink: k.Sink, ID: k.ID, Status: delivery.StatusDelivered, Fingerprint: content, Pending: []delivery.PendingEvent{{ID: rapid.SampledFrom([]string{"e", "f"}).Draw(rt, "event")}}}
				seen("owe", func(s recorder) string {
					return fmt.Sprint(s.Owe(t.Context(), r))
				})
			},
			"told": func(*rapid.T) {
				k := aKey()
				seen("told", func(s recorder) string {
					return fmt.Sprint(s.Told(t.Context(), k, "e", "f"))
				})
			},
			"others come": func(rt *rapid.T) {
				keys, _, _ := bucketsOf(t, c, prefix, aKey())
				crowdIn(t, c, keys[1+3*rapid.IntRange(0, 3).Draw(rt, "level")+thisTurn(t, c)], rapid.IntRange(full-2, full+1).Draw(rt, "others"))
			},
			"another process": func(*rapid.T) { real = delivery.NewRedis(c, prefix, 0) },
			"a turn passes": func(*rapid.T) {
				if turns < 2 { // nothing is kept for longer
					turns++
					later(t, c, prefix)
				}
			},
			"": func(*rapid.T) {
				for _, id := range []string{"a", "b", "c"} {
					k := delivery.Key{Sink: "ops", ID: id}
					seen("record of "+id, func(s recorder) string {
						r, there, err := s.Get(t.Context(), k)
						return fmt.Sprint(there, err, r.Status, r.Attempts, len(r.Pending), r.IsOf(content), r.Unanswered)
					})
					where(t, c, prefix, k)
				}
			},
		})
	})
}
