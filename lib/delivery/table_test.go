package delivery_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"backstop/lib/delivery"
)

// rules says what each call makes of a record, and what it tells, as the design has it. A cell is
// what is told and what the record is then:
//
//	S started  T taken over  U unknown  A accepting  G accepting again  B in progress
//	F finished  R reused  C canceled  w written  - not written
//	g accepting  a accepted  p in progress  k dead-lettered  e expired  x discarded
//	d delivered  c canceled  0 gone  f what it was before it was canceled  . as it was
//
// A row is a status ("unheard": canceled before anything was known; "simply": delivered, and nothing more) and who has it: mine, run (another, under a lease), over (another, whose
// lease is over), or any where that makes no difference.
const rules = `
same content       send queued accept untrue  accepted delivered dead expired  forget requeue leave  told_d told_k told_e told_x  cancel confirm uncancel
none any           Sp   Up     Ag     Sp      -.       wd        wk   we       -.     -.      wp     wd     wk     we     wx      Cc     Cc      -.
accepting mine     Sp   Up     Ag     Sp      wa       wd        -.   -.       w0     -.      wg     wd     -.     -.     -.      B.     B.      -.
accepting run      B.   Up     B.     B.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      B.     B.      -.
accepting over     Tp   Up     Gg     Tp      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      Cc     Cc      -.
accepted mine      F.   Sp     F.     F.      wa       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      Cc     Cc      -.
accepted over      F.   Sp     F.     F.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      Cc     Cc      -.
in_progress mine   Sp   Sp     Sp     Sp      -.       wd        wk   we       w0     wa      wp     wd     -.     -.     -.      B.     B.      -.
in_progress run    B.   B.     B.     B.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      B.     B.      -.
in_progress over   Tp   Tp     Tp     Tp      -.       wd        -.   -.       -.     -.      -.     wd     wk     we     wx      Cc     Cc      -.
dead_lettered mine F.   F.     F.     Sp      -.       wd        wk   we       -.     -.      -.     wd     wk     we     wx      Cc     Cc      -.
dead_lettered over F.   F.     F.     Sp      -.       wd        -.   -.       -.     -.      -.     wd     wk     we     wx      Cc     Cc      -.
expired mine       F.   F.     F.     Sp      -.       wd        -.   we       -.     -.      -.     wd     wk     we     wx      Cc     Cc      -.
expired over       F.   F.     F.     Sp      -.       wd        -.   -.       -.     -.      -.     wd     wk     we     wx      Cc     Cc      -.
discarded any      F.   F.     F.     F.      -.       wd        -.   -.       -.     -.      -.     wd     wk     -.     wx      Cc     Cc      -.
delivered any      F.   F.     F.     F.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      F.     F.      -.
simply any         F.   F.     F.     F.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      F.     F.      -.
canceled mine      C.   C.     C.     C.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      Cc     Cc      wf
canceled over      C.   C.     C.     C.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      F.     Cc      -.
unheard over       C.   C.     C.     C.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      F.     Cc      -.

other content      send queued accept untrue  accepted delivered dead expired  forget requeue leave  told_d told_k told_e told_x  cancel confirm uncancel
accepting mine     R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      B.     B.      -.
accepting over     R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
accepted over      R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
in_progress mine   R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      B.     B.      -.
in_progress over   R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
dead_lettered any  R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
expired any        R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
discarded any      R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
delivered any      R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      F.     F.      -.
simply any         R.   R.     R.     R.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      F.     F.      -.
canceled mine      C.   C.     C.     C.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      wf
canceled over      C.   C.     C.     C.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      F.     Cc      -.

older fingerprint  send queued accept untrue  accepted delivered dead expired  forget requeue leave  told_d told_k told_e told_x  cancel confirm uncancel
accepting run      B.   Up     B.     B.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      B.     B.      -.
accepted over      Sp   Sp     Ag     Sp      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
in_progress run    B.   B.     B.     B.      -.       wd        -.   -.       -.     -.      -.     wd     -.     -.     -.      B.     B.      -.
in_progress over   Tp   Tp     Tp     Tp      -.       wd        -.   -.       -.     -.      -.     wd     wk     we     wx      Cc     Cc      -.
dead_lettered any  Sp   Sp     Ag     Sp      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
expired any        Sp   Sp     Ag     Sp      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
discarded any      Sp   Sp     Ag     Sp      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      Cc     Cc      -.
delivered any      Sp   Sp     Ag     Sp      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      F.     F.      -.
canceled over      C.   C.     C.     C.      -.       -.        -.   -.       -.     -.      -.     -.     -.     -.     -.      F.     Cc      -.
`

