package journal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// Keeper does what is left to do in a journal: Tick by itself now and then, Restore, Audit and
// Erase when an operator asks for them. Each works under the lease of the sink's journal
// (dlq.Journaling.JournalLease): while another process holds it, the answer is dlq.ErrJournalTaken
// and nothing was done. A process that dies at any point leaves what the next call
// ends. It is safe for concurrent use.
//
// An object that cannot be read, or not in full, stops nothing: it is counted as damaged and logged, its
// good lines are used, and it stays where it is.
type Keeper struct {
	// Queue is what a journal.Queue wraps: what is put back is in the journal already.
	Queue  dlq.Journaling
	Bucket Bucket
	// Back puts dead letters back. Nil: Queue.Return.
	Back Back
	// MaxLen is the queue's cap per sink; dead letters on their way back from spill/ may take a tenth
	// more, so that fresh ones cannot starve them. Zero: there is none.
	MaxLen int
	// Log is told what is damaged, lost, and in conflict. Nil: slog.Default.
	Log *slog.Logger
}

// Back puts up to 25 dead letters of a sink back into the queue, as dlq.Journaling.Return does. One that
// is not to come back, because it was delivered, discarded or canceled, is answered with ReturnEnded
// or ReturnCanceled, and its line in the journal is over then.
type Back func(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error)

// The bounds of a Keeper's work.
const (
	// longest is how long a call may take whose context has no deadline.
	longest = 15 * time.Minute
	// outlives is how much longer than a call its lease lasts.
	outlives = 5 * time.Second
	// closing is the time to write down, after a call's context is over, how far it got, and to give its
	// lease back. It is less than outlives.
	closing = 2 * time.Second
	// bucketTimeout bounds one call of the bucket.
	bucketTimeout = 20 * time.Second
	// atOnce is how many calls of the bucket are under way at once.
	atOnce = 16
	// settled is the age from which on the queue should have a dead letter that the journal has.
	settled = 15 * time.Minute
	// tolerated is how many missing dead letters are pushed again without being asked.
	tolerated = 1000
	// together is how many dead letters are put back at once.
	together = 25
)

