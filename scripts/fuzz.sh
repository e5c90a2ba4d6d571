#!/usr/bin/env bash
# fuzz.sh DURATION runs every fuzz target of the root module for that long, one after the other.
set -euo pipefail

duration=$1
while IFS=: read -r file target; do
  echo "# $target in ${file%/*}"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" -fuzzminimizetime 10x "./${file%/*}"
done < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' cmd pkg | sed 's/:func /:/')
