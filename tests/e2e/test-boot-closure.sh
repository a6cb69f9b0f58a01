#!/usr/bin/env bash
# What GRUB will read at the next boot is at home after `streamctl closure`,
# though /boot lies in the root file system: a new kernel, one that came with
# the image and is renamed into /boot, a font and a theme that grub.cfg names.
# GRUB's own code reads the raw disk and finds all of it; before, it does not.
#   test-boot-closure.sh ext4-1k|ext4-4k|xfs|btrfs
. "$(dirname "$0")/office-functions.sh"
kind=$1
first=$((36 << 20)) size=$((340 << 20))
mounted='' loop=''

undo_mounts() {
  umount "$work/root/boot/efi" 2>/dev/null || true
  [ -z "$mounted" ] || umount "$mounted" || true
  mounted=
  [ -z "$loop" ] || losetup -d "$loop" || true
  loop=
}
trap 'undo_mounts; cleanup' EXIT

type=${kind%%-*}

make_filesystem() {
  case $kind in
  ext4-1k) mkfs.ext4 -q -b 1024 "$1" ;;
  ext4-4k) mkfs.ext4 -q -b 4096 "$1" ;;
  xfs) mkfs.xfs -q "$1" ;;
  btrfs) mkfs.btrfs -q "$1" >/dev/null ;;
  esac || die "mkfs"
  # What anybody has read of it before is not what is there now.
  blockdev --flushbufs "$1"
}

# mount_root DISK: its second partition at $work/root.
mount_root() {
  # Direct: a small write must not become a large one, which reads first.
  loop=$(losetup -f --show --direct-io=on -o "$first" --sizelimit "$size" "$1")
  [ "${2:-}" != new ] || make_filesystem "$loop"
  mkdir -p "$work/root"
  mount -t "$type" "$loop" "$work/root" ||
    die "mount: $(dmesg | tail -n 3), $(blkid -p "$loop" || true)"
  mounted=$work/root
}

# A device that somebody looks at for a moment is in use, and stays.
stop_when_free() {
  while kill -TERM "$streamd_pid" 2>/dev/null; do sleep 0.1; done
  wait "$streamd_pid" || die "streamd ended with $?"
  streamd_pid=
}

random() { head -c "$2" /dev/urandom >"$1"; }

# A Debian with the files that matter, and one that fills the disk.
fill_target() {
  local root=$work/root
  mkdir -p "$root"/boot/grub/{fonts,x86_64-efi} "$root"/usr/share/{grub,pictures} \
    "$root"/usr/share/themes/office "$root"/data
  cat >"$root/boot/grub/grub.cfg" <<'END'
loadfont "/usr/share/grub/unicode.pf2"
menuentry 'Debian' { linux /boot/vmlinuz-1 root=/dev/sda2
 initrd /boot/initrd.img-1; }
END
  random "$root/boot/vmlinuz-1" 3000000
  random "$root/boot/initrd.img-1" 5000000
  random "$root/boot/grub/fonts/unicode.pf2" 700000
  random "$root/usr/share/grub/unicode.pf2" 700000
  random "$root/usr/share/pictures/wood.png" 300000
  random "$root/usr/share/themes/office/theme.txt" 3000
  random "$root/usr/share/themes/office/box.png" 20000
  local number
  for number in {1..80}; do
    random "$root/boot/grub/x86_64-efi/$number.mod" $((RANDOM + 1000))
  done
  for number in {1..120}; do
    mkdir -p "$root/data/$((number % 7))"
    random "$root/data/$((number % 7))/$number" $((RANDOM * 40 + 1000))
  done
  random "$root/data/3/initrd" 9000000
  random "$root/data/late" 24000000
}

make_target() {
  truncate -s 400M "$work/target.img"
  sgdisk -n1:2048:+34M -t1:ef00 -n2:$((first / 512)):+340M -t2:8304 \
    "$work/target.img" >/dev/null
  mkfs.vfat -F 32 -s 1 --offset 2048 "$work/target.img" $((34 * 1024)) \
    >/dev/null 2>&1
  random "$work/loader" 300000
  mcopy -i "$work/target.img@@1M" "$work/loader" ::LOADER.EFI
  mount_root "$work/target.img" new
  fill_target
  undo_mounts
}

# A watched boot that read the root file system so much that it is known for the
# loader's, but not what the loader will want after the changes.
make_trace() {
  local bytes=$((400 << 20)) a b=$((3 << 18))
  a=$((bytes / 262144 * 262144 - 262144))
  {
    echo "{\"format\":\"bootstream-trace 1\",\"disk_bytes\":$bytes,\"firmware\":\"uefi\"}"
    echo "{\"ms\":1,\"offset\":$((first + size - (9 << 20))),\"size\":$((9 << 20))}"
    local at
    for at in $a $b $a; do
      echo "{\"ms\":2,\"offset\":$at,\"size\":4096}"
    done
  } >"$work/trace"
}

