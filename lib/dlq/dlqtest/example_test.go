package dlqtest_test

import (
	"context"
	"log/slog"
	"testing"

	"backstop/lib/dlq"
	"backstop/lib/dlq/dlqtest"
)

// audited is a store of one's own: what is discarded is logged. Its other methods are those of
// the store below.
type audited struct {
	dlq.Store
	log *slog.Logger
}

func (a audited) Discard(ctx context.Context, id string) error {
	err := a.Store.Discard(ctx, id)
	if err == nil {
		a.log.InfoContext(ctx, "dead letter discarded", "item_id", id)
	}
	return err
}

// backend describes the store to the suite.
func backend() dlqtest.Backend {
	return dlqtest.Backend{
		New: func(_ *testing.T, opts ...dlq.Option) dlq.Store {
			return audited{dlq.NewMemory(opts...), slog.New(slog.DiscardHandler)}
		},
	}
}

// A backend's conformance test is one call. A store that wraps another passes the suite too:
// then nothing was lost on the way.
func Example() {
	var t *testing.T // that of func TestConformance(t *testing.T), in the backend's own tests
	dlqtest.Run(t, backend())
}
