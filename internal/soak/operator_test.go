//go:build full

package soak

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/delay"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

// order is what an operator wants of a dead letter that waits.
type order int

const (
	replayed  order = iota + 1 // alone
	unparked                   // for the schedule
	discarded                  // alone
	canceled
	inBulk // replayed by an operation, or discarded where it can never be sent
)

func (o order) String() string {
	return []string{"", "replayed", "unparked", "discarded", "canceled", "in bulk"}[o]
}

// orders are those that were carried out.
type orders struct {
	mu sync.Mutex
	of map[int]order // the last
}

func (o *orders) note(i int, as order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of[i] = as
}

func (o *orders) has(i int) bool { return o.of[i] > 0 }

// letter is one that waits for an operator.
type letter struct {
	i          int
	id, reason string
	expires    bool
}

// mostSingles is how many letters are ordered about one by one, and operators is how many do so at once.
const (
	mostSingles = 400
	operators   = 8
)

// operate has an operator decide about what waits: some letters one by one, while processes of dlq-api are killed, then all others in bulk,
// while replays are. Redis' replies are lost all the while. Whoever ordered something that failed often orders something else.
func (s *soak) operate(t *testing.T, entries map[int][]entry, r *result) {
	t.Helper()
	s.orders.of = map[int]order{}
	rnd := rand.New(rand.NewPCG(s.w.seed, 2))
	letters := waiting(entries)
	rnd.Shuffle(len(letters), func(a, b int) { letters[a], letters[b] = letters[b], letters[a] })
	alone := s.alone(letters)

	arrived := 0
	s.w.also.Store(new(func() {
		if arrived++; arrived%2 == 1 && s.stack.Host.Kill(local.DLQAPI) {
			r.apiKilled++
		}
	}))
	singles, others := make(chan single), atomic.Int64{}
	var all sync.WaitGroup
	for range operators {
		seed := rnd.Uint64()
		all.Go(func() {
			mine := rand.New(rand.NewPCG(seed, 0))
			for o := range singles {
				s.single(o, mine, &others)
			}
		})
	}
	for _, o := range alone {
		singles <- o
	}
	close(singles)
	all.Wait()

	rest := map[string][]int{}
	for _, l := range letters {
		if s.orders.has(l.i) {
			continue
		}
		if !l.expires {
			s.orders.note(l.i, inBulk)
		}
		rest[l.reason] = append(rest[l.reason], l.i)
	}
	killed := s.killReplays(len(rest["terminal"]))
	for reason, of := range rest {
		action := "replay"
		if reason == "invalid" {
			action = "discard"
			for _, i := range of {
				s.w.checker.GivingUp(s.w.unit(i))
			}
		}
		s.inBulk(t, action, reason)
		if action == "discard" {
			for _, i := range of {
				s.w.checker.GivenUpTold(s.w.unit(i), true, true)
			}
		}
	}
	r.replaysKilled += int(killed.Load())
	s.w.also.Store(nil)
	r.ordered = map[order]int{}
	for _, o := range s.orders.of {
		r.ordered[o]++
	}
	for o := replayed; o <= inBulk; o++ {
		if r.ordered[o] == 0 {
			t.Errorf("no dead letter was %v: the run was too short for that", o)
		}
	}
	if s.ctx.Err() != nil {
		t.Error("the operator did not get done in time")
	}
	if r.apiKilled == 0 {
		t.Error("no process of dlq-api was killed")
	}
}

// single is an order about one letter.
type single struct {
	letter
	order order
}

// alone are the orders that are given one by one: about what does not expire meanwhile, and is of an id with one content. Each kind comes
// about equally often, but for replays, half of all: they are killed, and come first.
func (s *soak) alone(letters []letter) (all []single) {
	most, kinds := min(len(letters)*2/3, mostSingles), map[string]int{}
	for _, l := range letters {
		if l.expires || twinned(s.w, l.i) || len(all) == most {
			continue
		}
		o := replayed + order(max(kinds[l.reason]%6-2, 0))
		if l.reason == "invalid" { // it cannot be sent
			o = discarded + order(kinds[l.reason]%2)
		}
		kinds[l.reason]++
		all = append(all, single{l, o})
	}
	slices.SortStableFunc(all, func(a, b single) int { return cmp.Compare(a.order, b.order) })
	return all
}

// waiting are the letters that wait for an operator, in the order of their deliveries.
func waiting(entries map[int][]entry) (all []letter) {
	for _, i := range slices.Sorted(maps.Keys(entries)) {
		for _, e := range entries[i] {
			if held(e.reason) && e.reason != "expired" && !e.spilled {
				all = append(all, letter{i, e.id, e.reason, !e.expires.IsZero()})
			}
		}
	}
	return all
}

