package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"backstop/client"
	"backstop/lib/fault"
)

// reply is one answer of an API that is made of them; without a status, none comes.
type reply struct {
	status     int
	body       string
	retryAfter string
	err        error
	next       string // Backstop-Next-Cursor
	lines      bool
}

// api answers with its replies in turn, the last one again and again.
type api struct {
	replies []reply
	bodies  []string
	queries []string
}

func (a *api) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	n := len(a.bodies)
	a.bodies, a.queries = append(a.bodies, string(body)), append(a.queries, r.URL.RawQuery)
	re := a.replies[min(n, len(a.replies)-1)]
	if re.err != nil {
		return nil, re.err
	}
	w := httptest.NewRecorder()
	switch {
	case strings.Contains(re.body, `"code"`) && re.status >= 400:
		w.Header().Set("Content-Type", "application/problem+json")
	case re.lines:
		w.Header().Set("Content-Type", "application/x-ndjson")
	default:
		w.Header().Set("Content-Type", "application/json")
	}
	if re.retryAfter != "" {
		w.Header().Set("Retry-After", re.retryAfter)
	}
	if re.next != "" {
		w.Header().Set("Backstop-Next-Cursor", re.next)
	}
	w.WriteHeader(re.status)
	var sent struct{ ID string }
	if strings.Contains(re.body, "$id") { // that of the request
		err = json.Unmarshal(body, &sent)
	}
	_, werr := io.WriteString(w, strings.ReplaceAll(re.body, "$id", sent.ID))
	return w.Result(), errors.Join(err, werr)
}

