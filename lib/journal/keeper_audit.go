package journal

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/journal/kept"
)

// Audit is kept.Audit.
type Audit = kept.Audit

// audit is an Audit under way.
type audit struct {
	k       *Keeper
	sink    string
	a       Audit
	damaged damage
	seed    maphash.Seed
	// queued are hashes of the addresses in the queue when it began, sorted, and journaled says by
	// its index that the journal has it.
	queued    []uint64
	journaled []uint64
	age       age
	mu        sync.Mutex // of journaled
}

// Audit reconciles a sink's queue with its journal, and notes what the journal lacks so that ticks write
// it. It reads every object. What is pushed or ends meanwhile counts as before or after, and nothing as
// lost by that. Its memory is some 8 bytes per dead letter. With an error it is of no use.
func (k *Keeper) Audit(ctx context.Context, sink string) (Audit, error) {
	u := audit{k: k, sink: sink, damaged: k.newDamage(sink), seed: maphash.MakeSeed(), age: age{now: time.Now()}}
	err := k.leased(ctx, sink, func(ctx context.Context, _ string, _ dlq.JournalView) (*dlq.JournalNotes, error) {
		return nil, u.run(ctx)
	})
	if err != nil {
		return Audit{}, err
	}
	u.a.Damaged = u.damaged.count()
	u.a.Letters = u.a.Queued + u.a.Spilled + u.a.Ending + u.a.Lost
	return u.a, nil
}

func (u *audit) run(ctx context.Context) error {
	if err := u.readQueue(ctx); err != nil {
		return err
	}
	suspects, err := u.readOpen(ctx)
	if err != nil {
		return err
	}
	if err := u.readSpill(ctx); err != nil {
		return err
	}
	if err := u.lookAgain(ctx, suspects); err != nil {
		return err
	}
	return u.noteUnjournaled(ctx)
}

// inQueue is how many entries of the queue are read at once.
const inQueue = 1000

