package handler

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

const deliveryD1 = "/v1/deliveries?sink=hook&id=d1"

var keyD1 = delivery.Key{Sink: "hook", ID: "d1"}

// canceledAnswer is an answer to a cancellation.
type canceledAnswer struct {
	Status, DeliveryID string
	Known              bool
	Attempts           int
	MayHaveArrived     bool `json:"may_have_arrived"`
}

// begin makes somebody have the delivery d1.
func (f *fixture) begin(t *testing.T, b delivery.Begin) {
	t.Helper()
	b.Key, b.Fingerprint, b.Token, b.Lease = keyD1, delivery.FingerprintOf(item(1)), "another", time.Minute
	if _, _, err := f.app.Records.Begin(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// finish ends what begin began.
func (f *fixture) finish(t *testing.T, s delivery.Status) {
	t.Helper()
	rec := delivery.Record{Sink: "hook", ID: "d1", Status: s, UpdatedAt: time.Now(), Fingerprint: delivery.FingerprintOf(item(1)), Attempts: 1}
	if _, _, err := f.app.Records.Finish(t.Context(), keyD1, "another", rec); err != nil {
		t.Fatal(err)
	}
}

// What is canceled and what is not, over both queues: each with what an operator sees then, the
// log's lines and the metric.
func TestADeliveryIsCanceledOrNot(t *testing.T) {
	for backend, start := range backends {
		for name, c := range map[string]struct {
			prepare func(*testing.T, *fixture)
			status  int
			code    string
			want    canceledAnswer
			then    delivery.Status // of GET; empty: nothing is known
		}{
			"nothing is known of it": {
				prepare: func(*testing.T, *fixture) {}, status: 200, want: canceledAnswer{Status: "canceled"}, then: delivery.StatusCanceled,
			},
			"it waits for later": {
				prepare: func(t *testing.T, f *fixture) {
					t.Helper()
					f.begin(t, delivery.Begin{Accept: true, AcceptedAt: time.Now(), NotBefore: time.Now().Add(time.Minute)})
					f.finish(t, delivery.StatusAccepted)
				},
				status: 200, want: canceledAnswer{Status: "canceled", Known: true, Attempts: 1}, then: delivery.StatusCanceled,
			},
			"it is a dead letter that may have arrived": {
				prepare: func(t *testing.T, f *fixture) {
					t.Helper()
					it := item(1)
					it.Reason, it.Unanswered = dlq.ReasonAmbiguous, 1
					f.add(t, it)
				},
				status: 200, want: canceledAnswer{Status: "canceled", Known: true, Attempts: 1, MayHaveArrived: true}, then: delivery.StatusCanceled,
			},
			"a receiver has it": {
				prepare: func(t *testing.T, f *fixture) {
					t.Helper()
					f.begin(t, delivery.Begin{})
					f.finish(t, delivery.StatusDelivered)
				},
				status: 409, code: "ALREADY_DELIVERED", then: delivery.StatusDelivered,
			},
			"somebody sends it": {
				prepare: func(t *testing.T, f *fixture) { t.Helper(); f.begin(t, delivery.Begin{}) },
				status:  409, code: "DELIVERY_IN_PROGRESS", then: delivery.StatusInProgress,
			},
			"a replay sends it": {
				prepare: func(t *testing.T, f *fixture) {
					t.Helper()
					it := f.add(t, item(1))
					if _, err := f.app.Queue.Claim(t.Context(), dlq.Claim{Sink: "hook", IDs: []string{it.ID}, TTL: time.Minute}); err != nil {
						t.Fatal(err)
					}
				},
				status: 409, code: "ITEM_LEASED", then: delivery.StatusDeadLettered,
			},
		} {
			t.Run(backend+", "+name, func(t *testing.T) {
				f := start(t)
				var log, metrics bytes.Buffer
				f.app.Log, f.app.Out = slog.New(slog.NewTextHandler(&log, nil)), &metrics
				c.prepare(t, f)
				for _, repetition := range []bool{false, true} {
					r := f.ask(t, http.MethodDelete, deliveryD1, "").want(c.status, c.code)
					var got canceledAnswer
					if c.status == 200 {
						r.into(&got)
					}
					if got != c.want {
						t.Errorf("repeated %v: %+v, want %+v", repetition, got, c.want)
					}
					if after := r.Header().Get("Retry-After"); (after != "") != (c.code == "ITEM_LEASED" || c.code == "DELIVERY_IN_PROGRESS") {
						t.Errorf("Retry-After %q", after)
					}
				}
				var way delivery.Way
				f.ask(t, http.MethodGet, deliveryD1, "").want(200, "").into(&way)
				if way.Status != c.then {
					t.Errorf("status %s then, want %s", way.Status, c.then)
				}
				lines, counted := strings.Count(log.String(), "msg=canceled delivery_id=d1 sink=hook"), strings.Count(metrics.String(), `"Canceled":1`)
				wantLines, wantCounted := 0, 0
				if c.status == 200 {
					wantLines, wantCounted = 2, 1 // both calls, and the first alone
				}
				if lines != wantLines || counted != wantCounted {
					t.Errorf("%d lines and %d counts, want %d and %d:\n%s%s", lines, counted, wantLines, wantCounted, &log, &metrics)
				}
				if page, err := f.app.Queue.Page(t.Context(), dlq.Query{Sink: "hook"}); err != nil || (len(page.Items) == 1) != (c.code == "ITEM_LEASED") {
					t.Errorf("%d dead letters, %v", len(page.Items), err)
				}
			})
		}
	}
}

func TestACancellationOfNothingIsRefusedByName(t *testing.T) {
	f := newFixture(t)
	for target, want := range map[string]struct {
		status      int
		code, names string
	}{
		"":                        {400, "INVALID_ARGUMENT", "sink is missing"},
		"?id=d1":                  {400, "INVALID_ARGUMENT", "sink is missing"},
		"?sink=hook":              {400, "INVALID_ARGUMENT", "id is missing"},
		"?sink=hook&id=":          {400, "INVALID_ARGUMENT", "id is missing"},
		"?sink=Hook&id=d1":        {400, "INVALID_ARGUMENT", "sink"},
		"?sink=hook&id=a%20b":     {400, "INVALID_ARGUMENT", "id"},
		"?sink=hook&id=d1&id=d2":  {400, "INVALID_ARGUMENT", "id: given 2 times"},
		"?sink=hook&id=d1&all=1":  {400, "INVALID_ARGUMENT", "all"},
		"?sink=nobody&id=d1":      {404, "SINK_NOT_FOUND", "nobody"},
		"?sink=hook&id=d1&sink=x": {400, "INVALID_ARGUMENT", "sink: given 2 times"},
	} {
		for _, method := range []string{http.MethodDelete, http.MethodGet} {
			if method == http.MethodGet && want.status == 404 {
				want.code, want.names = "SINK_DLQ_NOT_FOUND", "nothing is known"
			}
			if r := f.ask(t, method, "/v1/deliveries"+target, "").want(want.status, want.code); !strings.Contains(r.Body.String(), want.names) {
				t.Errorf("%s %s: %s, want it to name %q", method, target, r.Body, want.names)
			}
		}
	}
}

// A sink that is not configured any more has dead letters still, which can be canceled.
func TestADeadLetterOfASinkThatIsGoneCanBeCanceled(t *testing.T) {
	f := newFixture(t)
	it := item(1)
	it.Sink = "gone"
	f.add(t, it)
	f.ask(t, http.MethodDelete, "/v1/deliveries?sink=gone&id=d1", "").want(200, "")
}

// unreachable are dead letters that cannot be leased.
type unreachable struct{ delivery.CancelStore }

func (unreachable) ClaimDelivery(context.Context, dlq.DeliveryClaim) ([]dlq.Leased, error) {
	return nil, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "claim delivery", Cause: errors.New("refused")}
}

func TestACancellationThatCannotBeMadeSaysSo(t *testing.T) {
	f := newFixture(t)
	it := f.add(t, item(1))
	f.app.Canceler.Letters = unreachable{f.app.Queue}
	r := f.ask(t, http.MethodDelete, deliveryD1, "").want(503, "SINK_DLQ_UNAVAILABLE")
	if r.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	var way delivery.Way
	f.ask(t, http.MethodGet, deliveryD1, "").want(200, "").into(&way)
	if way.Status != delivery.StatusDeadLettered || way.ItemID != it.ID {
		t.Errorf("%+v, want it to be dead-lettered as before", way)
	}
}

// The whole way of a delivery that was accepted, failed, was replayed twice and given up.
func TestTheAPITellsTheWholeWay(t *testing.T) {
	for backend, start := range backends {
		t.Run(backend, func(t *testing.T) {
			f := start(t)
			f.status.Store(http.StatusServiceUnavailable)
			accepted, end := time.Now().UTC().Truncate(time.Second), time.Now().Add(time.Hour)
			it := item(1)
			a, err := f.app.Sender.Deliver(t.Context(), delivery.Request{
				ID: "d1", Sink: "hook", Message: it.Message, Queued: true, AcceptedAt: accepted, ExpiresAt: end,
			})
			if err != nil || a.Status != delivery.StatusDeadLettered {
				t.Fatalf("%+v, %v", a, err)
			}
			url := "/v1/dlq/items/" + a.ItemID
			f.ask(t, http.MethodPost, url+"/replay", "").want(200, "")
			var way delivery.Way
			f.ask(t, http.MethodGet, deliveryD1, "").want(200, "").into(&way)
			if way.Attempts != 2 || !way.AcceptedAt.Equal(accepted) || way.ExpiresAt.Unix() != end.Unix() || way.Next == nil || way.Next.Event != delivery.NextReplay || way.Next.At.IsZero() {
				t.Errorf("%+v, next %+v", way, way.Next)
			}
			f.ask(t, http.MethodDelete, url, "").want(204, "")
			f.ask(t, http.MethodGet, deliveryD1, "").want(200, "").into(&way)
			var events []string
			for i, s := range way.Timeline {
				events = append(events, string(s.Event))
				if i > 0 && s.At.Before(way.Timeline[i-1].At) {
					t.Errorf("%s at %s comes after %s", s.Event, s.At, way.Timeline[i-1].At)
				}
			}
			if got, want := strings.Join(events, " "), "accepted began dead_lettered discarded"; got != want {
				t.Errorf("timeline %s, want %s", got, want)
			}
		})
	}
}
