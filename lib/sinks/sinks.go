// Package sinks defines what Backstop delivers (Message), where to
// (Recipient), through what (Sink), and the coded, classified errors that every
// sink returns.
//
// Start with Message, Sink and Registry to send through sinks that are there. A kind of
// one's own lives in a package of its own and registers a Factory in init (RegisterFactory,
// Configure); importing the package is enough to make the kind available. What a sink
// knows of a failure it says by a mark: Transient, Terminal, Ambiguous or RetryAfter. The
// suite in sinktest is the contract of a Sink as code.
//
// A sink makes one attempt and keeps nothing. Package retry tries again and keeps what
// still failed; package delivery also remembers what was sent.
package sinks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"backstop/internal/panics"
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
	// Name is the name under which the sink is configured and registered, always the same
	// (fault.CheckName).
	Name() string
	// Send makes one attempt to send m; nil means that the destination accepted it.
	Send(ctx context.Context, to Recipient, m Message) error
}

// RecipientDecoder is implemented by sinks with a recipient type of their own. It
// turns JSON, received or stored, into that type. DecodeRecipient of this package does not
// call it when no recipient was given. Errors are INVALID_ARGUMENT and name the field.
type RecipientDecoder interface {
	// DecodeRecipient returns what Send takes, nil for the sink's default.
	DecodeRecipient(raw []byte) (Recipient, error)
}

// Validator is implemented by sinks that can tell, without any I/O, that a message
// can never be sent: errors are INVALID_ARGUMENT and name the field. Send applies
// the same rules.
type Validator interface {
	// Validate returns nil when m may be sent to to.
	Validate(to Recipient, m Message) error
}

// Deduplicator is implemented by sinks whose receivers can recognise a message
// that arrives twice (by Message.ID). Only such sinks are sent to again, by
// default, after an ambiguous outcome.
type Deduplicator interface {
	// Deduplicates reports whether receivers recognise a message by its ID.
	Deduplicates() bool
}

// WindowedDeduplicator is a Deduplicator whose receivers recognise a message for some time only.
type WindowedDeduplicator interface {
	// DedupWindow is for how long after the first attempt receivers recognise a message by its
	// ID: 0 never, negative for ever. A message that may have arrived is attempted again, by default,
	// until a minute before its end (retry.Config.RecognisedUntil).
	DedupWindow() time.Duration
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
		s = unwrap(s)
	}
	var zero T
	return zero, false
}

// unwrap returns the sink that s wraps, nil when it wraps none.
func unwrap(s Sink) Sink {
	if u, ok := s.(interface{ Unwrap() Sink }); ok {
		return u.Unwrap()
	}
	return nil
}

// Retries reports whether s retries by itself: it, or a sink that it wraps (found through
// Unwrap() Sink), has IsRetrier() bool that says so, as retry.Retrier has.
func Retries(s Sink) bool {
	for ; s != nil; s = unwrap(s) {
		if r, ok := s.(interface{ IsRetrier() bool }); ok && r.IsRetrier() {
			return true
		}
	}
	return false
}

