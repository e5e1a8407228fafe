package main

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"backstop/internal/inbox"
	"backstop/internal/local"
)

// The demo's story, with the functions' real binaries; the README shows its last line.
func TestTheDemoAccountsForEveryMessage(t *testing.T) {
	r := run(t, "demo", "--bin", built(t), "--events", "../../events")
	for _, line := range []string{
		`http +webhook-down +answers 503, worth nothing soon +dead_lettered +attempts=2 reason=exhausted`,
		`http +telegram-demo +a chat message +delivered +attempts=1`,
		`http +pagerduty-demo +an alert +delivered +attempts=1`,
		`http +fcm-demo +a push message, with an access token +delivered +attempts=1`,
		`/sendMessage \(Telegram\) +1\n`,
		`/v2/enqueue \(PagerDuty\) +1\n`,
		`/messages:send \(Firebase Cloud Messaging\) +1\n`,
		`http +webhook-demo +respond-async +accepted +delivered +1`,
		`http +webhook-demo +send_after +accepted, then canceled +canceled +0`,
		`before +6\n +wiped +0\n +restored +6\n`,
		`webhook-down +3 +2 +0 +1 +0`, // the schedule
		`webhook-down~\S+ +expired +exhausted +2 +0 `,
		`is asked for force:\n.* its time is over; with force it is sent all the same`,
		`kept +webhook-down~\S+ \(expired\)`,
	} {
		if !regexp.MustCompile(line).MatchString(r.out) {
			t.Errorf("the story lacks %s", line)
		}
	}
	r.want(t, 0, "", "")
	last := r.out[strings.LastIndexByte(strings.TrimSuffix(r.out, "\n"), '\n')+1:]
	const want = "demo: accepted=23 delivered=11 dead_lettered=6 handed_back=5 canceled=1 replayed=2 discarded=3 expired=1 retired=0 remaining=0 accepted_async=2 lost=0\n"
	if last != want {
		t.Errorf("the last line is\n%swant\n%s", last, want)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "\n"+want) {
		t.Errorf("README.md does not show\n%s", want)
	}
}

