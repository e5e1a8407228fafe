// Probe is a function for the host's tests: each event says what it does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do    string        `json:"do"`
	For   time.Duration `json:"for"`
	Size  int           `json:"size"`
	Print string        `json:"print"`
	Code  int           `json:"code"`
}

// Refused is an error with a type of its own.
type Refused struct{}

func (*Refused) Error() string { return "refused by probe" }

func handle(ctx context.Context, raw json.RawMessage) (any, error) {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		e.Do = "echo"
	}
	if e.Print != "" {
		fmt.Print(e.Print)
	}
	switch e.Do {
	case "error":
		return nil, &Refused{}
	case "plain-error":
		return nil, errors.New("plain")
	case "panic":
		panic("probe panics")
	case "hang":
		select {} // ignores its context, as a stuck function does
	case "exit":
		os.Exit(e.Code)
	case "slow":
		time.Sleep(e.For)
	case "large":
		return strings.Repeat("x", e.Size-2), nil
	case "child":
		c := exec.Command("/bin/sleep", "60")
		return nil, errors.Join(c.Start())
	case "env":
		env := map[string]string{}
		for _, kv := range os.Environ() {
			k, v, _ := strings.Cut(kv, "=")
			env[k] = v
		}
		return env, nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{
			"request_id": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "trace": os.Getenv("_X_AMZN_TRACE_ID"),
			"client": lc.ClientContext.Custom, "deadline": deadline.UnixMilli(), "pid": os.Getpid(),
		}, nil
	}
	return raw, nil
}

func main() {
	switch os.Getenv("PROBE_INIT") {
	case "exit":
		fmt.Println("no configuration")
		os.Exit(3)
	case "hang":
		time.Sleep(time.Hour)
	}
	opts := []lambda.Option{}
	if file := os.Getenv("PROBE_SIGTERM"); file != "" {
		opts = append(opts, lambda.WithEnableSIGTERM(func() {
			_ = os.WriteFile(file, []byte("flushed"), 0o600)
			os.Exit(0)
		}))
	}
	lambda.StartWithOptions(handle, opts...)
}
