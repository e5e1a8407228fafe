package webpush

import (
	"fmt"
	"testing"
	"time"

	"backstop/lib/sinks"
)

const (
	testPublic  = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
	testPrivate = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
)

func signer(t *testing.T) *vapid {
	t.Helper()
	return newVAPID(Config{VAPIDPublicKey: testPublic, VAPIDPrivateKey: sinks.Secret(testPrivate), Subscriber: "mailto:ops@example.org"}, func(key, msg string) {
		t.Fatalf("%s: %s", key, msg)
	})
}

// One token serves a push service for hours: signing costs more than all the rest, and push services
// know a token again.
func TestTokensAreKeptPerPushService(t *testing.T) {
	v := signer(t)
	start := time.Unix(1_800_000_000, 0)
	get := func(origin string, at time.Duration) string {
		t.Helper()
		header, err := v.authorization(origin, start.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		return header
	}
	const one, other = "https://fcm.googleapis.com", "https://web.push.apple.com"
	first := get(one, 0)
	if get(one, tokenLife-tokenRest-time.Second) != first {
		t.Error("a token with more than half of its life left is not used again")
	}
	if get(other, 0) == first {
		t.Error("two push services get the same token")
	}
	if get(one, tokenLife-tokenRest) == first {
		t.Error("a token with half of its life left is used again")
	}
	// The clock is set back: what was signed meanwhile is good for longer than a push service
	// may allow.
	later := get(one, 48*time.Hour)
	if get(one, 0) == later {
		t.Error("a token from ahead is used again")
	}
}

func TestTokensOfManyOriginsAreForgotten(t *testing.T) {
	v := signer(t)
	for i := range 2*maxTokens + 1 {
		if _, err := v.authorization(fmt.Sprintf("https://push-%d.example.org", i), time.Unix(1_800_000_000, 0)); err != nil {
			t.Fatal(err)
		}
		if len(v.tokens) > maxTokens {
			t.Fatalf("%d tokens are kept after %d push services, want %d at most", len(v.tokens), i+1, maxTokens)
		}
	}
}

func TestTimeToLiveIsWhatIsLeft(t *testing.T) {
	now := time.Unix(1_800_000_000, 500_000_000)
	for _, c := range []struct {
		expires time.Time
		want    int
	}{
		{time.Time{}, 2_419_200},
		{now.Add(90 * time.Second), 90},
		{now.Add(1999 * time.Millisecond), 1}, // never beyond
		{now.Add(999 * time.Millisecond), 0},
		{now, 0},
		{now.Add(-time.Hour), 0},
		{now.Add(365 * 24 * time.Hour), 2_419_200},
		{time.Unix(1<<40, 0), 2_419_200},
	} {
		if got := timeToLive(c.expires, now); got != c.want {
			t.Errorf("a message that expires at %s, at %s: TTL %d, want %d", c.expires, now, got, c.want)
		}
	}
}
