//go:build full

package console_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"backstop/client"
	"backstop/internal/local"
)

func filterOf(sink string) client.Filter { return client.Filter{Sink: sink} }

// tabTo presses Tab until the element that named finds has the focus.
func (p *tab) tabTo(selector, name string) {
	p.t.Helper()
	p.wait(selector+" "+quote(name), named(selector, name))
	for range 80 {
		if eval[bool](p, "document.activeElement === "+named(selector, name)) {
			return
		}
		p.keys(kb.Tab)
	}
	p.t.Fatalf("80 times Tab do not lead to %s %q; the focus is on %s", selector, name, eval[string](p, "document.activeElement.outerHTML.slice(0, 200)"))
}

// Everything can be done with the keyboard alone: from the overview to a cause, to one
// dead letter and back, and a bulk replay with its reason, progress and end.
func TestKeyboardAlone(t *testing.T) {
	b := startBackstop(t, true)
	b.seed(t, cause("webhook-down", "exhausted", errDown, "down", 12)...)
	b.seed(t, cause("webhook-gone", "terminal", errGone, "gone", 5)...)
	b.Inbox.HTTP.Heal(local.PathDown)
	p := newTab(t, b.console)

	p.keys(kb.Tab)
	p.wait("the skip link first", `document.activeElement.id === "skip"`)
	p.keys("\r")
	p.wait("the focus on the content", `document.activeElement.id === "main"`)
	p.tabTo("a", causeGone)
	p.keys("\r")
	p.wait("the list", `document.querySelector("h1").innerText === "Dead letters"`)
	p.says("5 dead letters, newest first.")
	p.wait("the focus on the new view", `document.activeElement === document.querySelector("h1")`)
	p.tabTo("tbody a", "Order 4004 was paid")
	p.keys("\r")
	p.says("Facts")
	if err := chromedp.Do(p.ctx, chromedp.NavigateBack()); err != nil {
		t.Fatal(err)
	}
	p.says("5 dead letters, newest first.")
	p.tabTo("tbody input", "Select Order 4003 was paid")
	p.keys(" ")
	p.says("1 selected")

	p.tabTo("header nav a", "Overview") // Tab goes around
	p.keys("\r")
	p.says("Causes")
	p.tabTo("button", "Replay 12 dead letters: "+causeDown+", webhook-down")
	p.keys("\r")
	p.says("12 dead letters will be sent again.")
	p.wait("the focus on the reason", `document.activeElement.name === "reason"`)
	for range 8 { // the dialog keeps the focus
		p.keys(kb.Tab)
		if !eval[bool](p, `document.activeElement === document.body || document.querySelector("dialog").contains(document.activeElement)`) {
			t.Fatal("Tab leads out of the dialog")
		}
	}
	p.keys(kb.Escape)
	p.wait("the dialog closed", `!document.querySelector("dialog")`)
	p.wait("the focus back", `document.activeElement.dataset.key?.startsWith("replay ")`)
	p.keys("\r")
	p.wait("the focus on the reason", `document.activeElement.name === "reason"`)
	p.keys("by hand\r") // Enter in a field submits
	p.says("Completed: 12 delivered, 0 failed.")
	p.tabTo("button", "Close")
	p.keys(" ")
	p.wait("the overview without the cause", `!document.querySelector("main").innerText.includes("HTTP 503")`)
	if n := len(b.accepted()); n != 12 {
		t.Errorf("%d arrived, want 12", n)
	}
	if n := b.counts(t)["terminal"]; n != 5 {
		t.Errorf("%d of the other cause are left, want 5", n)
	}
}

// Messages, recipients, errors, metadata and deliveries are shown as text.
func TestMessagesAreInert(t *testing.T) {
	b := startBackstop(t, false)
	hostile := `<script>alert(1)</script><img src=x onerror="alert(2)"><iframe srcdoc="<script>alert(3)</script>"></iframe><a href="javascript:alert(4)">x</a><style>body{display:none}</style></pre><h1>owned</h1>`
	l := cause("webhook-gone", "terminal", hostile, "evil", 1)[0]
	l.Recipient = map[string]string{"url": "javascript:alert(5)//" + hostile}
	l.Message = message{ID: "evil-1", Subject: hostile, Body: hostile, Metadata: map[string]string{"X-Evil": hostile}}
	l.Trace = hostile
	l.Message.Metadata["__proto__"] = hostile
	b.seed(t, l)
	id := b.newest(t, filterOf("webhook-gone")).ID

	p := newTab(t, b.console)
	check := func(view string) {
		t.Helper()
		found := eval[string](p, `[...document.querySelectorAll("main script, main img, main iframe, main style, main [onerror], a[href^='javascript' i], h1 ~ h1, dialog img, dialog script")].map((e) => e.outerHTML).join("\n")`)
		if found != "" {
			t.Errorf("%s has elements from the message: %s", view, found)
		}
		if n := eval[int](p, `document.querySelectorAll("h1").length`); n != 1 {
			t.Errorf("%s has %d headings of the first level, want 1", view, n)
		}
	}
	p.says("webhook-gone")
	check("the overview")
	p.goTo("#/items?q=" + strings.ReplaceAll("<script>", "<", "%3C"))
	p.says(`<script>alert(1)</script>`)
	check("the list")
	p.goTo("#/items/" + id)
	p.says(hostile)
	if body := p.text(`pre[aria-label="Message body"]`); body != hostile {
		t.Errorf("the body is shown as %q, want %q", body, hostile)
	}
	check("the dead letter")
	p.click("button", "Replay…")
	check("its dialog")
	p.goTo("#/items")
	p.click("button", "Replay all…")
	p.says("1 dead letter will be sent again.")
	check("the bulk dialog")
	p.goTo("#/%3Cscript%3Ealert(6)%3C/script%3E")
	p.says("There is nothing at this address.")
	check("an unknown view")
}

