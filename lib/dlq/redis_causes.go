package dlq

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// Groups implements Store.
func (r *Redis) Groups(ctx context.Context, sink string) ([]Group, error) {
	names, err := r.queuesOf(ctx, sink)
	if err != nil {
		return nil, err
	}
	// Of several queues one may remember a group that is empty there.
	known := slices.ContainsFunc(names, func(queue string) bool { return sinkOf(queue) != queue })
	answers, err := r.groups(ctx, names, known)
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
		mended, err := r.groups(ctx, wrong, known)
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
		all = appendOther(append(all, a.groups...), sinkOf(names[i]), a.other)
	}
	all = merged(all)
	if known {
		all, _ = bounded(slices.DeleteFunc(all, func(g Group) bool { return g.Count <= 0 }))
	}
	if sink != "" && len(all) > 0 {
		r.touched(ctx, sink)
	}
	return all, nil
}

// KnownGroups implements Store.
func (r *Redis) KnownGroups(ctx context.Context, sink string) ([]Group, error) {
	names, err := r.queuesOf(ctx, sink)
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
	return merged(all), nil
}

// bounded counts the groups of a sink that are beyond MaxGroups under FingerprintOther, and returns them: those that came last. A
// sink with one queue has no such group; of several each may have as many.
func bounded(all []Group) (own, beyond []Group) {
	bySink := map[string]int{}
	for _, g := range all {
		if g.Fingerprint != FingerprintOther {
			bySink[g.Sink]++
		}
	}
	slices.SortStableFunc(all, func(a, b Group) int { return a.FirstSeen.Compare(b.FirstSeen) })
	for sink, n := range bySink {
		if n <= MaxGroups {
			continue
		}
		at, others := 0, int64(0)
		all = slices.DeleteFunc(all, func(g Group) bool {
			switch {
			case g.Sink != sink:
				return false
			case g.Fingerprint == FingerprintOther:
				others += g.Count
				return true
			}
			if at++; at > MaxGroups {
				others += g.Count
				beyond = append(beyond, g)
				return true
			}
			return false
		})
		all = appendOther(all, sink, others)
	}
	sortGroups(all)
	return all, beyond
}

// beyond returns the groups that are counted under FingerprintOther though they have entries of their own, by sink and group.
func (r *Redis) beyond(ctx context.Context, queues []string) (map[[2]string]bool, error) {
	if !slices.ContainsFunc(queues, func(queue string) bool { return sinkOf(queue) != queue }) {
		return nil, nil
	}
	answers, err := r.groups(ctx, queues, true)
	if err != nil {
		return nil, err
	}
	var all []Group
	for _, a := range answers {
		all = append(all, a.groups...)
	}
	_, groups := bounded(slices.DeleteFunc(merged(all), func(g Group) bool { return g.Count <= 0 }))
	is := make(map[[2]string]bool, len(groups))
	for _, g := range groups {
		is[[2]string{g.Sink, groupID(g.Reason, g.Fingerprint)}] = true
	}
	return is, nil
}

// merged makes one of the groups that several queues of a sink have of the same cause, and sorts them.
func merged(all []Group) []Group {
	type key struct{ sink, reason, fingerprint string }
	index := make(map[key]int, len(all))
	out := all[:0]
	for _, g := range all {
		k := key{g.Sink, string(g.Reason), g.Fingerprint}
		i, ok := index[k]
		if !ok {
			index[k] = len(out)
			out = append(out, g)
			continue
		}
		o := &out[i]
		o.Count += g.Count
		o.LastHour += g.LastHour
		o.LastDay += g.LastDay
		if !g.FirstSeen.IsZero() && (o.FirstSeen.IsZero() || g.FirstSeen.Before(o.FirstSeen)) {
			o.FirstSeen = g.FirstSeen
		}
		if g.LastSeen.After(o.LastSeen) {
			o.LastSeen, o.Sample = g.LastSeen, g.Sample
		}
		if g.Note != nil && (o.Note == nil || g.Note.At.After(o.Note.At)) {
			o.Note = g.Note
		}
	}
	sortGroups(out)
	return out
}

