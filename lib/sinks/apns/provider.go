package apns

import (
	"crypto/ecdsa"
	"sync"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/tokens"
)

// APNs refuses a token that is older than an hour, and one that changes more often than every 20
// minutes
// (https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns,
// read 2026-11-27).
const (
	// period is how long a token is used.
	period = 40 * time.Minute
	// seasoning is how old a token is when it is used first: a clock may be ahead by as much, and
	// behind by 15 minutes.
	seasoning = 5 * time.Minute
	// least is the shortest time between two tokens.
	least = 20 * time.Minute
)

// provider signs the tokens that show APNs who sends. Every process of the same time has the same
// one, without asking anybody: it says that it was issued at the beginning of a period, and its
// signature is deterministic. So the number of processes does not change tokens too often.
type provider struct {
	key         *ecdsa.PrivateKey
	keyID, team string

	mu     sync.Mutex
	issued time.Time // of signed
	signed string
	forced time.Time // when a token of this very time was asked for
}

// token returns the current token.
func (p *provider) token() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	issued := now.Add(-seasoning).Truncate(period)
	if issued.Before(p.forced) || now.Sub(p.forced) < least {
		issued = p.forced
	}
	if p.signed != "" && issued.Equal(p.issued) {
		return p.signed, nil
	}
	signed, err := tokens.SignES256(p.key, p.keyID, map[string]any{"iss": p.team, "iat": issued.Unix()})
	if err != nil {
		return "", sinks.Terminal(&sinks.Error{Code: sinks.CodeInternal, Msg: "the provider's token cannot be signed"})
	}
	p.issued, p.signed = issued, signed
	return signed, nil
}

// renew has the next attempt use a token of this very time, since APNs finds the given one too old:
// this process's clock is behind. It reports whether there will be another token, which is so once
// in 20 minutes.
func (p *provider) renew(refused string) (again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if refused != p.signed {
		return true
	}
	now := time.Now()
	if !p.forced.IsZero() && now.Sub(p.forced) < least {
		return false
	}
	p.forced = now.Truncate(time.Second)
	return true
}
