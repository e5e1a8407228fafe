// Package dlqtest is the contract of dlq.Store as code: every backend passes Run.
// Start there and with Backend, which says how to make a store. What a backend loses at a
// restart, and what it costs, are left to its own tests.
//
// Each case states the rule that it checks; a failing case prints it. Time is real, and
// nothing is asserted about how long anything takes. Leases that must run out are short,
// or Backend.Expire ends them.
package dlqtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// Backend is what is tested.
type Backend struct {
	// New returns an empty store with the options given, apart from all others. It is called
	// from several tests at once. Required.
	New func(t *testing.T, opts ...dlq.Option) dlq.Store
	// Append adds an entry to a sink's queue as another program would: fields and values
	// in turn. Nil: nobody else can write to the backend, and the cases about entries
	// written by others are no part of its contract.
	Append func(t *testing.T, s dlq.Store, sink string, fields ...string)
	// Expire lets the time of the lease on an item run out, as if it had passed. Nil: the
	// suite waits, and the store must do three calls within 300 ms.
	Expire func(t *testing.T, s dlq.Store, id dlq.ID)
}

// T is the test of one case.
type T struct{ *testing.T }

// Case is one rule of the contract.
type Case struct {
	// Name is the subtest's.
	Name string
	// Rule is what the case checks, as a sentence.
	Rule string
	// Check fails t where b breaks the rule.
	Check func(t *T, b Backend)
	// Foreign cases need Backend.Append.
	Foreign bool
}

// Cases returns the whole contract.
func Cases() []Case {
	var all []Case
	for _, group := range [][]Case{pushCases, contentCases, overflowCases, listCases, claimCases, deathCases, settleCases, operatorCases, replayCases, expiryCases, cancelCases, successionCases, journalCases, comebackCases, retireCases, causeCases, foreignCases} {
		all = append(all, group...)
	}
	return all
}

// Run checks a backend against the whole contract, cases in parallel.
func Run(t *testing.T, b Backend) {
	t.Helper()
	for _, c := range Cases() {
		if c.Foreign && b.Append == nil {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Verify(t, b)
		})
	}
}

// Verify checks a backend against the case, and says the rule when that fails. A backend
// without network can be verified in a testing/synctest bubble, where waiting is free.
func (c Case) Verify(t *testing.T, b Backend) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the rule: %s", c.Rule)
		}
	})
	c.Check(&T{t}, b)
}

// item returns a dead letter that is due at once.
func item(sink, id string) dlq.Item {
	return dlq.Item{
		Sink: sink, DeliveryID: id,
		Message:  sinks.Message{ID: id, Subject: "s " + id, Body: "b " + id},
		Attempts: 5, Reason: dlq.ReasonExhausted, LastError: "SINK_UNAVAILABLE: HTTP 503",
	}
}

func withReason(it dlq.Item, r dlq.Reason) dlq.Item {
	it.Reason = r
	return it
}

func add(t *T, s dlq.Store, it dlq.Item) dlq.Item {
	t.Helper()
	stored, err := s.Add(t.Context(), it)
	if err != nil {
		t.Fatalf("Add(%s): %v", it.DeliveryID, err)
	}
	return stored
}

// fill adds n dead letters "d0", "d1", ... in one batch.
func fill(t *T, s dlq.Store, sink string, n int) []dlq.Item {
	t.Helper()
	batch := make([]dlq.Item, n)
	for i := range batch {
		batch[i] = item(sink, fmt.Sprintf("d%d", i))
	}
	stored, errs := s.AddBatch(t.Context(), batch)
	for i, err := range errs {
		if err != nil {
			t.Fatalf("AddBatch[%d]: %v", i, err)
		}
	}
	return stored
}

func get(t *T, s dlq.Store, id string) dlq.Item {
	t.Helper()
	it, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("Get(%s): %v", id, err)
	}
	return it
}

func wantCode(t *T, what string, err error, want fault.Code) {
	t.Helper()
	if got := fault.CodeOf(err); got != want {
		t.Errorf("%s = %v, want code %q", what, err, want)
	}
}

