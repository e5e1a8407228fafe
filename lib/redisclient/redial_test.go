package redisclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/faultproxy"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// ways is a client as a function has it, with a proxy in front of each of its servers.
type ways struct {
	client  redis.UniversalClient
	proxies []*faultproxy.Proxy
	prefix  string
	// trusted counts the dead connections that the client used. Nil for a cluster, whose
	// replicas, too, come through the proxies.
	trusted func() int
}

func clientOf(t *testing.T, o Options) redis.UniversalClient {
	t.Helper()
	o.PoolSize = 50
	client, _, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func toSingle(t *testing.T) ways {
	p := redistest.Shared(t).Proxy(t)
	return ways{clientOf(t, Options{URL: "redis://" + p.Addr}), []*faultproxy.Proxy{p}, redistest.Prefix(), p.Swallowed}
}

func overTLS(t *testing.T) ways {
	server := redistest.Start(t, redistest.WithTLS())
	p := server.Proxy(t)
	client := clientOf(t, Options{
		URL: "rediss://" + redistest.User + ":" + redistest.Password + "@" + p.Addr,
		TLS: &tls.Config{RootCAs: server.Options().TLSConfig.RootCAs, MinVersion: tls.VersionTLS12},
	})
	return ways{client, []*faultproxy.Proxy{p}, redistest.Prefix(), p.Swallowed}
}

func toCluster(t *testing.T) ways {
	proxies := redistest.StartCluster(t).Proxies(t)
	client := clientOf(t, Options{URL: "redis://" + proxies[0].Addr, Cluster: true})
	return ways{client, proxies, redistest.Prefix(), nil}
}

// fill opens n connections to each server.
func (w ways) fill(t *testing.T, n int) {
	t.Helper()
	fill := func(ctx context.Context, c *redis.Client) error {
		for range n {
			conn := c.Conn()
			defer func() { _ = conn.Close() }()
			if err := conn.Ping(ctx).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	switch c := w.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), fill)
	case *redis.Client:
		err = fill(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w ways) swallow(t *testing.T, least int) {
	t.Helper()
	n := 0
	for _, p := range w.proxies {
		n += p.Swallow()
	}
	if n < least {
		t.Fatalf("%d connections were open, want %d", n, least)
	}
}

// questions are the calls that a function makes to Redis, each within its own time.
func (w ways) questions() map[string]func(context.Context, int) error {
	store := dlq.NewRedis(w.client, dlq.WithKeyPrefix(w.prefix))
	records := delivery.NewRedis(w.client, w.prefix, 0)
	operations := replay.NewRedisOperations(w.client, w.prefix)
	within := func(d time.Duration, f func(context.Context, int) error) func(context.Context, int) error {
		return func(ctx context.Context, i int) error {
			ctx, cancel := context.WithTimeout(ctx, d*slowdown)
			defer cancel()
			return f(ctx, i)
		}
	}
	return map[string]func(context.Context, int) error{
		"a dead letter": within(750*time.Millisecond, func(ctx context.Context, i int) error {
			_, err := store.Add(ctx, dlq.Item{
				Sink: fmt.Sprintf("sink-%d", i), DeliveryID: "d", Reason: dlq.ReasonExhausted, Message: sinks.Message{ID: "d", Body: "x"},
			})
			return err
		}),
		"a record": within(500*time.Millisecond, func(ctx context.Context, i int) error {
			_, _, err := records.Begin(ctx, delivery.Begin{Key: delivery.Key{Sink: fmt.Sprintf("sink-%d", i), ID: "d"}, Fingerprint: "f", Token: "t", Lease: time.Minute})
			return err
		}),
		"the records of a replay": within(500*time.Millisecond, func(ctx context.Context, i int) error {
			k := delivery.Key{Sink: fmt.Sprintf("sink-%d", i), ID: "d"}
			_, err := records.Update(ctx, delivery.Change{Key: k, Status: delivery.StatusDelivered, Fingerprint: "f"})
			return err
		}),
		"a claim": within(5*time.Second, func(ctx context.Context, i int) error {
			_, err := store.Claim(ctx, dlq.Claim{Sink: fmt.Sprintf("sink-%d", i), Limit: 5, TTL: time.Minute})
			return err
		}),
		"a list": within(5*time.Second, func(ctx context.Context, i int) error {
			_, err := store.Items(ctx, fmt.Sprintf("sink-%d", i), 10)
			return err
		}),
		"the operations": within(5*time.Second, func(ctx context.Context, _ int) error {
			_, err := operations.List(ctx, 10)
			return err
		}),
	}
}

// warm asks each question, so that scripts, commands and nodes are known.
func (w ways) warm(t *testing.T) {
	t.Helper()
	for what, ask := range w.questions() {
		for i := range 3 {
			if err := ask(t.Context(), i); err != nil {
				t.Fatalf("%s, before anything is wrong: %v", what, err)
			}
		}
	}
}

// A path that dies silently, as a frozen process behind a NAT finds it: one question finds
// it out, and nothing that was open before is trusted again.
func TestADeadPathIsFoundOutOnce(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) ways{"single": toSingle, "TLS": overTLS, "cluster": toCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.warm(t)
			for what, ask := range w.questions() {
				w.fill(t, 45)
				before := 0
				if w.trusted != nil {
					before = w.trusted()
				}
				w.swallow(t, 45)
				for i := range 60 {
					if err := ask(t.Context(), i%3); err != nil {
						t.Errorf("%s, call %d: %v", what, i, err)
					}
				}
				if w.trusted == nil {
					continue
				}
				if n := w.trusted() - before; n != 1 {
					t.Errorf("%s: %d dead connections were used, want 1", what, n)
				}
			}
		})
	}
}

