package dlq

import (
	"cmp"
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

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

// with is what is known of a journal by two queues of a sink. Its notes are with the first.
func (v JournalView) with(o JournalView) JournalView {
	v.Known = v.Known || o.Known
	v.Unjournaled += o.Unjournaled
	v.Ending += o.Ending
	return v
}

// JournalLease implements Journaling.
func (r *Redis) JournalLease(ctx context.Context, sink, token string, ttl time.Duration) (JournalView, bool, error) {
	if err := checkJournal(sink, token); err != nil {
		return JournalView{}, false, err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return JournalView{}, false, err
	}
	view, all := JournalView{}, true
	for i, part := range [][]string{queues[:1], queues[1:]} {
		views, held, err := r.journalLeases(ctx, part, token, ttl)
		if err != nil {
			return JournalView{}, false, err
		}
		for j, v := range views {
			if i+j == 0 {
				view = v
			} else {
				view = view.with(v)
			}
			all = all && held[j]
		}
		if !all {
			ttl = 0 // another works there: shard 0 says who may, and the others follow
		}
	}
	if !all && len(queues) > 1 {
		_, _, err = r.journalLeases(ctx, queues, token, 0)
	}
	return view, all, err
}

// journalLeases is JournalLease in each of some queues.
func (r *Redis) journalLeases(ctx context.Context, queues []string, token string, ttl time.Duration) ([]JournalView, []bool, error) {
	calls := make([]redisconn.Call, len(queues))
	for i, queue := range queues {
		calls[i] = redisconn.Call{Keys: r.conn.Keys.Queue(queue), Args: []any{token, ceilMilliseconds(max(ttl, 0))}}
	}
	answers, err := r.conn.EvalAll(ctx, "journal lease", journalLeaseScript, calls)
	if err != nil {
		return nil, nil, err
	}
	views, held := make([]JournalView, len(queues)), make([]bool, len(queues))
	for i, answer := range answers {
		a, ok := answer.([]any)
		if !ok || len(a) != 5 {
			return nil, nil, redisconn.Unexpected("journal lease", answer)
		}
		held[i] = a[0] == int64(1)
		if views[i], err = journalView(a[1:]); err != nil {
			return nil, nil, err
		}
	}
	return views, held, nil
}

// follow gives the lease on a sink's journal to who holds it with shard 0, in a queue that came later. False: nobody holds it there, or
// it was not needed.
func (r *Redis) follow(ctx context.Context, queue, token string) bool {
	sink := sinkOf(queue)
	if queue == sink {
		return false
	}
	var mine bool
	var ttl time.Duration
	err := r.conn.Do(ctx, "journal lease", func(ctx context.Context) error {
		of := r.conn.Client.HMGet(ctx, r.conn.Keys.Companion(sink, "meta"), "journal_token", "journal_until")
		if err := of.Err(); err != nil {
			return err
		}
		until := time.UnixMilli(number(of.Val()[1]))
		mine, ttl = text(of.Val()[0]) == token, time.Until(until)
		return nil
	})
	if err != nil || !mine || ttl <= 0 {
		return false
	}
	views, held, err := r.journalLeases(ctx, []string{queue}, token, ttl)
	return err == nil && len(views) == 1 && held[0]
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
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	natives, err := checkNatives(sink, ids)
	if err != nil {
		return err
	}
	byQueue := map[string][]string{}
	for _, native := range natives {
		queue := ID{Sink: sink, Native: native}.queue()
		byQueue[queue] = append(byQueue[queue], native)
	}
	for queue, part := range byQueue {
		if err := r.note(ctx, queue, "unjournaled", part); err != nil {
			return err
		}
	}
	return nil
}

// NoteEnded implements Journaling.
func (r *Redis) NoteEnded(ctx context.Context, sink string, addresses []string) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	if err := checkAddresses(addresses); err != nil {
		return err
	}
	return r.note(ctx, sink, "ended", addresses)
}

