package http_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"backstop/lib/sinks"
	"backstop/lib/sinks/http"
	"backstop/lib/sinks/sinktest"
)

// configured builds a sink of kind http out of YAML, as a configuration does.
func configured(t *testing.T, text string) (sinks.Sink, error) {
	t.Helper()
	var raw map[string]any
	if err := yaml.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	return sinks.BuildSink(http.Kind, "ops", raw)
}

func mustBe(t *testing.T, text string) *http.Sink {
	t.Helper()
	s, err := configured(t, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	out, ok := s.(*http.Sink)
	if !ok {
		t.Fatalf("a %T", s)
	}
	return out
}

const (
	posts = "url: https://api.example.org/v1/send\n"
	ok    = posts + "body: {text: $(body)}\n"
)

func TestWhatIsWrongIsSaidWhenTheConfigurationIsRead(t *testing.T) {
	for _, c := range []struct{ text, key, says string }{
		{"body: {text: $(body)}\n", "url", "required"},
		{"url: ftp://example.org/\nbody: {a: b}\n", "url", "http or https"},
		{"url: https://$(metadata.host)/x\nbody: {a: b}\n", "url", "no placeholder in its host"},
		{"url: https://example.org$(metadata.path)\nbody: {a: b}\n", "url", "no placeholder in its host"},
		{"url: $(body)/x\nbody: {a: b}\n", "url", "type url"},
		{"url: \"https://example.org/a#b\"\nbody: {a: b}\n", "url", "fragment"},
		{"url: https://example.org/$(subject:opt)\nbody: {a: b}\n", "url", "cannot be left out"},
		{"url: https://example.org/x?a=$(base)\nparameters: {base: {type: url, default: \"https://example.org\"}}\nbody: {a: b}\n", "url", "at the beginning only"},
		{"url: $(base)/x\nparameters: {base: {type: url, default: \"https://example.org/a?b=c\"}}\nbody: {a: b}\n", "url", "no path can follow"},
		{"url: $(recipient.url)\nrecipient: {url: {}}\nheaders: {X-Key: $(key)}\nparameters: {key: {type: secret, default: abc}}\nbody: {a: b}\n", "url", "who gets the sink's secrets"},
		{"url: $(recipient.url)\nrecipient: {url: {}}\nauth: {bearer: abc}\nbody: {a: b}\n", "url", "who gets the sink's secrets"},
		{posts + "body: text\n", "body", "cannot be JSON"},
		{posts + "body: {a: {b: $(bdy)}}\n", "body.a.b", "no such value"},
		{posts + "body: {a: [x, $(body]}\n", "body.a[1]", "does not end"},
		{posts + "body: {a: $(body:optional)}\n", "body.a", "unknown flag"},
		{posts + "body: {a: $(recipient.to)}\n", "body.a", "no such field"},
		{posts + "body: {a: $(id.sha)}\n", "body.a", "no such form"},
		{posts + "body: {a: $(metadata)}\n", "body.a", "names no key"},
		{posts + "body: {a: $(subject.x)}\n", "body.a", "has no parts"},
		{posts + "body: {a: x $(body:json)}\n", "body.a", "whole value"},
		{posts + "body: {\"$(body)\": x}\n", "body", "a name holds a placeholder"},
		{posts + "content: form\nbody: {a: {b: c}}\n", "body.a", "a form has no more"},
		{posts + "content: form\nbody: [a]\n", "body", "for a form"},
		{posts + "content: form\nbody: {a: $(body:json)}\n", "body.a", "JSON body"},
		{posts + "content: text\nbody: {a: b}\n", "body", "want a text"},
		{posts + "content: xml\nbody: {a: b}\n", "content", "form, json or text"},
		{ok + "method: GET\n", "method", "POST or PUT"},
		{ok + "headers: {Host: a}\n", "headers.Host", "HTTP itself"},
		{ok + "headers: {Content-Type: a}\n", "headers.Content-Type", "content_type"},
		{ok + "headers: {\"a b\": a}\n", "headers.a b", "not a header name"},
		{ok + "headers: {a: x, A: y}\n", "headers.a", "given twice"},
		{ok + "headers: {a: \"x\\ny\"}\n", "headers.a", "control character"},
		{ok + "headers: {Authorization: x}\nauth: {bearer: y}\n", "headers.Authorization", "auth sets"},
		{ok + "auth: {bearer: x, basic: {username: y}}\n", "auth", "one of"},
		{ok + "auth: {bearer: $(body)}\n", "auth.bearer", "only parameters"},
		{ok + "auth: {sigv4: {service: ses}}\n", "auth.sigv4.region", "required"},
		{ok + "auth: {oauth2: {client_id: a, client_secret: b}}\n", "auth.oauth2.token_url", "required"},
		{ok + "auth: {google: {credentials: \"{}\", scope: x}}\n", "auth.google.credentials", ""},
		{ok + "outcomes: [{status: 200}]\n", "outcomes[0].then", "required"},
		{ok + "outcomes: [{status: 200, then: done}]\n", "outcomes[0].then", "want"},
		{ok + "outcomes: [{status: 6xx, then: terminal}]\n", "outcomes[0].status", "class"},
		{ok + "outcomes: [{status: 2000, then: terminal}]\n", "outcomes[0].status", "100 to 999"},
		{ok + "outcomes: [{status: [], then: terminal}]\n", "outcomes[0].status", "empty list"},
		{ok + "outcomes: [{json: {ok: true}, then: delivered}]\n", "outcomes[0].json", "not a JSON path"},
		{ok + "outcomes: [{json: {$.ok: []}, then: delivered}]\n", "outcomes[0].json.$.ok", "holds for nothing"},
		{ok + "outcomes: [{header: {X-A: 1}, then: terminal}]\n", "outcomes[0].header.X-A", "quotes"},
		{ok + "outcomes: [{status: 4xx, then: terminal}, {status: [404, 410], then: gone}]\n", "outcomes[1]", "never decide"},
		{ok + "outcomes: [{json: {$.a: present}, then: terminal}, {status: 200, json: {$.a: 1}, then: gone}]\n", "outcomes[1]", "never decide"},
		{ok + "outcomes: [{then: terminal}, {status: 500, then: gone}]\n", "outcomes[1]", "never decide"},
		{ok + "retry_after: {unit: s}\n", "retry_after", "header, or a JSON path"},
		{ok + "retry_after: {header: X, unit: min}\n", "retry_after.unit", "s, ms or epoch"},
		{ok + "answer: {id: message_id}\n", "answer.id", "not a JSON path"},
		{ok + "dedup: 30m\n", "dedup", "recognises nothing"},
		{ok + "dedup: soon\n", "dedup", "such as 30m"},
		{ok + "rate_by: $(body)\n", "rate_by", "recipient fields and parameters"},
		{ok + "limits: [{of: $(body)}]\n", "limits[0]", "more than 0"},
		{ok + "parameters: {body: {type: text}}\n", "parameters.body", "another meaning"},
		{ok + "parameters: {rate: {type: text}}\n", "parameters.rate", "another meaning"},
		{ok + "parameters: {url: {type: url}}\n", "parameters.url", "another meaning"},
		{ok + "parameters: {n: {type: number}}\n", "parameters.n.type", "bool, int, secret, text or url"},
		{ok + "parameters: {n: {pattern: \"[\"}}\n", "parameters.n.pattern", "RE2"},
		{ok + "parameters: {n: {type: int}}\nn: many\n", "n", "whole number"},
		{ok + "parameters: {n: {type: bool}}\nn: perhaps\n", "n", "true or false"},
		{ok + "parameters: {n: {type: url}}\nn: example.org\n", "n", "http or https"},
		{ok + "parameters: {n: {pattern: \"[a-z]+\"}}\nn: A1\n", "n", "does not match"},
		{ok + "parameters: {n: {type: secret}}\nn: 12345\n", "n", "put it in quotes"},
		{ok + "parameters: {n: {required: true, about: The name.}}\n", "n", "required: The name."},
		{posts + "body: {a: $(n)}\nparameters: {n: {type: text}}\n", "body.a", "has no value"},
		{ok + "bdoy: x\n", "bdoy", "unknown key"},
	} {
		_, err := configured(t, c.text)
		found := false
		for _, f := range sinktest.FaultyKeys(err) {
			found = found || f == c.key
		}
		if !found || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s\ngot %v\nwant a fault of %s that says %q", c.text, err, c.key, c.says)
		}
	}
}

