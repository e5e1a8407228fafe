package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal/kept"
)

// RestoreStep is kept.RestoreStep.
type RestoreStep = kept.RestoreStep

// RestoreProgress is kept.RestoreProgress.
type RestoreProgress = kept.RestoreProgress

// restoreLimit is RestoreStep.Limit where it is not given.
const restoreLimit = 10_000

// restore is one step under way.
type restore struct {
	k     *Keeper
	sink  string
	token string
	step  RestoreStep

	open, states, spills *shelves
	damaged              damage // as far as it came
	passed               damage // by the reader, since the last object
	// begun is the object and the line that it goes on with; empty: none was begun.
	begun string
	line  int
}

// Restore puts dead letters of the journal back that the queue lacks, oldest first, whatever their
// number and age, and what was parked or held as such. What is there stays as it is. It does one step; a step that was
// interrupted can be repeated. Beside an error, the progress is what was done until then.
//
// A bad RestoreStep.After is INVALID_ARGUMENT.
func (k *Keeper) Restore(ctx context.Context, sink string, s RestoreStep) (RestoreProgress, error) {
	p := RestoreProgress{After: s.After}
	r := restore{k: k, sink: sink, step: s, damaged: k.newDamage(sink)}
	if err := r.position(); err != nil {
		return p, err
	}
	err := k.leased(ctx, sink, func(ctx context.Context, token string, view dlq.JournalView) (*dlq.JournalNotes, error) {
		r.token = token
		if err := r.run(ctx, &p); err != nil || !p.Done || s.DryRun || !s.Since.IsZero() {
			return nil, err
		}
		// All that the journal has is there. A new comparison tells what is missing from now on.
		notes := view.JournalNotes
		notes.LostAt, notes.Compared, notes.Missing, notes.Healed = time.Time{}, "", nil, 0
		return &notes, nil
	})
	return p, err
}

// position reads After: an object's name, and after a colon the line to go on with, where the object is not through.
func (r *restore) position() error {
	if r.step.Limit <= 0 {
		r.step.Limit = restoreLimit
	}
	after := r.step.After
	if after == "" {
		return nil
	}
	name, line, begun := strings.Cut(after, extension+":")
	if begun {
		name += extension
		n, err := strconv.Atoi(line)
		if err != nil || n < 0 || n >= MaxLines {
			name = ""
		}
		r.begun, r.line = name, n
	}
	if !strings.HasPrefix(name, openFolder+r.sink+"/") || nameBelow(Listed{Name: name}, openFolder+r.sink+"/").group == "" {
		return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("%.200q is no position of a restore of sink %q", after, r.sink)}
	}
	return nil
}

// restored is an object under way.
type restored struct {
	name    listedName
	letters []dlq.Letter
	line    int   // of the first letter, where an earlier step began with it
	spilled []int // lines of letters that are left to spill/
	damaged damage
}

// window is what is read at once.
type window struct {
	objects []restored
	damaged damage // behind the objects
	end     bool
	err     error
}

func (r *restore) run(ctx context.Context, p *RestoreProgress) error {
	r.passed = collected()
	foreign := func(o Listed) { r.passed.foreign(ctx)(o) }
	if r.step.After == "" {
		if err := strays(ctx, r.k.Bucket, openFolder, r.sink, foreign); err != nil {
			return err
		}
	}
	after := r.step.After
	if r.begun != "" {
		after = before(r.begun)
	}
	r.open = newShelves(r.k.Bucket, openFolder, r.sink, after, foreign)
	r.states = newShelves(r.k.Bucket, stateFolder, r.sink, after, foreign)
	r.spills = newShelves(r.k.Bucket, spillFolder, r.sink, after, foreign)

	// The next window is read while one is put back.
	ctx, stop := context.WithCancel(ctx)
	windows := make(chan window)
	defer func() {
		stop()
		for range windows { // until the reader has ended
		}
	}()
	go func() {
		defer close(windows)
		for {
			b := r.read(ctx)
			select {
			case windows <- b:
			case <-ctx.Done():
				return
			}
			if b.end || b.err != nil {
				return
			}
		}
	}()
	for b := range windows {
		if b.err == nil {
			b.err = r.put(ctx, b.objects, p)
		}
		if p.Done = b.err == nil && b.end && !p.Full; p.Done {
			r.damaged.add(ctx, b.damaged)
		}
		p.Damaged = r.damaged.count()
		if b.err != nil {
			return b.err
		}
		if p.Done || p.Full || p.Looked >= int64(r.step.Limit) || !r.left(ctx) {
			return nil
		}
	}
	return ctx.Err()
}

// left reports whether there is time for another window.
func (r *restore) left(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > 2*closing
}

// before is a name that comes right before an object's.
func before(name string) string {
	last := len(name) - 1
	return name[:last] + string(name[last]-1) + "~"
}

