// Package sinks defines what Backstop delivers (Message), where to
// (Recipient), through what (Sink), and the coded, classified errors that every
// sink returns.
//
// A sink kind lives in a package of its own and registers a Factory for its kind
// in init; importing the package is enough to make the kind available. The suite
// in sinktest is the contract of a Sink as code.
package sinks

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"backstop/internal/strictjson"
)

// Message is one thing to be delivered. A Message is never modified after it was
// handed to a Sink; Metadata is shared, not copied.
type Message struct {
	// ID identifies the delivery across attempts and replays. Receivers use it to
	// drop duplicates. Empty means that the delivery cannot be recognised again.
	ID string `json:"id,omitempty"`
	// Subject is a short title; empty means none.
	Subject string `json:"subject,omitempty"`
	// Body is read by the sink: HTML for email, mrkdwn for Slack, JSON (format raw)
	// or any text (format envelope) for webhook.
	Body string `json:"body"`
	// Metadata is attached verbatim where the sink can: Slack blocks (key
	// "blocks"), webhook headers, email X-* headers. Nil means none.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Recipient says where a message goes. Its dynamic type is defined by the sink's
// kind (email.Recipient, webhook.Recipient); nil means the sink's own default.
type Recipient = any

// Sink sends messages to one destination.
//
// Send makes exactly one attempt: it never retries by itself. It returns nil when
// the destination accepted the message, and otherwise a coded error (see Error)
// that carries a mark (Transient, Terminal, Ambiguous, RetryAfter) wherever the
// sink knows better than the heuristic of IsTransient. It honours ctx at once and
// retains neither to nor m after it returned. A Sink is safe for concurrent use.
type Sink interface {
	// Name is the name under which the sink is configured and registered.
	Name() string
	Send(ctx context.Context, to Recipient, m Message) error
}

// RecipientDecoder is implemented by sinks with a recipient type of their own. It
// turns JSON, received or stored, into that type. raw is empty or "null" when no
// recipient was given. Errors are INVALID_ARGUMENT and name the field.
type RecipientDecoder interface {
	DecodeRecipient(raw []byte) (Recipient, error)
}

// Validator is implemented by sinks that can tell, without any I/O, that a message
// can never be sent: errors are INVALID_ARGUMENT and name the field. Send applies
// the same rules.
type Validator interface {
	Validate(to Recipient, m Message) error
}

// Deduplicator is implemented by sinks whose receivers can recognise a message
// that arrives twice (by Message.ID). Only such sinks are sent to again, by
// default, after an ambiguous outcome.
type Deduplicator interface {
	Deduplicates() bool
}

// EndsWithContext is implemented by sinks whose Send returns at once when its context
// ends, whatever the destination does: all its network calls take the context. Such an
// attempt needs no goroutine of its own that could be left behind. A Send that promises
// this and breaks the promise holds up its whole invocation: sinktest tries it on
// destinations that never end.
type EndsWithContext interface {
	// EndsWithContext reports whether the promise holds for called, the sink whose Send
	// will be called. A type that embeds the sink inherits this method and may have
	// another Send, so an implementation compares called with itself.
	EndsWithContext(called Sink) bool
}

// as walks the chain of Unwrap() Sink and returns the first sink that is a T.
func as[T any](s Sink) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		u, ok := s.(interface{ Unwrap() Sink })
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	var zero T
	return zero, false
}

// DecodeRecipient decodes raw with the RecipientDecoder of s or of the sink that s
// wraps (found through Unwrap() Sink). A sink without one takes no recipient: then
// an absent recipient decodes to nil and anything else is INVALID_ARGUMENT.
func DecodeRecipient(s Sink, raw []byte) (Recipient, error) {
	if d, ok := as[RecipientDecoder](s); ok {
		to, err := d.DecodeRecipient(raw)
		return to, SafeError(err)
	}
	if absent(raw) {
		return nil, nil
	}
	return nil, &Error{Code: CodeInvalidArgument, Msg: fmt.Sprintf("recipient: sink %q takes none", s.Name())}
}

// DecodeStoredRecipient is DecodeRecipient for a recipient that was stored. Other programs
// write theirs from structs without tags, so its names count in any case; one that is
// there twice, in two cases, stays refused.
func DecodeStoredRecipient(s Sink, raw []byte) (Recipient, error) {
	to, err := DecodeRecipient(s, raw)
	if err == nil && to == nil {
		return nil, nil // it has no recipient, or the sink reads nothing of it
	}
	lowered, twice := lowerNames(raw)
	switch {
	case twice != "":
		return nil, Terminal(&Error{Code: CodeInvalidArgument, Msg: fmt.Sprintf("recipient.%.40q: given twice, in different cases", twice)})
	case err == nil || lowered == nil:
		return to, err
	}
	return DecodeRecipient(s, lowered)
}

// lowerNames returns a JSON object with its names in lower case, nil where raw is none,
// and a name that then is there twice.
func lowerNames(raw []byte) (lowered []byte, twice string) {
	var object map[string]json.RawMessage
	if err := strictjson.DecodePart(raw, &object); err != nil {
		return nil, ""
	}
	out := make(map[string]json.RawMessage, len(object))
	for name, value := range object {
		lower := strings.ToLower(name)
		if _, ok := out[lower]; ok {
			return nil, lower
		}
		out[lower] = value
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, ""
	}
	return b, ""
}

// Validate applies the Validator of s, or of the sink that s wraps, to a message.
// A sink without one accepts everything.
func Validate(s Sink, to Recipient, m Message) error {
	if v, ok := as[Validator](s); ok {
		return SafeError(v.Validate(to, m))
	}
	return nil
}

// Deduplicates reports whether receivers of s can recognise a message that arrives
// twice. False for sinks that do not say.
func Deduplicates(s Sink) bool {
	d, ok := as[Deduplicator](s)
	return ok && d.Deduplicates()
}

// Receivers is implemented by sinks whose messages go to several receivers, of which one may
// be down while the others are well: those of a webhook whose recipients bring URLs of their
// own. All messages of a sink without it go to one.
type Receivers interface {
	// Receiver names who takes what is sent to a recipient; empty: the sink's own receiver. The
	// name is shown to operators: it must hold no secret and no address.
	Receiver(to Recipient) string
}

// ReceiverOf names the receiver of s, or of the sink that it wraps, for a recipient; empty: its
// own.
func ReceiverOf(s Sink, to Recipient) string {
	if r, ok := as[Receivers](s); ok {
		return r.Receiver(to)
	}
	return ""
}

func absent(raw []byte) bool {
	var v any
	return len(raw) == 0 || json.Unmarshal(raw, &v) == nil && v == nil
}
