//go:build full

package console_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// past is what came over the last day, as the API has it: buckets of an hour, the last of which is under way.
type past struct {
	now    time.Time
	series []map[string]any
}

const hours = 24

// add adds a series: came and there by hours ago.
func (p *past) add(of map[string]any, came, there map[int]int) {
	arrived, counts := make([]int, hours), make([]int, hours)
	var sum, left int
	first, last := 0, hours
	for ago, n := range came {
		arrived[hours-1-ago], counts[hours-1-ago] = n, there[ago]
		sum, left = sum+n, left+there[ago]
		first, last = max(first, ago), min(last, ago)
	}
	at := func(ago int) string { return p.now.Add(-time.Duration(ago) * time.Hour).UTC().Format(time.RFC3339) }
	s := map[string]any{"arrived": arrived, "counts": counts, "count": left, "arrived_total": sum, "first_seen": at(first), "last_seen": at(last)}
	for k, v := range of {
		s[k] = v
	}
	p.series = append(p.series, s)
}

// begin is when the first bucket begins.
func (p *past) begin() time.Time {
	return p.now.UTC().Truncate(time.Hour).Add(-(hours - 1) * time.Hour)
}

// answer is the histogram, by what was asked for.
func (p *past) answer(by string) string {
	h := map[string]any{"by": by, "interval": "1h", "since": p.begin(), "until": p.begin().Add(hours * time.Hour)}
	buckets, series := []time.Time{}, []map[string]any{}
	for i := range hours {
		buckets = append(buckets, p.begin().Add(time.Duration(i)*time.Hour))
	}
	count, arrived := 0, 0
	for _, s := range p.series {
		_, isGroup := s["id"]
		_, isSink := s["sink"]
		if by == "group" != isGroup || by == "sink" != (isSink && !isGroup) {
			continue
		}
		series = append(series, s)
		left, _ := s["count"].(int)
		came, _ := s["arrived_total"].(int)
		count, arrived = count+left, arrived+came
	}
	h["buckets"], h["series"], h["count"], h["arrived_total"] = buckets, series, count, arrived
	if len(series) > 0 {
		h["first_seen"], h["last_seen"] = series[0]["first_seen"], series[0]["last_seen"]
	}
	b, err := json.Marshal(h)
	if err != nil {
		panic(err)
	}
	return string(b)
}

const (
	downID = "2f6a54c1d001"
	goneID = "9b1e7c3a4d43"
	lateID = "77aa00c1d003"
)

// aDay is a day in which webhook-down began to fail five hours ago, and webhook-gone has failed now and
// then. Half of what came first is gone.
func aDay(now time.Time) *past {
	p := &past{now: now}
	down := map[int]int{5: 40, 4: 210, 3: 260, 2: 90, 1: 120, 0: 60}
	left := map[int]int{5: 20, 4: 120, 3: 260, 2: 90, 1: 120, 0: 60}
	gone := map[int]int{23: 3, 19: 5, 14: 2, 9: 8, 4: 30, 3: 45, 0: 7}
	late := map[int]int{4: 60, 3: 80}
	both := map[int]int{5: 40, 4: 270, 3: 340, 2: 90, 1: 120, 0: 60}
	bothLeft := map[int]int{5: 20, 4: 180, 3: 340, 2: 90, 1: 120, 0: 60}
	p.add(map[string]any{"sink": "webhook-down"}, both, bothLeft)
	p.add(map[string]any{"sink": "webhook-gone"}, gone, gone)
	p.add(map[string]any{"sink": "webhook-down", "reason": "exhausted", "fingerprint": errDown, "id": downID}, down, left)
	p.add(map[string]any{"sink": "webhook-down", "reason": "deadline", "fingerprint": errLate, "id": lateID}, late, late)
	p.add(map[string]any{"sink": "webhook-gone", "reason": "terminal", "fingerprint": errGone, "id": goneID}, gone, gone)
	p.add(map[string]any{"reason": "exhausted"}, down, left)
	p.add(map[string]any{"reason": "deadline"}, late, late)
	return p
}

