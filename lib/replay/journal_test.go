package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// keeper is a Journal that does as it is told, and writes down for which sinks.
type keeper struct {
	sinks []string
	err   error // of Sinks

	tick    func(ctx context.Context, sink string) (journal.Report, error)
	restore func(ctx context.Context, sink string, s journal.RestoreStep) (journal.RestoreProgress, error)
	audit   func(ctx context.Context, sink string) (journal.Audit, error)
	erase   func(ctx context.Context, sink string, match func(json.RawMessage) bool, after string) (journal.EraseProgress, error)

	mu        sync.Mutex
	ticked    []string
	now, most int // ticks at once
}

func (k *keeper) Sinks(ctx context.Context) ([]string, error) {
	if k.err == nil {
		return k.sinks, ctx.Err()
	}
	return nil, k.err
}

func (k *keeper) Tick(ctx context.Context, sink string) (journal.Report, error) {
	k.mu.Lock()
	k.ticked = append(k.ticked, sink)
	k.now++
	k.most = max(k.most, k.now)
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.now--
	}()
	if k.tick == nil {
		return journal.Report{}, nil
	}
	return k.tick(ctx, sink)
}

func (k *keeper) Restore(ctx context.Context, sink string, s journal.RestoreStep) (journal.RestoreProgress, error) {
	return k.restore(ctx, sink, s)
}

func (k *keeper) Audit(ctx context.Context, sink string) (journal.Audit, error) {
	return k.audit(ctx, sink)
}

func (k *keeper) Erase(ctx context.Context, sink string, match func(json.RawMessage) bool, after string) (journal.EraseProgress, error) {
	return k.erase(ctx, sink, match, after)
}

func (k *keeper) ticks() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(slices.Values(k.ticked))
}

// journaled opens stores that are told that there is a journal.
var journaled = map[string]func(tb testing.TB) dlq.Store{
	"Memory": func(testing.TB) dlq.Store { return dlq.NewMemory(dlq.WithJournal()) },
	"embedded Redis": func(tb testing.TB) dlq.Store {
		tb.Helper()
		_, client := redistest.Mini(tb)
		return dlq.NewRedis(client, dlq.WithJournal())
	},
	"Redis": func(tb testing.TB) dlq.Store {
		tb.Helper()
		return dlq.NewRedis(redistest.Shared(tb).Client(tb), dlq.WithKeyPrefix(redistest.Prefix()), dlq.WithJournal())
	},
}

// journalLetter is a dead letter of a sink as a journal has it.
func journalLetter(tb testing.TB, sink, id string, change ...func(*dlq.Item)) dlq.Letter {
	tb.Helper()
	it := dlq.Item{
		DeliveryID: id, Sink: sink, Message: sinks.Message{ID: id, Subject: "s", Body: "b"}, Attempts: 5, LastError: "HTTP 503",
		Reason: dlq.ReasonExhausted, Journal: "0/2026010100/" + id + "-1:0",
	}
	for _, c := range change {
		c(&it)
	}
	it, err := dlq.Prepare(tb.Context(), it)
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range change { // a push does not know whether it was parked or held
		c(&it)
	}
	return dlq.Letter{Item: it, Identity: dlq.IdentityOf(it)}
}

// lease makes "me" the one who works on a sink's journal.
func lease(tb testing.TB, s dlq.Store, sink string) {
	tb.Helper()
	if _, ok, err := s.JournalLease(tb.Context(), sink, "me", time.Minute); err != nil || !ok {
		tb.Fatalf("JournalLease: %t, %v", ok, err)
	}
}

// updatedMeanwhile changes a record right before it is told of something.
type updatedMeanwhile struct {
	replay.Records
	before func(delivery.Change)
}

func (m updatedMeanwhile) Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	for _, c := range changes {
		m.before(c)
	}
	return m.Records.Update(ctx, changes...)
}

