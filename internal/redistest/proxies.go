package redistest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"backstop/internal/await"
	"backstop/internal/faultproxy"
)

// Proxy puts a proxy in front of the server, until the test's end.
func (s *Server) Proxy(tb testing.TB) *faultproxy.Proxy {
	tb.Helper()
	p, err := faultproxy.Start(context.Background(), s.Addr, 1)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// Proxies puts a proxy in front of each node and has the nodes announce the proxies as
// their own ports, to clients and replicas alike. It waits until all nodes know of it.
func (c *Cluster) Proxies(tb testing.TB) []*faultproxy.Proxy {
	tb.Helper()
	ctx := context.Background()
	proxies := make([]*faultproxy.Proxy, len(c.Nodes))
	clients := make([]*redis.Client, len(c.Nodes))
	ports := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		proxies[i] = s.Proxy(tb)
		_, port, err := net.SplitHostPort(proxies[i].Addr)
		if err != nil {
			tb.Fatal(err)
		}
		ports[i], clients[i] = port, redis.NewClient(s.Options().Simple())
		defer func() { _ = clients[i].Close() }()
		if err := clients[i].ConfigSet(ctx, "cluster-announce-port", port).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, client := range clients {
		await.Nil(tb, "announced ports", func() error {
			known, err := client.ClusterNodes(ctx).Result()
			if err != nil {
				return err
			}
			for _, port := range ports {
				if !strings.Contains(known, ":"+port+"@") {
					return fmt.Errorf("port %s is not in %s", port, known)
				}
			}
			return nil
		})
	}
	return proxies
}
