package redisconn_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"backstop/internal/redisconn"
	"backstop/internal/redistest"
)

// Calls that take several pipelines are answered in their order, also by a server that does not know the script yet, and one that
// fails fails all.
func TestManyCallsAreAnsweredInTheirOrder(t *testing.T) {
	client := redistest.Start(t).Client(t)
	c := redisconn.New(client, "p", "CODE")
	script := redisconn.Source("if ARGV[1] == 'x' then return redis.error_reply('ERR refused') end return ARGV[1]")
	const n = 1100
	calls := make([]redisconn.Call, n)
	for i := range calls {
		calls[i] = redisconn.Call{Keys: []string{"k"}, Args: []any{strconv.Itoa(i)}}
	}
	for range 2 {
		answers, err := c.EvalAll(t.Context(), "ask", script, calls)
		if err != nil || len(answers) != n {
			t.Fatalf("%d answers, %v", len(answers), err)
		}
		for i, a := range answers {
			if a != strconv.Itoa(i) {
				t.Fatalf("call %d is answered with %v", i, a)
			}
		}
	}
	calls[600].Args[0] = "x"
	if answers, err := c.EvalAll(t.Context(), "ask", script, calls); err == nil || errors.Is(err, context.Canceled) || answers != nil {
		t.Errorf("one fails: %d answers, %v", len(answers), err)
	} else {
		t.Log(err)
	}
	if answers, err := c.EvalAll(t.Context(), "ask", script, nil); err != nil || len(answers) != 0 {
		t.Errorf("no calls: %v, %v", answers, err)
	}
}
