package journal

import (
	"context"
	"fmt"
	"testing"
	"time"

	"backstop/lib/dlq"
)

func (b *held) calls(op string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count[op]
}

// While some are put back, the next ones are read: neither waits for the other.
func TestTheNextSpilledAreReadWhileSomeArePutBack(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		var want []string
		for i := range 5 { // the first alone, then the others
			id := fmt.Sprintf("spilled-%d", i)
			want = append(want, id)
			w.spill(id)
			later(time.Minute)
		}
		var read []int // objects, when a call that puts back ends
		w.keeper.Back = func(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error) {
			later(time.Second)
			read = append(read, w.bucket.calls("get")/2) // of spill/, and of open/
			return w.queue.Return(ctx, sink, token, over, letters)
		}
		if r := w.tick(); r.Returned != 5 || r.Spilled != 0 {
			t.Errorf("%+v; want all back", r)
		}
		if len(read) < 2 || read[0] != 5 {
			t.Errorf("%v objects were read when calls ended; want all 5 with the first", read)
		}
		w.wantWaiting(want...)
	})
}

// Where there is no room, what was read ahead stays, and the tick ends.
func TestWhatWasReadAheadStaysWhereThereIsNoRoom(t *testing.T) {
	inBubble(t, 1, func(w *world) { // one over the cap
		w.push("fresh")
		for i := range 8 {
			w.spill(fmt.Sprintf("spilled-%d", i))
			later(time.Minute)
		}
		if r := w.tick(); r.Returned != 1 || r.Spilled != 7 || !r.Full {
			t.Errorf("%+v; want one back", r)
		}
		w.wantWaiting("fresh", "spilled-0")
	})
}

// A line that open/ lacks is written before its dead letter is put back.
func TestALineThatOpenLacksIsWrittenOnTheWayBack(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		letters := w.letters("a", "b")
		g := w.group(letters)
		w.object(g.spill(mail), letters)
		w.object(g.open(mail), []*dlq.Letter{letters[0], nil})
		if r := w.tick(); r.Returned != 2 {
			t.Errorf("%+v; want both back", r)
		}
		o, err := w.bucket.Get(w.ctx, g.open(mail))
		w.check(err)
		if got, bad, err := decode(mail, g, o.Body); err != nil || len(bad) > 0 || got[0] == nil || got[1] == nil {
			t.Errorf("open/ has %s", o.Body)
		}
	})
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		name, body, other string
		want              bool
	}{
		{"the same", "a\nb\n", "a\nb\n", true},
		{"a line of the other is over", "a\nb\n", "null\nb\n", true},
		{"both are over", "null\nb\n", "null\nb\n", true},
		{"a line is over that the other has", "null\nb\n", "a\nb\n", false},
		{"another line", "a\nc\n", "a\nb\n", false},
		{"a line is missing", "a\n", "a\nb\n", false},
		{"a line too many", "a\nb\nc\n", "a\nb\n", false},
		{"empty", "", "a\n", false},
	} {
		if got := covers([]byte(c.body), []byte(c.other)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