var verdicts = map[byte]delivery.State{
	'S': delivery.StateStarted, 'T': delivery.StateTakenOver, 'U': delivery.StateUnknown, 'A': delivery.StateAccepting,
	'G': delivery.StateAcceptingAgain, 'B': delivery.StateInProgress, 'F': delivery.StateFinished, 'R': delivery.StateReused,
	'C': delivery.StateCanceled, 'w': "written", '-': "not written",
}

var becomes = map[byte]delivery.Status{
	'g': delivery.StatusAccepting, 'a': delivery.StatusAccepted, 'p': delivery.StatusInProgress, 'k': delivery.StatusDeadLettered,
	'e': delivery.StatusExpired, 'x': delivery.StatusDiscarded, 'd': delivery.StatusDelivered, 'c': delivery.StatusCanceled, '0': "",
	'f': delivery.StatusDeadLettered,
}

// content is the fingerprint of the deliveries' content.
const content = "c2FtZSBjb250ZW50IGhlcm"

// The times of the first call, and of a later one, which do not count where the first holds.
var (
	firstTimes = delivery.Begin{AcceptedAt: at(1), NotBefore: at(2), ExpiresAt: at(3)}
	laterTimes = delivery.Begin{AcceptedAt: at(11), NotBefore: at(12), ExpiresAt: at(13)}
)

func at(minute int) time.Time { return time.Date(2030, 1, 1, 0, minute, 0, 0, time.UTC) }

// situate makes a record of k as a row's first word says, had by owner, under a lease.
func situate(t *testing.T, s delivery.Store, k delivery.Key, status, owner string, lease time.Duration) {
	t.Helper()
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	start := func(accept bool) {
		b := firstTimes
		b.Key, b.Fingerprint, b.Token, b.Lease, b.Accept = k, content, owner, lease, accept
		_, _, err := s.Begin(t.Context(), b)
		do(nil, err)
	}
	finish := func(status delivery.Status) {
		_, _, err := s.Finish(t.Context(), k, owner, delivery.Record{
			Sink: k.Sink, ID: k.ID, Status: status, ItemID: "ops~1-0", Answer: "first", Fingerprint: content, Attempts: 2, Unanswered: 1,
		})
		do(nil, err)
	}
	switch delivery.Status(status) {
	case "none":
	case "unheard":
		_, _, err := s.Cancel(t.Context(), k, owner, delivery.Record{})
		do(nil, err)
	case delivery.StatusAccepting:
		start(true)
	case delivery.StatusAccepted:
		start(true)
		finish(delivery.StatusAccepted)
	case delivery.StatusInProgress:
		start(false)
	case delivery.StatusDiscarded:
		start(false)
		finish(delivery.StatusDeadLettered)
		do(s.Update(t.Context(), delivery.Change{Key: k, Status: delivery.StatusDiscarded, ItemID: "ops~1-0", Fingerprint: content}))
	case delivery.StatusCanceled:
		start(false)
		finish(delivery.StatusDeadLettered)
		_, _, err := s.Cancel(t.Context(), k, owner, delivery.Record{})
		do(nil, err)
	case "simply":
		start(false)
		_, _, err := s.Finish(t.Context(), k, owner, delivery.Record{
			Sink: k.Sink, ID: k.ID, Status: delivery.StatusDelivered, UpdatedAt: time.Now(), Fingerprint: content, Attempts: 2,
		})
		do(nil, err)
	case delivery.StatusDeadLettered, delivery.StatusExpired, delivery.StatusDelivered:
		start(false)
		finish(delivery.Status(status))
	default:
		t.Fatalf("no such status: %q", status)
	}
}

