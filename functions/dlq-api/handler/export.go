package handler

import (
	"net/http"
	"time"

	"backstop/lib/dlq"
)

// nextCursor is the header that carries an export's cursor.
const nextCursor = "Backstop-Next-Cursor"

// exportItems answers with whole items, one per line.
func (h *api) exportItems(w http.ResponseWriter, r *http.Request) error {
	filter, err := h.readFilter(r)
	if err != nil {
		return err
	}
	page, b, err := h.page(r.Context(), filter, exportLines)
	if err != nil {
		return err
	}
	if page.NextCursor != "" {
		w.Header().Set(nextCursor, page.NextCursor)
	}
	w.Header().Set("Cache-Control", "no-store")
	write(w, http.StatusOK, typeLines, b)
	return nil
}

func exportLines(p dlq.Page) ([]byte, error) {
	var all []byte
	now := time.Now()
	for _, it := range p.Items {
		b, err := encode(it.Show(now))
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}
