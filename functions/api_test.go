package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"backstop/docs/docstest"
	"backstop/internal/inbox"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

var document = sync.OnceValues(func() (*docstest.Document, error) { return docstest.Load(context.Background()) })

// client asks the API at url and holds every answer against the document.
type client struct {
	t   *testing.T
	url string
	// asked are the routes that were answered with success.
	asked map[string]bool
}

func newClient(t *testing.T, url string) *client {
	t.Helper()
	return &client{t: t, url: url, asked: map[string]bool{}}
}

func (c *client) ask(method, target, body string, headers ...string) answer {
	c.t.Helper()
	a, err := c.try(method, target, body, headers...)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// try is ask for other goroutines than the test's own.
func (c *client) try(method, target, body string, headers ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.url+target, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(b)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") && !strings.Contains(resp.Header.Get("Content-Type"), "ndjson") && len(b) > 0 {
		if err := json.Unmarshal(b, &a.body); err != nil {
			return a, fmt.Errorf("%s %s: %w: %.300s", method, target, err, b)
		}
	}
	doc, err := document()
	if err != nil {
		return a, err
	}
	if err := doc.Answer(ctx, method, target, resp.StatusCode, resp.Header, b); err != nil {
		return a, fmt.Errorf("%s %s: the answer is not as documented: %w\n%d %.1000s", method, target, err, resp.StatusCode, b)
	}
	return a, nil
}

// want asks and checks the status, and the code where it is a problem.
func (c *client) want(status int, code, method, target, body string, headers ...string) answer {
	c.t.Helper()
	a := c.ask(method, target, body, headers...)
	if a.status != status || a.text("code") != code {
		c.t.Fatalf("%s %s: got %d %.500s, want %d %s", method, target, a.status, a.raw, status, code)
	}
	if status < 300 {
		c.asked[method+" "+strings.SplitN(target, "?", 2)[0]] = true
	}
	return a
}

