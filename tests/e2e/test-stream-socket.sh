#!/usr/bin/env bash
# From an old disk to a streamed image and back, with the real programs on disk
# files: the streamed device equals the image, NBD clients accept it, what is
# written stays, a complete image needs no server, and roll-back restores every
# byte outside the region.
. "$(dirname "$0")/office-functions.sh"

make_office
agent plan >"$work/plan" || die "plan"
migrate

uri="nbd+unix:///?socket=$work/nbd"
# Whatever is missing is a demand miss.
start_streamd socket --backfill-paused --read-ahead 0
nbdinfo "$uri" >"$work/nbdinfo" || die "nbdinfo"
qemu-img info "$uri" >"$work/qemu-img" || die "qemu-img info"
qemu-img compare -f raw -F raw "$uri" "$work/target.img" >"$work/compare" ||
  die "the streamed device differs: $(cat "$work/compare")"
[ "$(control dirty)" = '[]' ] || die "something is dirty: $(control dirty)"
control status >"$work/status" || die "status"
[ "$(control status --json | jq .engine.demand_misses_stored_in_region)" -gt 0 ] ||
  die "no miss was stored in the region"

# What was read is what the next build fetches ahead.
control trace --out "$work/machine.trace" || die "trace"
"$imgtool" build --disk "$work/target.img" --name desk --version 2.0 \
  --repo "$work/repo" --key "$work/office" --json \
  --machine-trace "$work/machine.trace" >"$work/next" 2>"$work/build.log" ||
  die "no build with a machine's trace"
[ "$(jq .prefetch_chunks "$work/next")" -gt 0 ] || die "nothing is fetched ahead"

# Written blocks are dirty, and come back after a restart without a server.
write_mark "$uri"
control backfill resume
control wait complete
stop_streamd
stop_serving
start_streamd socket
check_mark "$uri"
[ "$(control dirty)" = '[[62914560,3145728]]' ] ||
  die "dirty: $(control dirty)"
[ "$(control status --json | jq -r .phase)" = complete ] || die "phase"

# A second driver or an agent on the same disk is refused.
"$streamd" run --disk "$work/source.img" --frontend socket --socket "$work/2" \
  --control "$work/2c" --status-file "$work/2s" --pubkey "$work/office.pub" \
  2>"$work/second" && die "two drivers on one disk"
code=0
"$bootagent" rollback --disk "$work/source.img" --yes 2>"$work/second" ||
  code=$?
[ "$code" = 3 ] || die "an agent beside the driver: $code, $(cat "$work/second")"
stop_streamd
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"

"$bootagent" rollback --disk "$work/source.img" --yes >"$work/back" 2>&1 ||
  die "rollback: $(cat "$work/back")"
mkdir "$work/mnt"
mount -o "loop,ro,offset=1048576" "$work/source.img" "$work/mnt"
diff -r --exclude=.bootstream-region --exclude=lost+found "$work/old" \
  "$work/mnt" || die "the old files differ"
umount "$work/mnt"
echo passed
