package functions_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"backstop/internal/faultproxy"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

// faultTimeout is the functions' time-out under a faulty Redis.
const faultTimeout = 4 * time.Second

// wantFates sends to a healthy and to a broken sink, as a batch and one by one, and
// checks what becomes of them. stored says whether dead letters can be stored.
func wantFates(t *testing.T, s *local.Stack, fault string, stored bool) {
	t.Helper()
	healthy, broken := "ok-"+fault, "broken-"+fault
	if a := send(t, s, "webhook-demo", healthy, "x"); a.status != http.StatusOK {
		t.Errorf("%s: a healthy sink got %d %s, want 200", fault, a.status, a.raw)
	}
	a := send(t, s, "webhook-gone", broken, "x")
	if stored {
		if a.status != http.StatusAccepted || a.text("item_id") == "" {
			t.Errorf("%s: a broken sink got %d %s, want 202", fault, a.status, a.raw)
		}
	} else {
		wantProblem(t, fault+": a broken sink", a, http.StatusServiceUnavailable, "SINK_DLQ_UNAVAILABLE")
	}
	want := []string{}
	if !stored {
		want = []string{"q2-" + fault}
	}
	payload := strings.Replace(string(batch("webhook-demo", "q1-"+fault, "q2-"+fault, "q3-"+fault)),
		`\"webhook-demo\",\"message\":{\"body\":\"q2`, `\"webhook-gone\",\"message\":{\"body\":\"q2`, 1)
	failures(want...)(t, invoke(t, s, local.Queue, []byte(payload)).Payload)
	for _, f := range []string{local.Send, local.Queue} {
		if st := s.Host.Stats(f); st.Timeouts != 0 || st.Crashes != 0 {
			t.Errorf("%s: %s passed its deadline %d times and crashed %d times", fault, f, st.Timeouts, st.Crashes)
		}
	}
}

// Every fault of Redis ends in the right fate within the deadline, and is over when the
// fault is.
func TestEveryFaultOfRedisEndsInTheRightFate(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithAppendOnly())
	client := server.Client(t)
	proxy, err := faultproxy.Start(context.Background(), server.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	command := func(args ...any) {
		t.Helper()
		if err := client.Do(context.Background(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	o := local.Options{RedisURL: "redis://" + proxy.Addr, Timeout: faultTimeout, QueueTimeout: faultTimeout}
	s := start(t, o)
	wantFates(t, s, "none", true)

	for _, f := range []struct {
		name          string
		begin, end    func()
		stored, ended bool
	}{
		{"refused", func() { proxy.Set(faultproxy.Faults{Refuse: true}) }, nil, false, true},
		{"black-hole", func() { proxy.Set(faultproxy.Faults{Hold: true}) }, nil, false, true},
		{"slow", func() { proxy.Set(faultproxy.Faults{Delay: 60 * time.Millisecond}) }, nil, true, true},
		{"replies-dropped", func() { proxy.Set(faultproxy.Faults{DropReplies: 0.3}) }, nil, true, true},
		{"script-flush", func() { command("SCRIPT", "FLUSH") }, nil, true, true},
		{"readonly", func() { command("REPLICAOF", "127.0.0.1", "1") }, func() { command("REPLICAOF", "NO", "ONE") }, false, true},
		{"maxmemory", func() { command("CONFIG", "SET", "maxmemory", "1") }, func() { command("CONFIG", "SET", "maxmemory", "0") }, false, true},
		{"killed", func() { server.Kill(t) }, func() { server.Restart(t) }, false, true},
		{"restarted", func() { server.Restart(t) }, nil, true, true},
	} {
		f.begin()
		wantFates(t, s, f.name, f.stored)
		proxy.Set(faultproxy.Faults{})
		if f.end != nil {
			f.end()
		}
		wantFates(t, s, "after-"+f.name, true)
	}
}

// A Redis at maxmemory refuses new dead letters and can still be drained.
func TestARedisAtMaxmemoryCanBeDrained(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	s := start(t, local.Options{RedisURL: server.URL(), Timeout: faultTimeout})
	var ids []string
	for _, id := range []string{"m1", "m2", "m3"} {
		ids = append(ids, send(t, s, "webhook-down", id, "x").text("item_id"))
	}
	if err := client.ConfigSet(context.Background(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, "a new one", send(t, s, "webhook-gone", "m4", "x"), 503, "SINK_DLQ_UNAVAILABLE")
	if a := call(t, s, "DELETE", "/v1/dlq/items/"+ids[0], ""); a.status != http.StatusNoContent {
		t.Errorf("discard: %d %s", a.status, a.raw)
	}
	s.Inbox.HTTP.Heal(local.PathDown)
	if a := call(t, s, "POST", "/v1/dlq/items/"+ids[1]+"/replay", ""); a.status != 200 || a.text("status") != "delivered" {
		t.Errorf("replay of one: %d %s", a.status, a.raw)
	}
	if res := invoke(t, s, local.Replay, []byte(`{}`)); !strings.Contains(string(res.Payload), `"delivered":1`) {
		t.Errorf("scheduled replay: %s", res.Payload)
	}
	if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

func TestAWrongPasswordHandsBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	if err := server.Client(t).ConfigSet(context.Background(), "requirepass", "right").Err(); err != nil {
		t.Fatal(err)
	}
	s := start(t, local.Options{RedisURL: "redis://:wrong@" + server.Addr, Timeout: faultTimeout, QueueTimeout: faultTimeout})
	wantFates(t, s, "wrong-password", false)
}

// answering is a server that gives every command the same answer.
func answering(t *testing.T, answer string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					var args int
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if _, err := fmt.Sscanf(line, "*%d", &args); err != nil {
						return
					}
					for range args {
						var size int
						line, err := r.ReadString('\n')
						if err != nil {
							return
						}
						if _, err := fmt.Sscanf(line, "$%d", &size); err != nil {
							return
						}
						if _, err := r.Discard(size + 2); err != nil {
							return
						}
					}
					if _, err := io.WriteString(c, answer+"\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func TestAServerThatIsNotReadyHandsBack(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"loading":     "-LOADING Redis is loading the dataset in memory",
		"clusterdown": "-CLUSTERDOWN The cluster is down",
		"garbage":     "what?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, local.Options{RedisURL: "redis://" + answering(t, answer), Timeout: faultTimeout, QueueTimeout: faultTimeout})
			wantFates(t, s, name, false)
		})
	}
}
