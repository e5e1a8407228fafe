package kinds

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"backstop/lib/config"
)

// What the code itself says of a wrong value is shown whole, also where a configured value happens to be a word of it.
func TestNoHintIsRedacted(t *testing.T) {
	dir := t.TempDir()
	findings := func(block string) (texts []string) {
		t.Helper()
		file := filepath.Join(dir, "sinks.yaml")
		if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		source, err := config.ParseSource("file:" + file)
		if err != nil {
			t.Fatal(err)
		}
		found, err := config.Check(t.Context(), source, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if !strings.HasPrefix(f.Key, "zz") { // which is added below
				texts = append(texts, f.Key+": "+f.Message)
			}
		}
		return texts
	}
	hints := 0
	for _, name := range Names() {
		k, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []string{`"?"`, `""`, "7", "true", "[7, {a: 7}]", "{a: [7]}", `["?"]`, `{"?": "?"}`, "-1s", `{"a b": "$(x"}`} {
			var b strings.Builder
			fmt.Fprintf(&b, "sinks:\n  s:\n    kind: %s\n    on_ambiguous: %[2]s\n    fifo: %[2]s\n    max_age: %[2]s\n    retention: %[2]s\n    shards: %[2]s\n    breaker: %[2]s\n", name, wrong)
			fmt.Fprintf(&b, "    retry: {max_attempts: %[1]s, base_backoff: %[1]s}\n    replay: {on_success: %[1]s, max_delay: %[1]s}\n    events: {to: %[1]s, on: %[1]s}\n", wrong)
			for _, key := range k.Keys {
				fmt.Fprintf(&b, "    %s: %s\n", key.Name, wrong)
			}
			before := findings(b.String() + "    zz: x\n")
			hints += len(before)
			words := regexp.MustCompile(`[A-Za-z0-9_/:.-]{8,}`).FindAllString(strings.Join(before, " "), -1)
			for _, text := range before { // beginnings, too: a value may be part of a word
				_, message, _ := strings.Cut(text, ": ")
				words = append(words, message, message[:min(len(message), 8)], message[max(0, len(message)-8):])
			}
			after := findings(b.String() + fmt.Sprintf("    zz: [%s]\n", strings.Join(quoted(words), ", ")))
			if !slices.Equal(before, after) {
				t.Errorf("%s: %s\n%s\nand with configured values of the same words:\n%s", name, wrong, strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		}
	}
	if hints < 1000 {
		t.Errorf("%d hints: this tests too little", hints)
	}
}

func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return out
}
