package terms

// The message attributes of the queue (docs/guarantees.md): times as in RFC 3339. Only messages that
// the send function put there carry the first two.
const (
	AcceptedAtAttribute = "backstop-accepted-at" // when it was accepted
	NotBeforeAttribute  = "backstop-not-before"  // when it may be sent
	// SentAtAttribute is on messages that were moved from a redrive queue, which makes them look new:
	// when they were first sent to the queue.
	SentAtAttribute = "backstop-sent-at"
)
