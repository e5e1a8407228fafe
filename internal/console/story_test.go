//go:build full

package console_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"backstop/client"
	"backstop/internal/incident"
	"backstop/internal/local"
)

// The story, against a `backstop dev` of its own: 1,000 failures with three causes over two
// sinks, made by the real send function. The overview names the causes; one of them is
// replayed in bulk after its receiver is back, with the dry run's number first, progress,
// and a completion; the others are not touched.
func TestStory(t *testing.T) {
	in, b := startIncident(t)
	dead := b.export(t)

	p := newTab(t, b.console)
	p.says("Causes", "HTTP 503", "HTTP 429", "connection refused", "1,000 came in the last 24 hours, 1,000 of them are still there.", "Began at")
	rows := eval[[]string](p, `[...document.querySelectorAll("section[aria-labelledby=h-causes] tbody tr")].map((r) => r.innerText.replace(/\s+/g, " "))`)
	groups, err := b.api.GroupsPage(t.Context(), client.Filter{}, "")
	if err != nil || len(groups.Groups) != len(incident.Causes) || len(rows) != len(incident.Causes) {
		t.Fatalf("%d groups (%v), shown as %q; want %d", len(groups.Groups), err, rows, len(incident.Causes))
	}
	for i, c := range incident.Causes {
		g := groups.Groups[i]
		want := fmt.Sprintf("%d %s %s %s new", c.Count, causeOf(g), c.Sink, c.Reason)
		if !strings.HasPrefix(rows[i], want) || !strings.Contains(g.Fingerprint, c.Error) {
			t.Errorf("cause %d is %q, want %q with %s", i, rows[i], want, c.Error)
		}
	}

	in.Heal()
	p.click("button", "Replay 520 dead letters: "+causeOf(groups.Groups[0])+", orders")
	p.says("520 dead letters will be sent again.")
	if n := len(in.Arrived()); n != 0 {
		t.Errorf("the dry run sent %d messages", n)
	}
	p.keys("the receiver is back (INC-42)") // the reason has the focus
	p.click("button", "Replay 520")
	p.wait("progress", `document.querySelector("dialog progress[aria-label='Replaying 520 dead letters']")?.checkVisibility()`)
	p.wait("a progress in between", `(({ position }) => position > 0 && position < 1)(document.querySelector("dialog progress"))`)
	p.says("Completed: 520 delivered, 0 failed.")
	if v := eval[float64](p, `document.querySelector("dialog progress").position`); v != 1 {
		t.Errorf("progress at the end is %v, want 1", v)
	}
	p.accessible("a completed operation")
	p.picture("completed-light")
	p.click("button", "Close")
	p.wait("the overview without the cause", `!document.querySelector("main").innerText.includes("HTTP 503")`)

	arrived := in.Arrived()
	for n := range incident.Down.Count {
		if id := fmt.Sprintf("down-%04d", n+1); arrived[id] != 1 {
			t.Errorf("delivery %s arrived %d times, want once", id, arrived[id])
		}
	}
	if len(arrived) != incident.Down.Count {
		t.Errorf("%d deliveries arrived, want %d", len(arrived), incident.Down.Count)
	}
	others := slices.DeleteFunc(dead, func(line string) bool { return strings.Contains(line, `"delivery_id":"down-`) })
	if left := b.export(t); !slices.Equal(left, others) {
		t.Errorf("the other causes are not as they were: %d dead letters, before %d", len(left), len(others))
	}
	p.click("header nav a", "Operations")
	p.says("the receiver is back (INC-42)", "completed", "520 of 520")
}

// causeOf is a group as the page names it.
func causeOf(g client.Group) string { return strings.TrimPrefix(g.Fingerprint, "SINK_UNAVAILABLE: ") }

// A bulk discard asks for the number to be typed.
func TestBulkDiscardOfASelectionAsksForItsNumber(t *testing.T) {
	b := startBackstop(t, true)
	b.seed(t, cause("webhook-gone", "terminal", errGone, "gone", 4)...)
	p := newTab(t, b.console)
	p.goTo("#/items?sink=webhook-gone")
	for _, n := range []int{0, 2} {
		eval[bool](p, fmt.Sprintf(`document.querySelectorAll("tbody input[type=checkbox]")[%d].click() ?? true`, n))
	}
	p.click("button", "Discard selected…")
	p.says("2 dead letters will be removed for good.")
	p.click("button", "Discard 2")
	p.says("2 dead letters will be removed for good.") // nothing typed: still here
	p.typeIn("Type 2 to confirm", "3")
	p.click("button", "Discard 2")
	p.says("Type 2 to confirm.")
	p.keys("\b2\r")
	p.says("Completed: 2 discarded.")
	p.click("button", "Close")
	p.says("2 dead letters, newest first.")
	if n := b.counts(t)["terminal"]; n != 2 {
		t.Errorf("%d are left, want 2", n)
	}
	if n := len(b.accepted()); n != 0 {
		t.Errorf("%d messages were sent by a discard", n)
	}
}

