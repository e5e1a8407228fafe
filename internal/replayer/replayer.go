// Package replayer asks the replay function for a run and does not wait for its work.
package replayer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"backstop/internal/awsconf"
	"backstop/lib/replay"
)

// timeout bounds a start: where Lambda cannot be reached, nobody waits longer than this.
const timeout = 2 * time.Second

// Function is the replay function. It is safe for concurrent use.
type Function struct {
	Name   string // or ARN
	Client Client
}

// Client is what it needs of Lambda; a *lambda.Client is one.
type Client interface {
	Invoke(ctx context.Context, in *lambda.InvokeInput, o ...func(*lambda.Options)) (*lambda.InvokeOutput, error)
}

// New returns the function of that name, or ARN, in the environment's account and region.
func New(ctx context.Context, name string) (*Function, error) {
	cfg, err := awsconf.Environment(ctx)
	if err != nil {
		return nil, err
	}
	return &Function{name, lambda.NewFromConfig(cfg, func(o *lambda.Options) { o.RetryMaxAttempts = 1 })}, nil
}

// Start has the function run r, once it has a process free. It is called before an invocation's own answer is given: a
// function that has answered is frozen. After an error the run may come all the same.
func (f *Function) Start(ctx context.Context, r replay.Request) error {
	payload, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err = f.Client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &f.Name, InvocationType: types.InvocationTypeEvent, Payload: payload})
	return err
}
