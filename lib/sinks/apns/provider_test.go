package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &provider{key: key, keyID: "ABC123DEFG", team: "DEF123GHIJ"}
}

// age returns the current token and its age.
func age(t *testing.T, p *provider) (token string, age time.Duration) {
	t.Helper()
	token, err := p.token()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		At int64 `json:"iat"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return token, time.Since(time.Unix(claims.At, 0))
}

// Whatever is refused when, no token is older than an hour, and none is used for less than 20 minutes.
func TestATokenIsUsedForTwentyMinutesAtLeastAndAnHourAtMost(t *testing.T) {
	for refusal := range 45 { // the minute in which Apple refuses the token
		synctest.Test(t, func(t *testing.T) {
			p := newProvider(t)
			last, _ := age(t, p)
			since := time.Now()
			first := true
			for minute := range 300 {
				token, old := age(t, p)
				if old < 0 || old > 46*time.Minute {
					t.Fatalf("minute %d, refused in %d: a token that is %s old", minute, refusal, old)
				}
				if token != last {
					if used := time.Since(since); used < least && !first {
						t.Errorf("minute %d, refused in %d: the token before was used for %s only", minute, refusal, used)
					}
					last, since, first = token, time.Now(), false
				}
				if minute == 60+refusal {
					// Apple wants another one, however old it is.
					if !p.renew(token) {
						t.Error("renew = false")
					}
					if !p.renew("another one") {
						t.Error("renew = false for a token that was replaced already")
					}
					last, _ = age(t, p)
					since = time.Now()
				}
				time.Sleep(time.Minute)
			}
		})
	}
}

func TestARefusedTokenIsRenewedOnceInTwentyMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		before, _ := age(t, p)
		if !p.renew(before) {
			t.Error("renew = false: another token is worth an attempt")
		}
		fresh, old := age(t, p)
		if fresh == before || old > time.Second {
			t.Errorf("after renew a token that is %s old, another: %v", old, fresh != before)
		}
		if p.renew(fresh) {
			t.Error("renew = true for a token that was renewed just now")
		}
		if again, _ := age(t, p); again != fresh {
			t.Error("the token changed without a renewal")
		}
		time.Sleep(least)
		last, _ := age(t, p)
		if !p.renew(last) {
			t.Error("renew = false after 20 minutes")
		}
	})
}