// A receiver that stays down stops the operation, which says why; it is resumed in its view once
// the receiver is back. The question says when they were last tried.
func TestAStoppedOperationIsResumed(t *testing.T) {
	b := startBackstop(t, true)
	b.seed(t, cause("webhook-down", "exhausted", errDown, "down", 12)...)
	p := newTab(t, b.console)
	p.goTo("#/items?sink=webhook-down&reason=exhausted")
	p.click("button", "Replay all…")
	p.says("12 dead letters will be sent again.", "None of them was ever tried again since it failed.", "After five failures in a row")
	p.click("button", "Replay 12")
	p.says("Stopped: 0 delivered, 5 failed.", "sink webhook-down: stopped after 5 failures in a row: SINK_UNAVAILABLE", "HTTP 503")
	p.wait("the focus on Close", `document.activeElement.innerText === "Close"`)
	p.accessible("a stopped operation's dialog")
	p.click("button", "Close")

	p.click("button", "Replay all…")
	p.says("Last tried", "failed: SINK_UNAVAILABLE", "HTTP 503")
	p.click("a", "Open the operation that tried it")
	p.says("Operation op-", "Stopped: 0 delivered, 5 failed.", "5 failures in a row of a receiver", "stopped")
	p.accessible("a stopped operation")
	b.Inbox.HTTP.Heal(local.PathDown)
	p.click("button", "Resume the operation")
	p.says("Completed: 12 delivered, 0 failed.", "Round")
	if n := b.counts(t)["exhausted"]; n != 0 {
		t.Errorf("%d are left, want none", n)
	}
}

// With the real functions: a test message arrives as one, a cause keeps its note, and a time that is chosen
// in the chart lists what came then.
func TestTheOverviewOfRealFunctions(t *testing.T) {
	b := startBackstop(t, false)
	b.seed(t, cause("webhook-down", "exhausted", errDown, "down", 12)...)
	b.seed(t, cause("webhook-gone", "terminal", errGone, "gone", 5)...)
	p := newTab(t, b.console)
	p.click("button", "Note: "+causeDown+", webhook-down")
	p.keys("they know")
	p.click("button", "Save")
	p.says("acknowledged", "they know")
	groups, err := b.api.GroupsPage(t.Context(), client.Filter{}, "")
	if err != nil || groups.Groups[0].Note == nil || groups.Groups[0].Note.Note != "they know" {
		t.Errorf("the API has %+v, %v; want the note", groups.Groups, err)
	}
	p.click("button", "Note: "+causeDown+", webhook-down")
	p.says("Last noted")
	p.keys(strings.Repeat("\b", len("they know")))
	p.click("input", "Acknowledge: somebody knows, and cares for it")
	p.click("button", "Save")
	p.wait("no note", `!document.querySelector(".noted")`)

	p.tabTo(".field", "Dead letters over time, by sink")
	p.keys(kb.Home)
	p.keys(kb.End, chromedp.KeyModifiers(chromedp.ModifierShift))
	p.says("17 came, 17 still there (webhook-down 12, webhook-gone 5)")
	p.keys("\r")
	p.says("17 dead letters, newest first.")

	p.goTo("#/")
	p.click("button", "Send a test message through webhook-demo")
	p.click("dialog button", "Send 1")
	p.says("Delivered through webhook-demo after 1 attempt.")
	p.click("dialog a", "Its whole way")
	p.says("Sending began")
	arrivals := b.Inbox.HTTP.Arrivals()
	if n := len(arrivals); n != 1 || arrivals[0].Header.Get("X-Backstop-Test") != "console" {
		t.Errorf("%d arrived: %+v; want one that is marked as a test", n, arrivals)
	}
}

// An operation that waits or runs can be canceled from its dialog and from its view.
func TestCancelOperation(t *testing.T) {
	b := startBackstop(t, false) // nothing works on operations
	b.seed(t, cause("webhook-down", "exhausted", errDown, "down", 3)...)
	p := newTab(t, b.console)
	p.goTo("#/items?sink=webhook-down&reason=exhausted")
	p.click("button", "Replay all…")
	p.click("button", "Replay 3")
	p.says("Waiting to start.")
	p.click("button", "Cancel the operation")
	p.says("Canceled: 0 delivered, 0 failed. What was done stays done.")
	p.wait("the focus on Close", `document.activeElement.innerText === "Close"`)
	p.click("button", "Close")

	p.click("button", "Replay all…")
	p.click("button", "Replay 3")
	p.click("a", "Open the operation")
	p.says("Operation op-", "Waiting to start.", "sink webhook-down, reason exhausted")
	p.click("button", "Cancel the operation")
	p.says("Canceled")
	if n := b.counts(t)["exhausted"]; n != 3 {
		t.Errorf("%d are left, want 3", n)
	}
}

