#!/usr/bin/env bash
# packages.sh PURPOSE PACKAGE... installs Debian packages that are missing, where it can.
# Elsewhere it says what will be skipped; under CI=true that is an error.
set -euo pipefail

purpose=$1
shift

missing=()
if command -v dpkg >/dev/null; then
  for package in "$@"; do
    dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed' || missing+=("$package")
  done
else
  missing=("$@")
fi
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
  echo "Installing ${missing[*]}, for $purpose."
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  policy=/usr/sbin/policy-rc.d # says whether the packages may start their services: they may not
  if [[ -e $policy ]]; then
    trap 'rm -f "$log"' EXIT
  else
    trap 'rm -f "$log" "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  if { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    exit 0
  fi
  tail -n 20 "$log" >&2
  echo "SKIPPED: $purpose, as far as it needs ${missing[*]}: apt-get could not install that, see above." >&2
else
  echo "SKIPPED: $purpose, as far as it needs ${missing[*]} (Debian's names): installed for you only when root on Debian or Ubuntu." >&2
fi
if [[ ${CI:-} == true ]]; then
  echo "CI=true: nothing may be skipped." >&2
  exit 1
fi
