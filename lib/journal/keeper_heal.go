package journal

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"backstop/lib/dlq"
)

// entry is a dead letter in an object of open/.
type entry struct {
	group group
	line  int
	dlq.Identity
}

func (e entry) address() string { return e.group.address(e.line) }

// fate is what became of a dead letter of the journal.
type fate int

const (
	absent    fate = iota // the queue should have it, and has it not
	present               // it waits in the queue
	duplicate             // it waits there under another address
	closed                // it is over
	spilling              // it waits in spill/
)

// compared is a dead letter of the journal and what the queue knows of it.
type compared struct {
	entry
	fate
	id string // public id, of present and duplicate
}

// compare asks the queue, and spill/, for dead letters of the journal.
func (k *Keeper) compare(ctx context.Context, sink string, entries []entry) ([]compared, error) {
	all := make([]compared, 0, len(entries))
	for some := range slices.Chunk(entries, 500) {
		of := make([]dlq.Identity, len(some))
		for i, e := range some {
			of[i] = e.Identity
		}
		found, err := k.Queue.Present(ctx, sink, of)
		if err != nil {
			return nil, err
		}
		for i, e := range some {
			c := compared{entry: e, id: found[i].ID}
			if c.id != "" {
				c.fate = duplicate
				if spelled(found[i].Address) == e.address() {
					c.fate = present
				}
			}
			all = append(all, c)
		}
	}
	var ask []string
	for _, c := range all {
		if c.fate == absent {
			ask = append(ask, c.group.spellings(c.line)...)
		}
	}
	var yes []bool
	for some := range slices.Chunk(ask, 1000) {
		got, err := k.Queue.AreEnded(ctx, sink, some)
		if err != nil {
			return nil, err
		}
		yes = append(yes, got...)
	}
	var groups []group
	for i := range all {
		c := &all[i]
		if c.fate != absent {
			continue
		}
		n := len(c.group.spellings(c.line))
		if slices.Contains(yes[:n], true) {
			c.fate = closed
		} else {
			groups = append(groups, c.group)
		}
		yes = yes[n:]
	}
	slices.Sort(groups)
	spilled, err := k.spilledLines(ctx, sink, slices.Compact(groups))
	if err != nil {
		return nil, err
	}
	for i := range all {
		if c := &all[i]; c.fate == absent && spilled[c.address()] {
			c.fate = spilling
		}
	}
	return all, nil
}

// spilledLines returns the addresses of dead letters of some groups that wait in spill/. A line that cannot be read
// there comes back from open/.
func (k *Keeper) spilledLines(ctx context.Context, sink string, groups []group) (map[string]bool, error) {
	var mu sync.Mutex
	lines := map[string]bool{}
	err := parallel(ctx, len(groups), nil, func(ctx context.Context, i int) error {
		g := groups[i]
		c, err := k.read(ctx, sink, g.spill(sink), g, k.newDamage(sink))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for n, l := range c.letters {
			if l != nil {
				lines[g.address(n)] = true
			}
		}
		return nil
	})
	return lines, err
}

// entriesOf are the dead letters of an object that was read.
func entriesOf(g group, c contents) []entry {
	var all []entry
	for i, l := range c.letters {
		if l != nil {
			all = append(all, entry{g, i, l.Identity})
		}
	}
	return all
}

// named is the dead letter of an object whose name tells it.
func (g group) named() (entry, bool) {
	id, ok := g.identity()
	return entry{g, 0, id}, ok && isIdentity(id)
}

// noticeLoss looks whether a queue that knows nothing of the sink should.
func (t *tick) noticeLoss(ctx context.Context) error {
	if t.view.Known || !t.notes.LostAt.IsZero() {
		return nil
	}
	names := newShelves(t.k.Bucket, openFolder, t.sink, "", t.damaged.foreign(ctx))
	spills := newShelves(t.k.Bucket, spillFolder, t.sink, "", t.damaged.foreign(ctx))
	age := age{now: t.begin}
	const most = 1000
	for range most {
		n, ok, err := names.next(ctx)
		if err != nil || !ok {
			return err
		}
		if age.of(n) < settled {
			continue
		}
		spilled, err := spills.of(ctx, n.group)
		if err != nil {
			return err
		}
		if len(spilled) == 0 {
			return t.lose(ctx, "the queue knows nothing of the sink, and the journal has dead letters of it")
		}
	}
	return nil // that many were never in the queue
}

