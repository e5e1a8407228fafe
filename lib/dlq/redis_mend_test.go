package dlq_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// mix fills a queue with dead letters of every state, n of each, and returns their native
// ids, oldest first. Each delivery has as many as contents says, which differ in that.
func mix(t *testing.T, s dlq.Store, n, contents int) (natives []string) {
	t.Helper()
	add := func(kind string, i int) dlq.Item {
		it := message("mail", fmt.Sprint(kind, i/contents))
		it.Message.Body = fmt.Sprint(i % contents)
		it.LastError = "failed like " + kind
		switch kind {
		case "never", "terminal":
			it.Reason = dlq.ReasonTerminal
		case "later":
			it.NotBefore = time.Now().Add(time.Hour)
		case "over":
			it.ExpiresAt = time.Now().Add(-time.Hour)
		case "in time", "marked", "kept in time":
			it.ExpiresAt = time.Now().Add(time.Hour)
		case "expired":
			it.Reason = dlq.ReasonExpired
		case "again", "kept again":
			it.Replays = 1
		}
		it = mustAdd(t, s, it)
		natives = append(natives, strings.TrimPrefix(it.ID, "mail~"))
		return it
	}
	settle := func(it dlq.Item, a dlq.Action) {
		l, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{it.ID}, TTL: time.Hour})
		if err != nil || len(l) != 1 {
			t.Fatalf("Claim = %v, %v", l, err)
		}
		if a == "" {
			return
		}
		st := dlq.Settlement{Lease: l[0].Lease, Action: a, Charge: true, Error: "no", Delay: time.Hour}
		if _, err := s.Settle(t.Context(), []dlq.Settlement{st}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		add("fresh", i)
		add("never", i)
		add("later", i)
		settle(add("parked", i), dlq.ActionPark)
		settle(add("held", i), dlq.ActionHold)
		settle(add("kept", i), dlq.ActionKeep)
		settle(add("moved", i), dlq.ActionRetry)
		settle(add("leased", i), "")
		settle(add("terminal", i), "")
		add("over", i)
		add("in time", i)
		add("expired", i)
		add("again", i)
		settle(add("marked", i), dlq.ActionExpire)
		settle(add("kept in time", i), dlq.ActionKeep)
		settle(add("kept again", i), dlq.ActionKeep)
	}
	return natives
}

