package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// putBack puts letters back in groups, in their order. It returns the answers so far: it stops behind a
// group that was not taken in full, and at an error.
func (k *Keeper) putBack(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error) {
	do := k.Back
	if do == nil {
		do = k.Queue.Return
	}
	var answers []dlq.Returned
	for some := range slices.Chunk(letters, together) {
		got, err := k.putRest(ctx, sink, some, func(rest []dlq.Letter) ([]dlq.Returned, error) { return do(ctx, sink, token, over, rest) })
		if err != nil {
			return answers, err
		}
		if len(got) != len(some) {
			return answers, &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("%d answers to %d dead letters that were put back", len(got), len(some))}
		}
		for _, r := range got {
			switch r.Status {
			case dlq.ReturnStored, dlq.ReturnExists, dlq.ReturnEnded, dlq.ReturnCanceled, dlq.ReturnFull:
			default:
				return answers, &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("a dead letter that was put back is %.40q", r.Status)}
			}
		}
		answers = append(answers, got...)
		if slices.ContainsFunc(got, isFull) {
			break
		}
	}
	return answers, nil
}

func isFull(r dlq.Returned) bool { return r.Status == dlq.ReturnFull }

// isOver says that a letter is not to come back.
func isOver(r dlq.Returned) bool {
	return r.Status == dlq.ReturnEnded || r.Status == dlq.ReturnCanceled
}

// noteOver notes that addresses are over.
func (k *Keeper) noteOver(ctx context.Context, sink string, addresses []string) error {
	for some := range slices.Chunk(addresses, 500) {
		if err := k.Queue.NoteEnded(ctx, sink, some); err != nil {
			return err
		}
	}
	return nil
}

// gather returns the next names of shelves, at most so many, and about as many bytes as are read at once.
func gather(ctx context.Context, names *shelves, most int) ([]listedName, error) {
	var found []listedName
	var size int64
	for len(found) < most && size < inFlight/2 {
		n, ok, err := names.next(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		found = append(found, n)
		size += n.Size
	}
	return found, nil
}

// wayBack puts back what was spilled, oldest first, while there is room, and counts what still waits.
func (t *tick) wayBack(ctx context.Context) error {
	some, err := t.has(ctx, spillFolder)
	if err != nil {
		return err
	}
	if some {
		if err := t.bringBack(ctx); err != nil {
			return err
		}
	}
	return t.countSpilled(ctx, some)
}

func (t *tick) bringBack(ctx context.Context) error {
	states, err := t.has(ctx, stateFolder)
	if err != nil {
		return err
	}
	names := newShelves(t.k.Bucket, spillFolder, t.sink, "", t.damaged.foreign(ctx))
	const most = 64
	within, stop := context.WithCancel(ctx)
	ahead := t.readAhead(within, names, 1, states)
	defer func() {
		stop()
		<-ahead // nobody reads on
	}()
	for n := 1; ; { // few at first: perhaps there is no room
		b, ok := <-ahead
		if !ok || b.err != nil || len(b.read) == 0 || !t.left(untilBack) {
			return b.err
		}
		n = min(4*n, most)
		ahead = t.readAhead(within, names, n, states) // the next ones, while these are put back
		if full, err := t.putSpilled(ctx, b.read); err != nil || full {
			return err
		}
	}
}

// readBatch is what was read of spill/ at once; empty at the end.
type readBatch struct {
	read []spilled
	err  error
}

// readAhead reads up to so many objects of spill/. The channel is closed after them.
func (t *tick) readAhead(ctx context.Context, names *shelves, most int, states bool) <-chan readBatch {
	c := make(chan readBatch, 1)
	go func() {
		defer close(c)
		var b readBatch
		b.read, b.err = t.readSome(ctx, names, most, states)
		c <- b
	}()
	return c
}

func (t *tick) readSome(ctx context.Context, names *shelves, most int, states bool) ([]spilled, error) {
	some, err := gather(ctx, names, most)
	if err != nil {
		return nil, err
	}
	read := make([]spilled, len(some))
	return read, parallel(ctx, len(some), func(i int) int64 { return some[i].Size }, func(ctx context.Context, i int) error {
		var err error
		read[i], err = t.readSpilled(ctx, some[i], states)
		return err
	})
}

// spilled is an object of spill/.
type spilled struct {
	name    listedName
	letters []dlq.Letter
	// done says that nothing is in it but letters.
	done bool
}

// readSpilled reads an object of spill/ and makes sure that open/ has its dead letters.
func (t *tick) readSpilled(ctx context.Context, n listedName, states bool) (spilled, error) {
	s := spilled{name: n}
	c, err := t.k.read(ctx, t.sink, n.Name, n.group, t.damaged)
	if err != nil || c.gone {
		return s, err
	}
	s.done = len(c.bad) == 0
	for _, l := range c.letters {
		if l != nil {
			s.letters = append(s.letters, *l)
		}
	}
	if len(s.letters) == 0 {
		return s, nil
	}
	switch err := t.k.write(ctx, t.sink, n.group, c.letters, c.Body); {
	case errors.Is(err, errConflict):
		// They cannot be put back: their address is another's. The object stays.
		t.damaged.tell(ctx, n.Name, err)
		return spilled{name: n}, nil
	case err != nil:
		return s, err
	}
	for i := range s.letters {
		if states {
			if err := t.k.applyState(ctx, t.sink, &s.letters[i], t.damaged); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// putSpilled puts dead letters back and deletes the objects whose letters all have their place; full says that
// there is no more room.
func (t *tick) putSpilled(ctx context.Context, read []spilled) (full bool, err error) {
	var letters []dlq.Letter
	for _, s := range read {
		letters = append(letters, s.letters...)
	}
	answers, err := t.k.putBack(ctx, t.sink, t.token, max(1, t.k.MaxLen/10), letters)
	// What was answered before an error is used all the same.
	var over, names []string
	rest := answers
	for _, s := range read {
		n := min(len(rest), len(s.letters))
		took := n == len(s.letters)
		for i, r := range rest[:n] {
			switch {
			case r.Status == dlq.ReturnStored:
				t.r.Returned++
			case isOver(r):
				t.r.Over++
				over = append(over, s.letters[i].Item.Journal)
			case isFull(r):
				full, took = true, false
			}
		}
		rest = rest[n:]
		if took && s.done {
			names = append(names, s.name.Name)
		}
	}
	t.r.Full = t.r.Full || full
	if err := errors.Join(err, ctx.Err()); err != nil {
		return full, err
	}
	if err := t.k.noteOver(ctx, t.sink, over); err != nil {
		return full, err
	}
	return full, t.k.remove(ctx, names)
}

// countSpilled counts what waits in spill/, by the names.
func (t *tick) countSpilled(ctx context.Context, some bool) error {
	const pages = 20
	folder := spillFolder + t.sink + "/"
	var count int64
	more, after := some, ""
	for page := 0; more && page < pages; page++ {
		var found []Listed
		var err error
		if found, more, err = list(ctx, t.k.Bucket, folder, after, 0); err != nil {
			return err
		}
		for _, o := range found {
			after = o.Name
			n := nameBelow(o, folder)
			if n.group == "" {
				t.damaged.tell(ctx, o.Name, errForeign)
			}
			count += int64(n.group.lines())
		}
	}
	t.r.Spilled, t.r.SpilledMore = count, more
	t.notes.Spilled, t.notes.SpilledAt = count, time.Now().UTC()
	if count == 0 {
		t.notes.SpilledAt = time.Time{}
	}
	return nil
}
