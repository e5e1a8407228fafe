package conform_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"backstop/internal/conform"
	"backstop/internal/faultproxy"
	"backstop/internal/model"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
)

var leased = &fault.Error{Code: fault.CodeItemLeased}

// scenes are short runs of the library, which conform. deliveries is how many each may have.
const deliveries = 4

var scenes = map[string]func(s *stage){
	"delivered": func(s *stage) {
		s.begin(0, "a", nil)
		s.arrives(0, true)
		s.begin(0, "b", nil) // busy
		s.finish(0, "a", delivery.StatusDelivered, 0)
		s.told(0, model.ToldDelivered)
		s.begin(0, "c", nil)
		s.finish(0, "b", delivery.StatusDeadLettered, 0) // late
		s.begin(0, "d", func(b *delivery.Begin) { b.Fingerprint = fingerprint(0, 1) })
	},
	"replayed": func(s *stage) {
		s.begin(0, "a", nil)
		s.arrives(0, false)
		s.push(0, 0)
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldDeadLettered)
		s.push(0, 0) // is there
		l := s.claim("r")[0]
		if _, err := s.cancel.Cancel(s.t.Context(), key(0)); fault.CodeOf(err) != fault.CodeItemLeased {
			s.t.Fatal(err)
		}
		if err := s.queue.Discard(s.t.Context(), l.Item.ID); err == nil {
			s.t.Fatal("what is leased was removed")
		}
		s.settle(l, dlq.ActionRetry)
		l = s.claim("q")[0]
		s.arrives(0, true)
		s.tell(0, delivery.StatusDelivered)
		s.settle(l, dlq.ActionDiscard)
		s.settle(l, dlq.ActionDiscard) // once more
	},
	"canceled": func(s *stage) {
		s.begin(0, "a", func(b *delivery.Begin) { b.Accept, b.AcceptedAt = true, time.Now() })
		s.happens("queued", func(c *conform.Checker) { c.Message(0, 1) })
		s.finish(0, "a", delivery.StatusAccepted, 0)
		s.told(0, model.ToldAccepted)
		s.canceled(0)
		s.happens("received", func(c *conform.Checker) { c.Received(0) })
		s.begin(0, "q", func(b *delivery.Begin) { b.Queued = true })
		s.happens("deleted", func(c *conform.Checker) { c.Message(0, -1) })
	},
	"canceled letter": func(s *stage) {
		s.begin(0, "a", nil)
		s.push(0, 0)
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldSafe)
		s.canceled(0)
		if len(s.claim("r")) > 0 {
			s.t.Fatal("it is there")
		}
	},
	"canceled while its record is lost": func(s *stage) {
		s.push(0, 0)
		s.tell(0, delivery.StatusDeadLettered)
		s.happens("cancels", func(c *conform.Checker) { c.Canceling(0) })
		_, found, err := s.records.Cancel(s.t.Context(), key(0), "k", delivery.Record{})
		s.must(err)
		s.evict(0)
		found.Status = delivery.StatusCanceled
		_, _, err = s.records.Cancel(s.t.Context(), key(0), "k", found)
		s.must(err)
	},
	"noted": func(s *stage) { // a cancellation that comes before its letter
		s.canceled(0)
		s.push(0, 0)
		l := s.claim("r")[0]
		if !l.Canceled {
			s.t.Fatal("it is not noted")
		}
		s.settle(l, dlq.ActionDrop)
	},
	"expires": func(s *stage) {
		end := time.Now().Add(time.Hour)
		s.happens("expires", func(c *conform.Checker) { c.Expire(0, end) })
		s.begin(0, "a", nil)
		s.arrives(0, true)
		s.finish(0, "a", delivery.StatusDelivered, 0)
	},
	"taken over": func(s *stage) {
		short := func(b *delivery.Begin) { b.Lease = time.Millisecond }
		s.begin(0, "a", short)
		s.arrives(0, true)
		for state := delivery.StateInProgress; state == delivery.StateInProgress; {
			state, _ = s.begin(0, "b", nil)
		}
		s.arrives(0, true) // whoever died may have sent it
		s.finish(0, "b", delivery.StatusDelivered, 0)
	},
	"two letters": func(s *stage) {
		s.push(0, 0)
		s.push(0, 1)
		s.push(1, 0)
		all := s.claim("r")
		s.settle(all[0], dlq.ActionHold)
		s.must(s.queue.Release(s.t.Context(), []dlq.Lease{all[1].Lease, all[2].Lease}))
		s.must(s.queue.Discard(s.t.Context(), all[1].Item.ID))
		if left := s.claim("q"); len(left) != 1 {
			s.t.Fatalf("%d letters are due", len(left))
		}
	},
	"journaled": func(s *stage) {
		s.journals(0)
		s.begin(0, "a", nil)
		s.arrives(0, false)
		s.push(0, 0)
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldDeadLettered)
		s.push(0, 0) // is there, at another address
		s.tick()
		l := s.claim("r")[0]
		s.arrives(0, true)
		s.tell(0, delivery.StatusDelivered)
		s.settle(l, dlq.ActionDiscard)
		s.tick()
	},
	"journaled late": func(s *stage) {
		s.journals(0)
		s.bucket.fails = true
		s.begin(0, "a", nil)
		s.push(0, 0)
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldDeadLettered)
		s.bucket.fails = false
		s.tick()
	},
	"canceled in the journal": func(s *stage) {
		s.journals(0)
		s.begin(0, "a", nil)
		s.push(0, 0)
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldSafe)
		s.canceled(0)
		s.tick()
	},
	"spilled": func(s *stage) {
		s.journals(1)
		s.push(1, 0)
		s.begin(0, "a", nil)
		s.push(0, 0) // finds no room
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldDeadLettered)
		s.settle(s.claim("r")[0], dlq.ActionDrop)
		s.tick()
		if n := len(s.claim("q")); n != 1 {
			s.t.Fatalf("%d letters came back", n)
		}
	},
	"canceled while it is spilled": func(s *stage) {
		s.journals(1)
		s.push(1, 0)
		s.begin(0, "a", nil)
		s.push(0, 0)
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldSafe)
		s.canceled(0)
		s.settle(s.claim("r")[0], dlq.ActionDrop)
		s.tick()
		s.tick()
	},
	"an operator": func(s *stage) {
		s.begin(0, "a", nil)
		s.arrives(0, false)
		s.push(0, 0)
		s.finish(0, "a", delivery.StatusDeadLettered, 0)
		s.told(0, model.ToldDeadLettered)
		l := s.claim("r")[0]
		s.settle(l, dlq.ActionPark)
		claim := dlq.Claim{Sink: sink, IDs: []string{l.ID}, Token: "p", TTL: lease}
		held, err := s.queue.Claim(s.t.Context(), claim)
		s.must(err)
		if err := s.queue.Unpark(s.t.Context(), l.ID); fault.CodeOf(err) != fault.CodeItemLeased {
			s.t.Fatal(err)
		}
		s.must(s.queue.Release(s.t.Context(), []dlq.Lease{held[0].Lease}))
		claim.Token, claim.TTL = "o", 10*time.Millisecond
		if all, err := s.queue.Claim(s.t.Context(), claim); err != nil || len(all) != 1 {
			s.t.Fatalf("%d letters are leased: %v", len(all), err)
		}
		s.arrives(0, true) // and whoever sent it dies
		for err := error(leased); fault.CodeOf(err) == fault.CodeItemLeased; {
			err = s.queue.Unpark(s.t.Context(), l.ID)
		}
		again := s.claim("q")
		if len(again) != 1 || again[0].Item.Unanswered != 1 {
			s.t.Fatalf("due are %+v", again)
		}
		s.settle(again[0], dlq.ActionPark)
		claim.Token, claim.TTL, claim.Quiet = "d", lease, true
		all, err := s.queue.Claim(s.t.Context(), claim)
		s.must(err)
		s.happens("gives up", func(c *conform.Checker) { c.GivingUp(0) })
		s.settle(all[0], dlq.ActionDrop)
		s.tell(0, delivery.StatusDiscarded)
		s.happens("told given up", func(c *conform.Checker) { c.GivenUpTold(0, true, true) })
	},
	"spread": func(s *stage) {
		i := s.spreads()
		s.begin(i, "a", nil)
		s.push(i, 0)
		s.finish(i, "a", delivery.StatusDeadLettered, 0)
		s.told(i, model.ToldSafe)
		s.settle(s.claim("r")[0], dlq.ActionRetry)
		s.canceled(i)
		s.push(i, 0) // by somebody who had no record
		l := s.claim("q")[0]
		if !l.Canceled {
			s.t.Fatal("it is not noted")
		}
		s.settle(l, dlq.ActionDrop)
	},
	"gate": func(s *stage) {
		now := time.Now().UnixMilli()
		for _, swap := range []flow.Swap{{New: "x", At: now}, {Old: "x", New: "y", At: now}, {Old: "x", New: "z", At: now}} {
			if _, err := s.gate.Swap(s.t.Context(), sink, "r", swap); err != nil {
				s.t.Fatal(err)
			}
		}
	},
}

