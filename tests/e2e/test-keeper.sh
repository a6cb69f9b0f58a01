#!/usr/bin/env bash
# streamd's worker is killed under load, and its keeper starts it again: nobody
# sees an error, and everything that was answered is there, flushed or not.
#
#   test-keeper.sh socket|fuse [KILLS [SEED]]
. "$(dirname "$0")/office-functions.sh"
here=$(dirname "$(readlink -f "$0")")
frontend=${1:-socket} kills=${2:-4} seed=${3:-$RANDOM}
if [ "$frontend" = fuse ]; then
  [ -c /dev/fuse ] && [ -c /dev/loop-control ] || {
    echo "skipped: the kernel has no FUSE or no loop devices" >&2
    exit 77
  }
fi

make_office
migrate
# Only what is read comes: some of the image is still to come at each death.
start_streamd "$frontend" --keep --backfill-paused
boots() { control status --json | jq .boots; }
boots_before=$(boots)
[ "$frontend" = fuse ] || device=$work/nbd
python3 "$here/../support/kill_load.py" "$device" --control "$work/control" \
  --image "$work/target.img" --kills "$kills" --seed "$seed" \
  --model "$work/model" >"$work/result" || {
  cat "$work/result" "$work/streamd.log"
  kill -TERM "$streamd_pid" && wait "$streamd_pid" || true
  die "killed under load"
}
cat "$work/result"
[ "$(boots)" = "$boots_before" ] || die "a restart was counted as a boot"
[ "$(control status --json | jq .restarts)" = "$kills" ] || die "restarts"
control backfill resume
control wait complete
stop_streamd
grep -q "number $kills" "$work/streamd.log" || die "the keeper's log"

# As after a boot: from the disk alone.
stop_serving
start_streamd socket
nbdcopy "nbd+unix:///?socket=$work/nbd" "$work/copy"
cmp "$work/copy" "$work/model" || die "the disk has not kept it"
stop_streamd
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"
echo passed