// mended asks for the queue's numbers as ticks do, until what is kept beside the stream is
// in order, and compares them with a look at every item. Unless it is to be noticed at once,
// an hour passes.
func mended(t *testing.T, c redis.UniversalClient, s prefixed, atOnce bool) {
	t.Helper()
	ctx := t.Context()
	if !atOnce {
		if err := c.HSet(ctx, "{"+s.prefix+":dlq:mail}:meta", "mended", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var faults []string
	for range 20 {
		st, err := s.Stats(ctx, "mail")
		if err != nil {
			t.Fatal(err)
		}
		if st.Kept > st.Depth || st.Parked > st.Depth || st.Remaining < 0 {
			t.Fatalf("Stats = %+v", st)
		}
		// Only the time between two steps is left out.
		if err := c.HDel(ctx, "{"+s.prefix+":dlq:mail}:meta", "mend_at").Err(); err != nil {
			t.Fatal(err)
		}
		if faults = auditQueue(ctx, c, s.prefix, "mail"); len(faults) == 0 {
			break
		}
	}
	for _, fault := range faults {
		t.Errorf("after 20 ticks: %s", fault)
	}
	items, err := s.Items(ctx, "mail", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	want := dlq.Stats{Depth: int64(len(items)), States: map[dlq.State]int64{}}
	for _, it := range items {
		if it.State(time.Now()) == dlq.StateExpired && it.ExpiredAt.IsZero() {
			want.Overdue++
		}
		it = counted(it)
		want.States[it.State(time.Now())]++
		it.LeasedUntil = time.Time{}
		if it.State(time.Now()).Scheduled() {
			want.Remaining++
		}
		if it.Parked {
			want.Parked++
		}
		if !it.DeliveredAt.IsZero() {
			want.Kept++
		}
	}
	got, err := s.Stats(ctx, "mail")
	got.OldestAt, got.NewestID, got.Trimmed, got.New = time.Time{}, "", 0, 0
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Stats = %+v, %v; a look at every item counts %+v", got, err, want)
	}
	groups, err := s.Groups(ctx, "mail")
	var grouped int64
	for _, g := range groups {
		grouped += g.Count
	}
	if err != nil || grouped != want.Depth {
		t.Errorf("Groups = %v, %v; want %d dead letters in all", groups, err, want.Depth)
	}
}

// TestWhatOthersRemovedIsMended removes entries and keys behind a queue's back.
func TestWhatOthersRemovedIsMended(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	_, mini := redistest.Mini(t)
	for name, remove := range map[string]func(ctx context.Context, c redis.UniversalClient, stream string, natives []string) error{
		"DEL": func(ctx context.Context, c redis.UniversalClient, stream string, _ []string) error {
			return c.Del(ctx, stream).Err()
		},
		"XTRIM MAXLEN 0": func(ctx context.Context, c redis.UniversalClient, stream string, _ []string) error {
			return c.XTrimMaxLen(ctx, stream, 0).Err()
		},
		"XTRIM MAXLEN 5": func(ctx context.Context, c redis.UniversalClient, stream string, _ []string) error {
			return c.XTrimMaxLen(ctx, stream, 5).Err()
		},
		"XTRIM MAXLEN 20": func(ctx context.Context, c redis.UniversalClient, stream string, _ []string) error {
			return c.XTrimMaxLen(ctx, stream, 20).Err()
		},
		"XDEL of every other one": func(ctx context.Context, c redis.UniversalClient, stream string, natives []string) error {
			var gone []string
			for i, id := range natives {
				if i%2 == 0 {
					gone = append(gone, id)
				}
			}
			return c.XDel(ctx, stream, gone...).Err()
		},
		"XDEL of the newest": func(ctx context.Context, c redis.UniversalClient, stream string, natives []string) error {
			return c.XDel(ctx, stream, natives[len(natives)-9:]...).Err()
		},
		"DEL of the due set": func(ctx context.Context, c redis.UniversalClient, stream string, natives []string) error {
			if err := c.XDel(ctx, stream, natives[0]).Err(); err != nil {
				return err
			}
			return c.Del(ctx, "{"+stream+"}:due").Err()
		},
		"DEL of what leads to entries": func(ctx context.Context, c redis.UniversalClient, stream string, natives []string) error {
			if err := c.XDel(ctx, stream, natives[0]).Err(); err != nil {
				return err
			}
			return c.Del(ctx, "{"+stream+"}:expires", "{"+stream+"}:generations").Err()
		},
		"wrong counters": func(ctx context.Context, c redis.UniversalClient, stream string, _ []string) error {
			return c.HSet(ctx, "{"+stream+"}:meta", "idle", 1000, "parked", -3, "expired", -3).Err()
		},
	} {
		for server, c := range map[string]redis.UniversalClient{"redis-server": c, "embedded": mini} {
			for contents, pushes := range map[int]int{1: 0, 2: 3} {
				t.Run(fmt.Sprintf("%s, %s, then %d pushes", server, name, pushes), func(t *testing.T) {
					s := newStore(t, c, dlq.WithMaxLen(0))
					natives := mix(t, s, 4, contents)
					if err := remove(t.Context(), c, s.prefix+":dlq:mail", natives); err != nil {
						t.Fatal(err)
					}
					for i := range pushes {
						mustAdd(t, s, message("mail", fmt.Sprint("new", i)))
					}
					mended(t, c, s, contents == 1)
				})
			}
		}
	}
}

// TestAPassIsTrueWhileTheQueueIsUsed lets a pass take many steps, and changes what it has
// counted, and what it has not, between them.
func TestAPassIsTrueWhileTheQueueIsUsed(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c, dlq.WithMaxLen(0))
	ctx := t.Context()
	natives := mix(t, s, 60, 1)
	meta := "{" + s.prefix + ":dlq:mail}:meta"
	if err := c.XTrimMaxLen(ctx, s.prefix+":dlq:mail", int64(len(natives)-100)).Err(); err != nil {
		t.Fatal(err)
	}
	natives = natives[100:]
	// Large entries make a step short.
	for i := range 100 {
		it := message("mail", fmt.Sprint("large", i))
		it.Message.Body = strings.Repeat("x", 100<<10)
		natives = append(natives, strings.TrimPrefix(mustAdd(t, s, it).ID, "mail~"))
	}
	counting := 0
	for i := 0; i < 400; i++ {
		if _, err := s.Stats(ctx, "mail"); err != nil {
			t.Fatal(err)
		}
		at, err := c.HGet(ctx, meta, "recount").Result()
		if err == nil && at != "" {
			counting++
		}
		if err := c.HDel(ctx, meta, "mend_at").Err(); err != nil {
			t.Fatal(err)
		}
		mustAdd(t, s, message("mail", fmt.Sprint("while", i)))
		for _, j := range []int{(i * 7) % len(natives), (i*13 + 5) % len(natives)} {
			id := "mail~" + natives[j]
			switch i % 4 {
			case 0:
				if err := s.Unpark(ctx, id); err != nil && fault.CodeOf(err) != fault.CodeItemLeased && fault.CodeOf(err) != fault.CodeDLQNotFound {
					t.Fatal(err)
				}
			case 1:
				if err := s.Discard(ctx, id); err != nil && fault.CodeOf(err) != fault.CodeItemLeased {
					t.Fatal(err)
				}
			default:
				l, err := s.Claim(ctx, dlq.Claim{Sink: "mail", IDs: []string{id}, Force: true, TTL: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				actions := []dlq.Action{dlq.ActionPark, dlq.ActionHold, dlq.ActionRetry, dlq.ActionKeep, dlq.ActionDrop, dlq.ActionExpire}
				for _, l := range l {
					if _, err := s.Settle(ctx, []dlq.Settlement{{Lease: l.Lease, Action: actions[(i+j)%len(actions)], Delay: time.Hour}}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if mend, err := c.HExists(ctx, meta, "mend").Result(); err != nil {
			t.Fatal(err)
		} else if !mend && i > 0 {
			break
		}
	}
	if counting < 3 {
		t.Errorf("the recount was seen under way %d times: the test changes nothing meanwhile", counting)
	}
	// A step goes on by how many members of a scan's answer are done: where one of those is removed meanwhile, the
	// pass leaves another out, and the next one finds it.
	for _, fault := range auditQueue(ctx, c, s.prefix, "mail") {
		t.Logf("right after the pass: %s", fault)
		mended(t, c, s, false)
		break
	}
}

// TestStatsOfSeveralQueuesMendThem: some in each call, as many calls as it takes.
func TestStatsOfSeveralQueuesMendThem(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	var names []string
	for i := range 6 {
		names = append(names, fmt.Sprint("sink", i))
		mustAdd(t, s, message(names[i], "d"))
	}
	want, err := s.StatsOf(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := c.HSet(t.Context(), "{"+s.prefix+":dlq:"+name+"}:meta", "idle", 1000, "parked", 7, "mended", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for call, right := range []int{4, 6} {
		got, err := s.StatsOf(t.Context(), names)
		if err != nil {
			t.Fatal(err)
		}
		for i, st := range got {
			if (cmp.Diff(want[i], st) == "") != (i < right) {
				t.Errorf("call %d: %s is %+v, in truth %+v", call, names[i], st, want[i])
			}
		}
	}
}

// TestNoCounterHoldsUpWhatIsDue is what was seen: the counter of what is not due stayed at
// five, and four due dead letters were never claimed.
func TestNoCounterHoldsUpWhatIsDue(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	for name, remove := range map[string]func(stream string) error{
		"DEL":   func(stream string) error { return c.Del(t.Context(), stream).Err() },
		"XTRIM": func(stream string) error { return c.XTrimMaxLen(t.Context(), stream, 0).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, c)
			ctx := t.Context()
			for i := range 5 {
				it := message("mail", fmt.Sprint("t", i))
				it.Reason = dlq.ReasonTerminal
				mustAdd(t, s, it)
			}
			if err := remove(s.prefix + ":dlq:mail"); err != nil {
				t.Fatal(err)
			}
			if st, err := s.Stats(ctx, "mail"); err != nil || !reflect.DeepEqual(st, dlq.Stats{New: 1, States: map[dlq.State]int64{}}) {
				t.Errorf("Stats of the emptied queue = %+v, %v; want nothing but a new group", st, err)
			}
			if groups, err := s.Groups(ctx, "mail"); err != nil || len(groups) != 0 {
				t.Errorf("Groups of the emptied queue = %v, %v; want none", groups, err)
			}
			for i := range 4 {
				mustAdd(t, s, message("mail", fmt.Sprint("e", i)))
			}
			if st, err := s.Stats(ctx, "mail"); err != nil || st.Remaining != 4 || st.Depth != 4 {
				t.Errorf("Stats = %+v, %v; want 4 due", st, err)
			}
			if l, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Limit: 10, TTL: time.Minute}); err != nil || len(l) != 4 {
				t.Errorf("Claim = %d, %v; want 4", len(l), err)
			}
		})
	}
}

// TestAStreamThatBeginsAnewIsReadFromItsBeginning: the ids of a stream that others deleted
// may be smaller than those it had.
func TestAStreamThatBeginsAnewIsReadFromItsBeginning(t *testing.T) {
	m, c := redistest.Mini(t)
	s := newStore(t, c)
	ctx := t.Context()
	m.SetTime(time.Now().Add(time.Hour))
	mustAdd(t, s, message("mail", "a"))
	if l, err := s.Claim(ctx, dlq.Claim{Sink: "mail", TTL: time.Minute}); err != nil || len(l) != 1 {
		t.Fatalf("Claim = %d, %v", len(l), err)
	}
	if err := c.Del(ctx, s.prefix+":dlq:mail").Err(); err != nil {
		t.Fatal(err)
	}
	m.SetTime(time.Now())
	mustAdd(t, s, message("mail", "b"))
	if l, err := s.Claim(ctx, dlq.Claim{Sink: "mail", TTL: time.Minute}); err != nil || len(l) != 1 {
		t.Errorf("Claim = %d, %v; want the new one", len(l), err)
	}
}

// TestNotBeforeIsADelay: the clock of whoever pushes and that of Redis may differ.
func TestNotBeforeIsADelay(t *testing.T) {
	for name, skew := range map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -10 * time.Minute} {
		t.Run("Redis is "+name, func(t *testing.T) {
			m, c := redistest.Mini(t)
			s := newStore(t, c)
			ctx := t.Context()
			server := time.Now().Add(skew)
			m.SetTime(server)
			it := message("mail", "a")
			it.NotBefore = time.Now().Add(time.Minute)
			stored := mustAdd(t, s, it)
			if !stored.NotBefore.Equal(it.NotBefore) {
				t.Errorf("not before %s, want it as it was: %s", stored.NotBefore, it.NotBefore)
			}
			score, err := c.ZScore(ctx, "{"+s.prefix+":dlq:mail}:due", strings.TrimPrefix(stored.ID, "mail~")).Result()
			due := time.UnixMilli(int64(score))
			if want := server.Add(time.Minute); err != nil || due.After(want.Add(time.Millisecond)) || due.Before(want.Add(-10*time.Second)) {
				t.Errorf("due at %s, %v; want %s", due, err, want)
			}
			// Nothing has happened to it: it is shown as it was pushed.
			shown := it.NotBefore.Truncate(time.Millisecond)
			got, err := s.Get(ctx, stored.ID)
			if err != nil || !got.NextReplayAt.Equal(shown) || !stored.NextReplayAt.Equal(shown) {
				t.Errorf("next replay at %s, %v (Add said %s); want %s", got.NextReplayAt, err, stored.NextReplayAt, shown)
			}
			if again := mustAdd(t, s, it); again.ID != stored.ID || !again.NextReplayAt.Equal(shown) {
				t.Errorf("pushed again: %s, next replay at %s; want %s, %s", again.ID, again.NextReplayAt, stored.ID, shown)
			}
			claimed := func() int {
				l, err := s.Claim(ctx, dlq.Claim{Sink: "mail", TTL: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				return len(l)
			}
			m.SetTime(server.Add(30 * time.Second))
			if n := claimed(); n != 0 {
				t.Errorf("%d claimed after half of the time, want none", n)
			}
			m.SetTime(server.Add(61 * time.Second))
			if n := claimed(); n != 1 {
				t.Errorf("%d claimed after the time, want one", n)
			}
		})
	}
}
