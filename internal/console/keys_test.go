//go:build full

package console_test

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// focused reports what the focus is on, by its key.
func (p *tab) focused() string {
	p.t.Helper()
	return eval[string](p, "document.activeElement.dataset.key ?? document.activeElement.name ?? document.activeElement.localName")
}

// press presses a key as a keyboard does: the page may take it before it makes text.
func (p *tab) press(key rune) {
	p.t.Helper()
	for _, e := range kb.Encode(key) {
		if e.Type == kb.KeyDown {
			e.Type = input.DispatchKeyEventTypeRawKeyDown
		}
		call(p, input.DispatchKeyEvent, *e)
	}
}

func (p *tab) at(hash string) {
	p.t.Helper()
	p.wait("the address "+hash, "location.hash === "+quote(hash))
	// The address changes first; what follows it runs after that.
	eval[bool](p, "new Promise((done) => setTimeout(() => setTimeout(() => done(true))))")
	p.settled()
}

// Keys alone lead from the overview through the list to one dead letter and back, select, and replay.
func TestKeysWalkAndAct(t *testing.T) {
	b := startBackstop(t, true)
	b.seed(t, cause("webhook-gone", "terminal", errGone, "gone", 4)...)
	p := newTab(t, b.console)
	p.keys("gi")
	p.at("#/items")
	p.says("4 dead letters, newest first.")
	ids := eval[[]string](p, `[...document.querySelectorAll("tbody th a")].map((a) => a.dataset.key)`)
	if len(ids) != 4 {
		t.Fatalf("%d rows, want 4", len(ids))
	}
	for i, step := range []struct{ key, want string }{
		{"j", ids[0]}, {"j", ids[1]}, {"k", ids[0]}, {"k", ids[0]}, {"j", ids[1]}, {"j", ids[2]}, {"j", ids[3]}, {"j", ids[3]}, {"k", ids[2]},
	} {
		p.keys(step.key)
		if got := p.focused(); got != step.want {
			t.Errorf("step %d, %s: the focus is on %q, want %q", i, step.key, got, step.want)
		}
	}
	if !eval[bool](p, `document.activeElement.matches(":focus-visible") && getComputedStyle(document.activeElement).outlineStyle === "solid"`) {
		t.Error("the focus cannot be seen")
	}
	p.keys("x")
	p.says("1 selected")
	if got := p.focused(); got != ids[2] {
		t.Errorf("after x the focus is on %q, want it where it was", got)
	}
	p.keys("kx")
	p.says("2 selected")
	p.keys("r")
	p.says("2 dead letters will be sent again.")
	p.keys(kb.Escape)
	p.wait("the dialog closed", `!document.querySelector("dialog")`)
	p.keys("x")
	p.says("1 selected")
	p.keys("jx")
	p.wait("none selected", `document.querySelector("[data-key=replay-all]")`)
	p.keys("r")
	p.says("Replay this dead letter")
	p.keys(kb.Escape)
	p.wait("the dialog closed", `!document.querySelector("dialog")`)

	p.keys("\r")
	p.says("What went wrong")
	p.keys("r")
	p.says("Replay this dead letter")
	p.keys("jxgo?") // keys are the dialog's
	p.keys(kb.Escape)
	p.wait("the dialog closed", `!document.querySelector("dialog")`)
	p.keys("e")
	p.says("Edit and replay", "Review changes…")
	p.keys(kb.Escape)
	p.wait("the dialog closed", `!document.querySelector("dialog")`)
	if err := chromedp.Do(p.ctx, chromedp.NavigateBack()); err != nil {
		t.Fatal(err)
	}
	p.wait("the focus where it was left", "document.activeElement.dataset.key === "+quote(ids[2]))
	p.keys("\r")
	p.says("What went wrong")
	p.keys("u")
	p.at("#/items?sink=webhook-gone")
	for key, hash := range map[string]string{"o": "#/", "i": "#/items", "d": "#/deliveries", "p": "#/operations"} {
		p.keys("g" + key)
		p.at(hash)
	}
	if n := len(b.accepted()); n != 0 {
		t.Errorf("%d were sent without a word", n)
	}
}