// lose notes that the queue lacks too much.
func (t *tick) lose(ctx context.Context, why string) error {
	if !t.notes.LostAt.IsZero() {
		return nil
	}
	t.notes.LostAt = time.Now().UTC()
	t.k.log().ErrorContext(ctx, "a queue lacks dead letters that its journal has: restore it", "sink", t.sink, "why", why)
	return t.k.Queue.SaveJournal(ctx, t.sink, t.token, t.notes)
}

// heal compares a slice of open/ with the queue, and puts back what was missing twice.
func (t *tick) heal(ctx context.Context) error {
	if !t.left(untilHeal) {
		return nil
	}
	again, err := t.lookAgain(ctx)
	if err != nil {
		return err
	}
	if t.notes.Compared == "" {
		t.notes.Healed = 0
	}
	slice, err := t.compareSlice(ctx)
	if err != nil {
		return err
	}
	t.r.Missing += int64(len(slice.missing))

	sum := t.notes.Healed + int64(len(again))
	clean := sum == 0 && len(slice.missing) == 0
	if sum > 0 && sum+int64(len(slice.missing)) > tolerated {
		if err := t.lose(ctx, "more dead letters are missing than are put back without being asked"); err != nil {
			return err
		}
	}
	t.notes.Healed = sum
	kept := slice.missing
	if t.notes.LostAt.IsZero() {
		later, err := t.putMissing(ctx, again)
		if err != nil {
			return err
		}
		kept = append(later, kept...)
	}
	t.notes.Compared, t.notes.Missing = slice.after, nil
	for i, e := range kept {
		if i == tolerated {
			break
		}
		t.notes.Missing = append(t.notes.Missing, e.address())
	}
	if slice.after == "" && clean {
		t.notes.LostAt = time.Time{}
	}
	return nil
}

// lookAgain returns those dead letters that were missing, and still are.
func (t *tick) lookAgain(ctx context.Context) ([]entry, error) {
	wanted := map[string]bool{}
	var groups []group
	for _, a := range t.notes.Missing {
		if g, _ := locate(a); g != "" {
			wanted[a] = true
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	groups = slices.Compact(groups)
	entries, err := t.entries(ctx, groups)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return !wanted[e.address()] })
	found, err := t.k.compare(ctx, t.sink, entries)
	if err != nil {
		return nil, err
	}
	var still []entry
	for _, c := range found {
		if c.fate == absent {
			still = append(still, c.entry)
		}
	}
	return still, nil
}

// entries reads objects of open/ and returns what is open in them.
func (t *tick) entries(ctx context.Context, groups []group) ([]entry, error) {
	read := make([][]entry, len(groups))
	err := parallel(ctx, len(groups), nil, func(ctx context.Context, i int) error {
		c, err := t.k.read(ctx, t.sink, groups[i].open(t.sink), groups[i], t.damaged)
		read[i] = entriesOf(groups[i], c)
		return err
	})
	return slices.Concat(read...), err
}

// slice is a part of open/ that was compared.
type slice struct {
	missing []entry
	after   string // where the next one begins; empty: at the beginning
}

// The most that a tick compares.
const (
	sliceLetters = 2000
	sliceReads   = 200
)