// theDay is an API that has aDay.
func theDay(t *testing.T, now time.Time) (routes, *[]string) {
	t.Helper()
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	group := func(id, sink, reason, fingerprint string, count, hour, day int, first time.Duration, more string) string {
		return fmt.Sprintf(`{"id":%q,"sink":%q,"reason":%q,"fingerprint":%q,"count":%d,"last_hour":%d,"last_day":%d,"first_seen":%q,"last_seen":%q,"sample":"%s~1767225600000-0"%s}`,
			id, sink, reason, fingerprint, count, hour, day, at(first), at(-2*time.Minute), sink, more)
	}
	row := func(name, kind, more string) string {
		return fmt.Sprintf(`{"name":%q,"kind":%q,"configured":true,"kept":0,"trimmed":0,"oldest_age_seconds":18000,%s}`, name, kind, more)
	}
	var mu sync.Mutex
	noted := fmt.Sprintf(`,"note":{"note":"They move to another provider until Friday.","acknowledged":true,"by":"ops@example.org","at":%q}`, at(-30*time.Minute))
	asked := &[]string{}
	api := routes{}
	api["GET /v1/sinks"] = says(`{"config_age_seconds":12,"journal":false,"sinks":[` + strings.Join([]string{
		row("webhook-down", "webhook", fmt.Sprintf(`"state":"open","paused":false,"depth":810,"due":810,"parked":0,"waiting":670,"states":{"due":670,"scheduled":140},"oldest_at":%q,"since":%q,"next_probe":%q,"last_error":"SINK_UNAVAILABLE: POST https://receiver.example.org: HTTP 503 Service Unavailable","last_error_at":%q,"last_success_at":%q`,
			at(-5*time.Hour), at(-4*time.Minute-5*time.Second), at(time.Hour), at(-18*time.Second), at(-5*time.Hour))),
		row("webhook-gone", "webhook", fmt.Sprintf(`"state":"ok","paused":false,"depth":100,"due":0,"parked":3,"waiting":0,"states":{"parked":3,"waiting":97},"oldest_at":%q,"last_success_at":%q`, at(-23*time.Hour), at(-90*time.Second))),
		row("email-demo", "email", fmt.Sprintf(`"state":"ok","paused":false,"depth":0,"due":0,"parked":0,"waiting":0,"last_success_at":%q`, at(-20*time.Second))),
		row("slack-demo", "slack", `"state":"paused","paused":true,"depth":0,"due":0,"parked":0,"waiting":0`),
		`{"name":"broken","kind":"","configured":true,"config_error":"broken.yaml:3: url: missing","state":"misconfigured","paused":false,"kept":0,"trimmed":0,"depth":0,"due":0,"parked":0,"waiting":0,"oldest_age_seconds":0}`,
	}, ",") + `]}`)
	api["GET /v1/dlq/groups"] = func(w http.ResponseWriter, _ *http.Request, _ string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(w, `{"groups":[`+strings.Join([]string{
			group(downID, "webhook-down", "exhausted", errDown, 670, 61, 780, -5*time.Hour, ""),
			group(lateID, "webhook-down", "deadline", errLate, 140, 0, 140, -4*time.Hour, ""),
			group(goneID, "webhook-gone", "terminal", errGone, 100, 7, 100, -40*24*time.Hour, noted),
		}, ",")+`],"next_cursor":null,"complete":true,"scanned":0}`)
	}
	api["GET /v1/dlq/histogram"] = func(w http.ResponseWriter, r *http.Request, _ string) {
		_, _ = io.WriteString(w, aDay(now).answer(r.URL.Query().Get("by")))
	}
	api["GET /v1/dlq/items"] = func(w http.ResponseWriter, r *http.Request, _ string) {
		mu.Lock()
		defer mu.Unlock()
		*asked = append(*asked, r.URL.RawQuery)
		_, _ = io.WriteString(w, list("null", aLetter("1-0", "2026-01-01T00:00:00Z")))
	}
	api["POST /v1/dlq/groups/"+downID+"/note"] = func(w http.ResponseWriter, _ *http.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		*asked = append(*asked, body)
		if len(*asked) == 1 {
			unavailable(w)
			return
		}
		_, _ = io.WriteString(w, group(downID, "webhook-down", "exhausted", errDown, 670, 61, 780, -5*time.Hour, noted))
	}
	api["POST /v1/dlq/operations"] = says(`{"dry_run":true,"action":"replay","count":670,"expired":0,"complete":true,"scanned":670,"looked":670,"by_sink":{"webhook-down":640,"webhook-gone":30},"sample":[],` +
		fmt.Sprintf(`"last_tried":{"at":%q,"error":"SINK_UNAVAILABLE: HTTP 503","operation":"op-00000000000000000000000000000001"}}`, at(-11*time.Minute)))
	return api, asked
}

