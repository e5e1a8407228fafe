package mcp

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"sync"
	"time"

	"backstop/lib/fault"
)

const (
	// tokenTime is how long a token is good for.
	tokenTime = 10 * time.Minute
	// tokenMemory is for how long it is known what a token was.
	tokenMemory = time.Hour
	maxTokens   = 1000
)

// change is what a token is for.
type change struct {
	what string // for the person who is asked, and the log
	// begin does it. The same key again does nothing more, and gives the same answer.
	begin func(ctx context.Context, key, reason string) (confirmOut, error)
}

// token names one change, for one session.
type token struct {
	change
	id      string
	session any
	until   time.Time

	mu     sync.Mutex // held while it is confirmed
	state  tokenState
	reason string // of its confirmation
	asked  string // the state of the question that a person is asked; empty: none is
	out    confirmOut
}

type tokenState int

const (
	tokenFresh   tokenState = iota
	tokenBegun              // it was begun, and no answer came: the same change may be asked for again
	tokenDone               // out is what became of it
	tokenStale              // what was seen is not there any more
	tokenRefused            // by a person
)

// tokens are those that were given. The zero value is empty. It is safe for concurrent use.
type tokens struct {
	mu  sync.Mutex
	all []*token // oldest first
}

// random returns 128 random bits.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// give returns a new token for c.
func (t *tokens) give(session any, c change) *token {
	now := time.Now()
	k := &token{change: c, id: random(), session: session, until: now.Add(tokenTime)}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.all) > 0 && (len(t.all) >= maxTokens || now.After(t.all[0].until.Add(tokenMemory))) {
		t.all = t.all[1:]
	}
	t.all = append(t.all, k)
	return k
}

// find returns the session's token of this id.
func (t *tokens) find(session any, id string) (*token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.all {
		if k.id == id && k.session == session {
			return k, nil
		}
	}
	return nil, coded(fault.CodeTokenUnknown, "no preview of this session gave this token; preview again")
}

// usable returns why nothing can be confirmed with the token, and true where it was: then its answer is
// in out. Its lock is held.
func (k *token) usable(reason string) (done bool, err error) {
	switch {
	case k.state == tokenStale:
		return false, coded(fault.CodePreviewStale, "what the preview saw is not there any more, and nothing was done: preview again")
	case k.state == tokenRefused:
		return false, coded(fault.CodeTokenUsed, "a person refused this change, and nothing was done: ask them before you preview it again")
	case (k.state == tokenBegun || k.state == tokenDone) && k.reason != reason:
		return false, coded(fault.CodeTokenUsed, "it was confirmed with another reason, and is good for one change: look at the operations, or preview again")
	case k.state == tokenDone:
		return true, nil
	case !time.Now().Before(k.until):
		if k.state == tokenBegun {
			return false, coded(fault.CodeTokenExpired, "no answer came when it was confirmed: look at the operations before you preview again")
		}
		return false, coded(fault.CodeTokenExpired, "it was good for %s, and nothing was done: preview again", tokenTime)
	}
	return false, nil
}
