package app

import (
	"bytes"
	"fmt"
	"log"
	"testing"
)

func TestOnlyWhatCameUnaskedIsLeftOutOfTheLog(t *testing.T) {
	before := log.Writer()      //nolint:forbidigo // what net/http writes to
	defer log.SetOutput(before) //nolint:forbidigo // as above
	var b bytes.Buffer
	log.SetOutput(&b) //nolint:forbidigo // as above
	hideUnasked()
	hideUnasked()     // changes nothing
	w := log.Writer() //nolint:forbidigo // as above
	for _, line := range []string{
		"our own line\n",
		fmt.Sprintf("2026/01/02 Unsolicited response received on idle HTTP channel starting with %q; err=%v\n", "HTTP/1.1 500 s3cret", nil),
		"two\nlines\n",
	} {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("Write(%q) = %d, %v", line, n, err)
		}
	}
	want := "our own line\n2026/01/02 Unsolicited response received on idle HTTP channel: left out\ntwo\nlines\n"
	if got := b.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
