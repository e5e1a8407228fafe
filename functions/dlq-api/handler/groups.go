package handler

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"backstop/lib/dlq"
)

// maxGroups is the most groups in an answer.
const maxGroups = 10_000

// groupView is a group with a short name, which a person can type.
type groupView struct {
	ID string `json:"id"`
	dlq.Group
}

// groupID names a group by its sink, reason and fingerprint: the same today and tomorrow.
func groupID(g dlq.Group) string {
	sum := sha256.Sum256([]byte(g.Sink + "\x00" + string(g.Reason) + "\x00" + g.Fingerprint))
	return hex.EncodeToString(sum[:6])
}

// groups answers with the counters that the store keeps, for which nothing is scanned. It
// keeps none by state: groups in a state are counted by a search.
func (h *api) groups(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "sink", "state", "cursor")
	query := dlq.Query{Sink: q.sink(), State: q.state(), Cursor: q.text("cursor")}
	if q.err == nil && query.Cursor != "" && query.State == "" {
		q.fail(invalid("cursor: only a list of groups in a state has one"))
	}
	if q.err != nil {
		return q.err
	}
	var found dlq.GroupPage
	var err error
	if query.State != "" {
		found, err = dlq.CountGroups(r.Context(), h.queue, query)
	} else {
		found.Groups, err = h.queue.Groups(r.Context(), query.Sink)
	}
	if err != nil {
		return err
	}
	complete := found.NextCursor == "" && len(found.Groups) <= maxGroups
	groups := found.Groups[:min(len(found.Groups), maxGroups)]
	views := make([]groupView, 0, len(groups))
	for _, g := range groups {
		views = append(views, groupView{ID: groupID(g), Group: g})
	}
	return answer(w, http.StatusOK, map[string]any{
		"groups": views, "next_cursor": orNull(found.NextCursor), "complete": complete, "scanned": found.Scanned,
	})
}
