package journal_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"backstop/lib/dlq"
	"backstop/lib/journal"
)

// huge is a bucket with an older version of some object that is too large to be read.
type huge struct{ *shelf }

func (huge) Purge(context.Context, string, string, func(string, []byte) bool) (int, string, error) {
	return 2, "", journal.ErrTooLarge
}

// A version that nobody can read does not keep an erasure from its end: it is counted as damaged.
func TestAnErasureEndsThoughAVersionIsTooLarge(t *testing.T) {
	k := journal.Keeper{Queue: dlq.NewMemory(dlq.WithJournal()), Bucket: huge{newShelf()}, Log: slog.New(slog.DiscardHandler)}
	p, err := k.Erase(t.Context(), "ops", func(json.RawMessage) bool { return true }, "")
	if err != nil || !p.Done || p.Damaged != 2 || p.Versions != 4 { // of open/ and of spill/
		t.Errorf("%+v, %v", p, err)
	}
}
