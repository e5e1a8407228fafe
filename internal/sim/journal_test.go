package sim

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/journal"
)

// bucket is what a journal is kept in. World.mu guards it.
type bucket struct {
	objects map[string]object
	tags    int
}

type object struct {
	journal.Object
	at time.Time
}

// spilled reports whether a dead letter of the delivery waits for room in the queue. w.mu is held.
func (b *bucket) spilled(id string) bool {
	for name, o := range b.objects {
		if strings.HasPrefix(name, "spill/") && bytes.Contains(o.Body, []byte(strconv.Quote(id))) {
			return true
		}
	}
	return false
}

// shelf is the bucket as a process reaches it. Names have random parts, which nothing may depend on.
type shelf struct{ p *process }

func folder(name string) string {
	parts := strings.SplitN(name, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func reach[T any](ctx context.Context, s shelf, op string, do func(*bucket) (T, error)) (T, error) {
	return call(ctx, s.p, "bucket "+op, nil, nil, func(context.Context) (T, error) {
		s.p.w.mu.Lock()
		defer s.p.w.mu.Unlock()
		return do(&s.p.w.bucket)
	})
}

func (b *bucket) set(name string, body []byte) {
	b.tags++
	b.objects[name] = object{journal.Object{Body: slices.Clone(body), Tag: strconv.Itoa(b.tags)}, time.Now()}
}

func (s shelf) Put(ctx context.Context, name string, body []byte) error {
	_, err := reach(ctx, s, "put "+folder(name)+fmt.Sprint(len(body)), func(b *bucket) (nothing, error) {
		if _, ok := b.objects[name]; ok {
			return none(journal.ErrExists)
		}
		b.set(name, body)
		return none(nil)
	})
	return err
}

func (s shelf) Get(ctx context.Context, name string) (journal.Object, error) {
	return reach(ctx, s, "get "+folder(name), func(b *bucket) (journal.Object, error) {
		o, ok := b.objects[name]
		if !ok {
			return journal.Object{}, journal.ErrNotFound
		}
		return o.Object, nil
	})
}

func (s shelf) Replace(ctx context.Context, name, tag string, body []byte) error {
	_, err := reach(ctx, s, "replace "+folder(name), func(b *bucket) (nothing, error) {
		if o, ok := b.objects[name]; !ok || o.Tag != tag {
			return none(journal.ErrChanged)
		}
		b.set(name, body)
		return none(nil)
	})
	return err
}

func (s shelf) Delete(ctx context.Context, names ...string) error {
	_, err := reach(ctx, s, "delete "+fmt.Sprint(len(names)), func(b *bucket) (nothing, error) {
		for _, name := range names {
			delete(b.objects, name)
		}
		return none(nil)
	})
	return err
}

type listed struct {
	all  []journal.Listed
	more bool
}

func (s shelf) List(ctx context.Context, prefix, after string, limit int) ([]journal.Listed, bool, error) {
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	got, err := reach(ctx, s, "list "+folder(prefix), func(b *bucket) (l listed, err error) {
		for name, o := range b.objects {
			if strings.HasPrefix(name, prefix) && name > after {
				l.all = append(l.all, journal.Listed{Name: name, Size: int64(len(o.Body)), At: o.at})
			}
		}
		slices.SortFunc(l.all, func(x, y journal.Listed) int { return cmp.Compare(x.Name, y.Name) })
		l.all, l.more = l.all[:min(limit, len(l.all))], len(l.all) > limit
		return l, nil
	})
	return got.all, got.more, err
}

func (s shelf) Folders(ctx context.Context, prefix string) ([]string, error) {
	return reach(ctx, s, "folders "+folder(prefix), func(b *bucket) ([]string, error) {
		found := map[string]bool{}
		for name := range b.objects {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				if below, _, ok := strings.Cut(rest, "/"); ok {
					found[prefix+below+"/"] = true
				}
			}
		}
		return slices.Sorted(maps.Keys(found)), nil
	})
}

func (s shelf) Purge(context.Context, string, string, func(string, []byte) bool) (int, string, error) {
	return 0, "", nil // it has no versions
}

// What a queue notes about its journal.

type viewed struct {
	view dlq.JournalView
	ok   bool
}

func (s store) JournalLease(ctx context.Context, sink, token string, ttl time.Duration) (dlq.JournalView, bool, error) {
	got, err := one(ctx, s, "journal lease "+sink, nil, func(v viewed) string { return fmt.Sprint(v.ok) }, func(ctx context.Context) (viewed, error) {
		view, ok, err := s.memory().JournalLease(ctx, sink, token, ttl)
		return viewed{view, ok}, err
	})
	return got.view, got.ok, err
}

func (s store) SaveJournal(ctx context.Context, sink, token string, n dlq.JournalNotes) error {
	_, err := one(ctx, s, "save journal "+sink, nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().SaveJournal(ctx, sink, token, n)) })
	return err
}

