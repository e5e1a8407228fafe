package dlq

import (
	"context"
	"slices"
	"strings"

	"backstop/internal/redisconn"
)

// Bounds of one call of the scripts that look for what waits.
const (
	presentItems = 200 // identities
	presentLooks = 400 // entries that a search looks at
	presentBytes = 512 << 10
)

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