// seen takes pictures of what is shown, in the sizes and schemes of its readers, and checks each.
func (p *tab) seen(name string) {
	p.t.Helper()
	for _, v := range []struct {
		name          string
		width, height int64
		scheme        string
	}{{"light", 1440, 1300, "light"}, {"dark", 1440, 1300, "dark"}, {"phone", 390, 2600, "light"}, {"phone-dark", 390, 2600, "dark"}} {
		p.look(v.width, v.height, v.scheme)
		p.picture(name + "-" + v.name)
		p.accessible(name + ", " + v.name)
		if over := eval[int](p, "document.documentElement.scrollWidth - window.innerWidth"); over > 0 {
			p.t.Errorf("%s, %s: %d px wider than the screen", name, v.name, over)
		}
	}
	p.look(1440, 1300, "light")
}

// The chart says since when it fails, and what is chosen in it is the list's filter.
func TestTheChartChoosesATime(t *testing.T) {
	now := time.Now()
	api, asked := theDay(t, now)
	p := newTab(t, start(t, api.serve(t)).URL)
	p.look(1440, 1300, "light")
	p.says("1,020 came in the last 24 hours, 910 of them are still there.", "Began at", "gone since 110")
	p.seen("day")
	for _, by := range []string{"By cause", "By reason"} {
		p.click("nav a", by)
		p.wait("the choice", `document.querySelector("main nav a[aria-current=true]").innerText === `+quote(by))
	}
	p.says("deadline 140")
	p.picture("by-reason")
	p.click("nav a", "By sink")
	p.says("webhook-down 810")

	// A click chooses one bar, and a refresh keeps it; a drag goes to the list.
	bar := func(i int) (x, y float64) {
		at := eval[[2]float64](p, fmt.Sprintf(`(() => { const r = document.querySelector(".field").getBoundingClientRect(); return [r.x + r.width * (%d + 0.5) / %d, r.y + r.height / 2]; })()`, i, hours))
		return at[0], at[1]
	}
	x, y := bar(20)
	p.mouse(chromedp.MouseClickXY(x, y))
	p.says("385 came, 385 still there (webhook-down 340, webhook-gone 45)", "Show 385 dead letters")
	p.click("button", "Refresh")
	p.says("Show 385 dead letters")
	p.seen("chosen")
	x1, y1 := bar(19)
	x2, y2 := bar(20)
	p.mouse(chromedp.MouseEvent(chromedp.MousePressed, x1, y1, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	p.mouse(chromedp.MouseEvent(chromedp.MouseMoved, x2, y2, chromedp.ButtonLeft))
	p.says("685 came, 595 still there")
	p.mouse(chromedp.MouseEvent(chromedp.MouseReleased, x2, y2, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	begin := aDay(now).begin()
	since, until := begin.Add(19*time.Hour), begin.Add(21*time.Hour)
	check := func() {
		t.Helper()
		p.wait("the list", `document.querySelector("h1").innerText === "Dead letters"`)
		p.settled()
		q, err := url.ParseQuery((*asked)[len(*asked)-1])
		if err != nil || q.Get("since") != since.Format("2006-01-02T15:04:05.000Z") || q.Get("until") != until.Format("2006-01-02T15:04:05.000Z") || q.Get("sink") != "" {
			t.Errorf("the list asked for %v, %v; want since %s until %s", q, err, since, until)
		}
	}
	check()

	// The same with the keyboard alone.
	p.goTo("#/")
	p.tabTo(".field", "Dead letters over time, by sink")
	p.keys(kb.End)
	p.wait("the last hour", `document.querySelector(".field").getAttribute("aria-valuetext").endsWith("67 came, 67 still there (webhook-down 60, webhook-gone 7)")`)
	for range 3 {
		p.keys(kb.ArrowLeft)
	}
	p.keys(kb.ArrowLeft, chromedp.KeyModifiers(chromedp.ModifierShift))
	p.says("Show 595 dead letters")
	p.keys("\r")
	check()

	p.goTo("#/")
	p.click("summary", "As a table, one row per 1h")
	p.says("Still there", "webhook-gone")
	p.accessible("the table")
	p.click("nav a", "7 days")
	p.wait("the range in the URL", `location.hash.includes("range=7d")`)
}

// A cause says what is new, and takes a note; one that is not taken is not lost.
func TestACauseIsNoted(t *testing.T) {
	api, asked := theDay(t, time.Now())
	p := newTab(t, start(t, api.serve(t)).URL)
	p.look(1440, 1300, "light")
	p.says("2 of 3 new since", "61 in 1 h · 780 in 24 h", "acknowledged", "They move to another provider until Friday.", "ops@example.org, 30 min ago")
	p.click("nav[aria-label^='A cause is new'] a", "1 hour")
	p.says("None new since")
	p.click("button", "Note: "+causeDown+", webhook-down")
	p.says("for everybody who looks at this cause")
	p.keys("seen by Ann")
	p.seen("note")
	p.click("button", "Save")
	p.says("SINK_DLQ_UNAVAILABLE")
	p.click("button", "Save")
	p.wait("the dialog closed", `!document.querySelector("dialog")`)
	if got, want := (*asked)[1], `{"note":"seen by Ann","acknowledged":true}`; got != want {
		t.Errorf("the API was asked to note %s, want %s", got, want)
	}
}

// The question before a replay says what it does to how many, and how their receivers are.
func TestTheQuestionSaysHowReceiversAre(t *testing.T) {
	api, _ := theDay(t, time.Now())
	p := newTab(t, start(t, api.serve(t)).URL)
	p.look(1440, 1300, "light")
	p.click("button", "Replay 670 dead letters: "+causeDown+", webhook-down")
	p.says("670 dead letters will be sent again.", "Last tried 11 min ago", "640 to webhook-down: open", "next probe in 59 min", "what is for it waits until then",
		"30 to webhook-gone: ok", "A receiver gets one first, then five, then all.")
	p.seen("question")
}

// A test message is marked as one, and its outcome is shown.
func TestATestMessage(t *testing.T) {
	api, _ := theDay(t, time.Now())
	var mu sync.Mutex
	var bodies []string
	api["POST /v1/messages"] = func(w http.ResponseWriter, _ *http.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		switch bodies = append(bodies, body); len(bodies) {
		case 1:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"title":"The request is invalid","status":400,"detail":"recipient.address: not an address","code":"INVALID_ARGUMENT"}`)
		case 2:
			_, _ = io.WriteString(w, `{"status":"delivered","delivery_id":"test-1","attempts":1}`)
		default:
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"status":"dead_lettered","delivery_id":"test-2","item_id":"webhook-down~1-1","reason":"open","attempts":0,"error":"SINK_UNAVAILABLE: HTTP 503"}`)
		}
	}
	p := newTab(t, start(t, api.serve(t)).URL)
	p.look(1440, 1300, "light")
	if eval[bool](p, "Boolean("+named("button", "Send a test message through broken")+")") {
		t.Error("a test through a sink that is misconfigured is offered")
	}
	p.click("button", "Send a test message through email-demo")
	p.wait("the focus on the recipient", `document.activeElement.name === "recipient"`)
	p.keys("ann@example")
	p.seen("test")
	p.keys("\r")
	p.says("recipient.address: not an address")
	p.keys(".org\r") // what was typed is there still, and has the focus
	p.says("Delivered through email-demo after 1 attempt.", "Its whole way")
	p.accessible("what became of a test")
	p.click("dialog button", "Close")

	p.click("button", "Send a test message through webhook-down")
	p.says("The sink is open.")
	p.click("dialog button", "Send 1")
	p.says("Not delivered after 0 attempts: it is a dead letter (open).", "SINK_UNAVAILABLE: HTTP 503", "Open the dead letter")
	mu.Lock()
	defer mu.Unlock()
	for i, want := range []string{`"recipient":{"address":"ann@example"}`, `"recipient":{"address":"ann@example.org"}`, `"metadata":{"X-Backstop-Test":"console"}}}`} {
		if !strings.Contains(bodies[i], want) || !strings.HasPrefix(bodies[i], `{"id":"test-`) {
			t.Errorf("the API got %s, want %s in it", bodies[i], want)
		}
	}
}

// Of many sinks and causes the first rows are shown, the others when asked for; what has no colour of its
// own in the chart is one. An API that is older than the console has no chart, and all else.
func TestManyOfEach(t *testing.T) {
	now := time.Now()
	p0 := &past{now: now}
	var sinks, groups []string
	for i := range 140 {
		name := fmt.Sprintf("hook-%03d", i)
		sinks = append(sinks, fmt.Sprintf(`{"name":%q,"kind":"webhook","configured":true,"state":"ok","depth":%d,"due":%d,"parked":0,"kept":0,"trimmed":0,"waiting":0,"paused":false,"oldest_age_seconds":1}`, name, 200-i, 200-i))
		groups = append(groups, fmt.Sprintf(`{"id":"%012x","sink":%q,"reason":"exhausted","fingerprint":"error %03d","count":%d,"last_hour":0,"last_day":%d}`, i, name, i, 200-i, 200-i))
		if i < 9 {
			p0.add(map[string]any{"sink": name}, map[int]int{2: 200 - i}, map[int]int{2: 200 - i})
		}
	}
	p0.add(map[string]any{"sink": "", "other": true}, map[int]int{3: 1000}, map[int]int{3: 1000})
	var older bool
	var mu sync.Mutex
	p := newTab(t, start(t, routes{
		"GET /v1/sinks":      says(`{"config_age_seconds":1,"sinks":[` + strings.Join(sinks, ",") + `]}`),
		"GET /v1/dlq/groups": says(`{"groups":[` + strings.Join(groups, ",") + `],"next_cursor":null,"complete":true,"scanned":0}`),
		"GET /v1/dlq/histogram": func(w http.ResponseWriter, r *http.Request, _ string) {
			mu.Lock()
			defer mu.Unlock()
			if older {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"message":"Not Found"}`)
				return
			}
			_, _ = io.WriteString(w, p0.answer(r.URL.Query().Get("by")))
		},
	}.serve(t)).URL)
	p.says("2,764 came in the last 24 hours", "all others 1,579", "error 024", "hook-024")
	rows := func(panel string) int {
		return eval[int](p, "document.querySelectorAll('section[aria-labelledby="+panel+"] tbody tr').length")
	}
	if c, s := rows("h-causes"), rows("h-sinks"); c != 25 || s != 25 {
		t.Errorf("%d causes and %d sinks are shown, want 25 of each", c, s)
	}
	p.seen("many")
	for _, panel := range []string{"h-causes", "h-sinks"} {
		p.click("section[aria-labelledby="+panel+"] button", "Show 100 more of 140")
		p.wait("more rows", "document.querySelectorAll('section[aria-labelledby="+panel+"] tbody tr').length === 125")
		p.click("section[aria-labelledby="+panel+"] button", "Show 15 more of 140")
		p.wait("all rows", "document.querySelectorAll('section[aria-labelledby="+panel+"] tbody tr').length === 140")
	}
	mu.Lock()
	older = true
	mu.Unlock()
	p.click("button", "Refresh")
	p.says("This API counts nothing over time.", "error 139")
}
