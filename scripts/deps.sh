#!/usr/bin/env bash
# Installs what the tests need from Debian's packages where it can (as root), and otherwise
# names what is missing. Tools that no package offers are named too.
# deps.sh [base|full|bench]: base is what `make test` needs, full (the build tag) what all tests need,
# bench what `make bench` needs.
set -euo pipefail

tier=${1:-base}
packages=(redis-server)
case $tier in
  base) ;;
  full) packages+=(chromium) ;;
  bench) packages+=(postgresql) ;;
  *) echo "deps.sh: there is no tier $tier: base, full or bench" >&2; exit 2 ;;
esac

# Debian keeps the server of PostgreSQL off the PATH, in a folder for each version.
installed() {
  case $1 in
    postgresql) command -v postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' ;;
    *) command -v "$1" ;;
  esac >/dev/null
}

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # Benchmarks start a server of their own; the package would make and start another.
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql-common >/dev/null
      sed -i -E 's/^#? *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    echo "Tests and benchmarks need ${missing[*]}: sudo apt-get install ${missing[*]}" >&2
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
