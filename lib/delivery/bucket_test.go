package delivery_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
)

// turn is how long a bucket's turn is with the default TTL.
const turn = 12 * time.Hour

// deliver begins with a delivery and finishes it as delivered.
func deliver(t *testing.T, s delivery.Store, b delivery.Begin, attempts int) {
	t.Helper()
	b.Token, b.Lease = "t", lease
	if state, _, err := s.Begin(t.Context(), b); err != nil || state != delivery.StateStarted {
		t.Fatalf("Begin: %s, %v", state, err)
	}
	_, written, err := s.Finish(t.Context(), b.Key, "t", delivery.Record{
		Sink: b.Sink, ID: b.ID, Status: delivery.StatusDelivered, UpdatedAt: time.Now().UTC(), Fingerprint: b.Fingerprint, Attempts: attempts,
	})
	if err != nil || !written {
		t.Fatalf("Finish: %v, %v", written, err)
	}
}

// recordOf returns a record that must be there.
func recordOf(t *testing.T, s delivery.Store, k delivery.Key) delivery.Record {
	t.Helper()
	r, ok, err := s.Get(t.Context(), k)
	if err != nil || !ok {
		t.Fatalf("Get: %v, %v", ok, err)
	}
	return r
}

// levels are all that a bucket may be on beside the first.
const levels = "123"

