package dlq

import "context"

// EndOperation implements Store.
func (r *Redis) EndOperation(ctx context.Context, operation, sink string) error {
	if err := checkProgress(operation, sink); err != nil {
		return err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return err
	}
	return r.conn.DoAll(ctx, "end operation", len(queues), func(ctx context.Context) error {
		p := r.conn.Client.Pipeline()
		for _, queue := range queues {
			p.PExpire(ctx, r.conn.Keys.Counts(queue, operation), OperationRetention)
		}
		_, err := p.Exec(ctx)
		return err
	})
}

// EndOperation implements Store. The counters stay as long as the process.
func (m *Memory) EndOperation(ctx context.Context, operation, sink string) error {
	if err := checkProgress(operation, sink); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return unavailable("end operation", err)
	}
	return nil
}
