package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"
)

// A table is as wide as the terminal: what can be cut is cut, from the widest on; what is no terminal gets it whole.
func TestATableFitsTheTerminal(t *testing.T) {
	fill := func(wide bool) *table {
		tb := newTable("ID", "CAUSE", "AGE", "SUBJECT").cut(wide, "CAUSE", "SUBJECT")
		tb.add("mail~1767225600000-0", "dial tcp 192.0.2.1:443: connect: connection refused by the receiver", "2h", "Ihre Bestellung 注文番号 4711 ist unterwegs")
		tb.add("mail~1767225600001-0", "short", "2h", "")
		return tb
	}
	show := func(tb *table, columns string) (lines []string) {
		t.Helper()
		t.Setenv("COLUMNS", columns)
		var out terminal
		if err := tb.print(&out); err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
	for _, columns := range []string{"80", "100"} {
		for _, line := range show(fill(false), columns) {
			if w := runewidth.StringWidth(line); w > map[string]int{"80": 80, "100": 100}[columns] {
				t.Errorf("in %s columns: %d: %s", columns, w, line)
			}
			if !strings.HasPrefix(line, "mail~176722560000") && !strings.HasPrefix(line, "ID") {
				t.Errorf("the id is cut: %s", line)
			}
		}
	}
	if lines := show(fill(false), "20"); !strings.Contains(lines[1], "mail~1767225600000-0  dial tcp …") {
		t.Errorf("in 20 columns: %q", lines)
	}
	whole := "connection refused by the receiver  2h   Ihre Bestellung 注文番号 4711 ist unterwegs"
	if lines := show(fill(true), "80"); !strings.Contains(lines[1], whole) {
		t.Errorf("--wide: %q", lines)
	}
	var pipe bytes.Buffer
	if err := fill(false).print(&pipe); err != nil || !strings.Contains(pipe.String(), whole) {
		t.Errorf("no terminal: %q, %v", pipe.String(), err)
	}
}

func TestCausesLeaveOutWhatIsTheSame(t *testing.T) {
	for failure, want := range map[string]string{
		"SINK_UNAVAILABLE: POST https://<host>: HTTP 503": "HTTP 503",
		"SINK_UNAVAILABLE: RCPT TO: SMTP 550":             "RCPT TO: SMTP 550",
		"SINK_CONFIG_INVALID: url: missing":               "SINK_CONFIG_INVALID: url: missing",
		"SINK_UNAVAILABLE: ":                              "SINK_UNAVAILABLE: ",
		"":                                                "",
	} {
		if got := cause(failure); got != want {
			t.Errorf("%q: %q, want %q", failure, got, want)
		}
	}
}

// STATE has its colour where there is somebody to see it.
func TestStatesHaveColours(t *testing.T) {
	for noColour, want := range map[string]bool{"": true, "1": false} {
		t.Setenv("NO_COLOR", noColour)
		t.Setenv("TERM", "xterm")
		newAPI(t, ok(`{"sinks":[`+downSink+`],"config_age_seconds":1}`))
		var out terminal
		root := newRoot()
		root.SetArgs([]string{"sinks"})
		root.SetOut(&out)
		root.SetErr(&out)
		if code := execute(t.Context(), root, &out); code != exitDone || strings.Contains(out.String(), red+"open"+plain) != want {
			t.Errorf("NO_COLOR=%q: exit code %d, %q", noColour, code, out.String())
		}
	}
}

// --watch shows them again until it is ended, and what fails in their place.
func TestSinksAreWatched(t *testing.T) {
	out, stop := serve(t, "sinks", "--watch=500ms", "--api", newAPI(t, ok(`{"sinks":[`+downSink+`],"config_age_seconds":1}`), problem(400, "INVALID_ARGUMENT"), ok(`{"sinks":[`+oneSink+`],"config_age_seconds":1}`)).URL)
	for _, want := range []string{"hook  open", "INVALID_ARGUMENT", "mail  paused"} {
		for {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatalf("no %s: %v", want, err)
			}
			if strings.Contains(line, want) {
				break
			}
		}
	}
	if code := stop(); code != exitDone {
		t.Errorf("exit code %d, want %d", code, exitDone)
	}
	run(t, "sinks", "--watch=1ms").want(t, exitUsage, "", "want at least 500ms")
}
