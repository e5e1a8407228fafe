//go:build full

package console_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// outage is what the API says of sinks whose receivers are not well.
func outage(now time.Time) string {
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	row := func(name, kind, more string) string {
		return fmt.Sprintf(`{"name":%q,"kind":%q,"configured":true,"parked":0,"kept":0,"trimmed":0,"paused":false,"oldest_age_seconds":260,%s}`, name, kind, more)
	}
	return `{"config_age_seconds":12,"sinks":[` +
		row("hook", "webhook", fmt.Sprintf(`"state":"open","depth":602,"due":602,"waiting":590,"oldest_at":%q,"since":%q,"next_probe":%q,"last_error":"SINK_UNAVAILABLE: POST https://receiver.example: HTTP 503 Service Unavailable","last_error_at":%q,"last_success_at":%q`,
			at(-260*time.Second), at(-4*time.Minute-5*time.Second), at(time.Hour), at(-18*time.Second), at(-5*time.Minute-5*time.Second))) + "," +
		row("back", "webhook", fmt.Sprintf(`"state":"open","depth":40,"due":40,"waiting":40,"oldest_at":%q,"since":%q`, at(-260*time.Second), at(-3*time.Second))) + "," +
		row("slack", "slack", fmt.Sprintf(`"state":"held","depth":10,"due":10,"waiting":10,"oldest_at":%q,"since":%q,"next_probe":%q`, at(-260*time.Second), at(-3*time.Minute), at(-time.Second))) + "," +
		row("mail", "email", fmt.Sprintf(`"state":"failing","depth":6,"due":6,"waiting":0,"oldest_at":%q,"since":%q,"last_error":"SINK_UNAVAILABLE: MAIL FROM: SMTP 421 try again later","last_error_at":%q`,
			at(-260*time.Second), at(-20*time.Second), at(-time.Second))) + "," +
		row("partners", "webhook", fmt.Sprintf(`"state":"ok","depth":9,"due":9,"waiting":0,"oldest_at":%q,"more_receivers":3,"receivers":[{"name":"https://one.example","state":"open","since":%q,"next_probe":%q,"last_error":"SINK_UNAVAILABLE: connection refused"},{"name":"https://two.example","state":"failing"}]`,
			at(-260*time.Second), at(-4*time.Minute-5*time.Second), at(time.Hour))) + "," +
		row("well", "webhook", `"state":"ok","depth":0,"due":0,"waiting":0,"last_error":"SINK_UNAVAILABLE: an old one"`) + `]}`
}

// A receiver that is left alone looks like that, never like a schedule that does not work; and
// an operator who knows that it is back resumes it.
func TestAReceiverThatIsDownShows(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	resumed := false
	p := newTab(t, start(t, routes{
		"GET /v1/sinks": func(w http.ResponseWriter, _ *http.Request, _ string) {
			mu.Lock()
			defer mu.Unlock()
			if resumed {
				_, _ = io.WriteString(w, aSink)
				return
			}
			_, _ = io.WriteString(w, outage(now))
		},
		"GET /v1/dlq/groups":    says(noCare),
		"GET /v1/dlq/histogram": says(noHistogram),
		"GET /v1/dlq/items":     says(list("null")),
		"POST /v1/sinks/hook/resume": func(w http.ResponseWriter, _ *http.Request, _ string) {
			mu.Lock()
			defer mu.Unlock()
			resumed = true
			_, _ = io.WriteString(w, `{"name":"hook"}`)
		},
	}.serve(t)).URL)
	p.says("640 of them wait for a receiver", "590 wait",
		"POST https://receiver.example: HTTP 503 Service Unavailable", "since 4 min · next probe in 59 min · last failure", "last success 5 min ago",
		"it answers again, and gets more step by step", "since 3 min · the next delivery is the probe", "MAIL FROM: SMTP 421 try again later", "5 receivers are not well")
	if got := p.text("main"); strings.Contains(got, "an old one") || strings.Contains(got, "SINK_UNAVAILABLE") {
		t.Errorf("a sink that is well shows an old error, or a code is shown: %s", got)
	}
	for name, want := range map[string]bool{
		"Resume hook": true, "Resume back": true, "Resume slack": true, "Resume partners": true, "Resume mail": false, "Resume well": false,
		"Pause hook": true, "Pause well": true,
	} {
		if got := eval[bool](p, "Boolean("+named("button", name)+")"); got != want {
			t.Errorf("button %q: %v, want %v", name, got, want)
		}
	}
	p.click("summary", "5 receivers are not well")
	p.says("https://one.example", "connection refused", "https://two.example", "and 3 more")
	p.click("button", "Refresh")
	p.settled()
	p.says("https://one.example") // the list stays open
	for _, v := range []struct {
		name          string
		width, height int64
		scheme        string
	}{{"outage", 1280, 1100, "light"}, {"outage-dark", 1280, 1100, "dark"}, {"outage-phone", 390, 1800, "light"}} {
		p.look(v.width, v.height, v.scheme)
		p.picture(v.name)
		p.accessible(v.name)
		if eval[bool](p, "document.documentElement.scrollWidth > window.innerWidth") {
			t.Errorf("%s: wider than the screen", v.name)
		}
	}
	p.click("button", "Resume hook")
	p.says("The next delivery to a receiver that is left alone is the probe.")
	p.click("button", "Resume")
	p.wait("the sink to be resumed", `!document.body.innerText.includes("640 of them wait")`)
	p.wait("the focus on what is left", `document.activeElement.getAttribute("aria-label") === "Pause hook"`)
	mu.Lock()
	defer mu.Unlock()
	if !resumed {
		t.Error("the API was not asked to resume it")
	}
}
