package dlq

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// Bounds of one call of the scripts that serve a journal, which keep them short.
const (
	journalItems     = 500 // addresses and ids
	unjournaledItems = 100 // dead letters
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