// Calls that run at once all meet the dead path, and each needs no more than two tries.
func TestADeadPathCostsCallsThatRunAtOnceOneTimeOut(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) ways{"single": toSingle, "cluster": toCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.warm(t)
			for what, ask := range w.questions() {
				w.fill(t, 45)
				w.swallow(t, 45)
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() {
						if err := ask(t.Context(), i); err != nil {
							t.Errorf("%s, call %d: %v", what, i, err)
						}
					})
				}
				wg.Wait()
			}
		})
	}
}

// server answers each question after its time; a negative one is for ever.
type server struct {
	net.Conn
	takes atomic.Int64
}

// connect returns a connection that the redialer watches, to a server in the same bubble.
func connect(t *testing.T, r *redialer) (*connection, *server) {
	t.Helper()
	client, end := net.Pipe()
	s := &server{Conn: end}
	c := r.watch(client, client)
	t.Cleanup(func() {
		_ = c.Close()
		_ = end.Close()
	})
	go func() {
		b := make([]byte, 64)
		for {
			n, err := end.Read(b)
			if err != nil {
				return
			}
			takes := time.Duration(s.takes.Load())
			if takes < 0 {
				continue
			}
			time.Sleep(takes)
			if _, err := end.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	return c, s
}

// ask does what the client library does for a command.
func ask(c *connection, limit time.Duration) error {
	if _, err := c.SyscallConn(); err != nil {
		return err
	}
	_ = c.SetWriteDeadline(time.Now().Add(limit))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(limit))
	_, err := c.Read(make([]byte, 64))
	return err
}

// Only what may be dead is given up: not what was opened later, and not what has answered
// since the question that got no answer was asked.
func TestAnAnswerProvesThatAConnectionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &redialer{}
		dead, s := connect(t, r)
		idle, _ := connect(t, r)
		busy, _ := connect(t, r)
		s.takes.Store(-1)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := ask(dead, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a server that does not answer: %v, want a time-out", err)
			}
		})
		synctest.Wait()
		if err := ask(busy, time.Second); err != nil {
			t.Error(err)
		}
		young, _ := connect(t, r)
		wg.Wait()
		for name, c := range map[string]*connection{"one that answered since": busy, "one that is younger than the question": young} {
			if err := ask(c, time.Second); err != nil {
				t.Errorf("%s: %v, want it used", name, err)
			}
		}
		for name, c := range map[string]*connection{"the one that timed out": dead, "an idle one": idle} {
			if _, err := c.Write([]byte("x")); !errors.Is(err, io.EOF) {
				t.Errorf("%s can be written to: %v", name, err)
			}
			if err := ask(c, time.Second); !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v, want it given up", name, err)
			}
		}
	})
}

// A call without time left says nothing of the path, nor does a server that hangs up.
func TestOnlySilenceIsSuspicious(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &redialer{}
		late, _ := connect(t, r)
		ended, s := connect(t, r)
		other, _ := connect(t, r)
		if _, err := late.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = late.SetReadDeadline(time.Now().Add(-time.Second))
		if _, err := late.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a time-out", err)
		}
		_ = s.Close()
		if err := ask(ended, time.Second); err == nil {
			t.Error("a closed connection answered")
		}
		if err := ask(other, time.Second); err != nil {
			t.Errorf("another connection: %v", err)
		}
	})
}

// A connection that was silent for a while gets little time for the first byte; one that
// is new or has just answered gets all of it, and so does the rest of an answer.
func TestASilentConnectionIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &redialer{Patience: 250 * time.Millisecond}
		c, s := connect(t, r)
		s.takes.Store(int64(500 * time.Millisecond))
		for range 2 {
			if err := ask(c, time.Second); err != nil {
				t.Fatalf("a slow server: %v", err)
			}
		}
		time.Sleep(time.Minute)
		s.takes.Store(int64(200 * time.Millisecond))
		if err := ask(c, time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil { // hot again
			t.Fatal(err)
		}
		time.Sleep(600 * time.Millisecond)
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("the end for the first byte was kept for later ones: %v", err)
		}
		time.Sleep(time.Minute)
		s.takes.Store(-1)
		start := time.Now()
		err := ask(c, time.Second)
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != r.Patience {
			t.Errorf("%v after %s, want a time-out after %s", err, took, r.Patience)
		}
	})
}
