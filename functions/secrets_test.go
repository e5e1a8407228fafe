package functions_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/inbox"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

// Unique secrets in every secret field, every failure of every kind, every fault of a
// configuration and every route: nothing that anybody can read shows one (P6).
func TestNoSecretIsShownAnywhere(t *testing.T) {
	t.Parallel()
	sw := &sweep{}
	var arrivals sync.Map
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true)
		user, pass, _ := r.BasicAuth()
		arrivals.Store(string(dump)+user+pass, true)
		echo(w, r)
	})
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	plain, secure, store := httptest.NewServer(handler), httptest.NewUnstartedServer(handler), httptest.NewServer(&parameterStore{values: map[string]string{"/backstop/secret": planted["ssm reference"]}})
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	for _, s := range []*httptest.Server{plain, secure, store} {
		t.Cleanup(s.Close)
	}
	closed := freeAddr(t)
	mail, err := inbox.StartMail(context.Background(), "", inbox.MailOptions{User: "robot", Password: planted["smtp password"]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })

	server := redistest.Start(t, redistest.WithConfig("user", "robot on >"+planted["redis password"]+" ~* &* +@all"))
	dir := t.TempDir()
	host := func(u string) string { return u[strings.Index(u, "://")+3:] }
	names := sweptSinks(t, dir, map[string]string{
		"plain": host(plain.URL), "tls": host(secure.URL), "closed": closed, "smtp": mail.Addr,
	})
	s := startSwept(t, sw, local.Options{
		RedisURL: "redis://robot:" + planted["redis password"] + "@" + server.Addr,
		Sinks:    "file:" + dir,
		Timeout:  5 * time.Second, QueueTimeout: 5 * time.Second,
		Journal: t.TempDir(),
		Env: map[string]string{
			"AWS_ENDPOINT_URL_SSM": store.URL,
			"NO_PROXY":             "nosuch.invalid",
			"HTTP_PROXY":           "http://robot:" + planted["proxy password"] + "@" + closed,
		},
	})

	s.send(t, names, func(sink string) string { return `"id":"m-` + sink + `"` })
	s.mails(t, mail)
	s.function(t, local.Queue, batch("webhook-200", "q1"))
	s.function(t, local.Queue, []byte(strings.ReplaceAll(string(batch("webhook-404", "q1", "q2", "q3")), `\"webhook-404\",\"message\":{\"body\":\"q2`, `\"faulty-01\",\"message\":{\"body\":\"q2`)))
	s.function(t, local.Send, []byte(`{"sink":"webhook-500","message":{"body":"x"}}`))
	s.function(t, local.Send, []byte(`{"sink":"nobody","message":{"body":"x"}}`))
	s.recipients(t, plain.URL)
	s.erase(t)
	s.routes(t, names)
	s.operate(t, names)
	s.kept(t, server.Client(t))
	s.journaled(t)

	admin := server.Client(t)
	for _, command := range [][]any{{"ACL", "SETUSER", "robot", "resetpass", ">another"}, {"CLIENT", "KILL", "USER", "robot"}} {
		if err := admin.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.unserved(t)
	server.Kill(t)
	s.unserved(t)

	sw.wantClean(t, 1000)
	sw.wantEveryRoute(t)
	var arrived bytes.Buffer
	arrivals.Range(func(k, _ any) bool {
		fmt.Fprint(&arrived, k)
		return true
	})
	for _, what := range []string{"url user", "url password", "url path", "url query", "header", "custom header", "slack path", "ssm reference"} {
		if !slices.Contains(hits(arrived.String(), planted), what) {
			t.Errorf("the %s never reached a receiver: the sweep proves nothing about it", what)
		}
	}
	if m := mail.Mails(); len(m) == 0 || m[0].User != "robot" {
		t.Error("nothing was mailed with the password: the sweep proves nothing about it")
	}
}

// send sends to every sink at once, a few at a time.
func (s swept) send(t *testing.T, names []string, id func(string) string) {
	t.Helper()
	var wg sync.WaitGroup
	limit := make(chan struct{}, 10)
	for _, sink := range names {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			recipient := ""
			if strings.HasPrefix(sink, "email-") {
				recipient = `"recipient":{"address":"c@d.example"},`
			}
			a := s.api(t, false, "POST", "/v1/messages", `{`+id(sink)+`,"sink":"`+sink+`",`+recipient+`"message":{"subject":"s","body":"b"}}`)
			if a.status != http.StatusOK && a.status != http.StatusAccepted {
				t.Errorf("%s: %d %s", sink, a.status, a.raw)
			}
			taken := []string{"webhook-200", "webhook-204", "webhook-cut", "webhook-unasked", "slack-unasked", "email-mail"}
			if delivered := slices.Contains(taken, sink); (a.status == http.StatusOK) != delivered {
				t.Errorf("%s: %d %s; delivered is expected to be %v", sink, a.status, a.raw, delivered)
			}
		})
	}
	wg.Wait()
}