// single orders something about one letter until something is carried out.
func (s *soak) single(one single, r *rand.Rand, others *atomic.Int64) {
	l, o := one.letter, one.order
	for s.ctx.Err() == nil {
		if s.carryOut(l, o) {
			s.orders.note(l.i, o)
			if o == discarded && r.IntN(2) == 0 {
				s.cancel(l.i)
			}
			return
		}
		if o == replayed { // who knows what became of it
			o = unparked + order(others.Add(1)-1)%(canceled-replayed)
		}
		_ = delay.Sleep(s.ctx, 50*time.Millisecond)
	}
}

// carryOut orders it once, and reports whether that is done with.
func (s *soak) carryOut(l letter, o order) bool {
	path := "/v1/dlq/items/" + l.id
	switch o {
	case replayed:
		status, a := s.call(http.MethodPost, path+"/replay", "{}", nil)
		return status == http.StatusOK && a.Status == "delivered" || status == http.StatusNotFound
	case unparked:
		status, _ := s.call(http.MethodPost, path+"/unpark", "", nil)
		return status == http.StatusOK || status == http.StatusNotFound
	case discarded:
		s.w.checker.GivingUp(s.w.unit(l.i))
		status, a := s.call(http.MethodDelete, path, "", nil)
		done := status == http.StatusNoContent
		s.w.checker.GivenUpTold(s.w.unit(l.i), done, done || a.Code == "ITEM_LEASED")
		return done
	case canceled:
		s.cancel(l.i)
	case inBulk:
	}
	return true
}

// inBulk has an operation over all of a reason done by the schedule, and waits until it is, and nothing is due any more.
func (s *soak) inBulk(t *testing.T, action, reason string) {
	t.Helper()
	body := fmt.Sprintf(`{"action":%q,"filter":{"reason":%q},"reason":"soak"}`, action, reason)
	header := http.Header{"Idempotency-Key": {"soak-" + action + "-" + reason}}
	id := ""
	for id == "" && s.ctx.Err() == nil {
		if status, a := s.call(http.MethodPost, "/v1/dlq/operations", body, header); status == http.StatusAccepted {
			id = a.ID
		}
	}
	remaining := 1
	for s.ctx.Err() == nil {
		switch _, a := s.call(http.MethodGet, "/v1/dlq/operations/"+id, "", nil); a.Status {
		case "completed":
			if remaining == 0 {
				return
			}
		case "stopped":
			s.call(http.MethodPost, "/v1/dlq/operations/"+id+"/resume", "", nil)
		case "failed", "canceled":
			t.Errorf("the operation over %s is %s", reason, a.Status)
			return
		}
		res, err := s.stack.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
		if err != nil || res.FunctionError != "" {
			continue // it was killed
		}
		var sum struct{ Remaining int }
		if err := json.Unmarshal(res.Payload, &sum); err != nil {
			t.Fatal(err)
		}
		remaining = sum.Remaining
	}
}

// reconcileOrders checks what became of the letters that the schedule has left.
func (s *soak) reconcileOrders(t *testing.T, r *result, before, after map[int][]entry) {
	t.Helper()
	for i, stored := range before {
		switch it := stored[0]; {
		case s.orders.has(i):
			s.reconcileOrder(t, i, after[i])
		case len(after[i]) == 1:
			r.notReplayed++
		case it.reason != "invalid" && len(s.w.Arrivals(i)) == 0: // what can never be sent was discarded in bulk
			t.Errorf("%s (%s) is LOST: nobody ordered anything, and it is gone\n%s", s.w.id(i), it.reason, s.w.checker.History(s.w.unit(i)))
		}
	}
}

// reconcileOrder checks what became of a letter that an operator decided about.
func (s *soak) reconcileOrder(t *testing.T, i int, after []entry) {
	t.Helper()
	o, ends := s.orders.of[i], !s.told[i].canceled.IsZero() || s.w.classOf(i).name == "invalid"
	switch arrived := len(s.w.Arrivals(i)); {
	case len(after) > 0:
		t.Errorf("%s (%s) was ordered to be %v, and is still there\n%s", s.w.id(i), s.w.classOf(i).name, o, s.w.checker.History(s.w.unit(i)))
	case arrived == 0 && o != discarded && !ends:
		t.Errorf("%s (%s) is LOST: %v, and never arrived\n%s", s.w.id(i), s.w.classOf(i).name, o, s.w.checker.History(s.w.unit(i)))
	}
}
