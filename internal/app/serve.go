package app

import (
	"context"
	"sync"

	"github.com/aws/aws-lambda-go/lambda"

	"backstop/internal/version"
	"backstop/lib/sinks"
)

// Serve logs which build starts and hands the platform's invocations to h; it does not return. At SIGTERM, which
// the platform sends shortly before it takes an idle process away, connections are
// closed, but not before the invocations under way have ended: what they cannot deliver
// they must be able to keep. Nothing depends on it; a process that is killed first loses
// no more than connections, and one that is used again, as the local host does when the
// signal came from elsewhere, opens them anew.
func (a *App) Serve(h lambda.Handler) {
	a.Log.InfoContext(context.Background(), "started", "build", version.Read()) //nolint:forbidigo // before any invocation
	r := &running{Handler: h}
	ctx := context.Background() //nolint:forbidigo // that of all invocations
	if a.Env.ForwardTo != nil {
		ctx = sinks.WithForward(ctx, a.Env.ForwardTo)
	}
	lambda.StartWithOptions(r, lambda.WithContext(ctx), lambda.WithEnableSIGTERM(func() {
		r.mu.Lock()
		defer r.mu.Unlock() // the process lives on until it is killed: an answer may still be on its way
		a.stop()
	}))
}

// stop closes the connections, and writes what no invocation has reported.
func (a *App) stop() {
	ctx := context.Background() //nolint:forbidigo // between invocations
	a.Close()
	a.reportTrimmed(ctx)
	a.flush(ctx)
	a.Log.InfoContext(ctx, "stopped")
}

// running is a handler that can be waited for.
type running struct {
	lambda.Handler
	mu sync.RWMutex // held for reading by each invocation
}

// Invoke implements lambda.Handler.
func (r *running) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.Handler.Invoke(ctx, payload)
}
