package dlq

import (
	"slices"
	"time"

	"backstop/lib/fault"

	"github.com/google/uuid"
)

// What both backends refuse, and how they complete what they are given.

// maxClaim is the most due items of one claim.
const maxClaim = 50

// checkClaim completes a claim.
func checkClaim(c Claim) (Claim, []string, error) {
	if err := fault.CheckName(c.Sink); err != nil {
		return c, nil, err
	}
	if c.TTL < time.Millisecond {
		return c, nil, invalid("claim: the lease's length %s is below 1ms", c.TTL)
	}
	if c.Token == "" {
		c.Token = uuid.NewString()
	}
	if !isOpaque(c.Token) {
		return c, nil, invalid("claim: token %.80q does not match %s", c.Token, opaqueForm)
	}
	if c.Expired && len(c.IDs) > 0 {
		return c, nil, invalid("claim: ids and expired exclude each other")
	}
	if c.Quiet && len(c.IDs) == 0 {
		return c, nil, invalid("claim: quiet needs ids")
	}
	if len(c.IDs) > maxPage {
		return c, nil, invalid("claim: %d ids are more than %d", len(c.IDs), maxPage)
	}
	switch {
	case c.Limit <= 0:
		c.Limit = max(1, len(c.IDs))
	case len(c.IDs) == 0:
		c.Limit = min(c.Limit, maxClaim)
	}
	natives := make([]string, 0, len(c.IDs))
	for _, s := range c.IDs {
		id, err := ParseID(s)
		if err != nil {
			return c, nil, err
		}
		if id.Sink != "" && id.Sink != c.Sink {
			return c, nil, invalid("claim: item %s is not of sink %s", id, c.Sink)
		}
		if !slices.Contains(natives, id.Native) {
			natives = append(natives, id.Native)
		}
	}
	return c, natives, nil
}

// maxDelivery is the most dead letters of one DeliveryClaim.
const maxDelivery = 1000

// checkDelivery refuses what names no delivery.
func checkDelivery(sink, deliveryID string) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	if deliveryID == "" {
		return invalid("a delivery of sink %s without an id", sink)
	}
	return nil
}

// checkDeliveryClaim completes a claim of a delivery.
func checkDeliveryClaim(c DeliveryClaim) (DeliveryClaim, error) {
	if err := checkDelivery(c.Sink, c.DeliveryID); err != nil {
		return c, err
	}
	of, _, err := checkClaim(Claim{Sink: c.Sink, Token: c.Token, TTL: c.TTL})
	c.Token = of.Token
	return c, err
}

func manyError(sink, deliveryID string) error {
	return invalid("delivery %.140q has more than %d dead letters in sink %s", deliveryID, maxDelivery, sink)
}

// checkSettlements refuses settlements that no store can apply.
func checkSettlements(s []Settlement) ([]ID, error) {
	ids := make([]ID, len(s))
	for i, st := range s {
		id, err := checkLease(st.Lease)
		if err != nil {
			return nil, err
		}
		ids[i] = id
		switch st.Action {
		case ActionDiscard, ActionDrop, ActionKeep, ActionRetry, ActionPark, ActionHold, ActionExpire:
		default:
			return nil, invalid("settle: unknown action %.40q", st.Action)
		}
		if st.Operation != "" && !isOpaque(st.Operation) {
			return nil, invalid("settle: operation %.80q does not match %s", st.Operation, opaqueForm)
		}
	}
	return ids, nil
}

func checkLease(l Lease) (ID, error) {
	id, err := ParseID(l.ID)
	if err != nil {
		return id, err
	}
	if id.Sink == "" || !isOpaque(l.Token) {
		return id, invalid("lease of item %.100q with token %.80q was not given by a claim", l.ID, l.Token)
	}
	return id, nil
}

