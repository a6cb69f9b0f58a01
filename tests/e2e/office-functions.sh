# Sourced by tests that run the real programs over disk files: a small office.
# Gives $work, a directory on tmpfs that goes away at the end.
#
#   target.img  the image's disk: GPT, ESP, /boot, root     (96 MiB)
#   source.img  the old system's disk: MBR, one ext4        (768 MiB)
#   repo        the image "desk" 1.0, signed by office.pub

set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
bootagent=$BUILD_DIR/bootagent/bootagent
imgtool=$BUILD_DIR/imgserver/imgtool
imgserver=$BUILD_DIR/imgserver/imgserver
streamd=$BUILD_DIR/initramfs/streamd
streamctl=$BUILD_DIR/initramfs/streamctl
work=$(mktemp -d -p /dev/shm bootstream-test.XXXXXX)
server_pid='' streamd_pid='' url=''
build_options=() # of the image, besides the usual

die() { echo "FAILED: $*" >&2; exit 1; }

cleanup() {
  local pid
  for pid in $server_pid $streamd_pid; do
    kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
  done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# tree DIRECTORY MIB: files of many sizes.
tree() {
  mkdir -p "$1"
  local number
  for ((number = 0; number < $2; ++number)); do
    head -c $((RANDOM * 48 + 1000)) /dev/urandom >"$1/$number"
  done
}

make_target() {
  truncate -s 96M "$work/target.img"
  sgdisk -n1:2048:+34M -t1:ef00 -n2:0:+16M -t2:ea00 -n3:0:+44M -t3:8304 \
    "$work/target.img" >/dev/null
  mkfs.vfat -F 32 -s 1 --offset 2048 "$work/target.img" $((34 * 1024)) \
    >/dev/null
  mkdir -p "$work/boot/grub"
  tree "$work/boot/grub" 6
  tree "$work/root" 24
  mcopy -i "$work/target.img@@1M" "$work/boot/grub/0" ::LOADER.EFI
  mkfs.ext4 -q -d "$work/boot" -E offset=$((35 << 20)) "$work/target.img" 16M
  mkfs.ext4 -q -d "$work/root" -E offset=$((51 << 20)) "$work/target.img" 44M
}

make_source() {
  truncate -s 768M "$work/source.img"
  echo '2048,,L' | sfdisk -q "$work/source.img"
  tree "$work/old" 120
  mkfs.ext4 -q -d "$work/old" -E offset=1048576 "$work/source.img" 766M
}

publish() {
  "$imgtool" keygen --out "$work/office" >/dev/null
  "$imgtool" build --disk "$work/target.img" --name desk --version 1.0 \
    --repo "$work/repo" --key "$work/office" "${build_options[@]}" \
    >"$work/build.log" 2>&1 ||
    die "build: $(cat "$work/build.log")"
}

serve() {
  rm -f "$work/port"
  "$imgserver" serve --repo "$work/repo" --listen 127.0.0.1:0 \
    --port-file "$work/port" --access-log "$work/access.log" \
    2>"$work/server.log" &
  server_pid=$!
  until [ -s "$work/port" ]; do
    kill -0 "$server_pid" || die "imgserver: $(cat "$work/server.log")"
    sleep 0.02
  done
  url=http://127.0.0.1:$(grep -o '[0-9]*$' "$work/port")
}

stop_serving() {
  kill -TERM "$server_pid"
  wait "$server_pid" || die "imgserver ended with $?"
  server_pid=
}

make_office() {
  make_target
  make_source
  publish
  serve
}

# agent NAME [OPTIONS...]: with all that says where disk and image are, which
# $disk, $image and $headroom may change.
agent() {
  local name=$1
  shift
  "$bootagent" "$name" --disk "${disk:-$work/source.img}" --server "$url" \
    --image "${image:-desk}" --pubkey "$work/office.pub" \
    --headroom "${headroom:-16777216}" "$@"
}

migrate() {
  agent migrate --yes >"$work/migrate.log" 2>&1 ||
    die "migrate: $(cat "$work/migrate.log")"
}

# start_streamd FRONTEND [OPTIONS...]: until it is ready; sets $device.  $disk may
# change the disk.
start_streamd() {
  local frontend=$1 word
  shift
  rm -f "$work/ready"
  mkfifo "$work/ready"
  "$streamd" run --disk "${disk:-$work/source.img}" --frontend "$frontend" \
    --socket "$work/nbd" --mount "$work/fuse" --control "$work/control" \
    --source-socket "$work/source-nbd" --source-mount "$work/source-fuse" \
    --boot-socket "$work/boot-nbd" --boot-mount "$work/boot-fuse" \
    --status-file "$work/status.json" --pubkey "$work/office.pub" \
    --url "$url" "$@" >"$work/ready" 2>>"$work/streamd.log" &
  streamd_pid=$!
  read -r word device <"$work/ready" || die "streamd: $(cat "$work/streamd.log")"
  [ "$word" = ready: ] || die "streamd said '$word'"
}

stop_streamd() {
  kill -TERM "$streamd_pid"
  wait "$streamd_pid" || die "streamd ended with $?: $(cat "$work/streamd.log")"
  streamd_pid=
}

kill_streamd() {
  kill -KILL "$streamd_pid"
  wait "$streamd_pid" 2>/dev/null || true
  streamd_pid=
}

# write_mark URI: 3 MiB of 0x5a at 60 MiB of the streamed device.
write_mark() {
  qemu-io -f raw -c 'write -P 0x5a 60M 3M' "$1" >"$work/qemu-io" ||
    die "write: $(cat "$work/qemu-io")"
}

# check_mark URI: the streamed device is the image and the mark, as target.img
# is from now on.
check_mark() {
  nbdcopy "$1" "$work/copy"
  head -c 3M /dev/zero | tr '\0' '\132' |
    dd of="$work/target.img" bs=1M seek=60 conv=notrunc status=none
  cmp "$work/copy" "$work/target.img" ||
    die "not the image and what was written"
}

control() { "$streamctl" --control "$work/control" "$@"; }
