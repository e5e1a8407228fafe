package dlq

import "sync"

// maxFingerprints bounds the cache, and so its memory to some 300 KB.
const maxFingerprints = 512

// fingerprints remembers what Fingerprint said: in an incident the same few errors come
// again and again, and the expression would cost a fifth of each push.
var fingerprints = fingerprintCache{known: map[string]string{}}

type fingerprintCache struct {
	mu    sync.Mutex
	known map[string]string
}

// of returns Fingerprint(lastError).
func (c *fingerprintCache) of(lastError string) string {
	c.mu.Lock()
	fp, ok := c.known[lastError]
	c.mu.Unlock()
	if ok {
		return fp
	}
	fp = Fingerprint(lastError)
	if len(lastError) > 4*maxFingerprint {
		return fp // rare, and large
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxFingerprints {
		clear(c.known)
	}
	c.known[lastError] = fp
	return fp
}
