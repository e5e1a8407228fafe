package dlq

import (
	"context"
	"time"
)

// maxShared is the most time of a call that asks several queues at once. One that does not
// answer makes the whole call fail, and must not hold it up for as long as a call about it
// alone may last (maxCall).
const maxShared = 3 * time.Second

// callAll is call for something that asks so many queues at once.
func (r *Redis) callAll(ctx context.Context, op string, queues int, f func(context.Context) error) error {
	if queues < 2 {
		return r.call(ctx, op, f)
	}
	ctx, cancel := context.WithTimeout(ctx, maxShared)
	defer cancel()
	return r.call(ctx, op, f)
}
