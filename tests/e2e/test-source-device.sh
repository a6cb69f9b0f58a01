#!/usr/bin/env bash
# The old system's disk from the new one, with the real programs on disk files:
# every byte outside the region is as it was, whatever is written meanwhile;
# nothing can be written to it; commit waits until it is detached, and then there
# is nothing to attach any more.
. "$(dirname "$0")/office-functions.sh"

make_office
agent migrate --yes --stop-at staged >"$work/migrate.log" 2>&1 && die "no stop"
cp --sparse=always "$work/source.img" "$work/as-it-was"
"$bootagent" status --disk "$work/source.img" --json >"$work/region" ||
  die "status"
migrate

uri="nbd+unix:///?socket=$work/nbd"
source_uri="nbd+unix:///?socket=$work/source-nbd"

# check_source: it is what it was when the region had been taken.
check_source() {
  nbdcopy "$source_uri" "$work/seen" || die "cannot be read"
  python3 - "$work" <<'END' || die "not the old system"
import json, pathlib, sys
work = pathlib.Path(sys.argv[1])
status = json.loads((work / "region").read_text())
chunk = status["image"]["chunk_bytes"]
ours = {c for e in status["region"]
        for c in range(e["first"], e["first"] + e["count"])}
compared = 0
with open(work / "as-it-was", "rb") as was, open(work / "seen", "rb") as seen:
    number = 0
    while True:
        a, b = was.read(chunk), seen.read(chunk)
        if len(a) != len(b):
            sys.exit("sizes differ")
        if not a:
            break
        if number not in ours:
            compared += 1
            if a != b:
                sys.exit(f"chunk {number} differs")
        number += 1
if compared < 1000:
    sys.exit(f"only {compared} chunks compared")
END
}

refused() {  # refused WORD COMMAND...: exit code 3, and a sentence with WORD
  local word=$1 code=0
  shift
  "$@" >"$work/refused" 2>&1 || code=$?
  [ "$code" = 3 ] || die "$*: $code, $(cat "$work/refused")"
  grep -q "$word" "$work/refused" || die "$*: $(cat "$work/refused")"
}

start_streamd socket --keep --backfill-paused
[ "$(control status --json | jq .source_device)" = null ] || die "attached"
control source detach || die "detach of nothing"
[ "$(control source attach)" = "$work/source-nbd" ] || die "attach"
[ "$(control source attach)" = "$work/source-nbd" ] || die "attach again"
[ "$(control status --json | jq -r .source_device)" = "$work/source-nbd" ] ||
  die "status"
control status | grep -q "^source .*$work/source-nbd" || die "status in words"
check_source

# What is written to the ESP goes home: the old system's chunks there move away
# while they are read.
qemu-io -f raw -c 'write -P 0x77 2M 24M' "$uri" >"$work/qemu-io" &
writer=$!
check_source
wait "$writer" || die "write to the ESP: $(cat "$work/qemu-io")"
[ "$(control status --json | jq .chunks.relocated)" -gt 150 ] ||
  die "nothing was relocated: $(control status --json | jq .chunks)"
check_source

nbdinfo --is readonly "$source_uri" || die "not read-only"
qemu-io -f raw -c 'write -P 1 5M 4k' "$source_uri" >"$work/written" 2>&1 &&
  ! grep -q -i 'error\|failed\|read.only' "$work/written" &&
  die "written: $(cat "$work/written")"
check_source

# A worker that dies leaves it to the next one.
worker=$(control status --json | jq .pid)
kill -KILL "$worker"
until [ "$(control status --json 2>/dev/null | jq .source_device)" = \
  "\"$work/source-nbd\"" ] 2>/dev/null; do sleep 0.02; done
[ "$(control status --json | jq .restarts)" = 1 ] || die "no restart"
check_source
control source detach || die "detach"
[ "$(control status --json | jq .source_device)" = null ] || die "detached"
[ -e "$work/source-nbd" ] && die "the socket is still there"
kill -KILL "$(control status --json | jq .pid)"
until [ "$(control status --json 2>/dev/null | jq .restarts)" = 2 ]; do
  sleep 0.02
done
sleep 0.2
[ "$(control status --json | jq .source_device)" = null ] || die "back again"

control source attach >/dev/null || die "attach after a restart"
check_source
refused "source detach" control commit --yes
[ "$(control status --json | jq .committed)" = false ] || die "committed"
control source detach || die "detach"
control commit --yes >"$work/commit" || die "commit"
refused "given up" control source attach
stop_streamd
echo passed
