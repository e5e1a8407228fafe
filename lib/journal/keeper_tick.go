package journal

import (
	"context"
	"errors"
	"slices"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/journal/kept"
)

// Report is kept.Report.
type Report = kept.Report

// tick is one Tick under way.
type tick struct {
	k       *Keeper
	sink    string
	token   string
	view    dlq.JournalView
	notes   dlq.JournalNotes
	r       Report
	damaged damage
	begin   time.Time
	end     time.Time
	// stuck are public ids of dead letters that cannot be written.
	stuck map[string]bool
	// below says that there is something below a folder of the sink; known once it was looked for.
	below map[string]bool
}

// Tick does what is left to do for one sink, as far as the time until ctx's deadline allows (or 15
// minutes), and in this order: it writes what the journal lacks, deletes what is over, brings
// back what was spilled, and compares a slice of the journal with the queue. The first call of the
// bucket that fails ends it: what was done until then is in the report, beside the error.
func (k *Keeper) Tick(ctx context.Context, sink string) (Report, error) {
	t := tick{k: k, sink: sink, begin: time.Now(), damaged: k.newDamage(sink), stuck: map[string]bool{}, below: map[string]bool{}}
	err := k.leased(ctx, sink, func(ctx context.Context, token string, view dlq.JournalView) (*dlq.JournalNotes, error) {
		t.token, t.view, t.notes = token, view, view.JournalNotes
		t.end, _ = ctx.Deadline()
		err := t.work(ctx)
		return &t.notes, err
	})
	t.r.Damaged = t.damaged.count()
	t.r.Conflicts = int64(len(t.stuck))
	t.r.Lost = !t.notes.LostAt.IsZero()
	return t.r, err
}

// The shares of a tick's time up to which its steps begin something new.
const (
	untilEnds = 0.4
	untilBack = 0.75
	untilHeal = 0.9
)

