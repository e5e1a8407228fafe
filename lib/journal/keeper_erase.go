package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal/kept"
)

// EraseProgress is kept.EraseProgress.
type EraseProgress = kept.EraseProgress

// olderVersions begins a position of Erase among the older versions.
const olderVersions = "versions:"

// erase is an Erase under way.
type erase struct {
	k       *Keeper
	sink    string
	match   func(json.RawMessage) bool
	p       *EraseProgress
	damaged damage
	erased  atomic.Int64
}

// Erase removes the dead letters of a sink from the journal whose recipient match says yes to, and
// then the older versions of objects that such dead letters are in. The recipient is JSON as it was received; empty: the sink's
// default. match may be called concurrently. It goes on after what an earlier call returned (empty: from the
// beginning) and works until ctx's deadline, or 15 minutes; beside an error, the progress is what was done until then.
// What is erased is over: a restore does not bring it back. Those in the queue must be gone before.
//
// A bad after is INVALID_ARGUMENT.
func (k *Keeper) Erase(ctx context.Context, sink string, match func(recipient json.RawMessage) bool, after string) (EraseProgress, error) {
	p := EraseProgress{After: after}
	folders := []string{openFolder + sink + "/", spillFolder + sink + "/"}
	at, versions := strings.CutPrefix(after, olderVersions)
	if at != "" && !strings.HasPrefix(at, folders[0]) && !strings.HasPrefix(at, folders[1]) {
		return p, &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("%.200q is no position of an erasure in sink %q", after, sink)}
	}
	e := erase{k: k, sink: sink, match: match, p: &p, damaged: k.newDamage(sink)}
	err := k.leased(ctx, sink, func(ctx context.Context, _ string, _ dlq.JournalView) (*dlq.JournalNotes, error) {
		deadline, _ := ctx.Deadline()
		ctx, cancel := context.WithDeadline(ctx, deadline.Add(-closing))
		defer cancel()
		steps := []func(context.Context, string) (bool, error){e.current(openFolder), e.current(spillFolder), e.older(folders[0]), e.older(folders[1])}
		for i, do := range steps {
			folder := folders[i%2]
			if versions && i < 2 || at != "" && !strings.HasPrefix(at, folder) {
				continue // an earlier call did
			}
			done, err := do(ctx, at)
			if err != nil || !done {
				return nil, err
			}
			at = ""
		}
		p.Done = true
		return nil, nil
	})
	p.Erased, p.Damaged = e.erased.Load(), e.damaged.count()
	return p, err
}

// left reports whether there is time to begin something.
func (e *erase) left(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(deadline) > closing)
}

// current goes through the objects of a folder as they are.
func (e *erase) current(folder string) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, after string) (done bool, err error) {
		if after == "" {
			if err := strays(ctx, e.k.Bucket, folder, e.sink, e.damaged.foreign(ctx)); err != nil {
				return false, err
			}
		}
		names := newShelves(e.k.Bucket, folder, e.sink, after, e.damaged.foreign(ctx))
		for e.left(ctx) {
			const most = 200
			some, err := gather(ctx, names, most)
			if err != nil {
				return false, err
			}
			if len(some) == 0 {
				return true, nil
			}
			if err := parallel(ctx, len(some), func(i int) int64 { return some[i].Size }, func(ctx context.Context, i int) error {
				return e.object(ctx, some[i])
			}); err != nil {
				return false, err
			}
			e.p.After = some[len(some)-1].Name
		}
		return false, nil
	}
}

// object erases lines of an object.
func (e *erase) object(ctx context.Context, n listedName) error {
	const tries = 10
	for range tries {
		c, err := e.k.read(ctx, e.sink, n.Name, n.group, e.damaged)
		if err != nil || c.gone {
			return err
		}
		var erased, states []string
		body, left, struck := e.strike(c.Body, func(i int) {
			if i < n.group.lines() {
				erased = append(erased, n.group.spellings(i)...)
				states = append(states, stateName(e.sink, n.group.address(i)))
			}
		})
		if struck == 0 {
			return nil
		}
		// First: a restore that goes on after a death here must not bring it back.
		if err := e.k.noteOver(ctx, e.sink, erased); err != nil {
			return err
		}
		if left == 0 {
			states = append(states, n.Name)
		} else if err := e.k.replace(ctx, n.Name, c.Tag, body); errors.Is(err, ErrChanged) {
			continue
		} else if err != nil {
			return err
		}
		if err := e.k.remove(ctx, states); err != nil {
			return err
		}
		e.erased.Add(int64(struck))
		return nil
	}
	return fmt.Errorf("%s: %w, %d times", n.Name, ErrChanged, tries)
}

// strike strikes the lines of a body that are to be erased, and tells each.
func (e *erase) strike(body []byte, tell func(line int)) (rest []byte, left, struck int) {
	lines := split(body)
	return strikeLines(e.sink, "", body, func(i int, _ *dlq.Letter) bool {
		yes := e.about(lines[i])
		if yes {
			tell(i)
		}
		return yes
	})
}

// about reports whether a line is to be erased: it can be read, and its recipient matches.
func (e *erase) about(l []byte) bool {
	var it *dlq.Item
	if json.Unmarshal(l, &it) != nil || it == nil || it.DecodeError != "" {
		return false
	}
	return e.match(it.Recipient)
}

// older removes older versions below a folder of the sink.
func (e *erase) older(folder string) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, after string) (done bool, err error) {
		if after == "" {
			e.p.After = olderVersions + folder // what was before is done
		}
		if !e.left(ctx) {
			return false, nil
		}
		removed, next, err := e.k.Bucket.Purge(ctx, folder, after, func(_ string, body []byte) bool {
			_, _, struck := e.strike(body, func(int) {})
			return struck > 0
		})
		e.p.Versions += int64(removed)
		if next != "" {
			e.p.After = olderVersions + next
		}
		switch {
		case err == nil:
			return next == "", nil
		case errors.Is(err, ErrTooLarge) && next == "":
			// All others were looked at; nobody here wrote it.
			e.damaged.tell(ctx, folder, fmt.Errorf("an older version: %w", err))
			return true, nil
		case ctx.Err() != nil:
			return false, nil //nolint:nilerr // the next call goes on
		}
		return false, about("purge", folder, err)
	}
}