func (s store) NoteUnjournaled(ctx context.Context, sink string, ids []string) error {
	_, err := one(ctx, s, "note unjournaled "+sink, nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().NoteUnjournaled(ctx, sink, ids)) })
	return err
}

func (s store) NoteEnded(ctx context.Context, sink string, addresses []string) error {
	_, err := one(ctx, s, "note ended "+sink, nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().NoteEnded(ctx, sink, addresses)) })
	return err
}

func (s store) Unjournaled(ctx context.Context, sink string, limit int) ([]dlq.Unjournaled, error) {
	return one(ctx, s, "unjournaled "+sink, nil, nil, func(ctx context.Context) ([]dlq.Unjournaled, error) { return s.memory().Unjournaled(ctx, sink, limit) })
}

type ended struct {
	addresses []string
	next      string
}

func (s store) Ended(ctx context.Context, sink, cursor string, limit int) ([]string, string, error) {
	got, err := one(ctx, s, "ended "+sink, nil, nil, func(ctx context.Context) (ended, error) {
		addresses, next, err := s.memory().Ended(ctx, sink, cursor, limit)
		return ended{addresses, next}, err
	})
	return got.addresses, got.next, err
}

func (s store) AreEnded(ctx context.Context, sink string, addresses []string) ([]bool, error) {
	return one(ctx, s, "are ended "+sink, nil, nil, func(ctx context.Context) ([]bool, error) { return s.memory().AreEnded(ctx, sink, addresses) })
}

func (s store) Journaled(ctx context.Context, sink, token string, d dlq.JournalDone) error {
	_, err := one(ctx, s, "journaled "+sink, nil, nil, func(ctx context.Context) (nothing, error) { return none(s.memory().Journaled(ctx, sink, token, d)) })
	return err
}

type after struct {
	found []dlq.Present
	next  string
}

func (s store) PresentAfter(ctx context.Context, sink, from string, limit int) ([]dlq.Present, string, error) {
	got, err := one(ctx, s, "present after "+sink, nil, nil, func(ctx context.Context) (after, error) {
		found, next, err := s.memory().PresentAfter(ctx, sink, from, limit)
		return after{found, next}, err
	})
	return got.found, got.next, err
}

func (s store) Return(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error) {
	var ids []string
	for _, l := range letters {
		ids = append(ids, l.Item.DeliveryID)
	}
	return one(ctx, s, "return", ids, func(got []dlq.Returned) string { return fmt.Sprint(got) }, func(ctx context.Context) ([]dlq.Returned, error) {
		got, err := s.memory().Return(ctx, sink, token, over, letters)
		s.p.w.mu.Lock()
		defer s.p.w.mu.Unlock()
		for i, r := range got {
			if r.ID != "" {
				s.p.w.knows(dlq.Item{ID: r.ID, DeliveryID: letters[i].Item.DeliveryID})
			}
		}
		return got, err
	})
}
