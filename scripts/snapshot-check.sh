#!/usr/bin/env bash
# snapshot-check.sh looks at what make snapshot left in dist/: checksums, the bytes of the programs
# against those of make build, the files of archives and packages, and bills of materials.
set -euo pipefail

arch=$(go env GOARCH)
version=$(sed -n 's/.*"version":"\([^"]*\)".*/\1/p' dist/metadata.json)
fail() { echo "snapshot-check: $1" >&2; exit 1; }
[[ -n $version ]] || fail 'dist/metadata.json has no version'

# What docs/releasing.md promises, for every platform, under its name and with its checksum.
expected() {
  local program package platform format
  for platform in linux_amd64 linux_arm64 darwin_amd64 darwin_arm64; do
    for program in process-wrapper shared-lock metadata-mock metrics-server prommerge; do
      [[ $program == metrics-server && $platform == darwin_* ]] && continue
      echo "${program}_${version}_$platform.tar.gz"
      echo "${program}_${version}_$platform.cdx.json"
    done
    [[ $platform == linux_* ]] || continue
    for package in process-wrapper shared-lock metadata-mock process-wrapper-metrics-server prommerge; do
      for format in deb rpm apk; do echo "${package}_${version}_$platform.$format"; done
    done
    if command -v upx >/dev/null; then echo "process-wrapper-packed_${version}_$platform.tar.gz"; fi
  done
}
for name in $(expected); do
  [[ -s dist/$name ]] || fail "dist/ has no $name"
  grep -qF "  $name" dist/checksums.txt || fail "checksums.txt has no $name"
done

(cd dist && sha256sum --quiet --strict -c checksums.txt) || fail 'a checksum is wrong'

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
make build BIN="$temp/bin" VERSION="v$version"
for program in process-wrapper shared-lock metadata-mock metrics-server prommerge; do
  archive=dist/${program}_${version}_linux_$arch.tar.gz
  tar -xzf "$archive" -C "$temp"
  cmp "$temp/$program" "$temp/bin/$program" || fail "$program of $archive is not what make build gives"
  for file in LICENSE README.md CHANGELOG.md THIRD-PARTY-LICENSES.txt; do
    [[ -s $temp/$file ]] || fail "$archive has no $file"
    rm "${temp:?}/$file"
  done
  "$temp/$program" -version | grep -q "^$program v$version (commit [0-9a-f]\{12\} of " || fail "$program says $("$temp/$program" -version)"
  grep -q "\"content\": \"$(sha256sum <"$temp/$program" | cut -d' ' -f1)\"" "dist/${program}_${version}_linux_$arch.cdx.json" ||
    fail "the bill of materials of $program is of another binary"
done

if command -v dpkg-deb >/dev/null; then
  for pair in process-wrapper:process-wrapper shared-lock:shared-lock metadata-mock:metadata-mock \
    process-wrapper-metrics-server:metrics-server prommerge:prommerge; do
    package=dist/${pair%%:*}_${version}_linux_$arch.deb
    dpkg-deb -x "$package" "$temp/root"
    cmp "$temp/root/usr/bin/${pair##*:}" "$temp/bin/${pair##*:}" || fail "the program of $package is another one"
  done
  for unit in shared-lock metrics-server prommerge; do
    cmp "$temp/root/usr/lib/systemd/system/$unit.service" "deployment/systemd/$unit.service" || fail "no unit of $unit"
    package=$unit
    [[ $unit != metrics-server ]] || package=process-wrapper-metrics-server
    dpkg-deb -e "dist/${package}_${version}_linux_$arch.deb" "$temp/control"
    cmp "$temp/control/postinst" "deployment/systemd/$unit.postinstall" || fail "$package does not start anew what runs"
    cmp "$temp/control/prerm" "deployment/systemd/$unit.preremove" || fail "$package does not stop what it removes"
    rm -r "$temp/control"
  done
fi
# The same commit once more, from a clone in another directory: archives and packages have the same bytes too.
if [[ -n $(git status --porcelain) ]]; then
  echo 'SKIPPED: the comparison of two snapshots, as there are changes that are in no commit.' >&2
  [[ ${CI:-} != true ]] || fail 'CI=true: nothing may be skipped'
else
  git clone -q . "$temp/again"
  mkdir -p "$temp/again/bin"
  cp bin/goreleaser "$temp/again/bin/"
  (cd "$temp/again" && scripts/snapshot.sh --quick >"$temp/log" 2>&1) || { tail -n 20 "$temp/log" >&2; fail 'the second snapshot failed'; }
  compared=0
  while read -r sum name; do
    grep -qxF "$sum  $name" dist/checksums.txt || fail "$name has other bytes when it is made in another directory"
    compared=$((compared + 1))
  done <"$temp/again/dist/checksums.txt"
  [[ $compared -ge 20 ]] || fail "only $compared files were compared"
  echo "Two snapshots agree in $compared files."
fi
echo "The snapshot of $version is good."
