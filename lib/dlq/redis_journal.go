package dlq

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// Bounds of one call of the scripts that serve a journal, which keep them short.
const (
	journalItems     = 500 // addresses and ids
	unjournaledItems = 100 // dead letters
	presentItems     = 200 // identities
	presentLooks     = 400 // entries that a search looks at
	presentBytes     = 512 << 10
	retireLooks      = 100
	retireBytes      = 256 << 10
)

// flags tells a script.
var flags = map[bool]string{true: "1", false: "0"}

// journalView reads {known, unjournaled, ended, notes}.
func journalView(a []any) (JournalView, error) {
	v := JournalView{Known: number(a[0]) == 1, Unjournaled: number(a[1]), Ending: number(a[2])}
	if notes := text(a[3]); notes != "" {
		if err := json.Unmarshal([]byte(notes), &v.JournalNotes); err != nil {
			return v, &fault.Error{Code: fault.CodeInternal, Msg: "the notes of a journal cannot be read", Cause: err}
		}
	}
	return v, nil
}

// JournalLease implements Journaling.
func (r *Redis) JournalLease(ctx context.Context, sink, token string, ttl time.Duration) (JournalView, bool, error) {
	if err := checkJournal(sink, token); err != nil {
		return JournalView{}, false, err
	}
	answer, err := r.conn.Eval(ctx, "journal lease", journalLeaseScript, r.conn.Keys.Queue(sink), token, ceilMilliseconds(max(ttl, 0)))
	if err != nil {
		return JournalView{}, false, err
	}
	a, ok := answer.([]any)
	if !ok || len(a) != 5 {
		return JournalView{}, false, redisconn.Unexpected("journal lease", answer)
	}
	v, err := journalView(a[1:])
	return v, a[0] == int64(1), err
}

// SaveJournal implements Journaling.
func (r *Redis) SaveJournal(ctx context.Context, sink, token string, n JournalNotes) error {
	if err := checkJournal(sink, token); err != nil {
		return err
	}
	b, err := encodeJSON(n)
	if err != nil {
		return invalid("notes of a journal cannot be encoded: %v", err)
	}
	answer, err := r.conn.Eval(ctx, "save journal", journalSaveScript, r.conn.Keys.Queue(sink), token, string(b))
	if err == nil && answer != int64(1) {
		err = ErrJournalTaken
	}
	return err
}

// NoteUnjournaled implements Journaling.
func (r *Redis) NoteUnjournaled(ctx context.Context, sink string, ids []string) error {
	natives, err := checkNatives(sink, ids)
	if err != nil {
		return err
	}
	return r.note(ctx, sink, "unjournaled", natives)
}

// NoteEnded implements Journaling.
func (r *Redis) NoteEnded(ctx context.Context, sink string, addresses []string) error {
	if err := checkAddresses(addresses); err != nil {
		return err
	}
	return r.note(ctx, sink, "ended", addresses)
}

func (r *Redis) note(ctx context.Context, sink, set string, members []string) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	for part := range slices.Chunk(members, journalItems) {
		args := []any{set}
		for _, m := range part {
			args = append(args, m)
		}
		if _, err := r.conn.Eval(ctx, "note "+set, journalNoteScript, r.conn.Keys.Queue(sink), args...); err != nil {
			return err
		}
	}
	return nil
}