publish() {
  make_trace
  "$imgtool" keygen --out "$work/office" >/dev/null
  "$imgtool" build --disk "$work/target.img" --name desk --version 1.0 \
    --repo "$work/repo" --key "$work/office" --trace "$work/trace" \
    >"$work/build.log" 2>&1 || die "build: $(cat "$work/build.log")"
}

make_source() {
  truncate -s 1200M "$work/source.img"
  echo '2048,,L' | sfdisk -q "$work/source.img"
  tree "$work/old" 160
  mkfs.ext4 -q -d "$work/old" -E offset=1048576 "$work/source.img" 1198M
}

closure() {
  control --root "$work/root" --partition "2=$work/root" \
    --closure-lock "$work/lock" "$@"
}

# grub_finds COPY: GRUB's code, on the raw disk, finds what is in COPY.
grub_finds() {
  local name
  for name in boot usr/share/themes/office usr/share/grub/unicode.pf2 \
    usr/share/pictures/wood.png; do
    grub-fstest "$work/source.img" cmp "(loop0,gpt2)/$name" "$1/$name" ||
      return 1
  done
}

change_boot() {
  local root=$work/root
  random "$root/boot/vmlinuz-2" 4000000
  mv "$root/data/3/initrd" "$root/boot/initrd.img-2"
  rm "$root/boot/initrd.img-1"
  cat >>"$root/boot/grub/grub.cfg" <<'END'
background_image -m stretch "/usr/share/pictures/wood.png"
set theme=($root)/usr/share/themes/office/theme.txt
menuentry "Debian 2" { linux /boot/vmlinuz-2
 initrd /boot/initrd.img-2; }
END
}

make_office
migrate
start_streamd fuse --backfill-paused --read-ahead 0
mount_root "$device"
# What is mounted upon it is no business of GRUB's there.
mkdir -p "$work/root/boot/efi"
mount -t tmpfs tmpfs "$work/root/boot/efi"
touch "$work/root/boot/efi/elsewhere"
change_boot
code=0
closure check boot >"$work/check" 2>&1 || code=$?
[ "$code" = 1 ] || die "check boot before: $code, $(cat "$work/check")"
grep -q "GRUB would not find" "$work/check" || die "$(cat "$work/check")"

closure closure || die "closure"
closure check boot >"$work/check" 2>&1 ||
  die "check boot after: $(cat "$work/check")"
writes() { echo after >"$work/root/data/after"; }
writes || die "the file system is frozen"

# Without a server what is missing does not come; there is an end, and a reason.
# The server is stopped, not ended: what waits for it in the kernel goes on.  Not
# with btrfs, which reads its own trees for whatever is done.
if [ "$kind" != btrfs ]; then
  mv "$work/root/data/late" "$work/root/boot/late"
  sync -f "$work/root"
  kill -STOP "$server_pid"
  code=0
  closure closure --patience 1 >"$work/late" 2>&1 || code=$?
  kill -CONT "$server_pid"
  [ "$code" = 4 ] || die "late: $code, $(cat "$work/late")"
  writes || die "the file system is frozen"
fi
closure closure || die "closure with a server"
closure check boot >"$work/check" 2>&1 ||
  die "check boot: $(cat "$work/check")"
mkdir "$work/copy"
umount "$work/root/boot/efi"
cp -a "$work/root/boot" "$work/root/usr" "$work/copy"

# A chunk put wrong on purpose.
undo_mounts
stop_when_free
grub_finds "$work/copy" || die "GRUB does not find it on the raw disk"
python3 - "$work" <<'END' || die "no place"
import pathlib, sys
work = pathlib.Path(sys.argv[1])
kernel = (work / "copy/boot/vmlinuz-2").read_bytes()[1048576:1048576 + 512]
with open(work / "source.img", "r+b") as disk:
    data = disk.read()
    at = data.find(kernel)
    if at < 0 or data.find(kernel, at + 1) >= 0:
        sys.exit("not there once")
    disk.seek(at)
    disk.write(b"wrong on purpose" * 32)
END
grub_finds "$work/copy" 2>/dev/null && die "nothing was put wrong"

# The way back is what it was: all files of the old system.
"$bootagent" rollback --disk "$work/source.img" --yes \
  >"$work/rollback.log" 2>&1 || die "rollback: $(cat "$work/rollback.log")"
first=1048576 size=$((1198 << 20)) type=ext4
mount_root "$work/source.img"
diff -r -x .bootstream-region -x lost+found "$work/old" "$work/root" ||
  die "the old system differs"
undo_mounts
echo passed
