package dlq

import (
	"context"
	"strings"
	"time"

	"backstop/lib/fault"
)

// Successions let a dead letter take the place of another, of the same delivery: with another message
// or recipient, or in another sink. At most one of the two is ever sent but by force.
type Successions interface {
	// Supersede stores a dead letter, leases it under the token of the superseded one's lease, and makes
	// that one wait, superseded by it (Item.SupersededBy); its lease is over then. In one queue that is
	// one step: all or nothing. To another sink it is three: the superseded one waits first, and says for
	// which sink and with which content, its lease lasting; then the other is pushed; then its id is
	// noted. Each can be repeated under the lease, as the whole can.
	//
	// The new one is stored beyond the cap of a queue that trims, and trims nothing; the next push does.
	// Of an answer without a token, another leases it by now.
	//
	// Errors: ITEM_LEASED where the lease is held no longer; ErrSuperseded where another dead letter
	// supersedes it; SINK_DLQ_OVERFLOW; INVALID_ARGUMENT where By's origin is not the leased item, or it
	// is not of its delivery.
	Supersede(ctx context.Context, s Succession) (Leased, error)

	// NoteSuperseded notes that by supersedes the item of its Origin, in another sink, unless that is
	// gone or noted: whoever is about to send by asks before. False where another does, somebody replays
	// it, or it was delivered: then by must not be sent.
	NoteSuperseded(ctx context.Context, by Item) (bool, error)
}

// Succession is a dead letter that is to take the place of another.
type Succession struct {
	// Lease is the superseded one's.
	Lease
	// By is a prepared item (Prepare): what supersedes it.
	By Item
	// TTL is the length of the new one's lease; it must be positive.
	TTL time.Duration
}

// ErrSuperseded is what Supersede returns for a dead letter that another supersedes already. Its code is
// INVALID_ARGUMENT.
var ErrSuperseded error = &fault.Error{Code: fault.CodeInvalidArgument, Msg: "another dead letter supersedes it"}

// Heir returns the public id of the dead letter that supersedes the item; empty: there is none, or its id
// is not noted (see Item.SupersededBy).
func (it Item) Heir() string {
	if strings.Contains(it.SupersededBy, "~") {
		return it.SupersededBy
	}
	return ""
}

// succession is a checked Succession.
type succession struct {
	former ID
	item   Item
	entry  entry
}

func (s succession) same() bool { return s.former.Sink == s.item.Sink }

// as is how the superseded one notes the identity of what supersedes it.
func (s succession) as() string { return s.entry.pushKey + ":" + s.entry.content }

func checkSuccession(s Succession, now time.Time) (succession, error) {
	former, err := checkLease(s.Lease)
	if err != nil {
		return succession{}, err
	}
	if s.TTL < time.Millisecond {
		return succession{}, invalid("supersede: the lease's length %s is below 1ms", s.TTL)
	}
	it, err := complete(s.By, now)
	if err != nil {
		return succession{}, err
	}
	if it.Origin != former.String() {
		return succession{}, invalid("supersede: the origin is %.140q, not the item %s", it.Origin, former)
	}
	e, err := newEntry(it, now)
	return succession{former: former, item: it, entry: e}, err
}

// checkHeir returns where the superseded one is that by is the heir of.
func checkHeir(by Item) (former, heir ID, err error) {
	if former, err = ParseID(by.Origin); err == nil {
		heir, err = ParseID(by.ID)
	}
	if err == nil && (former.Sink == "" || heir.Sink == "" || former.Sink == heir.Sink) {
		err = invalid("item %.140q supersedes none of another sink", by.ID)
	}
	return former, heir, err
}

func supersededError(former ID, by string) error {
	text := "item " + former.String() + " is superseded"
	if by != "" {
		text += " by " + by
	}
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: text, Cause: ErrSuperseded}
}

// Finisher is what FinishSuperseding needs; every Store has it.
type Finisher interface {
	Present(ctx context.Context, sink string, of []Identity) ([]Present, error)
	Get(ctx context.Context, id string) (Item, error)
	NoteSuperseded(ctx context.Context, by Item) (bool, error)
}

// FinishSuperseding returns the public id of the dead letter that supersedes an item. Where whoever made it
// died before its id was noted, it looks for it, and notes it. Empty: there is none.
func FinishSuperseding(ctx context.Context, s Finisher, it Item) (string, error) {
	if it.SupersededBy == "" || it.Heir() != "" || it.SupersededAs == (Identity{}) {
		return it.Heir(), nil
	}
	found, err := s.Present(ctx, it.SupersededBy, []Identity{it.SupersededAs})
	if err != nil || len(found) == 0 || found[0].ID == "" {
		return "", err
	}
	by, err := s.Get(ctx, found[0].ID)
	switch {
	case fault.CodeOf(err) == fault.CodeDLQNotFound:
		return "", nil
	case err != nil:
		return "", err
	}
	_, err = s.NoteSuperseded(ctx, by)
	return by.ID, err
}
