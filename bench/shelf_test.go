package bench

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"backstop/lib/journal"
)

// shelf is a journal's bucket in memory. Each call takes its time, and is counted.
type shelf struct {
	takes time.Duration
	calls atomic.Int64

	mu      sync.Mutex
	objects map[string]stored
	names   []string // sorted, and those of deleted objects among them; nil: to be sorted anew
	next    int      // tag
}

type stored struct {
	body []byte
	tag  string
	at   time.Time
}

func newShelf(takes time.Duration) *shelf {
	return &shelf{takes: takes, objects: map[string]stored{}}
}

var _ journal.Bucket = (*shelf)(nil)

// call carries out a call when its time is over.
func (s *shelf) call(ctx context.Context, do func() error) error {
	s.calls.Add(1)
	if err := pass(ctx, s.takes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return do()
}

// pass returns after a time, or when ctx ends.
func pass(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (s *shelf) store(name string, body []byte) {
	s.next++
	s.objects[name] = stored{slices.Clone(body), strconv.Itoa(s.next), time.Now()}
}

func (s *shelf) Put(ctx context.Context, name string, body []byte) error {
	return s.call(ctx, func() error {
		if _, there := s.objects[name]; there {
			return journal.ErrExists
		}
		s.store(name, body)
		s.names = nil
		return nil
	})
}

func (s *shelf) Get(ctx context.Context, name string) (o journal.Object, err error) {
	err = s.call(ctx, func() error {
		found, there := s.objects[name]
		if !there {
			return journal.ErrNotFound
		}
		o = journal.Object{Body: slices.Clone(found.body), Tag: found.tag}
		return nil
	})
	return o, err
}

func (s *shelf) Replace(ctx context.Context, name, tag string, body []byte) error {
	return s.call(ctx, func() error {
		if s.objects[name].tag != tag {
			return journal.ErrChanged
		}
		s.store(name, body)
		return nil
	})
}

func (s *shelf) Delete(ctx context.Context, names ...string) error {
	return s.call(ctx, func() error {
		for _, name := range names {
			delete(s.objects, name)
		}
		return nil
	})
}

// below returns the names with a prefix. The caller holds mu.
func (s *shelf) below(prefix string) []string {
	if s.names == nil {
		for name := range s.objects {
			s.names = append(s.names, name)
		}
		slices.Sort(s.names)
	}
	first, _ := slices.BinarySearch(s.names, prefix)
	end, _ := slices.BinarySearch(s.names, prefix+"\xff")
	return s.names[first:end]
}

func (s *shelf) List(ctx context.Context, prefix, after string, limit int) (found []journal.Listed, more bool, err error) {
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	err = s.call(ctx, func() error {
		names := s.below(prefix)
		first, there := slices.BinarySearch(names, after)
		if there {
			first++
		}
		for _, name := range names[first:] {
			o, there := s.objects[name]
			if !there {
				continue
			}
			if len(found) == limit {
				more = true
				break
			}
			found = append(found, journal.Listed{Name: name, Size: int64(len(o.body)), At: o.at})
		}
		return nil
	})
	return found, more, err
}

func (s *shelf) Folders(ctx context.Context, prefix string) (folders []string, err error) {
	err = s.call(ctx, func() error {
		for _, name := range s.below(prefix) {
			folder, _, below := strings.Cut(name[len(prefix):], "/")
			if _, there := s.objects[name]; there && below {
				folders = append(folders, prefix+folder+"/")
			}
		}
		folders = slices.Compact(folders)
		return nil
	})
	return folders, err
}

func (*shelf) Purge(ctx context.Context, _, _ string, _ func(string, []byte) bool) (int, string, error) {
	return 0, "", ctx.Err() // it keeps no versions
}
