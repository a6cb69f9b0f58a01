#!/usr/bin/env bash
# An image that asks for it grows to the disk that the driver has left, in a
# virtual machine with a Debian kernel: table, partition (a linear device over the
# raw disk) and ext4, while a load writes to that and compares.  The machine's
# whole system is an initramfs.
#
#   test-grow.sh nbd|ublk bookworm|trixie
frontend=$1 release=$2
. "$(dirname "$0")/../e2e/office-functions.sh"
. "$(dirname "$0")/initramfs-functions.sh"

make_initramfs() {
  local root=$work/initramfs tool
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,modules,etc,mnt}
  for tool in dash cat df dmesg grep insmod ip ln mkdir mount rm sha256sum sleep \
    sync tail umount dmsetup fio resize2fs sed; do
    add_program "$root" "$(command -v "$tool")"
  done
  mv "$root/bin/dash" "$root/bin/sh"
  add_program "$root" "$streamd" "$streamctl"
  ln -s streamd "$root/bin/@streamd"
  ln -s /proc/mounts "$root/etc/mtab"
  cp "$work/office.pub" "$root/"
  cp "$work"/kernel/*.ko "$root/modules/"
  [ "$frontend" = ublk ] || rm -f "$root/modules/ublk_drv.ko"
  cp "$here/grow-init" "$root/init"
  printf 'url=%s modules="%s" device=%s\n' "http://10.0.2.2:${url##*:}" \
    "$kernel_modules $filesystem_modules" "$device" >"$root/settings"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

case $frontend in
  nbd) device=/dev/nbd0 ;;
  ublk) device=/dev/ublkb0 ;;
  *) die "no such front end: $frontend" ;;
esac
build_options=(--grow)
make_office
"$imgtool" show --repo "$work/repo" --pubkey "$work/office.pub" --json desk |
  jq -e '.grow == true' >/dev/null || die "the image does not ask to grow"
guids() {
  sfdisk -J "$1" 2>/dev/null |
    jq -c '[.partitiontable.id, .partitiontable.partitions[].uuid]'
}
before=$(guids "$work/target.img")
migrate
get_kernel "$release"
make_initramfs
machine_processors=2 run_machine "$work/initrd" \
  -drive "file=$work/source.img,format=raw,if=virtio,discard=unmap" \
  -nic user,model=virtio-net-pci

# The disk alone.
sgdisk -v "$work/source.img" >"$work/verified" 2>&1 || true
grep -q 'No problems found' "$work/verified" || die "$(cat "$work/verified")"
[ "$(guids "$work/source.img")" = "$before" ] || die "other GUIDs"
sfdisk -J "$work/source.img" | jq -c '[.partitiontable.partitions[] | [.start, .size]]' \
  >"$work/partitions"
whole=$(((767 - 51) * 2048))
[ "$(jq '.[2][1]' "$work/partitions")" = "$whole" ] || die "$(cat "$work/partitions")"
[ "$(jq -c '.[:2]' "$work/partitions")" = "$(sfdisk -J "$work/target.img" |
  jq -c '[.partitiontable.partitions[:2][] | [.start, .size]]')" ] ||
  die "other partitions: $(cat "$work/partitions")"
cmp --bytes=$((49 << 20)) --ignore-initial=$((1 << 20)) "$work/source.img" \
  "$work/target.img" || die "something before the last partition was written"
dd if="$work/source.img" of="$work/last.img" bs=1M skip=51 count=716 \
  conv=sparse status=none
e2fsck -fn "$work/last.img" >"$work/fsck" 2>&1 || die "$(cat "$work/fsck")"
blocks=$(dumpe2fs -h "$work/last.img" 2>/dev/null |
  sed -n 's/^Block count: *//p;s/^Block size: */*/p' | tr -d '\n')
[ $((blocks)) = $((whole * 512)) ] || die "the file system has $((blocks)) bytes"
sum=$(debugfs -R 'cat load' "$work/last.img" 2>/dev/null | sha256sum)
grep -aq "^TOLD load ${sum%% *}" "$work/console" || die "load: ${sum%% *}"
echo "passed: $frontend on $release"
