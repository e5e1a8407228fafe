package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/internal/console"
)

func newConsole() *cobra.Command {
	var addr string
	c := &cobra.Command{
		Use:   "console",
		Short: "Serve the operator's page on this machine",
		Long: `Console serves a page that shows what failed, where and why, and replays, discards and unparks it: one dead
letter, a selection, a cause or a filter. It runs until you stop it with Ctrl-C.

The page is on loopback only. It passes requests on to the API and authenticates them as the other commands do,
so anyone who can reach this machine's loopback acts with your credentials while it runs: do not leave it
running on a machine that you share.

` + connectHelp,
		Example: `  backstop console
  backstop console --api https://abc123.execute-api.eu-west-1.amazonaws.com
  ssh -L 3004:127.0.0.1:3004 bastion backstop console    # then open http://127.0.0.1:3004 here`,
		Args: cobra.NoArgs,
	}
	conn := addConnection(c)
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:3004", "where the page listens, on loopback; port 0: any free one")
	c.RunE = func(c *cobra.Command, _ []string) error { return runConsole(c, conn, addr) }
	return c
}

// runConsole serves the page until the command is stopped.
func runConsole(c *cobra.Command, conn *connection, addr string) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	base := conn.base()
	if _, err := client.New(base, nil); err != nil {
		return usage("%w", err)
	}
	transport, err := conn.transport(c.Context(), base)
	if err != nil {
		return err
	}
	s, err := console.Start(c.Context(), addr, console.Options{API: base, Transport: transport})
	if errors.Is(err, console.ErrNotLoopback) {
		return usage("%w", err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if asJSON {
		err = marshalJSON(c.OutOrStdout(), map[string]string{"url": s.URL})
	} else {
		_, err = fmt.Fprintf(c.OutOrStdout(), "The console is at %s. Stop it with Ctrl-C.\n", s.URL)
	}
	if err != nil {
		return err
	}
	<-c.Context().Done()
	return nil
}
