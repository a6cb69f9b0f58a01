#!/usr/bin/env bash
# The kernel-NBD front end in a virtual machine with a Debian kernel and, as
# its whole system, an initramfs of serve_memory, fio and a shell.
#
#   test-kernel-nbd.sh bookworm|trixie
set -euo pipefail
release=${1:-trixie}
work=$(mktemp -d /dev/shm/bootstream-test.XXXXXX)
trap 'rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/initramfs-functions.sh"

make_initramfs() {
  local root=$work/root tool
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run}
  for tool in dash cat dd cmp grep head insmod mkdir mount sleep truncate \
    blkdiscard blockdev fio; do
    add_program "$root" "$(command -v "$tool")"
  done
  mv "$root/bin/dash" "$root/bin/sh"
  add_program "$root" "$BUILD_DIR/tests/serve_memory"
  cp "$work/kernel/nbd.ko" "$root/"
  cp "$here/kernel-nbd-init" "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

get_kernel "$release"
make_initramfs
run_machine "$work/initrd"
echo "passed on $release"
