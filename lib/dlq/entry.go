package dlq

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"backstop/internal/strictjson"
	"backstop/lib/fault"

	"github.com/google/uuid"
)

// entry is a dead letter as both backends keep it.
type entry struct {
	sink   string
	native string
	size   int    // bytes of the entry and its state
	item   string // the field "item"; meaningless when absent is set
	absent bool   // there is no field "item"
	lazy   bool   // the fields were not read along; size is the payload's
	fresh  bool   // nothing was kept beside it when it was read: no state, lease or time
	other  map[string]string

	pushKey   string
	content   string // ContentFingerprint of what was pushed; empty: pushed by an older version, or written by others
	group     string // empty: counted under FingerprintOther
	groupText string // what group stands for, at a push: fingerprint, line feed, reason
	notBefore string // notBeforeNow, notBeforeNever, or Unix milliseconds (at a push: from now); empty: written by others
	expires   int64  // Item.ExpiresAt, Unix milliseconds, rounded up; 0: none, or written by others
	journal   string // Item.Journal as it was pushed; empty: it has no address of its own
	journaled bool   // the store has a journal: without an address of its own it has one by its native id

	state state
	until time.Time // end of the lease, which may be past; zero: not leased
	due   int64     // when the schedule replays it, Unix milliseconds; 0: fresh, or never
}

// Values of entry.notBefore.
const (
	notBeforeNow   = "0"
	notBeforeNever = "never"
	// notBeforeExpired is said at a push only: never, and marked as expired from then on.
	notBeforeExpired = "expired"
)

// state is what replays have made of an entry. The scripts read and write its JSON.
type state struct {
	Replays     int            `json:"replays,omitempty"` // besides those in the item itself
	Parked      bool           `json:"parked,omitempty"`
	Held        bool           `json:"held,omitempty"`
	Expired     int64          `json:"expired,omitempty"`      // when it was marked, Unix milliseconds
	DeliveredAt int64          `json:"delivered_at,omitempty"` // Unix milliseconds
	Unanswered  int            `json:"unanswered,omitempty"`   // besides those in the item itself
	History     []historyEntry `json:"history,omitempty"`
	Deaths      int            `json:"deaths,omitempty"` // see Item.Deaths
	Begun       string         `json:"begun,omitempty"`  // token of the lease under which a replay began, see Begin
	// SupersededBy is Item.SupersededBy, SupersededAs Item.SupersededAs: push key, colon, content.
	SupersededBy string `json:"superseded_by,omitempty"`
	SupersededAs string `json:"superseded_as,omitempty"`
}

type historyEntry struct {
	At    int64  `json:"at"`
	Error string `json:"error,omitempty"`
}

// maxErrorText bounds an error text in the history, in bytes.
const maxErrorText = 1024

// forget clears the fields that are the store's.
func (it *Item) forget() {
	it.NextReplayAt, it.LeasedUntil, it.Parked, it.Held, it.History = time.Time{}, time.Time{}, false, false, nil
	it.ExpiredAt, it.DeliveredAt = time.Time{}, time.Time{}
	it.SupersededBy, it.SupersededAs = "", Identity{}
	it.Raw, it.DecodeError, it.Spilled = "", "", false
}

// prepare completes an item for its push.
func prepare(ctx context.Context, it Item, now time.Time) (Item, error) {
	if o, ok := OriginFrom(ctx); ok {
		o.link(&it)
	}
	return complete(it, now)
}

// complete is prepare without what the context tells.
func complete(it Item, now time.Time) (Item, error) {
	if err := fault.CheckName(it.Sink); err != nil {
		return it, err
	}
	if it.Journal != "" && !isAddress(it.Journal) {
		return it, invalid("address %.220q of a journal does not match %s", it.Journal, addressForm)
	}
	it.ID = ""
	it.forget()
	if it.At.IsZero() {
		it.At = now.Truncate(time.Millisecond)
	}
	it.At = it.At.UTC()
	if !it.ExpiresAt.IsZero() {
		it.ExpiresAt = it.ExpiresAt.UTC()
	}
	if it.DeliveryID == "" {
		it.DeliveryID = it.Message.ID
	}
	if it.DeliveryID == "" {
		it.DeliveryID = uuid.Must(uuid.NewV7()).String()
	}
	if len(it.Recipient) > 0 && !json.Valid(it.Recipient) {
		// What a caller sent as a recipient must not keep its message from being stored.
		b, err := json.Marshal(string(it.Recipient))
		if err != nil {
			return it, err
		}
		it.Recipient = b
	}
	return it, nil
}

// newEntry encodes a prepared item; everything but the native id and when it is due. now
// is the clock that the item's NotBefore was told by: the queue's own may differ, and waits
// as long.
func newEntry(it Item, now time.Time) (entry, error) {
	b, err := encodeJSON(it)
	if err != nil {
		return entry{}, invalid("item cannot be encoded: %v", err)
	}
	fp := fingerprints.of(it.LastError)
	e := entry{
		sink:      it.Sink,
		item:      string(b),
		pushKey:   pushKey(it.DeliveryID, it.Replays, it.Origin),
		content:   contentOf(it),
		group:     groupID(it.Reason, fp),
		groupText: fp + "\n" + string(it.Reason),
		notBefore: notBeforeNow,
		journal:   it.Journal,
	}
	if !it.ExpiresAt.IsZero() {
		e.expires = max(ceilUnix(it.ExpiresAt), 1) // not over here before it is for the item
	}
	switch {
	case it.Reason == ReasonExpired:
		e.notBefore = notBeforeExpired
	case !it.Reason.Due():
		e.notBefore = notBeforeNever
	case it.NotBefore.After(it.At):
		e.notBefore = strconv.FormatInt(ceilMilliseconds(it.NotBefore.Sub(now)), 10)
		if e.notBefore == notBeforeNow {
			e.notBefore = "-1"
		}
	}
	return e, nil
}

