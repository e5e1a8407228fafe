package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/redisclient"
)

// elastiCache stands in front of a real server as ElastiCache does with IAM: TLS, a
// token that is checked for every connection, and an end to each connection.
type elastiCache struct {
	name, user string
	addr       string
	roots      *x509.CertPool
	life       time.Duration // of a connection

	mu     sync.Mutex
	logins []iamLogin
}

// iamLogin is a connection's token, and when it came.
type iamLogin struct {
	token string
	at    time.Time
}

var iamAWS = aws.Config{Region: "eu-central-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "SECRET", SessionToken: "TO/KEN+="}, nil
})}

func startElastiCache(t *testing.T, life time.Duration) *elastiCache {
	t.Helper()
	backend := redistest.Shared(t).Addr
	known := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1
	defer known.Close()
	c := &elastiCache{name: "my-cache", user: "app-user", roots: x509.NewCertPool(), life: life}
	c.roots.AddCert(known.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: known.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	c.addr = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.serve(conn, backend) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return c
}

// serve lets a client in with a token, and then carries what it says to the server.
func (c *elastiCache) serve(client net.Conn, backend string) {
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(c.life))
	in := bufio.NewReader(client)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		if err := c.login(command); err == nil {
			break
		}
		_, _ = io.WriteString(client, "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	}
	server, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer server.Close()
	_, _ = io.WriteString(server, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n")
	go func() {
		_, _ = io.Copy(client, server)
		client.Close()
	}()
	_, _ = io.Copy(server, in)
}

// readCommand reads an array of bulk strings.
func readCommand(r *bufio.Reader) ([]string, error) {
	number := func() (int, error) {
		line, err := r.ReadString('\n')
		if err != nil || len(line) < 4 {
			return 0, errors.Join(err, errors.New("no length"))
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	if err != nil {
		return nil, err
	}
	out := make([]string, n)
	for i := range out {
		size, err := number()
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		out[i] = string(b[:size])
	}
	return out, nil
}

// login checks HELLO 3 AUTH user token: the token must be what AWS's rules make of the
// user, the cache and a time not longer ago than a token's life.
func (c *elastiCache) login(command []string) error {
	if len(command) < 5 || !strings.EqualFold(command[0], "hello") || command[3] != c.user {
		return fmt.Errorf("no login: %q", command)
	}
	token := command[4]
	u, err := url.Parse("http://" + token)
	if err != nil || u.Host != c.name {
		return fmt.Errorf("a token for %s: %w", u.Host, err)
	}
	at, err := time.Parse("20060102T150405Z", u.Query().Get("X-Amz-Date"))
	if err != nil || time.Since(at) > 900*time.Second || time.Until(at) > time.Minute {
		return fmt.Errorf("a token of %s: %w", at, err)
	}
	want := presign(c.name, iamAWS.Region, "elasticache", "AKID", "SECRET", "TO/KEN+=", at, url.Values{
		"Action": {"connect"}, "User": {c.user}, "X-Amz-Expires": {"900"}, "ResourceType": {"ServerlessCache"},
	})
	if got := u.Query().Get("X-Amz-Signature"); got != want {
		return fmt.Errorf("signature %s, want %s", got, want)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logins = append(c.logins, iamLogin{token, time.Now()})
	return nil
}

// options are those of the client that a function makes for the cache, which trusts its
// certificate. user is the one that the environment names.
func (c *elastiCache) options(user string) redisclient.Options {
	o := redisOptions(Env{
		RedisURL: &url.URL{Scheme: "rediss", Host: c.addr}, RedisIAMUser: user, RedisIAMCache: iamCache{Name: c.name, Serverless: true}, Concurrency: 4,
	}, func() (aws.Config, error) { return iamAWS, nil })
	o.TLS = &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12}
	return o
}

// newClient makes the client, which is not one of a cluster.
func newClient(t *testing.T, o redisclient.Options) *redis.Client {
	t.Helper()
	client, _, err := redisclient.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	single, ok := client.(*redis.Client)
	if !ok {
		t.Fatalf("a %T", client)
	}
	return single
}

// Hours are made seconds here: the cache ends connections after 3, the client before.
// Commands that run all the time notice nothing of it, each connection has a token of
// its own, and no connection depends on a token that was made for another one.
func TestConnectionsEndBeforeTheCacheEndsThem(t *testing.T) {
	t.Parallel()
	c := startElastiCache(t, 3*time.Second)
	o := c.options(c.user)
	if life := newClient(t, o).Options().ConnMaxLifetime; life <= 0 || life >= 12*time.Hour {
		t.Errorf("connections live %s, ElastiCache ends them after 12 h", life)
	}
	o.MaxLife = 500 * time.Millisecond
	client := newClient(t, o)
	client.Options().MaxRetries = 0 // a lost connection would be hidden

	key := redistest.Prefix() + ":counter"
	var wg sync.WaitGroup
	var mu sync.Mutex
	commands := 0
	outlived := func() bool { // the cache would have ended the first connection by now
		c.mu.Lock()
		defer c.mu.Unlock()
		n := len(c.logins)
		return n > 0 && c.logins[n-1].at.Sub(c.logins[0].at) > c.life
	}
	for range 4 {
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ; !outlived(); <-tick.C {
				if err := client.Incr(t.Context(), key).Err(); err != nil {
					t.Errorf("a command: %v", err)
					return
				}
				mu.Lock()
				commands++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n, err := client.Get(t.Context(), key).Int(); err != nil || n != commands {
		t.Errorf("%d commands were made, the server counted %d: %v", commands, n, err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.logins) < 4 || c.logins[len(c.logins)-1].at.Sub(c.logins[0].at) < time.Second {
		t.Fatalf("%d logins: connections were not made anew", len(c.logins))
	}
	for i, l := range c.logins {
		for _, earlier := range c.logins[:i] {
			if l.token == earlier.token && l.at.Sub(earlier.at) > 2*time.Second { // a token names its second
				t.Errorf("login %d used the token of one %s before", i, l.at.Sub(earlier.at))
			}
		}
	}
}

func TestARefusedTokenSaysWhatToCheck(t *testing.T) {
	t.Parallel()
	c := startElastiCache(t, 10*time.Second)
	client := newClient(t, c.options("somebody-else"))
	_, pipelined := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "a").Err() })
	for what, err := range map[string]error{"a command": client.Get(t.Context(), "a").Err(), "a pipeline": pipelined} {
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
		for _, want := range []string{"WRONGPASS", "the user somebody-else", "elasticache:Connect", "BACKSTOP_REDIS_IAM_CACHE", "region"} {
			if strings.Count(err.Error(), want) != 1 {
				t.Errorf("%s: %q has %q %d times, want once", what, err, want, strings.Count(err.Error(), want))
			}
		}
		if strings.Contains(err.Error(), "X-Amz") {
			t.Errorf("%s: the error shows the token: %v", what, err)
		}
		if _, ok := errors.AsType[redis.Error](err); !ok {
			t.Errorf("%s: %T is no redis.Error any more", what, err)
		}
	}
}

func TestARefusedPasswordOrCommandSaysWhatToCheck(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("user", "robot on >right ~backstop:* +@connection +get"))
	for name, c := range map[string]struct {
		e    Env
		want []string
	}{
		"a wrong password": {Env{RedisURL: &url.URL{Scheme: "redis", Host: server.Addr, User: url.UserPassword("robot", "wrong")}}, []string{"WRONGPASS", "BACKSTOP_REDIS_URL and BACKSTOP_REDIS_PASSWORD"}},
		"a command":        {Env{RedisURL: &url.URL{Scheme: "redis", Host: server.Addr, User: url.UserPassword("robot", "right")}}, []string{"NOPERM", "docs/configuration.md", "BACKSTOP_KEY_PREFIX"}},
	} {
		client := newClient(t, redisOptions(c.e, func() (aws.Config, error) { return aws.Config{}, errors.New("not asked for") }))
		err := client.Set(t.Context(), "backstop:x", "1", 0).Err()
		for _, want := range c.want {
			if err == nil || strings.Count(err.Error(), want) != 1 || strings.Contains(err.Error(), "wrong ") {
				t.Errorf("%s: %v, want %q once", name, err, want)
			}
		}
	}
	if got := loginAdvice(Env{RedisParameter: "/backstop/redis"}); !strings.Contains(got, "/backstop/redis") {
		t.Errorf("advice for a parameter: %q", got)
	}
}
