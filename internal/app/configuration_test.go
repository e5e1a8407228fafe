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

	"github.com/google/go-cmp/cmp"

	"backstop/lib/config"
	"backstop/lib/replay/policy"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/slack"
	"backstop/lib/sinks/webhook"
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
		"": {webhook.Config{}, slack.Config{}, email.Config{}}, "retry.": {config.RetryKeys{}}, "replay.": {policy.Policy{}},
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
