package functions_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/local"
	"backstop/internal/redistest"
)

// overTLS is Options for a stack on a server that speaks TLS only and knows only an ACL
// user, whose rights are those that docs/configuration.md asks for. The functions trust
// the server's certificate by the variable that Go reads.
func overTLS(t *testing.T, server *redistest.Server) local.Options {
	t.Helper()
	return local.Options{
		RedisURL: server.URL(), Timeout: 10 * time.Second,
		Env: map[string]string{
			"BACKSTOP_KEY_PREFIX": redistest.Prefix(),
			"SSL_CERT_FILE":       filepath.Join(server.Dir, "tls.crt"),
		},
	}
}

// wantWholeStory dead-letters a message, finds it, replays it and discards it.
func wantWholeStory(t *testing.T, s *local.Stack, id string) {
	t.Helper()
	a := send(t, s, "webhook-gone", id, "x")
	if a.status != http.StatusAccepted {
		t.Fatalf("send: %d %s", a.status, a.raw)
	}
	item := "/v1/dlq/items/" + a.text("item_id")
	if got := call(t, s, "GET", item, ""); got.text("delivery_id") != id {
		t.Errorf("get: %d %s", got.status, got.raw)
	}
	if got := call(t, s, "GET", "/v1/dlq/count", "").number("count"); got != 1 {
		t.Errorf("count %d, want 1", got)
	}
	for _, path := range []string{"/v1/sinks", "/v1/dlq/items", "/v1/dlq/groups", "/v1/dlq/operations", "/v1/deliveries?sink=webhook-gone&id=" + id} {
		if got := call(t, s, "GET", path, ""); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, got.status, got.raw)
		}
	}
	s.Inbox.HTTP.Heal(local.PathGone)
	if got := call(t, s, "POST", item+"/replay", `{"on_success":"keep"}`); got.text("status") != "delivered" {
		t.Errorf("replay: %d %s", got.status, got.raw)
	}
	if res := invoke(t, s, local.Replay, []byte(`{}`)); res.FunctionError != "" {
		t.Errorf("the schedule: %s", res.Payload)
	}
	if got := call(t, s, "DELETE", item, ""); got.status != http.StatusNoContent {
		t.Errorf("discard: %d %s", got.status, got.raw)
	}
}

func TestTheFunctionsWorkOverTLSAsAnACLUser(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithTLS())
	wantWholeStory(t, start(t, overTLS(t, server)), "m1")

	o := overTLS(t, server)
	delete(o.Env, "SSL_CERT_FILE")
	s := start(t, o)
	a := send(t, s, "webhook-gone", "m2", "x")
	wantProblem(t, "a certificate that nobody trusts", a, http.StatusServiceUnavailable, "SINK_DLQ_UNAVAILABLE")
	if !strings.Contains(a.raw, "certificate") {
		t.Errorf("the problem does not say that it is the certificate: %s", a.raw)
	}
}

// failing sends several messages at once to a broken sink, and notes those that were
// said to be kept.
func failing(t *testing.T, s *local.Stack, round string, kept map[string]bool) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range 6 {
		id := fmt.Sprintf("%s-%d", round, i)
		wg.Go(func() {
			a := send(t, s, "webhook-gone", id, "x")
			if a.status != http.StatusAccepted || a.text("item_id") == "" {
				t.Errorf("%s: %d %s, want 202: the server is there", id, a.status, a.raw)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			kept[id] = true
		})
	}
	wg.Wait()
}

// wantKept checks that each message is in the queue exactly once.
func wantKept(t *testing.T, s *local.Stack, kept map[string]bool) {
	t.Helper()
	list := call(t, s, "GET", "/v1/dlq/items?limit=500", "")
	items, _ := list.body["items"].([]any)
	count := map[string]int{}
	for _, it := range items {
		m, _ := it.(map[string]any)
		id, _ := m["delivery_id"].(string)
		count[id]++
	}
	for id := range kept {
		if count[id] != 1 {
			t.Errorf("%s is kept %d times, want once", id, count[id])
		}
	}
	if len(count) != len(kept) {
		t.Errorf("%d dead letters, want %d: %s", len(count), len(kept), list.raw)
	}
}

// Over TLS the pool cannot see that a connection is dead: the first use after a restart
// ends with EOF, and no dead letter may be lost or doubled by that.
func TestConnectionsThatTheServerClosedCostNoDeadLetter(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithTLS(), redistest.WithConfig("user", "admin on >admin ~* &* +@all"))
	options := server.Options()
	options.Username, options.Password = "admin", "admin"
	admin := redis.NewUniversalClient(options)
	defer func() { _ = admin.Close() }()
	s := start(t, overTLS(t, server))
	kept := map[string]bool{}
	failing(t, s, "warm", kept)
	do := func(args ...any) {
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	// A snapshot, not the append-only file: Redis 7 (redis/redis issue 14541) drops
	// every transaction from that when the user "default" is off, and each script is one.
	restart := func() {
		do("SAVE")
		server.Restart(t)
	}
	for round, closeAll := range []func(){func() { do("CLIENT", "KILL", "USER", redistest.User) }, restart, restart} {
		closeAll()
		failing(t, s, fmt.Sprintf("round-%d", round), kept)
	}
	wantKept(t, s, kept)
}

// The password comes from Parameter Store, and every new connection reads it again: a
// rotation costs no dead letter and no restart.
func TestARotatedPasswordIsPickedUp(t *testing.T) {
	t.Parallel()
	store, storeURL := startParameterStore(t)
	server := redistest.Start(t, redistest.WithConfig("user", "robot on >first ~* &* +@all"))
	admin := server.Client(t)
	store.put("/backstop/prod/redis", "first")
	s := start(t, local.Options{
		RedisURL: "redis://robot@" + server.Addr, Timeout: 10 * time.Second,
		Env: map[string]string{
			"BACKSTOP_KEY_PREFIX": redistest.Prefix(), "BACKSTOP_REDIS_PASSWORD": "ssm:/backstop/prod/redis", "AWS_ENDPOINT_URL_SSM": storeURL,
		},
	})
	kept := map[string]bool{}
	failing(t, s, "first", kept)

	// As ElastiCache rotates: both are valid, the parameter changes, the old one goes.
	do := func(args ...any) {
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	do("ACL", "SETUSER", "robot", ">second")
	store.put("/backstop/prod/redis", "second")
	do("ACL", "SETUSER", "robot", "<first")
	failing(t, s, "during", kept) // open connections stay
	do("CLIENT", "KILL", "USER", "robot")
	failing(t, s, "after", kept)
	wantKept(t, s, kept)
	if cold := s.Host.Stats(local.Send).ColdStarts; cold > 6 {
		t.Errorf("%d processes were started for 6 at once: they should have reconnected", cold)
	}
}
