#!/usr/bin/env bash
# release-version.sh [TAG] fails unless charts, manifests and docs have the version of TAG; by
# default of the tag that is checked out.
set -euo pipefail

fail() { echo "release-version: $1" >&2; exit 1; }
tag=${1:-$(git describe --tags --exact-match --match 'v*' 2>/dev/null)} || fail 'no tag is checked out: git checkout v1.2.3, or tag this commit'

for chart in deployment/helm/*/Chart.yaml; do
  for line in "version: ${tag#v}" "appVersion: $tag"; do
    grep -qxF "$line" "$chart" || fail "$chart has $(grep "^${line%% *}" "$chart"), the tag is $tag: see docs/releasing.md"
  done
done

images='ghcr\.io/process-wrapper/[a-z-]+:v[0-9][0-9A-Za-z.-]*'
others=$(grep -rnoE "$images" deployment/kubernetes docs/deployment.md docs/images.md | grep -v ":${tag//./\\.}\$" || true)
[[ -z $others ]] || fail "the tag is $tag, but there are images of another version, see docs/releasing.md:"$'\n'"$others"
