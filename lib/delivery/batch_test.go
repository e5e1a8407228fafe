package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// line is a sink that takes its time for each message, or all the time that there is, and notes
// how many it had at once.
type line struct {
	name  string
	takes time.Duration // 0: it hangs

	mu         sync.Mutex
	sent, busy int
	most       int
	last       time.Time // when it last took one
}

func (l *line) Name() string { return l.name }

func (l *line) Send(ctx context.Context, _ sinks.Recipient, _ sinks.Message) error {
	l.mu.Lock()
	l.sent++
	l.busy++
	l.most = max(l.most, l.busy)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy--
	}()
	if l.takes > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.takes)
		defer cancel()
	}
	<-ctx.Done()
	if l.takes == 0 {
		return sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer"})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Now()
	return nil
}

// underWay is how many it has now.
func (l *line) underWay() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy
}

// DecodeRecipient implements sinks.RecipientDecoder: the recipient is a receiver's name.
func (*line) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	var name string
	if len(raw) == 0 {
		return name, nil
	}
	err := json.Unmarshal(raw, &name)
	return name, err
}

// Receiver implements sinks.Receivers.
func (*line) Receiver(to sinks.Recipient) string {
	name, _ := to.(string)
	return name
}

// crowd is a Sender through lines, and what became of what it was given.
type crowd struct {
	*delivery.Sender
	targets targets
	queue   dlq.Store

	mu    sync.Mutex
	fates map[string]string    // by delivery id: status, or code
	ends  map[string]time.Time // when it was known
}

func newCrowd(lines ...*line) *crowd {
	c := &crowd{targets: targets{}, queue: dlq.NewMemory(), fates: map[string]string{}, ends: map[string]time.Time{}}
	for _, l := range lines {
		c.targets[l.name] = delivery.Target{Sink: l}
	}
	c.Sender = &delivery.Sender{Targets: c.targets, Queue: c.queue, Records: delivery.NewMemory(0), Log: slog.New(slog.DiscardHandler)}
	return c
}

