package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"backstop/internal/local"
)

// devLines prints what happens in dev, a line for each thing that does: deliveries, replays, requests that
// change something or fail, and warnings. It is safe for concurrent use.
type devLines struct {
	w  io.Writer
	mu sync.Mutex
}

// say prints a line of dev's own.
func (d *devLines) say(format string, args ...any) {
	d.print(time.Now(), "dev", fmt.Sprintf(format, args...))
}

func (d *devLines) print(at time.Time, who, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = fmt.Fprintf(d.w, "%s  %-6s  %s\n", at.Local().Format("15:04:05"), who, printable(strings.Join(strings.FieldsFunc(text, isLineEnd), " ")))
}

// quiet are lines of the log that say nothing new to who sees the others.
var quiet = []string{"started", "stopped", "sink configuration is faulty", "sink configuration not refreshed"}

// function prints a line that a function wrote: what is no log line as it is, metrics not at all.
func (d *devLines) function(function, line string) {
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		d.print(time.Now(), shortName(function), line)
		return
	}
	if fields["_aws"] != nil {
		return
	}
	at, message := time.Now(), text(fields["message"])
	if t, err := time.Parse(time.RFC3339Nano, text(fields["timestamp"])); err == nil {
		at = t
	}
	switch {
	case slices.Contains(quiet, message), message == "replay run" && fields["claimed"] == 0.0:
	case message == "delivery":
		d.print(at, "send", outcomeLine(fields))
	case message == "replay":
		d.print(at, "replay", outcomeLine(fields))
	default:
		d.print(at, shortName(function), restLine(message, fields))
	}
}

func isLineEnd(r rune) bool { return r == '\n' || r == '\r' }

// shortName is a function's name in a line.
func shortName(function string) string {
	switch function {
	case local.DLQAPI:
		return "api"
	case local.Queue:
		return "queue"
	}
	return function
}

func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// outcomeLine says what became of a delivery or a replay.
func outcomeLine(fields map[string]any) string {
	parts := []string{fmt.Sprintf("%-14s", text(fields["sink"])), text(fields["delivery_id"]), text(fields["status"])}
	if reason := text(fields["reason"]); reason != "" {
		parts = append(parts, reason)
	}
	if code := text(fields["code"]); code != "" {
		parts = append(parts, code)
	}
	if n, ok := fields["attempts"].(float64); ok && n > 1 {
		parts = append(parts, fmt.Sprintf("%.0f attempts", n))
	}
	if fields["duplicate"] == true {
		parts = append(parts, "duplicate")
	}
	if ms, ok := fields["elapsed_ms"].(float64); ok {
		parts = append(parts, (time.Duration(ms) * time.Millisecond).String())
	}
	return strings.Join(parts, "  ")
}

// restLine is any other line of the log: its message, and what it says.
func restLine(message string, fields map[string]any) string {
	parts := []string{message}
	if level := text(fields["level"]); level != "INFO" && level != "" {
		parts[0] = level + " " + message
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch name {
		case "message", "timestamp", "level", "service", "requestId", "functionArn", "tenantId", "trace":
			continue
		}
		parts = append(parts, name+"="+text(fields[name]))
	}
	return strings.Join(parts, " ")
}

// requests wraps an API: what fails is a line, and what changes something, unless it says so itself.
func (d *devLines) requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, rec := time.Now(), &statusWriter{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		sends := r.URL.Path == "/v1/messages"
		if rec.status >= http.StatusBadRequest || !reads && !sends {
			d.print(time.Now(), "http", fmt.Sprintf("%s %s  %d  %s", r.Method, r.URL.RequestURI(), rec.status, time.Since(start).Round(time.Millisecond)))
		}
	})
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *statusWriter) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}
