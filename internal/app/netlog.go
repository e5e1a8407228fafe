package app

import (
	"bytes"
	"io"
	"log"
)

// unasked is how net/http begins to print, through package log, what a receiver sent
// after its answer: it may hold what the receiver was sent, headers and all. A transport
// has no logger of its own that could be silenced.
const unasked = "Unsolicited response received on idle HTTP channel"

// hideUnasked keeps those bytes out of the process's log. Everything else stays as it is,
// and that it happened is said.
func hideUnasked() {
	w := log.Writer() //nolint:forbidigo // net/http knows no other
	if _, ok := w.(withoutUnasked); !ok {
		log.SetOutput(withoutUnasked{w}) //nolint:forbidigo // as above
	}
}

// withoutUnasked cuts the lines that begin to show what a receiver sent unasked.
type withoutUnasked struct{ next io.Writer }

// Write takes one line, as package log writes them.
func (w withoutUnasked) Write(line []byte) (int, error) {
	i := bytes.Index(line, []byte(unasked))
	if i < 0 {
		return w.next.Write(line)
	}
	if _, err := w.next.Write([]byte(string(line[:i]) + unasked + ": left out\n")); err != nil {
		return 0, err
	}
	return len(line), nil
}