func (c *crowd) deliver(ctx context.Context, turn *delivery.Turn, r delivery.Request) bool {
	r.Turn, r.Message.Body = turn, "x"
	a, err := c.Deliver(ctx, r)
	fate := string(a.Status)
	if err != nil {
		fate = string(fault.CodeOf(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fates[r.ID], c.ends[r.ID] = fate, time.Now()
	return err == nil
}

// batch delivers n messages to each sink, in that order.
func (c *crowd) batch(ctx context.Context, concurrency, n int, names ...string) {
	b := delivery.NewBatch(concurrency)
	for _, name := range names {
		for i := range n {
			b.Go(func(turn *delivery.Turn) {
				c.deliver(ctx, turn, delivery.Request{ID: fmt.Sprintf("%s-%d", name, i), Sink: name})
			})
		}
	}
	b.Wait()
}

// count is how many had this fate.
func (c *crowd) count(fate string) (n int) {
	for _, f := range c.fates {
		if f == fate {
			n++
		}
	}
	return n
}

// A batch of 50 with 10 for a sink that hangs, which come first. The others take the time that
// they take alone where the batch has room for all, and never wait for the sink that hangs.
func TestAReceiverThatHangsHoldsUpNoOther(t *testing.T) {
	for _, c := range []struct {
		name                  string
		others, each, at      int
		alone, with           time.Duration // until the others are through, 1 s each
		mostHanging, mostAway int           // attempts at once at the one that hangs, at another
	}{
		{"one other", 1, 40, 50, time.Second, time.Second, 10, 40},
		{"four others", 4, 10, 50, time.Second, time.Second, 10, 10},
		// With little room the one that hangs keeps its share of it, and gets the rest once nothing
		// else waits.
		{"one other, little room", 1, 40, 10, 4 * time.Second, 8 * time.Second, 10, 5},
		{"four others, little room", 4, 10, 10, 4 * time.Second, 8 * time.Second, 10, 2},
	} {
		run := func(hangs bool) (took time.Duration, dead *line, others []*line) {
			synctest.Test(t, func(t *testing.T) {
				dead = &line{name: "dead"}
				lines, names := []*line{dead}, []string{}
				for i := range c.others {
					other := &line{name: fmt.Sprint("other-", i), takes: time.Second}
					lines, others, names = append(lines, other), append(others, other), append(names, other.name)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
				defer cancel()
				start, crowd, b := time.Now(), newCrowd(lines...), delivery.NewBatch(c.at)
				if hangs {
					for i := range 10 {
						b.Go(func(turn *delivery.Turn) {
							crowd.deliver(ctx, turn, delivery.Request{ID: fmt.Sprint("dead-", i), Sink: "dead"})
						})
					}
				}
				for i := range c.each {
					for _, name := range names {
						b.Go(func(turn *delivery.Turn) {
							crowd.deliver(ctx, turn, delivery.Request{ID: fmt.Sprint(name, "-", i), Sink: name})
						})
					}
				}
				b.Wait()
				for _, other := range others {
					took = max(took, other.last.Sub(start))
				}
				if n := crowd.count("delivered"); n != c.others*c.each {
					t.Errorf("%s: %d delivered, want all %d of the others", c.name, n, c.others*c.each)
				}
				if all := time.Since(start); all >= 40*time.Second {
					t.Errorf("%s: answered after %s, at its deadline", c.name, all)
				}
			})
			return took, dead, others
		}
		alone, _, _ := run(false)
		with, dead, others := run(true)
		if alone != c.alone || with != c.with {
			t.Errorf("%s: took %s alone and %s beside one that hangs; want %s and %s", c.name, alone, with, c.alone, c.with)
		}
		if dead.most != c.mostHanging || others[0].most != c.mostAway {
			t.Errorf("%s: at once %d at the one that hangs and %d at another; want %d and %d", c.name, dead.most, others[0].most, c.mostHanging, c.mostAway)
		}
	}
}

func TestConcurrencyIsAReceiversShareOfABatch(t *testing.T) {
	for _, c := range []struct{ batch, share, want int }{
		// Alone in its batch a receiver has more than half only if nothing else is said.
		{10, 0, 10},
		{11, 0, 11},
		{2, 0, 2},
		{1, 0, 1},
		{0, 0, 50},
		{-1, 0, 50},
		{10, 5, 5},
		{10, 1, 1},
		{10, 7, 7},
		{10, 10, 10},
		{10, 99, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &line{name: "a", takes: time.Second}
			crowd := newCrowd(l)
			crowd.targets["a"] = delivery.Target{Sink: l, Flow: flow.Policy{Concurrency: c.share}}
			crowd.batch(t.Context(), c.batch, 60, "a")
			if l.most != c.want || crowd.count("delivered") != 60 {
				t.Errorf("concurrency %d of %d: %d at once, want %d; %d of 60 delivered", c.share, c.batch, l.most, c.want, crowd.count("delivered"))
			}
		})
	}
}

// A sink whose recipients bring URLs has many receivers, and each its own share.
func TestReceiversOfOneSinkHaveSharesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{name: "hook", takes: time.Second}
		crowd := newCrowd(l)
		b := delivery.NewBatch(4)
		for i, to := range []string{`"a"`, `"a"`, `"a"`, `"b"`, `"c"`} {
			b.Go(func(turn *delivery.Turn) {
				crowd.deliver(t.Context(), turn, delivery.Request{ID: fmt.Sprint(i), Sink: "hook", Recipient: json.RawMessage(to)})
			})
		}
		synctest.Wait()
		if n := l.underWay(); n != 4 { // two of a's three, and those that come after them
			t.Errorf("%d under way, want 4", n)
		}
		b.Wait()
	})
}

