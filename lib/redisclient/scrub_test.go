package redisclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
)

func TestAPasswordThatTheServerSaysBackIsNotInTheError(t *testing.T) {
	parrot := redistest.Parrot(t, nil)
	for where, o := range map[string]Options{
		"of the URL": {URL: "redis://robot:hush-1234@" + parrot},
		"of a function": {URL: "redis://" + parrot, Credentials: func(context.Context) (string, string, error) {
			return "robot", "hush-1234", nil
		}},
	} {
		t.Run(where, func(t *testing.T) { refused(t, o) })
	}
}

func refused(t *testing.T, o Options) {
	t.Helper()
	client, connections, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_, pipelined := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Get(t.Context(), "a")
		return nil
	})
	get := client.Get(t.Context(), "a")
	for what, err := range map[string]error{
		"a command": get.Err(), "its result": func() error { _, err := get.Result(); return err }(), "a pipeline": pipelined,
		"a script": client.EvalSha(t.Context(), "x", []string{"a"}).Err(),
	} {
		if err == nil || !strings.Contains(err.Error(), "unknown command") || !strings.Contains(err.Error(), "[redacted]") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want the server's words without the password", what, err)
		}
		if _, ok := errors.AsType[redis.Error](err); !ok {
			t.Errorf("%s: %T is no redis.Error any more", what, err)
		}
	}
	if got := connections.Redact("AUTH hush-1234"); got != "AUTH [redacted]" {
		t.Errorf("Redact: %q", got)
	}
	var out bytes.Buffer
	connections.Logger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))).Printf(t.Context(), "sent %s", "hush-1234")
	if !strings.Contains(out.String(), "level=DEBUG msg=redis detail=\"sent [redacted]\"") {
		t.Errorf("logged %q", out.String())
	}
}

func TestOnlyErrorsWithAPasswordAreReplaced(t *testing.T) {
	var s scrubber
	for i := range 20 {
		s.note(fmt.Sprintf("rotated-%d", i))
	}
	s.note("")
	if len(s.passwords) != keptPasswords {
		t.Errorf("%d passwords are kept, want %d", len(s.passwords), keptPasswords)
	}
	if err := s.err(redis.Nil); !errors.Is(err, redis.Nil) {
		t.Errorf("redis.Nil became %v", err)
	}
	if err := s.err(context.DeadlineExceeded); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the context's error became %v", err)
	}
	if err := s.err(errors.New("dial rotated-19")); err.Error() != "dial [redacted]" {
		t.Errorf("got %v", err)
	}
	if s.err(nil) != nil {
		t.Error("nil became an error")
	}
}
