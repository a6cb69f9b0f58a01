#!/usr/bin/env bash
# The clients that people use accept our socket and read and write it rightly.
. "$(dirname "$0")/frontend-functions.sh"

uri="nbd+unix:///?socket=$work/socket"
random_file "$work/original" 64
cp "$work/original" "$work/disk"
start_server --frontend socket --path "$work/socket" --file "$work/disk"
[ "$device" = "$work/socket" ] || die "the socket is at $device"

# nbdinfo: everything we promise, and nothing else.
nbdinfo --json "$uri" >"$work/info.json"
jq -e '.exports[0] | ."export-size" == 67108864 and
  (.is_read_only | not) and .can_multi_conn and .can_flush and .can_fua and
  .can_trim and .can_zero and ."block_size_minimum" == 1 and
  ."block_size_preferred" == 4096 and ."block_size_maximum" == 33554432' \
  "$work/info.json" >/dev/null || die "nbdinfo: $(cat "$work/info.json")"
nbdinfo --list "$uri" >/dev/null || die "nbdinfo --list"
nbdinfo --size "nbd+unix:///nobody?socket=$work/socket" 2>/dev/null &&
  die "an unknown export was given"

# qemu-img
qemu-img info --output=json "$uri" |
  jq -e '."virtual-size" == 67108864' >/dev/null || die "qemu-img info"
qemu-img compare -f raw -F raw "$uri" "$work/original" || die "differs"

# nbdcopy out, over several connections, and back in, holes as zeroes
nbdcopy --connections=4 "$uri" "$work/copy"
cmp "$work/copy" "$work/original" || die "nbdcopy read other bytes"
random_file "$work/sparse" 5
truncate -s 64M "$work/sparse"
nbdcopy --connections=4 --requests=64 --flush "$work/sparse" "$uri"
qemu-img compare -f raw -F raw "$uri" "$work/sparse" || die "nbdcopy in"

# qemu-io: odd offsets, FUA, zeroes, discards, and the end of the device
qemu-io -f raw -c 'write -P 0x5a 1234567 7777' -c 'write -f -P 0x17 511 2' \
  -c 'read -P 0x5a 1234567 7777' -c 'read -P 0x17 511 2' \
  -c 'write -z 1236000 100' -c 'read -P 0 1236000 100' \
  -c 'read -P 0x5a 1236100 6244' -c 'discard 8M 1M' -c 'flush' \
  "$uri" >"$work/qemu-io" || die "qemu-io failed"
grep -i 'fail\|error' "$work/qemu-io" && die "qemu-io: see above"

# fio, verified; more than a thousand requests of every size
fio --name=verify --ioengine=nbd --uri="$uri" --rw=randwrite \
  --bsrange=512-512k --size=64m --iodepth=32 --verify=crc32c \
  --verify_state_save=0 --do_verify=1 --fsync=64 >"$work/fio" || die "fio: $(cat "$work/fio")"

# A client in the middle of its work does not keep the server from stopping.
fio --name=endless --ioengine=nbd --uri="$uri" --rw=randread --bs=4k \
  --iodepth=16 --size=64m --time_based --runtime=600 >/dev/null 2>&1 &
client=$!
connected() { ss -xH src "$work/socket" | grep ESTAB; }
wait_until connected
stop_server
wait "$client" && die "fio went on without a server"
[ ! -e "$work/socket" ] || die "the socket is left"
echo passed
