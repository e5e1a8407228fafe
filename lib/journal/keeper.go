package journal

import (
	"context"
	"crypto/rand"
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
