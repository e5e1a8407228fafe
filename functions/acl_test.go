package functions_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/local"
	"backstop/internal/redistest"
)

// documentedUser is the line of redis.conf that docs/configuration.md asks for, and what
// it adds to it for a cluster.
func documentedUser(t *testing.T) (user, cluster string) {
	t.Helper()
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^    user (backstop on >password .+)$`).FindSubmatch(page)
	more := regexp.MustCompile("with `BACKSTOP_REDIS_CLUSTER` also `([^`]+)`").FindSubmatch(page)
	if line == nil || more == nil {
		t.Fatal("docs/configuration.md shows no ACL user, or nothing of clusters")
	}
	return string(line[1]), string(more[1])
}

// wantEverythingToWork uses every part of Redis that the functions use, as the user of
// the documentation.
func wantEverythingToWork(t *testing.T, s *local.Stack) {
	t.Helper()
	wantWholeStory(t, s, "m1")
	do := func(method, path, body string, status int) answer {
		t.Helper()
		a := call(t, s, method, path, body)
		if a.status != status {
			t.Errorf("%s %s: %d %s, want %d", method, path, a.status, a.raw, status)
		}
		return a
	}
	const down = "/v1/sinks/webhook-down"
	do("POST", down+"/pause", "", http.StatusOK)
	if a := send(t, s, "webhook-down", "d4", "x"); a.status != http.StatusAccepted || a.number("attempts") != 0 {
		t.Errorf("to a paused sink: %d %s", a.status, a.raw)
	}
	do("POST", down+"/resume", "", http.StatusOK)
	for _, id := range []string{"d1", "d2", "d3"} {
		if a := send(t, s, "webhook-down", id, "x"); a.status != http.StatusAccepted {
			t.Errorf("%s: %d %s", id, a.status, a.raw)
		}
	}
	if a := send(t, s, "webhook-down", "d1", "x"); a.body["duplicate"] != true {
		t.Errorf("a duplicate: %d %s", a.status, a.raw)
	}
	failures()(t, invoke(t, s, local.Queue, batch("webhook-down", "b1", "b2")).Payload)
	do("GET", "/v1/dlq/items?q=x&sink=webhook-down", "", http.StatusOK)
	do("POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"webhook-down"},"dry_run":true,"reason":"look"}`, http.StatusOK)
	s.Inbox.HTTP.Heal(local.PathDown)
	op := do("POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"webhook-down"},"reason":"healed"}`, http.StatusAccepted)
	eventually(t, "the bulk operation completes", func() error {
		a := call(t, s, "GET", "/v1/dlq/operations/"+op.text("id"), "")
		if a.text("status") != "completed" || a.number("delivered") != 6 {
			return fmt.Errorf("%d %s", a.status, a.raw)
		}
		return nil
	})
	do("GET", "/v1/sinks", "", http.StatusOK)
	do("POST", "/v1/dlq/operations/"+op.text("id")+"/cancel", "", http.StatusOK)
	if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

// The rights that the documentation lists are all that Backstop asks for: Redis itself
// notes every command that it refuses.
func TestTheDocumentedACLUserCanDoWhatTheFunctionsDo(t *testing.T) {
	t.Parallel()
	user, more := documentedUser(t)
	for name, cluster := range map[string]bool{"one server": false, "a cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := local.Options{Timeout: 10 * time.Second, Env: map[string]string{}}
			var nodes []*redistest.Server
			if cluster {
				nodes = redistest.StartCluster(t, redistest.WithConfig("user", user+" "+more)).Nodes
				o.Env["BACKSTOP_REDIS_CLUSTER"] = "true"
			} else {
				nodes = []*redistest.Server{redistest.Start(t, redistest.WithConfig("user", user))}
			}
			o.RedisURL = "redis://backstop:password@" + nodes[0].Addr
			wantEverythingToWork(t, start(t, o))
			for _, node := range nodes {
				wantNothingRefused(t, node)
			}
		})
	}
}

// wantNothingRefused checks a server's own log of refused commands, and that what a
// cache's users must not do is refused.
func wantNothingRefused(t *testing.T, server *redistest.Server) {
	t.Helper()
	admin := redis.NewClient(server.Options().Simple())
	defer func() { _ = admin.Close() }()
	refused, err := admin.ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refused {
		t.Errorf("%s refused %s %q (%s)", server.Addr, r.Username, r.Object, r.Reason)
	}
	for _, command := range []string{"FLUSHALL", "KEYS *", "CONFIG GET *", "SET other 1", "GET other", "ACL LIST", "SHUTDOWN"} {
		args := []any{"ACL", "DRYRUN", "backstop"}
		for word := range strings.FieldsSeq(command) {
			args = append(args, word)
		}
		if got, err := admin.Do(t.Context(), args...).Text(); err != nil || got == "OK" {
			t.Errorf("%s may be done by the documented user: %q, %v", command, got, err)
		}
	}
}
