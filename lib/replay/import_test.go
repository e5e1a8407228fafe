package replay_test

import (
	"errors"
	"strings"
	"testing"

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
