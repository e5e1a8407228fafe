package app

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"

	"backstop/internal/observe"
)

// Trims after the last report are not lost with the process.
func TestStoppingWritesWhatWasNotReported(t *testing.T) {
	var log, out bytes.Buffer
	closed := false
	a := &App{
		Metrics: observe.NewMetrics("svc", observe.SinkMetrics{}), Out: &out, Log: slog.New(slog.NewTextHandler(&log, nil)),
		hangUp: func() { closed = true },
	}
	a.noteTrimmed("webhook", 3)
	a.stop()
	if !closed || !strings.Contains(log.String(), "msg=stopped") {
		t.Errorf("closed: %v, log %q", closed, log.String())
	}
	if text := out.String(); !strings.Contains(text, `"`+observe.Trimmed.Name+`":3`) || !strings.Contains(text, `"Sink":"webhook"`) {
		t.Errorf("metrics %q, want the three", text)
	}
	out.Reset()
	a.stop()
	if out.Len() != 0 {
		t.Errorf("metrics %q twice", out.String())
	}
}

// A function without a usable environment stops too.
func TestStoppingNeedsNoEnvironment(t *testing.T) {
	(&App{Log: slog.New(slog.DiscardHandler), Metrics: observe.NewMetrics("", observe.SinkMetrics{}), Out: io.Discard}).stop()
}
