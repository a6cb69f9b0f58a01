#!/usr/bin/env bash
# shellcheck disable=SC2154  # NAME_url is set by name
# The real programs against a server that does everything wrong.  The agent
# says why in one sentence and leaves a disk that is as it was, or that it goes
# on from; streamd serves nothing wrong, answers everybody who waits when the
# server mends, uses a second server, and counts; what is local does not care.
. "$(dirname "$0")/office-functions.sh"

bad_pids=()
cleanup_bad() {
  local pid
  for pid in "${bad_pids[@]}"; do
    kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
  done
  cleanup
}
trap cleanup_bad EXIT

# bad_server NAME [PORT]: a server that does what mode NAME MODE says; sets
# ${NAME}_url.
bad_server() {
  [ -e "$work/$1.mode" ] || mode "$1" good
  rm -f "$work/$1.port"
  "$(dirname "$0")/../support/bad-server" --repo "$work/repo" \
    --older "$work/older" --port-file "$work/$1.port" --port "${2:-0}" \
    --mode "$work/$1.mode" 2>"$work/$1.log" &
  bad_pids+=($!)
  until [ -s "$work/$1.port" ]; do
    kill -0 "${bad_pids[-1]}" || die "bad-server: $(cat "$work/$1.log")"
    sleep 0.02
  done
  declare -g "$1_url=http://127.0.0.1:$(cat "$work/$1.port")"
}
mode() {
  echo "${*:2}" >"$work/$1.mode.new"
  mv "$work/$1.mode.new" "$work/$1.mode"
}

hash_of() { sha256sum <"$1"; }
# refused OPTIONS...: migrate ends with one sentence and code 1, 3 or 4.
impatient=(--give-up 0.3 --stall-timeout-ms 200)
refused() {
  local code=0
  agent migrate --yes "${impatient[@]}" "$@" \
    >"$work/out" 2>"$work/err" </dev/null || code=$?
  case $code in
  1 | 3 | 4) ;;
  *) die "exit code $code against $what: $(cat "$work/err")" ;;
  esac
  [ "$(grep -c '^bootagent: ' "$work/err")" = 1 ] ||
    die "not one sentence against $what: $(cat "$work/err")"
}
# patient COMMAND...: however slow this machine is.
patient() {
  local impatient=()
  "$@"
}
status() { control status --json | jq -e "$1"; }
# until_status FILTER: wait until it is so.
until_status() {
  until status "$1" >/dev/null; do
    kill -0 "$streamd_pid" || die "streamd: $(cat "$work/streamd.log")"
    sleep 0.02
  done
}

make_target
make_source
publish
cp --sparse=always "$work/target.img" "$work/older.img"
head -c 8M /dev/urandom |
  dd of="$work/older.img" bs=1M seek=70 conv=notrunc status=none
"$imgtool" build --disk "$work/older.img" --name desk --version 0.9 \
  --repo "$work/older" --key "$work/office" >"$work/build.log" 2>&1 ||
  die "build: $(cat "$work/build.log")"
cp -rn "$work/older/packs" "$work/repo"
bad_server one
bad_server two
url=$one_url

# An outage or a lie before anything is decided: the disk stays as it was.
before=$(hash_of "$work/source.img")
for what in flip shift swap cut reset stall trickle wrong-length encoded \
  404 429 500 503 silent hang-up headers redirect; do
  mode one bad "$what"
  refused
done
what="an older image"
mode one bad replay only=images/
refused --min-version 1.0
grep -q "older than" "$work/err" || die "$(cat "$work/err")"
[ "$(hash_of "$work/source.img")" = "$before" ] || die "the disk was changed"

# In the middle: the region is there, nothing wrong is in it, and the next run
# goes on.
mode one good
what="a stop"
patient refused --stop-at released
for what in flip shift swap cut reset stall trickle wrong-range no-range \
  wrong-length encoded 404 429 500 503 silent hang-up headers redirect; do
  mode one bad "$what" only=packs/
  refused
  [ "$("$bootagent" status --json --disk "$work/source.img" | jq -r .phase)" = \
    released ] || die "not released after $what"
