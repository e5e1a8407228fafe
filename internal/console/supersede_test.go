//go:build full

package console_test

import (
	"testing"

	"backstop/client"
	"backstop/internal/local"
)

// What is edited is sent in the place of what it was made of, which stays and leads there; it is found by its
// metadata, and arrives once.
func TestWhatIsEditedSupersedes(t *testing.T) {
	b := startBackstop(t, false)
	letters := cause("webhook-down", "exhausted", errDown, "one", 2)
	letters[0].Message.Metadata = map[string]string{"X-Tenant": "acme"}
	b.seed(t, letters...)
	p := newTab(t, b.console)
	p.goTo("#/items?meta=X-Tenant%3Dacme")
	p.says("1 dead letter, newest first.")
	p.click("tbody a", "Order 4000 was paid")
	edit := func() {
		t.Helper()
		p.click("button", "Edit and replay…")
		p.set("Subject", "Order 4000 was paid twice")
		p.click("button", "Review changes…")
		p.click("button", "Replay edited")
	}
	edit()
	p.says("What was made of it failed, and stays in the queue.", "HTTP 503", "It is sent in this one's place")
	p.click("dialog button", "Close")
	p.says("superseded", "Another was made of it")
	p.wait("its way to lead there", `document.querySelector("ol.way a")?.innerText === document.querySelector(".note [data-key=heir]").innerText`)
	p.accessible("a superseded dead letter")
	p.click("a", b.newest(t, client.Filter{Sink: "webhook-down", Q: "paid twice"}).ID)
	p.says("Came from", "Order 4000 was paid twice")
	b.Inbox.HTTP.Heal(local.PathDown)
	p.click("button", "Replay…")
	p.click("button", "Replay 1")
	p.says("Delivered through webhook-down. It left the queue.")
	if n := b.accepted()["one-0001"]; n != 1 {
		t.Errorf("one-0001 arrived %d times, want once", n)
	}
}
