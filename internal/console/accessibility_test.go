//go:build full

package console_test

import (
	"testing"
	"time"

	"backstop/client"
)

// Every view passes axe-core, light and dark, on a desk and on a phone, where nothing is wider than the
// screen. The pictures are left in build/screenshots.
func TestAccessibility(t *testing.T) {
	b := startBackstop(t, true)
	letters := append(story(), cause("slack-demo", "ambiguous", "SINK_UNAVAILABLE: POST https://hooks.example.com: the request was sent, and no answer came", "slack", 23)...)
	letters = append(letters, cause("email-demo", "exhausted", "SINK_UNAVAILABLE: MAIL FROM: SMTP 421 try again later", "mail", 8)...)
	for i := range 3 {
		letters[len(letters)-1-i].Parked = true
	}
	rich := letters[len(letters)-1]
	rich.DeliveryID, rich.Message.ID = "welcome-17", "welcome-17"
	rich.Message.Subject = "Welcome to Acme"
	rich.Message.Body = "<h1>Welcome, Ann!</h1>\n<p>Your account is ready. <a href=\"https://acme.example/start\">Start here</a>.</p>\n<p>– The Acme team</p>\n"
	rich.Message.Metadata = map[string]string{"X-Campaign": "onboarding", "X-Tenant": "acme"}
	rich.Recipient = map[string]string{"address": "ann@example.com"}
	rich.Trace = "Root=1-67a1b2c3-0123456789abcdef01234567"
	b.seed(t, append(letters, rich)...)
	if _, err := b.api.PauseSink(t.Context(), "webhook-gone"); err != nil {
		t.Fatal(err)
	}
	groups, err := b.api.GroupsPage(t.Context(), client.Filter{Sink: "webhook-gone"}, "")
	if err != nil || len(groups.Groups) != 1 {
		t.Fatalf("%+v, %v; want one group", groups, err)
	}
	if _, err := b.api.NoteGroup(t.Context(), groups.Groups[0].ID, client.NoteRequest{Note: "They move to another address until Friday.", Acknowledged: true}); err != nil {
		t.Fatal(err)
	}
	mail := b.newest(t, client.Filter{Sink: "email-demo", DeliveryID: "welcome-17"})
	op, err := b.api.CreateOperation(t.Context(), "a11y", client.OperationRequest{
		Action: "discard", Reason: "test messages of the load test (INC-41)", Filter: &client.Filter{Sink: "slack-demo", Reason: "ambiguous", Q: "Order 401"},
	})
	if err != nil {
		t.Fatal(err)
	}

	p := newTab(t, b.console)
	p.look(1440, 1294, "light")
	p.goTo("#/?range=6h")
	p.picture("readme") // docs/console.png
	p.inspect(
		view{"overview", "#/", nil},
		view{"items", "#/items", nil},
		view{"items-filtered", "#/items?sink=slack-demo&reason=ambiguous&q=order&since=2026-01-01T00%3A00%3A00Z", nil},
		view{"item", "#/items/" + mail.ID, nil},
		view{"operations", "#/operations", nil},
		view{"operation", "#/operations/" + op.ID, nil},
		view{"replay", "#/", func() {
			p.click("button", "Replay 520 dead letters: "+causeDown+", webhook-down")
			p.says("will be sent again.")
		}},
		view{"edit", "#/items/" + mail.ID, func() {
			p.click("button", "Edit and replay…")
			p.says("Review changes…")
		}},
		view{"keys", "#/items", func() {
			p.keys("?")
			p.says("Single keys do something")
		}},
		view{"difference", "#/items/" + mail.ID, func() {
			p.click("button", "Edit and replay…")
			p.set("Subject", "Welcome to Acme, Ann")
			p.click("button", "Review changes…")
			p.says("What changes:")
		}},
		view{"selected", "#/items?sink=slack-demo", func() {
			p.keys("jxjxj")
			p.says("2 selected")
		}},
		view{"discard", "#/items/" + mail.ID, func() {
			p.click("button", "Discard…")
			p.says("It is removed for good")
		}},
	)
}

// Likewise for what expired, and for deliveries.
func TestAccessibilityOfDeliveries(t *testing.T) {
	b := startBackstop(t, false)
	late := cause("slack-demo", "exhausted", "SINK_UNAVAILABLE: POST https://hooks.example.com: HTTP 503", "code", 1)[0]
	late.At = time.Now().Add(-2 * time.Hour)
	late.FirstFailedAt, late.ExpiresAt = late.At.Add(-14*time.Second), late.At.Add(5*time.Minute)
	parked := cause("email-demo", "ambiguous", "SINK_UNAVAILABLE: MAIL FROM: the request was sent, and no answer came", "mail", 1)[0]
	parked.Parked = true
	b.seed(t, late, parked)
	code := b.newest(t, client.Filter{Sink: "slack-demo"})

	p := newTab(t, b.console)
	p.inspect(
		view{"expired-overview", "#/", nil},
		view{"expired", "#/items/" + code.ID, nil},
		view{"delivery", "#/deliveries?sink=email-demo&id=" + parked.DeliveryID, nil},
		view{"delivery-expired", "#/deliveries?sink=slack-demo&id=" + late.DeliveryID, nil},
		view{"delivery-unknown", "#/deliveries?sink=email-demo&id=nobody", nil},
		view{"delivery-refused", "#/deliveries?sink=email-demo&id=no.dots", nil},
		view{"cancel", "#/deliveries?sink=email-demo&id=" + parked.DeliveryID, func() {
			p.click("button", "Cancel delivery…")
			p.says("There is no way back.")
		}},
		view{"force", "#/items/" + code.ID, func() {
			p.click("button", "Send all the same…")
			p.says("Its time is over since")
		}},
	)
}

// view is a view to look at; open opens a dialog in it.
type view struct {
	name, hash string
	open       func()
}

// inspect looks at views, each light and dark, on a desk and on a phone.
func (p *tab) inspect(views ...view) {
	p.t.Helper()
	for _, v := range views {
		p.look(1280, 900, "light")
		p.goTo(v.hash)
		if v.open != nil {
			v.open()
		}
		for _, look := range []struct {
			name          string
			width, height int64
			scheme        string
		}{{"light", 1280, 900, "light"}, {"dark", 1280, 900, "dark"}, {"phone", 375, 812, "light"}, {"phone-dark", 375, 812, "dark"}} {
			p.look(look.width, look.height, look.scheme)
			p.accessible(v.name + ", " + look.name)
			if over := eval[int](p, "document.documentElement.scrollWidth") - int(look.width); over > 0 {
				p.t.Errorf("%s, %s: %d px wider than the screen", v.name, look.name, over)
			}
			p.picture(v.name + "-" + look.name)
		}
	}
}
