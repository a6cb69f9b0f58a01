#!/usr/bin/env bash
# Whether this machine is streamed, as the package's removal and the hook of
# the initramfs ask: in doubt it is.  Runs the script in a mount namespace with
# a /usr/sbin/streamd that only answers.
set -euo pipefail
if [ "${1:-}" != inside ]; then
  [ "$(id -u)" = 0 ] || { echo 'needs root'; exit 77; }
  exec unshare --mount "$0" inside
fi

script=$(cd "$(dirname "$0")/../../initramfs" && pwd)/anchor-exists
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp "$script" "$scratch/anchor-exists"
mount --make-rprivate /
mount -t tmpfs none /run
mount -t tmpfs none /usr/sbin

failed=0
# expect WHAT CODE ANSWER [STREAMD_CODE]
expect() {
  printf '#!/bin/sh\necho '\''%s'\''\nexit %s\n' "$3" "${4:-0}" \
    >/usr/sbin/streamd
  chmod 755 /usr/sbin/streamd
  code=0
  sh "$scratch/anchor-exists" || code=$?
  [ "$code" = "$2" ] && return
  echo "FAIL: $1: exit code $code instead of $2"
  failed=1
}

expect 'no anchor' 1 '{"found":false,"warnings":[]}'
expect 'an anchor' 0 '{"disk":"/dev/vdz","found":true,"warnings":[]}'
expect 'a scan that fails' 0 '' 1
expect 'a scan that says nothing' 0 ''
mkdir /run/bootstream
: >/run/bootstream/control
expect 'a driver that runs' 0 '{"found":false,"warnings":[]}'
exit $failed