// compareSlice compares what comes next in open/ with the queue. What is over and cannot be noted as such, because
// the object alone tells it, is deleted.
func (t *tick) compareSlice(ctx context.Context) (slice, error) {
	folder := openFolder + t.sink + "/"
	var (
		names   []listedName
		letters int
		reads   []int // indices of those that must be read
		age     = age{now: t.begin}
		after   = t.notes.Compared
		more    = true
	)
	if after != "" && !strings.HasPrefix(after, folder) {
		after = ""
	}
	full := func() bool { return letters >= sliceLetters || len(reads) >= sliceReads || !t.left(untilHeal) }
	for more && !full() {
		var found []Listed
		var err error
		if found, more, err = list(ctx, t.k.Bucket, folder, after, 0); err != nil {
			return slice{}, err
		}
		for _, o := range found {
			if full() {
				more = true
				break
			}
			after = o.Name
			n := nameBelow(o, folder)
			switch {
			case n.group == "":
				t.damaged.tell(ctx, o.Name, errForeign)
				continue
			case age.of(n) < settled:
				continue
			}
			if _, ok := n.group.named(); !ok {
				reads = append(reads, len(names))
			}
			names = append(names, n)
			letters += n.group.lines()
		}
	}
	if !more {
		after = ""
	}
	objects := make([][]entry, len(names)) // in the order of the names
	for i, n := range names {
		if e, ok := n.group.named(); ok {
			objects[i] = []entry{e}
		}
	}
	whole := make([]bool, len(names)) // that all of it was read
	if err := parallel(ctx, len(reads), func(i int) int64 { return names[reads[i]].Size }, func(ctx context.Context, i int) error {
		n := names[reads[i]]
		c, err := t.k.read(ctx, t.sink, n.Name, n.group, t.damaged)
		if err != nil {
			return err
		}
		objects[reads[i]] = entriesOf(n.group, c)
		whole[reads[i]] = !c.gone && len(c.bad) == 0
		return nil
	}); err != nil {
		return slice{}, err
	}
	found, err := t.k.compare(ctx, t.sink, slices.Concat(objects...))
	if err != nil {
		return slice{}, err
	}
	t.r.Compared += int64(len(found))
	s := slice{after: after}
	var ended []group
	var twice []compared
	for i, n := range names {
		mine := found[:len(objects[i])]
		found = found[len(mine):]
		done := whole[i]
		before := len(s.missing)
		for _, c := range mine {
			switch c.fate {
			case absent:
				s.missing = append(s.missing, c.entry)
			case duplicate:
				twice = append(twice, c)
			}
			done = done && c.fate == closed
		}
		if done {
			ended = append(ended, n.group)
		}
		if len(s.missing) > tolerated && before > 0 {
			// The rest is looked at when these are decided.
			s.missing, s.after = s.missing[:before], names[i-1].Name
			break
		}
	}
	if err := t.endDuplicates(ctx, twice); err != nil {
		return slice{}, err
	}
	if len(ended) > 0 {
		if err := t.forget(ctx, ended, false); err != nil {
			return slice{}, err
		}
	}
	return s, nil
}

// endDuplicates ends lines whose dead letter waits in the queue under another address. First the other is noted as
// unjournaled: perhaps its object was never written (see ends).
func (t *tick) endDuplicates(ctx context.Context, twice []compared) error {
	if len(twice) == 0 {
		return nil
	}
	var ids, addresses []string
	for _, c := range twice {
		ids = append(ids, c.id)
		addresses = append(addresses, c.address())
	}
	if err := t.k.Queue.NoteUnjournaled(ctx, t.sink, ids); err != nil {
		return err
	}
	return t.k.noteOver(ctx, t.sink, addresses)
}

// putMissing puts back dead letters that were missing twice. It returns those for which there was no room.
func (t *tick) putMissing(ctx context.Context, missing []entry) (later []entry, err error) {
	for some := range slices.Chunk(missing, together) {
		letters, err := t.letters(ctx, some)
		if err != nil {
			return nil, err
		}
		answers, err := t.k.putBack(ctx, t.sink, t.token, 0, letters)
		if err != nil {
			return nil, err
		}
		var ended []string
		for i, r := range answers {
			switch {
			case r.Status == dlq.ReturnStored:
				t.r.Healed++
			case isOver(r):
				t.r.Over++
				ended = append(ended, letters[i].Item.Journal)
			case isFull(r):
				g, line := locate(letters[i].Item.Journal)
				later = append(later, entry{g, line, letters[i].Identity})
			}
		}
		if err := t.k.noteOver(ctx, t.sink, ended); err != nil {
			return nil, err
		}
	}
	return later, nil
}

// letters reads dead letters of open/, with their state. One that is gone is left out.
func (t *tick) letters(ctx context.Context, entries []entry) ([]dlq.Letter, error) {
	read := make([]*dlq.Letter, len(entries))
	err := parallel(ctx, len(entries), nil, func(ctx context.Context, i int) error {
		e := entries[i]
		c, err := t.k.read(ctx, t.sink, e.group.open(t.sink), e.group, t.damaged)
		if err != nil || c.gone || c.letters[e.line] == nil {
			return err
		}
		read[i] = c.letters[e.line]
		return t.k.applyState(ctx, t.sink, read[i], t.damaged)
	})
	if err != nil {
		return nil, err
	}
	var letters []dlq.Letter
	for _, l := range read {
		if l != nil {
			letters = append(letters, *l)
		}
	}
	return letters, nil
}
