// Package collapse names deliveries for receivers that put a later message in the place of an
// earlier one of the same name.
package collapse

import (
	"crypto/sha256"
	"encoding/base64"
)

// Key names the delivery id of a sink in 32 characters of base64url: the most that a Topic of Web
// Push may have, and half of what APNs takes. One message may go through several sinks to one
// device, so the sink is part of it. A message without an ID has none: the key is empty.
func Key(sink, id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(sink + "\x00" + id))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}
