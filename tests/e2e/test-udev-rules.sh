#!/usr/bin/env bash
# What udev makes of a device that shows the old system, by our rules among
# Debian's: no links to it, for its UUIDs may be somebody else's too, and nobody
# mounts or assembles what is on it.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
here=$(dirname "$(readlink -f "$0")")
skip() { echo "skipped: $*" >&2; exit 77; }
die() { echo "FAILED: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || skip "not root"
[ -c /dev/loop-control ] || skip "the kernel has no loop devices"
command -v udevadm >/dev/null || skip "no udevadm"
[ -e /usr/lib/udev/rules.d/60-persistent-storage.rules ] || skip "no udev rules"
# /run as udev and we see it is ours alone.
if [ "${BOOTSTREAM_PRIVATE:-}" != 1 ]; then
  exec env BOOTSTREAM_PRIVATE=1 unshare --mount "$0"
fi
mount -t tmpfs tmpfs /run
mkdir -p /run/udev/rules.d /run/udev/data /run/bootstream/udev
cp "$here/../../initramfs/udev/59-bootstream.rules" /run/udev/rules.d/
truncate -s 16M /run/disk
mkfs.ext4 -q -L same -U 11111111-2222-3333-4444-555555555555 /run/disk
device=$(losetup --find --show --read-only /run/disk)
trap 'losetup --detach "$device"' EXIT

ask_udev() {
  udevadm test --action=change "/sys/block/${device#/dev/}" >/run/said 2>&1 ||
    die "udevadm: $(cat /run/said)"
}
ask_udev
grep -q '^ID_FS_UUID=11111111-' /run/said || die "not probed: $(cat /run/said)"
grep -q '^DEVLINKS=.*by-uuid/11111111-' /run/said || die "no link to anybody"

printf 'BOOTSTREAM_ROLE=source\nBOOTSTREAM_LINKS=\n' \
  >"/run/bootstream/udev/${device#/dev/}"
ask_udev
grep '^DEVLINKS=.*/by-' /run/said && die "links to the old system"
for property in SYSTEMD_READY=0 UDISKS_IGNORE=1 ID_BTRFS_READY=0; do
  grep -qx "$property" /run/said || die "no $property: $(cat /run/said)"
done
echo passed
