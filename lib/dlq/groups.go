package dlq

import (
	"cmp"
	"context"
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

// GroupPage is a part of the dead letters that a Query selects, counted by group.
type GroupPage struct {
	Groups []Group
	// NextCursor continues the count; empty at its end. A group may come again then.
	NextCursor string
	// Scanned is the number of entries that the call read.
	Scanned int
}

// Bounds of one call of CountGroups.
const (
	groupScan  = maxScan
	groupPages = 10
)

// CountGroups counts what q selects by group, for filters that no counter is kept for. It
// reads the entries, at most 10,000 or ten pages of 4 MB, and groups all of them by their own
// error texts: FingerprintOther is not among them.
func CountGroups(ctx context.Context, s interface {
	Page(ctx context.Context, q Query) (Page, error)
}, q Query,
) (GroupPage, error) {
	out := GroupPage{Groups: []Group{}, NextCursor: q.Cursor}
	at := map[Group]int{}
	q.Limit = maxPage
	for range groupPages {
		q.MaxScan = groupScan - out.Scanned
		p, err := s.Page(ctx, q)
		if err != nil {
			return GroupPage{}, err
		}
		for _, it := range p.Items {
			g := Group{Sink: it.Sink, Reason: it.Reason, Fingerprint: fingerprints.of(it.LastError)}
			i, ok := at[g]
			if !ok {
				i = len(out.Groups)
				at[g] = i
				out.Groups = append(out.Groups, g)
			}
			out.Groups[i].Count++
		}
		out.Scanned += p.Scanned
		q.Cursor, out.NextCursor = p.NextCursor, p.NextCursor
		if p.NextCursor == "" || out.Scanned >= groupScan {
			break
		}
	}
	sortGroups(out.Groups)
	return out, nil
}
