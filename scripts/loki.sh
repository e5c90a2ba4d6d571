#!/usr/bin/env bash
# loki.sh FILE builds Grafana Loki as FILE unless it is there. Its module has replace directives, so it
# cannot be a requirement of ours: a module is made for it, with its go.mod and go.sum.
set -euo pipefail

version=v3.7.8
out=$(realpath -m "$1")
[[ -x $out ]] && exit
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=
module=$(go mod download -json "github.com/grafana/loki/v3@$version" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
sed -e 's#^module .*#module loki#' -e '/^replace github.com\/grafana\/loki\/pkg\/push/d' -e '/^ignore/d' "$module" >go.mod
go mod edit -require "github.com/grafana/loki/v3@$version"
printf '//go:build tools\n\npackage tools\n\nimport _ "github.com/grafana/loki/v3/cmd/loki"\n' >tools.go
cp "$(go env GOMODCACHE)/github.com/grafana/loki/v3@$version/go.sum" .
go mod tidy -e
echo "Building Loki $version; this takes long once."
CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags '-s -w' -o "$out" github.com/grafana/loki/v3/cmd/loki