// What the records know as ended does not come back; anything else does, and the records know then.
func TestWhatComesBackFromTheJournal(t *testing.T) {
	told := func(s delivery.Status, body string) func(testing.TB, delivery.Store) {
		return func(tb testing.TB, r delivery.Store) {
			tb.Helper()
			it := journalLetter(tb, "a", "m", func(it *dlq.Item) { it.Message.Body = body }).Item
			if _, err := r.Update(tb.Context(), delivery.ChangeOf(it, s)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	canceled := func(tb testing.TB, r delivery.Store) {
		tb.Helper()
		if s, _, err := r.Cancel(tb.Context(), delivery.Key{Sink: "a", ID: "m"}, "t", delivery.Record{}); err != nil || s != delivery.StateCanceled {
			tb.Fatalf("Cancel: %s, %v", s, err)
		}
	}
	nothing := func(testing.TB, delivery.Store) {}
	for name, c := range map[string]struct {
		before, meanwhile func(testing.TB, delivery.Store)
		broken            bool
		want              dlq.ReturnStatus
		status            delivery.Status
	}{
		"nothing is known of it":                 {nothing, nothing, false, dlq.ReturnStored, delivery.StatusDeadLettered},
		"it is a dead letter":                    {told(delivery.StatusDeadLettered, "b"), nothing, false, dlq.ReturnStored, delivery.StatusDeadLettered},
		"it was delivered":                       {told(delivery.StatusDelivered, "b"), nothing, false, dlq.ReturnEnded, delivery.StatusDelivered},
		"other content was delivered":            {told(delivery.StatusDelivered, "other"), nothing, false, dlq.ReturnStored, delivery.StatusDelivered},
		"it was discarded":                       {told(delivery.StatusDiscarded, "b"), nothing, false, dlq.ReturnEnded, delivery.StatusDiscarded},
		"other content was discarded":            {told(delivery.StatusDiscarded, "other"), nothing, false, dlq.ReturnStored, delivery.StatusDiscarded},
		"it is canceled":                         {canceled, nothing, false, dlq.ReturnCanceled, delivery.StatusCanceled},
		"the records cannot be read":             {told(delivery.StatusDelivered, "b"), nothing, true, dlq.ReturnStored, delivery.StatusDelivered},
		"it is delivered while it is brought":    {nothing, told(delivery.StatusDelivered, "b"), false, dlq.ReturnEnded, delivery.StatusDelivered},
		"it is canceled while it is brought":     {nothing, canceled, false, dlq.ReturnCanceled, delivery.StatusCanceled},
		"other content is delivered meanwhile":   {nothing, told(delivery.StatusDelivered, "other"), false, dlq.ReturnStored, delivery.StatusDelivered},
		"it is discarded while it is brought":    {nothing, told(delivery.StatusDiscarded, "b"), false, dlq.ReturnStored, delivery.StatusDeadLettered},
		"a record of it expires, and is renewed": {told(delivery.StatusExpired, "b"), nothing, false, dlq.ReturnStored, delivery.StatusDeadLettered},
	} {
		t.Run(name, func(t *testing.T) {
			store, records := dlq.NewMemory(dlq.WithJournal()), delivery.NewMemory(0)
			e := engine(store, targets{})
			log := logged(e)
			var once sync.Once
			e.Records = updatedMeanwhile{records, func(delivery.Change) { once.Do(func() { c.meanwhile(t, records) }) }}
			c.before(t, records)
			if c.broken {
				e.Records = broken{}
			}
			lease(t, store, "a")
			got, err := e.BringBack(t.Context(), "a", "me", 0, []dlq.Letter{journalLetter(t, "a", "m"), journalLetter(t, "a", "bystander")})
			if err != nil || len(got) != 2 || got[0].Status != c.want || got[1].Status != dlq.ReturnStored {
				t.Fatalf("got %+v, %v; want %s, and the bystander stored", got, err, c.want)
			}
			want := int64(1)
			if c.want == dlq.ReturnStored {
				want++
			}
			if n := depth(t, store, "a"); n != want {
				t.Errorf("%d dead letters, want %d", n, want)
			}
			rec, _, err := records.Get(t.Context(), delivery.Key{Sink: "a", ID: "m"})
			if err != nil || rec.Status != c.status {
				t.Errorf("the record says %s, %v; want %s", rec.Status, err, c.status)
			}
			if rec.Status == delivery.StatusDeadLettered && (rec.ItemID != got[0].ID || get(t, store, got[0].ID).DeliveryID != "m") {
				t.Errorf("the record names item %s; want %s", rec.ItemID, got[0].ID)
			}
			if broken := strings.Contains(log.String(), "delivery record not read"); broken != c.broken {
				t.Errorf("logged that a record was not read: %t; want %t", broken, c.broken)
			}
		})
	}
}

// broken cannot be read or written.
type broken struct{}

func (broken) Get(context.Context, delivery.Key) (delivery.Record, bool, error) {
	return delivery.Record{}, false, errors.New("away")
}

func (broken) Update(context.Context, ...delivery.Change) ([]delivery.Status, error) {
	return nil, errors.New("away")
}

// unread fails a test that reads it.
type unread struct {
	replay.Records
	t *testing.T
}

func (u unread) Get(_ context.Context, k delivery.Key) (delivery.Record, bool, error) {
	u.t.Errorf("the record of %s was read", k.ID)
	return delivery.Record{}, false, nil
}

// Whatever the records say of it, what is in the queue stays there as it is, and its line in the journal
// stays its.
func TestBringingBackChangesNothingThatIsThere(t *testing.T) {
	for name, open := range journaled {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			e := engine(store, targets{})
			e.Records = unread{delivery.NewMemory(0), t}
			lease(t, store, "a")
			l := journalLetter(t, "a", "m")
			stored, err := store.Add(t.Context(), l.Item)
			if err != nil {
				t.Fatal(err)
			}
			leased, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", TTL: time.Minute})
			if err != nil || len(leased) != 1 {
				t.Fatalf("Claim: %v, %v", leased, err)
			}
			if _, err := store.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionPark, Error: "x", Charge: true}}); err != nil {
				t.Fatal(err)
			}
			before := get(t, store, stored.ID)
			got, err := e.BringBack(t.Context(), "a", "me", 0, []dlq.Letter{l})
			if err != nil || got[0] != (dlq.Returned{Status: dlq.ReturnExists, ID: stored.ID}) {
				t.Errorf("got %+v, %v; want that it is there", got, err)
			}
			if after := get(t, store, stored.ID); asJSON(t, after) != asJSON(t, before) || depth(t, store, "a") != 1 {
				t.Errorf("it is %s now; it was %s", asJSON(t, after), asJSON(t, before))
			}
			if over, err := store.AreEnded(t.Context(), "a", []string{l.Item.Journal}); err != nil || over[0] {
				t.Errorf("its address is over: %t, %v", over[0], err)
			}
			// Under another address that one is over, not the dead letter's own.
			other := l
			other.Item.Journal = "0/2026010100/other-1:0"
			got, err = e.BringBack(t.Context(), "a", "me", 0, []dlq.Letter{other})
			if err != nil || got[0] != (dlq.Returned{Status: dlq.ReturnExists, ID: stored.ID}) {
				t.Errorf("got %+v, %v; want that it is there", got, err)
			}
			if over, err := store.AreEnded(t.Context(), "a", []string{l.Item.Journal, other.Item.Journal}); err != nil || over[0] || !over[1] {
				t.Errorf("over: %v, %v; want the second alone", over, err)
			}
		})
	}
}