// Sinks returns the names of the sinks that have dead letters in the journal, or had some not long ago.
func (k *Keeper) Sinks(ctx context.Context) ([]string, error) {
	var names []string
	for _, folder := range []string{openFolder, spillFolder} {
		found, err := call(ctx, func(ctx context.Context) ([]string, error) { return k.Bucket.Folders(ctx, folder) })
		if err != nil {
			return nil, fmt.Errorf("folders of %s: %w", folder, err)
		}
		for _, f := range found {
			name := strings.TrimSuffix(strings.TrimPrefix(f, folder), "/")
			if fault.CheckName(name) != nil {
				k.log().WarnContext(ctx, "a foreign folder in the journal is left alone", "folder", clip(f))
				continue
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (k *Keeper) log() *slog.Logger {
	if k.Log == nil {
		return slog.Default()
	}
	return k.Log
}

// back puts letters back.
func (k *Keeper) back(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error) {
	do := k.Back
	if do == nil {
		do = k.Queue.Return
	}
	got, err := do(ctx, sink, token, over, letters)
	if err == nil && len(got) != len(letters) {
		err = &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("%d answers to %d dead letters that were put back", len(got), len(letters))}
	}
	return got, err
}

// leased calls do under the lease of a sink's journal, which it takes and gives back. The context
// that do gets ends when the call must. save, where do sets it, are notes to keep: they are saved even
// after the context is over.
func (k *Keeper) leased(ctx context.Context, sink string, do func(ctx context.Context, token string, view dlq.JournalView) (save *dlq.JournalNotes, err error)) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	deadline, _ := ctx.Deadline()
	token := rand.Text()
	view, ok, err := k.Queue.JournalLease(ctx, sink, token, time.Until(deadline)+outlives)
	if err != nil {
		return err
	}
	if !ok {
		return dlq.ErrJournalTaken
	}
	save, err := do(ctx, token, view)

	end, stop := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer stop()
	if save != nil {
		err = errors.Join(err, k.Queue.SaveJournal(end, sink, token, *save))
	}
	if _, _, giveBack := k.Queue.JournalLease(end, sink, token, 0); giveBack != nil {
		// It ends by itself.
		k.log().WarnContext(ctx, "the lease of a journal was not given back", "sink", sink, "error", giveBack)
	}
	return err
}

// call bounds one call of the bucket.
func call[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	return do(ctx)
}

// clip bounds a foreign name in a log.
func clip(name string) string {
	const most = 200
	if len(name) > most {
		return name[:most] + "…"
	}
	return name
}

// Report is what a Tick did.
type Report struct {
	// Deleted are objects all of whose dead letters were over.
	Deleted int64
	// Written are dead letters that the journal lacked, and States those whose state it lacked.
	Written, States int64
	// Returned are dead letters that came back from spill/ into the queue, and Spilled those that
	// still wait there: at least so many if SpilledMore is set.
	Returned, Spilled int64
	SpilledMore       bool
	// Full says that those have to wait for room.
	Full bool
	// Compared are dead letters of the journal that were looked for in the queue, Missing those that
	// were not found for the first time, and Healed those that were put back, not found twice.
	Compared, Missing, Healed int64
	// Over are dead letters that were not put back: ended, or canceled.
	Over int64
	// Damaged are objects that could not be read, or not in full; Conflicts are dead letters that
	// cannot be written because something else has their name.
	Damaged, Conflicts int64
	// Lost says that the queue lacks too much to be healed by itself: a restore is needed.
	Lost bool
	// More says that the time was over before all was done.
	More bool
}

// RestoreStep is one bounded step of a restore.
type RestoreStep struct {
	// After is where it goes on: RestoreProgress.After of the step before. Empty: from the beginning.
	After string
	// Since leaves out what was pushed earlier, by the clock of those who pushed. Zero: nothing.
	Since time.Time
	// DryRun counts what a restore would do now, without regard to room.
	DryRun bool
	// Limit bounds the dead letters that are looked at; the objects that it begins, it ends. Zero or negative: 10,000.
	Limit int
}

// RestoreProgress is what one step of a restore did. Counts are of dead letters unless said otherwise.
type RestoreProgress struct {
	// After is where the next step goes on.
	After string
	// Done says that there is nothing more to look at, Full that the next letters have to wait for room.
	Done, Full bool
	// Looked is the sum of Restored, Present, Over and Spilled.
	Looked int64
	// Restored were put back (or would be, in a dry run); Present were there; Over are ended or canceled;
	// Spilled are left to the way back of those that never were in the queue.
	Restored, Present, Over, Spilled int64
	// Damaged are objects that could not be read, or not in full.
	Damaged int64
}

// Audit is a reconciliation of a sink's queue with its journal, letter by letter.
type Audit struct {
	// Letters is every dead letter that the queue or the journal has, each once: Queued, Spilled, Ending and Lost.
	Letters int64
	// Queued are in the queue, Spilled wait in the journal for room in it, and Ending are over: their
	// lines in the journal are to be deleted.
	Queued, Spilled, Ending int64
	// Unjournaled are those of Queued that the journal lacks; ticks write them.
	Unjournaled int64
	// Lost are in the journal for longer than 15 minutes, not over, and the queue has them not, looked
	// at twice: a restore brings them back.
	Lost int64
	// Damaged are objects that could not be read, or not in full.
	Damaged int64
}

// EraseProgress is what one call of Erase did.
type EraseProgress struct {
	// After is where the next call goes on.
	After string
	// Done says that nothing is left.
	Done bool
	// Erased are dead letters removed from the journal, Versions older versions of objects.
	Erased, Versions int64
	// Damaged are objects that could not be read, or not in full: whom they are about is not known.
	Damaged int64
}

// errNotYet is in no release.
var errNotYet = errors.New("not built yet")

// Tick does what is left to do for one sink, as far as the time until ctx's deadline allows: see
// Report. A bucket that fails ends it: what was done is in the report beside the error.
func (k *Keeper) Tick(context.Context, string) (Report, error) { return Report{}, errNotYet }

// Restore puts dead letters of the journal back that the queue lacks, oldest first, whatever their
// number and age. What is there already stays as it is. A step that was interrupted can be repeated.
func (k *Keeper) Restore(context.Context, string, RestoreStep) (RestoreProgress, error) {
	return RestoreProgress{}, errNotYet
}

// Audit compares a sink's queue with its journal, and has ticks write what the journal lacks. Its memory is
// some 8 bytes per dead letter.
func (k *Keeper) Audit(context.Context, string) (Audit, error) { return Audit{}, errNotYet }

// Erase removes the dead letters of a sink from the journal whose recipient (JSON as it was received;
// empty: the sink's default) match says yes to, and then older versions of objects with such ones. It goes on after what an
// earlier call returned; empty: from the beginning. Those in the queue must be gone before.
func (k *Keeper) Erase(context.Context, string, func(recipient json.RawMessage) bool, string) (EraseProgress, error) {
	return EraseProgress{}, errNotYet
}
