package redisclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"backstop/internal/redistest"
	"backstop/lib/fault"
)

// The library's defaults outlive a caller's deadline, and do not know how ElastiCache ends
// connections.
func TestZeroOptionsAreTheDefaults(t *testing.T) {
	t.Parallel()
	type settings struct {
		contexts, identity, maintenance bool
		pool, pipelinePool, dials       int
		dial, read, write, idle, life   time.Duration
		minTLS                          uint16
	}
	defaults := settings{
		contexts: true, pool: 10, pipelinePool: -1, dials: 1,
		dial: time.Second, read: time.Second, write: time.Second, idle: 300 * time.Second, life: 11 * time.Hour, minTLS: tls.VersionTLS12,
	}
	own := settings{
		contexts: true, pool: 50, pipelinePool: -1, dials: 1,
		dial: 2 * time.Second, read: 3 * time.Second, write: 3 * time.Second, idle: 4 * time.Second, life: 5 * time.Second, minTLS: tls.VersionTLS13,
	}
	const url = "rediss://cache.example:6379"
	for _, c := range []struct {
		o    Options
		want settings
	}{
		{Options{URL: url}, defaults},
		{Options{
			URL: url, PoolSize: 50, DialTimeout: 2 * time.Second, Timeout: 3 * time.Second, MaxIdle: 4 * time.Second, MaxLife: 5 * time.Second,
			TLS: &tls.Config{MinVersion: tls.VersionTLS13},
		}, own},
	} {
		for _, cluster := range []bool{false, true} {
			c.o.Cluster = cluster
			client, _, err := New(c.o)
			if err != nil {
				t.Fatal(err)
			}
			var got settings
			switch client := client.(type) {
			case *redis.Client:
				o := client.Options()
				got = settings{
					o.ContextTimeoutEnabled, !o.DisableIdentity, o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled,
					o.PoolSize, o.PipelinePoolSize, o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ConnMaxIdleTime, o.ConnMaxLifetime, o.TLSConfig.MinVersion,
				}
			case *redis.ClusterClient:
				o := client.Options()
				got = settings{
					o.ContextTimeoutEnabled, !o.DisableIdentity, o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled,
					o.PoolSize, o.PipelinePoolSize, o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ConnMaxIdleTime, o.ConnMaxLifetime, o.TLSConfig.MinVersion,
				}
			}
			// One address alone does not make a cluster client.
			if _, is := client.(*redis.ClusterClient); is != cluster {
				t.Errorf("cluster %v: the client is a %T", cluster, client)
			}
			if got != c.want {
				t.Errorf("cluster %v: settings %+v, want %+v", cluster, got, c.want)
			}
			_ = client.Close()
		}
	}
}

func TestUnusableOptionsAreRefusedWithoutTheirPassword(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"no URL":                {},
		"no scheme":             {URL: "localhost:6379"},
		"another scheme":        {URL: "http://:hush@h"},
		"a socket":              {URL: "unix://:hush@/tmp/redis.sock"},
		"no URL at all":         {URL: "redis://:hush@h:port"},
		"a database that is no": {URL: "redis://:hush@h/one"},
		"a deep path":           {URL: "redis://:hush@h/0/1"},
		"an option":             {URL: "redis://:hush@h?dial_timeout=5s"},
		"a bad database":        {URL: "redis://:hush@h?db=hush"},
		"a negative pool":       {URL: "redis://:hush@h", PoolSize: -1},
		"a negative time-out":   {URL: "redis://:hush@h", Timeout: -1},
	} {
		client, connections, err := New(o)
		if fault.CodeOf(err) != fault.CodeInvalidArgument || client != nil || connections != nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %s without the password", name, err, fault.CodeInvalidArgument)
		}
	}
	client, _, err := New(Options{URL: "rediss://h/?db=3&skip_verify=true"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	single, ok := client.(*redis.Client)
	if o := single.Options(); !ok || o.DB != 3 || !o.TLSConfig.InsecureSkipVerify || o.Addr != "h:6379" {
		t.Errorf("got %+v", o)
	}
}

// A rotated password works from the next connection on, and a reader's error reaches the call.
func TestEachConnectionHasItsOwnCredentials(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("user", "robot on >one >two ~* +@all"))
	no := errors.New("no password today")
	var password string
	var bad error
	client, connections, err := New(Options{URL: "redis://" + server.Addr, Credentials: func(context.Context) (string, string, error) {
		return "robot", password, bad
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, password = range []string{"one", "two"} {
		if who, err := client.Do(t.Context(), "ACL", "WHOAMI").Text(); err != nil || who != "robot" {
			t.Errorf("with %s: %q, %v", password, who, err)
		}
		connections.HangUp()
	}
	password = "three"
	if err := client.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "three") {
		t.Errorf("with a wrong password: %v", err)
	}
	bad = no
	if err := client.Ping(t.Context()).Err(); !errors.Is(err, no) {
		t.Errorf("without a password: %v, want the reader's error", err)
	}
}

// What a process does at its end: its connections are closed at once, and nothing that is
// asked after all is lost.
func TestHangUpClosesConnectionsAndTheClientDialsAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, connections, err := New(Options{URL: "redis://" + server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	observer := server.Client(t)
	ids := func() string {
		list, err := observer.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	own := func() string {
		id, err := client.ClientID(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("id=%d ", id)
	}
	first := own()
	if again := own(); again != first || !strings.Contains(ids(), first) {
		t.Fatalf("connections %q and %q, want one", first, again)
	}
	connections.HangUp()
	if second := own(); second == first {
		t.Errorf("the connection %q is used after it was hung up", second)
	}
	if list := ids(); strings.Contains(list, first) {
		t.Errorf("%q is still open: %s", first, list)
	}
}

func TestAdviceIsAddedOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("user", "robot on >right ~* +@connection +get"))
	for login, want := range map[string]string{"robot:wrong": "look at the login", "robot:right": "look at the rights"} {
		client, _, err := New(Options{URL: "redis://" + login + "@" + server.Addr, LoginAdvice: "look at the login", RightsAdvice: "look at the rights"})
		if err != nil {
			t.Fatal(err)
		}
		err = client.Set(t.Context(), "x", "1", 0).Err()
		_ = client.Close()
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("%s: %v, want %q once", login, err, want)
		}
	}
}
