// Package redistest starts Redis servers for tests: real redis-server processes (single,
// TLS with an ACL user, a cluster of three masters and three replicas) on free loopback
// ports, and the embedded one (miniredis).
//
// A missing redis-server fails the test and names the package to install; nothing is
// ever skipped. Servers stop with the test that started them, and on Linux they die
// with the test process however it ends.
package redistest

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ClientOptions returns the options that all clients of this package use: contexts are
// honoured, time-outs are short, and nothing is sent besides the commands asked for.
func ClientOptions(addrs ...string) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs:                    addrs,
		ContextTimeoutEnabled:    true,
		DialTimeout:              2 * time.Second,
		DialerRetries:            1,
		ReadTimeout:              5 * time.Second,
		WriteTimeout:             5 * time.Second,
		PoolSize:                 16,
		PipelinePoolSize:         -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

var prefixes atomic.Int64

// Prefix returns a key prefix that no other test of this process uses. It starts with
// "backstop:", as the ACL user of WithTLS demands.
func Prefix() string { return fmt.Sprintf("backstop:t%d", prefixes.Add(1)) }

var shared struct {
	sync.Mutex
	server *Server
}

// Shared returns the server that all tests of this process share, and starts it when
// it is not running. Tests keep apart by Prefix and leave its configuration alone. It
// dies with the process on Linux; elsewhere call StopShared at the end of TestMain.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		// Nothing is persisted, so that the temporary folder stays empty.
		s := newServer(tb, os.TempDir(), nil)
		s.start(tb)
		shared.server = s
	}
	return shared.server
}

// StopShared stops the shared server, if one runs.
func StopShared() {
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.stop()
		shared.server = nil
	}
}

// Mini returns an embedded Redis and a client for it; both end with the test.
func Mini(tb testing.TB) (*miniredis.Miniredis, redis.UniversalClient) {
	tb.Helper()
	m := miniredis.RunT(tb)
	return m, newClient(tb, ClientOptions(m.Addr()))
}

func newClient(tb testing.TB, o *redis.UniversalOptions) redis.UniversalClient {
	tb.Helper()
	c := redis.NewUniversalClient(o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}
