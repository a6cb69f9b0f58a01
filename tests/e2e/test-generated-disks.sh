#!/usr/bin/env bash
# A dozen disks drawn by seed are moved to images and back, byte for byte, or
# refused with nothing written: the short version of tools/soak disks.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] && [ -w /dev/loop-control ] || exit 77
for program in sfdisk mkfs.ext4 mkfs.vfat mkfs.xfs mkfs.btrfs mkntfs mcopy \
  debugfs python3; do
  command -v "$program" >/dev/null || exit 77
done
cd "$(dirname "$0")/../.."
python3 -m tools.soaks.disks --count 12 --seed 627
# Its free space is so scattered that the region takes all and gives some back.
python3 -m tools.soaks.disks --seed 5000 --only 53
