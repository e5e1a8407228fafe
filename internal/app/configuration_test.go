package app

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/config"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay/policy"
	"backstop/lib/sinks/apns"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/fcm"
	"backstop/lib/sinks/slack"
	"backstop/lib/sinks/webhook"
	"backstop/lib/sinks/webpush"
)

// docs/configuration.md names every variable that is read here, and no other.
func TestTheDocumentedVariablesAreThoseThatAreRead(t *testing.T) {
	read := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(BACKSTOP_[A-Z0-9_]+|[A-Z]+_PROXY)"`).FindAllSubmatch(b, -1) {
			read[string(m[1])] = true
		}
	}
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`\b(BACKSTOP_[A-Z0-9_]+|[A-Z]+_PROXY)\b`).FindAllSubmatch(page, -1) {
		documented[string(m[1])] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(read)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("variables (-read +documented)\n%s", diff)
	}
}

// Each key of a sink's block has its row.
func TestEveryKeyOfASinkIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for prefix, blocks := range map[string][]any{
		"": {webhook.Config{}, webpush.Config{}, slack.Config{}, fcm.Config{}, apns.Config{}, email.Config{}, config.AgeKeys{}, config.RetentionKeys{}, config.ShardKeys{}}, "retry.": {config.RetryKeys{}}, "replay.": {policy.Policy{}},
		"breaker.": {config.BreakerKeys{}}, "rate.": {config.RateKeys{}},
	} {
		for _, block := range blocks {
			for field := range reflect.TypeOf(block).Fields() {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				row := regexp.MustCompile("(?m)^\\| .*`" + regexp.QuoteMeta(prefix+name) + "`.* \\|")
				if !row.Match(page) {
					t.Errorf("%T: no row for %s", block, prefix+name)
				}
			}
		}
	}
}

// The configuration allows as many shards as there can be.
func TestTheBoundOfShards(t *testing.T) {
	if config.MaxShards != dlq.MaxShards {
		t.Errorf("config.MaxShards = %d, dlq.MaxShards = %d", config.MaxShards, dlq.MaxShards)
	}
}

// What the keys of a sink say reaches what sends.
func TestATargetIsWhatItsKeysSay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sinks.yaml")
	const block = `sinks:
  short: {kind: webhook, url: "https://example.org", max_age: 5m, retention: 30d, fifo: hold, max_hold: 1m, retry: {max_attempts: 2}, replay: {max_replays: 3}}
  plain: {kind: webhook, url: "https://example.org"}
  wrong: {kind: webhook, url: "https://example.org", max_age: 0s}
`
	if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := config.ParseSource("file:" + file)
	if err != nil {
		t.Fatal(err)
	}
	a := &App{Config: config.NewCache(source, config.Options{})}
	targets := map[string]delivery.Target{}
	for _, name := range []string{"short", "plain", "wrong"} {
		if targets[name], err = a.Target(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	got := targets["short"]
	if got.MaxAge != 5*time.Minute || got.Retention != 720*time.Hour || !got.Hold || got.Flow.MaxHold != time.Minute || got.Retry.MaxAttempts != 2 || got.Replay.MaxReplays != 3 || got.Sink == nil || got.ConfigErr != nil {
		t.Errorf("short: %+v", got)
	}
	if got := targets["plain"]; got.MaxAge != 0 || got.Retention != 0 || got.Hold {
		t.Errorf("plain: %+v, want neither an age nor a hold", got)
	}
	if got := targets["wrong"]; got.Sink != nil || got.ConfigErr == nil || !strings.Contains(got.ConfigErr.Error(), "max_age: want 1s to 8760h") {
		t.Errorf("wrong: %+v, want its configuration refused", got)
	}
}
