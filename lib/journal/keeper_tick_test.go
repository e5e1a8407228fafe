package journal

import (
	"testing"
	"time"

	"backstop/lib/dlq"
)

func TestATickDeletesWhatIsOver(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		_, two := w.push("a"), w.push("b", "c")
		w.deliver("a")
		w.deliver("b")
		if r := w.tick(); r.Deleted != 1 {
			t.Errorf("%d objects deleted, want that of a", r.Deleted)
		}
		w.wantObjects(two.open(mail))
		if n := w.view().Ending; n != 1 {
			t.Errorf("%d addresses are ending, want that of b", n)
		}
		w.deliver("c")
		if r := w.tick(); r.Deleted != 1 {
			t.Errorf("%d objects deleted, want that of b and c", r.Deleted)
		}
		w.wantObjects()
		if n := w.view().Ending; n != 0 {
			t.Errorf("%d addresses are ending, want none", n)
		}
	})
}

func TestATickWritesWhatTheJournalLacks(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		letters := w.letters("a", "b")
		g := w.group(letters)
		w.check(w.queue.NoteUnjournaled(w.ctx, mail, ids(w.store(g, letters))))
		w.store("", w.letters("c")) // pushed before there was a journal
		if r := w.tick(); r.Written != 3 {
			t.Errorf("%d dead letters written, want 3", r.Written)
		}
		if n := w.view().Unjournaled; n != 0 {
			t.Errorf("%d are unjournaled still", n)
		}
		w.wipe()
		if p := w.restore(RestoreStep{}); p.Restored != 3 || !p.Done {
			t.Errorf("%+v, want 3 restored", p)
		}
		w.wantWaiting("a", "b", "c")
		later(time.Hour)
		if a := w.audit(); a != (Audit{Letters: 3, Queued: 3}) {
			t.Errorf("%+v", a)
		}
	})
}

func ids(items []dlq.Item) []string {
	var all []string
	for _, it := range items {
		all = append(all, it.ID)
	}
	return all
}
