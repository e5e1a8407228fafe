package journal

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"backstop/lib/fault"
)

// listedName is a name below a folder of a sink.
type listedName struct {
	Listed
	group group // empty for a foreign name
	line  int   // of a state
	tail  string
}

// shelves go through what a sink has below one of the folders, the oldest first: the 16 folders x are
// listed side by side, and merged by what follows the x. It is not safe for concurrent use.
type shelves struct {
	bucket Bucket
	prefix string // "open/<sink>/"
	each   [16]shelf
	// foreign is told names that are none of this journal, as they are passed.
	foreign func(o Listed)
}

// shelf is one of the folders x.
type shelf struct {
	prefix string
	after  string
	page   []listedName
	end    bool
}

// few is how many names a shelf has left when more are listed along with another's.
const few = 500

// newShelves begins after an object's name, or at the beginning.
func newShelves(b Bucket, folder, sink, after string, foreign func(Listed)) *shelves {
	s := &shelves{bucket: b, prefix: folder + sink + "/", foreign: foreign}
	for i := range s.each {
		s.each[i].prefix = s.prefix + strconv.FormatInt(int64(i), 16) + "/"
		if _, tail, ok := cutShelf(after); ok {
			if folder == stateFolder {
				tail = strings.TrimSuffix(tail, extension)
			}
			s.each[i].after = s.each[i].prefix + tail
		}
	}
	return s
}

// cutShelf splits an object's name into "open/<sink>/x/" and what follows.
func cutShelf(name string) (prefix, tail string, ok bool) {
	at := 0
	for range 3 {
		i := strings.IndexByte(name[at:], '/')
		if i < 0 {
			return "", "", false
		}
		at += i + 1
	}
	return name[:at], name[at:], true
}

// fill lists more for the shelves that have few names left, all at once.
func (s *shelves) fill(ctx context.Context) error {
	return parallel(ctx, len(s.each), nil, func(ctx context.Context, i int) error { return s.each[i].fill(ctx, s.bucket, few) })
}

func (f *shelf) fill(ctx context.Context, b Bucket, few int) error {
	if f.end || len(f.page) > few {
		return nil
	}
	found, more, err := list(ctx, b, f.prefix, f.after, 0)
	if err != nil {
		return err
	}
	for _, o := range found {
		f.page = append(f.page, nameOf(o, f.prefix))
		f.after = o.Name
	}
	f.end = !more
	return nil
}

// maxTail bounds what follows the folder x in a name that can be one of this journal.
const maxTail = 200

// nameOf reads a name below a folder x.
func nameOf(o Listed, prefix string) listedName {
	n := listedName{Listed: o, tail: strings.TrimPrefix(o.Name, prefix)}
	x := prefix[len(prefix)-2:]
	if !fault.IsMadeOf(n.tail, maxTail, fault.Alphanumeric+"/-._~:") {
		return n
	}
	if strings.HasPrefix(prefix, stateFolder) {
		n.group, n.line = locate(x + n.tail)
		return n
	}
	if g, err := groupOf(x + n.tail); err == nil && strings.HasSuffix(n.tail, extension) {
		n.group = g
	}
	return n
}

// nameBelow reads a name below a folder of a sink, "open/<sink>/".
func nameBelow(o Listed, folder string) listedName {
	rest := strings.TrimPrefix(o.Name, folder)
	if len(rest) < 2 || rest[1] != '/' || strings.IndexByte("0123456789abcdef", rest[0]) < 0 {
		return listedName{Listed: o, tail: rest}
	}
	return nameOf(o, folder+rest[:2])
}

// next returns the oldest name that it did not return yet; false at the end.
func (s *shelves) next(ctx context.Context) (listedName, bool, error) {
	for {
		var first *shelf
		for i := range s.each {
			f := &s.each[i]
			if len(f.page) == 0 && !f.end {
				if err := s.fill(ctx); err != nil {
					return listedName{}, false, err
				}
			}
			if len(f.page) > 0 && (first == nil || f.page[0].tail < first.page[0].tail) {
				first = f
			}
		}
		if first == nil {
			return listedName{}, false, nil
		}
		n := first.page[0]
		first.page = first.page[1:]
		if n.group != "" {
			return n, true, nil
		}
		s.foreign(n.Listed)
	}
}

