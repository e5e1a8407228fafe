package dlq

import (
	"context"
	"strings"
	"time"

	"backstop/lib/fault"
)

// ErrJournal is what a Store with a journal returns, wrapped, when dead letters were to be given
// up and the journal did not take it: nothing was removed, the leases hold still. Its code is
// SINK_DLQ_UNAVAILABLE.
var ErrJournal error = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "the journal cannot be reached; nothing was removed"}

// Identity is what makes two dead letters of a sink the same one.
type Identity struct {
	// PushKey stands for the delivery and its generation: of the first generation 22 characters
	// of base64url, of a later one two of those with a comma in between. Of what others wrote to
	// the queue, which tells none, it is "@" and the native id that it had there.
	PushKey string `json:"push_key"`
	// Content is ContentFingerprint of what was pushed.
	Content string `json:"content"`
}

// Prepare completes an item as a push does: the delivery id, the time and the origin that the
// context tells. Prepared again it stays as it is. INVALID_ARGUMENT for a bad sink.
func Prepare(ctx context.Context, it Item) (Item, error) { return prepare(ctx, it, time.Now()) }

// foreignKey is the push key of a dead letter that others wrote: it tells none.
func foreignKey(native string) string { return nativeAddress(native) }

// nativeAddress is the address of a dead letter that was pushed without one.
func nativeAddress(native string) string { return "@" + native }

// nativeSpelling is the nativeAddress that an address stands for: it says so, or it is the only line of an
// object that is named by a native id, "<x>/<hour>/<native id>-1:0" (package journal). Empty: none.
func nativeSpelling(address string) string {
	native, ok := strings.CutPrefix(address, "@")
	if !ok {
		native, ok = strings.CutSuffix(address[strings.LastIndexByte(address, '/')+1:], "-1:0")
	}
	if id, err := ParseID(native); !ok || err != nil || id.Sink != "" {
		return ""
	}
	return nativeAddress(native)
}

// isAt reports whether address is the entry's, in one spelling or the other.
func (e entry) isAt(address string) bool {
	if e.journal != "" {
		return address == e.journal
	}
	return nativeSpelling(address) == nativeAddress(e.native)
}

// check refuses what can be no identity: it is kept where spaces, colons and bars separate.
func (id Identity) check() error {
	const most = 64
	if !fault.IsMadeOf(id.PushKey, most, fault.Alphanumeric+"-_,@") || !fault.IsMadeOf(id.Content, most, fault.Alphanumeric+"-_?") {
		return invalid("%.80q with %.80q is no identity of a dead letter", id.PushKey, id.Content)
	}
	return nil
}

// identity is the entry's.
func (e entry) identity() Identity {
	id := Identity{PushKey: e.pushKey, Content: e.fingerprint()}
	if id.PushKey == "" {
		id.PushKey = foreignKey(e.native)
	}
	return id
}

// Check returns INVALID_ARGUMENT for a dead letter that Return cannot push: its item, address or
// identity is none.
func (l Letter) Check() error {
	_, err := l.entry(time.Now())
	return err
}

// entry is what Return pushes.
func (l Letter) entry(now time.Time) (entry, error) {
	if err := l.check(); err != nil {
		return entry{}, err
	}
	it, err := complete(l.Item, now)
	if err != nil {
		return entry{}, err
	}
	if it.Journal == "" {
		return entry{}, invalid("a dead letter of delivery %.140q has no address in the journal", it.DeliveryID)
	}
	e, err := newEntry(it, now)
	if err != nil {
		return entry{}, err
	}
	if l.Item.DecodeError != "" {
		e.item = l.Item.Raw // as unreadable as it was
	}
	e.pushKey, e.content = l.PushKey, l.Content
	if e.notBefore != notBeforeExpired {
		e.state.Parked, e.state.Held, e.state.SupersededBy = l.Item.Parked, l.Item.Held || l.Item.SupersededBy != "", l.Item.SupersededBy
	}
	return e, nil
}

// deliveryKeyOf is the key of an entry's delivery, by which its cancellation is noted.
func (e entry) deliveryKeyOf(deliveryID string) string {
	if strings.HasPrefix(e.pushKey, "@") { // see foreignKey
		return firstKey(deliveryID)
	}
	return deliveryKey(e.pushKey)
}

