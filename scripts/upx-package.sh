#!/usr/bin/env bash
# upx-package.sh installs upx for the tests of packed binaries, from where Debian has it. Where it
# cannot be had those tests are skipped, also under CI=true: it is in no release of Debian 12.
set -euo pipefail

command -v upx >/dev/null && exit 0

skip() {
  echo "SKIPPED: tests of packed binaries: $1" >&2
  exit 0
}
if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  skip 'upx is installed for you only when root on Debian.'
fi

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
options=()
if grep -qs '^VERSION_CODENAME=bookworm$' /etc/os-release; then
  printf '%s\n' 'Types: deb' 'URIs: http://deb.debian.org/debian' 'Suites: bookworm-backports' 'Components: main' \
    'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >"$temp/backports.sources"
  mkdir -p "$temp/lists/partial"
  chmod 755 "$temp"
  options=(-o "Dir::Etc::sourceparts=/dev/null" -o "Dir::Etc::sourcelist=$temp/backports.sources" -o "Dir::State::lists=$temp/lists")
fi
echo 'Installing upx-ucl, for tests of packed binaries.'
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get "${options[@]}" update && apt-get "${options[@]}" install -y --no-install-recommends upx-ucl; } >"$temp/log" 2>&1; then
  tail -n 5 "$temp/log" >&2
  skip 'apt-get could not install upx-ucl, see above.'
fi
