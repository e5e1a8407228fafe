//go:build full

package console_test

import (
	"testing"

	"backstop/client"
)

// Every view passes axe-core, light, dark and on a phone, where nothing is wider than the
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
	mail := b.newest(t, client.Filter{Sink: "email-demo", DeliveryID: "welcome-17"})
	op, err := b.api.CreateOperation(t.Context(), "a11y", client.OperationRequest{
		Action: "discard", Reason: "test messages of the load test (INC-41)", Filter: &client.Filter{Sink: "slack-demo", Reason: "ambiguous", Q: "Order 401"},
	})
	if err != nil {
		t.Fatal(err)
	}

	p := newTab(t, b.console)
	p.look(1280, 1245, "light")
	p.settled()
	p.picture("readme") // docs/console.png
	views := []struct {
		name, hash string
		open       func()
	}{
		{"overview", "#/", nil},
		{"items", "#/items", nil},
		{"items-filtered", "#/items?sink=slack-demo&reason=ambiguous&q=order&since=2026-01-01T00%3A00%3A00Z", nil},
		{"item", "#/items/" + mail.ID, nil},
		{"operations", "#/operations", nil},
		{"operation", "#/operations/" + op.ID, nil},
		{"replay", "#/", func() {
			p.click("button", "Replay 520 dead letters: "+errDown+", webhook-down")
			p.says("will be sent again.")
		}},
		{"discard", "#/items/" + mail.ID, func() {
			p.click("button", "Discard…")
			p.says("It is removed for good")
		}},
	}
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
		}{{"light", 1280, 900, "light"}, {"dark", 1280, 900, "dark"}, {"phone", 375, 812, "light"}} {
			p.look(look.width, look.height, look.scheme)
			p.accessible(v.name + ", " + look.name)
			if over := eval[int](p, "document.documentElement.scrollWidth") - int(look.width); over > 0 {
				t.Errorf("%s, %s: %d px wider than the screen", v.name, look.name, over)
			}
			p.picture(v.name + "-" + look.name)
		}
	}
}
