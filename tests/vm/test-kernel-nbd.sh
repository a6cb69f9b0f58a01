#!/usr/bin/env bash
# The kernel-NBD front end in a virtual machine with a Debian kernel and, as
# its whole system, an initramfs of serve_memory, fio and a shell.
#
#   test-kernel-nbd.sh bookworm|trixie
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../../tools/images/functions.sh"
release=${1:-trixie}
[ "$(id -u)" -eq 0 ] || { echo "skipped: not root" >&2; exit 77; }
work=$(mktemp -d /dev/shm/bootstream-test.XXXXXX)
trap 'rm -rf "$work"' EXIT

# A tar of the release's kernel and its NBD module.
kernel_of() {
  local tree
  tree=$(mktemp -d "$work/kernel.XXXXXX")
  mmdebstrap --quiet --variant=extract --include=linux-image-amd64 "$1" - |
    tar --extract --directory "$tree" --wildcards \
      './boot/vmlinuz-*' '*/kernel/drivers/block/nbd.ko*'
  find "$tree" -name 'nbd.ko.xz' -exec xz -d {} +
  find "$tree" \( -name 'vmlinuz-*' -o -name nbd.ko \) \
    -exec mv -t "$tree" {} +
  mv "$tree"/vmlinuz-* "$tree/vmlinuz"
  tar --create --directory "$tree" vmlinuz nbd.ko
}

# add_program ROOT PATH...: with the libraries that it needs.
add_program() {
  local root=$1 program
  shift
  for program in "$@"; do
    cp -L "$program" "$root/bin/"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
      cp -nL --parents "$library" "$root/"
    done
  done
}

make_initramfs() {
  local root=$work/root tool
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run}
  for tool in dash cat dd cmp grep head insmod mkdir mount sleep truncate \
    blkdiscard blockdev fio; do
    add_program "$root" "$(command -v "$tool")"
  done
  mv "$root/bin/dash" "$root/bin/sh"
  add_program "$root" "$BUILD_DIR/tests/serve_memory"
  cp "$work/nbd.ko" "$root/"
  cp "$here/kernel-nbd-init" "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

untar "$(cached_tree "kernel-$release" "nbd 1" kernel_of "$release")" "$work"
make_initramfs
timeout 300 qemu-system-x86_64 -accel tcg,thread=multi -smp 1 -m 1536 \
  -nodefaults -display none -serial file:"$work/console" -no-reboot \
  -kernel "$work/vmlinuz" -initrd "$work/initrd" \
  -append "console=ttyS0 quiet panic=-1" </dev/null ||
  echo "qemu ended with $?"
if ! grep -q '^RESULT passed' "$work/console"; then
  cat "$work/console"
  exit 1
fi
grep -a '^TOLD' "$work/console" || true
echo "passed on $release"