// Unjournaled implements Journaling.
func (r *Redis) Unjournaled(ctx context.Context, sink string, limit int) ([]Unjournaled, error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, err
	}
	out := []Unjournaled{}
	for limit > 0 && len(out) == 0 {
		// Any of them, so that those which cannot be written keep no others away.
		members, err := redisconn.Ask(ctx, r.conn, "unjournaled", func(ctx context.Context) ([]string, error) {
			return r.conn.Client.SRandMemberN(ctx, r.conn.Keys.Companion(sink, "unjournaled"), int64(min(limit, maxPage))).Result()
		})
		if err != nil || len(members) == 0 {
			return out, err
		}
		if out, err = r.lacking(ctx, sink, members); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// lacking reads members of the set of unjournaled dead letters, and forgets those that are gone.
func (r *Redis) lacking(ctx context.Context, sink string, members []string) ([]Unjournaled, error) {
	out, size := []Unjournaled{}, 0
	for len(members) > 0 && size < unjournaledBytes {
		args := []any{min(unjournaledBytes-size, presentBytes)}
		for _, m := range members[:min(len(members), unjournaledItems)] {
			args = append(args, m)
		}
		answer, err := r.conn.Eval(ctx, "unjournaled", unjournaledScript, r.conn.Keys.Queue(sink), args...)
		if err != nil {
			return nil, err
		}
		a, ok := answer.([]any)
		if !ok || len(a) == 0 || number(a[0]) == 0 {
			return nil, redisconn.Unexpected("unjournaled", answer)
		}
		members = members[number(a[0]):]
		for _, v := range a[1:] {
			row, ok := v.([]any)
			if !ok || len(row) != 3 {
				return nil, redisconn.Unexpected("unjournaled", answer)
			}
			native, state := strings.CutPrefix(text(row[0]), stateNote)
			e := entry{sink: sink, native: native}
			e.setState(text(row[1]))
			e.setFields(pairs(row[2]))
			out = append(out, e.unjournaled(state))
			size += len(e.item)
		}
	}
	return out, nil
}

// Ended implements Journaling.
func (r *Redis) Ended(ctx context.Context, sink, cursor string, limit int) (addresses []string, next string, err error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, "", err
	}
	var at uint64
	if cursor != "" {
		if at, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return nil, "", invalid("%.100q is no cursor of what ended", cursor)
		}
	}
	err = r.conn.Do(ctx, "ended", func(ctx context.Context) (err error) {
		var to uint64
		addresses, to, err = r.conn.Client.SScan(ctx, r.conn.Keys.Companion(sink, "ended"), at, "", int64(min(max(limit, 1), maxPage))).Result()
		next = ""
		if to != 0 {
			next = strconv.FormatUint(to, 10)
		}
		return err
	})
	return addresses, next, err
}

// AreEnded implements Journaling.
func (r *Redis) AreEnded(ctx context.Context, sink string, addresses []string) ([]bool, error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, err
	}
	out := make([]bool, 0, len(addresses))
	for part := range slices.Chunk(addresses, maxPage) {
		members := make([]any, len(part))
		for i, a := range part {
			members[i] = a
		}
		got, err := redisconn.Ask(ctx, r.conn, "are ended", func(ctx context.Context) ([]bool, error) {
			return r.conn.Client.SMIsMember(ctx, r.conn.Keys.Companion(sink, "ended"), members...).Result()
		})
		if err != nil {
			return nil, err
		}
		out = append(out, got...)
	}
	return out, nil
}

// Journaled implements Journaling.
func (r *Redis) Journaled(ctx context.Context, sink, token string, d JournalDone) error {
	written, states, err := checkDone(sink, token, d)
	if err != nil {
		return err
	}
	ended := d.Ended
	for first := true; first || len(ended)+len(written)+len(states) > 0; first = false {
		var e, w, s int // of this call
		e = min(len(ended), journalItems)
		w = min(len(written), journalItems-e)
		s = min(len(states), journalItems-e-w)
		args := []any{token, e, w}
		for _, a := range slices.Concat(ended[:e], written[:w]) {
			args = append(args, a)
		}
		at := len(d.States) - len(states)
		for i, native := range states[:s] {
			was := ""
			if d.States[at+i].Parked {
				was += "p"
			}
			if d.States[at+i].Held {
				was += "h"
			}
			args = append(args, native, was+d.States[at+i].SupersededBy)
		}
		ended, written, states = ended[e:], written[w:], states[s:]
		answer, err := r.conn.Eval(ctx, "journaled", journaledScript, r.conn.Keys.Queue(sink), args...)
		if err != nil {
			return err
		}
		if answer != int64(1) {
			return ErrJournalTaken
		}
	}
	return nil
}

