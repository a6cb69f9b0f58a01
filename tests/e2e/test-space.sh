#!/usr/bin/env bash
# A region too small for the image, with the real programs on disk files.  Policy
# block: a write waits, says why, holds nobody up, and is freed by commit; going
# back works as well.  Policy give-up-source: the driver commits, not while the
# old system is attached.
. "$(dirname "$0")/office-functions.sh"

uri="nbd+unix:///?socket=$work/nbd"
writer_pid=''
trap 'kill $writer_pid 2>/dev/null || true; cleanup' EXIT

# migrate_tight POLICY DISK: with too little room for all of the image.
migrate_tight() {
  disk=$2
  cp --sparse=always "$work/source.img" "$disk"
  headroom=$headroom agent migrate --yes --when-full "$1" \
    >"$work/migrate.log" 2>&1 || die "migrate: $(cat "$work/migrate.log")"
}

space() { control status --json | jq -r ".space.$1"; }
# wait_for WORDS: of a jq expression over the status; true in the end.
wait_for() {
  until [ "$(control status --json | jq "$1")" = true ]; do
    kill -0 "$streamd_pid" || die "streamd: $(cat "$work/streamd.log")"
    sleep 0.05
  done
}
logged() {
  grep -q -- "$1" "$work/streamd.log" ||
    die "not '$1' in the log: $(cat "$work/streamd.log")"
}

# Write 0x5a over the root partition, in the background.
fill() {
  qemu-io -f raw -c 'write -P 0x5a 51M 44M' "$uri" >"$work/qemu-io" 2>&1 &
  writer_pid=$!
}
# fill_ends CODE
fill_ends() {
  local code=0
  wait "$writer_pid" || code=$?
  writer_pid=''
  [ "$code" = "$1" ] || die "the writer ended with $code: $(cat "$work/qemu-io")"
}

make_office

# So much is left free that the region has half of what it needs.
free=$(agent plan --json | jq .account.source_free_bytes)
need=$(agent plan --json | jq .account.region_chunks)
headroom=$((free - need * 131072 / 2))
headroom=$headroom agent plan --json --when-full block >"$work/plan.json"
jq -e '.guaranteed | not' "$work/plan.json" >/dev/null || die "guaranteed"
[ "$(jq -r .users.fits "$work/plan.json")" = before-commit ] ||
  die "users: $(jq .users "$work/plan.json")"

# --- block ---
migrate_tight block "$work/block.img"
"$bootagent" status --disk "$disk" --json >"$work/agent.json"
jq -e '.space | .relocations_at_most.actual <= .relocations_at_most.predicted and
  .metadata_at_most.actual <= .metadata_at_most.predicted and
  .room_for_image_at_least.actual >= .room_for_image_at_least.predicted' \
  "$work/agent.json" >/dev/null || die "$(jq .space "$work/agent.json")"
start_streamd socket --backfill-paused --read-ahead 0
[ "$(space policy)" = block ] || die "policy $(space policy)"
[ "$(space level)" = ok ] || die "level $(space level)"
fill
wait_for '.space.level == "full" and .space.waiting_writes > 0'
# It stands, and says so; all else goes on.
control status | grep -q "^space .*full.*streamctl commit" ||
  die "$(control status)"
until jq -e '.space.level == "full"' "$work/status.json" >/dev/null; do
  kill -0 "$streamd_pid" || die "streamd: $(cat "$work/streamd.log")"
  sleep 0.05
done
until grep -q "the region is full: .* for room" "$work/streamd.log"; do
  kill -0 "$streamd_pid" || die "streamd: $(cat "$work/streamd.log")"
  sleep 0.05
done
[ "$(grep -c 'the region is full' "$work/streamd.log")" = 1 ] || die "said twice"
qemu-io -f raw -c 'read 35M 1M' -c flush "$uri" >"$work/read" ||
  die "reads stand still: $(cat "$work/read")"
kill -0 "$writer_pid" || die "the write did not wait: $(cat "$work/qemu-io")"
jq -e '.space.plan | .relocations_at_most.actual <= .relocations_at_most.predicted' \
  "$work/status.json" >/dev/null || die "$(jq .space "$work/status.json")"
control commit --yes >/dev/null || die "commit"
fill_ends 0
wait_for '.space.level == "ok"'
qemu-io -f raw -c 'read -P 0x5a 51M 44M' "$uri" >"$work/read" ||
  die "what waited is not there: $(cat "$work/read")"
stop_streamd
rm "$disk"

# --- block, and back ---
migrate_tight block "$work/back.img"
start_streamd socket --backfill-paused --read-ahead 0
fill
wait_for '.space.level == "full"'
# With somebody else in the place of the command that restarts.
mkdir "$work/bin"
printf '#!/bin/sh\necho "$*" >"%s"\n' "$work/restarted" >"$work/bin/systemctl"
chmod +x "$work/bin/systemctl"
PATH=$work/bin:$PATH control rollback --yes --json \
  >"$work/rollback.json" 2>"$work/rollback.err" || die "rollback"
[ "$(cat "$work/restarted")" = reboot ] || die "not restarted"
grep -q "writes wait" "$work/rollback.err" || die "$(cat "$work/rollback.err")"
jq -e '.changed_bytes > 1000000 and .changed_extents > 0 and .parked and
  .restarts' "$work/rollback.json" >/dev/null ||
  die "$(cat "$work/rollback.json")"
control dirty >"$work/dirty.json"
[ "$(jq '[.[][1]] | add' "$work/dirty.json")" -ge \
  "$(jq .changed_bytes "$work/rollback.json")" ] || die "changes do not add up"
code=0
control commit --yes 2>"$work/refused" || code=$?
[ "$code" != 0 ] || die "committed though a rollback is wished"
# A client that waits does not keep the driver from ending.
stop_streamd
fill_ends 1
"$bootagent" rollback --disk "$disk" --yes >"$work/back" 2>&1 ||
  die "rollback: $(cat "$work/back")"
dd if="$disk" of="$work/fs" bs=1M skip=1 status=none
e2fsck -fn "$work/fs" >"$work/fsck" 2>&1 || die "fsck: $(cat "$work/fsck")"
rm "$disk" "$work/fs"

# --- give-up-source ---
migrate_tight give-up-source "$work/give.img"
start_streamd socket --backfill-paused --read-ahead 0
[ "$(space policy)" = give-up-source ] || die "policy $(space policy)"
control source attach >"$work/attached" || die "attach"
fill
wait_for '.space.level == "full"'
space sentence | grep -q "source detach" || die "$(space sentence)"
[ "$(control status --json | jq .committed)" = false ] ||
  die "committed while the old system is attached"
kill -0 "$writer_pid" || die "the write did not wait: $(cat "$work/qemu-io")"
control source detach || die "detach"
fill_ends 0
[ "$(control status --json | jq .committed)" = true ] || die "not committed"
logged "the old system was given up"
qemu-io -f raw -c 'read -P 0x5a 51M 44M' "$uri" >"$work/read" ||
  die "what waited is not there: $(cat "$work/read")"
kill_streamd
start_streamd socket
[ "$(control status --json | jq .committed)" = true ] || die "not durable"
kill_streamd
echo passed
