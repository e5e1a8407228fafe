package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"backstop/internal/version"
)

func newVersion() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Long: `Version says which build this is: the release (devel: none that is known), the commit with its time (+dirty: the
tree had changes), the Go version and the platform. The functions log the same when they start.`,
		Example: `  backstop version
  backstop version -o json | jq -r .revision`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(c)
			if err != nil {
				return err
			}
			build := version.Read()
			if asJSON {
				return marshalJSON(c.OutOrStdout(), build)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "backstop", build)
			return err
		},
	}
	addFormat(c)
	return c
}
