#!/usr/bin/env bash
# reproducible.sh builds the committed tree twice, each time in another directory and with an empty
# cache, and compares the programs byte by byte.
set -euo pipefail

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
for n in 1 2; do
  git clone -q --no-hardlinks . "$temp/clone$n$n$n"
  GOCACHE=$temp/cache$n make -C "$temp/clone$n$n$n" build BIN="$temp/bin$n"
  rm -rf "$temp/cache$n"
done
(cd "$temp" && diff -r bin1 bin2 && sha256sum bin1/*)
echo 'Both builds are identical.'