// One dead letter in full; replay with its outcome, through its own sink and another;
// unpark; discard.
func TestOneDeadLetter(t *testing.T) {
	b := startBackstop(t, false)
	letters := cause("webhook-down", "exhausted", errDown, "one", 3)
	letters[0].Parked = true
	letters[0].Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	letters[0].Recipient = map[string]string{"url": "https://receiver.example.org/hook"}
	letters[0].Message.Metadata = map[string]string{"X-Tenant": "acme"}
	b.seed(t, letters...)
	p := newTab(t, b.console)
	p.goTo("#/items?sink=webhook-down&delivery_id=one-0001")
	p.says("Delivery one-0001 to webhook-down is a dead letter")
	p.click("tbody a", "Order 4000 was paid")
	p.settled()
	p.says("Dead letter webhook-down~", "parked", errDown, "X-Tenant", "acme", letters[0].Trace, "https://receiver.example.org/hook", `{"order":4000,"total":"10.90"}`)
	if eval[bool](p, `document.querySelector("main").innerText.includes("Not before")`) {
		t.Errorf("a parked item has a time from which it is replayed: %s", p.text("main"))
	}

	p.click("button", "Unpark…")
	p.click("button", "Unpark 1")
	p.wait("no longer parked", `!document.querySelector(".headline").innerText.includes("parked")`)
	// The import kept the schedule away for a while, which nobody needs to know by now.
	if eval[bool](p, `document.querySelector("main").innerText.includes("Not before")`) {
		t.Errorf("an unparked item still has a time that its import set: %s", p.text("main"))
	}

	p.goTo("#/items?q=one-0002")
	p.click("tbody a", "Order 4001 was paid")
	p.click("button", "Replay…")
	p.click("button", "Replay 1")
	p.says("It failed again, and stays in the queue.", "HTTP 503", "The schedule tries again in")
	p.click("button", "Close")
	p.says("scheduled in", "Replays charged\n1")
	p.click("button", "Replay…")
	p.choose("Send through", "webhook-demo")
	p.click("button", "Replay 1")
	p.says("Delivered through webhook-demo.")
	p.click("button", "Close")
	p.says("superseded", "Another was made of it")
	if n := b.accepted()["one-0002"]; n != 1 {
		t.Errorf("one-0002 arrived %d times, want 1", n)
	}

	p.goTo("#/items?q=one-0003")
	p.click("tbody a", "Order 4002 was paid")
	p.click("button", "Discard…")
	p.click("button", "Discard 1")
	p.says("Dead letters", "2 dead letters, newest first.") // back in the list; the unparked one is left, and the superseded one
}

// Unpark of all that a filter finds.
func TestOneByOneOfAFilter(t *testing.T) {
	b := startBackstop(t, false)
	b.seed(t, cause("webhook-gone", "terminal", errGone, "gone", 9)...)
	p := newTab(t, b.console)
	p.goTo("#/items?sink=webhook-gone")
	p.says("waiting")
	p.click("button", "Unpark all…")
	p.says("9 dead letters will be due now.")
	p.click("button", "Unpark 9")
	p.says("Completed: 9 done.")
	p.click("button", "Close")
	p.wait("all due", `!document.querySelector("table").innerText.includes("waiting")`)
}

// A replay through another sink is an operation like any other. The question says before what that sink
// could never send, and how its receiver is.
func TestACauseIsRedirected(t *testing.T) {
	b := startBackstop(t, true)
	b.seed(t, cause("webhook-gone", "terminal", errGone, "gone", 9)...)
	p := newTab(t, b.console)
	p.click("button", "Replay 9 dead letters: "+causeGone+", webhook-gone")
	p.says("9 to webhook-gone: ok")
	p.choose("Send through", "email-demo")
	p.says("It could send none of them: they fail, and stay.", "9 to email-demo: ok")
	p.accessible("a redirect that is refused")
	p.choose("Send through", "webhook-demo")
	p.says("9 to webhook-demo: ok", "what fails there stays as it was, in its own sink")
	p.wait("nothing refused", `!document.querySelector("dialog .note")`)
	p.picture("redirect-light")
	p.click("button", "Replay 9")
	p.says("Completed: 9 delivered, 0 failed.")
	p.click("a", "Open the operation")
	p.says("Sent through\nwebhook-demo")
	if n, left := len(b.accepted()), b.counts(t)["terminal"]; n != 9 || left != 0 {
		t.Errorf("%d arrived and %d are left, want 9 and none", n, left)
	}
}

func TestPauseAndResume(t *testing.T) {
	b := startBackstop(t, false)
	p := newTab(t, b.console)
	p.says("No dead letters.", "webhook-demo")
	p.click("button", "Pause webhook-demo")
	p.says("Nothing is lost.")
	p.click("button", "Pause")
	p.wait("the sink paused", named("button", "Resume webhook-demo"))
	p.wait("the focus back", `document.activeElement.getAttribute("aria-label") === "Resume webhook-demo"`)
	p.click("button", "Resume webhook-demo")
	p.click("button", "Resume")
	p.wait("the sink resumed", named("button", "Pause webhook-demo"))
}