// queue goes through the queue.
func (u *audit) queue(ctx context.Context, do func([]dlq.Present) error) error {
	for after := ""; ; {
		found, next, err := u.k.Queue.PresentAfter(ctx, u.sink, after, inQueue)
		if err != nil {
			return err
		}
		if err := do(found); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// readQueue keeps a hash of each address in the queue.
func (u *audit) readQueue(ctx context.Context) error {
	err := u.queue(ctx, func(found []dlq.Present) error {
		for _, p := range found {
			u.queued = append(u.queued, u.hash(p.Address))
		}
		return nil
	})
	slices.Sort(u.queued)
	u.journaled = make([]uint64, (len(u.queued)+63)/64)
	u.a.Queued = int64(len(u.queued))
	return err
}

// hash is that of an address. One that is none of this journal has one too: its dead letter is unjournaled.
func (u *audit) hash(address string) uint64 {
	if s := spelled(address); s != "" {
		address = s
	}
	return maphash.String(u.seed, address)
}

// mark notes that the journal has a letter; false where the queue has none of this address.
func (u *audit) mark(address string) bool {
	i, ok := slices.BinarySearch(u.queued, u.hash(address))
	if ok {
		u.mu.Lock()
		u.journaled[i/64] |= 1 << (i % 64)
		u.mu.Unlock()
	}
	return ok
}

// suspect is a dead letter of the journal that the queue lacks.
type suspect struct {
	entry
	young bool
}

// objects reads the objects of a folder, and tells the letters of each. Calls of do are concurrent.
func (u *audit) objects(ctx context.Context, folder string, do func(ctx context.Context, n listedName, c contents) error) error {
	if err := strays(ctx, u.k.Bucket, folder, u.sink, u.damaged.foreign(ctx)); err != nil {
		return err
	}
	names := newShelves(u.k.Bucket, folder, u.sink, "", u.damaged.foreign(ctx))
	for {
		const most = 1000
		some, err := gather(ctx, names, most)
		if err != nil || len(some) == 0 {
			return err
		}
		if err := parallel(ctx, len(some), func(i int) int64 { return some[i].Size }, func(ctx context.Context, i int) error {
			c, err := u.k.read(ctx, u.sink, some[i].Name, some[i].group, u.damaged)
			if err != nil {
				return err
			}
			return do(ctx, some[i], c)
		}); err != nil {
			return err
		}
	}
}

// readOpen marks what open/ has and returns what the queue lacked, looked at once.
func (u *audit) readOpen(ctx context.Context) ([]entry, error) {
	var (
		mu       sync.Mutex
		missing  []suspect // not asked for yet
		suspects []entry
	)
	ask := func(ctx context.Context, few int) error {
		mu.Lock()
		some := missing
		if len(some) <= few {
			mu.Unlock()
			return nil
		}
		missing = nil
		mu.Unlock()
		absent, err := u.ask(ctx, some)
		mu.Lock()
		defer mu.Unlock()
		suspects = append(suspects, absent...)
		return err
	}
	err := u.objects(ctx, openFolder, func(ctx context.Context, n listedName, c contents) error {
		mu.Lock()
		young := u.age.of(n) < settled
		for _, e := range entriesOf(n.group, c) {
			if !u.mark(e.address()) {
				missing = append(missing, suspect{e, young})
			}
		}
		mu.Unlock()
		const some = 1000
		return ask(ctx, some)
	})
	return suspects, errors.Join(err, ask(ctx, 0))
}

// ask counts what is over, and returns what the queue should have and has not.
func (u *audit) ask(ctx context.Context, some []suspect) ([]entry, error) {
	young := map[string]bool{}
	entries := make([]entry, len(some))
	for i, s := range some {
		entries[i] = s.entry
		young[s.address()] = s.young
	}
	found, err := u.k.compare(ctx, u.sink, entries)
	if err != nil {
		return nil, err
	}
	var missing []entry
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range found {
		switch c.fate {
		case closed:
			u.a.Ending++
		case absent:
			if !young[c.address()] {
				missing = append(missing, c.entry)
			}
		case present, duplicate, spilling:
			// Pushed since, or counted under its other address, or in spill/.
		}
	}
	return missing, nil
}

// readSpill counts what waits in spill/ and is not in the queue.
func (u *audit) readSpill(ctx context.Context) error {
	return u.objects(ctx, spillFolder, func(ctx context.Context, n listedName, c contents) error {
		found, err := u.k.compare(ctx, u.sink, entriesOf(n.group, c))
		if err != nil {
			return err
		}
		var ending int64
		for _, f := range found {
			if f.fate != closed {
				continue
			}
			// Where open/ has it too, it was counted there.
			o, err := u.k.read(ctx, u.sink, f.group.open(u.sink), f.group, u.damaged)
			if err != nil {
				return err
			}
			if o.gone || o.letters[f.line] == nil {
				ending++
			}
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.a.Ending += ending
		for _, f := range found {
			if f.fate == spilling {
				u.a.Spilled++
			}
		}
		return nil
	})
}

// lookAgain counts those suspects as lost that are missing still.
func (u *audit) lookAgain(ctx context.Context, suspects []entry) error {
	for some := range slices.Chunk(suspects, 1000) {
		var mu sync.Mutex
		var still []entry
		if err := parallel(ctx, len(some), nil, func(ctx context.Context, i int) error {
			e := some[i]
			c, err := u.k.read(ctx, u.sink, e.group.open(u.sink), e.group, u.damaged)
			if err != nil || c.gone || c.letters[e.line] == nil {
				return err // it was discarded in between
			}
			mu.Lock()
			defer mu.Unlock()
			still = append(still, e)
			return nil
		}); err != nil {
			return err
		}
		found, err := u.k.compare(ctx, u.sink, still)
		if err != nil {
			return err
		}
		for _, c := range found {
			switch c.fate {
			case absent:
				u.a.Lost++
			case closed:
				u.a.Ending++
			case present, duplicate, spilling:
			}
		}
	}
	return nil
}

// noteUnjournaled looks for those of the queue that the journal lacked, a second time, and notes them.
func (u *audit) noteUnjournaled(ctx context.Context) error {
	return u.queue(ctx, func(found []dlq.Present) error {
		lacks := make([]bool, len(found))
		if err := parallel(ctx, len(found), nil, func(ctx context.Context, i int) error {
			at, ok := slices.BinarySearch(u.queued, u.hash(found[i].Address))
			if !ok || u.journaled[at/64]>>(at%64)&1 == 1 {
				return nil // pushed since, or journaled
			}
			g, line := locate(found[i].Address)
			if g == "" {
				lacks[i] = true
				return nil
			}
			c, err := u.k.read(ctx, u.sink, g.open(u.sink), g, u.damaged)
			lacks[i] = err == nil && (c.gone || c.letters[line] == nil)
			return err
		}); err != nil {
			return err
		}
		var ids []string
		for i, p := range found {
			if lacks[i] {
				ids = append(ids, p.ID)
			}
		}
		u.a.Unjournaled += int64(len(ids))
		for some := range slices.Chunk(ids, 500) {
			if err := u.k.Queue.NoteUnjournaled(ctx, u.sink, some); err != nil {
				return err
			}
		}
		return nil
	})
}