func TestWhatTheLibraryDoesConforms(t *testing.T) {
	for name, act := range scenes {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			act(s)
			if failed := check(s.tape, deliveries, s.spread); len(failed) > 0 {
				t.Errorf("does not conform:\n%s", strings.Join(failed, "\n"))
			}
			// Nor does it matter of which call nobody knows whether it was made, be it that it was, or that it was made again.
			for i, e := range s.tape {
				if e.do != nil || !strings.HasPrefix(strings.ToLower(e.call.Args[0]), "eval") || isError(e.call) {
					continue
				}
				for how, calls := range map[string][]entry{"made": silent(e), "not made": append(silent(e), e)} {
					if failed := check(slices.Concat(s.tape[:i], calls, s.tape[i+1:]), deliveries, s.spread); len(failed) > 0 {
						t.Errorf("%s without an answer, %s: does not conform:\n%s", scriptOf(e.call), how, strings.Join(failed, "\n"))
					}
				}
			}
		})
	}
}

// A server that loads what it has answers each command with an error, which says nothing of a letter.
func TestAServerThatLoadsTellsNothing(t *testing.T) {
	s := newStage(t)
	s.push(0, 0)
	l := s.claim("r")[0]
	if _, err := s.queue.Get(t.Context(), l.Item.ID); err != nil {
		t.Fatal(err)
	}
	loading := false
	for i, e := range s.tape {
		if e.do == nil && strings.EqualFold(e.call.Args[0], "xrange") {
			s.tape[i].call.Reply, loading = []byte("-LOADING Redis is loading the dataset in memory\r\n"), true
		}
	}
	if failed := check(s.tape, deliveries, s.spread); len(failed) > 0 || !loading {
		t.Errorf("a letter was read: %v; does not conform:\n%s", loading, strings.Join(failed, "\n"))
	}
}