func TestWhatIsBroughtBackIsAsParkedOrHeldAsItWas(t *testing.T) {
	for name, open := range journaled {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			e := engine(store, targets{})
			lease(t, store, "a")
			want := []dlq.State{dlq.StateParked, dlq.StateWaiting, dlq.StateDue, dlq.StateExpired}
			got, err := e.BringBack(t.Context(), "a", "me", 0, []dlq.Letter{
				journalLetter(t, "a", "parked", func(it *dlq.Item) { it.Parked = true }), journalLetter(t, "a", "held", func(it *dlq.Item) { it.Held = true }),
				journalLetter(t, "a", "due"), journalLetter(t, "a", "expired", func(it *dlq.Item) { it.Reason = dlq.ReasonExpired }),
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range got {
				if s := get(t, store, r.ID).State(time.Now()); s != want[i] {
					t.Errorf("letter %d is %s, want %s", i, s, want[i])
				}
			}
		})
	}
}

// Who lost the lease of the journal changes nothing.
func TestBringingBackNeedsTheLease(t *testing.T) {
	store := dlq.NewMemory(dlq.WithJournal())
	e := engine(store, targets{})
	lease(t, store, "a")
	if _, err := e.BringBack(t.Context(), "a", "other", 0, []dlq.Letter{journalLetter(t, "a", "m")}); !errors.Is(err, dlq.ErrJournalTaken) || depth(t, store, "a") != 0 {
		t.Errorf("got %v and %d dead letters; want ErrJournalTaken", err, depth(t, store, "a"))
	}
}

