package app

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"backstop/lib/redisclient"
)

func TestTheEnvironmentSaysHowRedisIsCalled(t *testing.T) {
	t.Parallel()
	loadAWS := func() (aws.Config, error) { return aws.Config{}, errors.New("not asked for") }
	for name, c := range map[string]struct {
		e    Env
		want redisclient.Options
		read bool // credentials are read for each connection
	}{
		"least": {
			Env{RedisURL: &url.URL{Scheme: "rediss", Host: "cache.example:6379"}},
			redisclient.Options{URL: "rediss://cache.example:6379", PoolSize: 10, Patience: 250 * time.Millisecond},
			false,
		},
		"a pool as large as the concurrency, a patience as long as the reserve allows": {
			Env{RedisURL: &url.URL{Scheme: "redis", Host: "cache.example", User: url.UserPassword("robot", "a")}, Concurrency: 50, Reserve: 2 * time.Second, RedisCluster: true},
			redisclient.Options{URL: "redis://robot:a@cache.example", PoolSize: 50, Patience: 500 * time.Millisecond, Cluster: true},
			false,
		},
		"a password of its own": {
			Env{RedisURL: &url.URL{Scheme: "redis", Host: "cache.example", User: url.UserPassword("robot", "a"), Path: "/3"}, RedisPassword: "b@/%"},
			redisclient.Options{URL: "redis://robot:b%40%2F%25@cache.example/3", PoolSize: 10, Patience: 250 * time.Millisecond},
			false,
		},
		"a parameter": {
			Env{RedisURL: &url.URL{Scheme: "redis", Host: "cache.example", User: url.User("robot")}, RedisParameter: "/p"},
			redisclient.Options{URL: "redis://robot@cache.example", PoolSize: 10, Patience: 250 * time.Millisecond},
			true,
		},
	} {
		got := redisOptions(c.e, loadAWS)
		if got.URL != c.want.URL || got.Cluster != c.want.Cluster || got.PoolSize != c.want.PoolSize || got.Patience != c.want.Patience || (got.Credentials != nil) != c.read {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got.LoginAdvice == "" || got.RightsAdvice == "" {
			t.Errorf("%s: no advice", name)
		}
	}
}
