package sinktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 15 * time.Second
	// ample is a context's time where none should be needed.
	ample = 10 * time.Second
	// brief is a context's time where it must run out.
	brief = 400 * time.Millisecond
)

// attempt makes one Send and checks what holds for every one: it comes back, it does
// not panic, it leaves the message alone, and its error is coded, marked and free of
// secrets.
func attempt(ctx context.Context, tb testing.TB, h Harness, d *Destination, to sinks.Recipient, m sinks.Message) error {
	tb.Helper()
	before := m
	before.Metadata = maps.Clone(m.Metadata)
	type end struct {
		err   error
		panic string
	}
	ended := make(chan end, 1)
	go func() {
		var e end
		defer func() {
			if p := recover(); p != nil {
				e.panic = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
			ended <- e
		}()
		e.err = d.Sink.Send(ctx, to, m)
	}()
	select {
	case e := <-ended:
		if e.panic != "" {
			tb.Errorf("Send panicked: %s", e.panic)
		}
		if !reflect.DeepEqual(m, before) {
			tb.Errorf("Send changed the message: %.200q, was %.200q", fmt.Sprint(m), fmt.Sprint(before))
		}
		sound(tb, e.err)
		secret(tb, h, "the error", e.err)
		for err := e.err; err != nil; err = errors.Unwrap(err) {
			secret(tb, h, "the error's chain", err)
		}
		return e.err
	case <-time.After(patience):
		tb.Fatalf("Send did not come back within %s", patience)
		return nil
	}
}

// sound checks that an error is coded and marked.
func sound(tb testing.TB, err error) {
	tb.Helper()
	if err == nil {
		return
	}
	if sinks.CodeOf(err) == "" {
		tb.Errorf("the error has no code: %v", err)
	}
	marked := false
	if _, ok := errors.AsType[interface {
		error
		Transient() bool
	}](err); ok {
		marked = true
	}
	switch over := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded); {
	case !marked && !over:
		tb.Errorf("the error has no mark: %v", err)
	case marked && over:
		tb.Errorf("the error is marked and also wraps a context's end, which hides the mark: %v", err)
	}
}

// outcome names what err says.
func outcome(err error) Outcome {
	switch {
	case err == nil:
		return Delivered
	case sinks.IsAmbiguous(err):
		return Ambiguous
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Ended
	case sinks.IsTransient(err):
		return Transient
	default:
		return Terminal
	}
}

// secret checks that no way to print v shows a configured secret.
func secret(tb testing.TB, h Harness, what string, v any) {
	tb.Helper()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		text := fmt.Sprintf(format, v)
		for _, s := range h.Secrets {
			if strings.Contains(text, s) {
				tb.Errorf("%s shows a secret when printed with %s", what, format)
			}
		}
	}
}

// message returns a message with a unique marker, its ID set.
func message(h Harness, marker string) sinks.Message {
	m := h.Message(marker)
	if m.ID == "" {
		m.ID = marker
	}
	return m
}

// eventually waits until ok, within bounds and until ctx ends, and reports whether it came.
func eventually(ctx context.Context, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
