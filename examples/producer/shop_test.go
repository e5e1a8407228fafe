package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"backstop/client"

	"example.org/team/producer/notify"
)

// backstop is a Sender that keeps what it is given, and hands some of it back.
type backstop struct {
	sent [][]client.SendRequest
	back map[string]notify.HandedBack // by message id
}

func (b *backstop) Send(_ context.Context, messages ...client.SendRequest) (back []notify.HandedBack) {
	b.sent = append(b.sent, messages)
	for _, m := range messages {
		if h, ok := b.back[m.ID]; ok {
			h.Message = m
			back = append(back, h)
		}
	}
	return back
}

const shippedOrders = `[{"id":"7","email":"a@example.org"},{"id":"8","email":"b@example.org"}]`

func post(b *backstop, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s := &shop{backstop: b, log: slog.New(slog.DiscardHandler)}
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

func TestTheCallersAnswerSaysWhoOwnsTheMessages(t *testing.T) {
	away := notify.HandedBack{Again: true, After: 1500 * time.Millisecond, Err: errors.New("away")}
	never := notify.HandedBack{Err: errors.New("no such address")}
	for _, c := range []struct {
		name, path, body string
		back             map[string]notify.HandedBack
		status           int
		after, want      string
	}{
		{"all are safe", "/shipped", shippedOrders, nil, 204, "", ""},
		{"one may pass later", "/shipped", shippedOrders, map[string]notify.HandedBack{"order-8-shipped": away}, 503, "2", `{"handed_back":["order-8-shipped"]}`},
		{"one will not pass", "/shipped", shippedOrders, map[string]notify.HandedBack{"order-7-shipped": never}, 422, "", `{"handed_back":["order-7-shipped"]}`},
		{"one of each", "/shipped", shippedOrders, map[string]notify.HandedBack{"order-7-shipped": away, "order-8-shipped": never}, 503, "2", `{"handed_back":["order-7-shipped","order-8-shipped"]}`},
		{"no list", "/shipped", `{}`, nil, 400, "", "want a list of orders"},
		{"another path", "/", shippedOrders, nil, 404, "", "want POST /shipped"},
	} {
		w := post(&backstop{back: c.back}, c.path, c.body)
		if w.Code != c.status || w.Header().Get("Retry-After") != c.after || !strings.HasPrefix(w.Body.String(), c.want) {
			t.Errorf("%s: %d, Retry-After %q, %s; want %d, %q, %s", c.name, w.Code, w.Header().Get("Retry-After"), w.Body, c.status, c.after, c.want)
		}
	}
}

func TestACallThatIsRepeatedMakesTheSameMessages(t *testing.T) {
	b := &backstop{}
	post(b, "/shipped", shippedOrders)
	post(b, "/shipped", shippedOrders)
	if len(b.sent) != 2 || len(b.sent[0]) != 2 || !reflect.DeepEqual(b.sent[0], b.sent[1]) {
		t.Errorf("sent %v", b.sent)
	}
	if got := b.sent[0][1].ID; got != "order-8-shipped" {
		t.Errorf("id %s", got)
	}
}

func TestOneWayToBackstopIsChosen(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	for _, c := range []struct {
		api, queue string
		want       any // nil: an error
	}{
		{"https://abc123.execute-api.eu-central-1.amazonaws.com", "", &notify.API{}},
		{"", "https://sqs.eu-central-1.amazonaws.com/123456789012/backstop-messages", &notify.Queue{}},
		{"", "", nil},
		{"http://127.0.0.1:3000", "https://sqs.eu-central-1.amazonaws.com/123456789012/backstop-messages", nil},
		{"127.0.0.1:3000", "", nil},
	} {
		s, err := sender(t.Context(), slog.New(slog.DiscardHandler), c.api, c.queue)
		if reflect.TypeOf(s) != reflect.TypeOf(c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%+v: got %T, %v", c, s, err)
		}
	}
}