// call makes the call of a column, and returns what it told, and whatever record it returned.
func call(t *testing.T, s delivery.Store, k delivery.Key, column, fingerprint string) (verdict delivery.State, returned *delivery.Record) {
	t.Helper()
	written := func(is bool) delivery.State {
		if is {
			return verdicts['w']
		}
		return verdicts['-']
	}
	rec := delivery.Record{Sink: k.Sink, ID: k.ID, Fingerprint: fingerprint}
	change := func(status delivery.Status) (delivery.State, *delivery.Record) {
		before, _, _ := s.Get(t.Context(), k) //nolint:errcheck // looked at afterwards
		got, err := s.Update(t.Context(), delivery.Change{Key: k, Status: status, ItemID: "ops~2-0", Fingerprint: fingerprint})
		if err != nil || len(got) != 1 {
			t.Fatalf("Update: %v, %v", got, err)
		}
		if after, _, err := s.Get(t.Context(), k); err != nil || got[0] != "" && got[0] != after.Status || got[0] == "" && after.Status != before.Status {
			t.Errorf("Update tells %q, and the record says %q, %v", got[0], after.Status, err)
		} else {
			return written(got[0] == status && after.ItemID == "ops~2-0"), nil
		}
		return "", nil
	}
	handBack := func(how delivery.Back) (delivery.State, *delivery.Record) {
		if err := s.HandBack(t.Context(), k, "me", how, rec); err != nil {
			t.Fatalf("HandBack: %v", err)
		}
		return "", nil
	}
	finish := func(status delivery.Status) (delivery.State, *delivery.Record) {
		rec.Status = status
		_, is, err := s.Finish(t.Context(), k, "me", rec)
		if err != nil {
			t.Fatalf("Finish: %v", err)
		}
		return written(is), nil
	}
	begin := func(change func(*delivery.Begin)) (delivery.State, *delivery.Record) {
		b := laterTimes
		b.Key, b.Fingerprint, b.Token, b.Lease = k, fingerprint, "me", time.Minute
		change(&b)
		state, rec, err := s.Begin(t.Context(), b)
		if err != nil {
			t.Fatalf("Begin: %v", err)
		}
		return state, &rec
	}
	cancel := func(seen delivery.Record) (delivery.State, *delivery.Record) {
		state, rec, err := s.Cancel(t.Context(), k, "me", seen)
		if err != nil {
			t.Fatalf("Cancel: %v", err)
		}
		return state, &rec
	}
	switch column {
	case "send":
		return begin(func(*delivery.Begin) {})
	case "queued":
		return begin(func(b *delivery.Begin) { b.Queued = true })
	case "accept":
		return begin(func(b *delivery.Begin) { b.Accept = true })
	case "untrue":
		return begin(func(b *delivery.Begin) { b.Untrue = &delivery.Record{ItemID: "ops~1-0"} })
	case "accepted":
		return finish(delivery.StatusAccepted)
	case "delivered":
		return finish(delivery.StatusDelivered)
	case "dead":
		return finish(delivery.StatusDeadLettered)
	case "expired":
		return finish(delivery.StatusExpired)
	case "forget":
		return handBack(delivery.BackForget)
	case "requeue":
		return handBack(delivery.BackRequeue)
	case "leave":
		return handBack(delivery.BackLeave)
	case "told_d":
		return change(delivery.StatusDelivered)
	case "told_k":
		return change(delivery.StatusDeadLettered)
	case "told_e":
		return change(delivery.StatusExpired)
	case "told_x":
		return change(delivery.StatusDiscarded)
	case "cancel":
		return cancel(delivery.Record{})
	case "confirm":
		return cancel(delivery.Record{Status: delivery.StatusCanceled, Former: delivery.StatusDeadLettered, Attempts: 9, Unanswered: 8})
	case "uncancel":
		if err := s.Uncancel(t.Context(), k, "me"); err != nil {
			t.Fatalf("Uncancel: %v", err)
		}
		return "", nil
	}
	t.Fatalf("no such column: %q", column)
	return "", nil
}

// TestWhatBecomesOfRecords makes every call on every kind of record, once and once more as
// after a lost reply.
func TestWhatBecomesOfRecords(t *testing.T) {
	fingerprints := map[string]string{"same content": content, "other content": "Zm9vYmFyYmF6cXV4cXV1eD", "older fingerprint": "of another length"}
	each(t, func(t *testing.T, s delivery.Store) {
		n := 0
		for block := range strings.SplitSeq(strings.TrimSpace(rules), "\n\n") {
			lines := strings.Split(block, "\n")
			header := strings.Fields(lines[0])
			block, columns := strings.Join(header[:2], " "), header[2:]
			for _, line := range lines[1:] {
				cells := strings.Fields(line)
				owners := []string{cells[1]}
				if cells[1] == "any" {
					owners = []string{"mine", "over"}
				}
				for i, cell := range cells[2:] {
					for _, owner := range owners {
						n++
						k := delivery.Key{Sink: "ops", ID: "m" + strings.Join([]string{block, cells[0], owner, columns[i]}, "-")}
						token, lease := "another", time.Minute
						switch owner {
						case "mine":
							token = "me"
						case "over":
							lease = 0
						}
						situate(t, s, k, cells[0], token, lease)
						oneCall(t, s, k, columns[i], fingerprints[block], cell, block)
					}
				}
			}
		}
		if n < 700 {
			t.Errorf("only %d calls were made", n)
		}
	})
}

