// Command backstop runs Backstop on this machine and operates it anywhere.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"backstop/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	code := execute(ctx, newRoot(), os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs the command and returns its exit code.
func execute(ctx context.Context, root *cobra.Command, stderr io.Writer) int {
	err := root.ExecuteContext(ctx)
	report(stderr, err)
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "backstop",
		Short: "Out-of-band delivery with retries, dead letters and replay",
		Long: `Backstop sends what a realtime channel could not deliver through a named sink (email,
Slack, webhook), retries inside the invocation's deadline, and keeps what still failed
in a dead-letter queue, from which a schedule or an operator replays it.

` + exitCodesHelp,
		Example: `  backstop demo                                    play one story on this machine
  backstop dev                                     run everything on this machine
  export BACKSTOP_API=https://abc123.execute-api.eu-west-1.amazonaws.com
  backstop send --sink ops-slack --body "hello"    send a message
  backstop sinks                                   how the sinks are
  backstop dlq groups                              what failed, by cause
  backstop dlq replay --sink ops-slack             send it again`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w\nSee '%s --help'.", err, c.CommandPath())
	})
	group(root, nil)
	root.Version = version.Read().String() // the flag --version
	root.SetVersionTemplate("backstop {{.Version}}\n")
	root.AddGroup(&cobra.Group{ID: "operate", Title: "Operate:"}, &cobra.Group{ID: "develop", Title: "On this machine:"})
	for id, commands := range map[string][]*cobra.Command{
		"operate": {newSend(), newDelivery(), newSink(), newSinks(), newDLQ(), newRedrive(), newConfig(), newConsole(), newMCP(), newDoctor()},
		"develop": {newDemo(), newDev(), newInvoke()},
	} {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	root.AddCommand(newVersion())
	usageForArgs(root)
	return root
}