// stuck cannot discard.
type stuck struct{ dlq.Store }

func (stuck) Discard(context.Context, string) error { return dlq.ErrJournal }

func TestWhatCannotBeTakenBackCountsAsStored(t *testing.T) {
	memory, records := dlq.NewMemory(dlq.WithJournal()), delivery.NewMemory(0)
	e := engine(stuck{memory}, targets{})
	log := logged(e)
	l := journalLetter(t, "a", "m")
	e.Records = updatedMeanwhile{records, func(delivery.Change) {
		if _, err := records.Update(t.Context(), delivery.ChangeOf(l.Item, delivery.StatusDelivered)); err != nil {
			t.Error(err)
		}
	}}
	lease(t, memory, "a")
	got, err := e.BringBack(t.Context(), "a", "me", 0, []dlq.Letter{l})
	if err != nil || got[0].Status != dlq.ReturnStored || depth(t, memory, "a") != 1 || !strings.Contains(log.String(), "which stays") {
		t.Errorf("got %+v, %v, %d dead letters, log %s; want it stored, and a warning", got, err, depth(t, memory, "a"), log)
	}
}

// journalWatcher is an Observer that is told of journals and of what is retired.
type journalWatcher struct {
	counter
	mu      sync.Mutex
	seen    map[string]replay.JournalSummary
	retired map[string]int64
}

func (w *journalWatcher) Journal(_ context.Context, sink string, s replay.JournalSummary) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]replay.JournalSummary{}
	}
	w.seen[sink] = s
}

func (w *journalWatcher) Retired(_ context.Context, sink string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.retired == nil {
		w.retired = map[string]int64{}
	}
	w.retired[sink] += n
}

// The journal of every sink is kept that has something there, or of which the queue notes something,
// whatever else keeps the sink from being worked on; others cost nothing.
func TestEveryRunKeepsTheJournal(t *testing.T) {
	for name, open := range journaled {
		t.Run(name, func(t *testing.T) {
			store, sink := open(t), &receiver{name: "ok"}
			all := configured(replay.Policy{}, sink, &receiver{name: "paused"}, &receiver{name: "idle"})
			all["misconfigured"] = delivery.Target{ConfigErr: errors.New("bad")}
			w := &journalWatcher{}
			k := &keeper{sinks: []string{"misconfigured", "ok", "only-there", "paused"}}
			k.tick = func(_ context.Context, sink string) (journal.Report, error) {
				switch sink {
				case "ok":
					push(t, store, "ok", "back", 2)
					return journal.Report{Returned: 2, Spilled: 7, Damaged: 1, Conflicts: 3, Healed: 4}, nil
				case "paused":
					return journal.Report{Lost: true, Deleted: 5}, nil
				case "misconfigured":
					return journal.Report{Spilled: 1}, errors.New("slow down")
				case "noted":
					return journal.Report{}, dlq.ErrJournalTaken
				}
				return journal.Report{}, nil
			}
			e := engine(store, all)
			e.Journal, e.Observer = k, w
			log := logged(e)
			if err := store.Pause(t.Context(), "paused", true); err != nil {
				t.Fatal(err)
			}
			push(t, store, "idle", "i", 1, func(it *dlq.Item) { it.Journal = "0/2026010100/x-1:0" })
			if err := store.NoteUnjournaled(t.Context(), "noted", push(t, store, "noted", "n", 1, idle)); err != nil {
				t.Fatal(err)
			}
			s := run(t, e, replay.Request{})
			if want := []string{"misconfigured", "noted", "ok", "only-there", "paused"}; !slices.Equal(k.ticks(), want) {
				t.Errorf("kept the journals of %v, want %v", k.ticks(), want)
			}
			if s.Sinks["ok"].Delivered != 2 {
				t.Errorf("%+v; want what came back replayed by the same run", s.Sinks["ok"])
			}
			want := map[string]replay.JournalSummary{
				"ok":     {Returned: 2, Spilled: 7, Damaged: 1, Conflicts: 3, Healed: 4, Unjournaled: w.seen["ok"].Unjournaled, Ending: w.seen["ok"].Ending},
				"paused": {Lost: true}, "misconfigured": {Spilled: 1}, "noted": {Unjournaled: 1}, "only-there": {},
			}
			if !maps.Equal(w.seen, want) {
				t.Errorf("the observer saw %+v, want %+v", w.seen, want)
			}
			for name, j := range want {
				if s.Sinks[name].Journal != j {
					t.Errorf("summary of %s: %+v, want %+v", name, s.Sinks[name].Journal, j)
				}
			}
			if s.Sinks["misconfigured"].JournalError != "slow down" || s.Sinks["noted"].JournalError != "" || strings.Count(log.String(), "journal not kept") != 1 {
				t.Errorf("errors %+v, log %s; want that of the misconfigured one alone", s.Sinks, log)
			}
			if _, ok := s.Sinks["only-there"]; ok {
				t.Errorf("%+v; want nothing of a sink of which there is nothing to say", s.Sinks["only-there"])
			}
		})
	}
}

