package functions_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"backstop/internal/local"
)

// What a receiver sends after its answer is nobody's: net/http prints it to the process's
// log. There it must not be, whatever else is.
func TestWhatAReceiverSendsUnaskedIsNotLogged(t *testing.T) {
	t.Parallel()
	const secret = "Zq7unasked"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 " + secret + "\r\n"))
	}))
	defer server.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hooks.yaml"), []byte("kind: webhook\nurl: "+server.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := onRedis(t)
	o.Sinks, o.Bin = "file:"+dir, built(t)
	var mu sync.Mutex
	var log strings.Builder
	o.Output = func(_, line string) {
		mu.Lock()
		defer mu.Unlock()
		log.WriteString(line + "\n")
	}
	said := func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
	s, err := local.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	if a := send(t, s, "hooks", "m1", "x"); a.status != http.StatusOK {
		t.Errorf("send: %d %s", a.status, a.raw)
	}
	// That it happened is said, without what was sent.
	eventually(t, "the log", func() error {
		if text := said(); !strings.Contains(text, "Unsolicited response received on idle HTTP channel") {
			return fmt.Errorf("it does not say that something came unasked: %s", text)
		}
		return nil
	})
	if text := said(); strings.Contains(text, secret) || strings.Contains(text, "HTTP/1.1") {
		t.Errorf("the log shows what the receiver sent:\n%s", text)
	}
}

// A connection that a receiver keeps after 101 ends neither an invocation nor its batch.
func TestAnAnswerOf101IsAnAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"))
		_, _ = buffered.ReadByte() // until the other side hangs up
	}))
	defer server.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hooks.yaml"), []byte("kind: webhook\nurl: "+server.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := onRedis(t)
	o.Sinks = "file:" + dir
	s := start(t, o)
	a := send(t, s, "hooks", "m1", "x")
	if a.status != http.StatusAccepted || a.text("reason") != "terminal" || !strings.Contains(a.text("error"), "HTTP 101") {
		t.Errorf("send: %d %s, want a dead letter: terminal, HTTP 101", a.status, a.raw)
	}
	if res := invoke(t, s, local.Queue, batch("hooks", "q1", "q2", "q3")); res.FunctionError != "" || !strings.Contains(string(res.Payload), `"batchItemFailures":[]`) {
		t.Errorf("the batch: %s %s, want every record kept", res.FunctionError, res.Payload)
	}
}
