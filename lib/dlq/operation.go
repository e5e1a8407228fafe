package dlq

import "context"

// EndOperation implements Store.
func (r *Redis) EndOperation(ctx context.Context, operation, sink string) error {
	if err := checkProgress(operation, sink); err != nil {
		return err
	}
	return r.conn.Do(ctx, "end operation", func(ctx context.Context) error {
		return r.conn.Client.PExpire(ctx, r.conn.Keys.Counts(sink, operation), OperationRetention).Err()
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
