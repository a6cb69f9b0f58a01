#!/usr/bin/env bash
# After commit everything comes home and the driver leaves, with the real
# programs on disk files: in the end the raw disk is the image and what was
# written to it, whatever was killed on the way.
. "$(dirname "$0")/office-functions.sh"

make_office
migrate
uri="nbd+unix:///?socket=$work/nbd"
start_streamd socket --read-ahead 0
code=0
"$streamd" leave --disk "$work/source.img" --pubkey "$work/office.pub" 2>"$work/no" ||
  code=$?
[ "$code" = 3 ] || die "it leaves under a driver: $code"
code=0
control wait settled --status-file "$work/status.json" 2>"$work/kept" || code=$?
[ "$code" = 3 ] || die "waiting for what never comes: $code, $(cat "$work/kept") $(cat $work/streamd.log)"

# A rate at which it takes a while.
control backfill limit 16M
write_mark "$uri"
control commit --yes >"$work/commit" || die "commit"
control wait complete
settled() { control status --json | jq .settle.settled; }
before=$(settled)
until [ "$(settled)" -gt $((before + 100)) ]; do
  kill -0 "$streamd_pid" || die "streamd ended"
done
control backfill pause
[ "$(control status --json | jq -r .settle.state)" = paused ] || die "no pause"
qemu-io -f raw -c 'write -P 0x33 88M 200k' -c 'write -z 20M 3M' \
  -c 'discard 70M 1M' "$uri" >"$work/qemu-io" || die "write: $(cat "$work/qemu-io")"
nbdcopy "$uri" "$work/streamed"
kill_streamd

start_streamd socket --read-ahead 0
control wait settled
[ "$(control status --json | jq -r .phase)" = settled ] || die "not settled"
[ "$(control status --json | jq .chunks.in_region)" = 0 ] || die "not at home"
# Settled, and written to all the same.
qemu-io -f raw -c 'write -P 0x44 95M 300k' -c 'write -P 0x45 21M 64k' "$uri" \
  >"$work/qemu-io" || die "write: $(cat "$work/qemu-io")"
nbdcopy "$uri" "$work/streamed"
# The power fails now: the next start has nothing to do but to leave.
kill_streamd
cp "$work/source.img" "$work/cut.img"
"$streamd" scan --disk "$work/cut.img" | jq -e '.phase == "settled"' >/dev/null ||
  die "it does not stay settled"
code=0
"$bootagent" forget --disk "$work/cut.img" --yes >"$work/refused" 2>&1 || code=$?
[ "$code" = 3 ] || die "forget: $code, $(cat "$work/refused")"
"$streamd" leave --disk "$work/cut.img" --pubkey "$work/office.pub" || die "leave"
cmp --bytes=$((96 << 20)) "$work/streamed" "$work/cut.img" ||
  die "after leaving the raw disk is not what was streamed"
"$streamd" leave --disk "$work/cut.img" --pubkey "$work/office.pub" ||
  die "nothing is left, and that is an error"
rm "$work/cut.img"

start_streamd socket --read-ahead 0
code=0
control wait settled
control wait detached --status-file "$work/status.json" &
waiting=$!
control wait settled
stop_streamd
wait "$waiting" || die "wait detached"
control wait detached --status-file "$work/status.json" || die "long gone"

cmp --bytes=$((96 << 20)) "$work/streamed" "$work/source.img" ||
  die "the raw disk is not what was streamed"
dd if="$work/source.img" bs=1M skip=35 count=16 status=none >"$work/boot.img"
e2fsck -fn "$work/boot.img" >"$work/fsck" 2>&1 || die "$(cat "$work/fsck")"
"$streamd" scan --disk "$work/source.img" >"$work/scan"
[ "$(jq .found "$work/scan")" = false ] || die "found again"
! grep -qa BSANCHR1 "$work/source.img" || die "an anchor is left"
! grep -qa BSSUPER1 "$work/source.img" || die "a superblock is left"
echo passed