func (a *api) client(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	o.Transport = a
	c, err := client.New("http://h", &o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func problem(status int, code string) reply {
	return reply{status: status, body: fmt.Sprintf(`{"title":"T","status":%d,"code":%q}`, status, code)}
}

var fine = reply{status: 200, body: "{}"}

// What may be repeated is, and nothing else: a second replay or discard would be another one.
func TestReadsSendsAndCancellationsAreRepeatedAndNoOtherWrite(t *testing.T) {
	t.Parallel()
	reads := []string{
		"getDelivery", "listSinks", "listItems", "countItems", "groupItems", "histogram", "getItem", "listOperations", "getOperation", "exportItems", "getDocument",
	}
	gateway := func(status int) reply { return reply{status: status, body: `{"message":"m"}`} }
	type tried struct{ read, send, write int }
	for name, c := range map[string]struct {
		r    reply
		want tried
	}{
		"throttled":               {gateway(429), tried{3, 3, 1}},
		"a bad gateway":           {gateway(502), tried{3, 3, 1}},
		"unavailable":             {problem(503, "SINK_DLQ_UNAVAILABLE"), tried{3, 3, 1}},
		"the gateway's time-out":  {gateway(504), tried{3, 3, 1}},
		"refused connections":     {reply{err: syscall.ECONNREFUSED}, tried{3, 3, 1}},
		"a connection that broke": {reply{err: io.ErrUnexpectedEOF}, tried{3, 3, 1}},
		"a function that died":    {gateway(500), tried{1, 3, 1}},
		"under way":               {problem(409, "DELIVERY_IN_PROGRESS"), tried{1, 3, 1}},
		"a refusal":               {problem(400, "INVALID_ARGUMENT"), tried{1, 1, 1}},
		"a lease":                 {problem(409, "ITEM_LEASED"), tried{1, 3, 1}},
		"delivered already":       {problem(409, "ALREADY_DELIVERED"), tried{1, 1, 1}},
		"not found":               {problem(404, "SINK_DLQ_NOT_FOUND"), tried{1, 1, 1}},
		"not allowed":             {gateway(403), tried{1, 1, 1}},
		"a redirect":              {reply{status: 302}, tried{1, 1, 1}},
		"a false certificate":     {reply{err: &tls.CertificateVerificationError{Err: errors.New("not trusted")}}, tried{1, 1, 1}},
		"no credentials":          {reply{err: &client.CredentialsError{Err: errors.New("expired")}}, tried{1, 1, 1}},
	} {
		for operation, call := range calls {
			want := c.want.write
			switch {
			case operation == "sendMessage", operation == "cancelDelivery":
				want = c.want.send
			case slices.Contains(reads, operation):
				want = c.want.read
			}
			synctest.Test(t, func(t *testing.T) {
				a := &api{replies: []reply{c.r}}
				if err := call(t.Context(), a.client(t, client.Options{})); err == nil {
					t.Errorf("%s, %s: no error", name, operation)
				}
				if len(a.bodies) != want {
					t.Errorf("%s, %s: %d tries, want %d", name, operation, len(a.bodies), want)
				}
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		a := &api{replies: []reply{{err: io.EOF}}}
		if _, err := a.client(t, client.Options{}).DryRun(t.Context(), client.OperationRequest{Action: client.ActionDiscard, All: true}); err == nil || len(a.bodies) != 3 {
			t.Errorf("a dry run: %v after %d tries, want 3", err, len(a.bodies))
		}
		if want := `{"action":"discard","all":true,"dry_run":true}` + "\n"; a.bodies[0] != want {
			t.Errorf("a dry run asks %s, want %s", a.bodies[0], want)
		}
	})
	a := &api{replies: []reply{{status: 200, body: "<html>"}}}
	if _, err := a.client(t, client.Options{}).Sinks(t.Context()); err == nil || client.Repeatable(err) || len(a.bodies) != 1 {
		t.Errorf("another's page: %v after %d tries", err, len(a.bodies))
	}
}

func TestWaitsGrowAndAreBounded(t *testing.T) {
	t.Parallel()
	const s, ms = time.Second, time.Millisecond
	asked := func(after string) reply { return reply{status: 503, body: `{"message":"m"}`, retryAfter: after} }
	broken := reply{err: io.EOF}
	for name, c := range map[string]struct {
		o           client.Options
		replies     []reply
		least, most []time.Duration
	}{
		"defaults": {client.Options{}, []reply{broken}, []time.Duration{100 * ms, 200 * ms}, []time.Duration{200 * ms, 400 * ms}},
		"doubled, then capped": {
			client.Options{Tries: 6, BaseWait: s, MaxWait: 3 * s},
			[]reply{broken},
			[]time.Duration{s / 2, s, 3 * s / 2, 3 * s / 2, 3 * s / 2},
			[]time.Duration{s, 2 * s, 3 * s, 3 * s, 3 * s},
		},
		"as long as the API asks for, and a little more": {client.Options{}, []reply{asked("5"), fine}, []time.Duration{5 * s}, []time.Duration{5*s + 200*ms}},
		"never shorter than the API asks for":            {client.Options{MaxWait: 4 * s}, []reply{asked("5")}, nil, nil},
		"once":                                           {client.Options{Tries: 1}, []reply{broken}, nil, nil},
		"no wait that was asked for":                     {client.Options{}, []reply{asked("-3"), fine}, []time.Duration{100 * ms}, []time.Duration{200 * ms}},
	} {
		for range 20 { // jitter
			synctest.Test(t, func(t *testing.T) {
				a := &api{replies: c.replies}
				var waits []time.Duration
				o := c.o
				o.OnRetry = func(err error, wait time.Duration) {
					if err == nil {
						t.Errorf("%s: nothing failed", name)
					}
					waits = append(waits, wait)
				}
				start := time.Now()
				_, _ = a.client(t, o).Sinks(t.Context())
				sum := time.Duration(0)
				for i, w := range waits {
					sum += w
					if i < len(c.least) && (w < c.least[i] || w > c.most[i]) {
						t.Errorf("%s: wait %d is %s, want %s to %s", name, i+1, w, c.least[i], c.most[i])
					}
				}
				if len(waits) != len(c.least) || time.Since(start) != sum {
					t.Errorf("%s: waits %v in %s, want %d", name, waits, time.Since(start), len(c.least))
				}
			})
		}
	}
}

// A wait that the caller's time does not allow is not begun, and one that the caller ends tells
// what failed before it.
func TestWaitsKeepTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &api{replies: []reply{{status: 503, body: `{"title":"T","code":"SINK_DLQ_UNAVAILABLE"}`, retryAfter: "5"}}}
		c := a.client(t, client.Options{})
		start := time.Now()
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Sinks(short)
		if fault.CodeOf(err) != fault.CodeDLQUnavailable || errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 || len(a.bodies) != 1 {
			t.Errorf("%v after %s and %d tries, want the API's error at once", err, time.Since(start), len(a.bodies))
		}
		stopped, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		_, err = c.Sinks(stopped)
		if !errors.Is(err, context.Canceled) || fault.CodeOf(err) != fault.CodeDLQUnavailable || time.Since(start) != time.Second {
			t.Errorf("%v after %s, want both the caller's end and what failed before", err, time.Since(start))
		}
	})
}

// Every try of a send is the same delivery, and its id is known whatever comes.
func TestSendKeepsItsIDOverItsTries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &api{replies: []reply{{err: io.EOF}, problem(409, "DELIVERY_IN_PROGRESS"), {status: 202, body: `{"status":"dead_lettered","delivery_id":"$id","item_id":"mail~1-0"}`}}}
		answer, err := a.client(t, client.Options{}).Send(t.Context(), client.SendRequest{
			Sink: "mail", Recipient: map[string]string{"address": "a<b@example.org"}, Message: client.SendMessage{Body: "<p>"},
		})
		if err != nil || answer.Status != client.DeliveryDeadLettered || answer.ItemID != "mail~1-0" {
			t.Errorf("got %+v, %v", answer, err)
		}
		if len(a.bodies) != 3 || a.bodies[0] != a.bodies[1] || a.bodies[1] != a.bodies[2] {
			t.Fatalf("bodies %q, want one, three times", a.bodies)
		}
		var sent struct{ ID, Sink string }
		if err := json.Unmarshal([]byte(a.bodies[0]), &sent); err != nil || fault.CheckID(sent.ID) != nil || !strings.Contains(a.bodies[0], `"address":"a<b@example.org"`) {
			t.Errorf("body %s: %v", a.bodies[0], err)
		}

		a = &api{replies: []reply{{err: io.EOF}}}
		answer, err = a.client(t, client.Options{}).Send(t.Context(), client.SendRequest{Sink: "mail"})
		if err == nil || !strings.Contains(a.bodies[0], `"id":"`+answer.DeliveryID+`"`) || answer.DeliveryID == sent.ID {
			t.Errorf("got %+v, %v; want the id of this send with the error", answer, err)
		}
		_, err = a.client(t, client.Options{}).Send(t.Context(), client.SendRequest{ID: "mine", Sink: "mail", Recipient: func() {}})
		if fault.CodeOf(err) != fault.CodeInvalidArgument {
			t.Errorf("a recipient that is no JSON: %v", err)
		}
	})
}

