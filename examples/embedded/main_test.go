package main

import (
	"bytes"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

const story = `1. Ada listens
   "The report is ready." left live, error <nil>
   Ada hears "The report is ready."
2. Ada has left
   SMS to +44 20 7946 0000: The export is ready.
   "The export is ready." left out-of-band, error <nil>
3. The carrier is down
   "The import failed." left out-of-band, error <nil>
   "The disk is full." left out-of-band, error <nil>
   kept: "The disk is full.", exhausted after 3 attempts, due
   kept: "The import failed.", exhausted after 3 attempts, due
4. An operator replays one, too early
   code SINK_DEAD_LETTERED
   kept: "The disk is full.", exhausted after 3 attempts, due
   kept: "The disk is full.", exhausted after 3 attempts, waiting
   kept: "The import failed.", exhausted after 3 attempts, due
5. The carrier is back, and the schedule replays what is due
   SMS to +44 20 7946 0000: The import failed.
   SMS to +44 20 7946 0000: The disk is full.
   delivered 2, failed 0
   kept: "The disk is full.", exhausted after 3 attempts, waiting
6. The operator discards what was replayed under another id
   0 left
`

func TestTheStoryIsTheSameInMemoryAndInRedis(t *testing.T) {
	server := miniredis.RunT(t)
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for _, url := range []string{"", "redis://" + server.Addr()} {
		var out bytes.Buffer
		if err := tell(t.Context(), &out, url); err != nil {
			t.Fatalf("REDIS_URL=%q: %v", url, err)
		}
		if out.String() != story {
			t.Errorf("REDIS_URL=%q: got\n%s", url, out.String())
		}
	}
	if !server.Exists("realtime:sinks") {
		t.Errorf("Redis has %q, want the keys of the server's own prefix", server.Keys())
	}
}

func TestABadURLOfRedisIsNotQuoted(t *testing.T) {
	var out bytes.Buffer
	err := tell(t.Context(), &out, "redis://:T0K3N@host:port")
	if err == nil || strings.Contains(err.Error(), "T0K3N") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

// The library alone: neither Lambda, nor AWS, nor the parts of Backstop that are built on it.
func TestTheServerLinksTheLibraryAlone(t *testing.T) {
	b, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(b))
	linked := map[string]bool{}
	for _, p := range packages {
		linked[p] = true
		for _, no := range []string{
			"github.com/aws/", "backstop/bundle", "backstop/functions", "backstop/client", "backstop/lib/config",
			"backstop/internal/app", "backstop/internal/observe", "backstop/internal/awsconf", "backstop/internal/lambdahost",
		} {
			if strings.HasPrefix(p, no) {
				t.Errorf("%s is linked", p)
			}
		}
	}
	for _, yes := range []string{"backstop/lib/retry", "backstop/lib/dlq", "backstop/lib/replay", "backstop/lib/delivery"} {
		if !linked[yes] {
			t.Errorf("%s is not linked: the list is not the server's", yes)
		}
	}
}
