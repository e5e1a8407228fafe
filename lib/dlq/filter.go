package dlq

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// filter decides which entries a Query selects. Bounds by id (time, UpTo) are applied
// before, by the range that is read.
type filter struct {
	q      Query
	now    time.Time
	group  string   // id of the group asked for; empty: not known
	needle string   // Query.Q in lower case, as it appears in JSON
	must   [][]byte // what the JSON of every matching entry of ours contains
}

func newFilter(q Query) (filter, error) {
	f := filter{q: q, now: time.Now()}
	quoted := func(s string) (string, error) {
		b, err := encodeJSON(s)
		return string(b), err
	}
	if q.Q != "" {
		s, err := quoted(strings.ToLower(strings.ToValidUTF8(q.Q, "\uFFFD")))
		if err != nil {
			return f, err
		}
		f.needle = s[1 : len(s)-1]
	}
	if q.DeliveryID != "" {
		s, err := quoted(q.DeliveryID)
		if err != nil {
			return f, err
		}
		f.must = append(f.must, []byte(`"delivery_id":`+s))
	}
	for name, value := range q.Meta {
		pair, err := encodeJSON(map[string]string{name: value})
		if err != nil {
			return f, err
		}
		if !bytes.ContainsRune(pair, utf8.RuneError) { // see possible
			f.must = append(f.must, pair[1:len(pair)-1])
		}
	}
	if q.Reason != "" {
		s, err := quoted(string(q.Reason))
		if err != nil {
			return f, err
		}
		f.must = append(f.must, []byte(`"reason":`+s))
		if q.Fingerprint != "" && q.Fingerprint != FingerprintOther {
			f.group = groupID(q.Reason, q.Fingerprint)
		}
	}
	return f, nil
}

// active reports whether the filter can leave anything out.
func (f filter) active() bool {
	return f.q.State != "" || f.q.Reason != "" || f.q.DeliveryID != "" || f.q.Q != "" || f.q.Fingerprint != "" || len(f.q.Meta) > 0
}

// apply returns an entry as it was pushed, unless it cannot match, and says whether it
// does.
func (f filter) apply(e entry) (it Item, hit bool) {
	if !f.possible(e) {
		return Item{}, false
	}
	it = e.pushed()
	hit = f.match(e, it)
	if hit && f.q.State != "" {
		hit = e.withState(it).State(f.now) == f.q.State
	}
	return it, hit
}

// isOther reports whether an entry is counted under FingerprintOther.
func (f filter) isOther(e entry) bool { return e.group == "" || f.q.beyond[[2]string{e.sink, e.group}] }

// possible is the cheap test before decoding: false only for entries that do not match.
// What others wrote may be spelled differently and passes.
func (f filter) possible(e entry) bool {
	if f.q.Fingerprint == FingerprintOther && !f.isOther(e) {
		return false
	}
	if f.group != "" && e.group != "" && e.group != f.group {
		return false
	}
	if e.notBefore == "" {
		return true
	}
	for _, m := range f.must {
		if !strings.Contains(e.item, string(m)) {
			return false
		}
	}
	// What was no UTF-8 stands as an escape in the entry, and as U+FFFD once decoded.
	return f.needle == "" || strings.ContainsRune(f.needle, utf8.RuneError) || strings.Contains(strings.ToLower(e.item), f.needle)
}

// match is the exact test.
func (f filter) match(e entry, it Item) bool {
	q := f.q
	if q.Reason != "" && it.Reason != q.Reason || q.DeliveryID != "" && it.DeliveryID != q.DeliveryID {
		return false
	}
	for name, value := range q.Meta {
		if has, ok := it.Message.Metadata[name]; !ok || has != value {
			return false
		}
	}
	switch q.Fingerprint {
	case "":
	case FingerprintOther:
		if !f.isOther(e) {
			return false
		}
	default:
		if Fingerprint(it.LastError) != q.Fingerprint {
			return false
		}
	}
	if q.Q == "" {
		return true
	}
	plain := strings.ToLower(strings.ToValidUTF8(q.Q, "\uFFFD"))
	texts := []string{it.Message.Subject, it.Message.Body, it.DeliveryID, it.LastError, it.Raw}
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(strings.ToLower(s), plain) }) ||
		bytes.Contains(bytes.ToLower(it.Recipient), []byte(f.needle))
}
