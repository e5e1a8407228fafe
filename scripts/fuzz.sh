#!/usr/bin/env bash
# Runs every fuzz target of the module, FUZZTIME (default 30s) each, one after the other.
# An input that fails is kept by Go in the package's testdata/fuzz: commit it with the fix,
# it is a regression test from then on. FUZZ selects targets by name (a regular expression).
set -euo pipefail
cd "$(dirname "$0")/.."

time=${FUZZTIME:-30s}
only=${FUZZ:-.}
failed=()
while read -r file target; do
  package=./$(dirname "$file")
  echo "== $package $target ($time)"
  # Minimising an input that is merely new may take a minute by default: all of the time.
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x "$package" || failed+=("$package $target")
done < <(git ls-files -co --exclude-standard -- '*_test.go' | sort |
  xargs awk 'match($0, /^func Fuzz[A-Za-z0-9_]*\(/) { print FILENAME, substr($0, 6, RLENGTH - 6) }' | grep -E " .*($only)" || true)

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
