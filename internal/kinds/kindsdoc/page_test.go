package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"backstop/internal/kinds"
)

const published = "docs/kinds.md"

func TestThePageIsTheGeneratedOne(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../" + published)
	if err != nil || string(got) != want {
		t.Errorf("%s is out of date (%v): make generate", published, err)
	}
}

// Each kind has a line in the first table, which leads to its section, and all that is known of it there.
func TestThePageHasEachKind(t *testing.T) {
	page, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	all, err := kinds.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if !strings.Contains(page, "\n| ["+k.Name+"](#"+k.Name+") | ") {
			t.Errorf("the first table has no %s", k.Name)
		}
		_, section, ok := strings.Cut(page, "\n## "+k.Name+"\n")
		if !ok {
			t.Errorf("%s has no section", k.Name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, key := range append(append([]kinds.Key{}, k.Keys...), k.Recipient...) {
			if !strings.Contains(section, "\n| `"+key.Name+"` | ") {
				t.Errorf("the section of %s has no %s", k.Name, key.Name)
			}
		}
		for _, a := range k.Answers {
			if !strings.Contains(section, " | "+a.Means+" |\n") {
				t.Errorf("the section of %s does not say what is %s", k.Name, a.Means)
			}
		}
		for _, line := range []string{"**Duplicates**: " + k.Duplicates(), k.Source.Page, k.Source.Read, "Seen against the real service: no."} {
			if !strings.Contains(section, line) {
				t.Errorf("the section of %s does not say %q", k.Name, line)
			}
		}
	}
	// A line of a table has as many cells as its head.
	cells := func(line string) int { return len(regexp.MustCompile(`(?:^|[^\\])\|`).FindAllString(line, -1)) }
	head := 0
	for line := range strings.Lines(page) {
		switch {
		case !strings.HasPrefix(line, "|"):
			head = 0
		case head == 0:
			head = cells(line)
		case cells(line) != head:
			t.Errorf("%d cells, want %d: %s", cells(line), head, line)
		}
	}
}