// read reads a window: objects with their states, without what spill/ has.
func (r *restore) read(ctx context.Context) window {
	const objects, bytes = 200, 2 << 20
	var (
		b              window
		states, spills [][]listedName
		size           int64
	)
	for len(b.objects) < objects && size < bytes {
		n, ok, err := r.open.next(ctx)
		if err != nil {
			return window{err: err}
		}
		if !ok {
			b.end, b.damaged = true, r.passed
			break
		}
		if !r.step.Since.IsZero() && n.group.time().Before(r.step.Since) {
			continue
		}
		st, err := r.states.of(ctx, n.group)
		if err != nil {
			return window{err: err}
		}
		sp, err := r.spills.of(ctx, n.group)
		if err != nil {
			return window{err: err}
		}
		o := restored{name: n, damaged: r.passed}
		r.passed = collected()
		if n.Name == r.begun {
			o.line = r.line
		}
		b.objects, states, spills = append(b.objects, o), append(states, st), append(spills, sp)
		size += n.Size
	}
	b.err = parallel(ctx, len(b.objects), func(i int) int64 { return b.objects[i].name.Size }, func(ctx context.Context, i int) error {
		return r.readObject(ctx, &b.objects[i], states[i], len(spills[i]) > 0)
	})
	return b
}

func (r *restore) readObject(ctx context.Context, o *restored, states []listedName, spilled bool) error {
	g := o.name.group
	c, err := r.k.read(ctx, r.sink, o.name.Name, g, o.damaged)
	if err != nil {
		return err
	}
	var waits map[string]bool
	if spilled {
		if waits, err = r.k.spilledLines(ctx, r.sink, []group{g}); err != nil {
			return err
		}
	}
	for i, l := range c.letters {
		if l == nil || i < o.line {
			continue
		}
		if waits[g.address(i)] {
			o.spilled = append(o.spilled, i)
			continue
		}
		l.Item.Parked, l.Item.Held, l.Item.SupersededBy = false, false, ""
		for _, s := range states {
			if s.line == i {
				if err := r.k.applyState(ctx, r.sink, l, o.damaged); err != nil {
					return err
				}
			}
		}
		o.letters = append(o.letters, *l)
	}
	return nil
}

// put puts a window back, and advances as far as it was decided.
func (r *restore) put(ctx context.Context, objects []restored, p *RestoreProgress) error {
	var letters []dlq.Letter
	for _, o := range objects {
		letters = append(letters, o.letters...)
	}
	answers, putErr := r.answers(ctx, letters)
	var over []string
	for i, a := range answers {
		if isOver(a) && !r.step.DryRun {
			over = append(over, letters[i].Item.Journal)
		}
	}
	if err := r.k.noteOver(ctx, r.sink, over); err != nil {
		return errors.Join(putErr, err) // all of it is looked at again
	}
	for _, o := range objects {
		for i, l := range o.letters {
			if len(answers) == 0 || isFull(answers[0]) {
				p.Full = putErr == nil
				if i > 0 {
					_, line := locate(l.Item.Journal)
					p.After = o.name.Name + ":" + strconv.Itoa(line)
					leave(p, o.spilled, line)
				}
				return putErr
			}
			count(p, answers[0])
			answers = answers[1:]
		}
		leave(p, o.spilled, MaxLines)
		r.damaged.add(ctx, o.damaged)
		p.After = o.name.Name
	}
	return putErr
}

// leave counts the lines below one that are left to ticks.
func leave(p *RestoreProgress, lines []int, below int) {
	for _, line := range lines {
		if line < below {
			p.Looked++
			p.Spilled++
		}
	}
}

func count(p *RestoreProgress, r dlq.Returned) {
	p.Looked++
	switch {
	case r.Status == dlq.ReturnStored:
		p.Restored++
	case isOver(r):
		p.Over++
	default:
		p.Present++
	}
}

// answers puts letters back, or asks what would become of them.
func (r *restore) answers(ctx context.Context, letters []dlq.Letter) ([]dlq.Returned, error) {
	if !r.step.DryRun {
		return r.k.putBack(ctx, r.sink, r.token, 0, letters)
	}
	var entries []entry
	for _, l := range letters {
		g, line := locate(l.Item.Journal)
		entries = append(entries, entry{g, line, l.Identity})
	}
	found, err := r.k.compare(ctx, r.sink, entries)
	if err != nil {
		return nil, err
	}
	answers := make([]dlq.Returned, len(found))
	for i, c := range found {
		switch c.fate {
		case absent, spilling:
			answers[i].Status = dlq.ReturnStored
		case closed:
			answers[i].Status = dlq.ReturnEnded
		default:
			answers[i].Status = dlq.ReturnExists
		}
	}
	return answers, nil
}
