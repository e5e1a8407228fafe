package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

func TestWhatWasSpilledComesBackTheOldestFirstAndOverTheCap(t *testing.T) {
	inBubble(t, 20, func(w *world) {
		var fresh, want []string
		for i := range 20 {
			fresh = append(fresh, fmt.Sprintf("fresh-%02d", i))
		}
		w.push(fresh...)
		for i := range 8 {
			id := fmt.Sprintf("spilled-%d", i)
			want = append(want, id)
			w.spill(id)
			later(50 * time.Minute)
		}
		r := w.tick()
		if r.Returned != 2 || r.Spilled != 6 || !r.Full {
			t.Errorf("%+v; want a tenth of 20 back, over the cap", r)
		}
		if v := w.view(); v.Spilled != 6 || !v.SpilledAt.Equal(time.Now()) {
			t.Errorf("%+v", v.JournalNotes)
		}
		for _, id := range fresh {
			w.deliver(id)
		}
		if r := w.tick(); r.Returned != 6 || r.Spilled != 0 || r.Full {
			t.Errorf("%+v; want the rest back", r)
		}
		w.wantWaiting(want...)
		if v := w.view(); v.Spilled != 0 || !v.SpilledAt.IsZero() {
			t.Errorf("%+v", v.JournalNotes)
		}
	})
}

// What was delivered, canceled or discarded does not come back, and its line ends.
func TestABackDecidesWhatComesBack(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.spill("delivered", "canceled", "open")
		w.spill("discarded")
		w.keeper.MaxLen = 1000
		away := errors.New("away")
		w.keeper.Back = func(context.Context, string, string, int, []dlq.Letter) ([]dlq.Returned, error) { return nil, away }
		before := w.bucket.names()
		if _, err := w.keeper.Tick(w.ctx, mail); !errors.Is(err, away) {
			t.Errorf("%v", err)
		}
		w.wantObjects(before...)
		w.keeper.Back = func(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error) {
			if over != 100 {
				t.Errorf("%d over the cap, want 100", over)
			}
			answers := make([]dlq.Returned, len(letters))
			for i, l := range letters {
				switch l.Item.DeliveryID {
				case "open":
					got, err := w.queue.Return(ctx, sink, token, over, letters[i:i+1])
					if err != nil {
						return nil, err
					}
					answers[i] = got[0]
				case "canceled":
					answers[i].Status = dlq.ReturnCanceled
				default:
					answers[i].Status = dlq.ReturnEnded
				}
			}
			return answers, nil
		}
		if r := w.tick(); r.Returned != 1 || r.Over != 3 || r.Spilled != 0 {
			t.Errorf("%+v", r)
		}
		later(time.Hour)
		w.tick()
		w.wantWaiting("open")
		if a := w.audit(); a != (Audit{Letters: 1, Queued: 1}) {
			t.Errorf("%+v", a)
		}
	})
}

// A spilled object that cannot be read in full stays, and its good lines are used.
func TestADamagedSpilledObjectStays(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		letters := w.letters("a", "b")
		g := w.group(letters)
		body, err := encode(letters)
		w.check(err)
		w.bucket.put(g.spill(mail), string(body[:len(body)-9]))
		w.bucket.put("spill/mail/foreign", "x")
		for range 2 {
			if r := w.tick(); r.Damaged != 2 {
				t.Errorf("%+v; want 2 objects damaged", r)
			}
		}
		w.wantWaiting("a")
		if !slices.Contains(w.bucket.names(), g.spill(mail)) {
			t.Error("the damaged object is gone")
		}
	})
}

// A name that another body has already is never overwritten.
func TestAnotherDeadLettersObjectIsNotOverwritten(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		stored := w.store("", w.letters("native"))
		w.store(w.group(w.letters("x")), w.letters("x"))
		id, err := dlq.ParseID(stored[0].ID)
		w.check(err)
		name := nativeGroup(id.Native).open(mail)
		w.object(name, w.letters("other"))
		later(time.Hour)
		for range 2 {
			if r := w.tick(); r.Conflicts != 1 || r.Written != 0 {
				t.Errorf("%+v; want a conflict", r)
			}
		}
		o, err := w.bucket.Get(w.ctx, name)
		w.check(err)
		if !strings.Contains(string(o.Body), "other") {
			t.Errorf("the object is %s", o.Body)
		}
		if w.view().Unjournaled != 1 || !strings.Contains(w.log.String(), stored[0].ID) {
			t.Errorf("%+v\n%s", w.view(), w.log)
		}
	})
}

