package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// progress is one line that is written again and again, on a terminal; elsewhere it is
// nothing.
type progress struct {
	w       io.Writer // nil: not a terminal
	what    string
	written int // width of the line as it stands
}

func newProgress(c *cobra.Command, what string) *progress {
	p := &progress{what: what}
	if w := c.ErrOrStderr(); isTerminal(w) {
		p.w = w
	}
	return p
}

const barWidth = 24

// show draws the line. A total of 0 is not known.
func (p *progress) show(done, total int64, remark string) {
	if p.w == nil {
		return
	}
	line := fmt.Sprintf("%s %d", p.what, done)
	if total > 0 {
		full := int(min(done, total) * barWidth / total)
		line = fmt.Sprintf("%s [%s%s] %d/%d %d%%", p.what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
			done, total, min(done, total)*100/total)
	}
	if remark != "" {
		line += "  " + remark
	}
	_, _ = fmt.Fprintf(p.w, "\r%-*s", p.written, line)
	p.written = len(line)
}

// end leaves the line as it is and begins a new one.
func (p *progress) end() {
	if p.w != nil && p.written > 0 {
		_, _ = fmt.Fprintln(p.w)
		p.written = 0
	}
}
