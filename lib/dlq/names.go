package dlq

import (
	"context"
	"slices"
	"strings"

	"backstop/lib/fault"
)

// unite returns the names in both lists, sorted, without bad ones.
func unite(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(s string) bool { return fault.CheckName(s) != nil })
}

// names returns the sink asked for, or all when sink is empty.
func namesOf(ctx context.Context, s Letters, sink string) ([]string, error) {
	if sink == "" {
		return s.Sinks(ctx)
	}
	if err := fault.CheckName(sink); err != nil {
		return nil, err
	}
	return []string{sink}, nil
}

// oneSink picks the sink of a bare native id from those that have it.
func oneSink(native string, in []string) (ID, error) {
	switch len(in) {
	case 0:
		return ID{}, notFoundError(ID{Native: native})
	case 1:
		return ID{Sink: in[0], Native: native}, nil
	}
	slices.Sort(in)
	return ID{}, invalid("item id %s is in several sinks (%s): say <sink>~%s", native, strings.Join(in, ", "), native)
}