// of returns the names of one group. Groups are asked for in the order of next; each once.
func (s *shelves) of(ctx context.Context, g group) ([]listedName, error) {
	x, err := strconv.ParseUint(string(g[:1]), 16, 4)
	if err != nil {
		return nil, nil //nolint:nilerr // a foreign x: next returns none
	}
	f := &s.each[x]
	var found []listedName
	for {
		if len(f.page) == 0 {
			if f.end {
				return found, nil
			}
			if err := f.fill(ctx, s.bucket, 0); err != nil {
				return nil, err
			}
			continue
		}
		n := f.page[0]
		switch c := cmp.Compare(n.group, g); {
		case n.group == "":
			s.foreign(n.Listed)
		case c > 0:
			return found, nil
		case c == 0:
			found = append(found, n)
		}
		f.page = f.page[1:]
	}
}

// strays tells what is below a folder of a sink and on no shelf.
func strays(ctx context.Context, b Bucket, folder, sink string, tell func(Listed)) error {
	prefix := folder + sink + "/"
	var mu sync.Mutex
	return parallel(ctx, 17, nil, func(ctx context.Context, i int) error {
		after, shelf, until := "", "\xff", "\xff" // before the first shelf, or behind one; up to the next one
		if i > 0 {
			shelf = prefix + strconv.FormatInt(int64(i-1), 16) + "/"
			after = shelf + "~"
		}
		if i < 16 {
			until = prefix + strconv.FormatInt(int64(i), 16) + "/"
		}
		for {
			found, more, err := list(ctx, b, prefix, after, 100)
			if err != nil {
				return err
			}
			for _, o := range found {
				after = o.Name
				if o.Name >= until {
					return nil
				}
				if !strings.HasPrefix(o.Name, shelf) {
					mu.Lock()
					tell(o)
					mu.Unlock()
				}
			}
			if !more {
				return nil
			}
		}
	})
}

// list is Bucket.List, bounded.
func list(ctx context.Context, b Bucket, prefix, after string, limit int) ([]Listed, bool, error) {
	var more bool
	found, err := call(ctx, func(ctx context.Context) (found []Listed, err error) {
		found, more, err = b.List(ctx, prefix, after, limit)
		return found, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list of %s: %w", prefix, err)
	}
	return found, more && len(found) > 0, nil
}

// inFlight bounds the bytes of objects that are read at once.
const inFlight = 8 << 20

// parallel calls do for each number below n, 16 of them at a time, the first ones first, and with no
// more than inFlight bytes at once, where weight tells them. The first error ends it and is returned.
func parallel(ctx context.Context, n int, weight func(i int) int64, do func(ctx context.Context, i int) error) error {
	all, within := errgroup.WithContext(ctx)
	all.SetLimit(calls)
	room := semaphore.NewWeighted(inFlight)
	for i := range n {
		var w int64
		if weight != nil {
			w = min(weight(i), inFlight)
		}
		if room.Acquire(within, w) != nil {
			break // an error, or ctx, ended it
		}
		all.Go(func() error {
			defer room.Release(w)
			return do(within, i)
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// time is when it was named, by the clock of whoever did; its hour where the nonce does not tell.
func (g group) time() time.Time {
	if native, ok := g.native(); ok {
		ms, _, _ := strings.Cut(native, "-")
		if n, err := strconv.ParseInt(ms, 10, 64); err == nil {
			return time.UnixMilli(n)
		}
	}
	nonce := string(g[strings.LastIndexByte(string(g), '/')+1:])
	if i := strings.IndexAny(nonce, ".-"); i >= 0 {
		nonce = nonce[:i]
	}
	id, err := nonces.DecodeString(nonce)
	if err != nil || len(id) != 16 || id[6]>>4 != 7 {
		return g.hour()
	}
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

// native is the native id that it was named by, see nativeGroup.
func (g group) native() (string, bool) {
	nonce := string(g[strings.LastIndexByte(string(g), '/')+1:])
	native := strings.TrimSuffix(nonce, "-1")
	return native, nativeGroup(native) == g
}

// spellings are the ways in which the address of a line is noted: a dead letter without an address of its
// own is called by its native id until it was put back.
func (g group) spellings(line int) []string {
	if native, ok := g.native(); ok {
		return []string{g.address(line), "@" + native}
	}
	return []string{g.address(line)}
}

// spelled is the address that stands for all spellings; empty for what is none.
func spelled(address string) string {
	g, line := locate(address)
	if g == "" {
		return ""
	}
	return g.address(line)
}

// age reads how old objects are. Clocks are not all right: of the pushing process' and the bucket's, the one counts that
// makes an object older, and now is never earlier than what the bucket was told before.
type age struct{ now time.Time }

func (a *age) of(n listedName) time.Duration {
	if n.At.After(a.now) {
		a.now = n.At
	}
	t := n.group.time()
	if !n.At.IsZero() && n.At.Before(t) {
		t = n.At
	}
	return a.now.Sub(t)
}