// unjournaled is what the journal lacks of an entry.
func (e entry) unjournaled(state bool) Unjournaled {
	it := e.pushed()
	it.Parked, it.Held, it.SupersededBy, it.Journal = e.state.Parked, e.state.Held, e.state.SupersededBy, e.journal
	if it.Journal == "" {
		it.Journal = nativeAddress(e.native)
	}
	return Unjournaled{Letter: Letter{Item: it, Identity: e.identity()}, State: state}
}

// present is the entry in an answer.
func (e entry) present() Present {
	p := Present{ID: e.id().String(), Identity: e.identity(), Address: e.journal}
	if p.Address == "" {
		p.Address = nativeAddress(e.native)
	}
	return p
}

// stateNote is how the set of unjournaled dead letters says that the state of one is to be
// written: it and its native id.
const stateNote = "s:"

// Bounds of the calls about a journal.
const (
	// unjournaledBytes is how much Unjournaled returns.
	unjournaledBytes = 1 << 20
	// maxRetire is how many entries a call of Retire looks at.
	maxRetire = 1000
)

// IdentityOf returns the identity of a prepared item that is to be pushed.
func IdentityOf(it Item) Identity {
	return Identity{PushKey: pushKey(it.DeliveryID, it.Replays, it.Origin), Content: contentOf(it)}
}

// Journaling is what a queue keeps for a journal of its dead letters (package journal): who works
// on it, what the journal lacks, and which addresses of it are over. A dead letter has an address
// in the journal (Item.Journal) if it was pushed with one; one that others pushed, or that was
// pushed before there was a journal, has "@" and its native id. An address is over when the
// dead letter is: removed, or kept after its delivery.
//
// Dead letters without an address are only noted while the queue is told that there is a journal
// (WithJournal).
type Journaling interface {
	// JournalLease makes token the one who works on a sink's journal for the length of ttl, by
	// the server's clock, and renews its time; false while another's lasts. A ttl <= 0 gives it
	// back. The view is as of now, also where the answer is false.
	JournalLease(ctx context.Context, sink, token string, ttl time.Duration) (JournalView, bool, error)

	// SaveJournal keeps notes of the one who works on the journal. ErrJournalTaken where token
	// holds the lease no longer: nothing was changed then.
	SaveJournal(ctx context.Context, sink, token string, n JournalNotes) error

	// NoteUnjournaled notes that the journal lacks dead letters, by their public ids, which
	// are of one sink. One that is gone, or that the journal has, does no harm.
	NoteUnjournaled(ctx context.Context, sink string, ids []string) error

	// NoteEnded notes that addresses are over that no dead letter has.
	NoteEnded(ctx context.Context, sink string, addresses []string) error

	// Unjournaled returns dead letters that the journal lacks, or whose state it lacks, in no
	// order, at most limit of them and about 1 MB; none only if there are none. What is gone or
	// delivered is forgotten.
	Unjournaled(ctx context.Context, sink string, limit int) ([]Unjournaled, error)

	// Ended returns some addresses that are over, in no order: about limit of them after a
	// cursor ("": the beginning), and the next cursor, "" at the end.
	Ended(ctx context.Context, sink, cursor string, limit int) (addresses []string, next string, err error)

	// AreEnded reports for each address whether it is noted as over.
	AreEnded(ctx context.Context, sink string, addresses []string) ([]bool, error)

	// Journaled notes what the journal has by now. ErrJournalTaken where token holds the lease no
	// longer: nothing was changed then.
	Journaled(ctx context.Context, sink, token string, d JournalDone) error

	// Present returns, for each identity, the dead letter of it that waits, marked as expired or
	// not: its public id and address; zero where there is none.
	Present(ctx context.Context, sink string, of []Identity) ([]Present, error)

	// PresentAfter returns up to limit dead letters, oldest first, after the native id given
	// ("": from the oldest on), and the native id to go on after, "" at the end. Those that are
	// kept after their delivery are left out. The cost does not depend on the bodies' size.
	PresentAfter(ctx context.Context, sink, after string, limit int) (found []Present, next string, err error)

	// Return pushes up to 25 dead letters of a sink again that the journal has. It changes nothing
	// that is there: the same content under the same push key, due or not, is ReturnExists.
	// over is how many more than the cap allows (WithMaxLen), where kept ones do not count, may be
	// stored; nothing is trimmed. INVALID_ARGUMENT where a letter is none (Letter.Check).
	// An unreadable one comes back as unreadable as it was. Repeated after its reply was lost,
	// what was stored exists. ErrJournalTaken where
	// token holds the lease no longer: nothing was changed then. The slice has the length of
	// letters.
	Return(ctx context.Context, sink, token string, over int, letters []Letter) ([]Returned, error)

	// Retire removes dead letters that are not due by themselves, were pushed before the time
	// given, and are not leased: delivered and kept, expired, parked and waiting ones. It looks at
	// no more than 1,000 entries per call; more says that there are others to look at. They
	// are counted (Stats.Retired), and their addresses are over. Each call goes on where the last one
	// stopped; more is false at the end, and the next one begins with the oldest.
	Retire(ctx context.Context, sink string, before time.Time) (retired int64, more bool, err error)
}