func isError(k faultproxy.Call) bool { return len(k.Reply) > 0 && k.Reply[0] == '-' }

// script finds the n-th call of a script with an argument, named something else that happened.
func script(name, arg string) func(e entry) bool {
	return func(e entry) bool { return isA(e, name, arg) && !isError(e.call) }
}

func event(name string) func(e entry) bool { return func(e entry) bool { return e.name == name } }

// change is something that did not happen so: the n-th entry that is found, from 0, becomes others.
type change struct {
	find func(e entry) bool
	nth  int
	do   func(e entry) []entry
}

// plants are runs that do not conform: what is changed of a scene, and what is told.
var plants = []struct {
	name, scene string
	changes     []change
	want        string
	line        string // of the history, which is marked; empty: nothing is marked
}{
	{"sent after an acknowledged cancellation", "canceled", []change{{event("received"), 0, arriving}}, "NothingAfterCancel", "the receiver takes it"},
	{
		"a settlement is accepted from a late holder", "replayed",
		[]change{{script("dlq/settle.lua", "discard"), 0, replaced("q", "r2")}},
		"SettleFenced", "settle: discard",
	},
	{
		"a push is answered with stored twice", "replayed",
		[]change{{script("dlq/push.lua", ""), 1, part(1, "stored")}},
		`"stored", the model's answer is "exists"`, "push: exhausted: stored",
	},
	{"a push finds another letter", "replayed", []change{{script("dlq/push.lua", ""), 1, part(2, "1-1")}}, "finds letter 1-1", "push"},
	{
		"a record is granted while another's lease runs", "delivered",
		[]change{{script("delivery/move.lua", "b"), 0, part(0, "started")}},
		`"started", the model's answer is "in_progress"`, "begin: send finds in_progress: started",
	},
	{
		"a record is taken over while its lease runs", "delivered",
		[]change{{script("delivery/move.lua", "b"), 0, part(0, "taken_over")}},
		`the model's answer is "in_progress"`, "taken_over",
	},
	{
		"a record is gone", "delivered",
		[]change{{script("delivery/move.lua", "c"), 0, part(1, "")}},
		`finds a record that says "", the model's says "delivered"`, "send finds none",
	},
	{
		"finishing changes a final record", "delivered",
		[]change{{script("delivery/move.lua", "dead_lettered"), 0, part(0, "written")}},
		`"written", the model's answer is "stayed"`, "finish: dead_lettered",
	},
	{
		"other content begins", "delivered",
		[]change{{script("delivery/move.lua", "d"), 0, part(0, "finished")}},
		`the model's answer is "reused"`, "send",
	},
	{"delivered is noted without a receipt", "delivered", []change{{event("arrives"), 0, gone}}, "AnswerBeforeDelivered", "finish: delivered"},
	{
		"delivered is told without a receipt", "delivered",
		[]change{{event("arrives"), 0, gone}, {script("delivery/move.lua", "delivered"), 0, gone}, {event("told"), 0, last}},
		"DeliveredIsTrue", "told: delivered",
	},
	{
		"a dead letter is noted that was not stored", "canceled letter",
		[]change{{script("dlq/push.lua", ""), 0, gone}},
		"FinishAfterPush", "finish: dead_lettered",
	},
	{
		"a dead letter is told that was not stored", "canceled letter",
		[]change{{script("dlq/push.lua", ""), 0, gone}, {script("delivery/move.lua", "dead_lettered"), 0, gone}, {event("told"), 0, last}},
		"KeptIsTrue", "told: safe",
	},
	{
		"accepted is told without a message", "canceled",
		[]change{{event("queued"), 0, gone}, {script("delivery/move.lua", "accepted"), 0, gone}, {event("told"), 0, last}},
		"AcceptedIsTrue", "told: accepted",
	},
	{"accepted is noted without a message", "canceled", []change{{event("queued"), 0, gone}}, "PutBeforeAccepted", "accept: accepted"},
	{
		"what a replay has is removed", "replayed",
		[]change{{script("dlq/discard.lua", ""), 0, is(int64(1))}},
		"the model's answer is -1", "removes the letter: 1",
	},
	{"it is delivered twice without a cause", "delivered", []change{{event("arrives"), 0, twice(nil)}}, "DoublesHaveCauses", "the receiver takes it"},
	{"it is sent after its expiry", "expires", []change{{event("expires"), 0, expiring}}, "NothingAfterExpiry", "the receiver takes it"},
	{
		"it is sent without its record", "expires",
		[]change{{script("delivery/move.lua", "send"), 0, gone}, {script("delivery/move.lua", "delivered"), 0, gone}},
		"BeginBeforeSend", "attempt",
	},
	{
		"a leased letter is leased", "two letters",
		[]change{{script("dlq/claim.lua", "r"), 0, twice(func(e *entry) { e.call.Args = replaced("r", "s")(*e)[0].call.Args })}},
		"ClaimSkipsLeased", "claim",
	},
	{
		"a letter is leased that waits for an operator", "replayed",
		[]change{{script("dlq/settle.lua", "retry"), 0, replaced("retry", "hold")}},
		"is leased as due", "claim",
	},
	{
		"a letter is settled before its record is told", "replayed",
		[]change{{script("delivery/move.lua", "told_delivered"), 0, gone}},
		"RecordBeforeSettle", "settle: discard",
	},
	{
		"a letter is settled that was not sent", "replayed",
		[]change{{event("arrives"), 1, gone}, {script("delivery/move.lua", "told_delivered"), 0, gone}},
		"SettleAfterSend", "settle: discard",
	},
	{
		"a cancellation takes what a replay has", "replayed",
		[]change{{script("dlq/delivery.lua", ""), 0, is([]any{int64(0), []any{}, []any{}})}},
		"CancelSparesReplays", "takes 0 letters",
	},
	{
		"a cancellation leaves a letter", "canceled letter",
		[]change{{script("dlq/delivery.lua", ""), 0, part(1, []any{})}},
		"CancelTakesLetters", "takes 0 letters",
	},
	{
		"a claim does not tell that it is canceled", "noted",
		[]change{{script("dlq/claim.lua", ""), 0, part(2, []any{int64(0)})}},
		"ClaimSeesNotes", "claim",
	},
	{
		"more leases are given back than there are", "two letters",
		[]change{{script("dlq/release.lua", ""), 0, is(int64(3))}},
		"3 leases are given back", "",
	},
	{
		"a letter stays of what was delivered", "replayed",
		[]change{{script("dlq/settle.lua", "discard"), 0, replaced("discard", "hold")}, {script("dlq/settle.lua", "discard"), 0, gone}},
		"NothingStays", "settle",
	},
	{"the gate goes from what it is not", "gate", []change{{script("flow/swap.lua", "z"), 0, answers(func(v any) any {
		a := slices.Clone(v.([]any)) //nolint:errcheck,forcetypeassert // it is the script's
		a[0], a[2] = int64(1), "z"
		return a
	})}}, "the gate of", ""},
	{
		"nobody knows the script", "delivered",
		[]change{{script("delivery/move.lua", "c"), 0, twice(func(e *entry) { e.call.Args[0], e.call.Args[1] = "EVAL", "return 1" })}},
		"none of which the model knows", "",
	},
	{
		"the script is not followed", "delivered",
		[]change{{script("delivery/move.lua", "c"), 0, twice(func(e *entry) { e.call.Args[0], e.call.Args[1] = "EVAL", "-- retire.lua: x\n" })}},
		"dlq/retire.lua (lose) is not followed", "",
	},
	{
		"nobody notes what the journal lacks", "journaled",
		[]change{{event("object"), 0, gone}, {event("told"), 0, last}},
		"LackIsNoted", "told: dead_lettered",
	},
	{
		"an address is forgotten whose object is there", "journaled",
		[]change{{event("object removed"), 0, gone}},
		"ObjectBeforeEnded", "its address is forgotten",
	},
	{
		"a letter is noted as written that was not", "journaled late",
		[]change{{event("object"), 0, gone}},
		"the journal has no line of it", "the queue notes that the journal has it",
	},
	{
		"a letter is given up that the journal has", "canceled in the journal",
		[]change{{event("object removed"), 0, gone}},
		"OrderLeavesJournal", "settle: drop",
	},
	{
		"a letter comes back that is said to be there", "spilled",
		[]change{{script("dlq/return.lua", ""), 0, part(0, "exists")}},
		`"exists", the model's answer is "stored"`, "comes back: exists",
	},
	{
		"a letter comes back that was canceled", "canceled while it is spilled",
		[]change{{script("dlq/return.lua", ""), 0, part(0, "stored")}},
		`"stored", the model's answer is "canceled"`, "comes back: stored",
	},
	{
		"a spilled letter does not come back", "spilled",
		[]change{{script("dlq/return.lua", ""), 0, part(0, "ended")}},
		`"ended", the model's answer is "stored"`, "comes back: ended",
	},
	{"a spilled letter stays", "spilled", []change{{event("told"), 0, last}}, "NothingStays", "told: dead_lettered"},
	{
		"two work on a journal", "journaled",
		[]change{{script("dlq/journal_lease.lua", ""), 0, twice(func(e *entry) { e.call.Args[len(e.call.Args)-2] = "another" })}},
		"and another begins to work on it", "",
	},
	{
		"somebody works on a journal without its lease", "journaled",
		[]change{{script("dlq/journaled.lua", ""), 0, func(e entry) []entry { return replaced(tokenOf(e), "another")(e) }}},
		"by another is carried out", "",
	},
	{
		"a letter is stored where its delivery has none", "spread",
		[]change{{script("dlq/push.lua", ""), 0, func(e entry) []entry {
			e.call.Args = slices.Clone(e.call.Args)
			e.call.Args[3] = "backstop:dlq:" + sink
			return []entry{e}
		}}},
		"and its delivery's are elsewhere", "",
	},
	{
		"a letter that is leased is made due", "an operator",
		[]change{{script("dlq/unpark.lua", ""), 0, is(int64(1))}},
		"is answered with 1, the model's answer is -1", "makes the letter due: 1",
	},
	{
		"who died with a letter is forgotten", "an operator",
		[]change{{script("dlq/claim.lua", ""), 1, answers(func(v any) any {
			v.([]any)[1].([]any)[0].([]any)[3] = "" //nolint:errcheck,forcetypeassert // it is the script's
			return v
		})}},
		"an attempt may have arrived: false, the model says true", "claim",
	},
	{
		"nobody gave it up", "an operator",
		[]change{{event("arrives"), 1, gone}, {event("gives up"), 0, gone}, {event("told given up"), 0, gone}},
		"KeptIsTrue", "settle: drop",
	},
	{"a name of no journal", "journaled", []change{{event("told"), 0, func(entry) []entry {
		return []entry{{do: func(c *conform.Checker) { c.Journal(time.Now(), "what/ops/x.ndjson", nil, []byte("{}")) }}}
	}}}, "is no name of a journal", ""},
	{"the command is not known", "delivered", []change{{event("told"), 0, func(entry) []entry {
		return []entry{{call: faultproxy.Call{Args: []string{"FLUSHALL"}, Reply: []byte("+OK\r\n")}}}
	}}}, "of which the model knows nothing", ""},
}

