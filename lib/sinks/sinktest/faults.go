package sinktest

import (
	"errors"
	"slices"

	"backstop/lib/sinks"
)

// FaultyKeys lists the keys of the joined *sinks.ConfigError values in err, sorted.
func FaultyKeys(err error) []string {
	var out []string
	if e, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		for _, err := range e.Unwrap() {
			out = append(out, FaultyKeys(err)...)
		}
	} else if e, ok := errors.AsType[*sinks.ConfigError](err); ok {
		out = append(out, e.Key)
	}
	slices.Sort(out)
	return out
}
