package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// testID is what a message of a test is called: any digits may be in it.
var testID = regexp.MustCompile(`test-[0-9a-f-]{36}`)

// Nothing that is configured is shown but scheme and host, wherever it stands and however it is encoded.
func TestSinkTestShowsNothingThatIsConfigured(t *testing.T) {
	const secret = "s3cr3t/v+l ü\"e" // each encoding changes it
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	s, escaped := string(quoted), url.QueryEscape(secret)
	for name, c := range map[string]struct {
		block string
		args  []string
		shows []string
	}{
		"webhook": {
			block: "kind: webhook\nurl: https://user:" + escaped + "@hooks.acme.test/" + escaped + "?key=" + escaped + "\nheaders: {X-A: " + planted + ", Authorization: Bearer " + planted + "}\n" +
				"signing_secrets: [" + base64.StdEncoding.EncodeToString([]byte(planted)) + "]\n",
			shows: []string{"POST https://hooks.acme.test/[redacted]\n", "X-A: [redacted]\n", "Authorization: [redacted]\n", "Webhook-Signature: [redacted]\n", `{"subject":"Hello","body":"you there","metadata":{"X-M":"mine"}}`, "X-M: mine\n"},
		},
		"webhook-to": {
			block: "kind: webhook\nurl: https://hooks.acme.test/" + escaped + "\nheaders: {X-A: " + planted + "}\n",
			args:  []string{"--recipient", `{"url":"https://8.8.8.8/mine?a=b"}`},
			shows: []string{"POST https://8.8.8.8/mine?a=b\n"},
		},
		"slack": {
			block: "kind: slack\nwebhook_url: https://hooks.slack.test/services/" + escaped + "\n",
			shows: []string{"POST https://hooks.slack.test/[redacted]\n", `{"text":"*Hello*\nyou there"}`},
		},
		"email": {
			block: "kind: email\nsmtp_addr: smtp.acme.test:587\nfrom: " + planted + " <" + planted + "@" + planted + ".test>\nauth_user: " + planted + "\nauth_pass: " + s + "\n",
			args:  []string{"--recipient", `{"address":"ann@acme.test"}`},
			shows: []string{"smtp://smtp.acme.test:587\n", "From: [redacted]\n", "To: <ann@acme.test>\n", "Subject: Hello\n", "you there"},
		},
		"telegram": {
			block: "kind: telegram\ntoken: \"123456:" + planted + "\"\nchat_id: '@" + planted + "'\nparse_mode: HTML\nbase_url: https://user:" + escaped + "@bots.acme.test/" + escaped + "\n",
			shows: []string{"POST https://bots.acme.test/[redacted]/bot[redacted]/sendMessage\n", `{"chat_id":"[redacted]","parse_mode":"[redacted]","text":"Hello\nyou there"}`},
		},
		"twilio": {
			block: "kind: twilio-sms\naccount_sid: AC0123456789abcdef0123456789abcdef\nauth_token: " + s + "\nfrom: \"+14155550111\"\n",
			args:  []string{"--recipient", `{"to":"+14155550100"}`},
			shows: []string{"POST https://api.twilio.com/2010-04-01/Accounts/[redacted]/Messages.json\n", "Authorization: [redacted]\n", "From=[redacted]&", "To=%2B14155550100"},
		},
		"http-json": {
			block: "kind: http\nurl: https://api.acme.test/" + planted + "/$(token)/$(recipient.to)?k=" + planted + "&t=$(token)&id=$(id)\n" +
				"content_type: application/" + planted + "\nheaders: {X-A: " + planted + ", X-B: \"Key $(token)\", X-C: $(recipient.to)}\nauth: {basic: {username: " + planted + ", password: $(token)}}\n" +
				"parameters: {token: {type: secret, required: true}, plain: {type: text}, on: {type: bool}, n: {type: int}, blob: {type: secret}}\n" +
				"recipient: {to: {default: " + planted + "}, room: {default: " + planted + "}}\n" +
				"body: {a: " + planted + ", b: [$(token), " + s + ", 4711, true], c: {d: \"x $(plain) $(recipient.room)\", e: \"$(blob:json)\"}, text: $(body), on: \"$(on:json)\", n: \"$(n:json)\"}\n" +
				"token: " + s + "\nplain: " + s + "\non: true\nn: 4712\nblob: '{\"deep\": " + s + "}'\n",
			args: []string{"--recipient", `{"to":"me"}`},
			shows: []string{
				"POST https://api.acme.test/[redacted][redacted][redacted]me?[redacted]&[redacted][redacted]&[redacted]test-", "X-A: [redacted]\n", "X-B: [redacted][redacted]\n", "X-C: me\n",
				"Content-Type: [redacted]\n", "Authorization: [redacted]\n",
				`{"a":"[redacted]","b":["[redacted]","[redacted]","[redacted]",true],"c":{"d":"[redacted][redacted] [redacted]","e":"[redacted]"},"n":"[redacted]","on":true,"text":"you there"}`,
			},
		},
		"http-form": {
			block: "kind: http\ncontent: form\nmethod: PUT\nurl: $(base)/$(token)\nparameters: {base: {type: url, required: true}, token: {type: secret, required: true}}\n" +
				"body: {a: " + planted + ", b: [$(token), " + planted + "], n: 4711, text: $(body)}\nauth: {bearer: $(token)}\n" +
				"base: https://api.acme.test/" + escaped + "?q=" + escaped + "\ntoken: " + s + "\n",
			shows: nil, // a base with a query takes no path: it is a fault
		},
		"http-text": {
			block: "kind: http\ncontent: text\nurl: $(recipient.url|fallback)\nparameters: {fallback: " + planted + "}\nbody: \"" + planted + " $(body)\"\nallowed_hosts: [acme.test]\n" +
				"recipient: {url: {}}\n",
			shows: nil, // a secret is no URL: it is a fault
		},
		"http-url": {
			block: "kind: http\ncontent: text\nurl: $(recipient.url|fallback)\nparameters: {fallback: {type: url}}\nbody: \"" + planted + " $(body)\"\nrecipient: {url: {}}\n" +
				"fallback: https://api.acme.test/" + escaped + "?q=" + escaped + "\n",
			shows: []string{"POST https://api.acme.test/[redacted]", "\n\n[redacted]you there\n"},
		},
		"http-recipients": {
			block: "kind: http\ncontent: text\nurl: $(recipient.url)\nrecipient: {url: {default: https://8.8.8.8/" + planted + "}}\n",
			shows: []string{"POST https://8.8.8.8/[redacted]\n", "\n\nyou there\n"},
		},
		"oauth": {
			block: "kind: http\nurl: https://api.acme.test\nbody: {text: $(body)}\nauth: {oauth2: {token_url: \"https://tokens.acme.test/" + escaped + "\", client_id: " + planted + ", client_secret: " + s + "}}\n",
			shows: []string{"POST https://api.acme.test\n", "Authorization: [redacted]\n"},
		},
		"discord": {
			block: "kind: discord\nwebhook_url: https://discord.test/api/webhooks/" + escaped + "?thread_id=" + planted + "\n",
			shows: []string{"POST https://discord.test/[redacted]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"ops.yaml": c.block})
			for _, format := range []string{"table", "json"} {
				r := run(t, append([]string{"sink", "test", "ops", "--sinks", dir, "--subject", "Hello", "--body", "you there", "--metadata", "X-M=mine", "-o", format}, c.args...)...)
				text := testID.ReplaceAllString(r.out+r.err, "test-")
				for _, form := range []string{
					planted, secret, escaped, url.PathEscape(secret), strings.Trim(s, `"`), "s3cr3t", "4711", "4712", "+14155550111", url.QueryEscape("+14155550111"), "0123456789abcdef",
					base64.StdEncoding.EncodeToString([]byte(planted + ":" + secret)), base64.StdEncoding.EncodeToString([]byte(planted)),
				} {
					if strings.Contains(text, form) {
						t.Errorf("%q is shown:\n%s", form, text)
					}
				}
				if c.shows == nil {
					r.want(t, exitFailed, "", "config check")
					continue
				}
				r.want(t, 0, "", "")
				if format == "json" {
					var got attemptResult
					if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.Sink != "ops" || got.Request == nil || got.Request.Body == "" || got.Outcome != "" {
						t.Errorf("JSON %s: %v", r.out, err)
					}
					continue
				}
				for _, want := range c.shows {
					r.want(t, 0, want, "Nothing was sent: --send sends it.\n")
				}
			}
		})
	}
}

