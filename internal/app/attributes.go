package app

// The message attributes of the request queue (docs/guarantees.md): times as in RFC 3339. Only
// messages that the send function put there carry the first two.
const (
	AcceptedAtAttribute = "backstop-accepted-at"
	NotBeforeAttribute  = "backstop-not-before"
	// SentAtAttribute is on messages that "backstop redrive" moved, which have another SentTimestamp.
	SentAtAttribute = "backstop-sent-at"
)
