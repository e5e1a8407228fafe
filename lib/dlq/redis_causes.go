package dlq

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// Groups implements Store.
func (r *Redis) Groups(ctx context.Context, sink string) ([]Group, error) {
	names, err := namesOf(ctx, r, sink)
	if err != nil {
		return nil, err
	}
	answers, err := r.groups(ctx, names, false)
	if err != nil {
		return nil, err
	}
	var wrong []string
	for i, a := range answers {
		if a.other < 0 && r.mend(ctx, names[i]) {
			wrong = append(wrong, names[i])
		}
	}
	if len(wrong) > 0 {
		mended, err := r.groups(ctx, wrong, false)
		if err != nil {
			return nil, err
		}
		for i, name := range names {
			if j := slices.Index(wrong, name); j >= 0 {
				answers[i] = mended[j]
			}
		}
	}
	all := []Group{}
	for i, a := range answers {
		all = appendOther(append(all, a.groups...), names[i], a.other)
	}
	sortGroups(all)
	if sink != "" && len(all) > 0 {
		r.touched(ctx, sink)
	}
	return all, nil
}

// KnownGroups implements Store.
func (r *Redis) KnownGroups(ctx context.Context, sink string) ([]Group, error) {
	names, err := namesOf(ctx, r, sink)
	if err != nil {
		return nil, err
	}
	answers, err := r.groups(ctx, names, true)
	if err != nil {
		return nil, err
	}
	all := []Group{}
	for _, a := range answers {
		all = append(all, a.groups...)
	}
	sortGroups(all)
	return all, nil
}

// sinkGroups are the groups of one sink, and the number of its dead letters that are in
// none: negative where the counts are wrong.
type sinkGroups struct {
	groups []Group
	other  int64
}

// groups reads the groups of sinks, with those that are empty by now if known.
func (r *Redis) groups(ctx context.Context, names []string, known bool) ([]sinkGroups, error) {
	in := make([]redisconn.Call, len(names))
	for i, name := range names {
		in[i] = redisconn.Call{Keys: r.conn.Keys.Queue(name), Args: []any{flags[known]}}
	}
	answers, err := r.conn.EvalAll(ctx, "groups", groupsScript, in)
	if err != nil {
		return nil, err
	}
	const width = 8 // of a group
	all := make([]sinkGroups, len(names))
	for i, answer := range answers {
		a, ok := answer.([]any)
		if !ok || len(a) != 2 {
			return nil, redisconn.Unexpected("groups", answer)
		}
		list, ok := a[1].([]any)
		if !ok || len(list)%width != 0 {
			return nil, redisconn.Unexpected("groups", answer)
		}
		all[i].other = number(a[0])
		all[i].groups = make([]Group, 0, len(list)/width)
		for g := range slices.Chunk(list, width) {
			fingerprint, reason, _ := strings.Cut(text(g[1]), "\n")
			group := Group{
				Sink: names[i], Reason: Reason(reason), Fingerprint: fingerprint, Count: number(g[2]),
				FirstSeen: unixMilli(number(g[3])), LastHour: number(g[6]), LastDay: number(g[7]),
			}
			if newest := text(g[4]); newest != "" {
				e := entry{sink: names[i], native: newest}
				group.LastSeen, group.Sample = e.pushedAt(), e.id().String()
			}
			if note := text(g[5]); note != "" {
				group.Note = readNote(note)
			}
			all[i].other -= group.Count
			all[i].groups = append(all[i].groups, group)
		}
	}
	return all, nil
}

// unixMilli is a time in Unix milliseconds; the zero time for 0.
func unixMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// storedNote is how a note is stored. mend.lua reads its time.
type storedNote struct {
	GroupNote
	AtMS int64 `json:"at_ms"`
}

// readNote reads a stored note. One that cannot be read is shown as it is.
func readNote(s string) *GroupNote {
	var n storedNote
	if err := json.Unmarshal([]byte(s), &n); err != nil {
		return &GroupNote{Note: s}
	}
	return &n.GroupNote
}