// bucketsOf returns which of a record's keys there are: its own first, and then those of three buckets on each level that have it.
func bucketsOf(t *testing.T, c redis.UniversalClient, prefix string, k delivery.Key) (keys []string, there []bool, field string) {
	t.Helper()
	keys, field = redisconn.New(c, prefix, "").Keys.Record(k.Sink, k.ID, delivery.DefaultTTL, levels)
	for i, name := range keys {
		n, err := c.Exists(t.Context(), name).Result()
		if err == nil && i > 0 && n == 1 {
			var has bool
			has, err = c.HExists(t.Context(), name, field).Result()
			there = append(there, has)
		} else {
			there = append(there, n == 1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return keys, there, field
}

// What was simply delivered is a field among many, in one of three buckets, which goes when the last one in it has been kept for the
// time to live and before its next turn. It tells all that it told before, to the millisecond.
func TestWhatWasSimplyDeliveredIsAFieldOfABucket(t *testing.T) {
	for name, c := range map[string]redis.UniversalClient{"redis-server": redistest.Shared(t).Client(t), "a cluster": redistest.StartCluster(t).Client(t)} {
		t.Run(name, func(t *testing.T) {
			prefix := redistest.Prefix()
			s, model := delivery.NewRedis(c, prefix, 0), delivery.NewMemory(0)
			draw := rand.New(rand.NewPCG(1, 2))
			moment := func() time.Time { // often none
				if draw.IntN(2) == 0 {
					return time.Time{}
				}
				return time.Unix(draw.Int64N(4e9), draw.Int64N(1e9)).UTC()
			}
			for i := range 200 {
				k := delivery.Key{Sink: "ops", ID: fmt.Sprintf("d%d", i)}
				b := delivery.Begin{Key: k, Fingerprint: content, AcceptedAt: moment(), NotBefore: moment(), ExpiresAt: moment()}
				attempts := draw.IntN(40)
				for _, store := range []delivery.Store{s, model} {
					deliver(t, store, b, attempts)
				}
				got, want := recordOf(t, s, k), recordOf(t, model, k)
				for _, times := range [][2]*time.Time{{&got.UpdatedAt, &want.UpdatedAt}, {&got.BeganAt, &want.BeganAt}} {
					if d := times[0].Sub(*times[1]); d.Abs() > time.Minute { // these are by the clock
						t.Errorf("%s is %s, want about %s", k.ID, *times[0], *times[1])
					}
					*times[0] = *times[1]
				}
				for _, at := range []*time.Time{&want.AcceptedAt, &want.NotBefore, &want.ExpiresAt, &got.AcceptedAt, &got.NotBefore, &got.ExpiresAt} {
					*at = at.Truncate(time.Millisecond)
				}
				if !got.IsOf(content) || got.IsOf("Zm9vYmFyYmF6cXV4cXV1eD") {
					t.Errorf("%s is of %q", k.ID, got.Fingerprint)
				}
				got.Fingerprint = want.Fingerprint
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%d attempts:\n%+v, want\n%+v", attempts, got, want)
				}
				keys, there, _ := bucketsOf(t, c, prefix, k)
				in := 0
				for j, is := range there[1:] {
					if !is {
						continue
					}
					in++
					ends, err := c.PExpireTime(t.Context(), keys[j+1]).Result()
					now := time.Now()
					most := time.Duration(now.UnixNano()) + delivery.DefaultTTL + turn
					if err != nil || ends < time.Duration(now.UnixNano())+delivery.DefaultTTL-time.Minute || ends > most || (ends+time.Millisecond)%turn != 0 {
						t.Errorf("the bucket ends %s, %v", time.Unix(0, int64(ends)).UTC(), err)
					}
				}
				if own := attempts > 31; there[0] != own || in == 1 == own {
					t.Fatalf("%s, %d attempts: a key of its own: %v, in %d buckets", k.ID, attempts, there[0], in)
				}
			}
		})
	}
}

// What is known of a delivery is found in the bucket of every turn since.
func TestEarlierTurnsAreFound(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	prefix := redistest.Prefix()
	s := delivery.NewRedis(c, prefix, 0)
	deliver(t, s, delivery.Begin{Key: key, Fingerprint: content}, 2)
	now := recordOf(t, s, key)
	keys, there, _ := bucketsOf(t, c, prefix, key)
	at := 0
	for there[1+at] != true {
		at++
	}
	for ago := 1; ago < 3; ago++ { // as if it had been stored so many turns ago
		if err := c.Rename(t.Context(), keys[1+(at-ago+4)%3], keys[1+(at-ago+3)%3]).Err(); err != nil {
			t.Fatal(err)
		}
		got := recordOf(t, s, key)
		if want := now.UpdatedAt.Add(-time.Duration(ago) * turn); !got.UpdatedAt.Equal(want) || got.Attempts != 2 || !got.UpdatedAt.After(got.BeganAt.Add(-time.Millisecond)) {
			t.Errorf("%d turns ago: %+v, want %s", ago, got, want)
		}
		if state, _ := begin(t, s, key, content, "other", lease); state != delivery.StateFinished {
			t.Errorf("%d turns ago: Begin says %s", ago, state)
		}
	}
}

// With any time to live, a bucket is kept for as long as that, and up to half as long again or as long again.
func TestABucketIsKeptForTheTimeToLive(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, time.Minute, time.Hour, 12 * time.Hour, 13 * time.Hour, 24 * time.Hour, 25 * time.Hour, 15 * 24 * time.Hour} {
		m, client := redistest.Mini(t)
		s := delivery.NewRedis(client, "p", ttl)
		deliver(t, s, delivery.Begin{Key: key, Fingerprint: content}, 1)
		if keys := m.Keys(); len(keys) != 1 || m.Type(keys[0]) != "hash" {
			t.Fatalf("there are %q", keys)
		}
		m.FastForward(ttl - time.Second/2)
		if _, there, err := s.Get(t.Context(), key); !there || err != nil {
			t.Errorf("with a time to live of %s: gone too early, %v", ttl, err)
		}
		m.FastForward(ttl + time.Second)
		if _, there, err := s.Get(t.Context(), key); there || err != nil {
			t.Errorf("with a time to live of %s: there after twice as long, %v", ttl, err)
		}
	}
}

// A record that an older version wrote counts as ever, and is told in its words.
func TestRecordsOfAnOlderVersionCount(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	prefix := redistest.Prefix()
	s := delivery.NewRedis(c, prefix, 0)
	keys, _, _ := bucketsOf(t, c, prefix, key)
	old := `{"sink":"ops","delivery_id":"m-1","status":"delivered","updated_at":"2026-01-02T03:04:05.123456789Z","answer":"{\"status\":\"delivered\"}",` +
		`"fingerprint":"` + content + `","began_at":"2026-01-02T03:04:04Z","attempts":3,"token":"t"}`
	if err := c.Set(t.Context(), keys[0], old, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if r := recordOf(t, s, key); r.Status != delivery.StatusDelivered || r.Attempts != 3 || r.UpdatedAt.Nanosecond() != 123456789 || r.Answer == "" {
		t.Errorf("%+v", r)
	}
	state, r := begin(t, s, key, content, "other", lease)
	if wantState(t, "of an older version", state, delivery.StateFinished); r.Attempts != 3 {
		t.Errorf("%+v", r)
	}
	if state, _ := begin(t, s, key, "Zm9vYmFyYmF6cXV4cXV1eD", "other", lease); state != delivery.StateReused {
		t.Errorf("of other content: %s", state)
	}
}

// Whatever is pending of a delivery has a key of its own until it is told, also where a bucket has it by then.
func TestPendingEventsLeaveTheBucketAndComeBack(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	prefix := redistest.Prefix()
	s := delivery.NewRedis(c, prefix, 0)
	deliver(t, s, delivery.Begin{Key: key, Fingerprint: content}, 2)
	own := func(when string, want bool) {
		t.Helper()
		if _, there, _ := bucketsOf(t, c, prefix, key); there[0] != want {
			t.Errorf("%s: a key of its own: %v", when, there[0])
		}
	}
	own("delivered", false)
	owed := delivery.Record{Sink: key.Sink, ID: key.ID, Status: delivery.StatusDelivered, Fingerprint: content, Pending: []delivery.PendingEvent{{ID: "e1"}}}
	if err := s.Owe(t.Context(), owed); err != nil {
		t.Fatal(err)
	}
	own("owed", true)
	if r := recordOf(t, s, key); len(r.Pending) != 1 || r.Attempts != 2 || r.BeganAt.IsZero() {
		t.Errorf("owed: %+v", r)
	}
	if err := s.Told(t.Context(), key, "e1"); err != nil {
		t.Fatal(err)
	}
	own("told", false)
	if r := recordOf(t, s, key); len(r.Pending) != 0 || r.Attempts != 2 || r.Status != delivery.StatusDelivered {
		t.Errorf("told: %+v", r)
	}
}

// A Redis that is full takes what was delivered: its record gives back more than the bucket takes.
func TestAFullRedisTakesWhatWasDelivered(t *testing.T) {
	c := redistest.Start(t, redistest.WithMaxMemory("4mb")).Client(t)
	s := delivery.NewRedis(c, "", 0)
	b := delivery.Begin{Key: key, Fingerprint: content, Token: "t", Lease: lease}
	if _, _, err := s.Begin(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if err := c.Set(t.Context(), fmt.Sprint("filler", i), strings.Repeat("x", 4096), 0).Err(); err != nil {
			break
		}
	}
	rec := delivery.Record{Sink: key.Sink, ID: key.ID, Status: delivery.StatusDelivered, UpdatedAt: time.Now(), Fingerprint: content, Attempts: 1}
	if _, written, err := s.Finish(t.Context(), key, "t", rec); err != nil || !written {
		t.Fatalf("Finish: %v, %v", written, err)
	}
	if r := recordOf(t, s, key); r.Status != delivery.StatusDelivered {
		t.Errorf("%+v", r)
	}
}
