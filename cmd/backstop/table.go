package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// table collects rows and prints them in columns.
type table struct {
	rows [][]string
	// elastic are the columns that are cut where a terminal is too narrow.
	elastic []int
	wide    bool // nothing is cut
	// paint colours a cell that is laid out. Nil: none is.
	paint func(column int, cell string) string
}

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

// cut says which columns, by their heads, are cut where a terminal is too narrow, unless wide is asked for.
func (t *table) cut(wide bool, heads ...string) *table {
	for _, h := range heads {
		t.elastic = append(t.elastic, slices.Index(t.rows[0], h))
	}
	t.wide = wide
	return t
}

// add adds a row. Cells are cleaned: text from outside must not move the cursor
// of a terminal.
func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = cmp.Or(oneLine(fmt.Sprint(c)), "-")
	}
	t.rows = append(t.rows, row)
}

const (
	columnGap  = 2
	leastWidth = 10 // of a column that is cut
)

// print prints the rows. What is no terminal gets them whole.
func (t *table) print(w io.Writer) error {
	widths := t.widths()
	if most := terminalWidth(w); most > 0 && !t.wide {
		t.shrink(widths, most)
	}
	var b strings.Builder
	for r, row := range t.rows {
		for i, cell := range row {
			if runewidth.StringWidth(cell) > widths[i] {
				cell = runewidth.Truncate(cell, widths[i], "…")
			}
			gap := ""
			if i < len(row)-1 {
				gap = strings.Repeat(" ", widths[i]-runewidth.StringWidth(cell)+columnGap)
			}
			if t.paint != nil && r > 0 {
				cell = t.paint(i, cell)
			}
			b.WriteString(cell + gap)
		}
		if len(row) > 0 {
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) widths() []int {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	return widths
}

// shrink takes from the widest of the elastic columns until all fit into most.
func (t *table) shrink(widths []int, most int) {
	for over := sum(widths) + columnGap*(len(widths)-1) - most; over > 0; over-- {
		widest := -1
		for _, i := range t.elastic {
			if widths[i] > leastWidth && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func sum(all []int) (n int) {
	for _, v := range all {
		n += v
	}
	return n
}

// terminalWidth is how many columns w shows; 0: it is no terminal, or does not tell.
func terminalWidth(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}

// colours reports whether w may have colours (https://no-color.org).
func colours(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// The colours, as a terminal takes them.
const (
	red, yellow, green = "\x1b[31m", "\x1b[33m", "\x1b[32m"
	plain              = "\x1b[0m"
)

// sendPrefix matches what the errors of HTTP kinds begin with: it is the same in all lines of a sink.
var sendPrefix = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^SINK_UNAVAILABLE: (?:[A-Z]+ https?://\S+: )?`) })

// cause is what differs between errors: without the code that most have, and where it was sent to.
func cause(failure string) string {
	if short := sendPrefix().ReplaceAllString(failure, ""); short != "" {
		return short
	}
	return failure
}
