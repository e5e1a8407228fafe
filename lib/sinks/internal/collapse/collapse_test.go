package collapse

import (
	"regexp"
	"strings"
	"testing"
)

func TestAKeyIsOfOneSinksDelivery(t *testing.T) {
	seen := map[string]string{}
	for _, of := range [][2]string{{"push", "order-1"}, {"push", "order-2"}, {"other", "order-1"}, {"push", strings.Repeat("x", 1<<20)}, {"push", "\xff\r\n"}} {
		key := Key(of[0], of[1])
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{32}$`).MatchString(key) {
			t.Errorf("Key(%.40q) = %q, want 32 characters of base64url", of, key)
		}
		if key != Key(of[0], of[1]) {
			t.Errorf("Key(%.40q) differs from one call to the next", of)
		}
		if other := seen[key]; other != "" {
			t.Errorf("Key(%.40q) is also that of %s", of, other)
		}
		seen[key] = of[0] + of[1]
	}
	if key := Key("push", ""); key != "" {
		t.Errorf("Key without an id = %q, want none: nothing is known of it", key)
	}
}