// Where the journal does not say what it has, each sink is tried, and says what is wrong.
func TestAJournalWhoseSinksAreNotKnown(t *testing.T) {
	store, sink := dlq.NewMemory(dlq.WithJournal()), &receiver{name: "a"}
	push(t, store, "a", "m", 3)
	e := engine(store, configured(replay.Policy{}, sink))
	e.Journal = &keeper{err: errors.New("no such bucket"), tick: func(context.Context, string) (journal.Report, error) {
		return journal.Report{}, errors.New("no such bucket")
	}}
	log := logged(e)
	s := run(t, e, replay.Request{})
	if s.Delivered != 3 || s.Sinks["a"].JournalError != "no such bucket" || !strings.Contains(log.String(), "sinks of the journal not known") {
		t.Errorf("%+v, log %s; want 3 delivered, and the error", s.Sinks["a"], log)
	}
}

func TestARunOfSomeSinksKeepsTheirJournals(t *testing.T) {
	store, sink := dlq.NewMemory(dlq.WithJournal()), &receiver{name: "a"}
	push(t, store, "a", "m", 3)
	e := engine(store, configured(replay.Policy{}, sink))
	k := &keeper{err: errors.New("not asked")}
	e.Journal = k
	if s := run(t, e, replay.Request{Sinks: []string{"a"}}); s.Delivered != 3 || !slices.Equal(k.ticks(), []string{"a"}) || s.Sinks["a"].JournalError != "" {
		t.Errorf("%+v after ticks of %v", s.Sinks["a"], k.ticks())
	}
}

// A journal that hangs has a quarter of the time, in all, and the schedule has the rest. With more sinks
// than are worked on at once, each has its turn.
func TestAJournalThatHangsStopsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		hanging string // "sinks": so does the list of them
		time    time.Duration
		most    time.Duration // until the first send
	}{
		"with a deadline":            {"ticks", 40 * time.Second, 10 * time.Second},
		"without one":                {"ticks", 0, time.Minute},
		"which lists nothing":        {"sinks", 40 * time.Second, 10 * time.Second},
		"and lists nothing, no time": {"sinks", 0, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			const count = 40
			began, store, all := time.Now(), dlq.NewMemory(dlq.WithJournal()), targets{}
			k := &keeper{}
			k.tick = func(ctx context.Context, _ string) (journal.Report, error) {
				<-ctx.Done()
				return journal.Report{}, ctx.Err()
			}
			var receivers []*receiver
			for i := range count {
				r := &receiver{name: fmt.Sprintf("s%02d", i)}
				receivers = append(receivers, r)
				maps.Copy(all, configured(replay.Policy{}, r))
				push(t, store, r.name, "m", 2)
				k.sinks = append(k.sinks, r.name)
			}
			e := engine(store, all)
			e.Journal = k
			if c.hanging == "sinks" {
				e.Journal = hangingList{k}
			}
			ctx := t.Context()
			if c.time > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.time)
				defer cancel()
			}
			s, err := e.Run(ctx, replay.Request{})
			if err != nil || s.Delivered != 2*count {
				t.Errorf("%s: %+v, %v; want all delivered", name, s.Counts, err)
			}
			if k.most > 16 {
				t.Errorf("%s: %d ticks at once", name, k.most)
			}
			for _, r := range receivers {
				if sum := s.Sinks[r.name]; sum.JournalError == "" {
					t.Errorf("%s: %+v; want the error of the journal", name, sum)
				}
				if first := r.calls()[0].at.Sub(began); first > c.most {
					t.Errorf("%s: the first send to %s came after %s", name, r.name, first)
				}
			}
			if ticks := len(k.ticks()); ticks != count {
				t.Errorf("%s: %d of %d journals had their turn", name, ticks, count)
			}
		})
	}
}

