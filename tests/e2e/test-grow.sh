#!/usr/bin/env bash
# `streamctl grow` on real disks that are in use: a loop device with partitions,
# its last one mounted, gets its table moved, its partition and its file system
# grown, at once or after a power cut; what must not be changed is not.
. "$(dirname "$0")/office-functions.sh"

[ "$(id -u)" -eq 0 ] || { echo "skipped: not root" >&2; exit 77; }
loop='' mounted=()

cleanup_grow() {
  local point
  for point in "${mounted[@]}"; do
    umount "$point" 2>/dev/null || true
  done
  [ -z "$loop" ] || losetup -d "$loop" 2>/dev/null || true
  cleanup
}
trap cleanup_grow EXIT

# make_disk SCRIPT IMAGE DISK: an image's table, made by sfdisk, on a larger disk.
make_disk() {
  rm -f "$work/disk.img"
  truncate -s "$2" "$work/disk.img"
  sfdisk -q "$work/disk.img" <<<"$1"
  truncate -s "$3" "$work/disk.img"
}

# use_disk NUMBER:START:SIZE...: as the kernel would see it after a start; sectors.
use_disk() {
  local part
  loop=$(losetup -fP --show "$work/disk.img")
  for part in "$@"; do
    IFS=: read -r number start size <<<"$part"
    # The kernel may read tables by itself.
    [ -b "${loop}p$number" ] || addpart "$loop" "$number" "$start" "$size" ||
      { echo "skipped: no partitions of loop devices" >&2; exit 77; }
  done
}

use_partition() { # NUMBER [OPTIONS...]
  mkdir -p "$work/mnt"
  mount "${@:2}" "${loop}p$1" "$work/mnt"
  mounted=("$work/mnt")
}

put_away() {
  [ ${#mounted[@]} = 0 ] || umount "$work/mnt"
  mounted=()
  losetup -d "$loop"
  loop=
}

grow() {
  "$streamctl" --control "$work/control" grow --root "$work/mnt" --json "$@" \
    >"$work/grown" 2>"$work/grow.log"
}
must_grow() { grow "$@" || die "grow: $? $(cat "$work/grow.log")"; }
grown() { jq -r "$1" "$work/grown"; }

# Sizes in sectors: of the last partition's entry, of the kernel's partition.
in_table() { sfdisk -J "$work/disk.img" 2>/dev/null | jq -r ".partitiontable.partitions[$1].size"; }
guids() {
  sfdisk -J "$work/disk.img" 2>/dev/null |
    jq -c '[.partitiontable.id, .partitiontable.partitions[].uuid]'
}
in_kernel() { cat "/sys/class/block/${loop#/dev/}p$1/size"; }

check_gpt() {
  sgdisk -v "$work/disk.img" >"$work/verified" 2>&1 || true
  grep -q 'No problems found' "$work/verified" || die "$(cat "$work/verified")"
}

gpt="label: gpt
first-lba: 2048
start=2048, size=4096, type=U
start=6144, size=733184, type=L, name=root"
parts=(1:2048:4096 2:6144:733184)
whole=$((1024 * 2048 - 2048 - 6144))

# can_grow TYPE: an ext4 in use is grown by who has CAP_SYS_RESOURCE only.
can_grow() {
  local effective
  effective=$(sed -n 's/^CapEff:\s*/0x/p' /proc/self/status)
  [ "$1" != ext4 ] || (((effective >> 24 & 1) == 1)) && command -v "mkfs.$1" >/dev/null
}

for type in ext4 xfs btrfs; do
  can_grow "$type" || { echo "$type: cannot be tried here"; continue; }
  make_disk "$gpt" 362M 1G
  before=$(guids)
  use_disk "${parts[@]}"
  "mkfs.$type" -q "${loop}p2" >"$work/mkfs.log" 2>&1 || die "$(cat "$work/mkfs.log")"
  use_partition 2
  head -c 20M /dev/urandom >"$work/mnt/file"
  sum=$(sha256sum <"$work/mnt/file")
  size=$(df --output=size "$work/mnt" | tail -n 1)

  must_grow --dry-run
  [ "$(grown .table_grows)" = true ] || die "$type: nothing to do"
  [ "$(in_table 1)" = 733184 ] || die "$type: a dry run changes the table"
  [ "$(in_kernel 2)" = 733184 ] || die "$type: a dry run changes the kernel"

  must_grow
  [ "$(in_table 1)" = "$whole" ] || die "$type: table: $(in_table 1)"
  [ "$(in_kernel 2)" = "$whole" ] || die "$type: kernel: $(in_kernel 2)"
  [ "$(grown .partition_bytes)" = $((whole * 512)) ] || die "$type: report"
  now=$(df --output=size "$work/mnt" | tail -n 1)
  [ "$now" -gt $((size * 2)) ] || die "$type: $now KiB, before $size"
  [ "$(grown .file_system_bytes)" -gt "$(grown .file_system_bytes_before)" ] ||
    die "$type: report: $(cat "$work/grown")"
  sync
  check_gpt
  [ "$(guids)" = "$before" ] || die "$type: other GUIDs"

  # Once more: nothing is left to be done.
  cp "$work/disk.img" "$work/before.img"
  must_grow
  [ "$(grown .table_grows)" = false ] || die "$type: the table again"
  # Room that only the grown file system has.
  head -c 450M /dev/zero >"$work/mnt/more" || die "$type: no room"
  [ "$(sha256sum <"$work/mnt/file")" = "$sum" ] || die "$type: other content"
  put_away
  use_disk 1:2048:4096 "2:6144:$whole"
  case $type in
  ext4) e2fsck -fn "${loop}p2" >"$work/fsck" 2>&1 || die "$(cat "$work/fsck")" ;;
  xfs) xfs_repair -n "${loop}p2" >"$work/fsck" 2>&1 || die "$(cat "$work/fsck")" ;;
  btrfs) btrfs check "${loop}p2" >"$work/fsck" 2>&1 || die "$(cat "$work/fsck")" ;;
  esac
  put_away
