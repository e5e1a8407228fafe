package redistest

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/redis/go-redis/v9"
)

// LoseReplies makes c lose every other reply to the same command, the first one included:
// Redis did what was asked, and nobody hears of it.
func LoseReplies(c redis.UniversalClient) redis.UniversalClient {
	c.AddHook(&lossy{heard: map[string]bool{}})
	return c
}

type lossy struct {
	mu    sync.Mutex
	heard map[string]bool // whether the last reply to the command arrived
}

func (l *lossy) lost(cmd redis.Cmder) bool {
	command := fmt.Sprint(cmd.Args()...)
	l.mu.Lock()
	defer l.mu.Unlock()
	heard, known := l.heard[command]
	l.heard[command] = known && !heard
	return !l.heard[command]
}

func (l *lossy) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *lossy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if l.lost(cmd) {
			err = io.EOF
			cmd.SetErr(err)
		}
		return err
	}
}

func (l *lossy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if len(cmds) > 0 && l.lost(cmds[0]) {
			err = io.EOF
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}