// received is what a server on loopback got.
type received struct {
	*httptest.Server
	request nethttp.Request
	body    string
	calls   atomic.Int32
}

func receiver(t *testing.T, answer nethttp.HandlerFunc) *received {
	t.Helper()
	r := &received{}
	r.Server = httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, req *nethttp.Request) {
		r.calls.Add(1)
		b, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.request, r.body = *req, string(b)
		if answer != nil {
			answer(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func TestValuesStandWhereTheyArePut(t *testing.T) {
	r := receiver(t, nil)
	s := mustBe(t, `
url: `+r.URL+`/$(metadata.way)/x$(id)?to=$(recipient.to)&note=$(metadata.note:opt)&fixed=$$1
method: PUT
headers: {X-Subject: "s: $(subject)", X-None: $(metadata.none:opt), Idempotency-Key: $(id.uuid)}
recipient: {to: {pattern: "[^ ]+"}, from: {default: me}}
parameters: {n: {type: int, default: 5}, key: s3cret, on: {type: bool}}
on: true
body:
  text: "a $(body) b"
  first: $(metadata.none|subject)
  none: $(metadata.none:opt)
  lines: |-
    $(metadata.none:opt)
    -- $(body)
    $(subject:opt)
  graft: $(metadata.blocks:json)
  number: $(n:json)
  text_number: $(n)
  truth: $(on:json)
  list: [1, 2.5, true, $(metadata.none:opt), $(recipient.from)]
  deep: {only: $(metadata.none:opt)}
  hash: $(id.hash)
  at: $(time)
  left: $(ttl:json:opt)
  group: $(group:opt)
  dollar: "$5 $$(body)"
`)
	const body = "\"quotes\" \\ \x00 \u2028 </script> $(subject) $$ \r\n{}"
	m := sinks.Message{ID: "o/1", Subject: "Über", Body: body, Metadata: map[string]string{"way": "a/b ?#&=%2F", "blocks": `[ {"a": 1.0} ]`}}
	if err := sinks.Validate(s, http.Recipient{"to": "+49&x=1"}, m); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	ctx := sinks.WithDelivery(t.Context(), sinks.Delivery{AcceptedAt: at, ExpiresAt: time.Now().Add(90*time.Second + 500*time.Millisecond), Group: "g"})
	if err := s.Send(ctx, http.Recipient{"to": "+49&x=1"}, m); err != nil {
		t.Fatal(err)
	}
	if want := "/a%2Fb%20%3F%23&=%252F/xo%2F1?to=%2B49%26x%3D1&fixed=$1"; r.request.RequestURI != want || r.request.Method != "PUT" {
		t.Errorf("%s %s, want PUT %s", r.request.Method, r.request.RequestURI, want)
	}
	h := r.request.Header
	if h.Get("X-Subject") != "s: Über" || h["X-None"] != nil || len(h.Get("Idempotency-Key")) != 36 {
		t.Errorf("headers %v", h)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	hash, _ := got["hash"].(string)
	delete(got, "hash")
	if len(hash) != 32 || strings.Trim(hash, "0123456789abcdef") != "" {
		t.Errorf("id.hash is %q", hash)
	}
	if want := map[string]any{
		"text": "a " + body + " b", "first": "Über", "lines": "-- " + body + "\nÜber", "graft": []any{map[string]any{"a": 1.0}},
		"number": 5.0, "text_number": "5", "truth": true, "list": []any{1.0, 2.5, true, "me"}, "deep": map[string]any{},
		"at": "2026-01-02T03:04:05Z", "left": 90.0, "group": "g", "dollar": "$5 $(body)",
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("the body is\n%v, want\n%v", got, want)
	}
}

// Whatever a value holds, it arrives as that value, in its place.
func TestNoValueLeavesItsPlace(t *testing.T) {
	for content, decode := range map[string]func(string) (string, error){
		"json": func(s string) (string, error) {
			var v struct {
				A string
				Z int
			}
			err := json.Unmarshal([]byte(s), &v)
			return v.A, err
		},
		"form": func(s string) (string, error) {
			v, err := url.ParseQuery(s)
			return v.Get("a"), err
		},
	} {
		s := mustBe(t, "url: https://example.org/$(body)/end?q=$(body)&z=1\ncontent: "+content+"\nbody: {a: $(body), z: 1}\n")
		rapid.Check(t, func(rt *rapid.T) {
			value := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"..", ".", "/", "a/../b", "%2e%2e", "?", "#", "$(subject)", "\x00", "\r\n", `"`, `\`})).Filter(func(s string) bool { return s != "" }).Draw(rt, "value")
			r, err := s.Render(context.Background(), nil, sinks.Message{ID: "m", Body: value})
			if value == "." || value == ".." {
				if sinks.CodeOf(err) != sinks.CodeInvalidArgument {
					rt.Fatalf("%q as a segment: %v", value, err)
				}
				return
			}
			if err != nil {
				rt.Fatalf("%q: %v", value, err)
			}
			if got, err := decode(string(r.Body)); err != nil || got != value {
				rt.Fatalf("%q arrives in the body as %q (%v)", value, got, err)
			}
			again, err := url.Parse(r.URL.String())
			if err != nil {
				rt.Fatal(err)
			}
			segments := strings.Split(again.EscapedPath(), "/")
			first, err := url.PathUnescape(segments[1])
			if err != nil || len(segments) != 3 || first != value || segments[2] != "end" || again.Query().Get("q") != value || again.Query().Get("z") != "1" || again.Host != "example.org" {
				rt.Fatalf("%q makes the URL %s", value, again)
			}
		})
	}
}

func TestBadMessagesAreRefusedWithTheirPlace(t *testing.T) {
	s := mustBe(t, `
url: https://example.org/$(recipient.to)
recipient: {to: {required: true, pattern: "[a-z.]+"}, note: {}}
headers: {X-Note: $(metadata.note:opt)}
body: {text: $(subject), all: [$(body), $(body), $(body), $(body), $(body), $(body), $(body), $(body), $(body), $(body)], graft: $(metadata.json:json:opt)}
limits: [{of: $(subject), characters: 10}]
`)
	fine := func(change func(*sinks.Message)) sinks.Message {
		m := sinks.Message{ID: "m", Subject: "s", Body: "b", Metadata: map[string]string{}}
		change(&m)
		return m
	}
	for _, c := range []struct {
		name string
		to   string
		m    sinks.Message
		says string
	}{
		{"no recipient", "null", fine(func(*sinks.Message) {}), "recipient.to: missing"},
		{"no subject", `{"to":"a"}`, fine(func(m *sinks.Message) { m.Subject = "" }), "message.subject: missing or empty"},
		{"a long subject", `{"to":"a"}`, fine(func(m *sinks.Message) { m.Subject = strings.Repeat("ä", 11) }), "message.subject: 11 characters; 10 are taken"},
		{"a body of 10 MB after expansion", `{"to":"a"}`, fine(func(m *sinks.Message) { m.Body = strings.Repeat("x", 1<<20) }), "more than 4194304 bytes"},
		{"invalid UTF-8", `{"to":"a"}`, fine(func(m *sinks.Message) { m.Body = "\xff" }), "message.body: not valid UTF-8"},
		{"a header of two lines", `{"to":"a"}`, fine(func(m *sinks.Message) { m.Metadata["note"] = "a\nb" }), `message.metadata["note"]: cannot be a header`},
		{"no JSON", `{"to":"a"}`, fine(func(m *sinks.Message) { m.Metadata["json"] = "{" }), `message.metadata["json"]: not JSON`},
		{"half a surrogate pair", `{"to":"a"}`, fine(func(m *sinks.Message) { m.Metadata["json"] = `"\ud800"` }), `message.metadata["json"]: not JSON`},
		{"two dots in the path", `{"to":".."}`, fine(func(*sinks.Message) {}), "recipient.to: a dot"},
		{"a bad id", `{"to":"a"}`, fine(func(m *sinks.Message) { m.ID = "a b" }), "id"},
	} {
		to, err := sinks.DecodeRecipient(s, []byte(c.to))
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"Validate": sinks.Validate(s, to, c.m), "Send": s.Send(t.Context(), to, c.m)} {
			if sinks.CodeOf(err) != sinks.CodeInvalidArgument || sinks.IsTransient(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: %.200v; want INVALID_ARGUMENT, %s", c.name, what, err, c.says)
			}
		}
	}
	for raw, says := range map[string]string{
		`{"to":"A"}`: "recipient.to: does not match", `{"to":{}}`: "recipient.to: want a text", `{"to":true}`: "recipient.to: want a text",
		`{"too":"a"}`: "unknown field; known: note, to", `{}`: "recipient.to: missing", `[]`: "want an object",
	} {
		if to, err := sinks.DecodeRecipient(s, []byte(raw)); to != nil || sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), says) {
			t.Errorf("recipient %s: %v, %v; want %s", raw, to, err, says)
		}
	}
	if to, err := sinks.DecodeRecipient(mustBe(t, ok+"recipient: {to: {}}\n"), []byte(`{"to":9007199254740993}`)); err != nil || to.(http.Recipient)["to"] != "9007199254740993" { //nolint:errcheck,forcetypeassert // a panic would say it
		t.Errorf("a number: %v, %v", to, err)
	}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	const rules = `
outcomes:
  - {status: 200, json: {$.ok: true}, then: delivered}
  - {status: [200, 404], json: {$.error: [a, 7, null]}, then: gone}
  - {status: 5xx, header: {X-Kind: [fatal]}, then: terminal}
  - {status: 4xx, json: {"$.errors[*].code": busy}, then: transient}
  - {status: 409, json: {$.again: present}, then: ambiguous}
retry_after: {json: $.wait, unit: ms}
answer: {code: $.code}
`
	for _, c := range []struct {
		status int
		header string
		body   string
		want   sinktest.Outcome
		gone   bool
		wait   time.Duration
		hold   bool
		says   string
	}{
		{status: 200, body: `{"ok":true}`, want: sinktest.Delivered},
		{status: 200, body: `{"ok":"true"}`, want: sinktest.Ambiguous, says: "does not say that it was taken"},
		{status: 200, body: `{"ok":1}`, want: sinktest.Ambiguous},
		{status: 200, body: `{"ok":true}{`, want: sinktest.Ambiguous},
		{status: 201, body: `{"ok":true}`, want: sinktest.Ambiguous},
		{status: 200, body: `{"ok":true,"x":"` + strings.Repeat("x", 64<<10) + `"}`, want: sinktest.Ambiguous, says: "broke off"},
		{status: 200, body: `{"error":"a","code":"no_such-chat.1"}`, want: sinktest.Terminal, gone: true, says: "HTTP 200 OK: no_such-chat.1"},
		{status: 404, body: `{"error":7.0}`, want: sinktest.Terminal, gone: true},
		{status: 404, body: `{"error":null}`, want: sinktest.Terminal, gone: true},
		{status: 404, body: `{"error":"b","code":"free text <of> anybody"}`, want: sinktest.Terminal, says: "HTTP 404 Not Found"},
		{status: 503, header: "X-Kind: fatal", want: sinktest.Terminal},
		{status: 503, header: "X-Kind: else", want: sinktest.Transient},
		{status: 400, body: `{"errors":[{"code":"x"},{"code":"busy"}],"wait":1500}`, want: sinktest.Transient, wait: 1500 * time.Millisecond},
		{status: 429, body: `{"wait":"2000"}`, want: sinktest.Transient, wait: 2 * time.Second, hold: true},
		{status: 429, header: "Retry-After: 9", body: `{"wait":2000}`, want: sinktest.Transient, wait: 9 * time.Second, hold: true},
		{status: 429, header: "Retry-After: 1", body: `{"wait":2000}`, want: sinktest.Transient, wait: 2 * time.Second, hold: true},
		{status: 429, body: `{"wait":-1}`, want: sinktest.Transient},
		{status: 429, body: `{"wait":1e300}`, want: sinktest.Transient, wait: sinks.MaxRetryAfter, hold: true},
		{status: 429, body: `{"wait":"soon"}`, want: sinktest.Transient},
		{status: 409, body: `{"again":null,"code":5}`, want: sinktest.Ambiguous, says: "HTTP 409 Conflict: 5; it may have been taken"},
		{status: 409, body: `{}`, want: sinktest.Terminal},
		{status: 302, want: sinktest.Terminal},
		{status: 500, want: sinktest.Transient},
	} {
		r := receiver(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			if name, value, ok := strings.Cut(c.header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		err := mustBe(t, "url: "+r.URL+"/x\nbody: {a: $(body)}\n"+rules).Send(t.Context(), nil, sinks.Message{ID: "m", Body: "b"})
		got := sinktest.Delivered
		switch {
		case err == nil:
		case sinks.IsAmbiguous(err):
			got = sinktest.Ambiguous
		case sinks.IsTransient(err):
			got = sinktest.Transient
		default:
			got = sinktest.Terminal
		}
		if got != c.want || sinks.IsGone(err) != c.gone || sinks.RetryAfterOf(err) != c.wait || (sinks.HoldOf(err) > 0) != c.hold {
			t.Errorf("%d %s %.60s: %s (%v), gone %t, wait %s, hold %s; want %+v", c.status, c.header, c.body, got, err, sinks.IsGone(err), sinks.RetryAfterOf(err), sinks.HoldOf(err), c)
		}
		if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "anybody")) {
			t.Errorf("%d %.60s: %v; want it to say %q", c.status, c.body, err, c.says)
		}
	}
}

func TestARecipientsURLIsGuarded(t *testing.T) {
	r := receiver(t, nil)
	const doc = "url: $(recipient.url|base)\nrecipient: {url: {}}\nparameters: {base: {type: url}}\nbody: {a: $(body)}\n"
	m := sinks.Message{ID: "m", Body: "b"}
	closed := mustBe(t, doc+"base: "+r.URL+"/own\n")
	if _, err := sinks.DecodeRecipient(closed, []byte(`{"url":"http://localhost:1/"}`)); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
		t.Errorf("a local name: %v", err)
	}
	if err := closed.Send(t.Context(), http.Recipient{"url": r.URL + "/secret-path"}, m); sinks.CodeOf(err) != sinks.CodeInvalidArgument || strings.Contains(err.Error(), "secret-path") {
		t.Errorf("a private address: %v", err)
	}
	if r.calls.Load() != 0 {
		t.Error("it was connected to")
	}
	if err := closed.Send(t.Context(), nil, m); err != nil || r.request.RequestURI != "/own" || closed.Receiver(nil) != "" {
		t.Errorf("the sink's own URL: %v, %s", err, r.request.RequestURI)
	}
	open := mustBe(t, doc+"allow_private_recipients: true\n")
	to := http.Recipient{"url": r.URL + "/theirs?x=1"}
	if err := open.Send(t.Context(), to, m); err != nil || r.request.RequestURI != "/theirs?x=1" || open.Receiver(to) != r.URL {
		t.Errorf("where private ones are allowed: %v, %s, %s", err, r.request.RequestURI, open.Receiver(to))
	}
	if err := open.Send(t.Context(), nil, m); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), "recipient.url") {
		t.Errorf("no URL at all: %v", err)
	}
}

func TestTokensAreFetchedAndRenewed(t *testing.T) {
	var fetched atomic.Int32
	tokens := receiver(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		_, _ = fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"bearer","expires_in":3600}`, fetched.Add(1))
	})
	refuses := atomic.Bool{}
	r := receiver(t, func(w nethttp.ResponseWriter, req *nethttp.Request) {
		if refuses.Load() && req.Header.Get("Authorization") == "Bearer token-1" {
			w.WriteHeader(nethttp.StatusUnauthorized)
		}
	})
	s := mustBe(t, "url: "+r.URL+"/x\nbody: {a: $(body)}\nparameters: {secret: cl1ent-secret}\nauth: {oauth2: {token_url: "+tokens.URL+"/token, client_id: me, client_secret: $(secret), scope: send}}\n")
	m := sinks.Message{ID: "m", Body: "b"}
	for range 2 {
		if err := s.Send(t.Context(), nil, m); err != nil || r.request.Header.Get("Authorization") != "Bearer token-1" {
			t.Fatalf("%v, %v", err, r.request.Header)
		}
	}
	if user, password, _ := tokens.request.BasicAuth(); user != "me" || password != "cl1ent-secret" {
		t.Errorf("the token endpoint was asked by %s:%s", user, password)
	}
	refuses.Store(true)
	if err := s.Send(t.Context(), nil, m); !sinks.IsTransient(err) {
		t.Errorf("a token that was taken back: %v", err)
	}
	if err := s.Send(t.Context(), nil, m); err != nil || fetched.Load() != 2 {
		t.Errorf("with a fresh one: %v, fetched %d times", err, fetched.Load())
	}
	tokens.Close()
	down := mustBe(t, "url: "+r.URL+"/x\nbody: {a: $(body)}\nauth: {oauth2: {token_url: "+tokens.URL+"/token, client_id: me, client_secret: x}}\n")
	before := r.calls.Load()
	if err := down.Send(t.Context(), nil, m); !sinks.IsTransient(err) || sinks.IsAmbiguous(err) || r.calls.Load() != before {
		t.Errorf("with its endpoint down: %v", err)
	}
}

func TestASignedRequestIsSignedAsItIsSent(t *testing.T) {
	r := receiver(t, nil)
	var signed string
	s, err := http.New("ops", http.Document{
		URL: sinks.Secret(r.URL + "/v2/$(metadata.way)"), Content: "text", Auth: http.Auth{SigV4: &http.SigV4{Service: "ses", Region: "eu-west-1"}},
	}, nil, &http.Options{Sign: func(_ context.Context, req *nethttp.Request, body []byte, service, region string) error {
		signed = fmt.Sprint(req.Method, req.URL.RequestURI(), req.Header.Get("Content-Type"), string(body), service, region)
		req.Header.Set("Authorization", "AWS4 x")
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), nil, sinks.Message{ID: "m", Body: "hello", Metadata: map[string]string{"way": "a b"}}); err != nil {
		t.Fatal(err)
	}
	if want := "POST/v2/a%20btext/plain; charset=utf-8helloseseu-west-1"; signed != want || r.request.Header.Get("Authorization") != "AWS4 x" || r.body != "hello" {
		t.Errorf("signed %q, want %q; %v", signed, want, r.request.Header)
	}
	nobody := mustBe(t, ok+"auth: {sigv4: {service: ses, region: eu-west-1}}\n")
	if err := nobody.Send(t.Context(), nil, sinks.Message{ID: "m", Body: "b"}); sinks.CodeOf(err) != sinks.CodeSinkConfigInvalid {
		t.Errorf("without anybody who signs: %v", err)
	}
}

func TestTheReceiversOwnIDIsTold(t *testing.T) {
	for body, want := range map[string]string{
		`{"message":{"id":5}}`: "5", `{"message":{"id":"SM0-a.b_1"}}`: "SM0-a.b_1", `{"message":{"id":"ns#word"}}`: "word",
		`{"message":{"id":"<ann@example.org>"}}`: "", `{"message":{"id":"` + strings.Repeat("x", 65) + `"}}`: "", `{}`: "", `no`: "",
	} {
		r := receiver(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) { _, _ = io.WriteString(w, body) })
		ctx := sinks.WithDelivery(t.Context(), sinks.Delivery{})
		if err := mustBe(t, "url: "+r.URL+"/\nbody: {a: $(body)}\nanswer: {id: $.message.id}\n").Send(ctx, nil, sinks.Message{ID: "m", Body: "b"}); err != nil {
			t.Fatal(err)
		}
		if got := sinks.Receipt(ctx); got != want {
			t.Errorf("the receipt of %s is %q, want %q", body, got, want)
		}
	}
}

func TestASinkSaysWhatItsDocumentSays(t *testing.T) {
	s := mustBe(t, "url: https://example.org/$(id.hash)\nbody: {a: $(body)}\nrecipient: {to: {}}\nparameters: {chat: {default: c}}\nrate_by: $(recipient.to|chat)\ndedup: 30m\n")
	if w := sinks.DedupWindow(s); w != 30*time.Minute {
		t.Errorf("the window is %s", w)
	}
	if k := sinks.RateKeyOf(s, http.Recipient{"to": "x"}); k != "x" {
		t.Errorf("the rate of x is counted by %q", k)
	}
	if k := sinks.RateKeyOf(s, nil); k != "c" {
		t.Errorf("the rate of nobody is counted by %q", k)
	}
	if w := sinks.DedupWindow(mustBe(t, "url: https://example.org/$(id)\nbody: {a: $(body)}\ndedup: forever\n")); w >= 0 {
		t.Errorf("for ever is %s", w)
	}
	if w := sinks.DedupWindow(mustBe(t, ok)); w != 0 {
		t.Errorf("never is %s", w)
	}
	secret := mustBe(t, ok+"parameters: {key: hunter22}\nauth: {bearer: $(key)}\n")
	if text := fmt.Sprintf("%v %+v %#v", secret, secret, secret); strings.Contains(text, "hunter22") {
		t.Errorf("it prints as %s", text)
	}
}
