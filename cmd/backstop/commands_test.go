package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

const (
	oneItem = `{"id":"mail~1-0","state":"due","delivery_id":"d1","sink":"mail","at":"2026-01-01T00:00:00Z","recipient":{"address":"ann@example.com"},` +
		`"message":{"id":"d1","subject":"Hi","body":"line one\nline \u001b[31mtwo","metadata":{"X-A":"b"}},"attempts":5,"last_error":"SINK_UNAVAILABLE: SMTP 451",` +
		`"reason":"exhausted","replays":1,"history":[{"at":"2026-01-01T00:01:00Z","error":"SMTP 452"}]}`
	oneRow    = `{"id":"mail~1-0","sink":"mail","at":"2026-01-01T00:00:00Z","message":{"subject":"Hi","body_bytes":3,"body_preview":"abc"},"attempts":5,"last_error":"gone\u001b]0;x\u0007","reason":"terminal","state":"waiting"}`
	twoGroups = `{"groups":[{"id":"2f6a54c1d001","sink":"a","reason":"exhausted","fingerprint":"HTTP 503","count":12},` +
		`{"id":"2e0000000000","sink":"b","reason":"","fingerprint":"(other)","count":1}],"complete":true}`
	oneSink  = `{"name":"mail","kind":"email","configured":true,"depth":3,"due":2,"parked":1,"kept":0,"trimmed":0,"paused":true,"oldest_age_seconds":7200}`
	downSink = `{"name":"hook","kind":"webhook","state":"open","configured":true,"depth":602,"due":602,"waiting":590,"paused":false,"oldest_age_seconds":7200,"since":"2026-01-01T00:00:00Z","next_probe":"2026-01-01T00:00:01Z"}`
	oneOp    = `{"id":"op-1","action":"replay","status":"completed","created_at":"2026-01-01T00:00:00Z","total":3,"total_complete":true,"settled":3,"delivered":3,"failed":0,"discarded":0,"skipped":0,"sinks":{}}`
)