// Present implements Journaling.
func (r *Redis) Present(ctx context.Context, sink string, of []Identity) ([]Present, error) {
	if err := checkIdentities(sink, of); err != nil {
		return nil, err
	}
	out := make([]Present, len(of))
	after := ""
	for at := 0; at < len(of); {
		args := []any{presentLooks, presentBytes, after}
		for _, id := range of[at:min(at+presentItems, len(of))] {
			args = append(args, id.PushKey, id.Content)
		}
		answer, err := r.conn.Eval(ctx, "present", presentScript, r.conn.Keys.Queue(sink), args...)
		if err != nil {
			return nil, err
		}
		a, ok := answer.([]any)
		if !ok || len(a) < 3 || len(a)-2 > (len(args)-3)/2 {
			return nil, redisconn.Unexpected("present", answer)
		}
		for i, v := range a[2:] {
			row, ok := v.([]any)
			if !ok || len(row) < 2 || len(row)%3 != 2 {
				return nil, redisconn.Unexpected("present", answer)
			}
			if p := presentOf(sink, of[at+i], row); p.ID != "" {
				out[at+i] = p
			}
		}
		at += int(number(a[0]))
		if after = text(a[1]); after != "" && at < len(of) && out[at].ID != "" {
			at, after = at+1, "" // found among those that do not tell their content
		}
	}
	return out, nil
}

// presentOf reads a row of present.lua.
func presentOf(sink string, id Identity, row []any) Present {
	if native := text(row[0]); native != "" {
		return entry{sink: sink, native: native, pushKey: id.PushKey, content: id.Content, journal: text(row[1])}.present()
	}
	for i := 2; i < len(row); i += 3 {
		e := entry{sink: sink, native: text(row[i]), pushKey: id.PushKey, item: text(row[i+1]), journal: text(row[i+2])}
		if e.fingerprint() == id.Content {
			return e.present()
		}
	}
	return Present{}
}

// PresentAfter implements Journaling.
func (r *Redis) PresentAfter(ctx context.Context, sink, after string, limit int) (found []Present, next string, err error) {
	after, limit, err = checkAfter(sink, after, limit)
	if err != nil {
		return nil, "", err
	}
	found = []Present{}
	for next = after; next != "" && len(found) < limit; {
		answer, err := r.conn.Eval(ctx, "present", presentAfterScript, r.conn.Keys.Queue(sink), next, min(limit-len(found), presentItems), presentBytes)
		if err != nil {
			return nil, "", err
		}
		a, ok := answer.([]any)
		if !ok || len(a)%4 != 1 {
			return nil, "", redisconn.Unexpected("present", answer)
		}
		part := make([]*entry, 0, len(a)/4)
		for i := 1; i < len(a); i += 4 {
			part = append(part, &entry{sink: sink, native: text(a[i]), pushKey: text(a[i+1]), content: text(a[i+2]), journal: text(a[i+3])})
		}
		if err := r.complete(ctx, part); err != nil {
			return nil, "", err
		}
		for _, e := range part {
			if !e.lazy {
				found = append(found, e.present())
			}
		}
		next = text(a[0])
	}
	return found, next, nil
}

