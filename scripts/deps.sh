#!/usr/bin/env bash
# Installs what the tests need from Debian's packages where it can (as root), and otherwise
# names what is missing. Tools that no package offers are named too.
set -euo pipefail

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v chromium >/dev/null || missing+=(chromium)

if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    echo "The tests need ${missing[*]}: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

# Python tools: the AWS CLI, an AWS emulator, and the linter of the template.
for tool in aws:awscli moto_server:'moto[server]' cfn-lint:cfn-lint; do
  command -v "${tool%%:*}" >/dev/null || {
    echo "The tests need ${tool%%:*}: pip install '${tool#*:}'" >&2
    exit 1
  }
done
python3 -c 'import samtranslator, boto3' 2>/dev/null || {
  echo "The tests need Python's samtranslator and boto3: pip install aws-sam-translator boto3" >&2
  exit 1
}
