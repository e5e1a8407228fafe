//go:build full

package console_test

import (
	"testing"
	"time"

	"backstop/client"
)

// A delivery is found by sink and id, its way is told, and it is canceled; what that says when it
// may have arrived, when nothing is known of it, and when a receiver has it already.
func TestADeliveryIsLookedAtAndCanceled(t *testing.T) {
	b := startBackstop(t, false)
	unsure := cause("webhook-gone", "ambiguous", errGone, "unsure", 1)[0]
	b.seed(t, unsure)
	sent, err := b.api.Send(t.Context(), client.SendRequest{ID: "sent-1", Sink: "webhook-demo", Message: client.SendMessage{Body: "x"}})
	if err != nil || sent.Status != client.DeliveryDelivered {
		t.Fatalf("%+v, %v", sent, err)
	}
	p := newTab(t, b.console)
	p.click("header nav a", "Deliveries")
	p.says("Name a sink and a delivery id.")
	p.choose("Sink", "webhook-gone")
	p.typeIn("Delivery id", unsure.DeliveryID)
	p.keys("\r")
	p.says("dead_lettered", "may have arrived", "Dead-lettered", "ambiguous after 5 attempts: "+errGone, "nothing by itself (waiting)")
	p.click("button", "Cancel delivery…")
	p.says("There is no way back.", "Its dead letter is removed.", "It may have arrived already.")
	p.click("button", "Keep it")
	if n := b.counts(t)["ambiguous"]; n != 1 {
		t.Errorf("%d dead letters, want the one that is kept", n)
	}
	p.click("button", "Cancel delivery…")
	p.click("dialog button", "Cancel delivery")
	p.says("Canceled.", "It may have arrived all the same")
	p.click("dialog button", "Close")
	p.says("it was dead_lettered")
	if n := b.counts(t)["ambiguous"]; n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}

	p.goTo("#/deliveries?sink=webhook-demo&id=sent-1")
	p.says("Sending began", "after 1 attempt")
	if eval[bool](p, `[...document.querySelectorAll("main button")].some((e) => e.innerText.startsWith("Cancel"))`) {
		t.Error("what was delivered is offered to be canceled")
	}

	p.goTo("#/deliveries?sink=webhook-demo&id=never-1")
	p.says("Nothing is known of this delivery.")
	p.click("button", "Cancel it all the same…")
	p.says("Is never-1 the right id?")
	p.click("dialog button", "Cancel delivery")
	p.says("If it is on its way, it will not be sent.")

	// A receiver may have it by the time that somebody says yes.
	p.goTo("#/deliveries?sink=webhook-demo&id=quick-1")
	p.click("button", "Cancel it all the same…")
	if _, err := b.api.Send(t.Context(), client.SendRequest{ID: "quick-1", Sink: "webhook-demo", Message: client.SendMessage{Body: "x"}}); err != nil {
		t.Fatal(err)
	}
	p.click("dialog button", "Cancel delivery")
	p.says("ALREADY_DELIVERED", "It cannot be taken back: a receiver has answered that it has it.")
}

// What expired says since when, is counted, and is sent by force alone.
func TestWhatExpiredIsSentByForceAlone(t *testing.T) {
	b := startBackstop(t, false)
	late := cause("webhook-demo", "exhausted", errDown, "code", 1)[0]
	late.At = time.Now().Add(-time.Hour)
	late.ExpiresAt = late.At.Add(5 * time.Minute)
	b.seed(t, late)
	p := newTab(t, b.console)
	p.goTo("#/items?state=expired")
	p.says("1 dead letter, newest first.", "expired")
	p.click("tbody a", late.Message.Subject)
	p.says("Its time is over", "a replay needs force")
	p.click("button", "Send all the same…")
	p.says("Its time is over since", "by force")
	p.click("dialog button", "Send all the same")
	p.says("Delivered through webhook-demo.")
	if n := b.accepted()[late.DeliveryID]; n != 1 {
		t.Errorf("it arrived %d times, want once", n)
	}
}