func (r *Redis) note(ctx context.Context, queue, set string, members []string) error {
	for part := range slices.Chunk(members, journalItems) {
		args := []any{set}
		for _, m := range part {
			args = append(args, m)
		}
		if _, err := r.conn.Eval(ctx, "note "+set, journalNoteScript, r.conn.Keys.Queue(queue), args...); err != nil {
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
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return nil, err
	}
	out := []Unjournaled{}
	from, bytes := rand.IntN(len(queues)), 0 // no queue keeps the others away
	for i := range queues {
		part, size, err := r.unjournaled(ctx, queues[(from+i)%len(queues)], limit-len(out), unjournaledBytes-bytes)
		if err != nil {
			return nil, err
		}
		out, bytes = append(out, part...), bytes+size
		if len(out) >= limit || bytes >= unjournaledBytes {
			break
		}
	}
	return out, nil
}

// unjournaled is Unjournaled in one queue, of at most so many bytes, and says how many they are.
func (r *Redis) unjournaled(ctx context.Context, queue string, limit, most int) (out []Unjournaled, size int, err error) {
	for limit > 0 && len(out) == 0 {
		// Any of them, so that those which cannot be written keep no others away.
		members, err := redisconn.Ask(ctx, r.conn, "unjournaled", func(ctx context.Context) ([]string, error) {
			return r.conn.Client.SRandMemberN(ctx, r.conn.Keys.Companion(queue, "unjournaled"), int64(min(limit, maxPage))).Result()
		})
		if err != nil || len(members) == 0 {
			return nil, 0, err
		}
		if out, size, err = r.lacking(ctx, queue, members, most); err != nil {
			return nil, 0, err
		}
	}
	return out, size, nil
}

// lacking reads members of the set of unjournaled dead letters, and forgets those that are gone.
func (r *Redis) lacking(ctx context.Context, queue string, members []string, most int) (out []Unjournaled, size int, err error) {
	for len(members) > 0 && size < most {
		args := []any{min(most-size, presentBytes)}
		for _, m := range members[:min(len(members), unjournaledItems)] {
			args = append(args, m)
		}
		answer, err := r.conn.Eval(ctx, "unjournaled", unjournaledScript, r.conn.Keys.Queue(queue), args...)
		if err != nil {
			return nil, 0, err
		}
		a, ok := answer.([]any)
		if !ok || len(a) == 0 || number(a[0]) == 0 {
			return nil, 0, redisconn.Unexpected("unjournaled", answer)
		}
		members = members[number(a[0]):]
		for _, v := range a[1:] {
			row, ok := v.([]any)
			if !ok || len(row) != 3 {
				return nil, 0, redisconn.Unexpected("unjournaled", answer)
			}
			native, state := strings.CutPrefix(text(row[0]), stateNote)
			e := entry{sink: sinkOf(queue), native: native}
			e.setState(text(row[1]))
			e.setFields(pairs(row[2]))
			out = append(out, e.unjournaled(state))
			size += len(e.item)
		}
	}
	return out, size, nil
}

// Ended implements Journaling. After shard 0, a cursor tells its shard: "<shard>:<cursor>".
func (r *Redis) Ended(ctx context.Context, sink, cursor string, limit int) (addresses []string, next string, err error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, "", err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return nil, "", err
	}
	var at uint64
	shard := 0
	if cursor != "" {
		where, rest, many := strings.Cut(cursor, ":")
		if !many {
			where, rest = "0", cursor
		}
		var bad error
		shard, err = strconv.Atoi(where)
		if at, bad = strconv.ParseUint(rest, 10, 64); err != nil || bad != nil || shard < 0 || shard >= MaxShards {
			return nil, "", invalid("%.100q is no cursor of what ended", cursor)
		}
		shard = min(shard, len(queues)-1)
	}
	var to uint64
	err = r.conn.Do(ctx, "ended", func(ctx context.Context) (err error) {
		addresses, to, err = r.conn.Client.SScan(ctx, r.conn.Keys.Companion(queues[shard], "ended"), at, "", int64(min(max(limit, 1), maxPage))).Result()
		return err
	})
	switch {
	case err != nil:
		return nil, "", err
	case to == 0 && shard == len(queues)-1:
		return addresses, "", nil
	case to == 0:
		shard++
	}
	next = strconv.FormatUint(to, 10)
	if shard > 0 {
		next = strconv.Itoa(shard) + ":" + next
	}
	return addresses, next, nil
}

