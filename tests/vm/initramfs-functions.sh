# shellcheck shell=bash disable=SC2154
# Sourced by tests whose machine is a Debian kernel and an initramfs that we
# make: $work goes away at the end.

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$here/../../tools/images/functions.sh"
[ "$(id -u)" -eq 0 ] || { echo "skipped: not root" >&2; exit 77; }

# What the machines may load, in the order of need; each kernel has some of them
# built in.
kernel_modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev \
virtio_pci virtio_blk failover net_failover virtio_net e1000 dm-mod nbd ublk_drv loop fuse"
# For those who mount something.
filesystem_modules="crc16 crc32c_generic libcrc32c mbcache jbd2 ext4"

# kernel_of RELEASE: a tar of the release's kernel and these modules of it.
kernel_of() {
  local tree module
  tree=$(mktemp -d "$work/kernel.XXXXXX")
  mmdebstrap --quiet --variant=extract --include=linux-image-amd64 "$1" - |
    extract --directory "$tree" --wildcards './boot/vmlinuz-*' \
      '*/kernel/drivers/block/*' '*/kernel/drivers/md/*' \
      '*/kernel/fs/fuse/*' '*/kernel/fs/ext4/*' '*/kernel/fs/jbd2/*' \
      '*/kernel/fs/mbcache.ko*' '*/kernel/lib/*crc*' '*/kernel/crypto/crc32c*' \
      '*/kernel/drivers/virtio/*' '*/kernel/drivers/net/virtio_net.ko*' \
      '*/kernel/drivers/net/ethernet/intel/e1000/*' \
      '*/kernel/drivers/net/net_failover.ko*' '*/kernel/net/core/failover.ko*'
  mkdir "$tree/out"
  for module in $kernel_modules $filesystem_modules; do
    find "$tree" -name "$module.ko*" -exec mv -t "$tree/out" {} +
  done
  find "$tree/out" -name '*.xz' -exec xz -d {} +
  mv "$tree"/boot/vmlinuz-* "$tree/out/vmlinuz"
  tar --create --directory "$tree/out" .
  rm -rf "$tree"
}

# get_kernel RELEASE: vmlinuz and *.ko in $work/kernel.
get_kernel() {
  mkdir -p "$work/kernel"
  untar "$(cached_tree "kernel-$1" "modules 6" kernel_of "$1")" "$work/kernel"
  [ -s "$work/kernel/vmlinuz" ] || die "no kernel of $1"
}

# add_program ROOT PATH...: with the libraries that it needs.
add_program() {
  local root=$1 program
  shift
  for program in "$@"; do
    cp -L "$program" "$root/bin/"
    add_libraries "$root" "$program"
  done
}

# add_libraries ROOT PATH: those that the program or library at PATH needs.
add_libraries() {
  { ldd "$2" || true; } | { grep -o '/[^ ]*' || true; } |
    while read -r library; do
      cp -nL --parents "$library" "$1/"
    done
}

# run_machine INITRD [QEMU OPTIONS...]: until it ends; what it said is in
# $work/console.
run_machine() {
  local initrd=$1
  shift
  timeout "${machine_seconds:-300}" qemu-system-x86_64 \
    -accel tcg,thread=multi -smp "${machine_processors:-1}" -m 1536 -nodefaults -display none \
    -serial file:"$work/console" -no-reboot -kernel "$work/kernel/vmlinuz" \
    -initrd "$initrd" -append "console=ttyS0 quiet panic=-1 ${machine_arguments:-}" "$@" </dev/null ||
    echo "qemu ended with $?"
  if ! grep -aq '^RESULT passed' "$work/console"; then
    cat "$work/console"
    exit 1
  fi
  grep -a '^TOLD' "$work/console" || true
}