// DecodeRecipient decodes raw with the RecipientDecoder of s or of the sink that s
// wraps (found through Unwrap() Sink). An absent recipient (empty, or "null") is nil, and
// no decoder is called. A sink without one takes no other: INVALID_ARGUMENT. So is an
// error of the decoder that has no code; its text is left out, for it may quote an
// address. A panic of the decoder is INTERNAL.
func DecodeRecipient(s Sink, raw []byte) (Recipient, error) {
	if absent(raw) {
		return nil, nil
	}
	to, err := guarded(s, "DecodeRecipient", func() (Recipient, error) {
		if d, ok := as[RecipientDecoder](s); ok {
			return d.DecodeRecipient(raw)
		}
		return nil, &Error{Code: CodeInvalidArgument, Msg: fmt.Sprintf("recipient: sink %q takes none", s.Name())}
	})
	switch {
	case err == nil:
		return to, nil
	case CodeOf(err) == "":
		hidden := &safeError{err, fmt.Sprintf("sink %q cannot read it (%T)", s.Name(), err)}
		return nil, Terminal(&Error{Code: CodeInvalidArgument, Msg: "recipient", Cause: hidden})
	}
	return nil, SafeError(err)
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
// A sink without one accepts everything. An error without a code gets INVALID_ARGUMENT; a
// panic is INTERNAL.
func Validate(s Sink, to Recipient, m Message) error {
	_, err := guarded(s, "Validate", func() (struct{}, error) {
		if v, ok := as[Validator](s); ok {
			return struct{}{}, SafeError(v.Validate(to, m))
		}
		return struct{}{}, nil
	})
	if err != nil && CodeOf(err) == "" {
		return Terminal(&Error{Code: CodeInvalidArgument, Msg: "message", Cause: err})
	}
	return err
}

// Deduplicates reports whether receivers of s can recognise a message that arrives
// twice. False for sinks that do not say, or that panic when they are asked.
func Deduplicates(s Sink) bool {
	known, err := guarded(s, "Deduplicates", func() (bool, error) {
		d, ok := as[Deduplicator](s)
		return ok && d.Deduplicates(), nil
	})
	return err == nil && known
}

// DedupWindow returns for how long after its first attempt receivers of s, or of the sink that s
// wraps, recognise a message by its ID: 0 never, also where asking panics, and negative for ever. Of
// a sink that says no time, what Deduplicates says counts.
func DedupWindow(s Sink) time.Duration {
	window, err := guarded(s, "DedupWindow", func() (time.Duration, error) {
		if w, ok := as[WindowedDeduplicator](s); ok {
			return w.DedupWindow(), nil
		}
		if d, ok := as[Deduplicator](s); ok && d.Deduplicates() {
			return -1, nil
		}
		return 0, nil
	})
	if err != nil {
		return 0
	}
	return window
}

// Rated is implemented by sinks whose receiver limits the rate per chat, number or the like, and
// asks to wait for that one alone.
type Rated interface {
	// RateKey names what the limit of a message to to is counted by; empty: the receiver as a
	// whole. It need not be fit to be shown: it is hashed before it is kept.
	RateKey(to Recipient) string
}

// HasRateKeys reports whether the rate of s, or of the sink that it wraps, may be counted by recipients.
func HasRateKeys(s Sink) bool {
	_, ok := as[Rated](s)
	return ok
}

// RateKeyOf returns what the rate of s, or of the sink that it wraps, is counted by for a recipient;
// empty: nothing but the receiver, also where asking panics.
func RateKeyOf(s Sink, to Recipient) string {
	key, _ := guarded(s, "RateKey", func() (string, error) {
		if r, ok := as[Rated](s); ok {
			return r.RateKey(to), nil
		}
		return "", nil
	})
	return key
}

// Receivers is implemented by sinks whose messages go to several receivers, of which one may
// be down while the others are well: those of a webhook whose recipients bring URLs of their
// own. All messages of a sink without it go to one.
type Receivers interface {
	// Receiver names who takes what is sent to a recipient; empty: the sink's own receiver. The
	// name is shown to operators: it must hold no secret and no address.
	Receiver(to Recipient) string
}

// HasReceivers reports whether s, or the sink that it wraps, may have several receivers.
func HasReceivers(s Sink) bool {
	_, ok := as[Receivers](s)
	return ok
}

// ReceiverOf names the receiver of s, or of the sink that it wraps, for a recipient; empty: its
// own, also where naming it panics.
func ReceiverOf(s Sink, to Recipient) string {
	name, _ := guarded(s, "Receiver", func() (string, error) {
		if r, ok := as[Receivers](s); ok {
			return r.Receiver(to), nil
		}
		return "", nil
	})
	return name
}

// guarded calls f, which calls a method of s besides Send. That is others' code: a panic is
// its defect and must not cost the message that it was asked about.
func guarded[T any](s Sink, method string, f func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			slog.Default().Error("sink panicked", "sink", s.Name(), "method", method, "panic", panics.Text(p), "stack", string(debug.Stack()))
			var zero T
			out, err = zero, Terminal(&Error{Code: CodeInternal, Msg: fmt.Sprintf("sink %q panicked in %s", s.Name(), method)})
		}
	}()
	return f()
}

// absent reports whether raw is nothing, or JSON's null.
func absent(raw []byte) bool {
	return len(raw) == 0 || string(bytes.Trim(raw, " \t\r\n")) == "null"
}