// setNotBefore takes what is stored as not-before.
func (e *entry) setNotBefore(n string) { e.notBefore, e.due = n, number(n) }

// ceilUnix is t in Unix milliseconds, rounded up.
func ceilUnix(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// ceilMilliseconds rounds up: what must not come too early.
func ceilMilliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// groupID names a group within its sink.
func groupID(r Reason, fingerprint string) string { return hash(6, string(r), fingerprint) }

func hash(n int, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p)) + ":" + p))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:n])
}

// encodeJSON encodes without HTML escaping, which would double the size of HTML bodies.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// stored returns a pushed item as its entry will be decoded.
func (e entry) stored(it Item) Item {
	it.ID = e.id().String()
	it.Journal = e.address()
	it.NextReplayAt = e.nextReplayAt(it)
	return it
}

// address is the entry's Item.Journal.
func (e entry) address() string {
	if e.journal == "" && e.journaled {
		return nativeAddress(e.native)
	}
	return e.journal
}

// nextReplayAt is when the schedule replays the entry, zero for now or never. A not-before
// that still holds is shown as it was pushed, by the clock of whoever pushed.
func (e entry) nextReplayAt(it Item) time.Time {
	switch {
	case e.due <= e.pushedAt().UnixMilli():
		return time.Time{}
	case e.notBefore == strconv.FormatInt(e.due, 10) && !it.NotBefore.IsZero():
		return it.NotBefore.UTC().Truncate(time.Millisecond)
	}
	return time.UnixMilli(e.due).UTC()
}

func (e entry) id() ID { return ID{Sink: e.sink, Native: e.native} }

func (e entry) pushedAt() time.Time {
	ms, _ := splitNative(e.native)
	return time.UnixMilli(int64(ms)).UTC()
}

// decode returns the entry as an Item.
func (e entry) decode() Item { return e.withState(e.pushed()) }

// pushed returns the entry as it was pushed. One that cannot be read comes with Raw and
// DecodeError; nothing is ever skipped.
func (e entry) pushed() Item {
	it, err := e.decodeItem()
	if err != nil {
		raw := e.item
		if e.absent {
			b, encErr := encodeJSON(e.other)
			if encErr != nil {
				b = []byte(encErr.Error())
			}
			raw = string(b)
		}
		it = Item{Raw: raw, DecodeError: err.Error()}
	}
	it.ID, it.Sink, it.Journal = e.id().String(), e.sink, e.address()
	if it.At.IsZero() {
		it.At = e.pushedAt()
	}
	if it.DeliveryID == "" {
		it.DeliveryID = it.Message.ID
	}
	return it
}

// withState adds to a pushed item what replays have made of it.
func (e entry) withState(it Item) Item {
	it.Replays += e.state.Replays
	it.Unanswered += e.state.Unanswered
	it.Deaths = e.state.Deaths
	it.Parked, it.Held, it.LeasedUntil = e.state.Parked, e.state.Held, e.until
	it.SupersededBy = e.state.SupersededBy
	it.SupersededAs.PushKey, it.SupersededAs.Content, _ = strings.Cut(e.state.SupersededAs, ":")
	if e.state.Expired > 0 {
		it.ExpiredAt = time.UnixMilli(e.state.Expired).UTC()
	}
	if e.state.DeliveredAt > 0 {
		it.DeliveredAt = time.UnixMilli(e.state.DeliveredAt).UTC()
	}
	for _, h := range e.state.History {
		it.History = append(it.History, ReplayRecord{At: time.UnixMilli(h.At).UTC(), Error: h.Error})
	}
	it.NextReplayAt = e.nextReplayAt(it)
	return it
}

// decodeItem reads the field "item": strictly, as this version writes it, which takes a third of the time; and anything
// else leniently. Then keys are matched without regard to case, so that what others wrote from untagged Go structs is read
// too, and faults are reported in encoding/json's words.
func (e entry) decodeItem() (Item, error) {
	if e.absent {
		return Item{}, errors.New("the entry has no field item")
	}
	var it Item
	if text := []byte(e.item); strictjson.Decode(text, &it) != nil {
		it = Item{}
		if err := json.Unmarshal(text, &it); err != nil {
			return Item{}, err
		}
	}
	if m := it.Message; it.LastError == "" || m.ID == "" && m.Subject == "" && m.Body == "" && m.Metadata == nil {
		// Ours have both; looking for them takes as long again.
		if err := e.lookAgain(&it); err != nil {
			return Item{}, err
		}
	}
	// Mutable fields are the store's, whatever the entry says.
	it.forget()
	return it, nil
}

// lookAgain finds out what an Item does not tell: whether there is a message at all, and
// last_error as an untagged Go field.
func (e entry) lookAgain(it *Item) error {
	var w struct {
		Message   *json.RawMessage `json:"message"`
		LastError *string          `json:"LastError"`
	}
	if err := json.Unmarshal([]byte(e.item), &w); err != nil {
		return err
	}
	if w.Message == nil {
		return errors.New("the item has no message")
	}
	if it.LastError == "" && w.LastError != nil {
		it.LastError = *w.LastError
	}
	return nil
}

// setFields takes the fields of a stream entry.
func (e *entry) setFields(fields map[string]string) {
	var ok bool
	e.item, ok = fields["item"]
	e.absent = !ok
	if e.absent {
		e.other = maps.Clone(fields)
	}
	e.pushKey, e.content, e.group, e.notBefore = fields["k"], fields["f"], fields["g"], fields["n"]
	e.expires = number(fields["x"])
	if j := fields["j"]; isAddress(j) {
		e.journal = j
	}
}