// ErrJournalTaken is the answer to one who works on a sink's journal without holding its lease any
// more. Its code is ITEM_LEASED.
var ErrJournalTaken error = &fault.Error{Code: fault.CodeItemLeased, Msg: "another process works on the sink's journal"}

// JournalView is what a queue knows about its journal.
type JournalView struct {
	JournalNotes
	// Known is false where nothing is kept of the sink at all: it never had a dead letter, or
	// it lost them.
	Known bool
	// Unjournaled and Ending count what Unjournaled and Ended return.
	Unjournaled, Ending int64
}

// JournalNotes are what those who work on a sink's journal tell each other. The zero value: nothing.
type JournalNotes struct {
	// Spilled is how many dead letters wait in the journal for room in the queue, as of SpilledAt.
	Spilled   int64     `json:"spilled,omitempty"`
	SpilledAt time.Time `json:"spilled_at,omitzero"`
	// Compared is the last object that was compared with the queue; a comparison begins anew after
	// the last one.
	Compared string `json:"compared,omitempty"`
	// Missing are addresses that the last comparison did not find in the queue, at most 1,000.
	Missing []string `json:"missing,omitempty"`
	// Healed is how many were found missing since a comparison began at the first object.
	Healed int64 `json:"healed,omitempty"`
	// LostAt is when it was found that the queue lacks too much to be healed by itself. Zero: it was
	// not, or it has been restored since.
	LostAt time.Time `json:"lost_at,omitzero"`
	// Ends is where Ended goes on.
	Ends string `json:"ends,omitempty"`
}

// Unjournaled is a dead letter of which the journal lacks something.
type Unjournaled struct {
	// Letter is as it was pushed, with its address, and with Parked, Held and SupersededBy as they are now.
	Letter
	// State says that only Parked, Held and SupersededBy are to be written; else all of it.
	State bool
}

// JournalDone is what the journal has by now.
type JournalDone struct {
	// Ended are addresses whose objects are gone.
	Ended []string
	// Written and States are public ids of dead letters that were written, and whose state was;
	// one whose state has changed since stays noted.
	Written []string
	States  []JournalState
}

// JournalState is the state of a dead letter as it was written.
type JournalState struct {
	ID           string
	Parked, Held bool
	SupersededBy string
}

// Letter is a dead letter with its identity, as a journal has it.
type Letter struct {
	// Item's ID is ignored where it is pushed; Journal is its address. Parked, Held and SupersededBy make
	// it wait there, as they did before.
	Item Item
	Identity
}

// Present is a dead letter that waits in the queue.
type Present struct {
	ID string // public id
	Identity
	// Address is as Item.Journal; empty only in the zero value.
	Address string
}

// ReturnStatus says what Return did with a letter.
type ReturnStatus string

// The statuses.
const (
	ReturnStored   ReturnStatus = "stored"
	ReturnExists   ReturnStatus = "exists"   // it waits there, under this address or another: then this one is over
	ReturnEnded    ReturnStatus = "ended"    // its address is over
	ReturnCanceled ReturnStatus = "canceled" // its delivery is noted as canceled
	ReturnFull     ReturnStatus = "full"     // there is no room
)

// Returned is what Return did with one letter.
type Returned struct {
	Status ReturnStatus
	ID     string // public id, of stored and exists
}