func TestListsGoOnToTheirEnd(t *testing.T) {
	t.Parallel()
	pages := []reply{
		{status: 200, body: `{"items":[{"id":"a~3-0"},{"id":"a~2-0"}],"next_cursor":"c+1","complete":true}`},
		{status: 200, body: `{"items":[],"next_cursor":"c2","complete":false}`}, // a search that stopped by its budget
		{status: 200, body: `{"items":[{"id":"a~1-0"}],"next_cursor":null,"complete":true}`},
	}
	a := &api{replies: pages}
	var ids []string
	for it, err := range a.client(t, client.Options{}).Items(t.Context(), client.Filter{Sink: "a"}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, it.ID)
	}
	if want := []string{"a~3-0", "a~2-0", "a~1-0"}; !slices.Equal(ids, want) {
		t.Errorf("items %v, want %v", ids, want)
	}
	if want := []string{"limit=1000&sink=a", "cursor=c%2B1&limit=1000&sink=a", "cursor=c2&limit=1000&sink=a"}; !slices.Equal(a.queries, want) {
		t.Errorf("asked %q, want %q", a.queries, want)
	}

	a = &api{replies: pages}
	for _, err := range a.client(t, client.Options{}).Items(t.Context(), client.Filter{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if len(a.queries) != 1 {
		t.Errorf("%d pages were read for one item", len(a.queries))
	}

	for name, last := range map[string]reply{"an error": problem(400, "INVALID_ARGUMENT"), "a circle": pages[0]} {
		a = &api{replies: []reply{pages[0], last}}
		var errs []error
		n := 0
		for _, err := range a.client(t, client.Options{}).Items(t.Context(), client.Filter{}) {
			if errs = append(errs, err); err == nil {
				n++
			}
		}
		if n != 2 || len(errs) != 3 || errs[2] == nil {
			t.Errorf("%s on the second page: %d items, errors %v; want 2 items, then the error", name, n, errs)
		}
	}
}

func TestGroupsAndExportsGoOnToTheirEnd(t *testing.T) {
	t.Parallel()
	a := &api{replies: []reply{
		{status: 200, body: `{"groups":[{"id":"g","count":2}],"next_cursor":"c"}`}, {status: 200, body: `{"groups":[{"id":"g","count":3}],"next_cursor":null}`},
	}}
	sum := int64(0)
	for g, err := range a.client(t, client.Options{}).Groups(t.Context(), client.Filter{State: client.StateWaiting, Q: "not for groups"}) {
		if err != nil {
			t.Fatal(err)
		}
		sum += g.Count
	}
	if want := []string{"state=waiting", "cursor=c&state=waiting"}; sum != 5 || !slices.Equal(a.queries, want) {
		t.Errorf("counted %d by %q, want 5 by %q", sum, a.queries, want)
	}

	lines := []string{`{"id":"a~2-0","sink":"a","new":1}`, `{"id":"a~1-0","sink":"a"}`}
	a = &api{replies: []reply{{status: 200, lines: true, next: "c"}, {status: 200, lines: true, body: strings.Join(lines, "\n") + "\n"}}}
	var got bytes.Buffer
	for it, err := range a.client(t, client.Options{}).Export(t.Context(), client.Filter{}) {
		if err != nil || it.Sink != "a" {
			t.Fatalf("%+v, %v", it, err)
		}
		got.Write(append(it.JSON, '\n'))
	}
	if got.String() != strings.Join(lines, "\n")+"\n" || len(a.queries) != 2 {
		t.Errorf("exported %q with %d calls", got.String(), len(a.queries))
	}

	a = &api{replies: []reply{{status: 200, lines: true, body: "{}\n{"}}}
	for it, err := range a.client(t, client.Options{}).Export(t.Context(), client.Filter{}) {
		if err == nil || it.ID != "" {
			t.Errorf("a broken line: %+v, %v", it, err)
		}
	}
}

// An id that is empty or a step in a path would ask, or discard, something else.
func TestAnIDIsNoOtherRoute(t *testing.T) {
	t.Parallel()
	a := &api{replies: []reply{fine}}
	c := a.client(t, client.Options{})
	for _, id := range []string{"", ".", ".."} {
		_, item := c.Item(t.Context(), id)
		_, operation := c.Operation(t.Context(), id)
		_, sink := c.PauseSink(t.Context(), id)
		for what, err := range map[string]error{"item": item, "operation": operation, "sink": sink, "discard": c.Discard(t.Context(), id, nil)} {
			if fault.CodeOf(err) != fault.CodeInvalidArgument {
				t.Errorf("%s %q: %v, want %s", what, id, err, fault.CodeInvalidArgument)
			}
		}
	}
	if len(a.bodies) > 0 {
		t.Errorf("%d requests were sent", len(a.bodies))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []client.Options{{Timeout: -1}, {Tries: -1}, {BaseWait: -1}, {MaxWait: -1}} {
		if _, err := client.New("http://h", &o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
