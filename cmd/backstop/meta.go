package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// metaFlag is --meta NAME=VALUE, which can be repeated.
type metaFlag struct{ to *map[string]string }

// addMeta adds --meta, which selects what has this in its metadata.
func addMeta(c *cobra.Command, to *map[string]string) {
	c.Flags().Var(metaFlag{to}, "meta", "only with this in its metadata, exactly, such as tenant=t3; repeated: with all of them")
	_ = c.RegisterFlagCompletionFunc("meta", cobra.NoFileCompletions)
}

// Type implements pflag.Value.
func (metaFlag) Type() string { return "name=value" }

// String implements pflag.Value.
func (f metaFlag) String() string {
	if f.to == nil {
		return ""
	}
	return metaText(*f.to)
}

// Set implements pflag.Value.
func (f metaFlag) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return fmt.Errorf("want NAME=VALUE, such as tenant=t3")
	}
	if _, twice := (*f.to)[name]; twice {
		return fmt.Errorf("%s is given twice, and a dead letter has one", name)
	}
	if *f.to == nil {
		*f.to = map[string]string{}
	}
	(*f.to)[name] = value
	return nil
}

// metaText is "tenant=t3, zone=eu"; empty for none.
func metaText(meta map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(meta)) {
		parts = append(parts, name+"="+meta[name])
	}
	return strings.Join(parts, ", ")
}