done

# The power failed when the table was written, and when the kernel knew, too.
for kernel_knows in no yes; do
  make_disk "$gpt" 362M 1G
  use_disk "${parts[@]}"
  mkfs.xfs -q "${loop}p2"
  use_partition 2
  must_grow
  umount "$work/mnt"
  mkfs.xfs -q -f -d size=358m "${loop}p2"
  [ "$kernel_knows" = yes ] || resizepart "$loop" 2 733184
  use_partition 2
  must_grow
  [ "$(grown .table_grows)" = false ] || die "the table again"
  [ "$(in_kernel 2)" = "$whole" ] || die "kernel: $(in_kernel 2)"
  [ "$(df --output=size "$work/mnt" | tail -n 1)" -gt 900000 ] ||
    die "the file system was forgotten"
  put_away
done

# A swap partition behind it: the table takes up the disk, no partition does.
make_disk "$gpt
start=739328, size=204, type=S" 362M 1G
use_disk "${parts[@]}" 3:739328:204
mkfs.xfs -q "${loop}p2"
use_partition 2
must_grow
[ "$(grown .partition)" = 3 ] || die "last: $(cat "$work/grown")"
[ "$(grown .left_alone)" != null ] || die "swap grows: $(cat "$work/grown")"
[ "$(in_table 1)" = 733184 ] && [ "$(in_table 2)" = 204 ] || die "a partition grew"
check_gpt
put_away

# An MBR; then one whose last partition is a logical one.
make_disk "label: dos
start=2048, size=733184, type=83" 360M 700M
use_disk 1:2048:733184
mkfs.xfs -q "${loop}p1"
use_partition 1
must_grow
[ "$(in_table 0)" = $((699 * 2048)) ] || die "MBR: $(in_table 0)"
[ "$(df --output=size "$work/mnt" | tail -n 1)" -gt 600000 ] || die "MBR: file system"
put_away
make_disk "label: dos
start=2048, size=733184, type=5
start=4096, size=731136, type=83" 360M 700M
use_disk 5:4096:731136
mkfs.xfs -q "${loop}p5"
use_partition 5
code=0
grow || code=$?
[ "$code" = 1 ] && grep -q 'logical' "$work/grow.log" ||
  die "logical: $code, $(cat "$work/grow.log")"
put_away

# A disk under migration is left as it is.
make_office
migrate
cp "$work/source.img" "$work/disk.img"
use_disk 2:71680:32768
use_partition 2 -o ro,noload
code=0
grow || code=$?
[ "$code" = 3 ] && grep -q 'under migration' "$work/grow.log" ||
  die "under migration: $code, $(cat "$work/grow.log")"
cmp "$work/source.img" "$work/disk.img" || die "under migration: written to"
put_away

# What --when-detached does where there is no driver: nothing, or what was wished
# before a power cut.  A driver whose image does not ask for it takes that back.
when_detached() {
  "$streamctl" --control "$work/control" grow --when-detached --root "$work/mnt" \
    --wish "$work/lib/grow" >"$work/grown" 2>"$work/grow.log" ||
    die "when detached: $? $(cat "$work/grow.log")"
}
make_disk "$gpt" 362M 1G
use_disk "${parts[@]}"
mkfs.xfs -q "${loop}p2"
use_partition 2
when_detached
[ "$(in_table 1)" = 733184 ] || die "nobody wished that"
mkdir "$work/lib"
echo desk >"$work/lib/grow"
start_streamd socket
when_detached
[ ! -e "$work/lib/grow" ] || die "another image's wish is left"
[ "$(in_table 1)" = 733184 ] || die "the image does not ask for it"
code=0
grow || code=$?
[ "$code" = 3 ] && grep -q 'driver' "$work/grow.log" || die "under a driver: $code"
stop_streamd
echo desk >"$work/lib/grow"
when_detached
[ "$(in_table 1)" = "$whole" ] || die "the wish is not carried out"
[ ! -e "$work/lib/grow" ] || die "the wish is left"
put_away

# No disk below it; a tool that is not there.
code=0
"$streamctl" --control "$work/control" grow --root /proc 2>"$work/no" || code=$?
[ "$code" = 1 ] || die "/proc: $code"
make_disk "$gpt" 362M 1G
use_disk "${parts[@]}"
mkfs.xfs -q "${loop}p2"
use_partition 2
code=0
PATH=/nowhere "$streamctl" --control "$work/control" grow --root "$work/mnt" \
  2>"$work/grow.log" >"$work/grown" || code=$?
[ "$code" = 1 ] && grep -q 'xfs_growfs is not installed' "$work/grow.log" ||
  die "no tool: $code, $(cat "$work/grow.log")"
must_grow
[ "$(df --output=size "$work/mnt" | tail -n 1)" -gt 900000 ] || die "not the second time"
put_away
echo passed
