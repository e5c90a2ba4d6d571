#!/usr/bin/env bash
# snapshot.sh [--quick] [--images] lets goreleaser build into dist/ and publish nothing. With --quick it is for
# linux/amd64 only. Images are left to make docker-build, unless --images lets goreleaser build them too; then a
# Docker has to run, and a plugin of its that is missing is stood in for.
set -euo pipefail

config=.goreleaser.yaml
skip=docker,publish
for arg in "$@"; do
  case $arg in
    --quick)
      config=$(mktemp --suffix .yaml)
      trap 'rm -f "$config"' EXIT
      sed -e 's/goos: .*/goos: [linux]/' -e 's/goarch: .*/goarch: [amd64]/' -e 's|platforms: .*|platforms: [linux/amd64]|' .goreleaser.yaml >"$config"
      ;;
    --images)
      skip=publish
      docker buildx version >/dev/null 2>&1 || export PATH=$PWD/scripts/buildx:$PATH
      ;;
    *) echo "usage: snapshot.sh [--quick] [--images]" >&2 && exit 2 ;;
  esac
done

# goreleaser takes a clone without a remote for one without commits.
if [[ -z $(git remote) ]]; then
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url GIT_CONFIG_VALUE_0=https://github.com/process-wrapper/process-wrapper
fi
if ! PACKED=$(command -v upx); then
  echo 'SKIPPED: packed binaries, as upx is not installed; see make upx.' >&2
  PACKED=
fi
export PACKED
bin/goreleaser release --config "$config" --snapshot --clean --skip="$skip"
