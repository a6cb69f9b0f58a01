#!/usr/bin/env bash
# Sleep and swap over the streamed device, in a virtual machine with a Debian
# kernel whose disk the driver has taken over, while the image is still coming.
# The machine's whole system is an initramfs.
#
#   test-sleep.sh nbd|ublk bookworm|trixie [sleep|swap]
#
# sleep: suspended and resumed under load, with the hook that systemd calls; an
# attempt that cannot come off leaves everything running; there is no hibernation.
# swap: more memory is in use than there is, and the rest lies on the streamed
# device.  No I/O error, no wrong byte, neither there nor afterwards on the disk.
frontend=$1 release=$2 mode=${3:-sleep}
. "$(dirname "$0")/../e2e/office-functions.sh"
. "$(dirname "$0")/initramfs-functions.sh"

# Partitions 3: files; 4: for swap; 5: for fio.
make_target() {
  truncate -s 338M "$work/target.img"
  sgdisk -n1:2048:+34M -t1:ef00 -n2:0:+16M -t2:ea00 -n3:0:+110M -t3:8304 \
    -n4:0:+128M -t4:8200 -n5:0:+48M -t5:8300 "$work/target.img" >/dev/null
  mkfs.vfat -F 32 -s 1 --offset 2048 "$work/target.img" $((34 * 1024)) \
    >/dev/null
  mkdir -p "$work/boot/grub"
  tree "$work/boot/grub" 6
  tree "$work/root" 90
  (cd "$work/root" && sha256sum ./*) >"$work/files.sha256"
  mcopy -i "$work/target.img@@1M" "$work/boot/grub/0" ::LOADER.EFI
  mkfs.ext4 -q -d "$work/boot" -E offset=$((35 << 20)) "$work/target.img" 16M
  mkfs.ext4 -q -d "$work/root" -E offset=$((51 << 20)) "$work/target.img" 110M
}

make_initramfs() {
  local root=$work/initramfs tool
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,modules,mnt}
  for tool in dash cat dd dmesg grep insmod ip ln mkdir mkswap mount rm sed swapoff \
    sha256sum sleep swapon sync tail umount dmsetup fio; do
    add_program "$root" "$(command -v "$tool")"
  done
  mv "$root/bin/dash" "$root/bin/sh"
  add_program "$root" "$streamd" "$streamctl" "$BUILD_DIR/tests/dirty_memory"
  ln -s streamd "$root/bin/@streamd"
  cp "$work/office.pub" "$work/files.sha256" "$root/"
  cp "$work"/kernel/*.ko "$root/modules/"
  [ "$frontend" = ublk ] || rm -f "$root/modules/ublk_drv.ko"
  cp "$here/../../initramfs/systemd/system-sleep" "$root/bin/"
  cp "$here/sleep-init" "$root/init"
  printf 'url=%s modules="%s" device=%s mode=%s\n' "http://10.0.2.2:${url##*:}" \
    "$kernel_modules $filesystem_modules" "$device" "$mode" >"$root/settings"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

case $frontend in
  nbd) device=/dev/nbd0 ;;
  ublk) device=/dev/ublkb0 ;;
  *) die "no such front end: $frontend" ;;
esac
case $mode in
  sleep) memory=512 ;;
  swap) memory=384 ;;
  *) die "neither sleep nor swap: $mode" ;;
esac
make_office
migrate
get_kernel "$release"
make_initramfs
machine_processors=2
machine_seconds=520
machine_arguments=no_console_suspend
# Not virtio's card: 6.12 may send by it before it is there again.
run_machine "$work/initrd" -m "$memory" \
  -drive "file=$work/source.img,format=raw,if=virtio" \
  -machine pc,hpet=off -nic user,model=e1000

# As after a boot: from the disk, and the server for what is missing.
start_streamd socket
nbdcopy "nbd+unix:///?socket=$work/nbd" "$work/copy"
sum=$(sha256sum <"$work/copy")
grep -aq "^TOLD sha256 ${sum%% *}" "$work/console" ||
  die "the disk has not kept it: it has ${sum%% *}"
stop_streamd
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"
echo "passed: $mode, $frontend on $release"
