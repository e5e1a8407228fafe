package app

import (
	"crypto/tls"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A client in a function needs settings of its own: the library's defaults outlive an
// invocation's deadline, and do not know how ElastiCache ends connections.
func TestTheClientIsSetForAFunction(t *testing.T) {
	t.Parallel()
	type settings struct {
		contexts, identity, maintenance bool
		pool, pipelinePool, dials       int
		dial, read, write, idle, life   time.Duration
		minTLS                          uint16
	}
	want := settings{
		contexts: true, pool: 50, pipelinePool: -1, dials: 1,
		dial: time.Second, read: time.Second, write: time.Second, idle: 300 * time.Second, life: 11 * time.Hour, minTLS: tls.VersionTLS12,
	}
	for _, cluster := range []bool{false, true} {
		// One address alone does not make a cluster client.
		client, _, _, err := redisClient(Env{RedisURL: &url.URL{Scheme: "rediss", Host: "cache.example:6379"}, RedisCluster: cluster, Concurrency: 50},
			func() (aws.Config, error) { return aws.Config{}, errors.New("not asked for") })
		if err != nil {
			t.Fatal(err)
		}
		var got settings
		switch c := client.(type) {
		case *redis.Client:
			o := c.Options()
			got = settings{
				o.ContextTimeoutEnabled, !o.DisableIdentity, o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled,
				o.PoolSize, o.PipelinePoolSize, o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ConnMaxIdleTime, o.ConnMaxLifetime, o.TLSConfig.MinVersion,
			}
		case *redis.ClusterClient:
			o := c.Options()
			got = settings{
				o.ContextTimeoutEnabled, !o.DisableIdentity, o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled,
				o.PoolSize, o.PipelinePoolSize, o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ConnMaxIdleTime, o.ConnMaxLifetime, o.TLSConfig.MinVersion,
			}
		}
		if _, is := client.(*redis.ClusterClient); is != cluster {
			t.Errorf("cluster %v: the client is a %T", cluster, client)
		}
		if got != want {
			t.Errorf("cluster %v: settings %+v, want %+v", cluster, got, want)
		}
		_ = client.Close()
	}
}
