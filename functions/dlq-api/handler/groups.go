package handler

import (
	"context"
	"net/http"
	"time"

	"backstop/lib/dlq"
)

// maxGroups is the most groups in an answer.
const maxGroups = 10_000

// groupView is a group with a short name, which a person can type.
type groupView struct {
	ID string `json:"id"`
	dlq.Group
}

func viewGroup(g dlq.Group) groupView { return groupView{ID: g.ID(), Group: g} }

// groups answers with the counters that the store keeps, for which nothing is scanned. It
// keeps none by state or metadata: such groups are counted by a search.
func (h *api) groups(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "sink", "state", "meta", "cursor")
	query := dlq.Query{Sink: q.sink(), State: q.state(), Meta: q.meta, Cursor: q.text("cursor")}
	searches := query.State != "" || len(query.Meta) > 0
	if q.err == nil && query.Cursor != "" && !searches {
		q.fail(invalid("cursor: only a list of groups with a state or meta has one"))
	}
	if q.err != nil {
		return q.err
	}
	var found dlq.GroupPage
	known, err := h.queue.Groups(r.Context(), query.Sink)
	if err != nil {
		return err
	}
	found.Groups = known
	if searches {
		if found, err = dlq.CountGroups(r.Context(), h.queue, query); err != nil {
			return err
		}
		complete(found.Groups, known)
	}
	all := found.NextCursor == "" && len(found.Groups) <= maxGroups
	groups := found.Groups[:min(len(found.Groups), maxGroups)]
	views := make([]groupView, 0, len(groups))
	for _, g := range groups {
		views = append(views, viewGroup(g))
	}
	return answer(w, http.StatusOK, map[string]any{
		"groups": views, "next_cursor": orNull(found.NextCursor), "complete": all, "scanned": found.Scanned,
	})
}

// complete tells of groups that were counted what is known of them beside their count.
func complete(counted, known []dlq.Group) {
	by := make(map[string]dlq.Group, len(known))
	for _, g := range known {
		by[g.ID()] = g
	}
	for i, g := range counted {
		if k, ok := by[g.ID()]; ok {
			k.Count = g.Count
			counted[i] = k
		}
	}
}

// noteGroup notes something about a group, by who calls.
func (h *api) noteGroup(w http.ResponseWriter, r *http.Request) error {
	var note struct {
		Note         string `json:"note"`
		Acknowledged bool   `json:"acknowledged"`
	}
	if err := decode(w, r, &note); err != nil {
		return err
	}
	g, err := dlq.FindGroup(r.Context(), h.queue, "", r.PathValue("id"))
	if err != nil {
		return err
	}
	g, err = h.queue.NoteGroup(r.Context(), g.Sink, g.Reason, g.Fingerprint, dlq.GroupNote{
		Note: note.Note, Acknowledged: note.Acknowledged, By: actor(r.Context()), At: time.Now().UTC().Truncate(time.Millisecond),
	})
	if err != nil {
		return err
	}
	h.audit(r.Context(), "group noted", "group", g.ID(), "sink", g.Sink, "acknowledged", note.Acknowledged)
	return answer(w, http.StatusOK, viewGroup(g))
}

// group takes the id of a group instead of its reason and fingerprint.
func (h *api) group(ctx context.Context, id string, sink *string, reason *dlq.Reason, fingerprint *string) error {
	if id == "" {
		return nil
	}
	if *reason != "" || *fingerprint != "" {
		return invalid("group: it says reason and fingerprint: leave them out")
	}
	g, err := dlq.FindGroup(ctx, h.queue, *sink, id)
	*sink, *reason, *fingerprint = g.Sink, g.Reason, g.Fingerprint
	return err
}