// What --send sends is judged as deliveries are, and the sink's answer is said in words.
func TestSinkTestSendsAndSaysWhatItMeans(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		status       int
		after        string
		code         int
		out          []string
	}{
		{"delivered", `{"ok":true}`, 200, "", 0, []string{"\ndelivered: the receiver has it.\n"}},
		{"transient", `{}`, 503, "7", exitFailed, []string{"\ntransient: it may pass.", "asked to wait 7s.\nSINK_UNAVAILABLE: POST http://127.0.0.1:", "HTTP 503"}},
		{"terminal", `{"error_code":400,"description":"` + planted + `"}`, 400, "", exitFailed, []string{"\nterminal: it does not pass by itself.", "HTTP 400"}},
		{"gone", `{"description":"Forbidden: bot was blocked by the user"}`, 403, "", exitFailed, []string{"\ngone: nothing will ever arrive at this recipient", "HTTP 403"}},
		{"ambiguous", `{"ok":false}`, 200, "", exitFailed, []string{"\nambiguous: it was sent, and whether it was taken is not known. The receiver recognises no second copy"}},
		{"no answer", "", 0, "", exitFailed, []string{"\nambiguous: ", "not answered"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if b, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(b), `"chat_id":"77"`) || r.URL.Path != "/bot1:"+planted+"/sendMessage" {
					t.Errorf("it asked for %s: %s", r.URL, b)
				}
				if c.status == 0 {
					panic(http.ErrAbortHandler)
				}
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.answer)
			}))
			defer server.Close()
			dir := folder(t, map[string]string{"ops.yaml": "kind: telegram\ntoken: \"1:" + planted + "\"\nbase_url: " + server.URL + "\n"})
			args := []string{"sink", "test", "ops", "--sinks", "file:" + dir, "--recipient", `{"chat_id":77}`}
			run(t, args...).want(t, 0, "POST "+server.URL+"/bot[redacted]/sendMessage\n", "Nothing was sent")
			if n := asked.Load(); n != 0 {
				t.Errorf("%d requests arrived without --send", n)
			}
			r := run(t, append(args, "--send")...)
			r.noSecret(t)
			for _, want := range c.out {
				r.want(t, c.code, want, "")
			}
			if strings.Contains(r.err, "Nothing was sent") || c.code != 0 && !strings.Contains(r.err, "the message was not delivered") {
				t.Errorf("standard error: %s", r.err)
			}
			r = run(t, append(args, "--send", "-o", "json")...)
			r.noSecret(t)
			var got attemptResult
			if err := json.Unmarshal([]byte(r.out), &got); err != nil || c.name != "no answer" && got.Outcome != c.name || got.Meaning == "" || (got.Error == "") != (c.code == 0) {
				t.Errorf("JSON %s: %v", r.out, err)
			}
			if n := asked.Load(); n != 2 {
				t.Errorf("%d requests arrived, want one for each --send", n)
			}
		})
	}
}

