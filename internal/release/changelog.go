package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// unreleased is the heading under which CHANGELOG.md gathers what comes next.
const unreleased = "## Unreleased"

// cut makes the unreleased section of a changelog the version's, and leaves an empty one above
// it. Nothing to release, and a version that the changelog has already, are errors.
func cut(changelog, version string, date time.Time) (string, error) {
	if _, err := section(changelog, version); err == nil {
		return "", fmt.Errorf("the changelog has a section %s already", version)
	}
	before, rest, ok := strings.Cut("\n"+changelog, "\n"+unreleased+"\n")
	if !ok {
		return "", fmt.Errorf("the changelog has no section %q", unreleased)
	}
	if !says(body(rest)) {
		return "", errors.New("nothing to release: the changelog's unreleased section is empty")
	}
	heading := fmt.Sprintf("%s\n\n## %s - %s\n", unreleased, version, date.UTC().Format(time.DateOnly))
	return strings.TrimPrefix(before+"\n"+heading+rest, "\n"), nil
}

// section returns what a changelog says of a version, without the heading.
func section(changelog, version string) (string, error) {
	_, rest, ok := strings.Cut("\n"+changelog, "\n## "+version+" - ")
	if !ok {
		return "", fmt.Errorf("the changelog has no section %s", version)
	}
	_, rest, _ = strings.Cut(rest, "\n")
	return strings.TrimSpace(body(rest)), nil
}

// body is a section's text up to the next one.
func body(rest string) string {
	text, _, _ := strings.Cut("\n"+rest, "\n## ")
	return text
}

// says reports whether a text has more than headings.
func says(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}
