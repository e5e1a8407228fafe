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

// table collects rows and prints them in columns. In a terminal, its lines are no longer than that is wide: columns are cut or left
// out, or the last one goes on below. What names a thing (an id) is never cut: a terminal narrower than that breaks its line.
type table struct {
	rows [][]string
	// elastic are the columns that are cut where a terminal is too narrow.
	elastic []int
	// spare are the columns that are left out, in this order, where that does not suffice.
	spare []int
	wraps bool // the last column goes on below, at words
	wide  bool // nothing is cut, left out or wrapped
	// paint colours a cell that is laid out. Nil: none is.
	paint func(column int, cell string) string
}

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

// cut says which columns, by their heads, are cut where a terminal is too narrow, unless wide is asked for.
func (t *table) cut(wide bool, heads ...string) *table {
	t.elastic, t.wide = t.named(heads), wide
	return t
}

// orLeaveOut says which columns are left out after that, the first ones first.
func (t *table) orLeaveOut(heads ...string) *table {
	t.spare = t.named(heads)
	return t
}

// wrap says that the last column goes on below, unless wide is asked for.
func (t *table) wrap(wide bool) *table {
	t.wraps, t.wide = true, wide
	return t
}

func (t *table) named(heads []string) []int {
	var columns []int
	for _, h := range heads {
		if i := slices.Index(t.rows[0], h); i >= 0 { // some tables have some columns only where they tell something
			columns = append(columns, i)
		}
	}
	return columns
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
	leastWidth = 12 // of a column that is cut
	leastWrap  = 20 // of one that goes on below
	leftOut    = -1 // the width of a column that is not shown
)

// print prints the rows. What is no terminal gets them whole.
func (t *table) print(w io.Writer) error {
	widths := t.widths()
	if most := terminalWidth(w); most > 0 && !t.wide {
		widths = t.fit(widths, most)
	}
	var b strings.Builder
	for r, row := range t.rows {
		for below := row; below != nil; {
			row, below = below, nil
			line, blanks := "", 0
			for i, cell := range row {
				if widths[i] == leftOut {
					continue
				}
				if t.wraps && i == len(widths)-1 {
					var rest string
					if cell, rest = breakAt(cell, widths[i]); rest != "" {
						below = append(make([]string, i), rest)
					}
				} else if runewidth.StringWidth(cell) > widths[i] {
					cell = runewidth.Truncate(cell, widths[i], "…")
				}
				line += strings.Repeat(" ", blanks)
				blanks = widths[i] - runewidth.StringWidth(cell) + columnGap
				if t.paint != nil && r > 0 {
					cell = t.paint(i, cell)
				}
				line += cell
			}
			if len(row) > 0 {
				b.WriteString(line + "\n")
			}
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

// fit returns widths with which all fits into most, as far as that can be.
func (t *table) fit(widths []int, most int) []int {
	natural := slices.Clone(widths)
	for _, column := range append([]int{leftOut}, t.spare...) {
		if column != leftOut {
			natural[column] = leftOut
		}
		copy(widths, natural)
		if last := len(widths) - 1; t.wraps {
			widths[last] = min(widths[last], max(leastWrap, most-taken(widths[:last])-columnGap))
		}
		if t.shrink(widths, most) {
			return widths
		}
	}
	return widths
}

// shrink takes from the widest of the elastic columns until all fit into most, and reports whether they do.
func (t *table) shrink(widths []int, most int) bool {
	for over := taken(widths) - most; over > 0; over-- {
		widest := -1
		for _, i := range t.elastic {
			if widths[i] > leastWidth && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}

// taken is how wide columns are, with what is between them.
func taken(widths []int) (n int) {
	for _, w := range widths {
		if w != leftOut {
			n += w + columnGap
		}
	}
	return max(n-columnGap, 0)
}

// breakAt cuts text after the last word that fits into width, and returns the rest. A word that is longer than all of it stays whole:
// an id or a URL is there to be copied.
func breakAt(text string, width int) (line, rest string) {
	if runewidth.StringWidth(text) <= width {
		return text, ""
	}
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	end := len(runewidth.Truncate(text, width, ""))
	if space := strings.LastIndexByte(text[:min(end+1, len(text))], ' '); space > len(indent) {
		end = space
	} else if space = strings.IndexByte(text[max(end, len(indent)):], ' '); space >= 0 {
		end = max(end, len(indent)) + space
	} else {
		return text, ""
	}
	return text[:end], indent + strings.TrimLeft(text[end:], " ")
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
func colours(w io.Writer) bool { return obeys(w) && os.Getenv("NO_COLOR") == "" }

// obeys reports whether w does what control sequences say.
func obeys(w io.Writer) bool { return isTerminal(w) && os.Getenv("TERM") != "dumb" }

// The colours, as a terminal takes them.
const (
	red, yellow, green = "\x1b[31m", "\x1b[33m", "\x1b[32m"
	plain              = "\x1b[0m"
)

// sendPrefix matches what the errors of HTTP kinds begin with, and that of what was not attempted: it is the same in all lines of a sink.
var sendPrefix = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:SINK_UNAVAILABLE: (?:[A-Z]+ https?://\S+: )?|NOT_ATTEMPTED: )`)
})

// cause is what differs between errors: without the code that most have, and where it was sent to.
func cause(failure string) string {
	if short := sendPrefix().ReplaceAllString(failure, ""); short != "" {
		return short
	}
	return failure
}
