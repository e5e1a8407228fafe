package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
)

func TestAPasswordThatTheServerSaysBackIsNotInTheError(t *testing.T) {
	u, err := url.Parse("redis://robot:hush-1234@" + redistest.Parrot(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	client, secrets, _, err := redisClient(Env{RedisURL: u}, func() (aws.Config, error) { return aws.Config{}, errors.New("not asked for") })
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
	if got := secrets.clean("AUTH hush-1234"); got != "AUTH [redacted]" {
		t.Errorf("clean: %q", got)
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