// Single keys leave whoever types alone, are listed, and can be switched off for good.
func TestKeysLeaveTypingAlone(t *testing.T) {
	p := newTab(t, start(t, listed(routes{"GET /v1/dlq/items": says(list("null", aLetter("1-0", "2026-01-01T00:00:00Z")))}).serve(t)).URL)
	p.goTo("#/items")
	p.press('/')
	p.wait("the search", `document.activeElement.name === "q"`)
	p.keys("jx?go/r")
	if got := eval[string](p, "document.activeElement.value"); got != "jx?go/r" {
		t.Errorf("what was typed is %q", got)
	}
	p.keys(kb.Escape)
	p.wait("the focus out of the field", `document.activeElement.localName === "h1"`)
	if got := eval[string](p, `document.querySelector("[name=q]").value`); got != "jx?go/r" {
		t.Errorf("after Escape the field has %q, want what was typed", got)
	}
	p.keys("?")
	p.says("Keyboard", "The next row", "Open the row", "Select the row", "Search", "Local time or UTC", "Operations")
	p.accessible("the list of keys")
	p.keys(kb.Escape)
	p.wait("the list closed", `!document.querySelector("dialog")`)

	p.click("button", "Keyboard")
	p.click("input", "Single keys do something")
	p.wait("the keys switched off", `!document.querySelector("dialog input").checked`)
	p.click("dialog button", "Close")
	p.wait("the list closed", `!document.querySelector("dialog")`)
	p.keys("j?")
	if eval[bool](p, `document.querySelector("dialog") !== null || document.activeElement.closest("tbody") !== null`) {
		t.Error("keys that are switched off do something")
	}
	if err := chromedp.Do(p.ctx, chromedp.Reload()); err != nil {
		t.Fatal(err)
	}
	p.settled()
	p.keys("?")
	if eval[bool](p, `document.querySelector("dialog") !== null`) {
		t.Error("keys that are switched off work after a reload")
	}
}

// From a view without a search, / leads to the one of the list.
func TestSearchFromAnywhere(t *testing.T) {
	p := newTab(t, start(t, listed(routes{"GET /v1/dlq/operations": says(`{"operations":[]}`)}).serve(t)).URL)
	p.goTo("#/operations")
	p.keys("/")
	p.at("#/items")
	p.wait("the search", `document.activeElement.name === "q"`)
}

// Every time says its zone; one switch chooses between the viewer's and UTC, for titles and fields too,
// and is kept.
func TestTimesSayTheirZone(t *testing.T) {
	p := newTab(t, start(t, listed(routes{"GET /v1/dlq/items": says(list("null", aLetter("1-0", "2026-01-01T22:30:00Z")))}).serve(t)).URL)
	call(p, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Kolkata"})
	reload := func() {
		t.Helper()
		if err := chromedp.Do(p.ctx, chromedp.Reload()); err != nil {
			t.Fatal(err)
		}
		p.settled()
	}
	title := func() string { return eval[string](p, `document.querySelector("tbody time").title`) }
	field := func() string { return eval[string](p, `document.querySelector("[name=since]").value`) }
	p.goTo("#/items?since=2026-01-01T20:00:00.250Z")
	reload()
	p.says("Times: GMT+5:30, local", "2026-01-02 04:00:00 GMT+5:30", "2026-01-02 01:30:00 GMT+5:30", "Since (GMT+5:30)")
	if got, want := title(), "2026-01-01 22:30:00 UTC"; got != want {
		t.Errorf("the title is %q, want %q", got, want)
	}
	if got, want := field(), "2026-01-02T01:30"; got != want && got != want+":00" {
		t.Errorf("the field has %q, want %q", got, want)
	}
	p.keys("z")
	p.says("Times: UTC", "2026-01-01 22:30:00 UTC", "2026-01-01 20:00:00 UTC", "Since (UTC)")
	if got, want := title(), "2026-01-02 04:00:00 GMT+5:30 here"; got != want {
		t.Errorf("the title is %q, want %q", got, want)
	}
	reload()
	p.says("Times: UTC", "2026-01-01 22:30:00 UTC")
	// A field that was not touched keeps its fractions; one that was is read in the zone that it names.
	p.click("button", "Apply")
	p.at("#/items?since=2026-01-01T20%3A00%3A00.250Z")
	eval[bool](p, `(() => { document.querySelector("[name=until]").value = "2026-01-01T23:00:00"; return true; })()`)
	p.click("button", "Apply")
	p.at("#/items?since=2026-01-01T20%3A00%3A00.250Z&until=2026-01-01T23%3A00%3A00.000Z")
	p.click("a.chip", "Remove the filter time 2026-01-01 20:00:00 UTC to 2026-01-01 23:00:00 UTC ×")
	p.at("#/items")
	p.wait("the list without a filter", `document.querySelector("[name=since]").value === ""`)
	p.settled()
	p.click("button", "Times: UTC")
	p.says("2026-01-02 04:00:00 GMT+5:30")
	eval[bool](p, `(() => { document.querySelector("[name=since]").value = "2026-01-02T05:30:00"; return true; })()`)
	p.click("button", "Apply")
	p.at("#/items?since=2026-01-02T00%3A00%3A00.000Z")
}
