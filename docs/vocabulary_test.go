package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"backstop/docs/docstest"
	"backstop/lib/dlq"
)

// The library's lists of reasons and states are the only ones that are written by hand
// without a check: a word that is added there must be found in the API's document, in the
// console and in the operator's tables. (The CLI's completion is held against them by its own
// tests.)
func TestEveryReasonAndStateIsEverywhere(t *testing.T) {
	d, err := docstest.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	console := read(t, "../internal/console/assets/format.js")
	operating := read(t, "operating.md")
	for _, v := range []struct {
		schema, table, header string
		want                  []string
	}{
		{"Reason", "REASONS", "| reason |", words(dlq.Reasons)},
		{"State", "STATES", "| state |", words(dlq.States)},
	} {
		enum, err := d.Enum(v.schema)
		if err != nil {
			t.Error(err)
		}
		same(t, "openapi.yaml, schema "+v.schema, enum, v.want)
		_, table, _ := strings.Cut(console, "export const "+v.table+" = {\n")
		table, _, _ = strings.Cut(table, "\n};")
		same(t, "format.js, "+v.table, matches(`(?m)^  (\w+): `, table), v.want)
		_, rows, _ := strings.Cut(operating, v.header)
		rows, _, _ = strings.Cut(rows, "\n\n")
		var found []string
		for line := range strings.Lines(rows) {
			if first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok {
				found = append(found, matches("`(\\w+)`", first)...)
			}
		}
		same(t, "operating.md, table of "+v.header, found, v.want)
	}
	sinkStates, err := d.Enum("SinkState")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(console, "export const SINK_STATES = {\n")
	table, _, _ = strings.Cut(table, "\n};")
	same(t, "format.js, SINK_STATES", matches(`(?m)^  (\w+): `, table), sinkStates)
	enum, err := d.Enum("Reason")
	if err != nil {
		t.Fatal(err)
	}
	if want := `reason: {type: string, enum: ["", ` + strings.Join(enum, ", ") + `]}`; !strings.Contains(read(t, "openapi.yaml"), want) {
		t.Errorf("openapi.yaml: the operations' filter lacks %s", want)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func words[S ~string](all []S) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = string(s)
	}
	return out
}

// matches returns what the first group of a pattern finds.
func matches(pattern, in string) []string {
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1) {
		out = append(out, m[1])
	}
	return out
}

// same compares two lists in any order.
func same(t *testing.T, where string, got, want []string) {
	t.Helper()
	if g, w := slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)); !slices.Equal(g, w) {
		t.Errorf("%s has %v, want %v", where, g, w)
	}
}
