package functions_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"backstop/internal/faultproxy"
	"backstop/internal/inbox"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

// names are n ids.
func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return all
}

// enough dead connections are so many that an invocation has not the time to find them out one by one.
const enough = int(faultTimeout/(250*time.Millisecond)) + 4

// A path to Redis that dies silently, as a frozen process behind a NAT finds it: dozens of
// pooled connections whose packets vanish, while new ones work. Every function finds it out
// within one invocation and does its work all the same.
func TestAFunctionSurvivesAPathThatDiedSilently(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T) ([]*faultproxy.Proxy, map[string]string){
		"single": func(t *testing.T) ([]*faultproxy.Proxy, map[string]string) {
			return []*faultproxy.Proxy{redistest.Start(t).Proxy(t)}, nil
		},
		"cluster": func(t *testing.T) ([]*faultproxy.Proxy, map[string]string) {
			return redistest.StartCluster(t).Proxies(t), map[string]string{"BACKSTOP_REDIS_CLUSTER": "true"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxies, env := begin(t)
			in, dir := onesThatFail(t)
			s := start(t, local.Options{
				Sinks: "file:" + dir, RedisURL: "redis://" + proxies[0].Addr, Env: env, Timeout: faultTimeout, QueueTimeout: faultTimeout, ReplayTimeout: 2 * faultTimeout,
			})
			kept := 0
			keep := func(what, sink string, ids []string) {
				t.Helper()
				failures()(t, invoke(t, s, local.Queue, batch(sink, ids...)).Payload)
				if kept += len(ids); t.Failed() {
					t.Fatalf("not every record of %s is safe", what)
				}
			}
			tick := func(what string, want int) {
				t.Helper()
				res := invoke(t, s, local.Replay, []byte(`{}`))
				if res.FunctionError != "" || !strings.Contains(string(res.Payload), fmt.Sprintf(`"delivered":%d,`, want)) {
					t.Errorf("%s: %s, want %d delivered", what, res.Payload, want)
				}
				kept -= want
			}
			for round := range 2 {
				id := func(what string) string { return fmt.Sprintf("%s-%d", what, round) }
				in.HTTP.Set(local.PathDown, inbox.Always(inbox.Reply{Status: http.StatusServiceUnavailable}))
				// Each process opens what a busy one has: while answers take their time, all
				// records of a batch ask at once, or nearly so on a busy machine.
				for _, p := range proxies {
					p.Set(faultproxy.Faults{Delay: 50 * time.Millisecond})
				}
				open, batches := 0, 0
				for ; batches == 0 || open < enough && batches < 4; batches++ {
					keep("a large batch", "webhook-gone", names(id(fmt.Sprint("gone-", batches)), 50))
					keep("a large batch", "webhook-down", names(id(fmt.Sprint("down-", batches)), 50))
					open = 0
					for _, p := range proxies {
						open += p.Open()
					}
				}
				for _, p := range proxies {
					p.Set(faultproxy.Faults{})
				}
				in.HTTP.Heal(local.PathDown)
				tick("a tick over a path that lives", 50*batches)
				if got := call(t, s, "GET", "/v1/dlq/items?limit=1", ""); got.status != http.StatusOK {
					t.Fatalf("list: %d %s", got.status, got.raw)
				}
				if got := send(t, s, "webhook-gone", id("warm"), "x"); got.status != http.StatusAccepted {
					t.Fatalf("send: %d %s", got.status, got.raw)
				}
				kept++

				dead := 0
				for _, p := range proxies {
					dead += p.Swallow()
				}
				if dead < enough {
					t.Fatalf("%d connections were open, want %d at least", dead, enough)
				}
				keep("a batch of ten", "webhook-gone", names(id("ten"), 10))
				if got := send(t, s, "webhook-gone", id("direct"), "x"); got.status != http.StatusAccepted {
					t.Errorf("direct: %d %s", got.status, got.raw)
				}
				kept++
				tick("a tick", 0)
				got := call(t, s, "GET", "/v1/dlq/items?limit=500", "")
				items, _ := got.body["items"].([]any)
				if got.status != http.StatusOK || len(items) != kept {
					t.Errorf("list: %d with %d items, want %d", got.status, len(items), kept)
				}
			}
			for _, f := range []string{local.Send, local.Queue, local.Replay, local.DLQAPI} {
				if st := s.Host.Stats(f); st.Timeouts != 0 || st.Crashes != 0 {
					t.Errorf("%s passed its deadline %d times and crashed %d times", f, st.Timeouts, st.Crashes)
				}
			}
		})
	}
}

// onesThatFail returns an inbox and a folder of sinks that post to it: one whose messages are
// refused for good, and one that may be down and is tried all the same.
func onesThatFail(t *testing.T) (*inbox.Inbox, string) {
	t.Helper()
	in, err := inbox.Start(t.Context(), inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	dir := t.TempDir()
	for name, text := range map[string]string{
		"webhook-gone": "kind: webhook\nurl: " + in.URL + local.PathGone + "\nconcurrency: 50\n",
		"webhook-down": "kind: webhook\nurl: " + in.URL + local.PathDown + "\nretry: {max_attempts: 2, base_backoff: 200ms}\nbreaker: off\nconcurrency: 50\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in.HTTP.Set(local.PathGone, inbox.Always(inbox.Reply{Status: http.StatusNotFound}))
	return in, dir
}
