#!/usr/bin/env bash
# Plants one fault at a time in a copy of the tree and checks that the tests which guard the
# rule fail. A mutant that survives, or a fault that no longer applies, is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
cd "$copy"

caught=0 survived=0
# mutant NAME FILE PERL-SUBSTITUTION PACKAGE TESTS
mutant() {
  cp "$2" "$copy/original"
  perl -0pi -e "$3" "$2"
  if cmp -s "$2" "$copy/original"; then
    echo "stale     $1: the fault no longer applies to $2"
    survived=$((survived + 1))
  elif ! go vet "$4" >"$copy/vet" 2>&1; then
    echo "broken    $1: does not compile"; cat "$copy/vet"
    survived=$((survived + 1))
  elif go test -count=1 -run "$5" "$4" >"$copy/log" 2>&1; then
    echo "SURVIVED  $1 ($4 -run '$5')"
    survived=$((survived + 1))
  else
    echo "caught    $1"
    caught=$((caught + 1))
  fi
  cp "$copy/original" "$2"
}

mutant 'dead-letter write on the ended context' lib/retry/budget.go \
  's/context\.WithDeadline\(context\.WithoutCancel\(ctx\), end\)\n\}\n\n\/\/ AnswerContext/context.WithDeadline(ctx, end)\n}\n\n\/\/ AnswerContext/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'attempt started too late' lib/retry/budget.go \
  's/return b\.Attempts\.IsZero\(\) \|\| .*\n/return true\n/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'attempt may run into the reserve' lib/retry/budget.go \
  's/\t\treturn b\.Attempts\n/\t\treturn b.Deadline\n/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'acknowledged before the push' lib/retry/retrier.go \
  's/\t\tout\.StoreErr = err\n\t\treturn\n/\t\tout.StoreErr = err\n/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'one attempt too many' lib/retry/retrier.go \
  's/out\.Attempts < cfg\.MaxAttempts/out.Attempts <= cfg.MaxAttempts/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'attempts counted one too few' lib/retry/retrier.go \
  's/Attempts: out\.Attempts, Reason/Attempts: out.Attempts - 1, Reason/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'Retry-After shortened' lib/retry/retrier.go \
  's/max\(cfg\.BackoffFor\(out\.Attempts\+1\), time\.Until\(out\.NotBefore\)\)/cfg.BackoffFor(out.Attempts + 1)/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'ambiguous outcome sent again' lib/retry/retrier.go \
  's/return sinks\.Deduplicates\(r\.Inner\)/return true/' \
  ./lib/retry 'TestNoScheduleBreaksThePromises'
mutant 'push guard written before the entry' lib/dlq/push.lua \
  's/id and #call\(.XRANGE., stream, id, id\) == 1 then/id then/; s/elseif full\(\) then/elseif call("HSET", ids, k, "1-1") and full() then/' \
  ./lib/dlq 'TestRedisConformanceEmbedded'
mutant 'record released though the dead letter may be stored' functions/send/deliver.go \
  's/case sinks\.CodeOf\(why\) == sinks\.CodeDLQUnavailable:/case false \&\& fingerprint == "":/' \
  ./functions/send 'TestWhatMayBeStoredIsLookedForBeforeItIsSentAgain'

echo "mutants: $caught caught, $survived not caught"
[[ $survived == 0 ]]
