package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"backstop/internal/kinds"
)

func newSink() *cobra.Command {
	c := &cobra.Command{
		Use:   "sink",
		Short: "Set up a sink: the kinds, an example of each, and a test",
		Long: `Sink helps to set up a sink, from nothing to the first message that arrives:

  backstop sink kinds                               which kinds there are
  backstop sink example telegram > sinks/ops.yaml   a block for one, with comments
  backstop config check sinks                       what is wrong with it, and what is left to fill in
  backstop sink test ops --sinks sinks              what it would send, without secrets
  backstop sink test ops --sinks sinks --send       sends that, and says what became of it

None of it needs the API. How the sinks are that run already is said by 'backstop sinks'.`,
		Example: `  backstop sink kinds
  backstop sink example twilio-sms > config/sinks/texts.yaml
  backstop sink test texts --recipient '{"to": "+14155550100"}' --send`,
	}
	group(c, nil)
	c.AddCommand(newSinkKinds(), newSinkExample(), newSinkTest())
	return c
}

func newSinkKinds() *cobra.Command {
	c := &cobra.Command{
		Use:   "kinds",
		Short: "List the kinds of sinks",
		Long: `Kinds lists the kinds that are built in. DUPLICATES says whether the receiver recognises a message that comes
twice, and for how long: what was sent and not answered is sent again within that time only. RECIPIENT lists the
fields that a message's recipient can have; those in brackets are optional.

All that is known of each kind, its keys, limits and what its answers mean, is in docs/kinds.md, and in the
JSON that -o json prints.`,
		Example: `  backstop sink kinds
  backstop sink kinds -o json | jq -r '.kinds[] | select(.kind == "telegram") | .notes[]'`,
		Args: cobra.NoArgs,
	}
	addFormat(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		asJSON, err := wantsJSON(c)
		if err != nil {
			return err
		}
		all, err := kinds.All()
		if err != nil {
			return err
		}
		if asJSON {
			return marshalJSON(c.OutOrStdout(), map[string]any{"kinds": all})
		}
		t := newTable("KIND", "DUPLICATES", "RECIPIENT", "WHAT").wrap(wantsWide(c)).orLeaveOut("RECIPIENT", "DUPLICATES")
		for _, k := range all {
			t.add(k.Name, k.Duplicates(), k.Recipients(), k.About)
		}
		return t.print(c.OutOrStdout())
	}
	return c
}

func newSinkExample() *cobra.Command {
	c := &cobra.Command{
		Use:   "example KIND",
		Short: "Print a block for a sink of a kind, with comments",
		Long: `Example prints a block that configures a sink of the kind: a file of a folder of sinks, whose name is the
sink's, or a parameter. Required keys have values that are to be replaced; 'backstop config check' points at each of
them, and 'backstop config push' refuses them. All other keys are commented out, with their default. The end tells
what a recipient is made of, and shows a request.`,
		Example: `  backstop sink example telegram > config/sinks/ops.yaml
  backstop sink example http > config/sinks/pager.yaml`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(completeKinds),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if names := kinds.Names(); !slices.Contains(names, args[0]) {
			return &exitError{code: exitNotFound, err: fmt.Errorf("no kind %q", args[0]), hint: "There are " + strings.Join(names, ", ") + "."}
		}
		k, err := kinds.Named(args[0])
		if err != nil {
			return err
		}
		text, err := k.Example()
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(c.OutOrStdout(), text)
		return err
	}
	return c
}

// completeKinds offers the kinds, each with what it is.
func completeKinds(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all, err := kinds.All()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]cobra.Completion, len(all))
	for i, k := range all {
		names[i] = choice(k.Name, "%s", k.About)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