// claim leases due items for a minute.
func claim(t *T, s dlq.Store, sink string, limit int) []dlq.Leased {
	t.Helper()
	return claimAs(t, s, dlq.Claim{Sink: sink, Limit: limit, TTL: time.Minute})
}

func claimIDs(t *T, s dlq.Store, sink string, ids ...string) []dlq.Leased {
	t.Helper()
	return claimAs(t, s, dlq.Claim{Sink: sink, IDs: ids, TTL: time.Minute})
}

func claimAs(t *T, s dlq.Store, c dlq.Claim) []dlq.Leased {
	t.Helper()
	leased, err := s.Claim(t.Context(), c)
	if err != nil {
		t.Fatalf("Claim: %v", err)
	}
	return leased
}

func settle(t *T, s dlq.Store, settlements ...dlq.Settlement) []dlq.SettleResult {
	t.Helper()
	results, err := s.Settle(t.Context(), settlements)
	if err != nil {
		t.Fatalf("Settle: %v", err)
	}
	return results
}

// settleOne leases an item by its id and settles it.
func settleOne(t *T, s dlq.Store, id string, st dlq.Settlement) {
	t.Helper()
	parsed, err := dlq.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	leased := claimIDs(t, s, parsed.Sink, id)
	if len(leased) != 1 {
		t.Fatalf("Claim of %s leased %d items, want 1", id, len(leased))
	}
	st.Lease = leased[0].Lease
	if got := settle(t, s, st); got[0] != dlq.SettleApplied {
		t.Fatalf("Settle(%s) = %s, want applied", st.Action, got[0])
	}
}

func stats(t *T, s dlq.Store, sink string) dlq.Stats {
	t.Helper()
	st, err := s.Stats(t.Context(), sink)
	if err != nil {
		t.Fatalf("Stats: %v", err)
	}
	return st
}

// counts are the numbers of a Stats.
type counts struct{ Depth, Remaining, Kept, Parked, Trimmed int64 }

func wantStats(t *T, s dlq.Store, sink string, want counts) {
	t.Helper()
	st := stats(t, s, sink)
	got := counts{st.Depth, st.Remaining, st.Kept, st.Parked, st.Trimmed}
	if got != want {
		t.Errorf("Stats(%s) = %+v, want %+v", sink, got, want)
	}
}

func deliveries(items []dlq.Item) []string {
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = it.DeliveryID
	}
	return out
}

func leasedDeliveries(leased []dlq.Leased) []string {
	out := make([]string, len(leased))
	for i, l := range leased {
		out[i] = l.Item.DeliveryID
	}
	return out
}

// lease leases items so that runOut can let their leases run out, and that nothing else
// does before.
func lease(t *T, b Backend, s dlq.Store, c dlq.Claim) []dlq.Leased {
	t.Helper()
	c.TTL = time.Hour
	if b.Expire == nil {
		c.TTL = 300 * time.Millisecond
	}
	return claimAs(t, s, c)
}

// runOut returns once the leases that lease gave have run out.
func runOut(t *T, b Backend, s dlq.Store, leased ...dlq.Leased) {
	t.Helper()
	for _, l := range leased {
		if b.Expire == nil {
			// Expires is by this process's clock and may be a little early.
			await.True(t, "the lease ran out", func() bool { return time.Since(l.Expires) > 10*time.Millisecond })
			continue
		}
		id, err := dlq.ParseID(l.ID)
		if err != nil {
			t.Fatal(err)
		}
		b.Expire(t.T, s, id)
	}
}

// sender is a sink whose Send is a function.
type sender struct {
	name string
	send func(ctx context.Context, to sinks.Recipient, m sinks.Message) error
}

func (s sender) Name() string { return s.name }

func (s sender) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	return s.send(ctx, to, m)
}

func lookup(all ...sender) dlq.RegistryLookup {
	return func(name string) (sinks.Sink, bool) {
		for _, s := range all {
			if s.name == name {
				return s, true
			}
		}
		return nil, false
	}
}
