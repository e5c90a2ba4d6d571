#!/usr/bin/env bash
# upx.sh PROGRAM DIR packs PROGRAM to DIR: process-wrapper by NRV, which starts faster, and
# process-wrapper-lzma, which is smaller. docs/images.md has the numbers.
set -euo pipefail

program=$1
dir=$2
upx=${UPX:-upx}
if ! command -v "$upx" >/dev/null; then
  echo "$upx is not installed. Debian 13 has it in main, Debian 12 in bookworm-backports: apt-get install upx-ucl" >&2
  exit 1
fi

# Packing takes seconds, so it is not done again for the same program.
sum=$(cksum <"$program")
if [[ -e $dir/.sum && $(<"$dir/.sum") == "$sum" ]]; then
  exit 0
fi
mkdir -p "$dir"
rm -f "$dir/.sum"

# What is packed needs a name of its own up to its extension, in the place of which upx puts another for what it writes meanwhile.
pack() { # NAME FLAG...
  cp "$program" "$dir/$1.new"
  "$upx" -qq -9 "${@:2}" "$dir/$1.new" >/dev/null # errors come on stderr
  "$upx" -qq -t "$dir/$1.new" >/dev/null
  mv "$dir/$1.new" "$dir/$1"
}
pack process-wrapper --nrv2e &
nrv=$!
pack process-wrapper-lzma --lzma
wait "$nrv"
echo "$sum" >"$dir/.sum"
