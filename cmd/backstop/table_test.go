package main

import (
	"bytes"
	"io"
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
	if lines := show(fill(false), "20"); !strings.Contains(lines[1], "mail~1767225600000-0  dial tcp 19…") {
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

// Every table that a command prints fits 80 columns, with names as long as people choose them; --wide shows all of it.
func TestEveryTableFitsTheTerminal(t *testing.T) {
	const (
		sink  = "orders-webhook-eu-central" // 25
		cause = "SINK_UNAVAILABLE: POST https://hooks.example.org/services/T000/B000: dial tcp 192.0.2.1:443: connect: connection refused"
		at    = `"2026-01-01T00:00:00Z"`
		op    = `"op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001"`
	)
	item := `{"id":"` + sink + `~1767225600000-0","sink":"` + sink + `","at":` + at + `,"delivery_id":"0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001","attempts":5,"last_error":"` + cause + `",
		"reason":"exhausted","state":"scheduled","next_replay_at":"2999-01-01T00:00:00Z","replays":12,"message":{"subject":"Your order 4711 is on its way to you","body":"x"},
		"history":[{"at":` + at + `,"error":"` + cause + `"}]}`
	numbers := strings.TrimSuffix(strings.Repeat("1200,", 36), ",")
	series := `[{"sink":"` + sink + `","reason":"throttled","fingerprint":"` + cause + `","arrived":[` + numbers + `],"arrived_total":43200,"count":12345,"first_seen":` + at + `,"last_seen":` + at + `}]`
	chart := func(by string) string {
		return `{"by":"` + by + `","interval":"5m","since":` + at + `,"until":"2026-01-01T03:00:00Z","buckets":[],"series":` + series + `,"count":1,"arrived_total":1}`
	}
	noReplies := map[string]bool{"sink kinds": true}
	for args, answer := range map[string]string{
		"dlq list":                              `{"items":[` + item + `],"next_cursor":null,"complete":true,"scanned":1}`,
		"dlq show " + sink + "~1767225600000-0": item,
		"dlq operations":                        `{"operations":[{"id":` + op + `,"action":"discard","status":"completed","created_at":` + at + `,"total":12345,"settled":12345,"discarded":12345,"actor":"arn:aws:sts::123456789012:assumed-role/Operators/ann@example.org","reason":"the receiver moved, INC-4711"}]}`,
		"dlq chart":                             chart("sink"),
		"dlq chart --by cause":                  chart("group"),
		"dlq groups": `{"groups":[{"id":"2f6a54c1d001","sink":"` + sink + `","reason":"throttled","fingerprint":"` + cause + `","count":12345,"first_seen":` + at + `,"last_seen":` + at + `,
			"last_hour":1200,"last_day":12345,"note":{"note":"they move to another provider until Friday","acknowledged":true,"by":"ann","at":` + at + `}}],"complete":true}`,
		"dlq count": `{"count":12345,"sinks":{"` + sink + `":12345}}`,
		"sinks": `{"sinks":[{"name":"` + sink + `","kind":"webhook","state":"open","configured":true,"depth":123456,"due":123456,"waiting":123456,"parked":12345,"oldest_age_seconds":720000,
			"spilled":12345,"unjournaled":1234,"ending":1,"since":` + at + `,"next_probe":` + at + `,"last_error":"` + cause + `"}],"config_age_seconds":1}`,
		"doctor": `{"sinks":[{"name":"` + sink + `","kind":"webhook","state":"open","configured":true,"depth":123456,"last_error":"` + cause + `"}],"config_age_seconds":1}`,
		"delivery " + sink + " d": `{"sink":"` + sink + `","delivery_id":"d","status":"dead_lettered","item_id":"` + sink + `~1767225600000-0","attempts":6,"may_have_arrived":true,
			"timeline":[{"at":` + at + `,"event":"dead_lettered","detail":"exhausted after 5 attempts: dial tcp 192.0.2.1:443: connect: connection refused"}]}`,
		"sink kinds": "",
	} {
		t.Run(args, func(t *testing.T) {
			t.Setenv("COLUMNS", "80")
			t.Setenv("NO_COLOR", "1")
			if !noReplies[args] {
				newAPI(t, ok(answer))
			}
			print := func(args ...string) string {
				var out terminal
				root := newRoot()
				root.SetArgs(args)
				root.SetOut(&out)
				root.SetErr(io.Discard)
				if code := execute(t.Context(), root, &out); code != exitDone && args[0] != "doctor" {
					t.Fatalf("exit code %d: %s", code, &out)
				}
				return out.String()
			}
			whole, longest := print(append(strings.Fields(args), "--wide")...), 0
			for line := range strings.Lines(whole) {
				longest = max(longest, runewidth.StringWidth(strings.TrimSuffix(line, "\n")))
			}
			if longest <= 80 && args != "dlq count" {
				t.Errorf("--wide has at most %d columns: this tests nothing", longest)
			}
			shown := print(strings.Fields(args)...)
			for line := range strings.Lines(shown) {
				if w := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); w > 80 && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("%d columns:\n%s", w, shown)
				}
			}
			t.Log("\n" + shown)
		})
	}
}

// A long text goes on below its column, at words; what has none stays whole.
func TestALongTextGoesOnBelow(t *testing.T) {
	t.Setenv("COLUMNS", "40")
	tb := (&table{}).wrap(false)
	tb.add("cause", "the receiver refused it, and says why")
	tb.rows = append(tb.rows, []string{"", "  indented text that is too long for it"})
	tb.add("id", "0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001-and-more of it")
	var out terminal
	if err := tb.print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `cause  the receiver refused it, and says
       why
         indented text that is too long
         for it
id     0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d001-and-more
       of it
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}

func TestCausesLeaveOutWhatIsTheSame(t *testing.T) {
	for failure, want := range map[string]string{
		"SINK_UNAVAILABLE: POST https://<host>: HTTP 503":  "HTTP 503",
		"NOT_ATTEMPTED: not attempted: the sink is paused": "not attempted: the sink is paused",
		"SINK_UNAVAILABLE: RCPT TO: SMTP 550":              "RCPT TO: SMTP 550",
		"SINK_CONFIG_INVALID: url: missing":                "SINK_CONFIG_INVALID: url: missing",
		"SINK_UNAVAILABLE: ":                               "SINK_UNAVAILABLE: ",
		"":                                                 "",
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
