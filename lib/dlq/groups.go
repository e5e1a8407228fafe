package dlq

import (
	"cmp"
	"slices"
)

// appendOther adds the dead letters that are in no group of their own.
func appendOther(groups []Group, sink string, n int64) []Group {
	if n <= 0 {
		return groups
	}
	return append(groups, Group{Sink: sink, Fingerprint: FingerprintOther, Count: n})
}

func sortGroups(groups []Group) {
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Sink, b.Sink),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
}
