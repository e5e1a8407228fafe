package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

func TestARestoreBringsBackTheOldestFirst(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		var want []string
		for i := range 60 { // over all folders x, and over hours
			id := fmt.Sprintf("d%02d", i)
			if i%3 == 0 {
				w.push(id)
				want = append(want, id)
			} else {
				w.push(id, id+"b")
				want = append(want, id, id+"b")
			}
			later(7 * time.Minute)
		}
		w.wipe()
		p := w.restore(RestoreStep{Limit: 7})
		if p.Restored != int64(len(want)) || p.Looked != p.Restored || !p.Done {
			t.Errorf("%+v, want %d restored", p, len(want))
		}
		w.wantWaiting(want...)
	})
}

func TestARestoreChangesNothingThatIsThere(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a", "b")
		w.push("c")
		w.act("b", dlq.ActionPark)
		w.deliver("c")
		before, err := w.queue.Items(w.ctx, mail, 0)
		w.check(err)
		dry := w.restore(RestoreStep{DryRun: true})
		p := w.restore(RestoreStep{})
		if want := (RestoreProgress{After: p.After, Done: true, Looked: 3, Present: 2, Over: 1}); p != want || dry != want {
			t.Errorf("%+v, as a dry run %+v, want %+v", p, dry, want)
		}
		after, err := w.queue.Items(w.ctx, mail, 0)
		w.check(err)
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("the queue was\n%v\nand is\n%v", before, after)
		}
	})
}

func TestADryRunOfARestoreOnlyCounts(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.push("a")
		w.spill("b", "c")
		w.wipe()
		later(time.Hour)
		w.tick() // sets LostAt, and brings back what was spilled as far as there is room
		lost := w.view().LostAt
		objects := w.bucket.names()
		if p := w.restore(RestoreStep{DryRun: true}); !p.Done || p.Restored != 1 || p.Looked != 3 {
			t.Errorf("%+v, want 1 to restore of 3", p)
		}
		w.wantObjects(objects...)
		if got := w.view().LostAt; lost.IsZero() || !got.Equal(lost) {
			t.Errorf("lost at %v, then %v", lost, got)
		}
	})
}

// What does not fit waits: the restore goes on where it stopped, within an object too, and counts each letter once.
func TestARestoreWaitsForRoom(t *testing.T) {
	inBubble(t, 4, func(w *world) {
		for _, ids := range [][]string{{"a", "b", "c"}, {"d", "e", "f"}} {
			letters := w.letters(ids...)
			w.object(w.group(letters).open(mail), letters)
			later(time.Second)
		}
		p := w.restore(RestoreStep{})
		if want := (RestoreProgress{After: p.After, Full: true, Looked: 4, Restored: 4}); p != want || !strings.HasSuffix(p.After, ":1") {
			t.Errorf("%+v, want it to wait with e", p)
		}
		if again := w.restore(RestoreStep{After: p.After}); again != (RestoreProgress{After: p.After, Full: true}) {
			t.Errorf("without room: %+v", again)
		}
		w.deliver("a")
		w.deliver("b")
		p = w.restore(RestoreStep{After: p.After})
		if want := (RestoreProgress{After: p.After, Done: true, Looked: 2, Restored: 2}); p != want {
			t.Errorf("with room: %+v, want %+v", p, want)
		}
		w.wantWaiting("c", "d", "e", "f")
	})
}

func TestARestoreLeavesOutWhatIsEarlierThanSince(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a")
		later(90 * time.Minute)
		since := time.Now()
		w.push("b")
		w.wipe()
		w.push("new")
		w.wipe()
		w.check(w.queue.SaveJournal(w.ctx, mail, w.lease(), dlq.JournalNotes{LostAt: since}))
		later(longest)
		if p := w.restore(RestoreStep{Since: since}); p.Restored != 2 || p.Looked != 2 {
			t.Errorf("%+v, want two restored", p)
		}
		w.wantWaiting("b", "new")
		if w.view().LostAt.IsZero() {
			t.Error("what is older may be missing still, and the queue is not lost any more")
		}
		w.restore(RestoreStep{})
		if v := w.view(); !v.LostAt.IsZero() {
			t.Errorf("lost at %v after a restore of all", v.LostAt)
		}
	})
}

