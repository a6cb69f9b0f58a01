#!/usr/bin/env bash
# The driver leaves under load, in a virtual machine with a Debian kernel whose
# disk it has taken over: commit, settle, and the live partitions are over the raw
# disk, without an I/O error and without a driver.  The machine's whole system is
# an initramfs.  Then the disk alone has all that was written.
#
#   test-detach.sh nbd|ublk bookworm|trixie [KILLS [SEED]]
#
# KILLS: the driver's worker is killed so often while it is about to leave.
# MEASURE_ROUNDS and MEASURE_SECONDS are tools/bench detach's: afterwards, and once
# more after a restart, reads of a partition are measured beside those of two disks
# that never had us.
frontend=$1 release=$2 kills=${3:-0} seed=${4:-$RANDOM}
. "$(dirname "$0")/../e2e/office-functions.sh"
. "$(dirname "$0")/initramfs-functions.sh"

# make_initramfs AFTER: 1: the driver has left, and reads are measured again.
make_initramfs() {
  local root=$work/initramfs tool
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,modules}
  for tool in dash cat dmesg grep insmod ip ln mkdir mount mv rm sha256sum sleep \
    sync tail blockdev dmsetup fio; do
    add_program "$root" "$(command -v "$tool")"
  done
  mv "$root/bin/dash" "$root/bin/sh"
  add_program "$root" "$streamd" "$streamctl"
  ln -s streamd "$root/bin/@streamd"
  cp "$work/office.pub" "$root/"
  cp "$work"/kernel/*.ko "$root/modules/"
  [ "$frontend" = ublk ] || rm -f "$root/modules/ublk_drv.ko"
  cp "$here/detach-init" "$root/init"
  printf 'url=%s modules="%s" device=%s kills=%d seed=%d rounds=%d seconds=%d after=%d\n' \
    "http://10.0.2.2:${url##*:}" "$kernel_modules" "$device" "$kills" "$seed" \
    "${MEASURE_ROUNDS:-0}" "${MEASURE_SECONDS:-1}" "$1" >"$root/settings"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

case $frontend in
  nbd) device=/dev/nbd0 ;;
  ublk) device=/dev/ublkb0 ;;
  *) die "no such front end: $frontend" ;;
esac
# Where it is killed, leaving takes a while.
slow=
[ "$kills" = 0 ] || slow=,throttling.iops-write=80
make_office
plain=()
if [ "${MEASURE_ROUNDS:-0}" != 0 ]; then
  for name in raw other; do
    cp "$work/target.img" "$work/$name.img"
    plain+=(-drive "file=$work/$name.img,format=raw,if=virtio,discard=unmap")
  done
fi
migrate
get_kernel "$release"
machine_processors=2
machine_seconds=$((300 + 100 * ${MEASURE_ROUNDS:-0} * ${MEASURE_SECONDS:-1}))
make_initramfs 0
run_machine "$work/initrd" \
  -drive "file=$work/source.img,format=raw,if=virtio,discard=unmap$slow" \
  "${plain[@]}" -nic user,model=virtio-net-pci
sed -n 's/^.*\(held for [0-9]* us\).*/\1/p' "$work/console"

# Nothing but the image and what was written: firmware needs nobody's help.
"$streamd" scan --disk "$work/source.img" >"$work/scan"
[ "$(jq .found "$work/scan")" = false ] || die "found again"
! grep -qa BSANCHR1 "$work/source.img" || die "an anchor is left"
for part in 1:1:34 2:35:16 3:51:44; do
  IFS=: read -r number start size <<<"$part"
  sum=$(dd if="$work/source.img" bs=1M skip="$start" count="$size" status=none |
    sha256sum)
  grep -aq "^TOLD partition $number ${sum%% *}" "$work/console" ||
    die "partition $number: the raw disk has ${sum%% *}"
done
# Partitions 1 and 2 are as they were published.
cmp --bytes=$((50 << 20)) "$work/source.img" "$work/target.img" ||
  die "not the image"
if [ "${MEASURE_ROUNDS:-0}" != 0 ]; then
  make_initramfs 1
  run_machine "$work/initrd" \
    -drive "file=$work/source.img,format=raw,if=virtio,discard=unmap" \
    "${plain[@]}" -nic user,model=virtio-net-pci
fi
echo "passed: $frontend on $release, seed $seed"