// checkGate refuses what no gate can be taken with.
func checkGate(sink, token string, ttl time.Duration) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	if !isOpaque(token) {
		return invalid("gate: token %.80q does not match %s", token, opaqueForm)
	}
	if ttl < time.Millisecond {
		return invalid("gate: the time %s is below 1ms", ttl)
	}
	return nil
}

// maxAddress is the length of the longest address in a journal, in bytes.
const maxAddress = 200

// addressForm is the form of an address, as errors show it.
const addressForm = `^[!-~]{1,200}$ without a comma and a bar`

// isAddress reports whether s can be the address of a dead letter in a journal. The records of
// leases separate it by bars, other lists by spaces.
func isAddress(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ',' || s[i] == '|' {
			return false
		}
	}
	return s != "" && len(s) <= maxAddress
}

func checkAddresses(addresses []string) error {
	for _, a := range addresses {
		if !isAddress(a) {
			return invalid("address %.220q of a journal does not match %s", a, addressForm)
		}
	}
	return nil
}

// checkNatives returns the native ids of dead letters of a sink.
func checkNatives(sink string, ids []string) ([]string, error) {
	natives := make([]string, len(ids))
	for i, s := range ids {
		id, err := ParseID(s)
		if err != nil {
			return nil, err
		}
		if id.Sink != sink {
			return nil, invalid("item %.140s is not of sink %s", s, sink)
		}
		natives[i] = id.Native
	}
	return natives, nil
}

// checkJournal refuses what names no one who works on a journal.
func checkJournal(sink, token string) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	if !isOpaque(token) {
		return invalid("journal: token %.80q does not match %s", token, opaqueForm)
	}
	return nil
}

// checkDone returns the native ids of what the journal has by now.
func checkDone(sink, token string, d JournalDone) (written, states []string, err error) {
	if err := checkJournal(sink, token); err != nil {
		return nil, nil, err
	}
	if err := checkAddresses(d.Ended); err != nil {
		return nil, nil, err
	}
	if written, err = checkNatives(sink, d.Written); err != nil {
		return nil, nil, err
	}
	ids := make([]string, len(d.States))
	for i, st := range d.States {
		ids[i] = st.ID
	}
	states, err = checkNatives(sink, ids)
	return written, states, err
}

// maxIdentities is the most identities of one Present.
const maxIdentities = 1000

func checkIdentities(sink string, of []Identity) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	if len(of) > maxIdentities {
		return invalid("present: %d identities are more than %d", len(of), maxIdentities)
	}
	for _, id := range of {
		if err := id.check(); err != nil {
			return err
		}
	}
	return nil
}

// checkAfter completes where PresentAfter goes on, and its limit.
func checkAfter(sink, after string, limit int) (string, int, error) {
	if err := fault.CheckName(sink); err != nil {
		return "", 0, err
	}
	if after == "" {
		after = "0-0"
	}
	if id, err := ParseID(after); err != nil || id.Sink != "" {
		return "", 0, invalid("%.100q is no native id", after)
	}
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	return after, limit, nil
}

// maxReturn is the most dead letters of one Return.
const maxReturn = 25

// checkReturn returns the entries of letters that are to be pushed again.
func checkReturn(sink, token string, letters []Letter, now time.Time) ([]entry, error) {
	if err := checkJournal(sink, token); err != nil {
		return nil, err
	}
	if len(letters) > maxReturn {
		return nil, invalid("return: %d dead letters are more than %d", len(letters), maxReturn)
	}
	entries := make([]entry, len(letters))
	for i, l := range letters {
		if l.Item.Sink != sink {
			return nil, invalid("return: dead letter %d is of sink %.80q, not of %s", i, l.Item.Sink, sink)
		}
		e, err := l.entry(now)
		if err != nil {
			return nil, err
		}
		entries[i] = e
	}
	return entries, nil
}

func checkProgress(operation, sink string) error {
	if !isOpaque(operation) {
		return invalid("operation %.80q does not match %s", operation, opaqueForm)
	}
	return fault.CheckName(sink)
}
