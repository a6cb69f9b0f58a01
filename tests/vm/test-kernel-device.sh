#!/usr/bin/env bash
# A front end that is a block device of the kernel, in a virtual machine with a
# Debian kernel and, as its whole system, an initramfs of serve_memory, fio and a
# shell.
#
#   test-kernel-device.sh nbd|ublk bookworm|trixie
set -euo pipefail
frontend=$1
release=$2
work=$(mktemp -d /dev/shm/bootstream-test.XXXXXX)
trap 'rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/initramfs-functions.sh"

make_initramfs() {
  local root=$work/root tool
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run}
  for tool in dash cat dd cmp dmesg grep head insmod mkdir mount sleep truncate \
    blkdiscard blockdev fio; do
    add_program "$root" "$(command -v "$tool")"
  done
  mv "$root/bin/dash" "$root/bin/sh"
  add_program "$root" "$BUILD_DIR/tests/serve_memory"
  cp "$work"/kernel/{nbd,ublk_drv}.ko "$root/" 2>/dev/null || true
  echo "$frontend" >"$root/frontend"
  truncate -s 1M "$root/table"
  echo '8,,L' | sfdisk -q "$root/table"
  cp "$here/kernel-device-init" "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

get_kernel "$release"
make_initramfs
machine_processors=4 run_machine "$work/initrd"
echo "passed: $frontend on $release"
