package journal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/lib/dlq"
)

// lack makes objects of dead letters that the queue lacks, n to an object.
func (w *world) lack(objects, n int) (ids []string) {
	w.t.Helper()
	for i := range objects {
		var some []string
		for j := range n {
			some = append(some, fmt.Sprintf("lacks-%04d-%02d", i, j))
		}
		letters := w.letters(some...)
		w.object(w.group(letters).open(mail), letters)
		ids = append(ids, some...)
	}
	return ids
}

func TestWhatIsMissingTwiceIsHealed(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("there")
		lacks := w.lack(3, 2)
		later(settled - time.Second)
		if r := w.tick(); r.Compared != 0 {
			t.Errorf("%+v; want nothing compared that is not old enough", r)
		}
		later(time.Minute)
		if r := w.tick(); r.Compared != 7 || r.Missing != 6 || r.Healed != 0 {
			t.Errorf("%+v; want 6 of 7 missing", r)
		}
		w.wantWaiting("there")
		later(time.Minute)
		if r := w.tick(); r.Healed != 6 || r.Lost {
			t.Errorf("%+v; want 6 healed", r)
		}
		got := w.waiting()
		slices.Sort(got)
		if want := append(lacks, "there"); !slices.Equal(got, want) {
			t.Errorf("the queue has %v, want %v", got, want)
		}
		later(time.Minute)
		if r := w.tick(); r.Missing != 0 || r.Healed != 0 {
			t.Errorf("%+v; want nothing missing", r)
		}
	})
}

func TestWhatWasMissingOnceAndIsThereIsNotHealed(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		letters := w.letters("a", "b", "c")
		g := w.group(letters)
		w.object(g.open(mail), letters)
		later(time.Hour)
		w.push("other")
		w.tick()
		w.store(g, letters[:1])                                         // a late push
		w.check(w.queue.NoteEnded(w.ctx, mail, []string{g.address(1)})) // it ended
		letters[2] = nil
		w.object(g.open(mail), letters) // it was discarded
		if r := w.tick(); r.Healed != 0 {
			t.Errorf("%+v; want nothing healed", r)
		}
		w.wantWaiting("other", "a")
	})
}

// What waits in spill/ is not missing, though the object under open/ has it.
func TestWhatIsSpilledIsNotMissing(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.push("first")
		w.spill("a", "b")
		w.spill("c", "d")
		later(time.Hour)
		for range 3 {
			w.tick()
			later(time.Minute)
		}
		// One more than the cap.
		w.wantWaiting("first", "a")
		if v := w.view(); v.Spilled != 4 || len(v.Missing) != 0 || v.Healed != 0 {
			t.Errorf("%+v; want the letters of 2 objects spilled, none missing", v)
		}
		if a := w.audit(); a != (Audit{Letters: 5, Queued: 2, Spilled: 3}) {
			t.Errorf("%+v", a)
		}
	})
}

func TestAWipedQueueIsLostUntilItIsRestored(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known %t", known), func(t *testing.T) {
			inBubble(t, 0, func(w *world) {
				w.lack(1100, 1)
				later(time.Hour)
				if known {
					w.push("new") // nobody notices by the queue's keys that it is another one
				}
				for range 4 {
					w.tick()
					later(time.Minute)
				}
				if r := w.tick(); !r.Lost || r.Healed != 0 {
					t.Errorf("%+v; want the queue lost", r)
				}
				if v := w.view(); v.LostAt.IsZero() {
					t.Errorf("%+v; want the queue lost", v)
				}
				if n := len(w.waiting()); n > 1 {
					t.Errorf("%d dead letters came back by themselves", n)
				}
				if !strings.Contains(w.log.String(), "restore it") {
					t.Errorf("the log is %q", w.log)
				}
				if p := w.restore(RestoreStep{}); p.Restored != 1100 {
					t.Errorf("%+v", p)
				}
				if r := w.tick(); r.Lost {
					t.Errorf("%+v; want it not lost any more", r)
				}
			})
		})
	}
}

// A comparison of all that misses nothing says that it is not lost any more, too.
func TestALostQueueThatHasEverythingIsNotLost(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		for range 90 {
			w.push("a", "b") // the same: each ends the address before
		}
		ids := w.lack(300, 2)
		later(time.Hour)
		w.check(w.queue.SaveJournal(w.ctx, mail, w.lease(), dlq.JournalNotes{LostAt: time.Now()}))
		later(time.Minute)
		if r := w.tick(); !r.Lost {
			t.Errorf("%+v; want it lost: much is missing", r)
		}
		for some := range slices.Chunk(ids, 2) { // somebody pushed them again
			w.push(some...)
		}
		later(time.Hour)
		lost := 0
		for range 10 {
			if w.tick().Lost {
				lost++
			}
			later(time.Minute)
		}
		if lost == 0 || lost == 10 {
			t.Errorf("lost for %d of 10 ticks; want it until all was compared", lost)
		}
	})
}

