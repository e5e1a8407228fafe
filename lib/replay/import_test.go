package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// An embedder's import: what is here stays, what was given up is a dead letter again, what
// was delivered since is not, and a record that is away keeps nothing from being stored.
func TestImportStoresWhatIsNotHereAndWasNotDelivered(t *testing.T) {
	store, seen := dlq.NewMemory(), &records{}
	e := engine(store, configured(replay.Policy{}, &receiver{name: "a"}))
	e.Records = seen
	log := logged(e)
	here, err := store.Add(t.Context(), letter("here"))
	if err != nil {
		t.Fatal(err)
	}
	unreadable := letter("unreadable")
	unreadable.DecodeError = "cut off"
	results := e.Import(t.Context(), []dlq.Item{here, letter("new"), unreadable})
	for i, want := range []replay.ImportStatus{replay.ImportExists, replay.ImportStored, replay.ImportRejected} {
		if results[i].Status != want {
			t.Errorf("item %d: %+v, want %s", i, results[i], want)
		}
	}
	if results[0].ID != here.ID || fault.CodeOf(results[2].Err) != fault.CodeInvalidArgument {
		t.Errorf("got %+v, want the id of what is here and the fault of what is rejected", results)
	}
	it, err := store.Get(t.Context(), results[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	seen.err = errors.New("no")
	if err := e.Discard(t.Context(), it); err != nil {
		t.Errorf("a record that is away kept an item: %v", err)
	}
	if got := e.Import(t.Context(), []dlq.Item{it}); got[0].Status != replay.ImportStored {
		t.Errorf("imported again: %+v, want it stored", got[0])
	}
	if n := strings.Count(log.String(), "delivery records not updated"); n != 2 {
		t.Errorf("the log says %d times that a record is behind, want 2:\n%s", n, log.String())
	}
}

func letter(id string) dlq.Item {
	return dlq.Item{Sink: "a", DeliveryID: id, Message: sinks.Message{ID: id, Body: "x"}, Reason: dlq.ReasonExhausted, Attempts: 1, LastError: "HTTP 503"}
}

// A letter's time goes with it from queue to queue, and what may have arrived stays known.
func TestAnImportKeepsExpiryAndWhatMayHaveArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := dlq.NewMemory(), dlq.NewMemory()
		push(t, from, "a", "over", 1, expires(time.Hour), func(it *dlq.Item) { it.Unanswered = 2 })
		push(t, from, "a", "live", 1, expires(3*time.Hour))
		push(t, from, "a", "marked", 1, expires(time.Hour), func(it *dlq.Item) { it.Reason = dlq.ReasonExpired })
		time.Sleep(2 * time.Hour)
		page, err := from.Page(t.Context(), dlq.Query{Sink: "a"})
		if err != nil {
			t.Fatal(err)
		}
		var items []dlq.Item
		for _, it := range page.Items {
			var read dlq.Item
			if err := json.Unmarshal([]byte(asJSON(t, it.Show(time.Now()))), &read); err != nil {
				t.Fatal(err)
			}
			items = append(items, read)
		}
		sink, told, seen := &receiver{name: "a"}, delivery.NewMemory(0), &counter{}
		e := engine(to, configured(replay.Policy{}, sink))
		e.Records, e.Observer = told, seen
		byID := map[string]dlq.Item{}
		for i, r := range e.Import(t.Context(), items) {
			if r.Status != replay.ImportStored {
				t.Fatalf("%+v, want it stored", r)
			}
			it := get(t, to, r.ID)
			if !it.ExpiresAt.Equal(items[i].ExpiresAt) || it.Unanswered != items[i].Unanswered || it.ExpiresAt.IsZero() {
				t.Errorf("stored %+v, want the times and numbers of %+v", it, items[i])
			}
			byID[it.DeliveryID] = it
		}
		for id, want := range map[string]dlq.State{"over0": dlq.StateExpired, "live0": dlq.StateDue, "marked0": dlq.StateExpired} {
			if got := byID[id].State(time.Now()); got != want {
				t.Errorf("%s is %s, want %s", id, got, want)
			}
		}
		if s := run(t, e, replay.Request{}); s.Expired != 1 || s.Delivered != 1 || seen.expired != 1 || len(sink.counts()) != 1 || sink.counts()["live0"] != 1 {
			t.Errorf("summary %+v, sent %v; want over0 marked and live0 sent", s.Counts, sink.counts())
		}
		for id, want := range map[string]delivery.Status{"over0": delivery.StatusExpired, "live0": delivery.StatusDelivered, "marked0": delivery.StatusExpired} {
			if rec, _, err := told.Get(t.Context(), delivery.Key{Sink: "a", ID: id}); err != nil || rec.Status != want {
				t.Errorf("the record of %s says %q, %v; want %s", id, rec.Status, err, want)
			}
		}
	})
}

