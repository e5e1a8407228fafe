// Package kept says what a journal's Keeper did: what package journal answers, without what a journal on S3
// is linked with. Start in package journal; who drives a Keeper names these.
package kept

import "time"

// Report is what a Tick did.
type Report struct {
	// Deleted are objects all of whose dead letters were over.
	Deleted int64
	// Written are dead letters that the journal lacked, and States those whose state it lacked.
	Written, States int64
	// Returned are dead letters that came back from spill/ into the queue. Spilled is how many still
	// wait there; at least so many where SpilledMore is set.
	Returned, Spilled int64
	SpilledMore       bool
	// Full says that they wait for room in the queue.
	Full bool
	// Compared are dead letters of the journal that were looked for in the queue, Missing those that
	// were not found for the first time, and Healed those that were put back, not found twice.
	Compared, Missing, Healed int64
	// Over are dead letters that were not put back: ended, or canceled.
	Over int64
	// Damaged are objects that could not be read, or not in full. Conflicts are dead letters that
	// cannot be written because another has their name.
	Damaged, Conflicts int64
	// Lost says that the queue lacks more than is healed by itself: a restore is needed.
	Lost bool
	// More says that the time was over before all was done.
	More bool
}

// RestoreStep is one bounded step of a restore.
type RestoreStep struct {
	// After is where it goes on: RestoreProgress.After of the step before. Empty: from the beginning.
	After string
	// Since leaves out what was pushed earlier, by the clock of who pushed it. Zero: nothing.
	Since time.Time
	// DryRun counts what a restore would do now, without regard to room.
	DryRun bool
	// Limit is how many dead letters are looked at; an object that was begun is ended. Zero or negative: 10,000.
	Limit int
}

// RestoreProgress is what one step of a restore did.
type RestoreProgress struct {
	// After is where the next step goes on.
	After string
	// Done says that there is nothing more to look at, Full that the next dead letter waits for room.
	Done, Full bool
	// Looked is how many dead letters were looked at, the sum of the following: Restored were put
	// back (or would be, in a dry run), Present are there, Over are ended or canceled, and Spilled are
	// left to ticks, which bring back what waits in spill/.
	Looked, Restored, Present, Over, Spilled int64
	// Damaged are objects that could not be read, or not in full.
	Damaged int64
}

// Audit is a reconciliation of a sink's queue with its journal, letter by letter.
type Audit struct {
	// Letters are the dead letters that the queue or the journal has, each once: the sum of Queued, Spilled, Ending
	// and Lost.
	Letters int64
	// Queued wait in the queue, Spilled in the journal for room there; Ending are over, and their
	// lines in the journal are still to be deleted.
	Queued, Spilled, Ending int64
	// Unjournaled are those of Queued that the journal lacks. Ticks write them.
	Unjournaled int64
	// Lost are in the journal for more than 15 minutes and not over, and the queue lacks them, looked
	// at twice. A restore brings them back.
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
	// Erased are dead letters that were removed, each once for open/ and once for spill/; Versions are
	// older versions of objects that were.
	Erased, Versions int64
	// Damaged are objects that could not be read, or not in full: whom the rest of them is about, nobody can tell.
	Damaged int64
}