// complete reads entries that do not tell their content: others wrote them, or an older version.
// What was removed meanwhile stays lazy.
func (r *Redis) complete(ctx context.Context, entries []*entry) error {
	var silent []*entry
	for _, e := range entries {
		if e.content == "" {
			e.lazy = true
			silent = append(silent, e)
		}
	}
	for part := range slices.Chunk(silent, readFirst) {
		if err := (redisReader{r}).load(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// Return implements Journaling.
func (r *Redis) Return(ctx context.Context, sink, token string, over int, letters []Letter) ([]Returned, error) {
	entries, err := checkReturn(sink, token, letters, time.Now())
	if err != nil || len(letters) == 0 {
		return nil, err
	}
	identities := make([]Identity, len(letters))
	for i, l := range letters {
		identities[i] = l.Identity
	}
	var there []Present
	var notKnown error
	var asking sync.WaitGroup // two questions, and the time of one
	asking.Go(func() { there, notKnown = r.Present(ctx, sink, identities) })
	// Whoever restores a queue that was lost may have known of its sink before.
	err = r.conn.Do(ctx, "return", func(ctx context.Context) error {
		return r.conn.Client.SAdd(ctx, r.conn.Keys.Sinks(), sink).Err()
	})
	asking.Wait()
	if err == nil {
		err = notKnown
	}
	if err != nil {
		return nil, err
	}
	out := make([]Returned, len(letters))
	var part []int
	size := 0
	for i, e := range entries {
		if size > 0 && size+len(e.item) > pushBytes {
			if err := r.giveBack(ctx, sink, token, over, letters, entries, there, part, out); err != nil {
				return nil, err
			}
			part, size = nil, 0
		}
		part = append(part, i)
		size += len(e.item)
	}
	return out, r.giveBack(ctx, sink, token, over, letters, entries, there, part, out)
}

// giveBack returns some letters, in one call unless there are entries that they must be compared
// with (see addPart).
func (r *Redis) giveBack(ctx context.Context, sink, token string, over int, letters []Letter, entries []entry, there []Present, part []int, out []Returned) error {
	most := 0
	if r.opts.maxLen > 0 {
		most = r.opts.maxLen + max(over, 0)
	}
	var known []string
	for len(part) > 0 {
		args := []any{token, most, MaxGroups, maxContents, strings.Join(known, " ")}
		for _, i := range part {
			e, wait, found := entries[i], "", ID{}
			if e.state.Parked {
				wait = "p"
			}
			if e.state.Held {
				wait += "h"
			}
			if e.state.SupersededBy != "" {
				wait += "|" + e.state.SupersededBy
			}
			if there[i].ID != "" {
				found, _ = ParseID(there[i].ID)
			}
			args = append(args, e.pushKey, e.content, e.group, e.groupText, e.when(), e.item, e.journal, nativeSpelling(e.journal),
				e.deliveryKeyOf(letters[i].Item.DeliveryID), wait, found.Native)
		}
		answer, err := r.conn.Eval(ctx, "return", returnScript, r.conn.Keys.Queue(sink), args...)
		if err != nil {
			return err
		}
		a, ok := answer.([]any)
		if ok && len(a) == 1 && a[0] == int64(-1) {
			return ErrJournalTaken
		}
		if !ok || len(a) != 3*len(part) {
			return redisconn.Unexpected("return", answer)
		}
		var again []int
		for j, i := range part {
			status, native, more := text(a[3*j]), text(a[3*j+1]), a[3*j+2]
			switch ReturnStatus(status) {
			case "compare":
				other := entry{sink: sink, native: native, item: text(more)}
				if fact := other.fingerprint() + ":" + native; !slices.Contains(known, fact) {
					known = append(known, fact)
				}
				again = append(again, i)
			case ReturnStored, ReturnExists:
				out[i] = Returned{Status: ReturnStatus(status), ID: ID{Sink: sink, Native: native}.String()}
			case ReturnEnded, ReturnCanceled, ReturnFull:
				out[i] = Returned{Status: ReturnStatus(status)}
			default:
				return redisconn.Unexpected("return", answer)
			}
		}
		part = again
	}
	return nil
}

// Retire implements Journaling. After a lost reply, only Stats.Retired counts what was removed.
func (r *Redis) Retire(ctx context.Context, sink string, before time.Time) (retired int64, more bool, err error) {
	if err := fault.CheckName(sink); err != nil {
		return 0, false, err
	}
	for left := int64(maxRetire); left > 0; {
		answer, err := r.conn.Eval(ctx, "retire", retireScript, r.conn.Keys.Queue(sink), max(ceilUnix(before), 0), min(left, retireLooks), retireBytes)
		if err != nil {
			return retired, true, err
		}
		a, ok := answer.([]any)
		if !ok || len(a) != 3 {
			return retired, true, redisconn.Unexpected("retire", answer)
		}
		retired += number(a[0])
		left -= number(a[1])
		if more = a[2] == int64(1); !more {
			return retired, false, nil
		}
	}
	return retired, more, nil
}
