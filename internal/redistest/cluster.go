package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"backstop/internal/await"
)

const clusterMasters = 3

// Cluster is a cluster of three masters, each with one replica. Nodes 0 to 2 start as
// masters, node i+3 as the replica of node i.
type Cluster struct {
	Nodes []*Server
}

// StartCluster starts a cluster of the test's own and waits until every replica follows
// its master. A dead master is replaced within some 3 s.
func StartCluster(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	c := &Cluster{}
	opts = append([]Option{WithConfig("cluster-node-timeout", "1500")}, opts...) // the last one counts
	for range 2 * clusterMasters {
		s := newServer(tb, tb.TempDir(), opts)
		s.bus = port(tb)
		s.lines = append(s.lines,
			"cluster-enabled yes", fmt.Sprintf("cluster-port %d", s.bus),
			"repl-diskless-sync yes", "repl-diskless-sync-delay 0", "cluster-replica-validity-factor 0")
		tb.Cleanup(s.stop)
		c.Nodes = append(c.Nodes, s)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(c.Nodes))
	for i, s := range c.Nodes {
		wg.Go(func() { errs[i] = s.run() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	c.join(tb)
	return c
}

// Client returns a new cluster client that is closed at the test's end.
func (c *Cluster) Client(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	return newClient(tb, c.Options())
}

// Options returns cluster client options with every node as a seed.
func (c *Cluster) Options() *redis.UniversalOptions {
	var addrs []string
	for _, s := range c.Nodes {
		addrs = append(addrs, s.Addr)
	}
	o := ClientOptions(addrs...)
	o.IsClusterMode = true
	return o
}

// Master returns the server that is the master of key's slot now.
func (c *Cluster) Master(tb testing.TB, key string) *Server {
	tb.Helper()
	ctx := context.Background()
	cc, ok := c.Client(tb).(*redis.ClusterClient)
	if !ok {
		tb.Fatal("not a cluster client")
	}
	node, err := cc.MasterForKey(ctx, key)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range c.Nodes {
		if s.Addr == node.Options().Addr {
			return s
		}
	}
	tb.Fatalf("no node at %s", node.Options().Addr)
	return nil
}

// Replica returns the server that started as master's replica.
func (c *Cluster) Replica(tb testing.TB, master *Server) *Server {
	tb.Helper()
	i := slices.Index(c.Nodes[:clusterMasters], master)
	if i < 0 {
		tb.Fatalf("%s did not start as a master", master.Addr)
	}
	return c.Nodes[i+clusterMasters]
}

// join makes the nodes one cluster, and returns once each of them knows it.
func (c *Cluster) join(tb testing.TB) {
	tb.Helper()
	ctx := context.Background()
	clients := make([]*redis.Client, len(c.Nodes))
	ids := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		cl := redis.NewClient(s.Options().Simple())
		defer func() { _ = cl.Close() }()
		id, err := cl.ClusterMyID(ctx).Result()
		if err != nil {
			tb.Fatal(err)
		}
		clients[i], ids[i] = cl, id
		if err := cl.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range clusterMasters {
		first, last := i*16384/clusterMasters, (i+1)*16384/clusterMasters-1
		if err := clients[i].ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, s := range c.Nodes[1:] {
		host, port, err := net.SplitHostPort(s.Addr)
		if err != nil {
			tb.Fatal(err)
		}
		if err := clients[0].Do(ctx, "CLUSTER", "MEET", host, port, s.bus).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range clusterMasters {
		replica, master := clients[i+clusterMasters], ids[i]
		await.Nil(tb, "cluster replica", func() error { return replica.ClusterReplicate(ctx, master).Err() })
	}
	for i, cl := range clients {
		await.Nil(tb, "cluster state", func() error { return joined(ctx, cl, len(clients), i >= clusterMasters) })
	}
}

// joined reports what cl's node, a master or a replica, does not know yet of the cluster.
func joined(ctx context.Context, cl *redis.Client, nodes int, replica bool) error {
	info, err := cl.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	for _, want := range []string{"cluster_state:ok", fmt.Sprintf("cluster_known_nodes:%d", nodes), "cluster_size:3"} {
		if !strings.Contains(info, want) {
			return fmt.Errorf("%s is not in %s", want, info)
		}
	}
	known, err := cl.ClusterNodes(ctx).Result()
	if err != nil {
		return err
	}
	if n := strings.Count(known, "slave "); n != clusterMasters {
		return fmt.Errorf("node knows %d replicas of %d: %s", n, clusterMasters, known)
	}
	if !replica {
		return nil
	}
	repl, err := cl.Info(ctx, "replication").Result()
	if err == nil && !strings.Contains(repl, "master_link_status:up") {
		err = fmt.Errorf("replica is not in sync: %s", repl)
	}
	return err
}
