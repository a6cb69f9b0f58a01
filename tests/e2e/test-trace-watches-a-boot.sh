#!/usr/bin/env bash
# imgtool trace boots a disk in QEMU and logs what it reads.  The disk's boot
# sector stands in for a whole system: it reads some places and speaks on the
# serial port.
set -euo pipefail

die() {
  echo "$0: $*" >&2
  exit 1
}

PATH=$PATH:/usr/sbin:/sbin
imgtool=$BUILD_DIR/imgserver/imgtool
for program in qemu-system-x86_64 as ld sfdisk mkfs.ext4 jq; do
  command -v "$program" >/dev/null || exit 77
done
work=$(mktemp -d -p /dev/shm bootstream-test.XXXXXX)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work

readonly DISK_BYTES=$((64 << 20))
readonly A=$((DISK_BYTES - 256 * 1024)) B=$((768 * 1024))
readonly EARLY=$((20 << 20)) LATE=$((30 << 20))

# make_disk NAME TEXT OFFSET...: reads 4 KiB at each offset, then says TEXT.
make_disk() {
  local disk=$work/$1 text=$2 offset
  shift 2
  {
    cat <<'END'
    .code16
    .globl _start
_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7c00, %sp
    sti
    cld
    mov $places, %bx
read:
    mov (%bx), %eax
    cmp $0xffffffff, %eax
    je speak
    mov %eax, address + 8
    mov $address, %si
    mov $0x42, %ah
    int $0x13
    add $4, %bx
    jmp read
speak:
    mov $text, %si
next:
    lodsb
    test %al, %al
    jz end
    mov %al, %cl
    mov $0x3fd, %dx
busy:
    in %dx, %al
    test $0x20, %al
    jz busy
    mov %cl, %al
    mov $0x3f8, %dx
    out %al, %dx
    jmp next
end:
    hlt
    jmp end
address:
    .byte 16, 0
    .word 8, 0, 0x1000
    .quad 0
END
    echo "text: .asciz \"$text\""
    echo "places:"
    for offset in "$@"; do echo ".long $((offset / 512))"; done
    echo ".long 0xffffffff"
  } >"$work/boot.s"
  as --32 -o "$work/boot.o" "$work/boot.s"
  ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$work/boot.bin" \
    "$work/boot.o"
  [ "$(stat -c %s "$work/boot.bin")" -le 440 ] || die "boot code is too long"
  truncate -s "$DISK_BYTES" "$disk"
  sfdisk -q "$disk" <<<$'label: dos\nlabel-id: 0xdeadbeef\nstart=2048, size=32768, type=83, bootable'
  dd if="$work/boot.bin" of="$disk" conv=notrunc status=none
  mkdir -p "$work/files/grub"
  mkfs.ext4 -q -d "$work/files" -E offset=$((1 << 20)) "$disk" 16M
  head -c 4096 /dev/urandom |
    tee >(dd of="$disk" bs=4096 seek=$((EARLY / 4096)) conv=notrunc \
      status=none) |
    dd of="$disk" bs=4096 seek=$((LATE / 4096)) conv=notrunc status=none
}

trace() {
  "$imgtool" trace --disk "$work/$1" --firmware bios --memory 128 \
    --out "$work/$1.trace" --console "$work/console"
}

make_disk good "a host login: " "$EARLY" "$A" "$B" "$A" "$LATE"
sha256sum "$work/good" >"$work/before"
trace good || die "the boot was not watched: $(cat "$work/console")"
sha256sum --quiet --check "$work/before" || die "the disk was changed"
jq -e -s --argjson a "$A" --argjson b "$B" '
  .[0].format == "bootstream-trace 1" and
  [.[1:][] | select(.size == 4096 and (.offset == $a or .offset == $b)) |
   .offset] == [$a, $b, $a]' "$work/good.trace" >/dev/null ||
  die "the take-over is not in the trace"

"$imgtool" keygen --out "$work/key" >/dev/null
"$imgtool" build --disk "$work/good" --name test --version 1 \
  --repo "$work/repo" --key "$work/key" --trace "$work/good.trace" >/dev/null
"$imgtool" show --repo "$work/repo" --json test >"$work/show"
jq -e --argjson early "$((EARLY / 131072))" --argjson late "$((LATE / 131072))" '
  def holds(n): any(.boot_set[]; .first <= n and n < .first + .count);
  .boot_set[0].first == 0 and holds($early) and (holds($late) | not) and
  .prefetch_chunks == 3' "$work/show" >/dev/null ||
  die "boot set or prefetch is wrong: $(cat "$work/show")"

expect() {
  local code=$1 words=$2 got=0
  trace "$3" >/dev/null 2>"$work/error" || got=$?
  [ "$got" = "$code" ] || die "$3: exit code $got: $(cat "$work/error")"
  grep -q "$words" "$work/error" || die "$3: said $(cat "$work/error")"
  [ ! -e "$work/$3.trace" ] || die "$3: a trace was written"
}
make_disk plain "a host login: " "$EARLY" "$A"
expect 3 "never looked at the disk" plain
make_disk panic "Kernel panic - not syncing" "$A" "$B" "$A"
expect 4 "does not start" panic
echo "all right"