// Dead letters that were spilled before the queue ever had one are no sign of a loss.
func TestAQueueThatNeverHadWhatWasSpilledIsNotLost(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.spill("a")
		w.spill("b", "c")
		later(time.Hour)
		if r := w.tick(); r.Lost || r.Returned != 3 {
			t.Errorf("%+v; want 3 back", r)
		}
		w.wantWaiting("a", "b", "c")
	})
}

// A comparison goes on where the last one stopped, and looks at everything.
func TestAComparisonIsMadeInSlices(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		for i := range 500 {
			w.push(fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i))
		}
		later(time.Hour)
		var compared []int64
		for range 4 {
			w.bucket.count["get"] = 0
			compared = append(compared, w.tick().Compared)
			if n := w.bucket.count["get"]; n > sliceReads {
				t.Errorf("%d objects were read by one tick", n)
			}
		}
		if want := []int64{400, 400, 200, 400}; !slices.Equal(compared, want) {
			t.Errorf("%v dead letters compared, want %v", compared, want)
		}
	})
}

// The names of single ones tell enough.
func TestSingleDeadLettersAreComparedWithoutReadingThem(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		for i := range 2500 {
			w.push(fmt.Sprint(i))
		}
		later(time.Hour)
		if r := w.tick(); r.Compared != sliceLetters || w.bucket.count["get"] != 0 {
			t.Errorf("%+v, %d reads", r, w.bucket.count["get"])
		}
	})
}

// A pushing process whose clock is ahead, or went back, does not keep its dead letters from being compared: the
// bucket's clock tells their age too. Nor does this process' own clock, when the bucket's is right.
func TestClocksMayBeWrong(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		ahead, back := w.letters("ahead"), w.letters("back")
		w.object(groupAt(time.Now().AddDate(1, 0, 0), 1, ahead).open(mail), ahead)
		// The nonce goes on ascending when the clock goes back; the hour does not.
		g := groupAt(time.Now().Add(time.Hour), 2, back)
		parts := strings.Split(string(g), "/")
		g = group(parts[0] + "/" + time.Now().AddDate(-1, 0, 0).UTC().Format(hourLayout) + "/" + parts[2])
		w.object(g.open(mail), back)
		w.push("there")
		later(20 * time.Minute)
		w.tick()
		if r := w.tick(); r.Healed != 2 {
			t.Errorf("%+v; want 2 healed", r)
		}
		w.wipe()
		if p := w.restore(RestoreStep{Since: time.Now().Add(-time.Hour)}); p.Restored != 3 {
			t.Errorf("%+v; want 3 restored", p)
		}

		w.wipe()
		w.push("there")
		for name, at := range w.bucket.at {
			w.bucket.at[name] = at.AddDate(0, 0, 1) // our clock is a day behind
		}
		letters := w.letters("behind")
		g = groupAt(time.Now().AddDate(0, 0, 1).Add(-time.Hour), 3, letters)
		w.object(g.open(mail), letters)
		w.bucket.at[g.open(mail)] = time.Now().AddDate(0, 0, 1).Add(-time.Hour)
		w.tick()
		w.tick()
		if got := w.waiting(); !slices.Contains(got, "behind") {
			t.Errorf("the queue has %v; want what is an hour old by the bucket's clock", got)
		}
	})
}

func TestADuplicateIsEndedWhenItsOtherObjectIsWritten(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		first := w.letters("a")
		g := w.group(first)
		w.store(g, first) // its object was not written
		second := w.group(first)
		w.object(second.open(mail), first) // and of the second push, the queue heard nothing
		later(time.Hour)
		w.tick()
		w.tick()
		w.wantObjects(g.open(mail))
		w.wantWaiting("a")
	})
}

// An object under open/ in which nothing is open is deleted; what spill/ has of its group is not.
func TestAnObjectWithoutOpenLinesIsDeletedAlone(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.push("first")
		w.spill("s1", "s2") // for one of them there is room
		ids := []string{"first", "s1", "s2"}
		for i := range 8 { // some are read ahead, but not that many
			id := fmt.Sprintf("t%d", i)
			w.spill(id)
			ids = append(ids, id)
		}
		letters := w.letters("x", "y")
		g := w.group(letters)
		w.object(g.open(mail), []*dlq.Letter{nil, nil})
		w.object(g.spill(mail), []*dlq.Letter{nil, letters[1]})
		later(time.Hour)
		if r := w.tick(); r.Deleted != 1 || !r.Full {
			t.Errorf("%+v; want the object deleted", r)
		}
		for _, id := range append(ids, "y") {
			w.deliver(id)
			w.tick()
		}
		w.wantWaiting()
	})
}