// A bucket that is away ends a tick at its first call, and is told; a queue too. The lease is free again.
func TestABucketThatIsAwayEndsATick(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		muddle(w)
		away := errors.New("connection refused")
		w.bucket.fault = func(string, string) error { return away }
		before := w.bucket.total()
		_, err := w.keeper.Tick(w.ctx, mail)
		if !errors.Is(err, away) {
			t.Errorf("%v", err)
		}
		if n := w.bucket.total() - before; n > calls {
			t.Errorf("%d calls of a bucket that is away", n)
		}
		w.bucket.fault = nil
		w.tick()
	})
}

// A bucket that hangs costs a tick one call's time, not its own.
func TestABucketThatHangsEndsATick(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		muddle(w)
		w.keeper.Bucket = hanging{w.bucket}
		begin := time.Now()
		_, err := w.keeper.Tick(w.ctx, mail)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > bucketTimeout {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		// Within a shorter time of its caller's, and then the lease is free again.
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		begin = time.Now()
		_, err = w.keeper.Tick(ctx, mail)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		w.keeper.Bucket = w.bucket
		w.tick()
	})
}

// hanging is a Bucket that does not answer.
type hanging struct{ *held }

func (h hanging) Put(ctx context.Context, _ string, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

func (h hanging) List(ctx context.Context, _, _ string, _ int) ([]Listed, bool, error) {
	<-ctx.Done()
	return nil, false, ctx.Err()
}

// total is how many calls were made.
func (b *held) total() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.count {
		n += c
	}
	return n
}

// A tick of a sink that has nothing to do asks the bucket little.
func TestAnIdleTickIsCheap(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a")
		w.tick()
		before := w.bucket.total()
		w.tick()
		if n := w.bucket.total() - before; n != 2 {
			t.Errorf("%d calls of the bucket, want 2: a page of spill/ and one of open/", n)
		}
	})
}

func TestSinksOfAJournal(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a")
		w.bucket.put("spill/other/x", "")
		w.bucket.put("state/none/x", "")
		w.bucket.put("open/Not A Sink/x", "")
		got, err := w.keeper.Sinks(w.ctx)
		if err != nil || !slices.Equal(got, []string{mail, "other"}) {
			t.Errorf("%v %v", got, err)
		}
		if !strings.Contains(w.log.String(), "Not A Sink") {
			t.Errorf("the log is %q", w.log)
		}
	})
}

func TestAnAuditCountsEveryLetterOnce(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("a", "b", "c")
		w.deliver("c")                                   // ending
		w.push("a")                                      // ending, and a duplicate
		w.store(w.group(w.letters("d")), w.letters("d")) // unjournaled, and nobody noted it
		w.store("", w.letters("native"))                 // unjournaled
		w.lack(2, 3)                                     // lost
		w.spill("s", "t")                                // spilled
		only := w.letters("u", "v")
		g := w.group(only)
		w.object(g.spill(mail), only)
		w.check(w.queue.NoteEnded(w.ctx, mail, []string{g.address(1)})) // v is ending
		w.spill("b")                                                    // queued
		later(time.Hour)
		w.lack(1, 4) // too young to be lost
		want := Audit{Letters: 4 + 3 + 2 + 6, Queued: 4, Spilled: 3, Ending: 2, Unjournaled: 2, Lost: 6}
		if a := w.audit(); a != want {
			t.Errorf("%+v, want %+v", a, want)
		}
		// Ticks write what it found.
		if r := w.tick(); r.Written < 2 {
			t.Errorf("%+v; want 2 written", r)
		}
		w.restore(RestoreStep{})
		later(time.Hour)
		w.tick()
		if a := w.audit(); a.Lost != 0 || a.Unjournaled != 0 || a.Ending != 0 || a.Letters != a.Queued || a.Queued != 4+3+7 { // three of the young ones are among the lost ones
			t.Errorf("after a restore: %+v", a)
		}
	})
}

// What ends or is discarded while an audit reads is not lost.
func TestAnAuditOfAQueueThatLivesOn(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		for i := range 30 {
			w.push(fmt.Sprintf("a%02d", i), fmt.Sprintf("b%02d", i))
		}
		later(time.Hour)
		var mu sync.Mutex // objects are read side by side
		n := 0
		w.bucket.fault = func(op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if op == "get" && n < 20 {
				id := fmt.Sprintf("a%02d", n)
				n++
				w.deliver(id)
				w.push("new" + id)
			}
			return nil
		}
		if a := w.audit(); a.Lost != 0 || a.Unjournaled != 0 || a.Queued != 60 || a.Letters != 60 {
			t.Errorf("%+v", a)
		}
	})
}

