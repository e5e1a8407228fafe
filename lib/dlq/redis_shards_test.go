package dlq_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// spreadOver returns a store of the same queues, by a process that spreads all sinks over n shards at once.
func spreadOver(c redis.UniversalClient, prefix string, n int, opts ...dlq.Option) *dlq.Redis {
	return dlq.NewRedis(c, append(opts, dlq.WithKeyPrefix(prefix), dlq.WithShards(func(string) int { return n }), dlq.ShardsAtOnce())...)
}

// shardOf is what an id says.
func shardOf(t *testing.T, id string) string {
	t.Helper()
	parsed, err := dlq.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Queue()
}

// Whatever the number of shards is when it is pushed, found, listed and replayed: each dead letter is there once.
func TestShardsGrowAndShrink(t *testing.T) {
	const letters = 60
	c := redistest.StartCluster(t).Client(t)
	before := newStore(t, c)
	ids := map[string]string{}
	push := func(s dlq.Store, stage string) {
		for i := range letters {
			name := fmt.Sprint("d", i)
			stored, err := s.Add(t.Context(), message("mail", name))
			if err != nil {
				t.Fatal(err)
			}
			if was := ids[name]; was != "" && stored.ID != was {
				t.Errorf("%s: %s was stored again, as %s and not as %s", stage, name, stored.ID, was)
			}
			ids[name] = stored.ID
			if found, err := s.Find(t.Context(), "mail", name, ""); err != nil || found.ID != ids[name] {
				t.Errorf("%s: Find(%s) = %s, %v; want %s", stage, name, found.ID, err, ids[name])
			}
		}
		if n := depth(t, s, "mail"); n != int64(len(ids)) {
			t.Errorf("%s: %d dead letters, want %d", stage, n, len(ids))
		}
		items, err := s.Items(t.Context(), "mail", 0)
		if err != nil || len(items) != len(ids) {
			t.Errorf("%s: %d are listed, %v; want %d", stage, len(items), err, len(ids))
		}
	}
	push(before, "one")
	grown := spreadOver(c, before.prefix, 5)
	push(grown, "grown to five")
	for i := letters; i < 2*letters; i++ {
		stored := mustAdd(t, grown, message("mail", fmt.Sprint("d", i)))
		ids[stored.DeliveryID] = stored.ID
	}
	push(grown, "filled five")
	used := map[string]int{}
	for _, id := range ids {
		used[shardOf(t, id)]++
	}
	if len(used) != 5 {
		t.Errorf("dead letters by queue: %v, want five queues", used)
	}
	if err := c.Del(t.Context(), before.prefix+":dlq:~shards").Err(); err != nil {
		t.Fatal(err)
	}
	lost := spreadOver(c, before.prefix, 5)
	if n := depth(t, lost, "mail"); n != int64(len(ids)) {
		t.Errorf("where the number was lost, five are configured and %d dead letters are found, want %d", n, len(ids))
	}
	push(spreadOver(c, before.prefix, 16), "grown to sixteen")
	small := spreadOver(c, before.prefix, 2)
	push(small, "shrunk to two")
	for i := range letters {
		if queue := shardOf(t, mustAdd(t, small, message("mail", fmt.Sprint("e", i))).ID); queue != "mail" && queue != "mail~1" {
			t.Fatalf("a push to two shards went to %s", queue)
		}
	}
	// A process that knows of no shards drains all of them.
	plain := dlq.NewRedis(c, dlq.WithKeyPrefix(before.prefix))
	for {
		leased, err := plain.Claim(t.Context(), dlq.Claim{Sink: "mail", Limit: 50, TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if len(leased) == 0 {
			break
		}
		settlements := make([]dlq.Settlement, len(leased))
		for i, l := range leased {
			settlements[i] = dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard}
		}
		if got, err := plain.Settle(t.Context(), settlements); err != nil || slices.Contains(got, dlq.SettleFenced) {
			t.Fatal(got, err)
		}
	}
	if n := depth(t, plain, "mail"); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// Pushes go to shards that are new only once every process knows them.
func TestANumberOfShardsHoldsOnceItIsKnown(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	one := newStore(t, c)
	registry := one.prefix + ":dlq:~shards"
	many := func() *dlq.Redis {
		return dlq.NewRedis(c, dlq.WithKeyPrefix(one.prefix), dlq.WithShards(func(string) int { return 8 }))
	}
	queues := func(s dlq.Store, from int) map[string]bool {
		used := map[string]bool{}
		for i := range 20 {
			used[shardOf(t, mustAdd(t, s, message("mail", fmt.Sprint("d", from+i))).ID)] = true
		}
		return used
	}
	if used := queues(many(), 0); len(used) != 1 {
		t.Errorf("the first pushes went to %v, want shard 0 alone", used)
	}
	noted, err := c.HGet(t.Context(), registry, "mail").Result()
	var most, since, was int64
	if _, scanErr := fmt.Sscan(noted, &most, &since, &was); err != nil || scanErr != nil || most != 8 || was != 1 {
		t.Fatalf("noted %q, %v; want 8, the time, 1", noted, err)
	}
	if err := c.HSet(t.Context(), registry, "mail", fmt.Sprintf("8 %d 1", since-2*time.Minute.Milliseconds())).Err(); err != nil {
		t.Fatal(err)
	}
	if used := queues(many(), 20); len(used) < 4 {
		t.Errorf("two minutes later pushes went to %v, want most of eight", used)
	}
	if n := depth(t, one, "mail"); n != 40 {
		t.Errorf("a process without the option knows of %d, want 40", n)
	}
}

// What was canceled while a sink had fewer shards stays so in those that it has by now; and where one of its dead letters is
// being replayed, nothing is changed in any shard.
func TestACancellationHoldsInAllShards(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	before := newStore(t, c)
	claimDelivery := func(s dlq.Store, id string, note time.Duration) ([]dlq.Leased, error) {
		return s.ClaimDelivery(t.Context(), dlq.DeliveryClaim{Sink: "mail", DeliveryID: id, TTL: time.Minute, Note: note})
	}
	for i := range 20 {
		if _, err := claimDelivery(before, fmt.Sprint("d", i), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	after := spreadOver(c, before.prefix, 8)
	elsewhere := 0
	for i := range 20 {
		if shardOf(t, mustAdd(t, after, message("mail", fmt.Sprint("d", i))).ID) != "mail" {
			elsewhere++
		}
	}
	leased, err := after.Claim(t.Context(), dlq.Claim{Sink: "mail", Limit: 50, TTL: time.Minute})
	if err != nil || len(leased) != 20 || elsewhere == 0 {
		t.Fatalf("%d leased, %d of them in shards that are new, %v", len(leased), elsewhere, err)
	}
	for _, l := range leased {
		if !l.Canceled {
			t.Errorf("%s does not say that it is canceled", l.ID)
		}
	}

	// Of one delivery, a dead letter in shard 0 and one in the shard that is new; a replay has the latter.
	moved := ""
	for i := 0; moved == ""; i++ {
		id := "m" + strconv.Itoa(i)
		mustAdd(t, before, message("mail", id))
		other := message("mail", id)
		other.Message.Body = "another"
		if stored := mustAdd(t, after, other); shardOf(t, stored.ID) != "mail" {
			moved = id
			if got, err := after.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{stored.ID}, TTL: time.Minute}); err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
		}
	}
	if got, err := claimDelivery(after, moved, time.Hour); fault.CodeOf(err) != fault.CodeItemLeased {
		t.Fatalf("ClaimDelivery = %d, %v; want ITEM_LEASED", len(got), err)
	}
	if is, err := after.Canceled(t.Context(), "mail", moved); err != nil || is {
		t.Errorf("it is noted as canceled: %v, %v", is, err)
	}
	first, err := before.Find(t.Context(), "mail", moved, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := after.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{first.ID}, TTL: time.Minute}); err != nil || len(got) != 1 {
		t.Errorf("the one in shard 0 is leased still: %d, %v", len(got), err)
	}
}

// A shard's ids stay its own, and grow, whatever became of what is kept of the last one.
func TestIDsOfAShardGrow(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	spread := spreadOver(c, s.prefix, 2)
	id := ""
	for i := 0; id == ""; i++ {
		if stored := mustAdd(t, spread, message("mail", fmt.Sprint("d", i))); shardOf(t, stored.ID) == "mail~1" {
			id = stored.ID
		}
	}
	stream := s.prefix + ":dlq:mail~1"
	ahead := fmt.Sprintf("%d-7", time.Now().Add(time.Hour).UnixMilli())
	if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: ahead, Values: []string{"item", "{}"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.XDel(t.Context(), stream, ahead).Err(); err != nil {
		t.Fatal(err)
	}
	last := id
	for i := range 40 {
		stored := mustAdd(t, spread, message("mail", fmt.Sprint("e", i)))
		if shardOf(t, stored.ID) == "mail" {
			continue
		}
		a, _ := dlq.ParseID(last)
		b, _ := dlq.ParseID(stored.ID)
		if dlq.CompareNative(a.Native, b.Native) >= 0 {
			t.Errorf("%s comes after %s", last, stored.ID)
		}
		if got, err := spread.Get(t.Context(), stored.ID); err != nil || got.DeliveryID != stored.DeliveryID {
			t.Errorf("Get(%s) = %s, %v", stored.ID, got.DeliveryID, err)
		}
		last = stored.ID
		if i%10 == 9 {
			if err := c.HDel(t.Context(), "{"+stream+"}:meta", "last").Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last == id {
		t.Fatal("nothing went to shard 1")
	}
}