// lease takes the journal's lease for a minute.
func (w *world) lease() string {
	w.t.Helper()
	_, ok, err := w.queue.JournalLease(w.ctx, mail, "other", time.Minute)
	w.check(err)
	if !ok {
		w.t.Fatal("the lease is taken")
	}
	return "other"
}

func TestWhatWasParkedOrHeldIsRestoredAsSuch(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a", "parked")
		w.push("held")
		w.push("was-parked")
		w.act("parked", dlq.ActionPark)
		w.act("held", dlq.ActionHold)
		w.act("was-parked", dlq.ActionPark)
		if r := w.tick(); r.States != 3 {
			t.Errorf("%d states written, want 3", r.States)
		}
		it, err := w.queue.Find(w.ctx, mail, "was-parked", "")
		w.check(err)
		w.check(w.queue.Unpark(w.ctx, it.ID))
		if r := w.tick(); r.States != 1 {
			t.Errorf("%d states written, want 1", r.States)
		}
		w.wipe()
		w.restore(RestoreStep{})
		w.wantStates("parked", "held")
		w.wantWaiting("a", "parked", "held", "was-parked")

		// Nothing is sent that perhaps must not be.
		w.bucket.put(stateName(mail, w.address("a")), "{")
		w.wipe()
		if p := w.restore(RestoreStep{}); p.Damaged != 1 {
			t.Errorf("%+v, want the state damaged", p)
		}
		items, err := w.queue.Items(w.ctx, mail, 0)
		w.check(err)
		if !slices.ContainsFunc(items, func(it dlq.Item) bool { return it.DeliveryID == "a" && it.Held }) {
			t.Errorf("%+v; want a held", items)
		}
	})
}

func (w *world) address(id string) string {
	w.t.Helper()
	it, err := w.queue.Find(w.ctx, mail, id, "")
	w.check(err)
	return spelled(it.Journal)
}

func TestABadPositionOfARestoreIsRefused(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		g := w.push("a")
		for _, after := range []string{"x", "open/mail/", "open/other/" + string(g) + extension, g.spill(mail), g.open(mail) + ":x", g.open(mail) + ":25"} {
			_, err := w.keeper.Restore(w.ctx, mail, RestoreStep{After: after})
			if fault.CodeOf(err) != fault.CodeInvalidArgument {
				t.Errorf("after %q: %v", after, err)
			}
		}
	})
}

// Foreign names, truncated objects, lines that are no JSON or of another sink, and huge objects: counted, each once, and
// the good lines used.
func TestDamageIsCountedAndStopsNothing(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.damage()
		const damaged = 9
		p := w.restore(RestoreStep{Limit: 1})
		if p.Damaged != damaged || p.Restored != 5 {
			t.Errorf("%+v, want %d damaged and 5 restored", p, damaged)
		}
		w.wantWaiting("a", "b", "d", "g", "z")
		later(time.Hour)
		// The names of three tell what they should be: they are read when that is missing.
		if r := w.tick(); r.Damaged != damaged-3 || r.Missing != 3 {
			t.Errorf("%+v, want %d damaged and 3 missing", r, damaged-3)
		}
		if r := w.tick(); r.Damaged != damaged || r.Healed != 0 {
			t.Errorf("%+v, want %d damaged", r, damaged)
		}
		a := w.audit()
		if a.Damaged != damaged || a.Lost != 0 || a.Queued != 5 || a.Unjournaled != 0 {
			t.Errorf("%+v", a)
		}
		if n := strings.Count(w.log.String(), "is damaged"); n < named || n > 5*named {
			t.Errorf("%d lines in the log:\n%s", n, w.log)
		}
	})
}

