#!/usr/bin/env bash
# streamd is killed while fio writes through the loop device of its FUSE file:
# what was flushed before is there when it has been started again, and what
# nobody wrote still equals the image.
. "$(dirname "$0")/office-functions.sh"

[ -c /dev/fuse ] && [ -c /dev/loop-control ] || {
  echo "skipped: the kernel has no FUSE or no loop devices" >&2
  exit 77
}

make_office
# A disk of the kernel's: other ways lead to it than to a file in memory.
disk=$(losetup --find --show --direct-io=on "$work/source.img")
trap 'cleanup; losetup --detach "$disk"' EXIT
migrate

job() {
  fio --name="$1" --filename="$device" --direct=1 --ioengine=libaio \
    --iodepth=16 --offset="$2" --size=16m --rw=randwrite --bsrange=512-64k \
    --blockalign=512 --verify=crc32c --verify_state_save=0 --randseed="$3" \
    "${@:4}" >"$work/fio.$1" 2>&1
}

for round in 1 2 3; do
  start_streamd fuse
  job "flushed$round" 52m "$round" --do_verify=0 --end_fsync=1 ||
    die "fio: $(cat "$work/fio.flushed$round")"
  # More of it is under way when the driver dies.
  fio --name=under-way --filename="$device" --direct=1 --ioengine=libaio \
    --iodepth=16 --offset=72m --size=16m --rw=randwrite --bs=4k \
    --time_based --runtime=600 >"$work/fio.under-way" 2>&1 &
  fio_pid=$!
  writes() { control status --json | jq .engine.writes; }
  before=$(writes)
  until [ "$(writes)" -gt $((before + 200)) ]; do sleep 0.05; done
  kill_streamd
  wait "$fio_pid" 2>/dev/null || true

  start_streamd fuse
  job "flushed$round" 52m "$round" --verify_only ||
    die "round $round: flushed writes are gone: $(cat "$work/fio.flushed$round")"
  cmp --bytes=50M "$device" "$work/target.img" ||
    die "round $round: blocks that nobody wrote differ from the image"
  stop_streamd
done
echo passed