// While all of a receiver's share is taken, what needs no attempt at it does not wait.
func TestWhatIsNotSentNeedsNoShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{name: "a"}
		crowd := newCrowd(l)
		crowd.targets["a"] = delivery.Target{Sink: l, Retry: retry.Config{MaxAttempts: 1}, Flow: flow.Policy{Concurrency: 1}}
		crowd.targets["bad"] = delivery.Target{ConfigErr: &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "url: missing"}}
		var paused atomic.Bool
		crowd.Paused = func(context.Context, string) bool { return paused.Load() }
		b := delivery.NewBatch(2)
		for _, r := range []delivery.Request{{ID: "first", Sink: "a"}, {ID: "waits", Sink: "a"}} {
			b.Go(func(turn *delivery.Turn) { crowd.deliver(t.Context(), turn, r) })
		}
		synctest.Wait()
		paused.Store(true)
		for _, r := range []delivery.Request{
			{ID: "paused", Sink: "a"},
			{ID: "unknown", Sink: "nobody"},
			{ID: "misconfigured", Sink: "bad"},
			{ID: "unsendable", Sink: "a", Recipient: json.RawMessage(`7`), KeepUnsendable: true},
			{ID: "refused", Sink: "a", Recipient: json.RawMessage(`7`)},
			{ID: "no name!", Sink: "a"},
		} {
			b.Go(func(turn *delivery.Turn) { crowd.deliver(t.Context(), turn, r) })
		}
		synctest.Wait()
		crowd.mu.Lock()
		got := maps.Clone(crowd.fates)
		crowd.mu.Unlock()
		if want := map[string]string{
			"paused": "dead_lettered", "unknown": "SINK_NOT_FOUND", "misconfigured": "dead_lettered", "unsendable": "dead_lettered",
			"refused": "INVALID_ARGUMENT", "no name!": "INVALID_ARGUMENT",
		}; !maps.Equal(got, want) || l.underWay() != 1 {
			t.Errorf("answered %v, want %v; %d under way, want 1", got, want, l.underWay())
		}
		b.Wait()
		// What waited while the sink was paused is not sent any more.
		if l.sent != 1 || crowd.fates["waits"] != "dead_lettered" {
			t.Errorf("%d sent, want the first alone; what waited: %s", l.sent, crowd.fates["waits"])
		}
	})
}

// What waits for its receiver until nothing fits any more is the caller's, who learns it before
// the deadline.
func TestWhatWaitsInVainIsHandedBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{name: "a"}
		crowd := newCrowd(l)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		crowd.batch(ctx, 4, 30, "a")
		took := time.Since(start)
		if kept, back := crowd.count("dead_lettered"), crowd.count("NOT_ATTEMPTED"); kept != 4 || back != 26 || took >= 20*time.Second {
			t.Errorf("%d dead-lettered and %d handed back after %s; want 4 and 26 before 20s", kept, back, took)
		}
		if n, err := crowd.queue.Count(t.Context(), "a"); n != 4 || err != nil {
			t.Errorf("%d dead letters, %v", n, err)
		}
	})
}

// A caller who goes away does not leave behind what waits.
func TestACanceledBatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{name: "a"}
		crowd := newCrowd(l)
		crowd.targets["a"] = delivery.Target{Sink: l, Flow: flow.Policy{Concurrency: 1}}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		crowd.batch(ctx, 2, 3, "a")
		if kept, back := crowd.count("dead_lettered"), crowd.count("NOT_ATTEMPTED"); kept != 1 || back != 2 {
			t.Errorf("%d dead-lettered and %d handed back, want 1 and 2", kept, back)
		}
	})
}

// A request begins with its part of the time that is left then, however long it waited.
func TestFollowersShareTheTimeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{name: "a"}
		crowd := newCrowd(l)
		crowd.targets["a"] = delivery.Target{Sink: l, Retry: retry.Config{MaxAttempts: 1, AttemptTimeout: time.Minute}, Flow: flow.Policy{Concurrency: 1}}
		ctx, cancel := context.WithTimeout(t.Context(), 31*time.Second)
		defer cancel()
		budget := retry.NewBudget(ctx, time.Second)
		start := time.Now()
		b := delivery.NewBatch(2)
		for _, group := range [][]string{{"x", "y"}, {"p", "q", "r"}} {
			b.Go(func(turn *delivery.Turn) {
				for i, id := range group {
					crowd.deliver(ctx, turn, delivery.Request{ID: id, Sink: "a", Budget: budget, Followers: len(group) - i - 1})
				}
			})
			synctest.Wait() // the first group has begun
		}
		b.Wait()
		// x has half of 30 s. Of the 15 s then left p has a third, y all of the last 10, and no
		// attempt of q and r would fit.
		for id, want := range map[string]time.Duration{"x": 15 * time.Second, "p": 20 * time.Second, "y": 30 * time.Second, "q": 29750 * time.Millisecond, "r": 29750 * time.Millisecond} {
			if got := crowd.ends[id].Sub(start); got != want {
				t.Errorf("%s: %s after %s, want after %s", id, crowd.fates[id], got, want)
			}
		}
		if back := crowd.count("NOT_ATTEMPTED"); back != 2 {
			t.Errorf("%d handed back, want q and r: %v", back, crowd.fates)
		}
	})
}

