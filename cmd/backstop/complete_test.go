package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"backstop/lib/dlq"
)

// completions are what the shell is offered for a command line whose last word is begun.
func completions(t *testing.T, words ...string) []string {
	t.Helper()
	r := run(t, append([]string{"__complete"}, words...)...)
	if r.code != 0 {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	directive := lines[len(lines)-1]
	if !strings.HasPrefix(directive, ":") {
		t.Fatalf("no directive: %q", r.out)
	}
	if directive == ":0" {
		t.Errorf("%q: without an offer the shell would offer files", words)
	}
	return lines[:len(lines)-1]
}

func TestCompletionAsksTheAPI(t *testing.T) {
	sinks := ok(`{"sinks":[{"name":"mail","kind":"email","depth":3},{"name":"ops\u001b[2J","kind":"slack"},{"name":"old","depth":1}]}`)
	groups := ok(`{"groups":[{"id":"2f6a54c1d001","sink":"mail","reason":"exhausted","fingerprint":"HTTP 503","count":812}],"complete":true}`)
	names := []string{"mail\temail, 3 dead letters", "ops\uFFFD[2J\tslack, 0 dead letters", "old\tnot configured, 1 dead letter"}
	for _, c := range []struct {
		line  string // split at spaces; the last word is begun
		reply reply
		want  []string
	}{
		{"send --sink ", sinks, names},
		{"delivery ", sinks, []string{"cancel\tTake a delivery back that was not sent yet", "show\tTell what became of a delivery, and its whole way"}},
		{"delivery mail ", sinks, nil},
		{"delivery show ", sinks, names},
		{"delivery cancel ", sinks, names},
		{"delivery cancel mail ", sinks, nil},
		{"send --after ", sinks, nil},
		{"sinks pause ", sinks, names},
		{"sinks resume ", sinks, names},
		{"dlq list --sink ", sinks, names},
		{"dlq count --sink ", sinks, names},
		{"dlq groups --sink ", sinks, names},
		{"dlq replay --sink ", sinks, names},
		{"dlq replay x~1-0 --to-sink ", sinks, names},
		{"dlq discard --sink ", sinks, names},
		{"dlq export --sink ", sinks, names},
		{"dlq replay --group ", groups, []string{"2f6a54c1d001\t812 mail exhausted HTTP 503"}},
		{"dlq show ", ok(`{"items":[` + oneRow + `],"next_cursor":null}`), []string{"mail~1-0\twaiting, gone\uFFFD]0;x\uFFFD"}},
		{"dlq show --as ", reply{status: 500}, []string{"curl", "cli"}},
		{"dlq audit ", reply{status: 500}, nil},
		{"dlq restore --since ", reply{status: 500}, nil},
		{"dlq erase --recipient ", reply{status: 500}, nil},
		{"dlq operations wait ", ok(`{"operations":[` + oneOp + `]}`), []string{"op-1\treplay, completed,"}},
		{"dlq list --reason ", reply{status: 500}, words(dlq.Reasons)},
		{"dlq list --state ", reply{status: 500}, words(dlq.States)},
		{"dlq export --state ", reply{status: 500}, words(dlq.States)},
		{"dlq groups --state ", reply{status: 500}, words(dlq.States)},
		{"dlq replay x --on-success ", reply{status: 500}, []string{"discard", "keep"}},
		{"sinks -o ", reply{status: 500}, []string{"table", "json"}},
	} {
		t.Run(c.line, func(t *testing.T) {
			newAPI(t, c.reply)
			got := completions(t, strings.Split(c.line, " ")...)
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("offered\n%q, want\n%q", got, c.want)
			}
		})
	}
}

// A Tab key must neither wait for long nor write an error into the command line.
func TestCompletionIsSilentWithoutTheAPI(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	released := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(released) })
	for name, url := range map[string]string{"gone": gone.URL, "hangs": hangs.URL, "no URL": "nonsense"} {
		t.Run(name, func(t *testing.T) {
			for _, line := range []string{"sinks pause --api " + url + " ", "dlq replay --api " + url + " --group "} {
				if got := completions(t, strings.Split(line, " ")...); len(got) > 0 {
					t.Errorf("%s: offered %q", line, got)
				}
			}
		})
	}
}
