package config

import (
	"fmt"
	"strings"
	"testing"

	"backstop/lib/sinks"
)

// The secrets stand where a sink's configuration has them; each is told apart by its
// beginning, and is found wherever a message has eight of its characters.
var leakSecrets = []string{
	"Tr0ub4dor-alpha", "C0rrect-horse-beta", "Hunter2-gamma-gamma", "St4ple-battery-delta",
}

const leakBlock = `kind: fake
url: https://user:Tr0ub4dor-alpha@receiver.example/C0rrect-horse-beta?key=1
headers:
  Authorization: Bearer Hunter2-gamma-gamma
signing_secrets: [St4ple-battery-delta, "other"]
format: raw
retry: {max_attempts: 3}
`

// A slip of the finger next to a secret is the most common reason why somebody reads a
// finding. Every edit of up to one character, and the usual wrong types, are tried.
func TestNoSlipMakesAFindingShowASecret(t *testing.T) {
	for i := range leakBlock {
		wantHidden(t, fmt.Sprintf("without character %d", i), "s", leakBlock[:i]+leakBlock[i+1:])
		for _, c := range "\n :{}[]\"'#&*!|>%@`,-?\t\x00\xff" {
			wantHidden(t, fmt.Sprintf("%q at %d", c, i), "s", leakBlock[:i]+string(c)+leakBlock[i:])
		}
	}
	forms := []string{
		"%s", "{%s}", "{ %s }", "{{ %s }}", "[%s]", "{%s: 1}", "{a: {%s: x}}", "[{%s: x}]", "*%s", "&%s", "!%s x", "!!%s x", "\n  %s:", "\n  %s: x", "\n- %s", "'%s",
		"\"%s", "%s: x", "? %s", "|\n%s", "{ssm: %s}", "{ssm: [%s]}", "{%s: x, %s: y}", "{<<: %s}", "${%s}", "$(%s)", "<%s>", "${{ secrets.%s }}",
	}
	keys := []string{"url", "headers", "signing_secrets", "format", "size", "strict", "retry", "on_ambiguous", "fifo", "kind"}
	for _, secret := range leakSecrets {
		for _, form := range forms {
			value := strings.ReplaceAll(form, "%s", secret)
			blocks := []string{
				"headers:\n  A: " + strings.ReplaceAll(value, "\n", "\n  "),
				"signing_secrets:\n  - " + strings.ReplaceAll(value, "\n", "\n  "),
			}
			for _, key := range keys {
				// A name with a value, where names stand, is shown.
				if isName := strings.HasPrefix(form, "{%s: ") || strings.HasPrefix(form, "\n"); !isName || key != "headers" && key != "retry" {
					blocks = append(blocks, key+": "+value)
				}
			}
			for _, block := range blocks {
				text := "kind: fake\nurl: x\n" + block + "\n"
				wantHidden(t, block, "s", text)
				wantHidden(t, block, "", "sinks:\n  s:\n    "+strings.ReplaceAll(text, "\n", "\n    "))
			}
		}
	}
}

// wantHidden checks that nothing that is shown of a document holds a secret.
func wantHidden(t *testing.T, what, name, text string) {
	t.Helper()
	blocks, findings, err := split([]Document{{Source: "doc", Name: name, Text: sinks.Secret(text)}})
	shown := []string{fmt.Sprint(err)}
	for _, b := range blocks {
		sink, faults, _ := b.sink(map[string]resolved{}, nil, new(int))
		findings = append(findings, faults...)
		shown = append(shown, b.name, fmt.Sprint(sink.Err))
	}
	for _, f := range findings {
		shown = append(shown, f.String(), f.Suggestion)
	}
	for _, line := range shown {
		if part := leaked(line); part != "" {
			t.Errorf("%q shows %q: %s", what, part, line)
		}
	}
}

// leaked returns the first eight characters in a row of a secret that text shows.
func leaked(text string) string {
	text = strings.ToLower(text)
	for _, secret := range leakSecrets {
		secret = strings.ToLower(secret)
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(text, secret[i:i+8]) {
				return secret[i : i+8]
			}
		}
	}
	return ""
}