// mails makes the mail server refuse at every stage, echoing what it was sent.
func (s swept) mails(t *testing.T, mail *inbox.MailServer) {
	t.Helper()
	pass := planted["smtp password"]
	plainAuth := base64.StdEncoding.EncodeToString([]byte("\x00robot\x00" + pass))
	n := 0
	for _, stage := range []inbox.Stage{inbox.StageAuth, inbox.StageFrom, inbox.StageTo, inbox.StageData} {
		for _, reply := range []inbox.Reply{
			{Status: 454, Body: "not now: " + pass},
			{Status: 535, Body: "AUTH PLAIN " + plainAuth + " is wrong"},
			{Status: 550, Body: pass + plainAuth},
			{Fault: inbox.Drop},
			{Fault: inbox.Reset},
			{Fault: inbox.Hang},
		} {
			n++
			mail.Set(stage, inbox.Always(reply))
			a := s.api(t, false, "POST", "/v1/messages", fmt.Sprintf(`{"id":"mail-%d","sink":"email-mail","recipient":{"address":"c@d.example"},"message":{"body":"b"}}`, n))
			if a.status != http.StatusAccepted {
				t.Errorf("mail at stage %s with %v: %d %s", stage, reply, a.status, a.raw)
			}
			mail.Heal()
		}
	}
}

// recipients sends to URLs that callers give.
func (s swept) recipients(t *testing.T, receiver string) {
	t.Helper()
	const path = "/services/" + callerToken // as Slack's
	for i, u := range []string{
		receiver + path + "/404?t=" + callerToken, receiver + path + "/307", receiver + path + "/garbage", receiver + path + "/unasked", "http://nosuch.invalid" + path,
		"http://u:" + callerToken + "@receiver.example/", "http://169.254.169.254" + path + "?t=" + callerToken, "ftp://receiver.example" + path,
		"http://receiver.example:22" + path, "http://[::1" + path, "https://" + receiver[7:] + path + "/200", "https://receiver.example/%zz" + path,
	} {
		body := fmt.Sprintf(`"sink":"webhook-404","recipient":{"url":%q},"message":{"body":"b"}`, u)
		s.api(t, false, "POST", "/v1/messages", fmt.Sprintf(`{"id":"r-%d",%s}`, i, body))
		record, _ := json.Marshal(fmt.Sprintf(`{"id":"rq-%d",%s}`, i, body))
		s.function(t, local.Queue, []byte(`{"Records":[{"messageId":"1","body":`+string(record)+`,"eventSource":"aws:sqs"}]}`))
	}
}

// erase has a person's dead letters erased. Nobody was shown the person before, and nothing has it
// afterwards: no answer, no log, no record, neither the queue nor the journal.
func (s swept) erase(t *testing.T) {
	t.Helper()
	person := planted["erased person"] + "@person.example"
	for i, to := range []string{person, strings.ToUpper(person)} {
		a := s.api(t, false, "POST", "/v1/messages", fmt.Sprintf(`{"id":"person-%d","sink":"email-starttls","recipient":{"address":%q},"message":{"body":"b"}}`, i, to))
		if a.status != http.StatusAccepted {
			t.Errorf("a message to the person: %d %s, want it dead-lettered", a.status, a.raw)
		}
	}
	ask := `{"action":"erase","recipient":"` + person + `"`
	if a := s.api(t, false, "POST", "/v1/dlq/operations", ask+`,"dry_run":true}`); a.number("count") != 2 {
		t.Errorf("a dry run of the erasure: %d %s, want 2", a.status, a.raw)
	}
	s.api(t, false, "POST", "/v1/dlq/operations", ask+`,"reason":"for `+person+`"}`) // refused: the reason is kept
	s.api(t, false, "POST", "/v1/dlq/operations", ask+`,"all":true}`)
	s.api(t, false, "POST", "/v1/dlq/operations", `{"action":"erase","recipient":["`+person+`"]}`)
	s.api(t, false, "POST", "/v1/dlq/operations", `{"action":"restore","recipient":"`+person+`"}`)
	id := s.api(t, false, "POST", "/v1/dlq/operations", ask+`,"reason":"request 17"}`).text("id")
	s.function(t, local.Replay, []byte(`{"operation":"`+id+`"}`))
	eventually(t, "the person to be erased", func() error {
		a := s.api(t, false, "GET", "/v1/dlq/operations/"+id, "")
		if a.text("status") != "completed" || a.number("discarded") != 2 {
			return fmt.Errorf("%d %s", a.status, a.raw)
		}
		return nil
	})
	o := newOperator(t, s.sweep, "BACKSTOP_API", s.APIURL)
	o.run(t, exitDone, "dlq", "erase", "--recipient", person, "--dry-run")
	o.run(t, exitDone, "dlq", "erase", "--recipient", person, "--yes")
}

// journaled reads everything that the journal holds.
func (s swept) journaled(t *testing.T) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(s.Journal, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		n++
		s.add("kept: "+path, path+string(b))
		return err
	})
	if err != nil || n < 20 {
		t.Errorf("%d objects in the journal (%v), want those of the dead letters", n, err)
	}
}

