package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var today = time.Date(2026, 11, 26, 23, 30, 0, 0, time.FixedZone("", -3600)) // the 27th in UTC

func TestCuttingTheChangelog(t *testing.T) {
	const head = "# Changelog\n\nWhat changes.\n\n"
	for _, c := range []struct{ name, before, after, err string }{
		{
			name:   "the first release",
			before: head + "## Unreleased\n\n### Added\n\n- A thing.\n",
			after:  head + "## Unreleased\n\n## v1.2.3 - 2026-11-27\n\n### Added\n\n- A thing.\n",
		},
		{
			name:   "a later one",
			before: head + "## Unreleased\n\n- New.\n\n## v1.2.2 - 2026-01-01\n\n- Old.\n",
			after:  head + "## Unreleased\n\n## v1.2.3 - 2026-11-27\n\n- New.\n\n## v1.2.2 - 2026-01-01\n\n- Old.\n",
		},
		{
			name:   "a changelog that begins with it",
			before: "## Unreleased\n- New.",
			after:  "## Unreleased\n\n## v1.2.3 - 2026-11-27\n- New.",
		},
		{name: "nothing new", before: head + "## Unreleased\n\n## v1.2.2 - 2026-01-01\n\n- Old.\n", err: "nothing to release"},
		{name: "headings alone", before: head + "## Unreleased\n\n### Added\n\n### Fixed\n", err: "nothing to release"},
		{name: "no such section", before: head + "## v1.2.2 - 2026-01-01\n\n- Old.\n", err: `no section "## Unreleased"`},
		{name: "a word in a line is no section", before: head + "- See ## Unreleased\n", err: `no section "## Unreleased"`},
		{
			name:   "the same version again",
			before: head + "## Unreleased\n\n- New.\n\n## v1.2.3 - 2026-01-01\n\n- Old.\n",
			err:    "has a section v1.2.3 already",
		},
		{
			name:   "another version that begins alike",
			before: head + "## Unreleased\n\n- New.\n\n## v1.2.30 - 2026-01-01\n\n- Old.\n",
			after:  head + "## Unreleased\n\n## v1.2.3 - 2026-11-27\n\n- New.\n\n## v1.2.30 - 2026-01-01\n\n- Old.\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, err := cut(c.before, "v1.2.3", today)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || after != c.after {
				t.Errorf("got %v\n%s\nwant\n%s", err, after, c.after)
			}
			if _, err := cut(after, "v1.2.4", today); err == nil {
				t.Error("what was released could be released again")
			}
		})
	}
}

func TestAVersionsSection(t *testing.T) {
	const changelog = "# Changelog\n\n## Unreleased\n\n- Next.\n\n## v1.2.3 - 2026-11-27\n\n### Added\n\n- New.\n\n## v1.2.2 - 2026-01-01\n\n- Old.\n"
	for version, want := range map[string]string{"v1.2.3": "### Added\n\n- New.", "v1.2.2": "- Old."} {
		if got, err := section(changelog, version); err != nil || got != want {
			t.Errorf("%s: %v, %q, want %q", version, err, got, want)
		}
	}
	if got, err := section(changelog, "v1.2"); err == nil {
		t.Errorf("v1.2 has %q", got)
	}
}

// The project's own changelog has the form that a release needs.
func TestTheChangelogCanBeCut(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count("\n"+string(b), "\n"+unreleased+"\n"); n != 1 {
		t.Errorf("%d lines %q, want one", n, unreleased)
	}
}