// asReturned is a record as calls return it, without what Get alone tells.
func asReturned(r delivery.Record) delivery.Record {
	r.LeasedUntil = time.Time{}
	return r
}

// oneCall makes a call twice, and checks what was told and what the record is.
func oneCall(t *testing.T, s delivery.Store, k delivery.Key, column, fingerprint, cell, content string) {
	t.Helper()
	before, known, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	want := before.Status
	if cell[1] != '.' {
		want = becomes[cell[1]]
	}
	for time := range 2 {
		verdict, returned := call(t, s, k, column, fingerprint)
		after, stillKnown, err := s.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		name := k.ID
		if time == 1 {
			name += ", made again"
		}
		if verdict != "" && verdict != verdicts[cell[0]] {
			t.Errorf("%s: told %q, want %q", name, verdict, verdicts[cell[0]])
		}
		if after.Status != want || stillKnown != (want != "") {
			t.Errorf("%s: the record is %q, want %q", name, after.Status, want)
			return
		}
		if returned != nil && !reflect.DeepEqual(*returned, asReturned(after)) {
			t.Errorf("%s: returned %+v, and the record is %+v", name, *returned, after)
		}
		switch {
		case cell[1] == '.':
			if !reflect.DeepEqual(after, before) {
				t.Errorf("%s: the record was to stay\n %+v and is\n %+v", name, before, after)
			}
		case want != "":
			keeps(t, name, column, cell, content, before, after, known)
		}
	}
}

// keeps checks what a record has of the one before.
func keeps(t *testing.T, name, column, cell, content string, before, after delivery.Record, known bool) {
	t.Helper()
	check := func(field string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s is %v, want %v", name, field, got, want)
		}
	}
	begins := strings.ContainsRune("STUAG", rune(cell[0]))
	open := before.Status == delivery.StatusAccepting || before.Status == delivery.StatusAccepted || before.Status == delivery.StatusInProgress
	anew := !known || content == "older fingerprint" && !open || begins && !open // nothing of what was before
	if content == "older fingerprint" && before.Status == delivery.StatusAccepted && cell[0] != 'C' {
		anew = true
	}
	check("sink", after.Sink, "ops")
	if cell[1] == 'f' { // restored
		check("former", after.Former, delivery.Status(""))
		check("answer", after.Answer, "first")
		check("item", after.ItemID, "ops~1-0")
		check("expires_at", after.ExpiresAt, firstTimes.ExpiresAt)
		return
	}
	switch {
	case begins && anew:
		check("accepted_at", after.AcceptedAt, laterTimes.AcceptedAt)
		check("expires_at", after.ExpiresAt, laterTimes.ExpiresAt)
		check("answer", after.Answer, "")
		check("item", after.ItemID, "")
		check("attempts", after.Attempts, 0)
	case !anew || column == "cancel" || column == "confirm":
		check("accepted_at", after.AcceptedAt, before.AcceptedAt)
		check("not_before", after.NotBefore, before.NotBefore)
		check("expires_at", after.ExpiresAt, before.ExpiresAt)
		check("answer", after.Answer, before.Answer)
		if !strings.HasPrefix(column, "told_") {
			check("item", after.ItemID, before.ItemID)
		}
	}
	switch {
	case !before.BeganAt.IsZero() && !anew:
		check("began_at", after.BeganAt, before.BeganAt)
	case begins:
		check("began", !after.BeganAt.IsZero(), cell[1] != 'g')
	}
	switch {
	case column == "confirm":
		check("attempts", after.Attempts, 9)
		check("unanswered", after.Unanswered >= 8, true)
	case cell[0] == 'T' && before.Status == delivery.StatusInProgress, cell[0] == 'C' && before.Status == delivery.StatusInProgress:
		check("unanswered", after.Unanswered, before.Unanswered+1)
	case !anew:
		check("attempts", after.Attempts, before.Attempts)
		if !strings.HasPrefix(column, "told_") && column != "delivered" || before.Status != delivery.StatusInProgress {
			check("unanswered", after.Unanswered, before.Unanswered)
		}
	}
	if cell[1] == 'c' {
		former := before.Status
		if former == delivery.StatusCanceled {
			former = before.Former
		}
		if former == "" && column == "confirm" {
			former = delivery.StatusDeadLettered
		}
		check("former", after.Former, former)
	} else if before.Status == delivery.StatusCanceled && cell[1] == 'd' {
		check("attempts", after.Attempts, before.Attempts)
	}
}
