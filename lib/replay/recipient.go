package replay

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"unicode"
)

// HashedRecipient stands for whose dead letters an erasure removes, without telling it: a keyed hash
// (HMAC-SHA-256) of the address, and its key, which is random and this operation's alone. Who has
// both can only try addresses that he knows; once they are forgotten, not even that.
type HashedRecipient struct {
	Key  []byte `json:"key"`
	Hash []byte `json:"hash"`
}

// hashRecipient hashes an address under a key of its own.
func hashRecipient(address string) *HashedRecipient {
	r := &HashedRecipient{Key: make([]byte, sha256.Size)}
	_, _ = rand.Read(r.Key) // it does not fail (Go 1.24)
	r.Hash = r.hash(address)
	return r
}

func (r *HashedRecipient) hash(address string) []byte {
	h := hmac.New(sha256.New, r.Key)
	h.Write([]byte(folded(address)))
	return h.Sum(nil)
}

// is reports whether an address is the recipient's.
func (r *HashedRecipient) is(address string) bool { return hmac.Equal(r.hash(address), r.Hash) }

// folded is an address without the space around it and without regard to case, as
// strings.EqualFold compares: of the characters that differ in case alone, the first.
func folded(address string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, strings.TrimSpace(address))
}

// has reports whether any text in a recipient, as it is stored, is the address: a value, however
// deep, not the name of a member. What is no JSON is one text as a whole.
func (r *HashedRecipient) has(recipient json.RawMessage) bool {
	if len(recipient) == 0 {
		return false
	}
	var v any
	if json.Unmarshal(recipient, &v) != nil {
		v = string(recipient)
	}
	return r.within(v)
}

func (r *HashedRecipient) within(v any) bool {
	switch v := v.(type) {
	case string:
		return r.is(v)
	case []any:
		for _, part := range v {
			if r.within(part) {
				return true
			}
		}
	case map[string]any:
		for _, part := range v {
			if r.within(part) {
				return true
			}
		}
	}
	return false
}
