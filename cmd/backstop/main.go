// Command backstop runs Backstop on this machine and operates it anywhere.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "backstop:", err)
	code := 1
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
	}
	os.Exit(code)
}

// exitError carries an exit code other than 1.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage is a fault of the command line: exit code 2.
func usage(format string, args ...any) error {
	return &exitError{code: 2, err: fmt.Errorf(format, args...)}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "backstop",
		Short: "Out-of-band delivery with retries, dead letters and replay",
		Long: `Backstop sends what a realtime channel could not deliver through a named sink (email,
Slack, webhook), retries inside the invocation's deadline, and keeps what still failed
in a dead-letter queue, from which a schedule or an operator replays it.

  backstop demo      plays one story on this machine and exits
  backstop dev       runs everything on this machine until you stop it
  backstop invoke    sends one event to a function

Exit codes: 0 done, 1 failed, 2 wrong usage.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w\nSee '%s --help'.", err, c.CommandPath())
	})
	root.AddCommand(newDemo(), newDev(), newInvoke())
	return root
}