// sinkGroups are the groups of one queue, and the number of its dead letters that are in
// none: negative where the counts are wrong.
type sinkGroups struct {
	groups []Group
	other  int64
}

// groups reads the groups of queues, with those that are empty by now if known.
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
				Sink: sinkOf(names[i]), Reason: Reason(reason), Fingerprint: fingerprint, Count: number(g[2]),
				FirstSeen: unixMilli(number(g[3])), LastHour: number(g[6]), LastDay: number(g[7]),
			}
			if newest := text(g[4]); newest != "" {
				e := entry{sink: sinkOf(names[i]), native: newest}
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
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return Group{}, err
	}
	noted := make([]bool, len(queues))
	err = each(queues, func(i int, queue string) error {
		answer, err := r.conn.Eval(ctx, "note", groupNoteScript, r.conn.Keys.Queue(queue), groupID(reason, fingerprint), stored)
		noted[i] = answer == int64(1)
		return err
	})
	if err != nil {
		return Group{}, err
	}
	if !slices.Contains(noted, true) {
		return Group{}, noGroupError(sink)
	}
	known, err := r.KnownGroups(ctx, sink)
	if err != nil {
		return Group{}, err
	}
	return groupOf(known, sink, reason, fingerprint)
}

// NewGroups implements Store.
func (r *Redis) NewGroups(ctx context.Context, sink string) ([]Group, error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return nil, err
	}
	calls := make([]redisconn.Call, len(queues))
	for i, queue := range queues {
		calls[i] = redisconn.Call{Keys: r.conn.Keys.Queue(queue)}
	}
	answers, err := r.conn.EvalAll(ctx, "new groups", newGroupsScript, calls)
	if err != nil {
		return nil, err
	}
	fresh := make([][]any, len(queues))
	some := false
	for i, answer := range answers {
		var ok bool
		if fresh[i], ok = answer.([]any); !ok {
			return nil, redisconn.Unexpected("new groups", answer)
		}
		some = some || len(fresh[i]) > 0
	}
	if !some {
		return nil, nil
	}
	known, err := r.groups(ctx, queues, true)
	if err != nil {
		return nil, err
	}
	// What is new in one queue is not new where another has known it.
	var groups, old []Group
	isOld := map[string]bool{}
	for i, its := range known {
		for _, g := range its.groups {
			id := groupID(g.Reason, g.Fingerprint)
			if slices.ContainsFunc(fresh[i], func(v any) bool { return text(v) == id }) {
				groups = append(groups, g)
			} else {
				isOld[id] = true
			}
		}
	}
	groups = slices.DeleteFunc(merged(groups), func(g Group) bool {
		is := isOld[groupID(g.Reason, g.Fingerprint)]
		if is {
			old = append(old, g)
		}
		return is
	})
	return groups, r.Told(ctx, old)
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
		queues, err := r.queues(ctx, sink)
		if err != nil {
			return err
		}
		if err := each(queues, func(_ int, queue string) error {
			_, err := r.conn.Eval(ctx, "told", newGroupsScript, r.conn.Keys.Queue(queue), groups...)
			return err
		}); err != nil {
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
	names, err := r.queuesOf(ctx, q.Sink)
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
			found := row{sink: sinkOf(names[i]), group: text(a[0]), text: text(a[1]), first: unixMilli(number(a[2])), counts: make([]counted, 0, len(a)/2-2)}
			if newest := text(a[3]); newest != "" {
				found.last = entry{native: newest}.pushedAt()
			}
			for at := range slices.Chunk(a[4:], 2) {
				n := number(at[1])
				found.counts = append(found.counts, counted{at: p.from + number(at[0]) - 1, came: n / packed, there: n % packed})
			}
			rows = append(rows, found)
		}
	}
	return p.histogram(rows), nil
}
