#!/bin/bash
# What the target's boot script does with each answer of `streamd scan`.  Runs
# its functions in dash with programs of the initramfs that only write down how
# they were called, in a mount namespace with a /run and an /etc/bootstream of
# its own.
set -euo pipefail

scripts=$(readlink -f "$(dirname "$0")/../../initramfs/scripts")
[ "$(id -u)" = 0 ] || exit 77
if [ "${IN_NAMESPACE:-}" != 1 ]; then
  IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
mount -t tmpfs tmpfs /run
mkdir -p /run/lower/etc /run/test/bin
mount -t tmpfs tmpfs /mnt
mkdir /mnt/{upper,work}
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work \
  overlay /etc
mkdir -p /etc/bootstream
echo 'FRONTEND=nbd' >/etc/bootstream/bootstream.conf

failed=0
program() { # NAME BODY: a program that notes its call
  printf '#!/bin/sh\necho "%s $*" >>/run/test/calls\n%s\n' "$1" "$2" \
    >"/run/test/bin/$1"
  chmod 755 "/run/test/bin/$1"
}

# boot ANSWER [STREAMD_RUN_CODE]: one boot up to the scan.
boot() {
  rm -rf /run/bootstream /run/net-* /run/systemd
  : >/run/test/calls
  if [ -n "$1" ]; then echo "$1"; fi >/run/test/answer
  program streamd 'cat /run/test/answer; [ -s /run/test/answer ]'
  program @streamd "exit ${2:-0}"
  program modprobe ''
  program bootagent ''
  program reboot 'kill $PPID'
  PATH=/run/test/bin:/usr/sbin:/usr/bin:/sbin:/bin dash -c '
    panic() { echo "panic $*" >>/run/test/calls; exit 1; }
    wait_for_udev() { :; }
    configure_networking() {
      echo "network IP=$IP" >>/run/test/calls; : >/run/net-eth0.conf
    }
    IP=; ROOT=UUID=1
    . "$1/bootstream"
    bootstream_is_mapped() { :; }
    bootstream_scan
    echo "goes on" >>/run/test/calls' dash "$scripts" \
    >/run/test/output 2>&1 || true
}

expect() { # WHAT PATTERN
  grep -qE -- "$2" /run/test/calls && return
  echo "FAIL: $1: no call like '$2' in:" && cat /run/test/calls
  failed=1
}

expect_not() {
  grep -qE -- "$2" /run/test/calls || return 0
  echo "FAIL: $1: a call like '$2' in:" && cat /run/test/calls
  failed=1
}

boot '{"found":false,"warnings":[]}'
expect 'no anchor' '^goes on$'
expect_not 'no anchor' '^(modprobe|@streamd|network|panic)'
[ ! -s /run/test/output ] || { echo 'FAIL: no anchor: not silent'; failed=1; }

streaming='{"disk":"/dev/vdz","found":true,"image":"desk","network":"","network_needed":true,"phase":"streaming","rollback_wished":false,"warnings":[]}'
boot "$streaming"
expect 'streaming' '^modprobe dm_mod$'
expect 'streaming' '^modprobe nbd max_part=0'
expect 'streaming' '^network IP=$'
expect 'streaming' '^@streamd run --disk /dev/vdz --frontend nbd --takeover --daemonize'
expect 'streaming' '^goes on$'
grep -q AllowHibernation=no /run/systemd/sleep.conf.d/bootstream.conf ||
  { echo 'FAIL: hibernation is allowed'; failed=1; }

boot "${streaming/\"network_needed\":true/\"network_needed\":false}"
expect_not 'complete' '^network'
expect 'complete' '^@streamd run'

boot "${streaming/\"network\":\"\"/\"network\":\"ip=10.1.2.3::10.1.2.1:255.255.255.0\"}"
expect 'noted network' '^network IP=10.1.2.3::10.1.2.1:255.255.255.0$'

boot "${streaming/\"rollback_wished\":false/\"rollback_wished\":true}"
expect 'rollback' '^bootagent rollback --disk /dev/vdz --yes$'
expect 'rollback' '^reboot -f$'
expect_not 'rollback' '^(@streamd|goes on)'

boot "$streaming" 1
expect 'driver fails' '^panic bootstream: the boot stops here'
expect_not 'driver fails' '^goes on$'

boot ''
expect 'scan fails' '^panic bootstream: the boot stops here'
expect_not 'scan fails' '^(goes on|@streamd)'

boot 'garbage'
expect 'scan talks nonsense' '^panic'
expect_not 'scan talks nonsense' '^goes on$'

exit $failed
