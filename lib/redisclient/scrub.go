package redisclient

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scrubber is a hook of the client that keeps the passwords it has sent out of
// errors: a server that does not know AUTH or HELLO, or is no Redis at all, says its
// arguments back, and errors reach logs and answers. It also says what to check when the
// server refuses the user. It is safe for concurrent use.
type scrubber struct {
	login, rights string // what to check when the login, or a command, is refused

	mu        sync.Mutex
	passwords []string
}

// keptPasswords is how many rotated passwords, or tokens, may still be in an error.
const keptPasswords = 8

func (s *scrubber) note(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if password == "" || slices.Contains(s.passwords, password) {
		return
	}
	s.passwords = append(s.passwords, password)
	s.passwords = s.passwords[max(0, len(s.passwords)-keptPasswords):]
}

func (s *scrubber) clean(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.passwords {
		text = strings.ReplaceAll(text, p, "[redacted]")
	}
	return text
}

// advised adds to a refusal what to check. A command's error may be that of the login
// before it, which has passed here already.
func (s *scrubber) advised(text string) string {
	advice := ""
	switch {
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "NOAUTH"):
		advice = s.login
	case strings.Contains(text, "NOPERM"):
		advice = s.rights
	}
	if advice == "" || strings.Contains(text, advice) {
		return text
	}
	return text + " (" + advice + ")"
}

// answerError is an error that the server answered.
type answerError string

func (e answerError) Error() string { return string(e) }

// RedisError makes it a redis.Error.
func (answerError) RedisError() {}

// err returns err, or what may be shown of it.
func (s *scrubber) err(err error) error {
	if err == nil {
		return nil
	}
	text := s.advised(s.clean(err.Error()))
	if text == err.Error() {
		return err
	}
	if _, ok := errors.AsType[redis.Error](err); ok {
		return answerError(text)
	}
	return errors.New(text)
}

// DialHook implements redis.Hook.
func (s *scrubber) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (s *scrubber) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if clean := s.err(err); clean != err { //nolint:errorlint // the same error or another one
			cmd.SetErr(clean)
			return clean
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (s *scrubber) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err == nil {
			return nil
		}
		for _, cmd := range cmds {
			if e := cmd.Err(); e != nil {
				cmd.SetErr(s.err(e))
			}
		}
		return s.err(err)
	}
}
