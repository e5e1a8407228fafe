package handler

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"backstop/lib/dlq"
)

// entityTag returns the strong ETag of an answer's bytes.
func entityTag(b []byte) string {
	h := sha256.Sum256(b)
	return `"` + base64.RawURLEncoding.EncodeToString(h[:16]) + `"`
}

// listed reports whether the value of If-Match or If-None-Match names tag. Weak tags
// name it only in the weak comparison (RFC 9110, section 8.8.3.2).
func listed(header, tag string, weak bool) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimSpace(candidate)
		if weak {
			candidate = strings.TrimPrefix(candidate, "W/")
		}
		if candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}

// notModified answers a GET whose If-None-Match names tag.
func notModified(w http.ResponseWriter, r *http.Request, tag string) bool {
	w.Header().Set("ETag", tag)
	// The answer may be stored, by the client alone, and is asked for again each time.
	w.Header().Set("Cache-Control", "private, no-cache")
	if header := r.Header.Get("If-None-Match"); header == "" || !listed(header, tag, true) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// changedError is an If-Match that does not name the item as it is.
type changedError struct{ id, tag string }

func (e *changedError) Error() string {
	return fmt.Sprintf("item %s has changed; its ETag is %s now", e.id, e.tag)
}

// unchanged returns a changedError unless the request has no If-Match or it names the
// item as it is. What happens to the item after this is for its lease to tell.
func unchanged(r *http.Request, it dlq.Item) error {
	header := r.Header.Get("If-Match")
	if header == "" {
		return nil
	}
	tag, err := itemTag(it.Show(time.Now()))
	if err != nil {
		return err
	}
	if !listed(withoutState.ReplaceAllString(header, `"`), withoutState.ReplaceAllString(tag, `"`), false) {
		return &changedError{it.ID, tag}
	}
	return nil
}

// itemTag returns an item's ETag: of what it is, and then its state.
func itemTag(it dlq.Shown) (string, error) {
	b, err := encode(it.Item)
	return strings.TrimSuffix(entityTag(b), `"`) + "." + string(it.State) + `"`, err
}

// withoutState matches the state in an item's ETag. If-Match leaves it out: time alone
// changes it, and an item that became due meanwhile is the one that its caller saw.
var withoutState = regexp.MustCompile(`\.[a-z]+"`)