// routes calls every route of the API, with every item, and replays all.
func (s swept) routes(t *testing.T, sinks []string) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, path := range []string{
		"/v1/sinks", "/v1/dlq/items", "/v1/dlq/items?limit=3&q=x", "/v1/dlq/count", "/v1/dlq/groups", "/v1/dlq/operations",
		"/v1/dlq/histogram?by=group",
		"/v1/dlq/items?reason=config", "/v1/nothing", "/v1/dlq/items/none", "/v1/openapi.yaml", "/v1/deliveries?sink=nobody&id=none",
	} {
		s.api(t, false, "GET", path, "")
	}
	groups := s.api(t, false, "GET", "/v1/dlq/groups", "")
	known, _ := groups.body["groups"].([]any)
	if len(known) == 0 {
		t.Fatalf("no groups to look at: %d %s", groups.status, groups.raw)
	}
	group, _ := known[0].(map[string]any)
	s.api(t, false, "POST", fmt.Sprintf("/v1/dlq/groups/%s/note", group["id"]), `{"note":"seen"}`)
	exported := s.api(t, true, "GET", "/v1/dlq/export", "")
	first, _, _ := strings.Cut(exported.raw, "\n")
	if a := s.api(t, false, "POST", "/v1/dlq/import", first+"\n{\"sink\":\"nobody\"}\nnonsense\n"); a.status != http.StatusOK {
		t.Errorf("import: %d %s", a.status, a.raw)
	}
	list := s.api(t, false, "GET", "/v1/dlq/items?limit=500", "")
	items, _ := list.body["items"].([]any)
	if len(items) == 0 {
		t.Fatalf("no dead letters to look at: %d %s", list.status, list.raw)
	}
	s.function(t, local.Replay, []byte(`{"limit":20}`))
	limit := make(chan struct{}, 8)
	seen := map[any]bool{}
	for i, it := range items {
		m, _ := it.(map[string]any)
		id, _ := m["id"].(string)
		if seen[m["sink"]] {
			continue // one of each sink
		}
		seen[m["sink"]] = true
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			s.api(t, false, "POST", "/v1/dlq/items/"+id+"/replay", `{"on_success":"keep"}`)
			s.api(t, true, "GET", "/v1/dlq/items/"+id, "")
			if i%8 == 0 {
				s.api(t, true, "POST", "/v1/dlq/items/"+id+"/unpark", "")
			}
		})
	}
	for _, sink := range sinks[:10] {
		s.api(t, false, "GET", "/v1/deliveries?sink="+sink+"&id=m-"+sink, "")
		s.api(t, false, "DELETE", "/v1/deliveries?sink="+sink+"&id=m-"+sink, "")
	}
	s.api(t, false, "DELETE", "/v1/deliveries?sink=nobody&id=none", "")
	s.api(t, false, "POST", "/v1/sinks/"+sinks[0]+"/pause", "")
	s.api(t, false, "POST", "/v1/sinks/"+sinks[0]+"/resume", "")
	op := s.api(t, false, "POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"`+sinks[0]+`"},"reason":"sweep"}`).text("id")
	s.api(t, false, "GET", "/v1/dlq/operations/"+op, "")
	s.api(t, true, "POST", "/v1/dlq/operations/"+op+"/resume", "") // it is not stopped
	s.api(t, false, "POST", "/v1/dlq/operations/"+op+"/cancel", "")
	s.api(t, false, "DELETE", "/v1/dlq/items/webhook-404~1-1", "")
}

// unserved calls the functions while they cannot use Redis.
func (s swept) unserved(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, sink := range []string{"webhook-404", "faulty-00", "nobody"} {
		wg.Go(func() { s.api(t, false, "POST", "/v1/messages", `{"sink":"`+sink+`","message":{"body":"x"}}`) })
	}
	for _, path := range []string{"/v1/sinks", "/v1/dlq/items", "/v1/deliveries?sink=webhook-404&id=x"} {
		wg.Go(func() { s.api(t, false, "GET", path, "") })
	}
	wg.Go(func() { s.api(t, false, "DELETE", "/v1/deliveries?sink=webhook-404&id=x", "") })
	wg.Go(func() {
		s.api(t, false, "POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"webhook-404"},"reason":"sweep"}`)
	})
	wg.Go(func() { s.function(t, local.Queue, batch("webhook-404", "q9")) })
}

// kept reads everything that Redis holds.
func (s swept) kept(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	keys := c.Scan(t.Context(), 0, "*", 1000).Iterator()
	n := 0
	for keys.Next(t.Context()) {
		n++
		key := keys.Val()
		kind, err := c.Type(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		read := map[string][]any{
			"string": {"GET", key}, "hash": {"HGETALL", key}, "set": {"SMEMBERS", key}, "zset": {"ZRANGE", key, 0, -1}, "stream": {"XRANGE", key, "-", "+"}, "list": {"LRANGE", key, 0, -1},
		}[kind]
		if read == nil {
			t.Fatalf("%s is a %q", key, kind)
		}
		value, err := c.Do(t.Context(), read...).Result()
		if err != nil {
			t.Fatal(err)
		}
		s.add("kept: "+key, fmt.Sprint(value))
	}
	if err := keys.Err(); err != nil || n < 50 {
		t.Errorf("%d keys in Redis (%v), want those of every sink", n, err)
	}
}
