#!/usr/bin/env bash
# Runs the benchmarks of the revision BASE and of the working tree in turn, ROUNDS times
# (default 6), and prints benchstat's verdict. BENCH selects benchmarks by a regular
# expression; those that fill a queue with a million dead letters are left out by default.
set -euo pipefail
cd "$(dirname "$0")/.."

base=${BASE:-}
bench=${BENCH:-Delivery|Queue|Push|Batch|Largest|Bytes|Replay|Peers|Config}
rounds=${ROUNDS:-6}
if [[ -z $base ]] || ! git rev-parse --quiet --verify "$base^{commit}" >/dev/null; then
  echo "usage: make bench-compare BASE=<revision> [BENCH=<regexp>] [ROUNDS=6]" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" 2>/dev/null || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/base" "$base"
if [[ ! -f $work/base/bench/go.mod ]]; then
  echo "the revision $base has no benchmarks in bench/" >&2
  exit 2
fi

declare -A dir=([base]=$work/base/bench [new]=$PWD/bench)
for side in base new; do
  echo "build $side"
  (cd "${dir[$side]}" && go test -c -o "$work/$side.test" .)
done
for ((round = 1; round <= rounds; round++)); do
  # Each comes first as often as the other.
  sides=(base new)
  ((round % 2)) || sides=(new base)
  for side in "${sides[@]}"; do
    echo "round $round of $rounds: $side"
    (cd "${dir[$side]}" && "$work/$side.test" -test.run '^$' -test.bench "$bench" -test.benchtime 1x 2>/dev/null) |
      grep -E '^(Benchmark|goos|goarch|pkg|cpu)' >>"$work/$side.txt"
  done
done
build/tools/benchstat "base=$work/base.txt" "new=$work/new.txt"
