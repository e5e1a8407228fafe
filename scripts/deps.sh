#!/usr/bin/env bash
# Installs what the tests need from Debian's packages where it can (as root), and otherwise
# names what is missing. Tools that no package offers are named too.
# deps.sh [base|full]: base is what `make test` needs, full (the build tag) what all tests need.
set -euo pipefail

tier=${1:-base}
packages=(redis-server)
case $tier in
  base) ;;
  full) packages+=(chromium) ;;
  *) echo "deps.sh: there is no tier $tier: base or full" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  command -v "$package" >/dev/null || missing+=("$package")
done
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    echo "The tests need ${missing[*]}: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi
[[ $tier == full ]] || exit 0

# Python tools: the AWS CLI, an AWS emulator, and the linter of the template.
for tool in aws:awscli moto_server:'moto[server]' cfn-lint:cfn-lint; do
  command -v "${tool%%:*}" >/dev/null || {
    echo "All tests need ${tool%%:*}: pip install '${tool#*:}' (make test does without)" >&2
    exit 1
  }
done
python3 -c 'import samtranslator, boto3' 2>/dev/null || {
  echo "All tests need Python's samtranslator and boto3: pip install aws-sam-translator boto3 (make test does without)" >&2
  exit 1
}