// AreEnded implements Journaling.
func (r *Redis) AreEnded(ctx context.Context, sink string, addresses []string) ([]bool, error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return nil, err
	}
	return r.areEnded(ctx, queues, addresses)
}

// areEnded reports for each address whether one of the queues notes it as over.
func (r *Redis) areEnded(ctx context.Context, queues, addresses []string) ([]bool, error) {
	out := make([]bool, 0, len(addresses))
	for part := range slices.Chunk(addresses, maxPage) {
		members := make([]any, len(part))
		for i, a := range part {
			members[i] = a
		}
		got := make([]bool, len(part))
		err := r.conn.DoAll(ctx, "are ended", len(queues), func(ctx context.Context) error {
			p := r.conn.Client.Pipeline()
			all := make([]*redis.BoolSliceCmd, len(queues))
			for i, queue := range queues {
				all[i] = p.SMIsMember(ctx, r.conn.Keys.Companion(queue, "ended"), members...)
			}
			if _, err := p.Exec(ctx); err != nil {
				return err
			}
			for _, cmd := range all {
				for i, is := range cmd.Val() {
					got[i] = got[i] || is
				}
			}
			return nil
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
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return err
	}
	parts := map[string]*done{}
	for _, queue := range queues {
		parts[queue] = &done{ended: d.Ended} // any of them may have noted it
	}
	of := func(native string) *done {
		queue := ID{Sink: sink, Native: native}.queue()
		if parts[queue] == nil {
			queues = append(queues, queue)
			parts[queue] = &done{}
		}
		return parts[queue]
	}
	for _, native := range written {
		of(native).written = append(of(native).written, native)
	}
	for i, native := range states {
		was := ""
		if d.States[i].Parked {
			was += "p"
		}
		if d.States[i].Held {
			was += "h"
		}
		of(native).states = append(of(native).states, native, was+d.States[i].SupersededBy)
	}
	return each(queues, func(_ int, queue string) error { return r.journaled(ctx, queue, token, *parts[queue]) })
}

// done is what the journal has by now of a queue: states are native ids with what was written of each.
type done struct{ ended, written, states []string }

func (r *Redis) journaled(ctx context.Context, queue, token string, d done) error {
	for first := true; first || len(d.ended)+len(d.written)+len(d.states) > 0; first = false {
		var e, w, s int // of this call
		e = min(len(d.ended), journalItems)
		w = min(len(d.written), journalItems-e)
		s = min(len(d.states), 2*(journalItems-e-w))
		args := []any{token, e, w}
		for _, a := range slices.Concat(d.ended[:e], d.written[:w], d.states[:s]) {
			args = append(args, a)
		}
		d = done{d.ended[e:], d.written[w:], d.states[s:]}
		answer, err := r.conn.Eval(ctx, "journaled", journaledScript, r.conn.Keys.Queue(queue), args...)
		if err == nil && answer != int64(1) && r.follow(ctx, queue, token) {
			answer, err = r.conn.Eval(ctx, "journaled", journaledScript, r.conn.Keys.Queue(queue), args...)
		}
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
	byQueue := map[string][]int{}
	var queues []string
	for i, id := range of {
		its, err := r.placesOfIdentity(ctx, sink, id)
		if err != nil {
			return nil, err
		}
		for _, queue := range its {
			if byQueue[queue] == nil {
				queues = append(queues, queue)
			}
			byQueue[queue] = append(byQueue[queue], i)
		}
	}
	parts := make([][]Present, len(queues))
	err := each(queues, func(q int, queue string) (err error) {
		ask := make([]Identity, len(byQueue[queue]))
		for n, i := range byQueue[queue] {
			ask[n] = of[i]
		}
		parts[q], err = r.present(ctx, queue, ask)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]Present, len(of))
	for q, queue := range queues {
		for n, i := range byQueue[queue] {
			if parts[q][n].ID != "" {
				out[i] = parts[q][n]
			}
		}
	}
	return out, nil
}

// placesOfIdentity returns the queues that may have a dead letter. One that others wrote tells where.
func (r *Redis) placesOfIdentity(ctx context.Context, sink string, id Identity) ([]string, error) {
	if native, foreign := strings.CutPrefix(id.PushKey, "@"); foreign {
		return []string{queueOf(sink, shardOf(native))}, nil
	}
	return r.places(ctx, sink, deliveryKey(id.PushKey))
}

// present is Present in one queue.
func (r *Redis) present(ctx context.Context, queue string, of []Identity) ([]Present, error) {
	out := make([]Present, len(of))
	after := ""
	for at := 0; at < len(of); {
		args := []any{presentLooks, presentBytes, after}
		for _, id := range of[at:min(at+presentItems, len(of))] {
			args = append(args, id.PushKey, id.Content)
		}
		answer, err := r.conn.Eval(ctx, "present", presentScript, r.conn.Keys.Queue(queue), args...)
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
			if p := presentOf(sinkOf(queue), of[at+i], row); p.ID != "" {
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
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return nil, "", err
	}
	if len(queues) == 1 {
		return r.presentAfter(ctx, sink, after, limit)
	}
	parts, nexts := make([][]Present, len(queues)), make([]string, len(queues))
	err = each(queues, func(i int, queue string) (err error) {
		parts[i], nexts[i], err = r.presentAfter(ctx, queue, after, limit)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	// Up to where all of them were read.
	for _, to := range nexts {
		if to != "" && (next == "" || CompareNative(to, next) < 0) {
			next = to
		}
	}
	nativeOf := func(p Present) string { return p.ID[len(sink)+1:] }
	found = slices.Concat(parts...)
	slices.SortFunc(found, func(a, b Present) int { return CompareNative(nativeOf(a), nativeOf(b)) })
	if next != "" {
		found = slices.DeleteFunc(found, func(p Present) bool { return CompareNative(nativeOf(p), next) > 0 })
	}
	if len(found) > limit {
		found = found[:limit]
		next = nativeOf(found[limit-1])
	}
	return found, next, nil
}

// presentAfter is PresentAfter in one queue.
func (r *Redis) presentAfter(ctx context.Context, queue, after string, limit int) (found []Present, next string, err error) {
	found = []Present{}
	for next = after; next != "" && len(found) < limit; {
		answer, err := r.conn.Eval(ctx, "present", presentAfterScript, r.conn.Keys.Queue(queue), next, min(limit-len(found), presentItems), presentBytes)
		if err != nil {
			return nil, "", err
		}
		a, ok := answer.([]any)
		if !ok || len(a)%4 != 1 {
			return nil, "", redisconn.Unexpected("present", answer)
		}
		part := make([]*entry, 0, len(a)/4)
		for i := 1; i < len(a); i += 4 {
			part = append(part, &entry{sink: sinkOf(queue), native: text(a[i]), pushKey: text(a[i+1]), content: text(a[i+2]), journal: text(a[i+3])})
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
	if err = cmp.Or(err, notKnown); err != nil {
		return nil, err
	}
	ended, err := r.endedElsewhere(ctx, sink, entries)
	if err != nil {
		return nil, err
	}
	out := make([]Returned, len(letters))
	var part []int // that are for one queue, in their order: there may not be room for all
	size, to := 0, ""
	for i, e := range entries {
		if ended[i] {
			out[i] = Returned{Status: ReturnEnded}
			continue
		}
		queue, err := r.returnsTo(ctx, sink, e, letters[i].Item.DeliveryID, there[i])
		if err != nil {
			return nil, err
		}
		if len(part) > 0 && (queue != to || size+len(e.item) > pushBytes) {
			if err := r.giveBack(ctx, to, token, over, letters, entries, there, part, out); err != nil {
				return nil, err
			}
			part, size = nil, 0
		}
		part, size, to = append(part, i), size+len(e.item), queue
	}
	if len(part) == 0 {
		return out, nil
	}
	return out, r.giveBack(ctx, to, token, over, letters, entries, there, part, out)
}

// endedElsewhere reports for each entry whether a queue of its sink notes its address as over. A sink with one queue need not
// be asked: return.lua looks there.
func (r *Redis) endedElsewhere(ctx context.Context, sink string, entries []entry) ([]bool, error) {
	queues, err := r.queues(ctx, sink)
	if err != nil || len(queues) == 1 {
		return make([]bool, len(entries)), err
	}
	addresses := make([]string, 0, 2*len(entries))
	for _, e := range entries {
		addresses = append(addresses, e.journal, cmp.Or(nativeSpelling(e.journal), e.journal))
	}
	noted, err := r.areEnded(ctx, queues, addresses)
	if err != nil {
		return nil, err
	}
	ended := make([]bool, len(entries))
	for i := range entries {
		ended[i] = noted[2*i] || noted[2*i+1]
	}
	return ended, nil
}

// returnsTo is the queue that a dead letter is returned to: where it is, or where its delivery's go. There it is noted if
// another notes that the delivery was canceled.
func (r *Redis) returnsTo(ctx context.Context, sink string, e entry, deliveryID string, there Present) (string, error) {
	if id, err := ParseID(there.ID); err == nil {
		return id.queue(), nil
	}
	if native, foreign := strings.CutPrefix(e.pushKey, "@"); foreign {
		return queueOf(sink, shardOf(native)), nil // where it is looked for
	}
	queue, others, err := r.home(ctx, sink, e.deliveryKeyOf(deliveryID))
	if err != nil || len(others) == 0 {
		return queue, err
	}
	_, err = r.around(ctx, queue, []push{{entry: e, delivery: e.deliveryKeyOf(deliveryID), others: others}})
	return queue, err
}

// giveBack returns some letters, in one call unless there are entries that they must be compared
// with (see addPart).
func (r *Redis) giveBack(ctx context.Context, queue, token string, over int, letters []Letter, entries []entry, there []Present, part []int, out []Returned) error {
	sink, most := sinkOf(queue), 0
	if r.opts.maxLen > 0 {
		var err error
		if most, err = r.most(ctx, sink, queue, r.opts.maxLen+max(over, 0)); err != nil {
			return err
		}
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
		answer, err := r.conn.Eval(ctx, "return", returnScript, r.conn.Keys.Queue(queue), args...)
		if err != nil {
			return err
		}
		a, ok := answer.([]any)
		if ok && len(a) == 1 && a[0] == int64(-1) {
			if r.follow(ctx, queue, token) {
				continue
			}
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
func (r *Redis) Retire(ctx context.Context, sink string, until time.Time) (retired int64, more bool, err error) {
	if err := fault.CheckName(sink); err != nil {
		return 0, false, err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return 0, false, err
	}
	counts, goesOn := make([]int64, len(queues)), make([]bool, len(queues))
	err = each(queues, func(i int, queue string) (err error) {
		counts[i], goesOn[i], err = r.retire(ctx, queue, until, maxRetire/int64(len(queues)))
		return err
	})
	for i, queue := range queues {
		more = more || goesOn[i]
		if err == nil && slices.Contains(goesOn, true) && !goesOn[i] {
			err = r.retireNoMore(ctx, queue) // until the others are at their end too
		}
	}
	return sum(counts), more || err != nil, err
}

// retireNoMore makes the next call of retire begin at a queue's end.
func (r *Redis) retireNoMore(ctx context.Context, queue string) error {
	return r.conn.Do(ctx, "retire", func(ctx context.Context) error {
		return r.conn.Client.HSet(ctx, r.conn.Keys.Companion(queue, "meta"), "retire_at", before(maxNative)).Err()
	})
}

// retire is Retire in one queue, up to so many looks.
func (r *Redis) retire(ctx context.Context, queue string, until time.Time, left int64) (retired int64, more bool, err error) {
	for left > 0 {
		answer, err := r.conn.Eval(ctx, "retire", retireScript, r.conn.Keys.Queue(queue), max(ceilUnix(until), 0), min(left, retireLooks), retireBytes)
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
			break
		}
	}
	return retired, more, nil
}