type hangingList struct{ *keeper }

func (hangingList) Sinks(ctx context.Context) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What is too old goes, unless the schedule would replay it; a sink whose configuration cannot be used
// keeps all.
func TestWhatIsTooOldIsRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		down := &receiver{name: "a", answer: fails(errDown)}
		all := targets{
			"a":      {Sink: down, Retention: 30 * 24 * time.Hour, Replay: replay.Policy{BaseDelay: 100 * 24 * time.Hour}},
			"paused": {Sink: &receiver{name: "paused"}, Retention: time.Hour},
			"broken": {ConfigErr: errors.New("bad"), Retention: time.Hour},
			"ever":   {Sink: &receiver{name: "ever"}},
		}
		w := &journalWatcher{}
		e := engine(store, all)
		e.Observer = w
		log := logged(e)
		push(t, store, "a", "idle", 1500, idle)
		push(t, store, "a", "due", 1)
		for _, name := range []string{"paused", "broken", "ever"} {
			push(t, store, name, name, 2, idle)
		}
		if err := store.Pause(t.Context(), "paused", true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30*24*time.Hour - time.Minute)
		push(t, store, "a", "young", 3, idle)
		s := run(t, e, replay.Request{})
		if s.Sinks["a"].Retired != 0 || depth(t, store, "a") != 1504 || s.Sinks["paused"].Retired != 2 {
			t.Errorf("before the time is over: %+v; want the paused ones retired alone", s.Sinks)
		}
		time.Sleep(2 * time.Minute)
		s = run(t, e, replay.Request{})
		if s.Sinks["a"].Retired != 1500 || depth(t, store, "a") != 4 {
			t.Errorf("%+v, %d left; want 1500 retired", s.Sinks["a"], depth(t, store, "a"))
		}
		if depth(t, store, "broken") != 2 || depth(t, store, "ever") != 2 {
			t.Error("what nobody gave a retention, or none that is known, was retired")
		}
		if want := map[string]int64{"a": 1500, "paused": 2}; !maps.Equal(w.retired, want) || strings.Count(log.String(), `"msg":"retired"`) != 2 {
			t.Errorf("the observer saw %v, want %v; log %s", w.retired, want, log)
		}
		if st, err := store.Stats(t.Context(), "a"); err != nil || st.Retired != 1500 {
			t.Errorf("the queue counts %d retired, %v", st.Retired, err)
		}
	})
}

// unretiring cannot remove what is old.
type unretiring struct{ dlq.Store }

func (unretiring) Retire(context.Context, string, time.Time) (int64, bool, error) {
	return 0, false, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "away"}
}

func TestAQueueThatRetiresNothingSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &receiver{name: "a"}
		e := engine(unretiring{store}, targets{"a": {Sink: sink, Retention: time.Hour}})
		push(t, store, "a", "m", 1)
		time.Sleep(2 * time.Hour)
		if s := run(t, e, replay.Request{}); !strings.Contains(s.Sinks["a"].Error, "away") || s.Delivered != 1 {
			t.Errorf("%+v; want the fault, and the due one delivered", s.Sinks["a"])
		}
	})
}