func TestEachCommandAsksAndPrints(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    string // split at spaces
		replies []reply
		calls   []string
		code    int
		out     []string // each is in the output
		err     string
	}{
		{
			name: "delivery", args: "delivery mail a=b/c", replies: []reply{ok(`{"sink":"mail","delivery_id":"a=b/c","status":"dead_lettered","item_id":"mail~1-0","updated_at":"2026-01-01T00:00:00Z"}`)},
			calls: []string{"GET /v1/deliveries?id=a%3Db%2Fc&sink=mail"}, out: []string{"status       dead_lettered", "dead letter  mail~1-0", "2026-01-01 00:00:00Z"},
		},
		{
			name: "delivery that nobody knows", args: "delivery mail x", replies: []reply{problem(404, "SINK_DLQ_NOT_FOUND")},
			calls: []string{"GET /v1/deliveries?id=x&sink=mail"}, code: 3, err: "backstop: the detail (SINK_DLQ_NOT_FOUND)\n",
		},
		{
			name: "delivery show", args: "delivery show mail d", replies: []reply{ok(`{"sink":"mail","delivery_id":"d","status":"dead_lettered","item_id":"mail~1-0","updated_at":"2026-01-01T00:00:47Z",` +
				`"not_before":"2026-01-01T00:00:30Z","expires_at":"2099-01-01T00:00:00Z","attempts":6,"may_have_arrived":true,"next":{"event":"replay","at":"2098-01-01T00:00:00Z","state":"scheduled"},"timeline":[` +
				`{"at":"2026-01-01T00:00:00Z","event":"accepted"},{"at":"2026-01-01T00:00:47Z","event":"dead_lettered","detail":"exhausted after 5 attempts: HTTP\u001b[2J 503"}]}`)},
			calls: []string{"GET /v1/deliveries?id=d&sink=mail"},
			out: []string{
				"expires           2099-01-01 00:00:00Z (in ", "attempts          6\n", "may have arrived  yes: it was sent, and nobody answered\n",
				"next              the schedule replays it: 2098-01-01 00:00:00Z (in ", "WHEN                  AGO", "WHAT           MORE\n",
				"2026-01-01 00:00:00Z  ", "accepted       -\n", "dead_lettered  exhausted after 5 attempts: HTTP\uFFFD[2J 503\n",
			},
		},
		{
			name: "delivery cancel", args: "delivery cancel mail d", replies: []reply{ok(`{"status":"canceled","delivery_id":"d","known":true,"attempts":0}`)},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mail"}, out: []string{"status    canceled\n", "attempts  0\n"},
		},
		{
			name: "delivery cancel of what may have arrived", args: "delivery cancel mail d", replies: []reply{ok(`{"status":"canceled","delivery_id":"d","known":true,"attempts":5,"may_have_arrived":true}`)},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mail"}, out: []string{"may have arrived  yes: it was sent, and nobody answered\n"},
		},
		{
			name: "delivery cancel of what nobody knows", args: "delivery cancel mail d", replies: []reply{ok(`{"status":"canceled","delivery_id":"d","known":false,"attempts":0}`)},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mail"}, out: []string{"known     no: nothing was known of it."},
		},
		{
			name: "delivery cancel of what was delivered", args: "delivery cancel mail d", replies: []reply{problem(409, "ALREADY_DELIVERED")},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mail"}, code: 4, err: "It cannot be taken back: a receiver has answered that it has it. Its way:\n  backstop delivery show mail d\n",
		},
		{
			name: "delivery cancel while it is sent", args: "delivery cancel mail d --wait 0s", replies: []reply{problem(409, "DELIVERY_IN_PROGRESS")},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mail"}, code: 4, err: "It is not canceled: it is being sent just now, and that decides. If it fails it can be canceled still:\n  backstop delivery cancel mail d --wait 5m\n",
		},
		{
			name: "delivery cancel while a replay sends it", args: "delivery cancel mail d --wait 0s", replies: []reply{problem(409, "ITEM_LEASED")},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mail"}, code: 4, err: "It is not canceled: if that replay fails it can be canceled still:\n  backstop delivery cancel mail d --wait 5m\n",
		},
		{
			name: "delivery cancel that nobody confirms", args: "delivery cancel mail d --wait 0s", replies: []reply{problem(503, "SINK_DLQ_UNAVAILABLE")},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mail"}, code: 5, err: "Whether it is canceled is not known. Ask again:\n",
		},
		{
			name: "delivery cancel at an unknown sink", args: "delivery cancel mial d", replies: []reply{problem(404, "SINK_NOT_FOUND")},
			calls: []string{"DELETE /v1/deliveries?id=d&sink=mial"}, code: 3, err: "SINK_NOT_FOUND",
		},
		{
			name: "sinks", args: "sinks", replies: []reply{ok(`{"sinks":[` + oneSink + `,{"name":"x","configured":false,"due":-1},{"name":"y","configured":true,"config_error":"url: missing"}],"config_age_seconds":12,"config_error":"ssm: throttled"}`)},
			calls: []string{"GET /v1/sinks"}, err: "cannot be refreshed: ssm: throttled\nThe one in use was read 12s ago.\n",
			out: []string{"mail  paused         3      2    0        1       2h      email  -\n", "x     unknown        0      ?    0        0       -       -      not configured\n", "y     misconfigured  0      0    0        0       -       -      url: missing\n"},
		},
		{name: "sinks list", args: "sinks list -o json", replies: []reply{ok(`{"sinks":[], "config_age_seconds":-1}`)}, calls: []string{"GET /v1/sinks"}, out: []string{`{"sinks":[], "config_age_seconds":-1}` + "\n"}},
		{name: "sinks pause", args: "sinks pause mail", replies: []reply{ok(oneSink)}, calls: []string{"POST /v1/sinks/mail/pause"}, out: []string{"paused"}, err: "backstop sinks resume mail"},
		{name: "sinks resume", args: "sinks resume mail", replies: []reply{ok(oneSink)}, calls: []string{"POST /v1/sinks/mail/resume"}, err: "mail is resumed: the schedule replays 2 dead letters"},
		{
			name: "sinks resume, of one that is down", args: "sinks resume hook", replies: []reply{ok(downSink)}, calls: []string{"POST /v1/sinks/hook/resume"},
			out: []string{"hook  open   602    602  590      0       2h      webhook  since "}, err: "hook is resumed: the next delivery to its receiver is the probe. If it is answered, the schedule replays 602 dead letters.",
		},
		{
			name: "dlq list", args: "dlq list --sink mail --reason terminal --q gone --delivery d --fingerprint f --since 2026-01-01T01:00:00+01:00 --until 2026-01-02T00:00:00Z --limit 7 --cursor c",
			replies: []reply{ok(`{"items":[` + oneRow + `],"next_cursor":"next","complete":true,"scanned":9}`), ok(`{"items":[],"next_cursor":null,"complete":true,"scanned":0}`)},
			calls: []string{
				"GET /v1/dlq/items?cursor=c&delivery_id=d&fingerprint=f&limit=7&q=gone&reason=terminal&since=2026-01-01T00%3A00%3A00Z&sink=mail&until=2026-01-02T00%3A00%3A00Z",
				"GET /v1/dlq/items?cursor=next&delivery_id=d&fingerprint=f&limit=6&q=gone&reason=terminal&since=2026-01-01T00%3A00%3A00Z&sink=mail&until=2026-01-02T00%3A00%3A00Z",
			},
			out: []string{"ID        STATE    REASON    CAUSE ", "mail~1-0", "waiting", "gone\uFFFD]0;x\uFFFD"},
		},
		{
			name: "dlq list that has more", args: "dlq list --limit 1", replies: []reply{ok(`{"items":[` + oneRow + `],"next_cursor":"next","complete":true,"scanned":9}`)},
			calls: []string{"GET /v1/dlq/items?limit=1"}, err: "add --cursor next",
		},
		{
			name: "dlq list follows pages that a search left short", args: "dlq list --q x -o json",
			replies: []reply{ok(`{"items":[],"next_cursor":"n","complete":false,"scanned":10000}`), ok(`{"items":[],"next_cursor":null,"complete":true,"scanned":1}`)},
			calls:   []string{"GET /v1/dlq/items?limit=50&q=x", "GET /v1/dlq/items?cursor=n&limit=50&q=x"},
			out:     []string{"{\"items\":[],\"next_cursor\":\"n\",\"complete\":false,\"scanned\":10000}\n{\"items\":[],\"next_cursor\":null,\"complete\":true,\"scanned\":1}\n"},
		},
		{
			name: "dlq list of a state", args: "dlq list --state waiting", replies: []reply{ok(`{"items":[],"next_cursor":null}`)},
			calls: []string{"GET /v1/dlq/items?limit=50&state=waiting"}, err: "No dead letters in state waiting.",
		},
		{
			name: "dlq groups of a state", args: "dlq groups --state due", replies: []reply{ok(`{"groups":[],"next_cursor":"c","complete":false,"scanned":10000}`)},
			calls: []string{"GET /v1/dlq/groups?state=due"}, err: "stopped by its budget after 10000 entries",
		},
		{name: "dlq list of nothing", args: "dlq list --sink mail", replies: []reply{ok(`{"items":[],"next_cursor":null}`)}, calls: []string{"GET /v1/dlq/items?limit=50&sink=mail"}, err: "No dead letters of sink mail."},
		{
			name: "dlq show", args: "dlq show mail~1-0", replies: []reply{ok(oneItem)}, calls: []string{"GET /v1/dlq/items/mail~1-0"},
			out: []string{"sink          mail", "reason        exhausted", `recipient     {"address":"ann@example.com"}`, "metadata X-A  b", "SMTP 452", "\nline one\nline \uFFFD[31mtwo\n"},
		},
		{name: "dlq show as JSON", args: "dlq show mail~1-0 -o json", replies: []reply{ok(oneItem)}, calls: []string{"GET /v1/dlq/items/mail~1-0"}, out: []string{oneItem + "\n"}},
		{
			name: "dlq show of an unreadable entry", args: "dlq show 1-0", replies: []reply{ok(`{"id":"mail~1-0","state":"unreadable","sink":"mail","message":{"body":""},"raw":"{","decode_error":"unexpected end"}`)},
			calls: []string{"GET /v1/dlq/items/1-0"}, out: []string{"state       unreadable", "The entry cannot be read: unexpected end\n\n{\n"},
		},
		{name: "dlq show escapes ids", args: "dlq show a/b?c", replies: []reply{problem(400, "INVALID_ARGUMENT")}, calls: []string{"GET /v1/dlq/items/a%2Fb%3Fc"}, code: 2, err: "INVALID_ARGUMENT"},
		{name: "dlq count", args: "dlq count", replies: []reply{ok(`{"count":4,"sinks":{"b":1,"a":3}}`)}, calls: []string{"GET /v1/dlq/count"}, out: []string{"SINK   DEAD LETTERS\na      3\nb      1\n(all)  4\n"}},
		{name: "dlq count of one sink", args: "dlq count --sink a -o json", replies: []reply{ok(`{"count":3}`)}, calls: []string{"GET /v1/dlq/count?sink=a"}, out: []string{"{\"count\":3}\n"}},
		{
			name: "dlq groups", args: "dlq groups --sink a", replies: []reply{ok(`{"groups":[{"id":"2f6a54c1d001","sink":"a","reason":"exhausted","fingerprint":"SINK_UNAVAILABLE: POST https://<host>: HTTP 503 # x","count":12,"first_seen":"2026-01-01T00:00:00Z","last_hour":3,"last_day":40,"note":{"note":"they move","acknowledged":true,"by":"arn:aws:sts::1:assumed-role/ops/ann","at":"2026-01-01T00:00:00Z"}}],"complete":false}`)},
			calls: []string{"GET /v1/dlq/groups?sink=a"}, out: []string{"GROUP         COUNT  SINK  REASON     CAUSE         FIRST  LAST  HOUR  DAY  NOTE\n2f6a54c1d001  12     a     exhausted  HTTP 503 # x  ", "  -     3     40   ✓ they move (ann)\n"}, err: "more, smaller groups",
		},
		{
			name: "dlq groups that are new", args: "dlq groups --new-since 2026-01-02T00:00:00Z",
			replies: []reply{ok(`{"groups":[{"id":"2f6a54c1d001","sink":"a","count":1,"first_seen":"2026-01-01T00:00:00Z"},{"id":"77aa54c1d001","sink":"b","count":1,"first_seen":"2026-01-03T00:00:00Z"}],"complete":true}`)},
			calls:   []string{"GET /v1/dlq/groups"}, out: []string{"NOTE\n77aa54c1d001  1      b "},
		},
		{
			name: "dlq groups of which none is new", args: "dlq groups --new-since 2026-01-02T00:00:00Z",
			replies: []reply{ok(`{"groups":[{"id":"2f6a54c1d001","sink":"a","count":1,"first_seen":"2026-01-01T00:00:00Z"}],"complete":true}`)},
			calls:   []string{"GET /v1/dlq/groups"}, err: "No cause is new since 2026-01-02 00:00:00Z.",
		},
		{
			name: "dlq groups note", args: "dlq groups note 2f6 moving --ack", replies: []reply{ok(twoGroups), ok(`{"id":"2f6a54c1d001","sink":"a","count":1,"note":{"note":"moving","acknowledged":true,"at":"2026-01-01T00:00:00Z"}}`)},
			calls: []string{"GET /v1/dlq/groups", `POST /v1/dlq/groups/2f6a54c1d001/note {"note":"moving","acknowledged":true}`}, out: []string{"✓ moving"},
		},
		{name: "dlq groups note of nothing", args: "dlq groups note 2f6a54c1d001", code: 2, err: "what is to be noted? Give a text, --ack or --remove"},
		{
			name: "dlq chart", args: "dlq chart --by cause --since 2026-01-01T00:00:00Z --until 2026-01-01T03:00:00Z --interval 1h",
			replies: []reply{ok(`{"by":"group","interval":"1h","since":"2026-01-01T00:00:00Z","until":"2026-01-01T03:00:00Z","buckets":[],"series":[{"sink":"a","reason":"exhausted","fingerprint":"SINK_UNAVAILABLE: HTTP 503","counts":[0,0,2],"arrived":[0,1,80],"count":2,"arrived_total":81},{"other":true,"counts":[1,0,0],"arrived":[4,0,0],"count":1,"arrived_total":4}],"count":3,"arrived_total":85}`)},
			calls:   []string{"GET /v1/dlq/histogram?by=group&interval=1h&since=2026-01-01T00%3A00%3A00Z&until=2026-01-01T03%3A00%3A00Z"},
			out:     []string{"SINK      REASON     CHART  CAME  LEFT  FIRST  LAST  CAUSE\n", "a         exhausted  │·▁█│  81    2     -      -     HTTP 503\n", "(others)  -          │█··│  4     1 "},
			err:     "2026-01-01 00:00:00Z to 2026-01-01 03:00:00Z, in buckets of 1h:",
		},
		{name: "dlq chart of something else", args: "dlq chart --by colour", code: 2, err: "want sink, cause or reason"},
		{
			name: "a group is its sink, reason and fingerprint", args: "dlq list --group 2f6 --since 2026-01-01T00:00:00Z",
			replies: []reply{ok(twoGroups), ok(`{"items":[],"next_cursor":null}`)},
			calls:   []string{"GET /v1/dlq/groups", "GET /v1/dlq/items?fingerprint=HTTP+503&limit=50&reason=exhausted&since=2026-01-01T00%3A00%3A00Z&sink=a"},
			err:     `No dead letters of sink a, reason exhausted, failed as "HTTP 503", since 2026-01-01 00:00:00Z.`,
		},
		{name: "a group that is empty by now", args: "dlq replay --group 77 --yes", replies: []reply{ok(twoGroups)}, calls: []string{"GET /v1/dlq/groups"}, code: 3, err: "no group 77: it has no dead letters any more, or never had\nThere are these:\n  backstop dlq groups\n"},
		{name: "the beginning of two groups", args: "dlq discard --group 2 --yes", replies: []reply{ok(twoGroups)}, calls: []string{"GET /v1/dlq/groups"}, code: 2, err: "2 groups begin with 2: give more of its id"},
		{
			name: "dlq replay of one", args: "dlq replay mail~1-0", replies: []reply{ok(`{"status":"delivered","id":"mail~1-0","attempts":1}`)},
			calls: []string{"POST /v1/dlq/items/mail~1-0/replay {}"}, out: []string{"delivered  mail~1-0\n"},
		},
		{
			name: "dlq replay with choices", args: "dlq replay mail~1-0 --on-success keep --force --to-sink ops -o json", replies: []reply{ok(`{"status":"delivered","id":"mail~1-0"}`)},
			calls: []string{`POST /v1/dlq/items/mail~1-0/replay {"on_success":"keep","force":true,"sink":"ops"}`}, out: []string{`{"status":"delivered","id":"mail~1-0"}` + "\n"},
		},
		{
			name: "dlq replay that fails again", args: "dlq replay mail~1-0", replies: []reply{ok(`{"status":"failed","id":"mail~1-0","error":"SMTP 451"}`)},
			calls: []string{"POST /v1/dlq/items/mail~1-0/replay {}"}, code: 1, out: []string{"failed     mail~1-0  SMTP 451"}, err: "mail~1-0 was not delivered",
		},
		{
			name: "dlq replay of a leased one", args: "dlq replay mail~1-0", replies: []reply{problem(409, "ITEM_LEASED")},
			calls: []string{"POST /v1/dlq/items/mail~1-0/replay {}"}, code: 4, err: "A replay is at work on it.",
		},
		{
			name: "dlq replay of several goes on after one that is missing", args: "dlq replay a~1-0 b~1-0 c~1-0",
			replies: []reply{ok(`{"status":"delivered","id":"a~1-0"}`), problem(404, "SINK_DLQ_NOT_FOUND"), ok(`{"status":"delivered","id":"c~1-0"}`)},
			calls:   []string{"POST /v1/dlq/items/a~1-0/replay {}", "POST /v1/dlq/items/b~1-0/replay {}", "POST /v1/dlq/items/c~1-0/replay {}"},
			code:    1, out: []string{"delivered  a~1-0\ndelivered  c~1-0\n"}, err: "b~1-0: the detail (SINK_DLQ_NOT_FOUND)\nbackstop: 1 of 3 failed\n",
		},
		{
			name: "dlq replay of several ends when the API is away", args: "dlq replay a~1-0 b~1-0", replies: []reply{problem(503, "SINK_DLQ_UNAVAILABLE")},
			calls: []string{"POST /v1/dlq/items/a~1-0/replay {}"}, code: 5, err: "SINK_DLQ_UNAVAILABLE",
		},
		{name: "dlq discard", args: "dlq discard mail~1-0 --yes", replies: []reply{{status: 204}}, calls: []string{"DELETE /v1/dlq/items/mail~1-0"}, out: []string{"discarded  mail~1-0\n"}},
		{name: "dlq unpark", args: "dlq unpark mail~1-0", replies: []reply{ok(oneItem)}, calls: []string{"POST /v1/dlq/items/mail~1-0/unpark"}, out: []string{"due        mail~1-0\n"}},
		{name: "dlq operations", args: "dlq operations --limit 5", replies: []reply{ok(`{"operations":[` + oneOp + `]}`)}, calls: []string{"GET /v1/dlq/operations?limit=5"}, out: []string{"op-1", "completed  3      3     0"}},
		{name: "dlq operations list of nothing", args: "dlq operations list", replies: []reply{ok(`{"operations":[]}`)}, calls: []string{"GET /v1/dlq/operations?limit=20"}, err: "No bulk operations"},
		{name: "dlq operations show", args: "dlq operations show op-1", replies: []reply{ok(oneOp)}, calls: []string{"GET /v1/dlq/operations/op-1"}, out: []string{"status     completed", "delivered  3"}},
		{
			name: "an operation that others overtook says so", args: "dlq operations show op-1",
			replies: []reply{ok(`{"id":"op-1","action":"replay","status":"completed","total":520,"total_complete":true,"settled":256,"delivered":256,"sinks":{}}`)},
			calls:   []string{"GET /v1/dlq/operations/op-1"}, out: []string{"delivered  256", "gone       264 (settled meanwhile, by another replay or operator)"},
		},
		{name: "dlq operations resume", args: "dlq operations resume op-1 --wait=false -o json", replies: []reply{ok(oneOp)}, calls: []string{"POST /v1/dlq/operations/op-1/resume"}, out: []string{oneOp + "\n"}},
		{name: "dlq operations cancel", args: "dlq operations cancel op-1 -o json", replies: []reply{ok(oneOp)}, calls: []string{"POST /v1/dlq/operations/op-1/cancel"}, out: []string{oneOp + "\n"}},
		{
			name: "dlq export", args: "dlq export --sink mail",
			replies: []reply{
				{status: 200, body: "{\"n\":1}\n{\"n\":2}\n", header: http.Header{"Content-Type": {"application/x-ndjson"}, "Backstop-Next-Cursor": {"c2"}}},
				{status: 200, header: http.Header{"Content-Type": {"application/x-ndjson"}, "Backstop-Next-Cursor": {"c3"}}},
				{status: 200, body: "{\"n\":3}\n", header: http.Header{"Content-Type": {"application/x-ndjson"}}},
			},
			calls: []string{"GET /v1/dlq/export?limit=1000&sink=mail", "GET /v1/dlq/export?cursor=c2&limit=1000&sink=mail", "GET /v1/dlq/export?cursor=c3&limit=1000&sink=mail"},
			out:   []string{"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n"}, err: "3 dead letters exported of sink mail",
		},
		{
			name: "dlq export that breaks off says so", args: "dlq export",
			replies: []reply{
				{status: 200, body: "{\"n\":1}\n", header: http.Header{"Content-Type": {"application/x-ndjson"}, "Backstop-Next-Cursor": {"c2"}}},
				problem(503, "SINK_DLQ_UNAVAILABLE"),
			},
			calls: append([]string{"GET /v1/dlq/export?limit=1000"}, slices.Repeat([]string{"GET /v1/dlq/export?cursor=c2&limit=1000"}, 3)...), code: 5, err: "The export is not complete: it ended after 1 dead letter.",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.replies...)
			r := run(t, strings.Fields(c.args)...)
			r.want(t, c.code, "", c.err)
			for _, out := range c.out {
				if !strings.Contains(r.out, out) {
					t.Errorf("output lacks %q:\n%s", out, r.out)
				}
			}
			if got := api.asked(); !slices.Equal(got, c.calls) {
				t.Errorf("calls\n%q, want\n%q", got, c.calls)
			}
			if strings.Contains(r.out+r.err, "\x1b") {
				t.Errorf("a control character reaches the terminal: %q", r.out+r.err)
			}
		})
	}
}

