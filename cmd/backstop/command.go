package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// group makes c a command that has commands below it. Without an argument it does run,
// or shows its help where run is nil; an unknown command is wrong usage.
func group(c *cobra.Command, run func(*cobra.Command, []string) error) {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case len(args) > 0:
			return unknownCommand(c, args[0])
		case run == nil:
			return c.Help()
		}
		return run(c, args)
	}
}

func unknownCommand(c *cobra.Command, name string) error {
	c.SuggestionsMinimumDistance = 2
	text := fmt.Sprintf("unknown command %q for %q", name, c.CommandPath())
	if near := c.SuggestionsFor(name); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return usage("%s\nSee '%s --help'.", text, c.CommandPath())
}

// usageForArgs makes wrong arguments of c, and of all commands below it, wrong usage.
func usageForArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage("%w\nUsage: %s", err, c.UseLine())
			}
			return nil
		}
	}
	for _, below := range c.Commands() {
		usageForArgs(below)
	}
}

// given reports whether any of the flags was set on the command line.
func given(c *cobra.Command, names ...string) bool {
	found := false
	c.Flags().Visit(func(f *pflag.Flag) { found = found || slices.Contains(names, f.Name) })
	return found
}

// confirm asks before something that cannot be undone, or that is much. Without a person
// to ask, it refuses.
func confirm(c *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	in := c.InOrStdin()
	if !isTerminal(in) {
		return usage("this needs a yes, and there is no terminal to ask: add --yes, or look first with --dry-run")
	}
	if _, err := fmt.Fprintf(c.ErrOrStderr(), "%s [y/N] ", question); err != nil {
		return err
	}
	line := make(chan string, 1)
	go func() { line <- readLine(in) }() // it cannot be interrupted; the process ends without it
	select {
	case <-c.Context().Done():
		note(c, "")
		return c.Context().Err()
	case answer := <-line:
		if a := strings.ToLower(strings.TrimSpace(answer)); a == "y" || a == "yes" {
			return nil
		}
		return &exitError{code: exitFailed, err: errors.New("not confirmed: nothing was done")}
	}
}

// readLine reads up to a line's end, and not a byte more.
func readLine(r io.Reader) string {
	var b []byte
	one := make([]byte, 1)
	for len(b) < 100 {
		n, err := r.Read(one)
		if n > 0 {
			if one[0] == '\n' {
				break
			}
			b = append(b, one[0])
		}
		if err != nil {
			break
		}
	}
	return string(b)
}