// The account counts what callers were told, what arrived and what is left, and says where these
// do not fit.
func TestTheAccountSaysWhatDoesNotFit(t *testing.T) {
	arrived := func(id string) inbox.Arrival {
		return inbox.Arrival{Path: local.PathDown, Status: http.StatusOK, Header: http.Header{"Webhook-Id": {id}}}
	}
	refused := arrived("a")
	refused.Status = http.StatusServiceUnavailable
	late := refused
	late.At = time.Unix(9, 0).UTC()
	one := func(status string) []fate { return []fate{{what: "it", sink: "webhook-x", id: "a", status: status}} }
	later := one("accepted")
	later[0].async = true
	dead := [2]string{"webhook-x", "a"}
	left := func(state string) []letter { return []letter{{Sink: "webhook-x", DeliveryID: "a", State: state}} }
	fit := func(counts string) string { return "demo: accepted=1 " + counts }
	for name, tt := range map[string]struct {
		ledger
		left  []letter
		want  string // the account
		wrong string // empty: everything fits
	}{
		"delivered": {
			ledger{fates: one("delivered"), arrivals: []inbox.Arrival{refused, arrived("a")}},
			nil,
			fit("delivered=1 dead_lettered=0 handed_back=0 canceled=0 replayed=0 discarded=0 expired=0 retired=0 remaining=0 accepted_async=0 lost=0"), "",
		},
		"delivered, and nothing arrived": {ledger{fates: one("delivered")}, nil, "", "was delivered, and arrived 0 times"},
		"delivered to Telegram, and nothing arrived": {
			ledger{fates: []fate{{what: "it", sink: "telegram-demo", id: "a", status: "delivered"}}}, nil, "", "0 of telegram-demo arrived, and 1 were delivered",
		},
		"delivered to PagerDuty": {
			ledger{
				fates:    []fate{{what: "it", sink: "pagerduty-demo", id: "a", status: "delivered"}},
				arrivals: []inbox.Arrival{{Path: inbox.PathPagerDuty, Status: http.StatusAccepted}},
			},
			nil, fit("delivered=1 "), "",
		},
		"arrived at FCM, and nothing was delivered": {
			ledger{arrivals: []inbox.Arrival{{Path: inbox.PathFCM, Status: http.StatusOK}}}, nil, "", "1 of fcm-demo arrived, and 0 were delivered",
		},
		"delivered twice":          {ledger{fates: one("delivered"), arrivals: []inbox.Arrival{arrived("a"), arrived("a")}}, nil, "", "arrived 2 times"},
		"handed back":              {ledger{fates: one("handed_back")}, nil, fit("delivered=0 dead_lettered=0 handed_back=1"), ""},
		"handed back, and arrived": {ledger{fates: one("handed_back"), arrivals: []inbox.Arrival{arrived("a")}}, nil, "", "was handed back, and arrived"},
		"canceled":                 {ledger{fates: one("canceled")}, nil, fit("delivered=0 dead_lettered=0 handed_back=0 canceled=1"), ""},
		"expired, and sent all the same": {
			ledger{fates: []fate{{what: "it", sink: "webhook-x", id: "a", status: "dead_lettered", expires: time.Unix(9, 0)}}, arrivals: []inbox.Arrival{late}}, left("expired"), "", "was sent at 00:00:09",
		},
		"canceled, and sent": {ledger{fates: one("canceled"), arrivals: []inbox.Arrival{refused}}, nil, "", "was canceled, and sent"},
		"accepted, and no more": {
			ledger{fates: later},
			nil,
			fit("delivered=0 dead_lettered=0 handed_back=0 canceled=0 replayed=0 discarded=0 expired=0 retired=0 remaining=0 accepted_async=1 lost=1"), `no fate: "accepted"`,
		},
		"replayed": {
			ledger{fates: one("dead_lettered"), arrivals: []inbox.Arrival{arrived("a")}, scheduled: 1},
			nil,
			fit("delivered=0 dead_lettered=1 handed_back=0 canceled=0 replayed=1 discarded=0"), "",
		},
		"replayed, as the schedule does not know": {
			ledger{fates: one("dead_lettered"), arrivals: []inbox.Arrival{arrived("a")}}, nil, "", "the schedule delivered 0, and 1 arrived",
		},
		"replayed, as nobody saw": {ledger{scheduled: 1}, nil, "", "the schedule delivered 1, and 0 arrived"},
		"discarded": {
			ledger{fates: one("dead_lettered"), discarded: [][2]string{dead}}, nil, fit("delivered=0 dead_lettered=1 handed_back=0 canceled=0 replayed=0 discarded=1 expired=0"), "",
		},
		"expired":   {ledger{fates: one("dead_lettered")}, left("expired"), "discarded=0 expired=1 retired=0 remaining=0", ""},
		"remaining": {ledger{fates: one("dead_lettered")}, left("due"), "discarded=0 expired=0 retired=0 remaining=1", ""},
		"retired": {
			ledger{fates: one("dead_lettered"), retired: map[string]int{"webhook-x": 1}}, nil, "expired=0 retired=1 remaining=0 accepted_async=0 lost=0", "",
		},
		"retired, in another sink": {
			ledger{fates: one("dead_lettered"), retired: map[string]int{"webhook-y": 1}}, nil, "retired=0 remaining=0 accepted_async=0 lost=1", "webhook-y has retired 1",
		},
		"gone": {ledger{fates: one("dead_lettered")}, nil, "remaining=0 accepted_async=0 lost=1", "is gone"},
		"replayed and left": {
			ledger{fates: one("dead_lettered"), arrivals: []inbox.Arrival{arrived("a")}, scheduled: 1}, left("due"), "", "more than one fate: [remaining replayed]",
		},
		"expired and discarded": {
			ledger{fates: one("dead_lettered"), discarded: [][2]string{dead}}, left("expired"), "", "more than one fate: [discarded expired]",
		},
		"nobody's dead letter": {ledger{fates: one("delivered"), arrivals: []inbox.Arrival{arrived("a")}}, left("due"), "", "belongs to no message"},
	} {
		a := tt.settle(tt.left)
		if !strings.Contains(a.String(), tt.want) {
			t.Errorf("%s: %s, want %s", name, a, tt.want)
		}
		wrong := strings.Join(tt.ledger.wrong, "; ")
		if (tt.wrong == "") != (wrong == "") || !strings.Contains(wrong, tt.wrong) {
			t.Errorf("%s: wrong is %q, want %q", name, wrong, tt.wrong)
		}
	}
}
