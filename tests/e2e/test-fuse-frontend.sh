#!/usr/bin/env bash
# A loop device on our FUSE file keeps what is written, passes discards on, and
# leaves nothing behind.
. "$(dirname "$0")/frontend-functions.sh"

[ "$(id -u)" -eq 0 ] || skip "not root"
[ -c /dev/fuse ] || skip "the kernel has no FUSE"
[ -c /dev/loop-control ] || skip "the kernel has no loop devices"

fuse="$work/fuse"
nothing_left() {
  [ -z "$(losetup --noheadings --raw --output BACK-FILE |
    grep -- "$(basename "$work")")" ] || die "a loop device is left: $1"
  ! grep -q "$work" /proc/self/mounts || die "a mount is left: $1"
}

random_file "$work/disk" 256
cp "$work/disk" "$work/original"
start_server --frontend fuse --path "$fuse" --file "$work/disk"
queue=/sys/block/$(basename "$device")/queue
[ "$(cat "$queue/logical_block_size")" = 512 ] || die "sector size"
[ "$(blockdev --getsize64 "$device")" = 268435456 ] || die "size"
cmp "$device" "$work/original" || die "reads other bytes"

# fio with direct I/O, verified.
fio --name=verify --filename="$device" --direct=1 --ioengine=libaio \
  --iodepth=32 --rw=randwrite --bsrange=512-1m --blockalign=512 --size=256m \
  --verify=crc32c --verify_state_save=0 --do_verify=1 --fsync=64 >"$work/fio" ||
  die "fio: $(cat "$work/fio")"

# Zeroes, wherever they come from, are zeroes.
dd if=/dev/urandom of="$device" bs=1M count=8 oflag=direct status=none
blkdiscard --zeroout --offset 1M --length 1M "$device"
blkdiscard --offset 4M --length 1M "$device"
cmp --ignore-initial=1M --bytes=1M "$device" /dev/zero || die "no zeroes"
cmp --ignore-initial=4M:0 --bytes=1M "$work/disk" /dev/zero || die "no hole"

# A second front end does not take the directory away.
"$BUILD_DIR/tests/serve_memory" --frontend fuse --path "$fuse" \
  >/dev/null 2>"$work/second" && die "two on one directory"
grep -q 'another process' "$work/second" || die "second: $(cat "$work/second")"

# A file system on it; while that is mounted, stopping is refused.
mkfs.ext4 -q "$device"
mkdir "$work/mnt"
mount -o discard "$device" "$work/mnt"
mkdir "$work/mnt/files"
cp -r /usr/include/linux "$work/mnt/files"
rm -r "$work/mnt/files/linux/netfilter"
kill -TERM "$server_pid"
wait_until grep 'is in use' "$work/log"
cp -r /usr/include/asm-generic "$work/mnt/files"
umount "$work/mnt"
stop_server
nothing_left "after a stop"
e2fsck -fn "$work/disk" >"$work/fsck" 2>&1 || die "$(cat "$work/fsck")"

# After kill -9 the next start clears up; what was flushed is there.
start_server --frontend fuse --path "$fuse" --file "$work/disk"
dd if="$work/original" of="$device" bs=1M count=16 oflag=direct conv=fsync \
  status=none
kill_server
start_server --frontend fuse --path "$fuse" --file "$work/disk"
cmp --bytes=16M "$device" "$work/original" || die "lost with the server"
stop_server
nothing_left "after kill -9 and a stop"
echo passed