// Every route through the real binaries: each answers, with success and with its
// failures, as the document says.
func TestEveryRouteAnswersAsDocumented(t *testing.T) {
	s := start(t, onRedis(t))
	c := newClient(t, s.APIURL)

	c.want(200, "", "POST", "/v1/messages", `{"id":"ok","sink":"webhook-demo","message":{"body":"x"}}`)
	c.want(200, "", "POST", "/v1/messages", `{"id":"ok","sink":"webhook-demo","message":{"body":"x"}}`)
	c.want(422, "ID_REUSED", "POST", "/v1/messages", `{"id":"ok","sink":"webhook-demo","message":{"body":"y"}}`)
	c.want(404, "SINK_NOT_FOUND", "POST", "/v1/messages", `{"sink":"nobody","message":{"body":"x"}}`)
	c.want(400, "INVALID_ARGUMENT", "POST", "/v1/messages", `{`)
	c.want(413, "BODY_TOO_LARGE", "POST", "/v1/messages", `{"sink":"webhook-demo","message":{"body":"`+strings.Repeat("x", 300_000)+`"}}`)
	var ids []string
	for n := range 6 {
		ids = append(ids, c.want(202, "", "POST", "/v1/messages", fmt.Sprintf(`{"id":"m%d","sink":"webhook-gone","message":{"subject":"<b>","body":"x"}}`, n)).text("item_id"))
	}
	slack := c.want(200, "", "POST", "/v1/messages", `{"id":"s","sink":"slack-demo","message":{"body":"x"}}`)
	if slack.text("status") != "delivered" {
		t.Errorf("slack: %s", slack.raw)
	}

	c.want(200, "", "GET", "/v1/sinks", "")
	c.want(200, "", "HEAD", "/v1/sinks", "")
	c.want(200, "", "POST", "/v1/sinks/webhook-gone/pause", "")
	c.want(202, "", "POST", "/v1/messages", `{"id":"paused","sink":"webhook-gone","message":{"body":"x"}}`)
	if a := c.want(200, "", "POST", "/v1/sinks/webhook-gone/resume", ""); a.body["paused"] != false {
		t.Errorf("resumed: %s", a.raw)
	}
	c.want(404, "SINK_NOT_FOUND", "POST", "/v1/sinks/nobody/pause", "")
	if a := c.want(200, "", "GET", "/v1/deliveries?sink=webhook-gone&id=m0", ""); a.text("item_id") != ids[0] {
		t.Errorf("delivery: %s, want the item %s", a.raw, ids[0])
	}
	c.want(404, "SINK_DLQ_NOT_FOUND", "GET", "/v1/deliveries?sink=webhook-gone&id=never", "")

	c.want(202, "", "POST", "/v1/messages", `{"id":"later","sink":"webhook-demo","message":{"body":"x"},"send_after":"5m","group":"g"}`)
	if a := c.want(200, "", "GET", "/v1/deliveries?sink=webhook-demo&id=later", ""); a.text("status") != "accepted" || a.text("not_before") == "" {
		t.Errorf("put off: %s", a.raw)
	}
	for range 2 {
		if a := c.want(200, "", "DELETE", "/v1/deliveries?sink=webhook-demo&id=later", ""); a.text("status") != "canceled" || a.body["known"] != true {
			t.Errorf("canceled: %s", a.raw)
		}
	}
	if a := c.want(200, "", "POST", "/v1/messages", `{"id":"later","sink":"webhook-demo","message":{"body":"other"}}`); a.text("status") != "canceled" {
		t.Errorf("what comes under a canceled id: %s", a.raw)
	}
	if a := c.want(200, "", "DELETE", "/v1/deliveries?sink=webhook-demo&id=unknown", ""); a.body["known"] != false {
		t.Errorf("an unknown id: %s", a.raw)
	}
	c.want(200, "", "POST", "/v1/messages", `{"id":"arrived","sink":"webhook-demo","message":{"body":"x"}}`)
	c.want(409, "ALREADY_DELIVERED", "DELETE", "/v1/deliveries?sink=webhook-demo&id=arrived", "")
	c.want(404, "SINK_NOT_FOUND", "DELETE", "/v1/deliveries?sink=nobody&id=later", "")
	c.want(400, "INVALID_ARGUMENT", "DELETE", "/v1/deliveries?sink=webhook-demo", "")
	c.want(400, "INVALID_ARGUMENT", "DELETE", "/v1/deliveries?id=later", "")

	page := c.want(200, "", "GET", "/v1/dlq/items?limit=2", "")
	c.want(200, "", "GET", "/v1/dlq/items?limit=2&cursor="+page.text("next_cursor"), "")
	c.want(200, "", "GET", "/v1/dlq/items?sink=webhook-gone&reason=terminal&q=x&delivery_id=m1&since=2026-01-01T00:00:00Z", "")
	c.want(200, "", "GET", "/v1/dlq/count", "")
	var known struct{ Groups []struct{ ID string } }
	decode(t, c.want(200, "", "GET", "/v1/dlq/groups", ""), &known)
	group := known.Groups[0].ID
	c.want(200, "", "GET", "/v1/dlq/groups?state=waiting", "")
	c.want(200, "", "GET", "/v1/dlq/items?group="+group, "")
	c.want(404, "SINK_DLQ_NOT_FOUND", "GET", "/v1/dlq/items?group=000000000000", "")
	c.want(400, "INVALID_ARGUMENT", "GET", "/v1/dlq/items?reason=terminal&group="+group, "")
	if a := c.want(200, "", "POST", "/v1/dlq/groups/"+group+"/note", `{"note":"they move","acknowledged":true}`); !strings.Contains(a.raw, `"they move"`) {
		t.Errorf("noted: %s", a.raw)
	}
	c.want(404, "SINK_DLQ_NOT_FOUND", "POST", "/v1/dlq/groups/000000000000/note", `{"note":"x"}`)
	c.want(400, "INVALID_ARGUMENT", "POST", "/v1/dlq/groups/"+group+"/note", `{"text":"x"}`)
	c.want(413, "BODY_TOO_LARGE", "POST", "/v1/dlq/groups/"+group+"/note", `{"note":"`+strings.Repeat("x", 1<<20+1)+`"}`)
	c.want(200, "", "POST", "/v1/dlq/operations", `{"action":"replay","dry_run":true,"filter":{"group":"`+group+`"}}`)
	for _, query := range []string{"", "?by=group&interval=1h", "?by=reason&sink=webhook-gone", "?group=" + group} {
		if a := c.want(200, "", "GET", "/v1/dlq/histogram"+query, ""); a.body["arrived_total"] == 0.0 || a.text("first_seen") == "" {
			t.Errorf("histogram%s: %s", query, a.raw)
		}
	}
	c.want(400, "INVALID_ARGUMENT", "GET", "/v1/dlq/histogram?interval=7m", "")
	c.want(404, "SINK_DLQ_NOT_FOUND", "GET", "/v1/dlq/histogram?group=000000000000", "")

	item := "/v1/dlq/items/" + ids[0]
	tag := c.want(200, "", "GET", item, "").header.Get("ETag")
	c.want(304, "", "GET", item, "", "If-None-Match", tag)
	c.want(200, "", "GET", strings.Replace(item, "~", "%7E", 1), "")
	if a := c.want(200, "", "POST", item+"/replay", "", "If-Match", tag); a.text("status") != "failed" {
		t.Errorf("replay of what still fails: %s", a.raw)
	}
	c.want(412, "PRECONDITION_FAILED", "DELETE", item, "", "If-Match", tag)
	through := c.want(200, "", "POST", item+"/replay", `{"sink":"slack-demo","on_success":"keep"}`)
	heir := "/v1/dlq/items/" + through.text("superseded_by")
	if through.text("status") != "delivered" || through.text("sink") != "slack-demo" || through.text("superseded_by") == "" {
		t.Errorf("replay to another sink: %s", through.raw)
	}
	if a := c.want(200, "", "GET", item, ""); a.text("superseded_by") != through.text("superseded_by") || a.text("state") != "waiting" || strings.Count(a.raw, `"at":`) != 2 {
		t.Errorf("the item has not its history, or does not wait: %s", a.raw)
	}
	if a := c.want(200, "", "GET", heir, ""); a.text("delivered_at") == "" || a.text("origin") != ids[0] {
		t.Errorf("what was sent in its place: %s", a.raw)
	}
	c.want(400, "INVALID_ARGUMENT", "POST", item+"/replay", "") // superseded
	c.want(409, "ALREADY_DELIVERED", "POST", heir+"/replay", "")
	c.want(204, "", "DELETE", heir, "")
	if a := c.want(200, "", "POST", "/v1/dlq/items/"+ids[1]+"/unpark", ""); a.text("next_replay_at") == "" {
		t.Errorf("unparked: %s", a.raw)
	}
	c.want(204, "", "DELETE", item, "")
	c.want(204, "", "DELETE", item, "")
	c.want(404, "SINK_DLQ_NOT_FOUND", "GET", item, "")
	c.want(404, "SINK_DLQ_NOT_FOUND", "POST", item+"/unpark", "")
	c.want(404, "SINK_DLQ_NOT_FOUND", "POST", item+"/replay", "")

	lines := c.want(200, "", "GET", "/v1/dlq/export?sink=webhook-gone", "")
	if n := strings.Count(lines.raw, "\n"); n != 6 {
		t.Errorf("exported %d lines, want 6: %s", n, lines.raw)
	}
	c.want(204, "", "DELETE", "/v1/dlq/items/"+ids[2], "")
	if a := c.want(200, "", "POST", "/v1/dlq/import", lines.raw, "Content-Type", "application/x-ndjson"); a.number("stored") != 1 || a.number("exists") != 5 {
		t.Errorf("imported: %s, want the discarded one stored, and the others as they are", a.raw)
	}

	dry := c.want(200, "", "POST", "/v1/dlq/operations", `{"action":"discard","all":true,"dry_run":true}`)
	if dry.number("count") != 6 {
		t.Errorf("dry run: %s, want 6", dry.raw)
	}
	op := c.want(202, "", "POST", "/v1/dlq/operations", `{"action":"discard","ids":["`+ids[3]+`"],"reason":"test"}`, "Idempotency-Key", "k")
	if op.header.Get("Location") != "operations/"+op.text("id") {
		t.Errorf("Location %q of %s", op.header.Get("Location"), op.raw)
	}
	c.want(422, "ID_REUSED", "POST", "/v1/dlq/operations", `{"action":"discard","all":true}`, "Idempotency-Key", "k")
	c.want(400, "INVALID_ARGUMENT", "POST", "/v1/dlq/operations", `{"action":"discard"}`)
	c.want(400, "INVALID_ARGUMENT", "POST", "/v1/dlq/operations", `{"action":"restore"}`) // there is no journal
	c.want(200, "", "GET", "/v1/dlq/operations/"+op.text("id"), "")
	c.want(200, "", "GET", "/v1/dlq/operations", "")
	c.want(200, "", "POST", "/v1/dlq/operations/"+op.text("id")+"/cancel", "")
	c.want(404, "SINK_DLQ_NOT_FOUND", "GET", "/v1/dlq/operations/op-"+strings.Repeat("0", 32), "")

	c.want(202, "", "POST", "/v1/messages", `{"id":"down","sink":"webhook-down","message":{"body":"x"}}`)
	stops := c.want(202, "", "POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"webhook-down"},"stop_after":1}`)
	resume := "/v1/dlq/operations/" + stops.text("id") + "/resume"
	c.want(400, "INVALID_ARGUMENT", "POST", "/v1/dlq/operations/"+op.text("id")+"/resume", "")
	invoke(t, s, local.Replay, []byte(`{"operation":"`+stops.text("id")+`"}`))
	eventually(t, "a replay to what is down is stopped, by whoever works on it", func() error {
		if a := c.want(200, "", "GET", "/v1/dlq/operations/"+stops.text("id"), ""); a.text("status") != "stopped" || a.number("failed") != 1 {
			return fmt.Errorf("%s", a.raw)
		}
		return nil
	})
	if a := c.want(200, "", "POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"webhook-down"},"dry_run":true}`); !strings.Contains(a.raw, `"last_tried":{"at":`) {
		t.Errorf("dry run: %s, want when it was last tried", a.raw)
	}
	if a := c.want(200, "", "POST", resume, ""); a.text("status") != "queued" || a.number("round") != 2 {
		t.Errorf("resumed: %s", a.raw)
	}

	served := c.want(200, "", "GET", "/v1/openapi.yaml", "")
	if source, err := os.ReadFile(filepath.Join("..", "docs", "openapi.yaml")); err != nil || served.raw != string(source) {
		t.Errorf("the document served is not docs/openapi.yaml (%v)", err)
	}
	c.want(304, "", "GET", "/v1/openapi.yaml", "", "If-None-Match", served.header.Get("ETag"))
	c.want(404, "NOT_FOUND", "GET", "/v1/nothing", "")
	c.want(404, "NOT_FOUND", "GET", "/v1/dlq/items/", "")
	c.want(404, "NOT_FOUND", "GET", "/v1/dlq/items/%25zz", "")
	for target, allow := range map[string]string{"/v1/dlq/items": "GET, HEAD", "/v1/messages": "POST"} {
		if got := c.want(405, "METHOD_NOT_ALLOWED", "PUT", target, "").header.Get("Allow"); got != allow {
			t.Errorf("PUT %s: Allow %q, want %q", target, got, allow)
		}
	}

	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.NewReplacer(ids[0], "{id}", ids[1], "{id}", through.text("superseded_by"), "{id}", group, "{id}", op.text("id"), "{op}", stops.text("id"), "{op}", "webhook-gone", "{name}")
	done := map[string]bool{}
	for route := range c.asked {
		done[name.Replace(route)] = true
	}
	for route := range doc.Routes() {
		if !done[route] {
			t.Errorf("%s was not answered with success in this test", route)
		}
	}
}

// A deployed API has a stage in its paths and an authorizer in front.
func TestAStageAndAnIdentityReachTheFunction(t *testing.T) {
	s := start(t, onRedis(t))
	send(t, s, "webhook-gone", "m1", "x")
	api, err := lambdahost.NewHTTPAPI(s.Host, []lambdahost.Route{{Key: "ANY /v1/{proxy+}", Function: local.DLQAPI}}, lambdahost.HTTPOptions{
		Stage: "prod",
		Authorizer: func(*http.Request) (*events.APIGatewayV2HTTPRequestContextAuthorizerDescription, error) {
			return &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
				IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{UserARN: "arn:aws:iam::123456789012:user/ann"},
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	c := newClient(t, server.URL+"/prod")
	op := c.want(202, "", "POST", "/v1/dlq/operations", `{"action":"replay","all":true}`)
	if op.text("actor") != "arn:aws:iam::123456789012:user/ann" {
		t.Errorf("the actor is not kept: %s", op.raw)
	}
	// A client follows Location relative to what it asked for.
	asked, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/prod/v1/dlq/operations", nil)
	if err != nil {
		t.Fatal(err)
	}
	where, err := asked.URL.Parse(op.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.want(200, "", "GET", strings.TrimPrefix(where.Path, "/prod"), ""); got.text("id") != op.text("id") {
		t.Errorf("at Location: %s", got.raw)
	}
	c.want(404, "NOT_FOUND", "GET", "/v1/sinks/", "")
}

// invokeAPI stands for Lambda where the function under test invokes another: it takes
// asynchronous invocations and hands them to the host of a stack.
type invokeAPI struct {
	mu   sync.Mutex
	host http.Handler
	got  []string // invocation types
}

func (i *invokeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.got = append(i.got, r.Header.Get("X-Amz-Invocation-Type"))
	host := i.host
	i.mu.Unlock()
	host.ServeHTTP(w, r)
}

func TestAnOperationStartsAtOnceWhereTheReplayFunctionIsNamed(t *testing.T) {
	lambda := &invokeAPI{}
	server := httptest.NewServer(lambda)
	t.Cleanup(server.Close)
	o := onRedis(t)
	o.Env["BACKSTOP_REPLAY_FUNCTION"] = local.Replay
	o.Env["AWS_ENDPOINT_URL_LAMBDA"] = server.URL
	o.Env["AWS_REGION"], o.Env["AWS_ACCESS_KEY_ID"], o.Env["AWS_SECRET_ACCESS_KEY"] = "eu-central-1", "test", "test"
	s := start(t, o)
	lambda.mu.Lock()
	lambda.host = s.Host.InvokeAPI()
	lambda.mu.Unlock()
	send(t, s, "webhook-gone", "m1", "x")
	s.Inbox.HTTP.Heal(local.PathGone)
	c := newClient(t, s.APIURL)
	op := c.want(202, "", "POST", "/v1/dlq/operations", `{"action":"replay","all":true}`)
	eventually(t, "the operation completes without a schedule", func() error {
		if a := c.ask("GET", "/v1/dlq/operations/"+op.text("id"), ""); a.text("status") != "completed" || a.number("delivered") != 1 {
			return fmt.Errorf("%s", a.raw)
		}
		return nil
	})
	lambda.mu.Lock()
	defer lambda.mu.Unlock()
	if !slices.Equal(lambda.got, []string{"Event"}) {
		t.Errorf("invoked as %q, want once, asynchronously", lambda.got)
	}
}

// An operator's night: 1,000 failures, three causes, two sinks; one cause is replayed in
// bulk by two operators at once.
func TestOneCauseIsReplayedInBulkAndNothingElse(t *testing.T) {
	const orders, mails = "/hooks/orders", "/hooks/mails"
	o := onRedis(t)
	dir := t.TempDir()
	o.Sinks = "file:" + dir
	in, err := inbox.Start(t.Context(), inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	for name, path := range map[string]string{"orders": orders, "mails": mails} {
		text := "kind: webhook\nurl: " + in.URL + path + "\nretry: {max_attempts: 1}\nreplay: {concurrency: 20}\nbreaker: off\n"
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, o)
	c := newClient(t, s.APIURL)
	fail := func(sink, path string, status, from, to int) {
		in.HTTP.Set(path, inbox.Always(inbox.Reply{Status: status}))
		for ; from < to; from += 50 {
			var ids []string
			for n := from; n < from+50; n++ {
				ids = append(ids, fmt.Sprintf("%s-%d", sink, n))
			}
			failures()(t, invoke(t, s, local.Queue, batch(sink, ids...)).Payload)
		}
	}
	fail("orders", orders, 503, 0, 500)
	fail("orders", orders, 404, 500, 800)
	fail("mails", mails, 503, 0, 200)

	type group struct {
		Sink, Reason, Fingerprint string
		Count                     int
	}
	var groups struct{ Groups []group }
	decode(t, c.want(200, "", "GET", "/v1/dlq/groups", ""), &groups)
	var counts []int
	for _, g := range groups.Groups {
		counts = append(counts, g.Count)
	}
	if !slices.Equal(counts, []int{500, 300, 200}) {
		t.Fatalf("groups: %+v, want three causes: 500, 300 and 200", groups)
	}
	cause := groups.Groups[0]
	filter, err := json.Marshal(map[string]string{"sink": cause.Sink, "reason": cause.Reason, "fingerprint": cause.Fingerprint})
	if err != nil {
		t.Fatal(err)
	}
	request := func(more string) string { return `{"action":"replay","filter":` + string(filter) + more + `}` }
	dry := c.want(200, "", "POST", "/v1/dlq/operations", request(`,"dry_run":true`))
	if dry.number("count") != 500 || dry.body["complete"] != true {
		t.Errorf("dry run: %.300s, want 500", dry.raw)
	}
	if n := c.want(200, "", "GET", "/v1/dlq/count", "").number("count"); n != 1000 {
		t.Errorf("%d dead letters after the dry run, want 1000", n)
	}

	in.HTTP.Heal(orders)
	in.HTTP.Heal(mails)
	var wg sync.WaitGroup
	finished := make([]answer, 2)
	for n := range finished {
		wg.Go(func() {
			a, err := c.try("POST", "/v1/dlq/operations", request(`,"reason":"INC-42"`))
			if err != nil || a.status != http.StatusAccepted {
				t.Errorf("operator %d: %d %s %v", n, a.status, a.raw, err)
				return
			}
			id, total, last := a.text("id"), a.number("total"), 0
			for range 60 {
				res, err := s.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{"operation":"` + id + `"}`)})
				if err != nil || res.FunctionError != "" {
					t.Errorf("operator %d: %s %v", n, res.Payload, err)
					return
				}
				if a, err = c.try("GET", "/v1/dlq/operations/"+id, ""); err != nil {
					t.Error(err)
					return
				}
				if settled := a.number("settled"); settled < last || settled > total {
					t.Errorf("operator %d: %d settled after %d, of %d", n, settled, last, total)
				}
				last = a.number("settled")
				if finished[n] = a; a.text("status") == "completed" {
					return
				}
			}
			t.Errorf("operator %d: not completed: %s", n, a.raw)
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if sum := finished[0].number("delivered") + finished[1].number("delivered"); sum != 500 {
		t.Errorf("the two operations say %d delivered together, want 500", sum)
	}
	delivered := in.HTTP.CountByID(inbox.Arrival.Accepted)
	for n := range 500 {
		if id := fmt.Sprintf("orders-%d", n); delivered[id] != 1 {
			t.Errorf("%s arrived %d times, want once", id, delivered[id])
		}
	}
	if len(delivered) != 500 {
		t.Errorf("%d deliveries arrived, want 500: the others were not to be touched", len(delivered))
	}
	decode(t, c.want(200, "", "GET", "/v1/dlq/groups", ""), &groups)
	if len(groups.Groups) != 2 || groups.Groups[0].Count != 300 || groups.Groups[1].Count != 200 {
		t.Errorf("left: %+v, want the two other causes", groups)
	}
	left := 0
	for cursor := ""; ; {
		a := c.want(200, "", "GET", "/v1/dlq/export?limit=1000&cursor="+cursor, "")
		for line := range bytes.Lines([]byte(a.raw)) {
			var it struct {
				Replays int
				History []any
			}
			if err := json.Unmarshal(line, &it); err != nil || it.Replays != 0 || len(it.History) != 0 {
				t.Errorf("one of the others was touched: %s (%v)", line, err)
			}
			left++
		}
		if cursor = a.header.Get("Backstop-Next-Cursor"); cursor == "" {
			break
		}
	}
	if left != 500 {
		t.Errorf("%d are left, want 500", left)
	}
}

func decode(t *testing.T, a answer, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.raw), v); err != nil {
		t.Fatalf("%v: %.300s", err, a.raw)
	}
}