func TestErasureLeavesNothingOfAPerson(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.lack(1, 1)
		mixed := w.letters("a", "person", "b")
		g := w.group(mixed)
		w.object(g.open(mail), mixed)
		w.object(g.open(mail), mixed) // an older version
		w.object(g.spill(mail), mixed)
		w.bucket.put(stateName(mail, g.address(1)), `{"parked":true}`)
		alone := w.letters("person")
		w.object(w.group(alone).open(mail), alone)
		body, err := encode(w.letters("c", "person"))
		w.check(err)
		w.bucket.put(w.group(mixed[:2]).open(mail), string(body[:len(body)-30])) // damaged: nobody can tell
		w.bucket.put("open/mail/foreign", "person")

		match := func(r json.RawMessage) bool { return strings.Contains(string(r), "person@") }
		p, err := w.keeper.Erase(w.ctx, mail, match, "")
		w.check(err)
		if !p.Done || p.Erased != 3 || p.Versions != 4 || p.Damaged != 2 {
			t.Errorf("%+v; want 3 erased, 4 versions, 2 damaged", p)
		}
		for name, o := range w.bucket.objects {
			if strings.Contains(string(o.Body), "person@") && !strings.Contains(w.log.String(), name) {
				t.Errorf("%s has %s", name, o.Body)
			}
		}
		for name, bodies := range w.bucket.older {
			for _, b := range bodies {
				if strings.Contains(string(b), "person@") {
					t.Errorf("an older version of %s has %s", name, b)
				}
			}
		}
		if slices.Contains(w.bucket.names(), stateName(mail, g.address(1))) {
			t.Error("its state is there still")
		}
		w.restore(RestoreStep{})
		w.tick()
		w.wantWaiting("lacks-0000-00", "c", "a", "b")
	})
}

// An erasure whose time is over among the older versions goes on there, and one that is too large to be read stops nothing.
func TestAnErasureGoesOnAmongOlderVersions(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		w.push("person")
		w.push("a")
		match := func(r json.RawMessage) bool { return strings.Contains(string(r), "person@") }
		w.keeper.Bucket = aging{w.bucket, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}}
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		defer cancel()
		p, err := w.keeper.Erase(ctx, mail, match, "")
		if err != nil || p.Done || p.Erased != 1 || p.After != "versions:open/mail/" {
			t.Errorf("%+v, %v", p, err)
		}
		w.keeper.Bucket = aging{w.bucket, func(context.Context) (string, error) { return "", fmt.Errorf("an old one: %w", ErrTooLarge) }}
		gets := w.bucket.count["get"]
		p, err = w.keeper.Erase(w.ctx, mail, match, p.After)
		if err != nil || !p.Done || p.Versions != 2 || p.Damaged != 2 || w.bucket.count["get"] != gets {
			t.Errorf("%+v, %v", p, err)
		}
		if _, err := w.keeper.Erase(w.ctx, mail, match, "versions:open/other/x"); fault.CodeOf(err) != fault.CodeInvalidArgument {
			t.Errorf("%v", err)
		}
	})
}

// aging is a Bucket with something about older versions.
type aging struct {
	*held
	ends func(context.Context) (string, error)
}

func (p aging) Purge(ctx context.Context, _, _ string, _ func(string, []byte) bool) (int, string, error) {
	next, err := p.ends(ctx)
	return 1, next, err
}

// An erasure that died goes on, at any call; one whose time is over does too.
func TestAnErasureGoesOn(t *testing.T) {
	match := func(r json.RawMessage) bool { return strings.Contains(string(r), "person@") }
	for at, dead := 1, true; dead; at++ {
		inBubble(t, 0, func(w *world) {
			for range 3 {
				mixed := w.letters("a", "person")
				g := w.group(mixed)
				w.object(g.open(mail), mixed)
				w.object(g.spill(mail), mixed)
				later(time.Hour)
			}
			l := w.mortal(at, at%2 == 0)
			p, _ := w.keeper.Erase(w.ctx, mail, match, "") // what it says is another test's
			dead = l.over()
			w.reborn()
			for n := 0; !p.Done; n++ {
				var err error
				p, err = w.keeper.Erase(w.ctx, mail, match, p.After)
				if w.check(err); n > 10 {
					t.Fatalf("%+v", p)
				}
			}
			w.settleAll()
			w.wantWaiting("a")
			for name, o := range w.bucket.objects {
				if strings.Contains(string(o.Body), "person@") {
					t.Fatalf("killed at call %d: %s has %s", at, name, o.Body)
				}
			}
		})
	}
}
