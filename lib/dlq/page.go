package dlq

import (
	"container/heap"
	"context"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"time"

	"backstop/lib/fault"
)

// Bounds of one page.
const (
	defaultPage = 50
	maxPage     = 1000
	maxScan     = 10_000
	maxBytes    = 4 << 20
	scanChunk   = 500     // entries asked for at once where a filter must scan
	peekBytes   = 4 << 10 // of the newest entries of many sinks
)

// span is a range of one queue's native ids, both ends included.
type span struct {
	queue          string
	newest, oldest string
}

func (s span) empty() bool { return CompareNative(s.newest, s.oldest) < 0 }

// reader is what paging needs of a backend.
type reader interface {
	// newest returns, for each span, its newest entry, or nil. Those that are not among
	// the so many newest of all, or have much payload, may be lazy.
	newest(ctx context.Context, spans []span, whole int) ([]*entry, error)
	// read returns up to n entries of a span, newest first, and whether there may be
	// more of them; it returns at least one if there is one.
	read(ctx context.Context, s span, n int) (entries []entry, more bool, err error)
	// complete fills in what replays have made of the entries, and adds it to their size.
	complete(ctx context.Context, entries []*entry) error
}

// feed is one queue's part of a page: entries read and not yet visited.
type feed struct {
	span
	ready []entry
	more  bool // there may be older entries than the ready ones
	chunk int  // entries asked for the last time
}

// fill reads the feed's next entries.
func (f *feed) fill(ctx context.Context, r reader, n int) error {
	var err error
	f.ready, f.more, err = r.read(ctx, f.span, n)
	return err
}

// pass leaves the feed's first entry behind.
func (f *feed) pass() {
	f.newest = before(f.ready[0].native)
	f.ready = f.ready[1:]
}

// feeds is a heap: newest entry first, then by the sink's name.
type feeds []*feed

func (h feeds) Len() int      { return len(h) }
func (h feeds) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h feeds) Less(i, j int) bool {
	if c := CompareNative(h[i].ready[0].native, h[j].ready[0].native); c != 0 {
		return c > 0
	}
	return sinkOf(h[i].queue) < sinkOf(h[j].queue)
}

// Push implements heap.Interface; feeds only leave a heap.
func (h *feeds) Push(any) { panic("dlq: a feed was pushed") }

// Pop implements heap.Interface.
func (h *feeds) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// stated completes a filter's reader where the filter asks for a state: its entries are read
// with what replays have made of them.
func stated(r reader, q Query) reader {
	if q.State == "" {
		return r
	}
	return stateReader{r}
}

// stateReader reads entries complete.
type stateReader struct{ reader }

func (r stateReader) newest(ctx context.Context, spans []span, _ int) ([]*entry, error) {
	return r.reader.newest(ctx, spans, 0)
}

func (r stateReader) read(ctx context.Context, s span, n int) ([]entry, bool, error) {
	entries, more, err := r.reader.read(ctx, s, n)
	if err != nil {
		return nil, false, err
	}
	all := make([]*entry, len(entries))
	for i := range entries {
		all[i] = &entries[i]
	}
	return entries, more, r.reader.complete(ctx, all)
}

func (stateReader) complete(context.Context, []*entry) error { return nil }

// page merges the queues' entries by age: one head per queue, topped up as it is used.
func page(ctx context.Context, r reader, names []string, q Query) (Page, error) {
	r = stated(r, q)
	p, entries, err := walk(ctx, r, names, q)
	if err != nil {
		return Page{}, err
	}
	if err := r.complete(ctx, entries); err != nil {
		return Page{}, err
	}
	size := 0
	for i, e := range entries {
		size += e.size
		if size > maxBytes && i > 0 {
			// Histories made the page too large.
			p.Items, p.NextCursor, p.Complete = p.Items[:i], encodeCursor(entries[i-1].id()), false
			break
		}
		p.Items[i] = e.withState(p.Items[i])
	}
	return p, nil
}

// walk returns the page's items as they were pushed, with their entries.
func walk(ctx context.Context, r reader, names []string, q Query) (Page, []*entry, error) {
	f, err := newFilter(q)
	if err != nil {
		return Page{}, nil, err
	}
	w := walker{filter: f, many: len(names) > 1, limit: q.Limit, budget: q.MaxScan, page: Page{Items: []Item{}, Complete: true}}
	if w.limit <= 0 {
		w.limit = defaultPage
	}
	w.limit = min(w.limit, maxPage)
	if w.budget <= 0 {
		w.budget = maxScan
	}
	h, err := openFeeds(ctx, r, names, q, w.limit)
	if err != nil {
		return Page{}, nil, err
	}
	for h.Len() > 0 {
		fd := (*h)[0]
		if e := fd.ready[0]; e.lazy {
			n := 1
			if e.size <= peekBytes {
				n = w.next(fd)
			}
			if err := h.refill(ctx, r, n); err != nil {
				return Page{}, nil, err
			}
			continue
		}
		if !w.visit(fd.ready[0]) {
			break
		}
		if fd.pass(); len(fd.ready) > 0 {
			heap.Fix(h, 0)
		} else if err := h.refill(ctx, r, w.next(fd)); err != nil {
			return Page{}, nil, err
		}
	}
	return w.page, w.hits, nil
}

// walker makes a page of the entries that it visits.
type walker struct {
	filter filter
	many   bool // several queues
	limit  int  // items of the page
	budget int  // entries that it may look at

	page Page
	hits []*entry // of the page's items
	size int      // of the entries visited
	last ID       // of them
}

