package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// Finding is one fault of a configuration, or one note on it, and where it is. Nothing in
// it is a configured value.
type Finding struct {
	// Note: no fault. The value is valid, and may not be what was meant.
	Note bool `json:"note,omitempty"`
	// Placeholder: a note on a value that is a sample's, and nobody's own.
	Placeholder bool `json:"placeholder,omitempty"`

	Source string `json:"source"`           // file, or ssm: and the parameter
	Line   int    `json:"line,omitempty"`   // from 1; 0 where there is no position
	Column int    `json:"column,omitempty"` // from 1; 0 where only the line is known
	Sink   string `json:"sink,omitempty"`   // empty when the fault belongs to no sink
	// Key is the dotted path within the sink's block; empty when the whole block (or
	// document) is meant.
	Key        string `json:"key,omitempty"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"` // the key or kind that was probably meant
}

// String returns "source:line:column: sink: key: message; did you mean ...?", a note with
// "note: " before the sink.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.Source)
	for _, n := range []int{f.Line, f.Column} {
		if n > 0 {
			fmt.Fprintf(&b, ":%d", n)
		}
	}
	if f.Note {
		b.WriteString(": note")
	}
	for _, part := range []string{f.Sink, f.Key, f.Message} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	if f.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %q?", f.Suggestion)
	}
	return b.String()
}

// InvalidError is the reason why a sink, or a whole document, cannot be used.
type InvalidError struct {
	Findings []Finding // at least one
}

// Error lists all findings in one line.
func (e *InvalidError) Error() string {
	texts := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		texts[i] = f.String()
	}
	return strings.Join(texts, "; ")
}

// Keys are shown when they look like keys. Anything else may be a value that slid into
// a key's place.
var (
	showable     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`) })
	showablePath = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.\[\]-]{0,127}$`) })
)

const unreadableKey = "[unreadable key]"

func showKey(key string) string {
	if showable().MatchString(key) {
		return key
	}
	return unreadableKey
}

// faults flattens what a factory returned into key, message and known keys. A fault
// without a key is about the whole block.
func faults(err error) []*sinks.ConfigError {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here, level by level
	case nil:
		return nil
	case *sinks.ConfigError:
		return []*sinks.ConfigError{e}
	case interface{ Unwrap() []error }:
		var out []*sinks.ConfigError
		for _, inner := range e.Unwrap() {
			out = append(out, faults(inner)...)
		}
		return out
	case *fault.Error:
		if e.Cause != nil {
			return faults(e.Cause)
		}
		return []*sinks.ConfigError{{Msg: e.Msg}}
	}
	if _, ok := errors.AsType[*sinks.ConfigError](err); ok {
		return faults(errors.Unwrap(err))
	}
	return []*sinks.ConfigError{{Msg: err.Error()}}
}
