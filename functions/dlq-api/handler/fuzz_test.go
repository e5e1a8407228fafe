package handler

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/app"
	"backstop/lib/dlq"
	"backstop/lib/replay"
)

var fuzzMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodPatch, http.MethodOptions, "LINK",
}

// FuzzAPI sends events as the gateway could: whatever is in them, the function answers
// with success or with a documented problem, and never with its own failure. ITEM and
// OP stand for ids that exist.
func FuzzAPI(f *testing.F) {
	for _, seed := range []struct {
		method            byte
		path, query, body string
		header            string
	}{
		{0, "/v1/sinks", "", "", ""},
		{2, "/v1/sinks/hook/pause", "", "", ""},
		{2, "/v1/sinks/hook/resume", "", "{}", ""},
		{2, "/v1/sinks/no~body/pause", "", "", ""},
		{0, "/v1/deliveries", "sink=hook&id=d1", "", ""},
		{0, "/v1/deliveries", "sink=&id=%00", "", ""},
		{3, "/v1/deliveries", "sink=hook&id=d1", "", ""},
		{3, "/v1/deliveries", "sink=hook&id=%00&x", "", ""},
		{0, "/v1/dlq/items", "sink=hook&reason=exhausted&q=body&limit=2", "", ""},
		{0, "/v1/dlq/items", "cursor=aG9va34xLTE", "", ""},
		{0, "/v1/dlq/items", "cursor=aG9va34xODQ0Njc0NDA3MzcwOTU1MTYxNS0xODQ0Njc0NDA3MzcwOTU1MTYxNQ", "", ""},
		{0, "/v1/dlq/items", "since=0000-01-01T00:00:00Z&until=9999-12-31T23:59:59.999999999Z", "", ""},
		{0, "/v1/dlq/items", "fingerprint=(other)&delivery_id=%22", "", ""},
		{0, "/v1/dlq/items", "limit=-9223372036854775809", "", ""},
		{1, "/v1/dlq/items", "q=%F0%28%8C%28", "", ""},
		{0, "/v1/dlq/count", "sink=hook", "", ""},
		{0, "/v1/dlq/groups", "", "", ""},
		{0, "/v1/dlq/items/ITEM", "", "", `"x", W/"y", *`},
		{0, "/v1/dlq/items/hook%7E1-1", "", "", ""},
		{0, "/v1/dlq/items/1-1", "", "", ""},
		{0, "/v1/dlq/items/hook~18446744073709551616-0", "", "", ""},
		{3, "/v1/dlq/items/ITEM", "", "", `"x"`},
		{3, "/v1/dlq/items/ITEM", "", "", ""},
		{2, "/v1/dlq/items/ITEM/replay", "", `{"on_success":"keep","force":true,"sink":"spare"}`, ""},
		{2, "/v1/dlq/items/ITEM/replay", "", `{"on_success":null}`, ""},
		{2, "/v1/dlq/items/ITEM/unpark", "", "", ""},
		{2, "/v1/dlq/operations", "", `{"action":"replay","filter":{"sink":"hook","since":"2026-01-01T00:00:00Z"},"reason":"r"}`, "k1"},
		{2, "/v1/dlq/operations", "", `{"action":"discard","ids":["ITEM","1-1"]}`, ""},
		{2, "/v1/dlq/operations", "", `{"action":"discard","all":true,"dry_run":true,"filter":{"q":"\ud800"}}`, ""},
		{0, "/v1/dlq/operations", "limit=100", "", ""},
		{0, "/v1/dlq/operations/OP", "", "", ""},
		{2, "/v1/dlq/operations/OP/cancel", "", "", ""},
		{2, "/v1/dlq/operations/OP/resume", "", "", ""},
		{2, "/v1/dlq/operations", "", `{"action":"replay","all":true,"stop_after":-1}`, ""},
		{0, "/v1/dlq/operations/op-ffffffff-ffff-ffff-ffff-ffffffffffff", "", "", ""},
		{0, "/v1/dlq/export", "limit=1", "", ""},
		{2, "/v1/dlq/import", "", `{"sink":"hook","delivery_id":"x","at":"2026-01-01T00:00:00Z","message":{"body":"x"},"parked":true,"replays":9223372036854775807}` + "\n", ""},
		{2, "/v1/dlq/import", "", `{"id":"ITEM","sink":"hook","message":{"body":"x"},"at":"9999-12-31T23:59:59-23:59","not_before":"0000-01-01T00:00:00+23:59","reason":"\u0000"}`, ""},
		{0, "/v1/openapi.yaml", "", "", "*"},
		{4, "/v1/dlq/items", "", "", ""},
		{0, "/v1/messages", "", "", ""},
		{2, "/v1/messages", "", `{"sink":"hook","message":{"body":"x"}}`, ""},
		{6, "/v1/dlq/../dlq//items/", "a=%zz;b", "", ""},
		{6, "/orders/v1/dlq/items/ITEM", "", "", ""},
		{0, "/orders/v1/sinks", "", "", ""},
		{7, "*", "", "", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, []byte(seed.body), seed.header, false)
		f.Add(seed.method, seed.path, seed.query, []byte(seed.body), seed.header, true)
	}
	fix := newFixture(f)
	handler := newEvents(fix.api)
	f.Fuzz(func(t *testing.T, method byte, path, query string, body []byte, header string, encoded bool) {
		if strings.ContainsFunc(query, unicode.IsControl) {
			return // no request line has them
		}
		stored := fix.add(t, item(1))
		op, err := fix.app.Engine.CreateOperation(t.Context(), replay.OperationRequest{
			Action: replay.OperationReplay, IDs: []string{stored.ID}, IdempotencyKey: stored.ID,
		})
		if err != nil {
			t.Fatal(err)
		}
		fill := strings.NewReplacer("ITEM", stored.ID, "OP", op.ID)
		path, text := fill.Replace(path), fill.Replace(string(body))
		verb := fuzzMethods[int(method)%len(fuzzMethods)]
		out, err := handler.Invoke(t.Context(), event(t, func(e map[string]any) {
			request(verb, "$default", path)(e)
			e["rawQueryString"], e["body"], e["isBase64Encoded"] = query, text, encoded
			if encoded {
				e["body"] = base64.StdEncoding.EncodeToString([]byte(text))
			}
			e["headers"] = map[string]string{
				"host": "api.example", "content-type": "application/json",
				"if-match": header, "if-none-match": header, "idempotency-key": header,
			}
		}))
		if err != nil {
			t.Fatalf("%s %q: a function error: %v", verb, path, err)
		}
		status, answered, answer := respond(t, out)
		if status >= 500 {
			t.Errorf("%s %q?%q %q: %d %s", verb, path, query, text, status, answer)
		}
		// The document knows paths as the handler sees them.
		seen, err := url.PathUnescape(strings.ToValidUTF8(path, "\uFFFD"))
		if err != nil {
			seen = "/%"
		}
		seen = app.RoutePath(seen, events.APIGatewayV2HTTPRequestContext{Stage: "$default"})
		target := (&url.URL{Path: seen}).EscapedPath()
		if err := fix.doc.Answer(t.Context(), verb, target, status, answered, answer); err != nil {
			t.Errorf("%s %q?%q %q: %d %.300s: %v", verb, path, query, text, status, answer, err)
		}
		for line := range strings.Lines(string(answer)) {
			var it dlq.Item
			if strings.HasSuffix(target, "/export") && status == http.StatusOK && json.Unmarshal([]byte(line), &it) != nil {
				t.Errorf("a line of the export is no item: %q", line)
			}
		}
	})
}
