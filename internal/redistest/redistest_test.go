package redistest_test

import (
	"context"
	"strings"
	"testing"

	"backstop/internal/await"
	"backstop/internal/redistest"
)

func TestServers(t *testing.T) {
	ctx := context.Background()

	t.Run("keeps appended data over a kill and a restart", func(t *testing.T) {
		s := redistest.Start(t, redistest.WithAppendOnly())
		c := s.Client(t)
		if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		s.Kill(t)
		s.Restart(t)
		if got, err := c.Get(ctx, "k").Result(); err != nil || got != "v" {
			t.Errorf("Get after restart = %q, %v; want v", got, err)
		}
	})

	t.Run("TLS with an ACL user who may touch keys under the prefix only", func(t *testing.T) {
		s := redistest.Start(t, redistest.WithTLS())
		c := s.Client(t)
		if err := c.Set(ctx, redistest.Prefix(), "v", 0).Err(); err != nil {
			t.Error(err)
		}
		if err := c.Set(ctx, "other", "v", 0).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("Set outside the prefix = %v, want NOPERM", err)
		}
		if err := redistest.Shared(t).Client(t).Ping(ctx).Err(); err != nil {
			t.Error(err)
		}
	})

	t.Run("a full server refuses writes", func(t *testing.T) {
		c := redistest.Start(t, redistest.WithMaxMemory("1mb")).Client(t)
		err := c.Set(ctx, "k", strings.Repeat("x", 1<<20), 0).Err()
		if err == nil {
			err = c.Set(ctx, "k2", "v", 0).Err()
		}
		if err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("Set = %v, want OOM", err)
		}
	})
}

func TestClusterSurvivesItsMaster(t *testing.T) {
	ctx := context.Background()
	cl := redistest.StartCluster(t)
	c := cl.Client(t)
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	cl.Master(t, "k").Kill(t)
	await.Nil(t, "its replica has taken over", func() error {
		got, err := c.Get(ctx, "k").Result()
		if err == nil && got != "v" {
			t.Fatalf("Get after the master died = %q, want v from its replica", got)
		}
		if r, ok := c.(interface{ ReloadState(context.Context) }); ok {
			r.ReloadState(ctx) // the client itself learns only from a redirect
		}
		return err
	})
}

func TestMini(t *testing.T) {
	_, c := redistest.Mini(t)
	if err := c.Ping(context.Background()).Err(); err != nil {
		t.Error(err)
	}
}
