package main

import (
	"io"
	"log/slog"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"backstop/internal/mcp"
	"backstop/internal/version"
)

func newMCP() *cobra.Command {
	var role string
	var approve bool
	c := &cobra.Command{
		Use:   "mcp",
		Short: "Let an agent look at Backstop, and operate it",
		Long: `Mcp serves the API to an agent by the Model Context Protocol, on standard input and output: the agent's program
starts it. Logs go to standard error. It ends with its input.

With --role read, which is the default, the agent can look: sinks, groups, histogram, items, deliveries, counts and
operations. No tool changes anything.

With --role operate it can also replay, discard, pause, resume and cancel, in two steps. A preview says what would be
touched and gives a token; confirm takes the token and a reason, and does exactly that, once. The token is good for ten
minutes. When what was seen is not there any more, nothing is done (PREVIEW_STALE).

A token guards against mistakes, not against the agent, which can confirm its own preview. Let your client ask you
before it calls confirm, which is marked as destructive, or add --approve: then this program has a person asked, through
the client, before anything is done. What a client cannot ask, it cannot do.

The agent acts with your credentials, and reads messages and recipients: give it an identity that may no more than it
shall. With --role read, one that may only GET is enough.

` + connectHelp + `

The configuration of a client, as most take it:

  {
    "mcpServers": {
      "backstop": {
        "command": "backstop",
        "args": ["mcp", "--role", "operate", "--approve"],
        "env": {"BACKSTOP_API": "https://abc123.execute-api.eu-west-1.amazonaws.com", "AWS_PROFILE": "oncall"}
      }
    }
  }`,
		Example: `  backstop mcp                                 look only
  backstop mcp --role operate --approve        change something, with a person's yes`,
		Args: cobra.NoArgs,
	}
	conn := addAPI(c)
	c.Flags().StringVar(&role, "role", string(mcp.RoleRead), "read: only look; operate: also preview changes and confirm them")
	c.Flags().BoolVar(&approve, "approve", false, "have a person asked, through the client, before anything is changed")
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{string(mcp.RoleRead), string(mcp.RoleOperate)}, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(c *cobra.Command, _ []string) error {
		if approve && role != string(mcp.RoleOperate) {
			return usage("--approve is for --role operate: without it nothing is changed")
		}
		api, err := conn.client(c.Context(), reading)
		if err != nil {
			return err
		}
		server, err := mcp.New(api, mcp.Options{
			Role: mcp.Role(role), Approve: approve, Version: version.Read().String(), Log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)),
		})
		if err != nil {
			return usage("--%w", err)
		}
		in, out := io.NopCloser(c.InOrStdin()), closing{c.OutOrStdout()}
		return server.Run(c.Context(), &sdk.IOTransport{Reader: in, Writer: out})
	}
	return c
}

// closing is a writer that others close; it stays open.
type closing struct{ io.Writer }

func (closing) Close() error { return nil }