// damage makes a journal with 9 damaged objects; a, b, d, g and z can be read.
func (w *world) damage() {
	w.t.Helper()
	write := func(change func(body string) string, ids ...string) {
		letters := w.letters(ids...)
		body, err := encode(letters)
		w.check(err)
		w.bucket.put(w.group(letters).open(mail), change(string(body)))
		later(time.Second)
	}
	as := func(s string) string { return s }
	write(as, "a")
	write(func(s string) string { return s[:len(s)-20] }, "b", "c")                              // 1 truncated
	write(func(s string) string { return s[:strings.IndexByte(s, '\n')+1] }, "d", "e", "f")      // 2 lines are missing
	write(func(string) string { return "" }, "n")                                                // 3 empty
	write(func(s string) string { return "no JSON" + s[strings.IndexByte(s, '\n'):] }, "h", "g") // 4
	write(func(s string) string { return strings.ReplaceAll(s, `"mail"`, `"fax"`) }, "s")        // 5 of another sink
	write(func(string) string { return strings.Repeat("x", 2<<20) }, "t")                        // 6 too large
	w.bucket.put("open/mail/readme.txt", "hello")                                                // 7 foreign
	w.bucket.put("open/mail/3/2000010100/what, ever-1.ndjson", "hello")                          // 8
	w.bucket.put("open/mail/zz/2000010100/nonce-1.ndjson", "hello")                              // 9
	write(as, "z")
}

func TestAnErrorOfABackIsTold(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a")
		w.wipe()
		for _, status := range []dlq.ReturnStatus{"", "what"} {
			w.keeper.Back = func(context.Context, string, string, int, []dlq.Letter) ([]dlq.Returned, error) {
				return []dlq.Returned{{Status: status}}, nil
			}
			if _, err := w.keeper.Restore(w.ctx, mail, RestoreStep{}); fault.CodeOf(err) != fault.CodeInternal {
				t.Errorf("status %q: %v", status, err)
			}
		}
		w.keeper.Back = func(context.Context, string, string, int, []dlq.Letter) ([]dlq.Returned, error) { return nil, nil }
		if _, err := w.keeper.Restore(w.ctx, mail, RestoreStep{}); fault.CodeOf(err) != fault.CodeInternal {
			t.Errorf("no answers: %v", err)
		}
	})
}

func TestOneAtATimeWorksOnAJournal(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a")
		w.deliver("a")
		w.lease()
		_, tick := w.keeper.Tick(w.ctx, mail)
		_, restore := w.keeper.Restore(w.ctx, mail, RestoreStep{})
		_, audit := w.keeper.Audit(w.ctx, mail)
		_, erase := w.keeper.Erase(w.ctx, mail, nil, "")
		for _, err := range []error{tick, restore, audit, erase} {
			if !errors.Is(err, dlq.ErrJournalTaken) {
				t.Errorf("%v, want ErrJournalTaken", err)
			}
		}
		if len(w.bucket.names()) != 1 {
			t.Error("something was done all the same")
		}
		later(time.Minute)
		w.tick()
		w.wantObjects()
	})
}

// Of what was pushed before there was a journal, the queue knows the address by the native id alone.
func TestARestoreIntoAQueueThatHasTheLetterByItsNativeID(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.store("", w.letters("a"))
		w.tick()
		objects := w.bucket.names()
		if p := w.restore(RestoreStep{}); p.Present != 1 || p.Looked != 1 {
			t.Errorf("%+v, want it present", p)
		}
		later(time.Hour)
		for range 3 {
			w.tick()
		}
		w.wantObjects(objects...)
		w.wipe()
		w.restore(RestoreStep{})
		w.wantWaiting("a")
		w.deliver("a") // under another native id
		w.tick()
		w.wantObjects()
	})
}

// Of a group that was stored in part, the rest waits in spill/: the part comes back with a restore.
func TestARestoreLeavesToTicksOnlyWhatWasSpilled(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		letters := w.letters("stored", "spilled")
		g := w.group(letters)
		w.store(g, letters[:1])
		w.object(g.open(mail), letters)
		letters[0] = nil
		w.object(g.spill(mail), letters)
		w.wipe()
		p := w.restore(RestoreStep{})
		if want := (RestoreProgress{After: p.After, Done: true, Looked: 2, Restored: 1, Spilled: 1}); p != want {
			t.Errorf("%+v, want %+v", p, want)
		}
		w.wantWaiting("stored")
		w.tick()
		w.wantWaiting("stored", "spilled")
	})
}