// tokenOf is the first argument of a call.
func tokenOf(e entry) string {
	n, err := strconv.Atoi(e.call.Args[2])
	if err != nil {
		panic(err)
	}
	return e.call.Args[3+n]
}

// arriving has it arrive now, and is where e is.
func arriving(e entry) []entry {
	at := time.Now()
	return []entry{e, {name: "arrives", do: func(c *conform.Checker) { c.Arrived(0, 0, at, true, true) }}}
}

// end is the name of what ends a tape.
const end = "end"

// last ends the tape behind it.
func last(e entry) []entry { return []entry{e, {name: end}} }

// expiring lets its time end before.
func expiring(entry) []entry {
	at := time.Now().Add(-time.Minute)
	return []entry{{name: "expires", do: func(c *conform.Checker) { c.Expire(0, at) }}}
}

// Each call that is planted is found, and told with the history of its delivery.
func TestWhatDoesNotConformIsFound(t *testing.T) {
	played := map[string]*stage{}
	for name, act := range scenes {
		s := newStage(t)
		act(s)
		played[name] = s
	}
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			tape := slices.Clone(played[p.scene].tape)
			for _, c := range p.changes {
				n := -1
				at := slices.IndexFunc(tape, func(e entry) bool {
					if c.find(e) {
						n++
					}
					return n == c.nth
				})
				if at < 0 {
					t.Fatal("there is nothing to change")
				}
				tape = slices.Concat(tape[:at], c.do(tape[at]), tape[at+1:])
			}
			if at := slices.IndexFunc(tape, func(e entry) bool { return e.name == end }); at >= 0 {
				tape = tape[:at]
			}
			failed := check(tape, deliveries, played[p.scene].spread)
			if len(failed) == 0 {
				t.Fatal("it is not found")
			}
			t.Log(failed[0])
			if !strings.Contains(failed[0], p.want) {
				t.Errorf("got\n%s\nwant %q", failed[0], p.want)
			}
			marked := ""
			for line := range strings.Lines(failed[0]) {
				if strings.HasPrefix(line, ">") {
					marked = line
				}
			}
			if !strings.Contains(marked, p.line) || (marked == "") != (p.line == "") {
				t.Errorf("marked is %q, want %q", marked, p.line)
			}
		})
	}
}