// NoteGroup implements Store.
func (r *Redis) NoteGroup(ctx context.Context, sink string, reason Reason, fingerprint string, n GroupNote) (Group, error) {
	if err := checkNote(sink, n); err != nil {
		return Group{}, err
	}
	stored := ""
	if !n.empty() {
		b, err := encodeJSON(storedNote{GroupNote: n, AtMS: n.At.UnixMilli()})
		if err != nil {
			return Group{}, err
		}
		stored = string(b)
	}
	answer, err := r.conn.Eval(ctx, "note", groupNoteScript, r.conn.Keys.Queue(sink), groupID(reason, fingerprint), stored)
	if err != nil {
		return Group{}, err
	}
	if answer != int64(1) {
		return Group{}, noGroupError(sink)
	}
	known, err := r.groups(ctx, []string{sink}, true)
	if err != nil {
		return Group{}, err
	}
	return groupOf(known[0].groups, sink, reason, fingerprint)
}

// NewGroups implements Store.
func (r *Redis) NewGroups(ctx context.Context, sink string) ([]Group, error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, err
	}
	answer, err := r.conn.Eval(ctx, "new groups", newGroupsScript, r.conn.Keys.Queue(sink))
	if err != nil {
		return nil, err
	}
	fresh, ok := answer.([]any)
	if !ok {
		return nil, redisconn.Unexpected("new groups", answer)
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	known, err := r.groups(ctx, []string{sink}, true)
	if err != nil {
		return nil, err
	}
	groups := slices.DeleteFunc(known[0].groups, func(g Group) bool {
		return !slices.ContainsFunc(fresh, func(v any) bool { return text(v) == groupID(g.Reason, g.Fingerprint) })
	})
	sortGroups(groups)
	return groups, nil
}

// Told implements Store.
func (r *Redis) Told(ctx context.Context, told []Group) error {
	bySink := map[string][]any{}
	for _, g := range told {
		if err := fault.CheckName(g.Sink); err != nil {
			return err
		}
		bySink[g.Sink] = append(bySink[g.Sink], groupID(g.Reason, g.Fingerprint))
	}
	for sink, groups := range bySink {
		if _, err := r.conn.Eval(ctx, "told", newGroupsScript, r.conn.Keys.Queue(sink), groups...); err != nil {
			return err
		}
	}
	return nil
}

// packed is 2^26: see history.lua.
const packed = 1 << 26

// Histogram implements Store.
func (r *Redis) Histogram(ctx context.Context, q HistogramQuery) (Histogram, error) {
	p, err := planOf(q, time.Now())
	if err != nil {
		return Histogram{}, err
	}
	names, err := namesOf(ctx, r, q.Sink)
	if err != nil {
		return Histogram{}, err
	}
	only := ""
	if q.Fingerprint != "" && q.Fingerprint != FingerprintOther {
		only = groupID(q.Reason, q.Fingerprint)
	}
	in := make([]redisconn.Call, len(names))
	for i, name := range names {
		in[i] = redisconn.Call{Keys: r.conn.Keys.Queue(name), Args: []any{
			p.of.name, p.from, p.to, flags[p.By == BySink], only, string(q.Reason), flags[q.Fingerprint == FingerprintOther],
		}}
	}
	answers, err := r.conn.EvalAll(ctx, "histogram", historyScript, in)
	if err != nil {
		return Histogram{}, err
	}
	var rows []row
	for i, answer := range answers {
		list, ok := answer.([]any)
		if !ok {
			return Histogram{}, redisconn.Unexpected("histogram", answer)
		}
		for _, v := range list {
			a, ok := v.([]any)
			if !ok || len(a) < 4 || len(a)%2 != 0 {
				return Histogram{}, redisconn.Unexpected("histogram", answer)
			}
			found := row{sink: names[i], group: text(a[0]), text: text(a[1]), first: unixMilli(number(a[2])), counts: make([]counted, 0, len(a)/2-2)}
			if newest := text(a[3]); newest != "" {
				found.last = entry{native: newest}.pushedAt()
			}
			for at := range slices.Chunk(a[4:], 2) {
				n, err := strconv.ParseInt(text(at[1]), 10, 64)
				if err != nil {
					return Histogram{}, redisconn.Unexpected("histogram", answer)
				}
				found.counts = append(found.counts, counted{at: p.from + number(at[0]) - 1, came: n / packed, there: n % packed})
			}
			rows = append(rows, found)
		}
	}
	return p.histogram(rows), nil
}