func (t *tick) work(ctx context.Context) error {
	for _, step := range []func(context.Context) error{t.noticeLoss, t.ends, t.wayBack, t.heal} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// left reports whether a step may begin something new; if not, there is more to do.
func (t *tick) left(share float64) bool {
	now := time.Now()
	if now.Sub(t.begin) < time.Duration(share*float64(t.end.Sub(t.begin))) {
		return true
	}
	t.r.More = true
	return false
}

// ends deletes objects all of whose dead letters are over, and before that writes what the journal lacks.
//
// The order matters: where a push finds its dead letter under another address, its own address is over,
// and the other, whose object was perhaps never written, is noted as unjournaled, in one step. So when some
// addresses are read first, and then all is written that is noted, nothing is deleted whose dead
// letter has no other object.
func (t *tick) ends(ctx context.Context) error {
	const slice, idle = 1000, 10
	for range idle {
		addresses, next, err := t.k.Queue.Ended(ctx, t.sink, t.notes.Ends, slice)
		if err != nil {
			return err
		}
		if all, err := t.writeMissing(ctx); err != nil || !all {
			return err
		}
		deleted := t.r.Deleted
		if err := t.deleteEnded(ctx, addresses); err != nil {
			return err
		}
		t.notes.Ends = next
		if next == "" {
			return nil
		}
		if !t.left(untilEnds) {
			return nil
		}
		if t.r.Deleted > deleted {
			continue
		}
	}
	t.r.More = true
	return nil
}

// deleteEnded deletes the objects of these addresses all of whose lines are over, and strikes lines of others.
func (t *tick) deleteEnded(ctx context.Context, addresses []string) error {
	var (
		groups []group
		noted  = map[group][]string{} // as the queue spells them
		none   []string               // nothing has such an address
	)
	for _, a := range addresses {
		g, _ := locate(a)
		if g == "" {
			t.k.log().WarnContext(ctx, "an address that is over is none of this journal: it is forgotten", "sink", t.sink, "address", clip(a))
			none = append(none, a)
			continue
		}
		if noted[g] == nil {
			groups = append(groups, g)
		}
		noted[g] = append(noted[g], a)
	}
	if len(none) > 0 {
		if err := t.k.Queue.Journaled(ctx, t.sink, t.token, dlq.JournalDone{Ended: none}); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(groups, 100) {
		over, err := t.k.endedLines(ctx, t.sink, some)
		if err != nil {
			return err
		}
		var whole []group
		var part []lines
		for i, g := range some {
			switch {
			case !slices.Contains(over[i], false):
				whole = append(whole, g)
			case t.begin.Sub(g.time()) >= settled:
				part = append(part, lines{g, over[i]})
			}
		}
		if len(whole) > 0 {
			if err := t.forget(ctx, whole, true); err != nil {
				return err
			}
		}
		if err := t.strike(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// lines are some of an object's.
type lines struct {
	group group
	over  []bool // by their number
}

// addresses are those of the lines that are over, as the queue may spell them.
func (l lines) addresses() []string {
	var all []string
	for i, yes := range l.over {
		if yes {
			all = append(all, l.group.spellings(i)...)
		}
	}
	return all
}

// strike makes lines null that are over, in objects that have others: else a wipe of the queue would
// bring them back for as long as one of the others is open. Young objects wait: most dead letters that
// were pushed together end together.
func (t *tick) strike(ctx context.Context, objects []lines) error {
	if len(objects) == 0 {
		return nil
	}
	spills, err := t.has(ctx, spillFolder)
	if err != nil {
		return err
	}
	states, err := t.has(ctx, stateFolder)
	if err != nil {
		return err
	}
	struck, deleted := make([]bool, len(objects)), make([]bool, len(objects))
	if err := parallel(ctx, len(objects), nil, func(ctx context.Context, i int) error {
		if spills {
			// What has a line in spill/ must be known as over when it is to be put back.
			switch _, err := t.k.get(ctx, objects[i].group.spill(t.sink)); {
			case err == nil, errors.Is(err, ErrTooLarge):
				return nil
			case !errors.Is(err, ErrNotFound):
				return err
			}
		}
		var err error
		struck[i], deleted[i], err = t.strikeObject(ctx, objects[i])
		if err != nil || !struck[i] || !states {
			return err
		}
		var names []string
		for line, yes := range objects[i].over {
			if yes {
				names = append(names, stateName(t.sink, objects[i].group.address(line)))
			}
		}
		return t.k.remove(ctx, names)
	}); err != nil {
		return err
	}
	var addresses []string
	for i, o := range objects {
		if struck[i] {
			addresses = append(addresses, o.addresses()...)
		}
		if deleted[i] {
			t.r.Deleted++
		}
	}
	if len(addresses) == 0 {
		return nil
	}
	return t.k.Queue.Journaled(ctx, t.sink, t.token, dlq.JournalDone{Ended: addresses})
}

// strikeObject reports whether the lines are struck, or the object is deleted with them.
func (t *tick) strikeObject(ctx context.Context, l lines) (struck, deleted bool, err error) {
	name := l.group.open(t.sink)
	whole, err := call(ctx, func(ctx context.Context) (bool, error) {
		return strikeFrom(ctx, t.k.Bucket, t.sink, l.group, name, func(line int, _ *dlq.Letter) bool { return line < len(l.over) && l.over[line] })
	})
	switch {
	case errors.Is(err, ErrTooLarge):
		t.damaged.tell(ctx, name, err)
		return false, false, nil
	case err != nil:
		return false, false, about("strike", name, err)
	case whole:
		return true, true, t.k.remove(ctx, []string{name})
	}
	return true, false, nil
}

// has reports whether there was anything below a folder of the sink when this tick first asked.
func (t *tick) has(ctx context.Context, folder string) (bool, error) {
	if yes, known := t.below[folder]; known {
		return yes, nil
	}
	first, _, err := list(ctx, t.k.Bucket, folder+t.sink+"/", "", 1)
	if err != nil {
		return false, err
	}
	t.below[folder] = len(first) > 0
	return len(first) > 0, nil
}

// forget deletes what is kept of groups that are over, and then their addresses. Where open/ alone says that they are, spill/ may still
// have a line that open/ lacks: then it is not deleted.
func (t *tick) forget(ctx context.Context, over []group, spill bool) error {
	// In a bucket with versions, what was deleted that was not there leaves a mark.
	states, err := t.has(ctx, stateFolder)
	if err != nil {
		return err
	}
	if spill {
		if spill, err = t.has(ctx, spillFolder); err != nil {
			return err
		}
	}
	var names, addresses []string
	for _, g := range over {
		names = append(names, g.open(t.sink))
		if spill {
			names = append(names, g.spill(t.sink))
		}
		for i := range g.lines() {
			addresses = append(addresses, g.spellings(i)...)
			if states {
				names = append(names, stateName(t.sink, g.address(i)))
			}
		}
	}
	if err := t.k.remove(ctx, names); err != nil {
		return err
	}
	t.r.Deleted += int64(len(over))
	return t.k.Queue.Journaled(ctx, t.sink, t.token, dlq.JournalDone{Ended: addresses})
}

// endedLines returns for each line of some groups whether it is noted as over.
func (k *Keeper) endedLines(ctx context.Context, sink string, groups []group) ([][]bool, error) {
	var ask []string
	for _, g := range groups {
		for i := range g.lines() {
			ask = append(ask, g.spellings(i)...)
		}
	}
	yes, err := k.Queue.AreEnded(ctx, sink, ask)
	if err != nil {
		return nil, err
	}
	all := make([][]bool, len(groups))
	for i, g := range groups {
		for line := range g.lines() {
			n := len(g.spellings(line))
			all[i] = append(all[i], slices.Contains(yes[:n], true))
			yes = yes[n:]
		}
	}
	return all, nil
}

// writeMissing writes all that the queue notes as unjournaled, what was noted when it began at least; false when its time
// is over before.
func (t *tick) writeMissing(ctx context.Context) (all bool, err error) {
	const some = 200
	for {
		found, err := t.k.Queue.Unjournaled(ctx, t.sink, some+2*len(t.stuck))
		if err != nil {
			return false, err
		}
		found = slices.DeleteFunc(found, func(u dlq.Unjournaled) bool { return t.stuck[u.Item.ID] })
		if len(found) == 0 {
			return true, nil
		}
		if !t.left(untilEnds) {
			return false, nil
		}
		if err := t.writeFound(ctx, found); err != nil {
			return false, err
		}
	}
}

// writeFound writes some dead letters and states that the journal lacks.
//
// A line of a group that is not among them stays null: it may be over, or spilled, or of a dead letter that is noted
// later, and nobody can tell. So it is not noted as ended.
func (t *tick) writeFound(ctx context.Context, found []dlq.Unjournaled) error {
	var (
		groups  []group
		letters = map[group][]*dlq.Letter{}
		written = map[group][]string{}          // public ids
		states  = map[string]*dlq.Unjournaled{} // by public id
		ids     []string
	)
	for i := range found {
		u := &found[i]
		g, line := locate(u.Item.Journal)
		if g == "" {
			t.stick(ctx, u.Item.ID, errForeign)
			continue
		}
		if !u.State {
			if letters[g] == nil {
				groups = append(groups, g)
				letters[g] = make([]*dlq.Letter, g.lines())
			}
			if other := letters[g][line]; other != nil && other.Identity != u.Identity {
				t.stick(ctx, u.Item.ID, errConflict)
				continue
			}
			letters[g][line] = &u.Letter
			written[g] = append(written[g], u.Item.ID)
		}
		if u.State || u.Item.Parked || u.Item.Held {
			if states[u.Item.ID] == nil {
				ids = append(ids, u.Item.ID)
			}
			states[u.Item.ID] = u
		}
	}
	failed := make([]error, len(groups))
	err := parallel(ctx, len(groups), nil, func(ctx context.Context, i int) error {
		err := t.k.write(ctx, t.sink, groups[i], letters[groups[i]], nil)
		if errors.Is(err, errConflict) {
			failed[i], err = err, nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := parallel(ctx, len(ids), nil, func(ctx context.Context, i int) error {
		u := states[ids[i]]
		return t.k.writeState(ctx, t.sink, spelled(u.Item.Journal), state{u.Item.Parked, u.Item.Held, u.Item.SupersededBy})
	}); err != nil {
		return err
	}
	if len(ids) > 0 {
		t.below[stateFolder] = true
	}
	var done dlq.JournalDone
	for i, g := range groups {
		if failed[i] == nil {
			done.Written = append(done.Written, written[g]...)
			continue
		}
		for _, id := range written[g] {
			t.stick(ctx, id, failed[i])
		}
	}
	for _, id := range ids {
		u := states[id]
		done.States = append(done.States, dlq.JournalState{ID: id, Parked: u.Item.Parked, Held: u.Item.Held, SupersededBy: u.Item.SupersededBy})
	}
	if err := t.k.Queue.Journaled(ctx, t.sink, t.token, done); err != nil {
		return err
	}
	t.r.Written += int64(len(done.Written))
	t.r.States += int64(len(done.States))
	return nil
}

// stick notes a dead letter that cannot be written.
func (t *tick) stick(ctx context.Context, id string, err error) {
	if !t.stuck[id] && len(t.stuck) < named {
		t.k.log().ErrorContext(ctx, "a dead letter cannot be written into the journal", "sink", t.sink, "item", id, "error", err)
	}
	t.stuck[id] = true
}
