#!/usr/bin/env bash
# image-root.sh BIN DIR lays out in DIR what deployment/docker/Dockerfile copies into images: bin/
# holds the programs of BIN, base/ what all images share, shared/ is the target of injection.
# image-root.sh --release DIR does so in each DIR/linux/ARCH, of the programs that lie there.
set -euo pipefail

if [[ $1 == --release ]]; then
  for dir in "$2"/linux/*/; do
    "${BASH_SOURCE[0]}" "$dir" "$dir"
  done
  exit 0
fi
bin=$1
dir=$2

certificates=
for file in "${CA_CERTIFICATES:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
  [[ -n $file && -s $file ]] && certificates=$file && break
done
if [[ -z $certificates ]]; then
  echo "No CA certificates found for the images: install ca-certificates, or set CA_CERTIFICATES to a file." >&2
  exit 1
fi

rm -rf "${dir:?}"/{bin,base,shared}
mkdir -p "$dir"/{bin,shared,base/tmp,base/etc/ssl/certs}
chmod 1777 "$dir/base/tmp"
cp "$certificates" "$dir/base/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n' >"$dir/base/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$dir/base/etc/group"
chmod 0644 "$dir"/base/etc/{passwd,group,ssl/certs/ca-certificates.crt}
for program in process-wrapper shared-lock metadata-mock metrics-server prommerge; do
  [[ ! -e $bin/$program ]] || cp "$bin/$program" "$dir/bin/"
done
chmod 0755 "$dir"/bin/*
