package sinks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"backstop/lib/sinks"
)

func TestErrorsTextHasCodeMessageAndCause(t *testing.T) {
	for _, c := range []struct {
		err  sinks.Error
		want string
	}{
		{sinks.Error{Code: "C", Msg: "m", Cause: io.EOF}, "C: m: EOF"},
		{sinks.Error{Code: "C", Msg: "m"}, "C: m"},
		{sinks.Error{Code: "C", Cause: io.EOF}, "C: EOF"},
		{sinks.Error{Code: "C"}, "C"},
		{sinks.Error{Msg: "m"}, "m"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%#v prints %q, want %q", c.err, got, c.want)
		}
	}
}

func TestCodeOfFindsTheFirstCode(t *testing.T) {
	inner := &sinks.Error{Code: sinks.CodeSinkUnavailable}
	for _, c := range []struct {
		err  error
		want sinks.Code
	}{
		{nil, ""},
		{io.EOF, ""},
		{inner, sinks.CodeSinkUnavailable},
		{fmt.Errorf("x: %w", sinks.Ambiguous(inner)), sinks.CodeSinkUnavailable},
		{&sinks.Error{Code: sinks.CodeDeadLettered, Cause: inner}, sinks.CodeDeadLettered},
		{errors.Join(io.EOF, inner), sinks.CodeSinkUnavailable},
	} {
		if got := sinks.CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

func TestMarksKeepTheCauseAndTheText(t *testing.T) {
	cause := &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "HTTP 503", Cause: io.ErrUnexpectedEOF}
	for name, c := range map[string]struct {
		err                  error
		transient, ambiguous bool
		ours                 bool
		wait                 time.Duration
	}{
		"Transient":  {sinks.Transient(cause), true, false, false, 0},
		"Terminal":   {sinks.Terminal(cause), false, false, false, 0},
		"Ambiguous":  {sinks.Ambiguous(cause), false, true, false, 0},
		"RetryAfter": {sinks.RetryAfter(cause, time.Minute), true, false, false, time.Minute},
		"Ours":       {sinks.Ours(cause), true, false, true, 0},
		"Unreached":  {sinks.Unreached(cause), false, false, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("sink: %w", c.err)} {
				if got := sinks.IsTransient(err); got != c.transient {
					t.Errorf("IsTransient = %v, want %v", got, c.transient)
				}
				if got := sinks.IsAmbiguous(err); got != c.ambiguous {
					t.Errorf("IsAmbiguous = %v, want %v", got, c.ambiguous)
				}
				if got := sinks.IsOurs(err); got != c.ours {
					t.Errorf("IsOurs = %v, want %v", got, c.ours)
				}
				if got := sinks.IsUnreached(err); got != (name == "Unreached") {
					t.Errorf("IsUnreached = %v", got)
				}
				if got := sinks.RetryAfterOf(err); got != c.wait {
					t.Errorf("RetryAfterOf = %s, want %s", got, c.wait)
				}
				if got, ok := errors.AsType[*sinks.Error](err); !ok || got != cause || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("the cause is lost in %v", err)
				}
			}
			if c.err.Error() != cause.Error() {
				t.Errorf("the text is %q, want the cause's own", c.err.Error())
			}
		})
	}
}

func TestMarksOfNilAreNil(t *testing.T) {
	for name, err := range map[string]error{
		"Transient": sinks.Transient(nil), "Terminal": sinks.Terminal(nil), "Ambiguous": sinks.Ambiguous(nil),
		"RetryAfter": sinks.RetryAfter(nil, time.Second), "Ours": sinks.Ours(nil), "Unreached": sinks.Unreached(nil),
	} {
		if err != nil {
			t.Errorf("%s(nil) = %#v", name, err)
		}
	}
	if sinks.IsAmbiguous(nil) || sinks.RetryAfterOf(nil) != 0 {
		t.Error("nil is ambiguous or has a wait")
	}
}

func TestTheOutermostMarkCounts(t *testing.T) {
	err := sinks.Terminal(fmt.Errorf("x: %w", sinks.Ambiguous(io.EOF)))
	if sinks.IsAmbiguous(err) || sinks.IsTransient(err) {
		t.Errorf("Terminal around Ambiguous: ambiguous %v, transient %v", sinks.IsAmbiguous(err), sinks.IsTransient(err))
	}
	err = sinks.Transient(sinks.RetryAfter(io.EOF, time.Minute))
	if got := sinks.RetryAfterOf(err); got != 0 {
		t.Errorf("Transient around RetryAfter: wait %s, want 0", got)
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		-time.Second: 0, math.MinInt64: 0, 0: 0, time.Second: time.Second, sinks.MaxRetryAfter: sinks.MaxRetryAfter,
		sinks.MaxRetryAfter + 1: sinks.MaxRetryAfter, math.MaxInt64: sinks.MaxRetryAfter,
	} {
		if got := sinks.RetryAfterOf(sinks.RetryAfter(context.Canceled, d)); got != want {
			t.Errorf("RetryAfter(%d) carries %s, want %s", d, got, want)
		}
	}
}
