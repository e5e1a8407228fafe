#!/usr/bin/env bash
# Checks on a deployed stack what only AWS can show, and prints rows for
# docs/verified-on-aws.md. Usage: make smoke-aws STACK=name [SINK=name] [HANG_SINK=name] [FIRE=1]
set -uo pipefail

stack=${1:-${STACK:-}}
sink=${SINK:-}
hang=${HANG_SINK:-}

fail() {
  echo "smoke-aws: $*" >&2
  exit 2
}

[[ -n $stack ]] || fail "which stack? make smoke-aws STACK=name"
for tool in aws curl; do
  command -v "$tool" >/dev/null || fail "$tool is missing"
done
aws sts get-caller-identity >/dev/null 2>&1 ||
  fail "no AWS credentials that work (tried: aws sts get-caller-identity). Log in, or set AWS_PROFILE and AWS_REGION."

cd "$(dirname "$0")/.." || exit
cli=$(mktemp -d)/backstop
trap 'rm -rf "$(dirname "$cli")"' EXIT
go build -o "$cli" ./cmd/backstop || fail "the CLI does not build"

output() {
  aws cloudformation describe-stacks --stack-name "$stack" --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue" --output text
}
api=$(output ApiUrl 2>/dev/null)
[[ $api == https://* ]] || fail "no stack $stack with an output ApiUrl in this account and region"
queue=$(output QueueUrl)
cache=$(output CacheName)
export BACKSTOP_API=$api

today=$(date -u +%F)
failed=0
row() { # check, result; a result that does not begin with "ok" failed
  echo "| $1 | | $today | $2 |"
  [[ $2 == ok* ]] || failed=1
}
# metric NAME STATISTIC [dimensions]: of the last 15 minutes.
metric() {
  aws cloudwatch get-metric-statistics --namespace Backstop --metric-name "$1" --statistics "$2" --period 900 \
    --dimensions "Name=Service,Value=$stack" "${@:3}" --start-time "$(date -u -d '15 minutes ago' +%FT%TZ)" \
    --end-time "$(date -u +%FT%TZ)" --query "max(Datapoints[].$2)" --output text
}
# fate SINK ID: what became of a delivery, within a minute.
fate() {
  local status=
  for _ in $(seq 30); do
    status=$("$cli" delivery "$1" "$2" -o json 2>/dev/null | grep -o '"status": *"[a-z_]*"' | head -1 | cut -d'"' -f4)
    [[ -n $status && $status != in_progress ]] && break
    sleep 2
  done
  echo "${status:-unknown}"
}

row deploy "ok: $(aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].StackStatus' --output text)"

code=$(curl -s -o /dev/null -w '%{http_code}' "$api/v1/sinks")
[[ $code == 403 || $code == 401 ]] && row unsigned "ok: $code" || row unsigned "FAILED: $code without a signature"

if answer=$("$cli" sinks -o json 2>&1); then
  row sigv4 "ok"
  [[ -n $cache ]] && row iam-login "ok: the cache answered"
  if [[ $answer == *'"config_error"'* ]]; then row ssm "FAILED: see backstop sinks -o json"; else row ssm "ok"; fi
else
  row sigv4 "FAILED: $(head -1 <<<"$answer")"
fi

if [[ -n $sink ]]; then
  id=smoke-api-$(date +%s)
  "$cli" send --sink "$sink" --id "$id" --body "Backstop smoke test" >/dev/null 2>&1
  status=$(fate "$sink" "$id")
  [[ $status == delivered ]] && row api-delivery "ok" || row api-delivery "FAILED: $status"

  message() { printf '{"id":"%s","sink":"%s","message":{"body":"Backstop smoke test"}}' "$1" "$sink"; }
  id=smoke-sqs-$(date +%s)
  aws sqs send-message --queue-url "$queue" --message-body "$(message "$id")" >/dev/null
  status=$(fate "$sink" "$id")
  [[ $status == delivered ]] && row queue-delivery "ok" || row queue-delivery "FAILED: $status"

  start=$(date +%s)
  for batch in $(seq 20); do
    entries=
    for n in $(seq 10); do
      entries+="{\"Id\":\"$n\",\"MessageBody\":\"$(message "smoke-many-$start-$batch-$n" | sed 's/"/\\"/g')\"},"
    done
    aws sqs send-message-batch --queue-url "$queue" --entries "[${entries%,}]" >/dev/null
  done
  missing=0
  for batch in $(seq 20); do
    [[ $(fate "$sink" "smoke-many-$start-$batch-10") == delivered ]] || missing=$((missing + 1))
  done
  if ((missing)); then row scaling "FAILED: $missing of 20 samples"; else row scaling "ok: 200 in $(($(date +%s) - start)) s at most"; fi

  sleep 120 # metrics of logs take a minute or two
  delivered=$(metric Delivered Sum "Name=Sink,Value=$sink")
  [[ $delivered != None ]] && row emf-dimensions "ok: $delivered" || row emf-dimensions "FAILED: no Delivered of $sink"
fi

if [[ -n $hang ]]; then
  start=$(date +%s)
  answer=$("$cli" send --sink "$hang" --body "Backstop smoke test" -o json 2>&1)
  took=$(($(date +%s) - start))
  if [[ $answer == *dead_lettered* ]] && ((took <= 30)); then row cut-off "ok: $took s"; else row cut-off "FAILED: $took s, $(head -1 <<<"$answer")"; fi
fi

runs=$(metric ReplayRuns Sum)
[[ $runs != None ]] && row heartbeat "ok: $runs in 15 minutes" || row heartbeat "FAILED: no ReplayRuns"

journal=$(output JournalBucket)
if [[ -n $journal && $journal != None ]]; then
  answer=$("$cli" dlq audit 2>&1) && row journal-audit "ok: $(tail -1 <<<"$answer")" || row journal-audit "FAILED: $(tail -1 <<<"$answer")"
fi

init=$(metric InitTime Maximum)
row cold-start "ok: InitTime at most $init ms in 15 minutes (None: no cold start)"

if [[ -n $cache ]]; then
  n=$(aws cloudwatch list-metrics --namespace AWS/ElastiCache --dimensions "Name=clusterId,Value=$cache" --query 'length(Metrics)' --output text)
  ((n > 0)) && row cache-metrics "ok: $n" || row cache-metrics "FAILED: none under clusterId"
fi

ringing=$(aws cloudwatch describe-alarms --alarm-name-prefix "$stack-" --state-value ALARM --query 'MetricAlarms[].AlarmName' --output text)
[[ -z $ringing ]] && row alarms "ok" || row alarms "FAILED: $ringing"

if [[ ${FIRE:-} == 1 ]]; then
  aws cloudwatch set-alarm-state --alarm-name "$stack-parked" --state-value ALARM --state-reason "smoke test" &&
    row alarm-action "ok: $stack-parked set to ALARM; did the topic's subscribers hear of it?"
fi

exit "$failed"
