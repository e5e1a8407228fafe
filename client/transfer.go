package client

import (
	"context"
	"net/http"

	"backstop/lib/fault"
)

// Bounds of one Import.
const (
	MaxImportLines = 1000
	MaxImportBytes = 4 << 20
)

const ndjson = "application/x-ndjson"

// Export returns a page of whole dead letters, one JSON object per line, newest first,
// and the next page's cursor, empty at the end. A page may be empty and have a next one.
func (c *Client) Export(ctx context.Context, f Filter, cursor string) (lines []byte, next string, err error) {
	header, lines, err := c.send(ctx, request{method: http.MethodGet, path: []string{"dlq", "export"}, query: f.page(MaxImportLines, cursor)})
	return lines, header.Get("Backstop-Next-Cursor"), err
}

// ImportResult is what became of each line.
type ImportResult struct {
	Raw
	Stored   int          `json:"stored"`
	Exists   int          `json:"exists"`   // there already
	Skipped  int          `json:"skipped"`  // delivered: nothing is to be done
	Rejected int          `json:"rejected"` // the line is wrong
	Failed   int          `json:"failed"`   // to be imported again later
	Results  []ImportLine `json:"results"`
}

// ImportLine is what became of one line, counted from 1.
type ImportLine struct {
	Line       int        `json:"line"`
	Status     string     `json:"status"`
	ID         string     `json:"id"`
	DeliveryID string     `json:"delivery_id"`
	Code       fault.Code `json:"code"`
	Error      string     `json:"error"`
}

// Import stores exported dead letters: at most MaxImportLines lines and MaxImportBytes.
// The call may be repeated: nothing is stored twice.
func (c *Client) Import(ctx context.Context, lines []byte) (r ImportResult, err error) {
	err = c.call(ctx, request{method: http.MethodPost, path: []string{"dlq", "import"}, body: lines, contentType: ndjson}, &r)
	return r, err
}