done
# An image that is decided on stays, whatever the server says by now, and is
# not below what is asked for.
what="a version below --min-version"
refused --min-version 1.1
grep -q "1.0" "$work/err" || die "$(cat "$work/err")"
# Now a second server helps.
mode one bad all only=packs/
mode two bad all share=0.5 seed=5 only=packs/
agent migrate --yes --server "$two_url" --give-up 30 --stall-timeout-ms 200 \
  >"$work/migrate.log" 2>&1 || die "migrate: $(cat "$work/migrate.log")"
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"

# Readers wait as long as nothing good comes.
uri="nbd+unix:///?socket=$work/nbd"
mode one bad flip,cut,stall,404,wrong-range seed=1
mode two bad flip,cut,stall,404,wrong-range seed=2
start_streamd socket --backfill-paused --url "$two_url" \
  --stall-timeout-ms 200 --back-off-max-ms 100
grep -q '^NoNewPrivs:.*1$' "/proc/$streamd_pid/status" ||
  die "streamd could get new rights"
readers=()
for at in 52 58 64 70 76 82; do
  qemu-io -r -f raw -c "read ${at}M 1M" "$uri" >"$work/reader.$at" 2>&1 &
  readers+=($!)
done
until_status '[.source.troubles[]] | map(select(. > 0)) | length >= 5'
until_status '.source.waiting and (.source.failure | length > 0)'
# What is local is served all the while: the boot set.
qemu-img dd -f raw -O raw bs=1M count=1 "if=$uri" "of=$work/head" ||
  die "local data is not served in an outage"
cmp -n 1048576 "$work/target.img" "$work/head" || die "local data differs"
mode two good
for pid in "${readers[@]}"; do
  wait "$pid" || die "a reader got an error: $(cat "$work"/reader.*)"
done
until_status '.source.waiting | not'

# Everything, through two servers that are wrong half of the time.
mode one bad all share=0.5 seed=3
mode two bad all share=0.5 seed=4
qemu-img compare -f raw -F raw "$uri" "$work/target.img" >"$work/compare" ||
  die "something wrong was served: $(cat "$work/compare")"
control backfill resume
control wait complete
status '.source.bytes_refused > 0 and .source.digest_mismatches > 0 and
  .source.retries == ([.source.troubles[]] | add)' >/dev/null || die "counters: $(control status --json)"
stop_streamd
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"

# And with no server at all.
mode one bad 503
mode two bad silent
start_streamd socket --url "$two_url"
qemu-img compare -f raw -F raw "$uri" "$work/target.img" >"$work/compare" ||
  die "a complete image needs a server: $(cat "$work/compare")"
status '.source.requests == 0' >/dev/null || die "a request: $(control status)"
stop_streamd

# A clean chunk rots on the disk: the agent's check finds it, and the driver's
# mends it as soon as a server lets it.
rot() {
  python3 - "$work/target.img" "$work/source.img" <<'INNER'
import mmap
import sys
with open(sys.argv[1], "rb") as image:
    image.seek(60 << 20)
    wanted = image.read(65536)
assert any(wanted), "a chunk of zeroes"
with open(sys.argv[2], "r+b") as disk:
    view = mmap.mmap(disk.fileno(), 0)
    at = view.find(wanted)
    assert at >= 0, "the chunk is not on the disk"
    view[at + 5000] ^= 1
INNER
}
rot
code=0
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 || code=$?
[ "$code" = 1 ] || die "check did not see it: $(cat "$work/check")"
grep -q "WRONG: image chunk 480 " "$work/check" || die "$(cat "$work/check")"
start_streamd socket --url "$two_url" --stall-timeout-ms 200   --back-off-max-ms 100
control check >"$work/checked" 2>&1 &
check_pid=$!
until_status '.check.state == "running" and .source.waiting'
status '.phase == "streaming"' >/dev/null || die "complete without a chunk"
mode two good
wait "$check_pid" || die "streamctl check: $(cat "$work/checked")"
grep -q "1 were wrong" "$work/checked" || die "$(cat "$work/checked")"
status '.check.mended == 1 and .engine.healed_chunks == 1 and
  .phase == "complete"' >/dev/null || die "$(control status --json)"
qemu-img compare -f raw -F raw "$uri" "$work/target.img" >"$work/compare" ||
  die "not mended: $(cat "$work/compare")"
control check all --json | jq -e '.mended == 0 and .failed == 0 and
  .state == "done"' >"$work/jq" || die "$(cat "$work/jq")"
stop_streamd
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"
echo passed