// What has waited for so long that its part of the time is too short for an attempt is not kept
// as a failure.
func TestWhatWaitedTooLongForItsFollowersIsHandedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{name: "a"}
		crowd := newCrowd(l)
		crowd.targets["a"] = delivery.Target{Sink: l, Retry: retry.Config{MaxAttempts: 1, AttemptTimeout: 29 * time.Second}, Flow: flow.Policy{Concurrency: 1}}
		ctx, cancel := context.WithTimeout(t.Context(), 31*time.Second)
		defer cancel()
		b := delivery.NewBatch(2)
		for _, r := range []delivery.Request{{ID: "x", Sink: "a"}, {ID: "first-of-ten", Sink: "a", Followers: 9}} {
			b.Go(func(turn *delivery.Turn) { crowd.deliver(ctx, turn, r) })
			synctest.Wait()
		}
		b.Wait()
		if got := crowd.fates["first-of-ten"]; got != "NOT_ATTEMPTED" || l.sent != 1 {
			t.Errorf("%s after %d sends, want NOT_ATTEMPTED after 1", got, l.sent)
		}
	})
}

// Once five in a row have failed the process leaves the receiver alone, and what waited for it
// is kept at once.
func TestWhatWaitsForAReceiverThatIsLeftAloneIsKeptAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{name: "a"}
		crowd := newCrowd(l)
		crowd.Gate = &flow.Gate{Store: &flow.Memory{}, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		crowd.batch(ctx, 10, 30, "a")
		waited := 0
		for _, end := range crowd.ends {
			if end.Sub(start) == 10*time.Second {
				waited++
			}
		}
		// Those that were under way may wait a second for another attempt, and one of them is let
		// through then, to see whether the receiver is back.
		if waited < 21 || l.sent > 11 {
			t.Errorf("%d attempts, and %d of 30 kept after 10s, when the first 10 had failed; want at most 11, and 21", l.sent, waited)
		}
		items, err := crowd.queue.Items(t.Context(), "a", 0)
		if err != nil || len(items) != 30 {
			t.Fatalf("%d dead letters, %v", len(items), err)
		}
		for _, it := range items {
			if it.Reason != dlq.ReasonOpen {
				t.Errorf("%s: reason %s after %d attempts, want open", it.DeliveryID, it.Reason, it.Attempts)
			}
		}
	})
}

// rooms is a line whose rate is counted by room. One of them is quick.
type rooms struct {
	*line
	quick *line
}

func (rooms) RateKey(to sinks.Recipient) string {
	room, _ := to.(string)
	return room
}

func (rooms) DecodeRecipient(raw []byte) (sinks.Recipient, error) { return string(raw), nil }

func (r rooms) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	if to == `"quick"` {
		return r.quick.Send(ctx, to, m)
	}
	return r.line.Send(ctx, to, m)
}

// Of a receiver whose rate is counted by room, one that is slow leaves half of its share to the others, and
// takes all of it once nothing else waits.
func TestARoomThatIsSlowHoldsUpNoOther(t *testing.T) {
	for most, want := range map[int]struct {
		quick, all time.Duration
		atOnce     int
	}{
		// Of 20, half is 10, and of that half is 5 for each; once the others are gone, all.
		0: {400 * time.Millisecond, 1400 * time.Millisecond, 20},
		8: {500 * time.Millisecond, 3 * time.Second, 8}, // 4 for each, then 8
	} {
		synctest.Test(t, func(t *testing.T) {
			slow := rooms{&line{name: "chat", takes: time.Second}, &line{name: "chat", takes: 100 * time.Millisecond}}
			c := newCrowd(slow.line)
			c.targets["chat"] = delivery.Target{Sink: slow, Flow: flow.Policy{Concurrency: most}}
			start, b := time.Now(), delivery.NewBatch(20)
			send := func(room string, n int) {
				for i := range n {
					b.Go(func(turn *delivery.Turn) {
						c.deliver(t.Context(), turn, delivery.Request{ID: fmt.Sprint(room, i), Sink: "chat", Recipient: json.RawMessage(`"` + room + `"`)})
					})
				}
			}
			send("slow", 20)
			send("quick", 20)
			b.Wait()
			quick := time.Duration(0)
			for i := range 20 {
				quick = max(quick, c.ends[fmt.Sprint("quick", i)].Sub(start))
			}
			if all := time.Since(start); c.count("delivered") != 40 || quick != want.quick || all != want.all || slow.most != want.atOnce {
				t.Errorf("most %d: %d delivered, the quick ones after %s, all after %s, %d at once; want 40, %+v", most, c.count("delivered"), quick, all, slow.most, want)
			}
		})
	}
}