func TestSinkTestNeedsASinkAndAMessageThatItTakes(t *testing.T) {
	dir := folder(t, map[string]string{
		"ops.yaml": "kind: telegram\ntoken: \"1:" + planted + "\"\n", "bad.yaml": "kind: telegram\ntoken: " + planted + "\n",
		"mail.yaml": "kind: email\nsmtp_addr: localhost:25\nfrom: a@acme.test\ntls: none\n",
	})
	for _, c := range []struct {
		args, err string
		code      int
	}{
		{"nothing --sinks " + dir, "no sink \"nothing\" in file:" + dir + "\nThere are bad, mail, ops.\n", exitNotFound},
		{"bad --sinks " + dir, "token: does not match", exitFailed},
		{"ops --sinks " + dir, "recipient.chat_id: missing or empty", exitUsage},
		{"mail --sinks " + dir, "recipient: required", exitUsage},
		{"ops --sinks " + dir + " --recipient {", "--recipient is not valid JSON", exitUsage},
		{"ops --sinks " + dir + " --recipient {\"chat\":1}", "unknown field; known: chat_id", exitUsage},
		{"ops --sinks " + dir + " --metadata x", "want KEY=VALUE", exitUsage},
		{"ops --sinks " + dir + "/nowhere", "no such file", exitFailed},
		{"ops --sinks s3:x", "no such file", exitFailed},
		{"", "accepts 1 arg(s)", exitUsage},
	} {
		r := run(t, append([]string{"sink", "test"}, strings.Fields(c.args)...)...)
		r.noSecret(t)
		r.want(t, c.code, "", c.err)
	}
	if got := completions(t, "sink", "test", "--sinks", dir, ""); strings.Join(got, "|") != "bad\ttelegram|mail\temail|ops\ttelegram" {
		t.Errorf("offered %q", got)
	}
	if got := completions(t, "sink", "test", "--sinks", dir+"/nowhere", ""); strings.Join(got, "") != "" {
		t.Errorf("offered %q of nothing", got)
	}
}
