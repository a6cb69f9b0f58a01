#!/usr/bin/env bash
# streamd's worker is killed under load in a virtual machine with a Debian
# kernel, whose disk it has taken over and serves as /dev/nbd0, /dev/ublkb0 or
# /dev/loop0, while the image is still coming: no I/O error, and everything that
# was answered is there; the old system's disk beside it is what it was.  The
# machine's whole system is an initramfs, and the driver's own files are gone
# from it by then.  The driver chooses what it serves as: with nbd the kernel has
# no ublk, with fuse neither.
#
#   test-keeper-device.sh nbd|ublk|fuse bookworm|trixie [KILLS [SEED]]
frontend=$1 release=$2 kills=${3:-2} seed=${4:-$RANDOM}
. "$(dirname "$0")/../e2e/office-functions.sh"
. "$(dirname "$0")/initramfs-functions.sh"

# add_python ROOT: as much of it as kill_load.py needs.
add_python() {
  local root=$1 version library
  version=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  add_program "$root" "$(command -v python3)"
  mkdir -p "$root/usr/lib/$version"
  (cd "/usr/lib/$version" &&
    cp -r ./*.py json collections re importlib encodings ctypes lib-dynload \
      "$root/usr/lib/$version/")
  for library in "$root/usr/lib/$version/lib-dynload"/*.so; do
    add_libraries "$root" "$library"
  done
}

make_initramfs() {
  local root=$work/initramfs tool
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,modules}
  for tool in dash cat dmesg grep head insmod ip mkdir mount rm sha256sum sleep \
    sync tail; do
    add_program "$root" "$(command -v "$tool")"
  done
  mv "$root/bin/dash" "$root/bin/sh"
  add_program "$root" "$streamd" "$streamctl"
  ln -s streamd "$root/bin/@streamd"
  add_python "$root"
  cp "$here/../support/kill_load.py" "$work/target.img" "$work/office.pub" \
    "$root/"
  cp "$work"/kernel/*.ko "$root/modules/"
  [ "$frontend" = ublk ] || rm -f "$root/modules/ublk_drv.ko"
  [ "$frontend" != fuse ] || rm -f "$root/modules/nbd.ko"
  cp "$here/keeper-device-init" "$root/init"
  printf 'kills=%d seed=%d url=%s modules="%s" device=%s\n' \
    "$kills" "$seed" "http://10.0.2.2:${url##*:}" "$kernel_modules" \
    "$device" >"$root/settings"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

case $frontend in
  nbd) device=/dev/nbd0 ;;
  ublk) device=/dev/ublkb0 ;;
  fuse) device=/dev/loop0 ;;
  *) die "no such front end: $frontend" ;;
esac
make_office
agent migrate --yes --stop-at staged >"$work/migrate.log" 2>&1 && die "no stop"
source_sum=$(head -c 2M "$work/source.img" | sha256sum)
migrate
get_kernel "$release"
make_initramfs
machine_processors=2 machine_seconds=$((240 + 20 * kills)) run_machine "$work/initrd" \
  -drive "file=$work/source.img,format=raw,if=virtio" \
  -nic user,model=virtio-net-pci
grep -a -o '{"kills".*}' "$work/console"

grep -aq "^TOLD source ${source_sum%% *}" "$work/console" ||
  die "the old system's disk begins with something else"

# As after a boot: from the disk alone, and the server for what is missing.
start_streamd socket
nbdcopy "nbd+unix:///?socket=$work/nbd" "$work/copy"
sum=$(sha256sum <"$work/copy")
grep -aq "^TOLD sha256 ${sum%% *}" "$work/console" ||
  die "the disk has not kept it: it has ${sum%% *}"
stop_streamd
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"
echo "passed: $frontend on $release, seed $seed"
