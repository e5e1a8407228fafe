package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"backstop/lib/sinks"
)

// signingKey decodes a Standard Webhooks secret.
func signingKey(secret sinks.Secret) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.Reveal(), "whsec_"))
	if err != nil || len(key) == 0 {
		return nil, errors.New(`want base64, usually with the prefix "whsec_"`)
	}
	return key, nil
}

// signature returns the value of the header webhook-signature: one signature per
// key, over "id.timestamp.body", so that a receiver which knows any of the keys can
// verify it.
func signature(keys [][]byte, id string, unix int64, body []byte) string {
	out := make([]string, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		_, _ = fmt.Fprintf(mac, "%s.%d.", id, unix)
		_, _ = mac.Write(body)
		out[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(out, " ")
}
