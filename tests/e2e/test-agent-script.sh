#!/bin/bash
# What the agent's image does with each order on the kernel command line.  Runs
# its boot script in dash with a bootagent that only writes down how it was
# called, in a mount namespace with a /run, a /scripts and a /proc/cmdline of
# its own.
set -euo pipefail

script=$(readlink -f "$(dirname "$0")/../../bootagent/mkimage/agent/script")
[ "$(id -u)" = 0 ] || exit 77
if [ "${IN_NAMESPACE:-}" != 1 ]; then
  IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
mount -t tmpfs tmpfs /run
mkdir -p /run/test/bin
cat >/run/test/functions <<'END'
panic() { echo "panic $*" >>/run/test/calls; exit 1; }
configure_networking() {
  echo "network" >>/run/test/calls; : >/run/net-eth0.conf
}
END
# The script sources the initramfs's own functions by an absolute path.
sed 's|^\. /scripts/functions$|. /run/test/functions|' "$script" \
  >/run/test/script
: >/run/test/cmdline
mount --bind /run/test/cmdline /proc/cmdline

failed=0
program() {
  printf '#!/bin/sh\necho "%s $*" >>/run/test/calls\n%s\n' "$1" "$2" \
    >"/run/test/bin/$1"
  chmod 755 "/run/test/bin/$1"
}

# boot COMMAND_LINE [STATUS_JSON] [BOOTAGENT_CODE]
# $answers: a line of shell for the bootagent that is run.
boot() {
  rm -f /run/net-*
  : >/run/test/calls
  echo "BOOT_IMAGE=x console=ttyS0 $1" >/run/test/cmdline
  printf '%s\n' "${2:-{\"phase\":\"none\"\}}" >/run/test/status
  program bootagent "[ \"\$1\" != status ] || exec cat /run/test/status
    ${answers:-}
    exit ${3:-0}"
  program modprobe ''
  program sync ''
  program mount ''
  program poweroff 'kill -9 $PPID'
  program reboot 'kill -9 $PPID'
  PATH=/run/test/bin:/usr/sbin:/usr/bin:/sbin:/bin dash /run/test/script \
    >/run/test/output 2>&1 || true
}

expect() {
  grep -qE -- "$2" /run/test/calls /run/test/output && return
  echo "FAIL: $1: nothing like '$2' in:"
  cat /run/test/calls /run/test/output
  failed=1
}

expect_not() {
  grep -qE -- "$2" /run/test/calls || return 0
  echo "FAIL: $1: a call like '$2' in:" && cat /run/test/calls
  failed=1
}

# What the image brings with it.
mkdir -p /run/test/etc
sed -i 's|/etc/bootstream/min-version|/run/test/etc/min-version|' \
  /run/test/script
grep -q /run/test/etc/min-version /run/test/script

image='bootstream.server=http://a bootstream.server=http://b bootstream.image=desk:13'

boot "bootstream.action=migrate $image"
expect migrate '^network$'
expect migrate 'bootagent migrate --image desk:13 --pubkey /etc/bootstream/pubkey.pem --yes.* --server http://a --server http://b$'
expect migrate 'bootagent: migrate: begins$'
expect migrate 'bootagent: migrate: done$'
expect migrate '^reboot -f$'

boot "bootstream.action=migrate $image bootstream.disk=/dev/sdb ip=10.0.0.2::10.0.0.1:255.0.0.0 bootstream.when-full=block"
expect 'migrate with more' 'bootagent migrate --disk /dev/sdb .*--network 10.0.0.2::10.0.0.1:255.0.0.0 --when-full block$'

# Words are no patterns, even where there are files that match.
cd /run/test
touch bootstream.when-full=x
boot "bootstream.action=migrate $image bootstream.when-full=?"
expect 'no patterns' '^bootagent migrate .*--when-full [?]$'
rm bootstream.when-full=x

# The lowest version comes from the image too; bootagent takes the higher one.
boot "bootstream.action=migrate $image bootstream.min-version=13.2"
expect 'a lowest version' '^bootagent migrate .*--min-version 13.2$'
echo 13.1 >/run/test/etc/min-version
boot "bootstream.action=migrate $image"
expect 'of the image' '^bootagent migrate .*--min-version 13.1$'
boot "bootstream.action=plan $image bootstream.min-version=12"
expect 'of both' '^bootagent plan .*--min-version 12.* --min-version 13.1$'
rm /run/test/etc/min-version

boot "bootstream.action=migrate $image bootstream.onerror=poweroff" '' 3
expect 'migrate fails' 'bootagent: FAILED: the migration is not finished'
expect 'migrate fails' '^poweroff -f$'
expect_not 'migrate fails' '^reboot'

boot "bootstream.action=migrate $image" '' 1
expect 'migrate fails at a desk' '^panic '
expect_not 'migrate fails at a desk' '^(reboot|poweroff)'

boot 'bootstream.action=migrate bootstream.onerror=poweroff'
expect 'no image' 'FAILED: migrate needs bootstream.server'
expect_not 'no image' '^bootagent migrate'

boot 'bootstream.action=rollback bootstream.ondone=poweroff'
expect rollback '^bootagent rollback --yes$'
expect rollback '^poweroff -f$'
expect_not rollback '^network'

boot "bootstream.action=plan $image"
expect plan '^bootagent plan --image desk:13'
expect plan '^panic '

boot "$image"
expect 'no order' '^bootagent plan --image desk:13'
expect_not 'no order' '^bootagent (migrate|rollback)'

answers='case "$1" in rollback) exit 3 ;; esac'
for phase in armed streaming complete committed settled; do
  boot "$image" "{\"disk\":\"/dev/vda\",\"phase\":\"$phase\"}"
  expect "no order, $phase" 'this disk is ready'
  expect_not "no order, $phase" '^bootagent (plan|migrate|rollback --yes$)'
done
answers=

boot "bootstream.action=return $image bootstream.ondone=poweroff"
expect return '^bootagent return --yes --offline$'
expect return '^poweroff -f$'
expect_not 'return with all that it needs' '^network'

answers='case "$*" in *--offline*) exit 4 ;; esac'
boot "bootstream.action=return $image"
expect 'return fetches' '^network$'
expect 'return fetches' '^bootagent return --yes --server http://a --server http://b$'
expect 'return fetches' '^reboot -f$'
answers=

boot "bootstream.action=return bootstream.onerror=poweroff" '' 3
expect 'return is refused' 'bootagent: FAILED: the return is not finished'
expect_not 'return is refused' '^(network|reboot)'

# A target that has not come up is rolled back; one that may still is started.
armed='{"disk":"/dev/vda","phase":"streaming"}'
boot "$image" "$armed"
expect 'given up' '^bootagent rollback --yes --if-unhealthy 3$'
expect 'given up' 'did not come up in 3 starts'
expect 'given up' '^reboot -f$'
answers='case "$1" in rollback) exit 3 ;; esac'
boot "$image bootstream.health-boots=7" "$armed"
expect 'may still come up' '^bootagent rollback --yes --if-unhealthy 7$'
expect 'may still come up' 'this disk is ready'
expect_not 'may still come up' 'rollback --yes$'
answers=
boot "$image bootstream.health-boots=0" "$armed"
expect_not 'never given up' '^bootagent rollback'
expect 'never given up' 'this disk is ready'

boot "bootstream.action=migrate $image" '{"phase":"armed"}'
expect 'an order goes before an armed disk' '^bootagent migrate'

boot 'bootstream.action=dance bootstream.onerror=poweroff'
expect 'unknown order' 'FAILED: bootstream.action=dance is not known'

exit $failed