// next is how many entries of a feed to read. Of one among many it may be the last one that
// is needed: then few at first.
func (w *walker) next(fd *feed) int {
	n := w.limit - len(w.page.Items) + 1 // one more than needed shows whether the list goes on
	if w.filter.active() {
		n = min(scanChunk, w.budget-w.page.Scanned+1)
	}
	if w.many {
		fd.chunk = min(max(4, 2*fd.chunk), n)
		n = fd.chunk
	}
	return n
}

// visit takes the next entry into the page if the filter wants it. False means that the page
// ends before it.
func (w *walker) visit(e entry) bool {
	full := len(w.page.Items) == w.limit
	if full || w.page.Scanned == w.budget {
		w.page.NextCursor, w.page.Complete = encodeCursor(w.last), full
		return false
	}
	it, hit := w.filter.apply(e)
	if it.DecodeError != "" {
		e.size += 2 * len(it.Raw) // it is encoded once more
	}
	if w.size+e.size > maxBytes && w.page.Scanned > 0 {
		w.page.NextCursor, w.page.Complete = encodeCursor(w.last), false
		return false
	}
	w.page.Scanned++
	w.size += e.size
	w.last = e.id()
	if hit {
		w.page.Items = append(w.page.Items, it)
		w.hits = append(w.hits, &e)
	}
	return true
}

// refill reads the next entries of the first feed and puts it in its place, or removes
// it at its end.
func (h *feeds) refill(ctx context.Context, r reader, n int) error {
	fd := (*h)[0]
	fd.ready = nil
	if fd.more && !fd.empty() {
		if err := fd.fill(ctx, r, n); err != nil {
			return err
		}
	}
	if len(fd.ready) == 0 {
		heap.Pop(h)
		return nil
	}
	heap.Fix(h, 0)
	return nil
}

// items pages through a store.
func items(ctx context.Context, s Letters, sink string, limit int) ([]Item, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	all := []Item{}
	q := Query{Sink: sink}
	for {
		q.Limit = min(limit-len(all), maxPage)
		p, err := s.Page(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if p.NextCursor == "" || len(all) >= limit {
			return all, nil
		}
		q.Cursor = p.NextCursor
	}
}

// openFeeds returns the heap of all feeds that have an entry.
func openFeeds(ctx context.Context, r reader, names []string, q Query, limit int) (*feeds, error) {
	after, err := decodeCursor(q.Cursor)
	if err != nil {
		return nil, err
	}
	var spans []span
	for _, name := range names {
		if s, ok := spanOf(name, q, after); ok {
			spans = append(spans, s)
		}
	}
	h := &feeds{}
	if len(spans) == 1 {
		fd := &feed{span: spans[0]}
		if err := fd.fill(ctx, r, limit+1); err != nil {
			return nil, err
		}
		if len(fd.ready) > 0 {
			*h = append(*h, fd)
		}
		return h, nil
	}
	heads, err := r.newest(ctx, spans, limit+1)
	if err != nil {
		return nil, err
	}
	for i, e := range heads {
		if e != nil {
			*h = append(*h, &feed{span: spans[i], ready: []entry{*e}, more: true})
		}
	}
	heap.Init(h)
	return h, nil
}

// spanOf returns the part of a queue that q and its cursor select; false when there is
// none.
func spanOf(queue string, q Query, after ID) (span, bool) {
	sink := sinkOf(queue)
	s := span{queue: queue, newest: maxNative, oldest: minNative}
	lower := func(native string) {
		if CompareNative(native, s.newest) < 0 {
			s.newest = native
		}
	}
	if q.UpTo != nil {
		upTo, ok := q.UpTo[sink]
		if !ok || upTo == "" {
			return s, false
		}
		lower(upTo)
	}
	if after.Native != "" {
		if sink > after.Sink {
			lower(after.Native)
		} else {
			lower(before(after.Native))
		}
	}
	if !q.Until.IsZero() {
		lower(before(firstOf(q.Until)))
	}
	if !q.Since.IsZero() {
		s.oldest = firstOf(q.Since)
	}
	return s, !s.empty()
}

// The smallest and the largest native id.
var (
	minNative = "0-0"
	maxNative = joinNative(math.MaxUint64, math.MaxUint64)
)

// firstOf returns the smallest native id at or after t.
func firstOf(t time.Time) string {
	return joinNative(uint64(max(ceilUnix(t), 0)), 0)
}

// before returns the largest native id below the given one, and "0-0" for that itself:
// no entry has this id.
func before(native string) string {
	ms, seq := splitNative(native)
	switch {
	case seq > 0:
		seq--
	case ms > 0:
		ms, seq = ms-1, math.MaxUint64
	}
	return joinNative(ms, seq)
}

func joinNative(ms, seq uint64) string {
	return strconv.FormatUint(ms, 10) + "-" + strconv.FormatUint(seq, 10)
}

// A cursor is the place of the last entry visited.

func encodeCursor(last ID) string {
	return base64.RawURLEncoding.EncodeToString([]byte(last.String()))
}

func decodeCursor(s string) (ID, error) {
	if s == "" {
		return ID{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		if id, err := ParseID(string(b)); err == nil && id.Sink != "" {
			return id, nil
		}
	}
	return ID{}, invalid("cursor %.100q was not made by this list", s)
}

// checkQuery refuses what no list can answer.
func checkQuery(q Query) error {
	if q.Sink != "" {
		if err := fault.CheckName(q.Sink); err != nil {
			return err
		}
	}
	for sink, native := range q.UpTo {
		if id, err := ParseID(native); native != "" && (err != nil || id.Sink != "") {
			return invalid("up to: %.100q of sink %.100q is no native id", native, sink)
		}
	}
	if _, ok := q.Meta[""]; ok {
		return invalid("meta: a name is missing")
	}
	if q.State != "" && !slices.Contains(States, q.State) {
		return invalid("state %.40q is none of %v", q.State, States)
	}
	_, err := decodeCursor(q.Cursor)
	return err
}
