package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

func newInvoke() *cobra.Command {
	var event, endpoint, kind string
	var logs bool
	c := &cobra.Command{
		Use:   "invoke FUNCTION",
		Short: "Send one event to a function and print its answer",
		Long: `Invoke sends one event to a function (send, send-queue, replay, dlq-api) and prints what it
answers. Without --endpoint it starts the function from its real binary, in a local
environment of its own: an embedded Redis with three sample dead letters, sample sinks
and an inbox that takes what they send. With --endpoint it calls any Invoke API, such as
the one of 'backstop dev'.

A function error is printed like an answer, and the exit code is 1.`,
		Example: `  backstop invoke send -e events/send-sqs.json
  backstop invoke dlq-api -e events/dlq-list.json
  backstop invoke send -e events/send-direct.json --endpoint http://127.0.0.1:3001
  echo '{"sink":"slack-demo","message":{"body":"hello"}}' | backstop invoke send -e -`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVarP(&event, "event", "e", "", "file with the event as JSON; - reads standard input; empty sends {}")
	c.Flags().StringVar(&endpoint, "endpoint", "", "Invoke API to call, such as http://127.0.0.1:3001")
	c.Flags().StringVar(&kind, "type", "RequestResponse", "RequestResponse waits for the answer, Event does not (with --endpoint)")
	c.Flags().BoolVar(&logs, "logs", false, "print what the function logs to standard error")
	bin := addBin(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		payload, err := readEvent(event, c.InOrStdin())
		if err != nil {
			return err
		}
		if endpoint != "" {
			return invokeRemote(c.Context(), c.OutOrStdout(), endpoint, args[0], kind, payload)
		}
		if kind != "RequestResponse" {
			return usage("--type %s needs --endpoint: an environment of its own ends with the answer", kind)
		}
		return invokeLocal(c, *bin, args[0], payload, logs)
	}
	return c
}

func readEvent(name string, stdin io.Reader) ([]byte, error) {
	var b []byte
	var err error
	switch name {
	case "":
		return []byte("{}"), nil
	case "-":
		b, err = io.ReadAll(stdin)
	default:
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("event %s is not valid JSON", name)
	}
	return b, nil
}

func invokeLocal(c *cobra.Command, bin, function string, payload []byte, logs bool) error {
	if err := checkBin(bin); err != nil {
		return err
	}
	o := local.Options{Bin: bin, Samples: true}
	if logs {
		o.Output = func(_, line string) { _ = printLog(c.ErrOrStderr(), "", line) }
	}
	stack, err := local.Start(c.Context(), o)
	if err != nil {
		return err
	}
	defer func() { _ = stack.Close() }()
	res, err := stack.Host.Invoke(c.Context(), lambdahost.Invocation{Function: function, Payload: payload})
	if err != nil {
		return err
	}
	return printAnswer(c.OutOrStdout(), res.Payload, res.FunctionError)
}

// invokeRemote calls an Invoke API. It speaks plain HTTP for local hosts; AWS itself is
// better served by `aws lambda invoke`, which signs.
func invokeRemote(ctx context.Context, w io.Writer, endpoint, function, kind string, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/2015-03-31/functions/"+function+"/invocations", bytes.NewReader(payload))
	if err != nil {
		return usage("--endpoint: %w", err)
	}
	req.Header.Set("X-Amz-Invocation-Type", kind)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: is 'backstop dev' running?", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return printAnswer(w, b, resp.Header.Get("X-Amz-Function-Error"))
}

func printAnswer(w io.Writer, payload []byte, functionError string) error {
	var pretty bytes.Buffer
	if json.Indent(&pretty, payload, "", "  ") == nil {
		payload = pretty.Bytes()
	}
	if err := printJSON(w, payload); err != nil {
		return err
	}
	if functionError != "" {
		return fmt.Errorf("the function failed (%s)", functionError)
	}
	return nil
}
