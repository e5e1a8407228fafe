package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
)

func newDLQExport(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "export",
		Short: "Write dead letters in full to standard output, one JSON object per line",
		Long: `Export writes whole dead letters (NDJSON), newest first. Nothing is removed. The output holds recipients and
message bodies: keep it as safe as the messages.`,
		Example: `  backstop dlq export > dead.ndjson
  backstop dlq export --sink mail --since 24h | jq -r .recipient.address`,
		Args: cobra.NoArgs,
	}
	filters := addFilter(c, conn)
	addState(c, &filters.State)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		f, err := filters.filter(c.Context(), api, time.Now())
		if err != nil {
			return err
		}
		n := 0
		for cursor := ""; ; {
			lines, next, err := api.ExportPage(c.Context(), f, cursor)
			if err != nil {
				if n > 0 {
					note(c, "The export is not complete: it ended after %s.", plural(int64(n), "dead letter"))
				}
				return err
			}
			n += bytes.Count(lines, []byte("\n"))
			if err := printText(api.out, string(lines)); err != nil {
				return err
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		note(c, "%s exported%s", plural(int64(n), "dead letter"), describe(f))
		return nil
	}
	return c
}

func newDLQImport(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Store exported dead letters again",
		Long: `Import stores what export wrote, oldest first; - reads standard input, which it keeps in a temporary file.

It can be repeated: what is there already is not stored twice, and what was delivered meanwhile is skipped. That is
known for as long as the stack keeps records of deliveries (BACKSTOP_IDEMPOTENCY_TTL, 24 h by default, from the
delivery on): do not import a file again that is older.

An imported dead letter gets a new id and is due as after its failure: pause its sink first if it shall only be stored.

The exit code is 1 when a line was rejected or could not be stored; each is named.`,
		Example: `  backstop dlq import dead.ndjson
  jq -c 'select(.sink == "mail")' dead.ndjson | backstop dlq import -`,
		Args: cobra.ExactArgs(1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		var f *os.File
		if args[0] == "-" {
			var remove func()
			if f, remove, err = spool(c.InOrStdin()); err != nil {
				return err
			}
			defer remove()
		} else {
			if f, err = os.Open(args[0]); err != nil {
				return usage("%w", err)
			}
			defer f.Close()
		}
		i := &importer{api: api, c: c}
		err = i.run(c.Context(), f)
		if !api.json {
			err = errors.Join(err, i.print())
		}
		if err != nil {
			return hinted(err, "Run the same import again: no line is stored twice.")
		}
		if n := i.sum.Rejected + i.sum.Failed; n > 0 {
			return &exitError{code: exitFailed, err: fmt.Errorf("%s not imported", plural(int64(n), "line"))}
		}
		return nil
	}
	return c
}

// importBytes is the most of one call: less than the API takes, since API Gateway may
// encode it in base64 on its way.
const importBytes = 3 << 20

// importer sends lines in chunks.
type importer struct {
	api session
	c   *cobra.Command

	chunk bytes.Buffer
	lines []int // the chunk's lines as numbered in the file
	sum   client.ImportResult
}

func (i *importer) run(ctx context.Context, f *os.File) error {
	lines, err := oldestFirst(f)
	if err != nil {
		return err
	}
	for _, l := range lines {
		text := make([]byte, l.size)
		if _, err := f.ReadAt(text, l.offset); err != nil {
			return err
		}
		if err := i.add(ctx, l.number, bytes.TrimSpace(text)); err != nil {
			return err
		}
	}
	return i.flush(ctx)
}

func (i *importer) add(ctx context.Context, n int, line []byte) error {
	if len(line) >= client.MaxImportBytes {
		i.sum.Rejected++
		note(i.c, "line %d: rejected: %d bytes are more than the API takes", n, len(line))
		return nil
	}
	if len(i.lines) == client.MaxImportLines || i.chunk.Len() > 0 && i.chunk.Len()+len(line) >= importBytes {
		if err := i.flush(ctx); err != nil {
			return err
		}
	}
	i.lines = append(i.lines, n)
	i.chunk.Write(line)
	i.chunk.WriteByte('\n')
	return nil
}

const importTries = 5

// flush imports the chunk, again where no answer came: nothing is stored twice.
func (i *importer) flush(ctx context.Context) error {
	if len(i.lines) == 0 {
		return nil
	}
	r, err := repeating(ctx, importTries, func() (client.ImportResult, error) { return i.api.Import(ctx, i.chunk.Bytes()) })
	if err != nil {
		return err
	}
	i.sum.Stored += r.Stored
	i.sum.Exists += r.Exists
	i.sum.Skipped += r.Skipped
	i.sum.Rejected += r.Rejected
	i.sum.Failed += r.Failed
	for _, l := range r.Results {
		if (l.Status == client.ImportRejected || l.Status == client.ImportFailed) && l.Line >= 1 && l.Line <= len(i.lines) {
			note(i.c, "line %d: %s: %s (%s)", i.lines[l.Line-1], l.Status, oneLine(l.Error), l.Code)
		}
	}
	i.chunk.Reset()
	i.lines = i.lines[:0]
	if i.api.json {
		return printJSON(i.api.out, r.JSON)
	}
	return nil
}

func (i *importer) print() error {
	t := newTable("STORED", "THERE ALREADY", "DELIVERED (SKIPPED)", "REJECTED", "FAILED")
	t.add(i.sum.Stored, i.sum.Exists, i.sum.Skipped, i.sum.Rejected, i.sum.Failed)
	return t.print(i.api.out)
}
