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
echo 'FRONTEND=auto' >/etc/bootstream/bootstream.conf

failed=0
says() { printf '%s\n' "$@" >/run/test/console; }
: >/run/test/console
program() { # NAME BODY: a program that notes its call
  printf '#!/bin/sh\necho "%s $*" >>/run/test/calls\n%s\n' "$1" "$2" \
    >"/run/test/bin/$1"
  chmod 755 "/run/test/bin/$1"
}

# boot ANSWER [STREAMD_RUN_CODE]: one boot up to the scan.  Who is at the
# console says what is in /run/test/console, nothing to begin with; $panic is
# the kernel's panic=, $cmdline its whole command line.
panic='' cmdline=''
: >/run/test/cmdline
mount --bind /run/test/cmdline /proc/cmdline
# What init reads after each script.
mkdir -p /conf
trap 'umount /conf && rmdir /conf' EXIT
mount -t tmpfs tmpfs /conf
boot() {
  echo "BOOT_IMAGE=x ${cmdline}" >/run/test/cmdline
  rm -rf /run/bootstream /run/net-* /run/systemd /conf/*
  : >/run/test/calls
  if [ -n "$1" ]; then echo "$1"; fi >/run/test/answer
  program streamd "[ \"\$1\" != leave ] || {
    [ ${leave_code:-0} != 0 ] || echo '{\"found\":false,\"warnings\":[]}' >/run/test/answer
    exit ${leave_code:-0}
  }
  cat /run/test/answer; [ -s /run/test/answer ]"
  program @streamd "exit ${2:-0}"
  program modprobe "case ' ${lacks:-} ' in *\" \$1 \"*) exit 1 ;; esac"
  program bootagent "exit ${rollback_code:-0}"
  program reboot 'kill $PPID'
  PATH=/run/test/bin:/usr/sbin:/usr/bin:/sbin:/bin timeout 20 dash -c '
    panic() { echo "panic $*" >>/run/test/calls; exit 1; }
    wait_for_udev() { :; }
    configure_networking() {
      echo "network IP=$IP" >>/run/test/calls; : >/run/net-eth0.conf
    }
    IP=; ROOT=UUID=1; panic="$2"
    # Lines are read one by one, as from a console.
    exec 9</run/test/console
    . "$1/bootstream"
    bootstream_answer() { read -r answer <&9; }
    bootstream_is_mapped() { :; }
    bootstream_scan
    echo "goes on" >>/run/test/calls' dash "$scripts" "$panic" \
    >/run/test/output 2>&1 || true
}

expect() { # WHAT PATTERN
  grep -qE -- "$2" /run/test/calls && return
  echo "FAIL: $1: no call like '$2' in:" && cat /run/test/calls
  failed=1
}

expect_said() {
  grep -qE -- "$2" /run/test/output && return
  echo "FAIL: $1: nothing like '$2' in:" && cat /run/test/output
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

[ ! -e /conf/param.conf ] || { echo 'FAIL: no anchor: no resume'; failed=1; }

streaming='{"boots_without_health":0,"committed":false,"disk":"/dev/vdz","found":true,"healthy_once":false,"image":"desk","migration_id":"0123abcd0000000000000000000000ff","network":"","network_needed":true,"phase":"streaming","rollback_wished":false,"warnings":[]}'
boot "$streaming"
expect 'streaming' '^modprobe dm_mod$'
expect 'streaming' '^modprobe ublk_drv$'
expect 'streaming' '^network IP=$'
expect 'streaming' '^@streamd run --disk /dev/vdz --frontend auto --takeover --daemonize'
expect 'streaming' '^goes on$'
grep -q AllowHibernation=no /run/systemd/sleep.conf.d/bootstream.conf ||
  { echo 'FAIL: hibernation is allowed'; failed=1; }
does_not_resume() { # WHAT: as local-premount/resume would be called
  # shellcheck disable=SC2016
  [ "$(resume=/dev/vdz5 noresume='' sh -c \
    '. /conf/param.conf; echo "$noresume$resume"')" = y ] ||
    { echo "FAIL: $1: an image of memory wakes up"; failed=1; }
}
does_not_resume 'streaming'

# What offers the device.
lacks=ublk_drv boot "$streaming"
expect 'no ublk' '^modprobe nbd max_part=0'
expect_not 'no ublk' '^(modprobe fuse|panic)'
expect 'no ublk' '^@streamd run'
lacks='ublk_drv nbd' boot "$streaming"
expect 'only FUSE' '^modprobe fuse$'
expect 'only FUSE' '^modprobe loop$'
expect 'only FUSE' '^@streamd run'
lacks='ublk_drv nbd fuse' boot "$streaming"
expect 'no front end' '^panic'
expect_not 'no front end' '^(@streamd|goes on)'
for frontend in ublk nbd fuse; do
  echo "FRONTEND=$frontend" >/etc/bootstream/bootstream.conf
  boot "$streaming"
  expect "$frontend" "^modprobe ${frontend/%ublk/ublk_drv}"
  expect "$frontend" "^@streamd run --disk /dev/vdz --frontend $frontend "
  [ "$(grep -cE '^modprobe (ublk_drv|nbd|fuse)' /run/test/calls)" = 1 ] ||
    { echo "FAIL: $frontend: other modules"; failed=1; }
  lacks='ublk_drv nbd fuse' boot "$streaming"
  expect "no $frontend" '^panic'
  expect_not "no $frontend" '^(@streamd|goes on)'
done
echo 'FRONTEND=auto' >/etc/bootstream/bootstream.conf

boot "${streaming/\"network_needed\":true/\"network_needed\":false}"
expect_not 'complete' '^network'
expect 'complete' '^@streamd run'

boot "${streaming/\"network\":\"\"/\"network\":\"ip=10.1.2.3::10.1.2.1:255.255.255.0\"}"
expect 'noted network' '^network IP=10.1.2.3::10.1.2.1:255.255.255.0$'

boot "${streaming/\"rollback_wished\":false/\"rollback_wished\":true}"
expect 'rollback' '^bootagent rollback --disk /dev/vdz --yes$'
expect 'rollback' '^reboot -f$'
expect_not 'rollback' '^(@streamd|goes on)'

# The last of it.
settled="${streaming/\"phase\":\"streaming\"/\"phase\":\"settled\"}"
boot "$settled"
expect 'settled' '^streamd leave --disk /dev/vdz --pubkey /etc/bootstream/pubkey.pem$'
expect 'settled' '^goes on$'
does_not_resume 'settled'
[ ! -e /run/systemd/sleep.conf.d/bootstream.conf ] ||
  { echo 'FAIL: settled: no hibernation'; failed=1; }
expect_not 'settled' '^(modprobe|@streamd|network|panic)'
leave_code=1 boot "$settled"
expect 'settled, and it cannot leave' '^@streamd run'
leaving='{"disk":"/dev/vdz","found":true,"phase":"leaving","warnings":[]}'
boot "$leaving"
expect 'leaving' '^streamd leave --disk /dev/vdz '
expect 'leaving' '^goes on$'
leave_code=1 boot "$leaving"
expect 'it cannot leave' '^panic'
expect_not 'it cannot leave' '^(@streamd|goes on)'

boot "$streaming" 1
expect 'driver fails' '^panic bootstream: '
expect_said 'driver fails' 'the boot stops here, so that nothing is damaged'
does_not_resume 'driver fails'
expect_said 'driver fails' 'Code for support: 0123abcd-streaming-0$'
expect_not 'driver fails' '^goes on$'

boot ''
expect 'scan fails' '^panic bootstream: '
expect_said 'scan fails' 'the boot stops here'
expect_not 'scan fails' '^(goes on|@streamd)'

# The choice at the console.
says 3
boot "$streaming" 1
expect 'a shell' '^panic bootstream: '
expect_said 'a shell' '2  go back to the old system'
says 4
boot "$streaming" 1
expect 'restart' '^reboot -f$'
says nonsense 2 n 2 y
boot "$streaming" 1
expect 'the old system' '^bootagent rollback --disk /dev/vdz --yes$'
expect 'the old system' '^reboot -f$'
[ "$(grep -c '^bootagent' /run/test/calls)" = 1 ] ||
  { echo 'FAIL: rolled back without a yes'; failed=1; }
says 1 3
boot "$streaming" 1
[ "$(grep -c '^@streamd' /run/test/calls)" = 2 ] ||
  { echo 'FAIL: again does not try again'; failed=1; }
says 2 3
boot "${streaming/\"committed\":false/\"committed\":true}" 1
expect_not 'committed' '^bootagent'
says 2 y
panic=30 boot "$streaming" 1
expect 'panic= is set' '^panic bootstream: '
expect_not 'panic= is set' '^bootagent'
: >/run/test/console

# The target never came up.
unhealthy="${streaming/\"boots_without_health\":0/\"boots_without_health\":3}"
boot "$unhealthy"
expect 'given up' '^bootagent rollback --disk /dev/vdz --yes$'
expect 'given up' '^reboot -f$'
expect_said 'given up' 'because the new one did not come up in 3 boots'
expect_not 'given up' '^(@streamd|goes on)'
boot "${streaming/\"boots_without_health\":0/\"boots_without_health\":2}"
expect 'not yet' '^goes on$'
expect_not 'not yet' '^bootagent'
boot "${unhealthy/\"healthy_once\":false/\"healthy_once\":true}"
expect 'was healthy once' '^goes on$'
expect_not 'was healthy once' '^bootagent'
boot "${unhealthy/\"committed\":false/\"committed\":true}"
expect_not 'committed' '^bootagent'
cmdline='quiet bootstream.health-boots=4' boot "$unhealthy"
expect 'more patience' '^goes on$'
cmdline='bootstream.health-boots=0' boot "$unhealthy"
expect 'endless patience' '^goes on$'
echo 'HEALTH_BOOTS=4' >>/etc/bootstream/bootstream.conf
boot "$unhealthy"
expect 'more patience by file' '^goes on$'
cmdline='bootstream.health-boots=soon' boot "$unhealthy"
expect 'no number' '^bootagent rollback'
echo 'FRONTEND=auto' >/etc/bootstream/bootstream.conf
# A way back that fails is not tried again by itself.
says 1
rollback_code=1 boot "$unhealthy"
expect 'rollback fails' '^bootagent rollback'
expect 'rollback fails' '^@streamd run'
expect 'rollback fails' '^goes on$'
: >/run/test/console

boot 'garbage'
expect 'scan talks nonsense' '^panic'
expect_not 'scan talks nonsense' '^goes on$'

exit $failed
