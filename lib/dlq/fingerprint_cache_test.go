package dlq

import (
	"fmt"
	"testing"
)

func TestTheCacheOfFingerprintsIsBoundedAndTellsTheSame(t *testing.T) {
	c := fingerprintCache{known: map[string]string{}}
	for i := range 3 * maxFingerprints {
		text := fmt.Sprintf("HTTP 503 from host%d after %d ms", i%700, i)
		if got, want := c.of(text), Fingerprint(text); got != want {
			t.Fatalf("of(%q) = %q, want %q", text, got, want)
		}
		if len(c.known) > maxFingerprints {
			t.Fatalf("%d entries", len(c.known))
		}
	}
	if got := c.of("HTTP 404"); got != c.of("HTTP 404") {
		t.Error("the second answer differs")
	}
}
