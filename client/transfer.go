package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"backstop/lib/fault"
)

// Bounds of one Import.
const (
	MaxImportLines = 1000
	MaxImportBytes = 4 << 20
)

const ndjson = "application/x-ndjson"

// Export yields the dead letters that f selects in full, newest first. The JSON of each is its
// line of an export, which Import takes. Nothing is removed. An item that is itself larger than
// an answer can be comes without message and recipient, and with a DecodeError that says so.
func (c *Client) Export(ctx context.Context, f Filter) iter.Seq2[Item, error] {
	return paged(func(cursor string) ([]Item, string, error) {
		lines, next, err := c.ExportPage(ctx, f, cursor)
		if err != nil {
			return nil, "", err
		}
		var items []Item
		for line := range bytes.Lines(lines) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			it := Item{Raw: Raw{JSON: line}}
			if err := json.Unmarshal(line, &it); err != nil {
				return nil, "", c.stranger(fmt.Errorf("a line of the export is not the API's: %w", err))
			}
			items = append(items, it)
		}
		return items, next, nil
	})
}

// ExportPage returns a page of whole dead letters, one JSON object per line, newest first, and
// the next page's cursor, empty at the end. A page may be empty and have a next one. cursor is
// empty for the first.
func (c *Client) ExportPage(ctx context.Context, f Filter, cursor string) (lines []byte, next string, err error) {
	r := get("dlq", "export")
	r.query = f.page(MaxImportLines, cursor)
	header, lines, err := c.send(ctx, r)
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
	Line       int          `json:"line"`
	Status     ImportStatus `json:"status"`
	ID         string       `json:"id"`
	DeliveryID string       `json:"delivery_id"`
	Code       fault.Code   `json:"code"`
	Error      string       `json:"error"`
}

// complete reports whether each line has its result, and each result is counted.
func (r ImportResult) complete(lines []byte) bool {
	n, results := 0, r.Results
	for line := range bytes.Lines(lines) {
		if n++; len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(results) == 0 || results[0].Line != n {
			return false
		}
		results = results[1:]
	}
	return len(results) == 0 && r.Stored+r.Exists+r.Skipped+r.Rejected+r.Failed == len(r.Results)
}

// Import stores exported dead letters: at most MaxImportLines lines and MaxImportBytes. Every
// line has a result; look at Rejected and Failed. The call may be repeated, as long as records of
// deliveries are kept (24 h by default): nothing is stored twice, and what was delivered
// meanwhile is skipped. The client does not repeat it.
func (c *Client) Import(ctx context.Context, lines []byte) (res ImportResult, err error) {
	r := post("dlq", "import")
	r.body, r.contentType = lines, ndjson
	r.about = func() bool { return res.complete(lines) }
	_, err = c.call(ctx, r, &res)
	return res, err
}
