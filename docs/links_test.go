package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages are all pages that people read, from this folder.
func pages(t *testing.T) []string {
	t.Helper()
	all := []string{"../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../CHANGELOG.md"}
	more, err := filepath.Glob("*.md")
	if err != nil || len(more) < 10 {
		t.Fatalf("%d pages, %v", len(more), err)
	}
	return append(all, more...)
}

// A link of a page leads to a file of the project, and to a heading that this has.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	seen := 0
	for _, page := range pages(t) {
		for _, link := range matches(`\]\(([^)\s]+)\)`, read(t, page)) {
			if strings.HasPrefix(link, "https://") {
				continue
			}
			seen++
			file, heading, _ := strings.Cut(link, "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", page, link, err)
				continue
			}
			if heading != "" && !anchors(read(t, target))[heading] {
				t.Errorf("%s: %s: there is no such heading", page, link)
			}
		}
	}
	if seen < 100 {
		t.Errorf("%d links: does the test still see them?", seen)
	}
}

// anchors are the names of a page's headings, as forges make them.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	fenced := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		text, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if fenced || !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		text = strings.ToLower(strings.TrimSpace(text))
		text = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`).ReplaceAllString(text, "")
		names[strings.ReplaceAll(text, " ", "-")] = true
	}
	return names
}

// A page names no target that the Makefile has not.
func TestEveryMakeTargetThatAPageNamesExists(t *testing.T) {
	targets := map[string]bool{}
	for _, name := range matches(`(?m)^([a-z-]+):`, read(t, "../Makefile")) {
		targets[name] = true
	}
	seen := 0
	for _, page := range pages(t) {
		for _, name := range matches("(?m)(?:`|^ {4}|^)make ([a-z-]+)", read(t, page)) {
			seen++
			if !targets[name] {
				t.Errorf("%s: there is no target %s", page, name)
			}
		}
	}
	if seen < 30 {
		t.Errorf("%d targets: does the test still see them?", seen)
	}
}
