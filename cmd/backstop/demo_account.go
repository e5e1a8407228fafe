package main

import (
	"fmt"
	"strings"
	"time"

	"backstop/internal/inbox"
	"backstop/internal/local"
)

// fate is what became of one message, by what its caller was told.
type fate struct {
	via, what, sink, id string
	status              string // delivered, dead_lettered, handed_back, accepted, canceled
	detail              string
	want                string
	async               bool      // answered before it was sent
	expires             time.Time // zero: never
}

// webhook reports whether its receiver tells messages by their ids.
func (f fate) webhook() bool { return strings.HasPrefix(f.sink, "webhook") }

// letter is a dead letter as the API lists it.
type letter struct {
	ID         string `json:"id"`
	DeliveryID string `json:"delivery_id"`
	Sink       string `json:"sink"`
	State      string `json:"state"`
	Reason     string `json:"reason"`
	Attempts   int    `json:"attempts"`
	LastError  string `json:"last_error"`
	Replays    int    `json:"replays"`
}

func (l letter) delivery() [2]string { return [2]string{l.Sink, l.DeliveryID} }

// ledger is what the demo was told and what receivers saw.
type ledger struct {
	fates     []fate
	discarded [][2]string    // sinks and delivery ids
	scheduled int            // what the schedule says that it delivered
	retired   map[string]int // by sink, removed for their age: so many, by what the API says
	arrivals  []inbox.Arrival
	mails     int
	wrong     []string
}

// check notes what is not as it must be.
func (l *ledger) check(ok bool, format string, args ...any) {
	if !ok {
		l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	}
}

// account counts messages: each has one fate, and each dead letter one of its own.
type account struct {
	accepted, delivered, deadLettered, handedBack, canceled int
	replayed, discarded, expired, retired, remaining        int
	acceptedAsync                                           int // of all that were accepted
	lost                                                    int // without a fate
}

// String is the demo's last line.
func (a account) String() string {
	return fmt.Sprintf("demo: accepted=%d delivered=%d dead_lettered=%d handed_back=%d canceled=%d replayed=%d discarded=%d expired=%d retired=%d remaining=%d accepted_async=%d lost=%d",
		a.accepted, a.delivered, a.deadLettered, a.handedBack, a.canceled, a.replayed, a.discarded, a.expired, a.retired, a.remaining, a.acceptedAsync, a.lost)
}

// settle holds what callers were told against what arrived, and against the dead letters that
// are left.
func (l *ledger) settle(left []letter) account {
	var a account
	took, asked := map[string]int{}, map[string]int{} // requests by webhook-id: those answered with 200; all
	at := map[string]int{}                            // answered with success, by path
	for _, q := range l.arrivals {
		asked[q.ID()]++
		if q.Accepted() {
			took[q.ID()]++
			at[q.Path]++
		}
	}
	fates := map[[2]string][]string{} // of dead letters
	for _, d := range l.discarded {
		fates[d] = append(fates[d], "discarded")
	}
	for _, it := range left {
		state := "remaining"
		if it.State == "expired" {
			state = it.State
		}
		fates[it.delivery()] = append(fates[it.delivery()], state)
	}
	told := map[string]int{} // delivered, by sink
	for _, f := range l.fates {
		a.accepted++
		if f.async {
			a.acceptedAsync++
		}
		for _, q := range l.arrivals {
			l.check(f.expires.IsZero() || q.ID() != f.id || q.At.Before(f.expires), "%s to %s was sent at %s, when it had expired", f.what, f.sink, q.At.Format(time.TimeOnly))
		}
		switch f.status {
		case "delivered":
			a.delivered++
			told[f.sink]++
			l.check(!f.webhook() || took[f.id] == 1, "%s to %s was delivered, and arrived %d times", f.what, f.sink, took[f.id])
		case "handed_back":
			a.handedBack++
			l.check(took[f.id] == 0, "%s to %s was handed back, and arrived", f.what, f.sink)
		case "canceled":
			a.canceled++
			l.check(asked[f.id] == 0, "%s to %s was canceled, and sent", f.what, f.sink)
		case "dead_lettered":
			a.deadLettered++
			key := [2]string{f.sink, f.id}
			all := fates[key]
			delete(fates, key)
			if f.webhook() && took[f.id] > 0 {
				all = append(all, "replayed")
				l.check(took[f.id] == 1, "%s to %s was replayed, and arrived %d times", f.what, f.sink, took[f.id])
			}
			a.bury(l, f, all)
		default:
			a.lost++
			l.check(false, "%s to %s has no fate: %q", f.what, f.sink, f.status)
		}
	}
	for key, all := range fates {
		l.check(false, "dead letter %s to %s (%v) belongs to no message", key[1], key[0], all)
	}
	for sink, n := range l.retired {
		l.check(n == 0, "%s has retired %d dead letters more than it had", sink, n)
	}
	l.check(l.scheduled == a.replayed, "the schedule delivered %d, and %d arrived", l.scheduled, a.replayed)
	for sink, path := range map[string]string{
		"slack-demo": local.PathSlack, "telegram-demo": inbox.PathTelegram, "pagerduty-demo": inbox.PathPagerDuty, "fcm-demo": inbox.PathFCM,
	} {
		l.check(at[path] == told[sink], "%d of %s arrived, and %d were delivered", at[path], sink, told[sink])
	}
	l.check(l.mails == told["email-demo"], "%d mails arrived, and %d were delivered", l.mails, told["email-demo"])
	return a
}

// bury counts what became of a dead letter.
func (a *account) bury(l *ledger, f fate, all []string) {
	if len(all) == 0 && l.retired[f.sink] > 0 {
		l.retired[f.sink]--
		a.retired++
		return
	}
	if len(all) == 0 {
		a.lost++
		l.check(false, "the dead letter of %s to %s is gone", f.what, f.sink)
		return
	}
	l.check(len(all) == 1, "the dead letter of %s to %s has more than one fate: %v", f.what, f.sink, all)
	switch all[0] {
	case "replayed":
		a.replayed++
	case "discarded":
		a.discarded++
	case "expired":
		a.expired++
	default:
		a.remaining++
	}
}
