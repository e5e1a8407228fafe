package handler

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"backstop/internal/app"
	"backstop/internal/awsconf"
)

// startTimeout bounds the hint that an operation waits: where Lambda cannot be reached,
// the caller waits no longer than this.
const startTimeout = 2 * time.Second

// starter asks the replay function to work on an operation at once. It is only a hint:
// the operation is recorded, and the schedule works on it in any case.
type starter struct {
	function string
	client   interface {
		Invoke(ctx context.Context, in *lambda.InvokeInput, o ...func(*lambda.Options)) (*lambda.InvokeOutput, error)
	}
	log *slog.Logger
}

// newStarter returns nil where no replay function is named: then the schedule does the
// work.
func newStarter(ctx context.Context, a *app.App) *starter {
	if a.Env.ReplayFunction == "" {
		return nil
	}
	cfg, err := awsconf.Load(ctx)
	if err != nil {
		a.Log.WarnContext(ctx, "operations will wait for the schedule", "error", err.Error())
		return nil
	}
	client := lambda.NewFromConfig(cfg, func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	return &starter{function: a.Env.ReplayFunction, client: client, log: a.Log}
}

// start invokes the replay function for an operation and does not wait for its work. It
// is called before the answer is given: a function that has answered is frozen.
func (s *starter) start(ctx context.Context, operation string) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	payload, err := json.Marshal(map[string]string{"operation": operation})
	if err == nil {
		_, err = s.client.Invoke(ctx, &lambda.InvokeInput{
			FunctionName: &s.function, InvocationType: types.InvocationTypeEvent, Payload: payload,
		})
	}
	if err != nil {
		s.log.WarnContext(ctx, "replay not invoked; the operation waits for the schedule", "operation", operation, "error", err.Error())
	}
}
