package handler

import (
	"bytes"
	"net/http"

	"backstop/internal/strictjson"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// Bounds of one import. A page of an export fits.
const (
	maxImport      = maxAnswer // bytes
	maxImportLines = maxPage
)

// importLine is the answer to one line of an import.
type importLine struct {
	Line       int                 `json:"line"`
	Status     replay.ImportStatus `json:"status"`
	ID         string              `json:"id,omitempty"`
	DeliveryID string              `json:"delivery_id,omitempty"`
	Code       fault.Code          `json:"code,omitempty"`
	Error      string              `json:"error,omitempty"`
}

// decide fills in what became of the line.
func (l *importLine) decide(of replay.Imported) {
	l.Status, l.ID, l.DeliveryID, l.Error = of.Status, of.ID, of.DeliveryID, of.Note
	if of.Err != nil {
		p := problemOf(of.Err)
		l.Code, l.Error = p.Code, p.Detail
	}
}

// importItems stores the items of an export.
func (h *api) importItems(w http.ResponseWriter, r *http.Request) error {
	lines, items, err := readLines(w, r)
	if err != nil {
		return err
	}
	results := h.engine.Import(r.Context(), items)
	counts := map[replay.ImportStatus]int{}
	var failure error
	for i := range lines {
		if lines[i].Status == "" {
			lines[i].decide(results[0])
			if results[0].Status == replay.ImportFailed && failure == nil {
				failure = results[0].Err
			}
			results = results[1:]
		}
		counts[lines[i].Status]++
	}
	if failure != nil && counts[replay.ImportFailed] == len(lines) {
		return failure
	}
	h.audit(r.Context(), "imported", "stored", counts[replay.ImportStored], "exists", counts[replay.ImportExists], "skipped", counts[replay.ImportSkipped],
		"rejected", counts[replay.ImportRejected], "failed", counts[replay.ImportFailed])
	return answer(w, http.StatusOK, map[string]any{
		"stored": counts[replay.ImportStored], "exists": counts[replay.ImportExists], "skipped": counts[replay.ImportSkipped],
		"rejected": counts[replay.ImportRejected], "failed": counts[replay.ImportFailed], "results": lines,
	})
}

// readLines reads the body. A line that is no item is decided; the others' items follow in
// their order.
func readLines(w http.ResponseWriter, r *http.Request) ([]importLine, []dlq.Item, error) {
	body, err := readBody(w, r, maxImport)
	if err != nil {
		return nil, nil, err
	}
	lines, items := []importLine{}, []dlq.Item{}
	n := 0
	for text := range bytes.Lines(body) {
		n++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if len(lines) == maxImportLines {
			return nil, nil, invalid("request body: more than %d items; import them in parts", maxImportLines)
		}
		l := importLine{Line: n}
		if it, err := readItem(text); err != nil {
			l.decide(replay.Imported{Status: replay.ImportRejected, DeliveryID: it.DeliveryID, Err: err})
		} else {
			items = append(items, it)
		}
		lines = append(lines, l)
	}
	return lines, items, nil
}

// readItem decodes a line strictly: a member that is not known would be lost.
func readItem(text []byte) (dlq.Item, error) {
	var in struct {
		dlq.Shown                // its state is not kept: it is what comes of the item here
		Message   *sinks.Message `json:"message"`
	}
	if err := strictjson.Decode(text, &in); err != nil {
		return dlq.Item{}, invalid("%s", strictjson.Text("line", err))
	}
	if err := replay.CheckImport(in.Item); err != nil {
		return in.Item, err
	}
	if in.Message == nil {
		return in.Item, invalid("message: missing")
	}
	in.Item.Message = *in.Message
	return in.Item, nil
}
