//go:build full

package functions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/inbox"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// journal is what a Redis did to the dead letters of one sink, by native id.
type journal struct{ pushed, removed map[string]bool }

// journals reads what a Redis did, by sink.
func journals(t *testing.T, s *redistest.Server, accounts []*account) map[string]journal {
	t.Helper()
	all := map[string]journal{}
	for _, a := range accounts {
		all[a.sink] = journal{map[string]bool{}, map[string]bool{}}
	}
	for _, c := range s.Written(t) {
		if len(c) < 3 {
			continue
		}
		sink, _ := strings.CutPrefix(c[1], "backstop:dlq:")
		j, ok := all[sink]
		switch {
		case !ok:
		case c[0] == "XADD":
			j.pushed[c[2]] = true
		case c[0] == "XDEL":
			for _, id := range c[2:] {
				j.removed[id] = true
			}
		}
	}
	return all
}

// account is what was acknowledged for one sink: delivery id by native id.
type account struct {
	mu           sync.Mutex
	sink         string
	acknowledged map[string]string
}

func (a *account) add(t *testing.T, item, delivery string) {
	id, err := dlq.ParseID(item)
	if err != nil {
		t.Error(err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acknowledged[id.Native] = delivery
}

func (a *account) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.acknowledged)
}

// A cluster's master dies while deliveries are dead-lettered on it and others are
// replayed from it. The append-only files of the dead master and of its replica, read
// before that takes over, tell what Redis acknowledged and lost; everything else must be
// delivered, and twice only what was in flight or whose settling Redis lost.
func TestAFailoverLosesOnlyWhatRedisAcknowledgedAndLost(t *testing.T) {
	t.Parallel()
	const replayers, waiting = 2, 3000
	cluster := redistest.StartCluster(t, redistest.WithAppendOnly(), redistest.WithConfig("cluster-node-timeout", "4000"))
	s := start(t, local.Options{
		RedisURL: "redis://" + cluster.Nodes[1].Addr, Timeout: 8 * time.Second, ReplayTimeout: 8 * time.Second,
		Env: map[string]string{"BACKSTOP_REDIS_CLUSTER": "true"},
	})
	// What is sent to webhook-gone is dead-lettered by the function and stays; the dead
	// letters of webhook-down are replayed. Both are on the same master.
	gone := &account{sink: "webhook-gone", acknowledged: map[string]string{}}
	down := &account{sink: "webhook-down", acknowledged: map[string]string{}}
	accounts := []*account{gone, down}
	victim := cluster.Master(t, "{backstop:dlq:webhook-gone}:x")
	if other := cluster.Master(t, "{backstop:dlq:webhook-down}:x"); other != victim {
		t.Fatalf("webhook-gone is on %s, webhook-down on %s", victim.Addr, other.Addr)
	}
	s.Inbox.HTTP.Heal(local.PathDown)
	store := dlq.NewRedis(cluster.Client(t), dlq.WithMaxLen(0))
	push := func(ctx context.Context, i int) error {
		id := fmt.Sprintf("down-%d", i)
		it, err := store.Add(ctx, dlq.Item{
			DeliveryID: id, Sink: down.sink, Reason: dlq.ReasonExhausted, Message: sinks.Message{ID: id, Subject: "test", Body: "x"},
		})
		if err == nil {
			down.add(t, it.ID, id)
		}
		return err
	}
	for i := range waiting {
		if err := push(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	until := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	var mu sync.Mutex
	handedBack := 0
	for w := range 3 {
		until(func(i int) {
			id := fmt.Sprintf("gone-%d-%d", w, i)
			if a := send(t, s, gone.sink, id, "x"); a.status == http.StatusAccepted {
				gone.add(t, a.text("item_id"), id)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			handedBack++
		})
	}
	until(func(i int) {
		if push(context.Background(), waiting+i) != nil {
			mu.Lock()
			defer mu.Unlock()
			handedBack++
		}
	})
	for range replayers {
		until(func(int) {
			// Whether a replay succeeded is told by what arrives.
			_, _ = s.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
		})
	}
	eventually(t, "replays run", func() error {
		if n := len(s.Inbox.HTTP.CountByID(inbox.Arrival.Accepted)); n < waiting/10 {
			return fmt.Errorf("%d arrived", n)
		}
		return nil
	})
	// The replica falls behind, so that there is something to lose.
	heir := cluster.Replica(t, victim)
	heir.Freeze(t)
	if err := victim.Client(t).ClientKillByFilter(t.Context(), "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	frozen := map[*account]int{}
	for _, a := range accounts {
		frozen[a] = a.size()
	}
	eventually(t, "the master acknowledges what the replica has not", func() error {
		for _, a := range accounts {
			if n := a.size() - frozen[a]; n < 5 {
				return fmt.Errorf("%s: %d", a.sink, n)
			}
		}
		return nil
	})
	victim.Kill(t)
	killedAt := time.Now()
	heir.Thaw(t)
	replica := heir.Client(t)
	eventually(t, "the replica has read what had reached it", func() error {
		info, err := replica.Info(t.Context(), "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:down") {
			err = errors.New("it has not come to the end of its master's connection")
		}
		return err
	})
	died, copied := journals(t, victim, accounts), journals(t, heir, accounts)
	without := time.Now() // nobody is the master now: that takes the node time-out at least
	role, err := replica.Do(t.Context(), "ROLE").Slice()
	if err != nil || role[0] != "slave" {
		t.Fatalf("the replica has taken over before its journal was read: %v, %v", role, err)
	}
	eventually(t, "the replica has taken over", func() error {
		if a := send(t, s, gone.sink, fmt.Sprint("probe", time.Now().UnixNano()), "x"); a.status != http.StatusAccepted {
			return fmt.Errorf("%d %s", a.status, a.raw)
		}
		return nil
	})
	took := time.Since(killedAt)
	resumed := map[*account]int{}
	for _, a := range accounts {
		resumed[a] = a.size()
	}
	eventually(t, "the new master acknowledges", func() error {
		for _, a := range accounts {
			if n := a.size() - resumed[a]; n < 50 {
				return fmt.Errorf("%s: %d", a.sink, n)
			}
		}
		return nil
	})
	close(stop)
	wg.Wait()

	// Everything that is left is replayed.
	s.Inbox.HTTP.Heal(local.PathGone)
	op := call(t, s, "POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"webhook-gone"},"all":true,"reason":"test"}`)
	replays(t, s, replayers)
	eventually(t, "the operation completes", func() error {
		invoke(t, s, local.Replay, []byte(`{}`))
		if a := call(t, s, "GET", "/v1/dlq/operations/"+op.text("id"), ""); a.text("status") != "completed" {
			return fmt.Errorf("%s", a.raw)
		}
		return nil
	})

	arrived := map[string][]time.Time{}
	for _, a := range s.Inbox.HTTP.Arrivals() {
		if a.Accepted() {
			arrived[a.ID()] = append(arrived[a.ID()], a.At)
		}
	}
	t.Logf("failover after %s, %d deliveries handed back", took.Round(time.Millisecond), handedBack)
	for _, a := range accounts {
		died, copied := died[a.sink], copied[a.sink]
		var lost, gone, unsettled, resettled int
		for native, delivery := range a.acknowledged {
			lostByRedis := died.pushed[native] && !copied.pushed[native]
			if lostByRedis {
				lost++
			}
			times := arrived[delivery]
			switch {
			case len(times) == 0 && lostByRedis:
				gone++
			case len(times) == 0:
				t.Errorf("%s: %s is not lost by Redis, and never arrived", a.sink, delivery)
			case len(times) == 1:
			case len(times) > 2 || times[0].After(without) || times[1].Before(without):
				t.Errorf("%s: %s arrived at %v; there was no master at %v", a.sink, delivery, times, without)
			case copied.removed[native]:
				t.Errorf("%s: %s arrived twice, although its settling was replicated", a.sink, delivery)
			case died.removed[native]:
				resettled++
			default:
				unsettled++
			}
		}
		t.Logf("%s: %d dead letters acknowledged, %d of them lost by Redis (%d never delivered); arrived twice: %d whose settling Redis lost, %d in flight when it died",
			a.sink, len(a.acknowledged), lost, gone, resettled, unsettled)
		if lost == 0 {
			t.Errorf("%s: Redis lost nothing: the replica was not behind", a.sink)
		}
		if unsettled > replayers*inFlight {
			t.Errorf("%s: %d arrived twice that were not settled, more than %d replayers can have had in flight", a.sink, unsettled, replayers)
		}
	}
}
