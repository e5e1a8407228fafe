package dlq_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/dlq/dlqtest"
)

// quoted matches one argument of a line of MONITOR.
var quoted = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)

// TestScriptsTouchOnlyDeclaredKeys watches a server while the whole conformance suite
// runs and compares the keys that scripts touch with those that their calls declared.
func TestScriptsTouchOnlyDeclaredKeys(t *testing.T) {
	srv := redistest.Start(t)
	conn, err := net.Dial("tcp", srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(conn, 1<<20)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	declared := map[string]bool{}
	touched := map[string]int{}
	wg.Go(func() {
		for {
			line, err := lines.ReadString('\n')
			if err != nil || strings.Contains(line, `"the suite has ended"`) {
				return
			}
			script := strings.Contains(line[:min(len(line), 60)], " lua]")
			var args []string
			for _, m := range quoted.FindAllStringSubmatch(line[:min(len(line), 32<<10)], 100) {
				args = append(args, m[1])
			}
			if len(args) < 2 {
				continue
			}
			switch name := strings.ToLower(args[0]); {
			case script:
				touched[name]++
				if !declared[args[1]] {
					t.Errorf("a script used %s on %s, which its call did not declare", name, args[1])
				}
			case name == "eval" || name == "evalsha":
				clear(declared)
				var n int
				if _, err := fmt.Sscan(args[2], &n); err != nil {
					t.Errorf("number of keys: %v", err)
				}
				for _, k := range args[3:min(len(args), 3+n)] {
					declared[k] = true
				}
			}
		}
	})
	b := backend(t, srv.Client(t))
	for _, rule := range dlqtest.Cases() {
		switch rule.Name {
		case "a page is bounded by bytes", "large batches and large items", "many ids, bounded by limit and bytes", "items beyond one page", "more contents than a push key tells", "many leases do not hide what expired":
			// They differ from the others in size only, and watching is slow.
		default:
			t.Run(rule.Name, func(t *testing.T) { rule.Verify(t, b) })
		}
	}
	if err := srv.Client(t).Echo(context.Background(), "the suite has ended").Err(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for _, name := range []string{"xadd", "xdel", "hget", "zadd", "hincrby", "pexpire"} {
		if touched[name] == 0 {
			t.Errorf("no script was seen using %s: the test watches nothing", name)
		}
	}
}

// TestKeysOfOneQueueShareASlot computes slots by the cluster specification for names
// that try to split them.
func TestKeysOfOneQueueShareASlot(t *testing.T) {
	names := []string{"mail", "a.b-c_d", "0", "meta", "dlq", "sinks", strings.Repeat("x", 64), "a..--__", "op", "claim"}
	prefixes := []string{"backstop", "b:dlq:x", "a.b:c-d", strings.Repeat("p", 64)}
	c := redistest.Start(t).Client(t) // of its own: the prefixes are fixed
	c.AddHook(commandCheck{t})        // fails when the keys of a call are in several slots
	for _, prefix := range prefixes {
		s := dlq.NewRedis(c, dlq.WithKeyPrefix(prefix), dlq.WithMaxLen(2))
		for _, sink := range names {
			ctx := t.Context()
			for i := range 3 {
				mustAdd(t, s, message(sink, fmt.Sprint(i)))
			}
			leased, err := s.Claim(ctx, dlq.Claim{Sink: sink, Limit: 2, TTL: time.Minute, Token: "T:.-_9"})
			if err != nil || len(leased) != 2 {
				t.Fatalf("Claim(%s) = %d, %v", sink, len(leased), err)
			}
			if _, err := s.Settle(ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionPark, Error: "x", Operation: "o:.-_9"}}); err != nil {
				t.Fatal(err)
			}
			if err := s.Release(ctx, []dlq.Lease{leased[1].Lease}); err != nil {
				t.Fatal(err)
			}
			if err := s.Unpark(ctx, leased[0].ID); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Page(ctx, dlq.Query{Sink: sink}); err != nil {
				t.Fatal(err)
			}
			if err := s.Discard(ctx, leased[0].ID); err != nil {
				t.Fatal(err)
			}
		}
		// Every key there is belongs to the slot of its stream.
		keys, err := c.Keys(t.Context(), "*"+prefix+":*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			stream, companion := strings.CutPrefix(k, "{")
			if stream, _, _ = strings.Cut(stream, "}"); companion && slot(k) != slot(stream) {
				t.Errorf("%s is in slot %d, its stream in %d", k, slot(k), slot(stream))
			}
		}
	}
	if slot("foo") != 12182 || slot("{user1000}.following") != slot("user1000") || slot("foo{}{bar}") != 8363 {
		t.Error("the test's own slots disagree with the specification's examples")
	}
}

func TestKeysNamedByCallersExpireOnceNothingRestsOnThem(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	mustAdd(t, s, message("mail", "a"))
	leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", TTL: time.Minute, Token: "t"})
	if err != nil || len(leased) != 1 {
		t.Fatalf("Claim = %d, %v", len(leased), err)
	}
	wantTTL := func(name string, least, most time.Duration) {
		t.Helper()
		ttl, err := c.PTTL(t.Context(), "{"+s.prefix+":dlq:mail}:"+name).Result()
		if err != nil || ttl < least || ttl > most {
			t.Errorf("%s lives for %s, %v; want %s to %s", name, ttl, err, least, most)
		}
	}
	wantTTL("claim:t", 10*time.Minute, 11*time.Minute)
	if _, err := s.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionDiscard, Operation: "o"}}); err != nil {
		t.Fatal(err)
	}
	wantTTL("claim:t", 9*time.Minute, 10*time.Minute)
	wantTTL("op:o", -1, -1) // none
	if err := s.EndOperation(t.Context(), "o", "mail"); err != nil {
		t.Fatal(err)
	}
	wantTTL("op:o", dlq.OperationRetention-time.Minute, dlq.OperationRetention)
}
