package faultproxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"backstop/internal/faultproxy"
	"backstop/internal/redistest"
)

// tape keeps what a proxy records.
type tape struct {
	mu    sync.Mutex
	calls []faultproxy.Call
}

func (r *tape) add(calls []faultproxy.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, calls...)
}

// of returns the calls of a command.
func (r *tape) of(command string) []faultproxy.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.calls), func(c faultproxy.Call) bool { return c.Args[0] != command })
}

func recorded(t *testing.T) (server *redistest.Server, p *faultproxy.Proxy, client *redis.Client, r *tape) {
	t.Helper()
	server, r = redistest.Start(t), &tape{}
	p, err := faultproxy.Record(context.Background(), server.Addr, 1, r.add)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	client = redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	return server, p, client, r
}

// Many clients count up one number, alone and in pipelines: the recorded answers count up, too.
func TestTheRecordedOrderIsThatOfTheServer(t *testing.T) {
	_, _, client, r := recorded(t)
	var wg sync.WaitGroup
	const clients, rounds = 8, 25
	for range clients {
		wg.Go(func() {
			for i := range rounds {
				if i%5 > 0 {
					client.Incr(t.Context(), "n")
					continue
				}
				p := client.Pipeline()
				p.Incr(t.Context(), "n")
				p.Incr(t.Context(), "n")
				if _, err := p.Exec(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	calls := r.of("incr")
	if want := clients * rounds * 6 / 5; len(calls) != want {
		t.Fatalf("%d calls, want %d", len(calls), want)
	}
	for i, c := range calls {
		got, err := faultproxy.Value(c.Reply)
		if err != nil || got != int64(i+1) || c.From.After(c.To) {
			t.Fatalf("call %d: %v, %v, from %v to %v", i+1, got, err, c.From, c.To)
		}
	}
}

// A reply that is lost is that of a call that was executed.
func TestLostRepliesAreRecorded(t *testing.T) {
	server, p, client, r := recorded(t)
	p.Set(faultproxy.Faults{LoseAnswersTo: "lost"})
	if err := client.Set(t.Context(), "lost", "1", 0).Err(); err == nil {
		t.Error("the reply came")
	}
	p.Set(faultproxy.Faults{})
	if got := server.Client(t).Get(t.Context(), "lost").Val(); got != "1" {
		t.Errorf("the server has %q", got)
	}
	if err := client.Set(t.Context(), "kept", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, want := r.sets(), []string{"lost: lost", "kept: answered"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// sets says what became of the calls of set.
func (r *tape) sets() (all []string) {
	for _, c := range r.of("set") {
		what := "answered"
		switch {
		case c.Reply == nil:
			what = "unknown"
		case c.Lost:
			what = "lost"
		}
		all = append(all, c.Args[1]+": "+what)
	}
	return all
}

// Of a call that a server dies under nobody knows whether it was executed, nor of those behind it in its pipeline.
func TestCallsOfADeadServerAreUnknown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 1<<10))
		_, _ = io.WriteString(c, "+OK\r\n+O")
		_ = c.Close()
	}()
	r := &tape{}
	p, err := faultproxy.Record(context.Background(), ln.Addr().String(), 1, r.add)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	command := func(key string) string { return fmt.Sprintf("*3\r\n$3\r\nset\r\n$1\r\n%s\r\n$1\r\n1\r\n", key) }
	if _, err := io.WriteString(c, command("a")+command("b")+command("c")); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("got %q", answer)
	}
	if got, want := r.sets(), []string{"a: lost", "b: unknown", "c: unknown"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestValue(t *testing.T) {
	for raw, want := range map[string]any{
		"+OK\r\n": "OK", "-ERR no\r\n": faultproxy.Error("ERR no"), ":7\r\n": int64(7), "$-1\r\n": nil, "_\r\n": nil, "$3\r\na\r\n\r\n": "a\r\n",
		"*3\r\n:1\r\n$1\r\nx\r\n*1\r\n_\r\n": []any{int64(1), "x", []any{nil}}, "%1\r\n+k\r\n,1.5\r\n": []any{"k", "1.5"}, "#t\r\n": true, "*-1\r\n": nil,
	} {
		if got, err := faultproxy.Value([]byte(raw)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %#v, %v; want %#v", raw, got, err, want)
		}
	}
	for _, raw := range []string{"", "x", "?1\r\n", "$5\r\nab\r\n", "*2\r\n:1\r\n", ":x\r\n", "+a\r\n+b\r\n"} {
		if got, err := faultproxy.Value([]byte(raw)); err == nil {
			t.Errorf("%q: %#v, want an error", raw, got)
		}
	}
}
