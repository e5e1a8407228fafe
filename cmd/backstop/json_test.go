package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
)

// jsonElsewhere are the commands that offer -o json and do not ask the API, with the test
// that reads what they print.
var jsonElsewhere = map[string]string{
	"backstop config check": "TestConfigCheckNamesPlaceAndKey",
	"backstop console":      "TestConsoleServesThePageAndTheAPIUntilItIsStopped",
	"backstop redrive list": "TestRedriveAgainstAQueue",
	"backstop sink kinds":   "TestSinkKindsListsEveryKind",
	"backstop sink test":    "TestSinkTestSendsAndSaysWhatItMeans",
	"backstop version":      "TestVersionSaysWhichBuildThisIs",
}

// With -o json, every answer of a command is JSON to its last byte, and nothing but JSON:
// a script reads it with jq.
func TestEveryCommandThatOffersJSONPrintsNothingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dead.ndjson")
	if err := os.WriteFile(file, []byte(`{"sink":"mail"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	page := `{"items":[` + oneRow + `],"next_cursor":null,"complete":true,"scanned":1}`
	lines := reply{status: 200, body: oneItem + "\n" + oneItem + "\n", header: http.Header{"Content-Type": {"application/x-ndjson"}}}
	done := operation("completed", 3, 0)
	cases := map[string]struct {
		args    string
		replies []reply
		code    int
		values  int // how many JSON values
	}{
		"backstop send":            {"--sink mail --body x", []reply{ok(`{"status":"delivered","delivery_id":"$id","attempts":1}`)}, 0, 1},
		"backstop doctor":          {"", []reply{ok(`{"sinks":[],"config_age_seconds":1}`)}, 1, 1},
		"backstop delivery":        {"mail d", []reply{ok(`{"sink":"mail","delivery_id":"d","status":"delivered"}`)}, 0, 1},
		"backstop delivery show":   {"mail d", []reply{ok(`{"sink":"mail","delivery_id":"d","status":"delivered"}`)}, 0, 1},
		"backstop delivery cancel": {"mail d --wait 0s", []reply{ok(`{"status":"canceled","delivery_id":"d","known":true,"attempts":0}`)}, 0, 1},
		"backstop sinks":           {"", []reply{ok(`{"sinks":[` + oneSink + `],"config_age_seconds":1}`)}, 0, 1},
		"backstop sinks list":      {"", []reply{ok(`{"sinks":[],"config_age_seconds":1,"config_error":"away"}`)}, 0, 1},
		"backstop sinks pause":     {"mail", []reply{ok(oneSink)}, 0, 1},
		"backstop sinks resume":    {"mail", []reply{ok(oneSink)}, 0, 1},
		"backstop dlq list":        {"", []reply{ok(page)}, 0, 1},
		"backstop dlq show":        {"mail~1-0", []reply{ok(oneItem)}, 0, 1},
		"backstop dlq count":       {"", []reply{ok(`{"count":0,"sinks":{}}`)}, 0, 1},
		"backstop dlq groups":      {"", []reply{ok(`{"groups":[],"next_cursor":null,"complete":false,"scanned":0}`)}, 0, 1},
		"backstop dlq groups note": {"2f6a54c1d001 x", []reply{ok(`{"id":"2f6a54c1d001","sink":"mail","reason":"config","fingerprint":"f","count":1,"last_hour":0,"last_day":0}`)}, 0, 1},
		"backstop dlq chart":       {"", []reply{ok(`{"by":"sink","interval":"1h","since":"2026-01-01T00:00:00Z","until":"2026-01-01T01:00:00Z","buckets":[],"series":[],"count":0,"arrived_total":0}`)}, 0, 1},
		"backstop dlq replay":      {"--sink mail --yes", []reply{dryRun(3), created(), done}, 0, 1},
		"backstop dlq discard":     {"--sink mail --yes --wait=false", []reply{dryRun(3), created()}, 0, 1},
		"backstop dlq unpark":      {"mail~1-0 1-0", []reply{ok(oneItem)}, 0, 2},
		"backstop dlq export":      {"", []reply{lines}, 0, 2},
		"backstop dlq import":      {file, []reply{ok(`{"stored":0,"exists":0,"skipped":0,"rejected":1,"failed":0,"results":[{"line":1,"status":"rejected","code":"INVALID_ARGUMENT","error":"message: missing"}]}`)}, 1, 1},
		"backstop dlq restore": {"--yes", []reply{
			journalDry("restore", 3, true, restored(3, 0, 0, 0, 0, false)), journalCreated("restore", restored(0, 0, 0, 0, 0, false)), journalOp("restore", "completed", restored(3, 0, 0, 0, 0, false)),
		}, 0, 1},
		"backstop dlq audit":             {"", []reply{journalCreated("audit", audited(0, 0, 0, 0, 0, 0, 0)), journalOp("audit", "completed", audited(9, 8, 0, 0, 0, 1, 0))}, 1, 1},
		"backstop dlq erase":             {"--recipient ann@example.com --dry-run", []reply{journalDry("erase", 3, true, `"erase":{"erased":0,"versions":0,"unreadable":0,"damaged":0}`)}, 0, 1},
		"backstop dlq operations":        {"", []reply{ok(`{"operations":[` + oneOp + `]}`)}, 0, 1},
		"backstop dlq operations list":   {"", []reply{ok(`{"operations":[]}`)}, 0, 1},
		"backstop dlq operations show":   {"op-1", []reply{ok(oneOp)}, 0, 1},
		"backstop dlq operations wait":   {"op-1", []reply{operation("running", 1, 0), operation("completed", 3, 1)}, 1, 1},
		"backstop dlq operations resume": {"op-1", []reply{operation("queued", 0, 0), operation("completed", 3, 1)}, 1, 1},
		"backstop dlq operations cancel": {"op-1", []reply{ok(oneOp)}, 0, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			newAPI(t, c.replies...)
			args := append(strings.Fields(name)[1:], strings.Fields(c.args)...)
			r := run(t, append(args, "-o", "json")...)
			values, err := jsonValues(r.out)
			if r.code != c.code || err != nil || values != c.values {
				t.Errorf("exit code %d, %d JSON values, %v; want %d and %d:\n%s%s", r.code, values, err, c.code, c.values, r.out, r.err)
			}
		})
	}
	t.Run("a problem goes to standard error", func(t *testing.T) {
		for name, c := range cases {
			newAPI(t, problem(503, "SINK_DLQ_UNAVAILABLE"))
			if name == "backstop send" || name == "backstop dlq import" || name == "backstop dlq operations wait" {
				continue // they try again for a while
			}
			if name == "backstop doctor" {
				continue // which says that too, in its answer
			}
			args := append(strings.Fields(name)[1:], strings.Fields(c.args)...)
			if r := run(t, append(args, "-o", "json")...); r.code == 0 || r.out != "" || !strings.HasPrefix(r.err, "backstop: ") && len(strings.Fields(c.args)) < 2 {
				t.Errorf("%s: exit code %d, output %q, standard error %q", name, r.code, r.out, r.err)
			}
		}
	})
	for _, name := range offeringJSON(newRoot()) {
		if _, ok := cases[name]; !ok && jsonElsewhere[name] == "" {
			t.Errorf("%s offers -o json and is not tested here", name)
		}
	}
}

// jsonValues counts the JSON values in s, which must have nothing else in it.
func jsonValues(s string) (n int, err error) {
	for d := json.NewDecoder(strings.NewReader(s)); ; n++ {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// offeringJSON names the commands that do something and have -o.
func offeringJSON(c *cobra.Command) []string {
	var names []string
	for _, below := range c.Commands() {
		names = append(names, offeringJSON(below)...)
	}
	c.InheritedFlags() // makes Flag see the parents' flags
	if c.Flag("output") != nil && c.Runnable() && c.CommandPath() != "backstop dlq" {
		names = append(names, c.CommandPath())
	}
	return names
}

// A terminal acts on C1 controls and on marks that turn text around. In JSON they are
// escaped there, so that the same values are read; a pipe gets the answer as it came.
func TestJSONForATerminalHasNothingThatItActsOn(t *testing.T) {
	const body = "a\u009b31mb\u202ec\u2066d\u200ee\u061cf\u007fg\ufeffh é 😀 \U000e0041"
	item := strings.Replace(oneItem, `"body":"`, `"body":"`+body, 1)
	if item == oneItem {
		t.Fatal("the sample has no body")
	}
	file := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(file, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := reply{status: 200, body: item + "\n", header: http.Header{"Content-Type": {"application/x-ndjson"}}}
	for name, c := range map[string]struct {
		args  string
		reply reply
	}{
		"one item":  {"dlq show mail~1-0 -o json", ok(item)},
		"export":    {"dlq export", lines},
		"an answer": {"invoke send -e " + file + " --endpoint URL", ok(item)},
	} {
		api := newAPI(t, c.reply)
		args := strings.Fields(strings.Replace(c.args, "URL", api.URL, 1))
		var screen terminal
		root := newRoot()
		root.SetArgs(args)
		root.SetOut(&screen)
		root.SetErr(io.Discard)
		if code := execute(t.Context(), root, io.Discard); code != 0 {
			t.Fatalf("%s: exit code %d: %s", name, code, screen.String())
		}
		piped := run(t, args...).out
		for what, out := range map[string]string{"a terminal": screen.String(), "a pipe": piped} {
			var it struct{ Message struct{ Body string } }
			if err := json.Unmarshal([]byte(out), &it); err != nil || !strings.HasPrefix(it.Message.Body, body) {
				t.Errorf("%s to %s: %v, body %q, want %q", name, what, err, it.Message.Body, body)
			}
		}
		if got := strings.ToValidUTF8(screen.String(), "\u009b"); strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%s: the terminal acts on %q", name, got)
		}
		if !strings.Contains(screen.String(), `\u009b31mb\u202ec`) || !strings.Contains(screen.String(), "é 😀") || !strings.Contains(piped, body) {
			t.Errorf("%s: to a terminal %q, to a pipe %q", name, screen.String(), piped)
		}
	}
}

// The functions' log lines hold what receivers said.
func TestLogLinesForATerminalHaveNothingThatItActsOn(t *testing.T) {
	var screen terminal
	if err := printLog(&screen, "send", "{\"error\":\"a\u009bb\x1b[31m\xff\r\"}"); err != nil {
		t.Fatal(err)
	}
	if got, want := screen.String(), `send | {"error":"a\u009bb\u001b[31m\ufffd "}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