func TestWrongUsageCallsNothing(t *testing.T) {
	for _, c := range []struct{ args, err string }{
		{"nonsense", `unknown command "nonsense"`},
		{"dlq lst", `unknown command "lst" for "backstop dlq"; did you mean list?`},
		{"sinks mail", `unknown command "mail"`},
		{"sinks pause", "accepts 1 arg(s)"},
		{"dlq show", "accepts 1 arg(s), received 0\nUsage: backstop dlq show ID"},
		{"dlq list --nonsense", "See 'backstop dlq list --help'"},
		{"dlq list -o yaml", "want table or json"},
		{"dlq list --limit 0", "--limit 0"},
		{"dlq list --since yesterday", "how long ago, such as 90m, 12h or 3d"},
		{"dlq list --since -5m", "how long ago"},
		{"dlq replay", "name dead letters by id, or select them"},
		{"dlq discard", "name dead letters by id, or select them"},
		{"dlq replay --all --sink x", "exclude each other"},
		{"dlq replay a~1-0 --sink x", "either ids or filters"},
		{"dlq replay a~1-0 --dry-run", "either ids or filters"},
		{"dlq replay --sink x --force", "go with ids"},
		{"dlq replay --group 2f --sink x", "--group says it all"},
		{"dlq replay a~1-0 --group 2f", "either ids or filters"},
		{"dlq operations --limit 1000", "want 1 to 100"},
		{"dlq import /no/such/file", "no such file"},
		{"send --body x", "--sink is missing"},
		{"send --sink x", "--body is missing"},
		{"send --sink x --body @/no/such/file", "--body:"},
		{"send --sink x --body y --to nobody", "want an email address or a URL"},
		{"send --sink x --body y --to a@b.example --recipient {}", "exclude each other"},
		{"send --sink x --body y --recipient {", "not valid JSON"},
		{"send --sink x --body y --metadata k", "want KEY=VALUE"},
		{"send --sink x --body y --metadata k=1 --metadata k=2", "given twice"},
		{"send --sink x --body y --tries 0", "want 1 to 20"},
		{"send --sink x --body y --after 16m", "at most 15m"},
		{"send --sink x --body y --after 0s", "want more than 0"},
		{"send --sink x --body y --after 30", "missing unit"},
		{"send --sink x --body y --expires-in 10s --after 30s", "more than --after"},
		{"send --sink x --body y --expires-at tomorrow", "want a time such as"},
		{"send --sink x --body y --expires-in 1m --expires-at 2099-01-01T00:00:00Z", "exclude each other"},
		{"delivery mail", "Usage: backstop delivery show SINK ID"},
		{"delivery show mail", "accepts 2 arg(s)"},
		{"delivery cancel mail", "accepts 2 arg(s)"},
		{"delivery cancel mail d --wait -1s", "want 0 or more"},
		{"sinks --sign --no-sign", "exclude each other"},
		{"sinks --sign --token t", "exclude each other"},
		{"sinks --api localhost:3000", "must begin with http:// or https://"},
		{"sinks --api http://user:pa55word@localhost", "must have no user"},
		{"redrive list", "--redrive-queue is missing"},
		{"redrive list --redrive-queue backstop", "want a queue's URL"},
		{"redrive send --redrive-queue http://q.example/1/a", "--queue is missing"},
		{"redrive send --redrive-queue http://q.example/1/a --queue http://q.example/1/a", "the same queue"},
		{"redrive send --redrive-queue http://q.example/1/a --queue http://q.example/1/b.fifo", "one queue is FIFO"},
		{"config check", "accepts 1 arg(s)"},
		{"config check ssm:nonsense", "want ssm:/path"},
		{"config push a b", "want a folder or file, then ssm:/PATH"},
	} {
		t.Run(c.args, func(t *testing.T) {
			api := newAPI(t, problem(500, "INTERNAL"))
			r := run(t, strings.Fields(c.args)...)
			r.want(t, exitUsage, "", c.err)
			if calls := api.asked(); len(calls) > 0 {
				t.Errorf("called %q", calls)
			}
			if strings.Contains(r.err, "pa55word") {
				t.Errorf("a password is shown: %s", r.err)
			}
		})
	}
}

func TestHelpTeachesEveryCommand(t *testing.T) {
	var walk func(path []string)
	walk = func(path []string) {
		c, _, err := newRoot().Find(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(path) > 0 && (c.Short == "" || c.Example == "" && c.Name() != "demo" && c.Name() != "dlq") {
			t.Errorf("%s: has no short text or no example", c.CommandPath())
		}
		r := run(t, append(path, "--help")...)
		if r.code != 0 || !strings.Contains(r.out, "Usage:") {
			t.Errorf("%s --help: exit code %d:\n%s", c.CommandPath(), r.code, r.out)
		}
		for _, below := range c.Commands() {
			walk(append(slices.Clone(path), below.Name()))
		}
	}
	walk(nil)
	r := run(t, "--help")
	for _, want := range []string{"Exit codes:", "130  interrupted", "BACKSTOP_API", "Operate:"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("backstop --help lacks %q", want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := run(t, "completion", shell); r.code != 0 || !strings.Contains(r.out, "backstop") {
			t.Errorf("completion %s: exit code %d", shell, r.code)
		}
	}
}