// What records say of a delivery decides about its import: only what a receiver has, or a caller
// took back, is left out.
func TestWhatARecordMakesOfAnImport(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(ctx context.Context, r *delivery.Memory, k delivery.Key, it dlq.Item) error
		want   replay.ImportStatus
		note   string
		after  delivery.Status
	}{
		"none":      {func(context.Context, *delivery.Memory, delivery.Key, dlq.Item) error { return nil }, replay.ImportStored, "", delivery.StatusDeadLettered},
		"expired":   {tells(delivery.StatusExpired), replay.ImportStored, "", delivery.StatusDeadLettered},
		"discarded": {tells(delivery.StatusDiscarded), replay.ImportStored, "", delivery.StatusDeadLettered},
		"delivered": {tells(delivery.StatusDelivered), replay.ImportSkipped, "it was delivered at ", delivery.StatusDelivered},
		"canceled": {func(ctx context.Context, r *delivery.Memory, k delivery.Key, _ dlq.Item) error {
			_, _, err := r.Cancel(ctx, k, "t", delivery.Record{})
			return err
		}, replay.ImportSkipped, "it was canceled at ", delivery.StatusCanceled},
		"canceled, of other content": {func(ctx context.Context, r *delivery.Memory, k delivery.Key, it dlq.Item) error {
			it.Message.Body = "another"
			if err := tells(delivery.StatusDeadLettered)(ctx, r, k, it); err != nil {
				return err
			}
			_, _, err := r.Cancel(ctx, k, "t", delivery.Record{})
			return err
		}, replay.ImportSkipped, "it was canceled at ", delivery.StatusCanceled},
		"in progress": {func(ctx context.Context, r *delivery.Memory, k delivery.Key, it dlq.Item) error {
			_, _, err := r.Begin(ctx, delivery.Begin{Key: k, Token: "t", Lease: time.Hour, Fingerprint: delivery.FingerprintOf(it)})
			return err
		}, replay.ImportStored, "", delivery.StatusInProgress},
		"accepting": {func(ctx context.Context, r *delivery.Memory, k delivery.Key, it dlq.Item) error {
			_, _, err := r.Begin(ctx, delivery.Begin{Key: k, Token: "t", Lease: time.Hour, Accept: true, Fingerprint: delivery.FingerprintOf(it)})
			return err
		}, replay.ImportStored, "", delivery.StatusAccepting},
	} {
		t.Run(name, func(t *testing.T) {
			store, told, key := dlq.NewMemory(), delivery.NewMemory(0), delivery.Key{Sink: "a", ID: "x"}
			if err := tt.before(t.Context(), told, key, letter("x")); err != nil {
				t.Fatal(err)
			}
			e := engine(store, targets{})
			e.Records = told
			got := e.Import(t.Context(), []dlq.Item{letter("x")})[0]
			if got.Status != tt.want || !strings.HasPrefix(got.Note, tt.note) {
				t.Errorf("%+v, want it %s, %q", got, tt.want, tt.note)
			}
			if n := depth(t, store, "a"); (n == 1) != (tt.want == replay.ImportStored) {
				t.Errorf("%d letters are in the queue", n)
			}
			if rec, _, err := told.Get(t.Context(), key); err != nil || rec.Status != tt.after {
				t.Errorf("the record says %q, %v; want %q", rec.Status, err, tt.after)
			}
		})
	}
}

func tells(s delivery.Status) func(ctx context.Context, r *delivery.Memory, k delivery.Key, it dlq.Item) error {
	return func(ctx context.Context, r *delivery.Memory, _ delivery.Key, it dlq.Item) error {
		_, err := r.Update(ctx, delivery.ChangeOf(it, s))
		return err
	}
}

// meanwhile has something happen once the import has looked.
type meanwhile struct {
	delivery.Store
	happens func()
}

func (m meanwhile) Get(ctx context.Context, k delivery.Key) (delivery.Record, bool, error) {
	defer m.happens()
	return m.Store.Get(ctx, k)
}

func TestALetterThatIsCanceledWhileItIsImportedGoesAgain(t *testing.T) {
	store, told, key := dlq.NewMemory(), delivery.NewMemory(0), delivery.Key{Sink: "a", ID: "x"}
	e := engine(store, targets{})
	e.Records = meanwhile{told, func() {
		c := delivery.Canceler{Records: told, Letters: store}
		if _, err := c.Cancel(t.Context(), key); err != nil {
			t.Error(err)
		}
	}}
	got := e.Import(t.Context(), []dlq.Item{letter("x")})[0]
	if got.Status != replay.ImportSkipped || got.ID != "" || got.Note != "it was canceled while it was imported" || depth(t, store, "a") != 0 {
		t.Errorf("%+v, want it skipped, and gone", got)
	}
	if rec, _, err := told.Get(t.Context(), key); err != nil || rec.Status != delivery.StatusCanceled {
		t.Errorf("the record says %q, %v; want canceled", rec.Status, err)
	}
}

func TestAnImportChecksUnanswered(t *testing.T) {
	it := letter("x")
	for n, bad := range map[int]bool{-1: true, 0: false, 7: false, 1_000_001: true} {
		it.Unanswered = n
		if err := replay.CheckImport(it); (err != nil) != bad || bad && !strings.Contains(err.Error(), "unanswered") {
			t.Errorf("%d: %v", n, err)
		}
	}
}
