#!/usr/bin/env bash
# What the network needs to come back stays on the disk: files of a list, in an
# ext4 of which the region cannot hold all, are read as a start reads them; then
# everything else is, many chunks are given up for others, the server stands
# still, and with nothing of it in memory the file system is mounted anew and
# these files are read.  A list that the server does not bring in time is waited
# for so long and no longer.
. "$(dirname "$0")/office-functions.sh"

[ "$(id -u)" = 0 ] || exit 77
[ -c /dev/fuse ] && [ -c /dev/loop-control ] || exit 77
RANDOM=7 # files of the same sizes each time
first=$((51 << 20)) size=$((44 << 20))
loop='' mounted=''

undo_mounts() {
  [ -z "$mounted" ] || umount "$mounted" || true
  mounted=
  [ -z "$loop" ] || losetup -d "$loop" || true
  loop=
}
# What waits for the server ends first, and a loop device with its driver.
leave() {
  local tries=0
  kill -CONT "$server_pid" 2>/dev/null || true
  undo_mounts
  while kill -TERM "$streamd_pid" 2>/dev/null && [ $((++tries)) -lt 50 ]; do
    sleep 0.1
  done
  cleanup
}
trap leave EXIT

make_loop() {
  loop=$(losetup -f --show --read-only --direct-io=on -o "$first" \
    --sizelimit "$size" "$device")
}
mount_root() {
  mkdir -p "$work/mnt"
  mount -t ext4 -o ro,noload "$loop" "$work/mnt"
  mounted=$work/mnt
}
# in_time SECONDS COMMAND...: false if it does not end by then, and then it is
# left to itself.
in_time() {
  local pid limit=$((SECONDS + $1)) code=0
  shift
  "$@" &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    [ "$SECONDS" -lt "$limit" ] || return 1
    sleep 0.1
  done
  wait "$pid" || code=$?
  return "$code"
}
set_of() { control status --json | jq ".recovery_set.$1"; }

# With folders, links and a name that is a pattern.
make_target_tree() {
  local root=$work/root number
  mkdir -p "$root"/usr/lib/net/plugins "$root"/etc/net
  for number in 1 2 3; do
    head -c 300000 /dev/urandom >"$root/usr/lib/net/plugins/$number.so"
  done
  head -c 900000 /dev/urandom >"$root/usr/lib/net/manager"
  head -c 5000 /dev/urandom >"$root/etc/net/settings"
  head -c 8M /dev/urandom >"$root/ballast"
  # Absolute, so that it leads astray unless root is where it should be.
  ln -s /usr/lib/net "$root/lib"
  mkfifo "$root/etc/net/pipe"
}

make_tight_office() {
  make_target_tree
  make_office
  local free need percent
  free=$(agent plan --json | jq .account.source_free_bytes)
  need=$(agent plan --json | jq .account.region_chunks)
  # As small a region as can be.
  for percent in {20..50}; do
    headroom=$((free - need * 131072 * percent / 100))
    agent plan --when-full block >/dev/null 2>&1 && break
  done
  agent migrate --yes --when-full block >"$work/migrate.log" 2>&1 ||
    die "migrate: $(cat "$work/migrate.log")"
}

cat >"$work/list" <<'END'
/lib/manager
/usr/lib/net/plug*
/etc/net
/not/there
/not/th?re/*
net=no-such-driver /usr/share
nonsense
END

make_tight_office
start_streamd fuse --backfill-paused --read-ahead 0 --no-prefetch

# Nothing of the list is there, and does not come: there is an end to it.
make_loop
mount_root
kill -STOP "$server_pid"
code=0
in_time 30 control recovery-set --root "$work/mnt" --list "$work/list" \
  --patience 1 2>"$work/late" || code=$?
kill -CONT "$server_pid"
[ "$code" = 4 ] || die "late: $code, $(cat "$work/late")"
grep -q "not everything .* in time" "$work/late" || die "$(cat "$work/late")"

in_time 60 control recovery-set --root "$work/mnt" --list "$work/list" \
  2>"$work/said" || die "recovery-set: $(cat "$work/said")"
[ ! -s "$work/said" ] || die "said: $(cat "$work/said")"
[ "$(set_of sentence)" = '""' ] || die "$(set_of sentence)"
kept=$(set_of chunks)
[ "$kept" -ge 10 ] || die "only $kept chunks"
[ "$(set_of missing)" = 0 ] || die "$(set_of missing) are missing"

# All of the disk, over and over: there is no room for it.
for _ in 1 2 3; do
  dd if="$device" of="$work/read" bs=1M iflag=direct status=none ||
    die "a read failed"
done
cmp "$work/read" "$work/target.img" || die "not the image"
rm "$work/read"
control status --json >"$work/status"
jq -e '.engine.evicted_chunks > 50 and .chunks.missing > 20' "$work/status" \
  >/dev/null || die "hardly anything was evicted: $(jq .engine "$work/status")"
[ "$(set_of chunks)" = "$kept" ] || die "it grows without end"
[ "$(set_of missing)" = 0 ] || die "$(set_of missing) of it went"

# Without a server, and without memory.  Only reads, which have an end.
undo_mounts
make_loop
blockdev --flushbufs "$device" "$loop"
kill -STOP "$server_pid"
in_time 30 mount_root || die "the file system cannot be mounted"
mounted=$work/mnt
for name in usr/lib/net/manager usr/lib/net/plugins/1.so \
  usr/lib/net/plugins/2.so usr/lib/net/plugins/3.so etc/net/settings; do
  in_time 30 cmp "$work/mnt/$name" "$work/root/$name" ||
    die "$name is not there without the server"
done
kill -CONT "$server_pid"
undo_mounts
while kill -TERM "$streamd_pid" 2>/dev/null; do sleep 0.1; done
wait "$streamd_pid" || die "streamd ended with $?: $(cat "$work/streamd.log")"
streamd_pid=

# A driver that is started again by its keeper goes on keeping it.
start_streamd socket --keep --backfill-paused --read-ahead 0 --no-prefetch
qemu-io -f raw -c 'read 60M 2M' "nbd+unix:///?socket=$work/nbd" >"$work/read" ||
  die "read: $(cat "$work/read")"
: >"$work/nothing"
control recovery-set --list "$work/nothing" || die "recovery-set"
kept=$(set_of chunks)
[ "$kept" -ge 10 ] || die "only $kept chunks"
kill -KILL "$(control status --json | jq .pid)"
until [ "$(control status --json 2>/dev/null | jq .restarts)" = 1 ]; do
  kill -0 "$streamd_pid" || die "streamd: $(cat "$work/streamd.log")"
  sleep 0.05
done
[ "$(set_of chunks)" = "$kept" ] || die "forgotten: $(set_of chunks), not $kept"
stop_streamd
echo passed
