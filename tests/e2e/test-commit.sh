#!/usr/bin/env bash
# The old system is given up, with the real programs on disk files: nobody is
# asked twice, it is durable, everything of the new system is there, and nothing
# goes back.
. "$(dirname "$0")/office-functions.sh"

make_office
migrate
uri="nbd+unix:///?socket=$work/nbd"
start_streamd socket --backfill-paused --read-ahead 0

# Not without being asked.
code=0
control commit 2>"$work/asked" </dev/null || code=$?
[ "$code" = 2 ] || die "commit, with nobody to ask: $code"
[ "$(control status --json | jq .committed)" = false ] || die "committed unasked"

write_mark "$uri"
region=$(control status --json | jq .region.chunks)
control commit --yes >"$work/commit" || die "commit"
control status --json >"$work/status" || die "status"
[ "$(jq .committed "$work/status")" = true ] || die "not committed"
[ "$(jq .chunks.relocated "$work/status")" = 0 ] || die "relocated chunks"
[ "$(jq .region.chunks "$work/status")" -gt "$region" ] || die "no more space"
control commit --yes | grep -q already || die "committed twice"
code=0
control rollback --yes --no-restart 2>"$work/back" || code=$?
[ "$code" = 3 ] || die "rollback after commit: $code"

# A death right after it, and everything is there.
kill_streamd
start_streamd socket
control wait complete
control status --json | jq -r .phase | grep -qE 'committed|settled' || die phase
# Killed, for what has settled leaves when it is stopped.
kill_streamd
stop_serving
start_streamd socket
check_mark "$uri"
kill_streamd
"$bootagent" check --disk "$work/source.img" >"$work/check" 2>&1 ||
  die "check: $(cat "$work/check")"
for command in rollback forget; do
  code=0
  "$bootagent" "$command" --disk "$work/source.img" --yes \
    >"$work/refused" 2>&1 || code=$?
  [ "$code" = 3 ] || die "$command after commit: $code, $(cat "$work/refused")"
done
echo passed