// The URL is the view: filters are in it, and the back button undoes them.
func TestURLReflectsTheView(t *testing.T) {
	b := startBackstop(t, false)
	b.seed(t, cause("webhook-down", "exhausted", errDown, "down", 60)...)
	b.seed(t, cause("webhook-gone", "terminal", errGone, "gone", 2)...)
	p := newTab(t, b.console)
	hash := func() string { return eval[string](p, "location.hash") }

	p.click("header nav a", "Dead letters")
	p.says("The newest 50 dead letters. There are older ones.")
	p.click("nav button", "Load 50 more")
	p.says("62 dead letters, newest first. That is all.")
	if got, want := hash(), "#/items?rows=62"; got != want {
		t.Errorf("what was loaded is at %s, want %s", got, want)
	}
	p.wait("the focus on what came", `document.activeElement === document.querySelectorAll("tbody th a")[50]`)
	p.choose("Sink", "webhook-gone")
	p.typeIn("Text", "order 4001")
	p.keys("\r")
	p.says("1 dead letter, newest first.", "That is all.")
	if got, want := hash(), "#/items?q=order+4001&sink=webhook-gone"; got != want {
		t.Errorf("the filter is at %s, want %s", got, want)
	}
	if err := chromedp.Do(p.ctx, chromedp.Reload()); err != nil {
		t.Fatal(err)
	}
	p.settled()
	p.says("1 dead letter, newest first.")
	p.click("a.chip", "Remove the filter text order 4001 ×")
	p.says("2 dead letters, newest first.")
	for _, want := range []string{"1 dead letter, newest first.", "62 dead letters, newest first. That is all."} {
		if err := chromedp.Do(p.ctx, chromedp.NavigateBack()); err != nil {
			t.Fatal(err)
		}
		p.says(want)
	}
}

// On a phone the list comes in shorter pages, and what is selected stays so.
func TestThePhonesListPages(t *testing.T) {
	b := startBackstop(t, false)
	b.seed(t, cause("webhook-down", "exhausted", errDown, "down", 45)...)
	p := newTab(t, b.console)
	p.look(390, 844, "dark")
	p.goTo("#/items")
	p.says("The newest 20 dead letters. There are older ones.")
	p.click("tbody input", eval[string](p, `document.querySelector("tbody input").getAttribute("aria-label")`))
	p.says("1 selected")
	for _, want := range []string{"The newest 40 dead letters. There are older ones.", "45 dead letters, newest first. That is all."} {
		p.click("nav button", "Load 20 more")
		p.says(want, "1 selected")
	}
	if over := eval[int](p, "document.documentElement.scrollWidth") - 390; over > 0 {
		t.Errorf("%d px wider than the screen", over)
	}
	p.click("tbody a", eval[string](p, `[...document.querySelectorAll("tbody th a")].at(-1).innerText`))
	p.says("What went wrong")
	if err := chromedp.Do(p.ctx, chromedp.NavigateBack()); err != nil {
		t.Fatal(err)
	}
	p.says("45 dead letters, newest first. That is all.")
}

// A refresh between the press of a button and its release does not lose the click.
func TestRefreshDuringAClick(t *testing.T) {
	b := startBackstop(t, false)
	b.seed(t, cause("webhook-down", "exhausted", errDown, "down", 1)...)
	p := newTab(t, b.console)
	p.goTo("#/items")
	x, y := p.where("button", "Replay all…")
	p.mouse(chromedp.MouseEvent(chromedp.MousePressed, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	b.seed(t, cause("webhook-down", "exhausted", errDown, "later", 1)...)
	// The answers are there, and a moment to draw them.
	eval[bool](p, `(async () => {
		const seen = () => performance.getEntriesByType("resource").length;
		const before = seen();
		document.getElementById("refresh").click();
		while (seen() < before + 2) await new Promise((done) => setTimeout(done, 20));
		await new Promise((done) => setTimeout(done, 200));
		return true;
	})()`)
	p.mouse(chromedp.MouseEvent(chromedp.MouseReleased, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	p.says("2 dead letters will be sent again.", "2 dead letters, newest first.")
}

// Nothing found, nothing there, no such thing.
func TestEmptyStates(t *testing.T) {
	b := startBackstop(t, false)
	p := newTab(t, b.console)
	p.says("No dead letter came in the last 24 hours.", "What cannot be delivered shows up here")
	p.goTo("#/items")
	p.says("Everything was delivered, replayed or discarded.")
	p.goTo("#/items?q=nobody")
	p.says("No dead letter matches this filter.")
	p.goTo("#/operations")
	p.says("No operations yet.")
	p.goTo("#/items/webhook-demo~1-1")
	p.says("No such dead letter", "SINK_DLQ_NOT_FOUND")
	p.goTo("#/items?limit=x&reason=nonsense") // only what is a filter is sent
	p.says("INVALID_ARGUMENT", "nonsense")
}
